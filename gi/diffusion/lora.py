"""Changing the UNet in place: more input channels, and low-rank adapters (LoRA) beside frozen layers."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gi.diffusion.extra import extra
from gi.errors import InputError, expect_at_least

ATTENTION = "to_q", "to_k", "to_v", "to_out.0"  # all Linear layers of all attentions


def widen(unet: Any, channels: int) -> None:
    """Gives the UNet's input convolution more channels, whose weights are zero: the output stays equal to the bit.

    It is the paper's second, zero-initialised convolution of the new channels, added to the old one. The UNet's
    configuration is changed as well.
    """
    old = unet.conv_in
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, padding=old.padding, device=old.weight.device,
                    dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()[:, :old.in_channels].copy_(old.weight)
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=channels)


def add_lora(unet: Any, rank: int, alpha: float | None = None, target_modules: Sequence[str] = ATTENTION) -> None:
    """Freezes the UNet, but for its input convolution, and gives each layer named so an adapter of this rank, zero at
    the start. What is trained is in float32.

    alpha: adapters are scaled by alpha / rank; None: by 1. target_modules: last parts of the layers' names; as there is
    one token only, `to_q` and `to_k` of cross-attention ("attn2.to_q") can learn nothing: its softmax is 1. Raises
    InputError for a name that no layer has.
    """
    expect_at_least(1, rank=rank)
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for target in target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise InputError(f"target_modules: the UNet has no layer {target!r}, those of attention are "
                             f"{', '.join(ATTENTION)}")
    peft = extra("peft")
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha,
                                                 target_modules=list(target_modules)), unet)
    unet.conv_in.requires_grad_(True)
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
