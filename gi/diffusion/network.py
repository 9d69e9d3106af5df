"""The network of keyframe-guided diffusion: SVD's UNet with other conditions, and how these are encoded."""
from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gi.config import instantiate
from gi.config.schema import find_target, is_node
from gi.diffusion import denoiser, files
from gi.diffusion.codec import Codec
from gi.diffusion.condition import Condition
from gi.diffusion.extra import extra
from gi.diffusion.token import Token
from gi.errors import InputError
from gi.weights.files import expect_fit, load_strict

log = logging.getLogger(__name__)
# Settings of a network that its weights do not depend on.
FREE = {"backbone", "dtype", "chunk", "overlap", "frames", "sigma_max", "max_side"}


class Conditions(NamedTuple):
    """latents: (B, F, C, h, w), z_c. token: (B, 1, D), of the keyframe."""

    latents: Tensor
    token: Tensor

    def dropped(self) -> Conditions:
        """Zeros in both: SVD's unconditional branch of guidance."""
        return Conditions(torch.zeros_like(self.latents), torch.zeros_like(self.token))


class KeyframeDiffusion(nn.Module):
    """A UNet of diffusers' `UNetSpatioTemporalConditionModel`, called with [c_in·z_σ, z_c] per frame.

    unet: in_channels are those of z_0 and z_c. Subclasses make it from plain values, which `settings` returns for the
    file of `save_pretrained`.

    frames, sigma_max, max_side: how many frames it was trained on at once, the highest noise level, and the longer side
    of its pictures; the defaults of sampling.
    """

    frames: int = 25
    sigma_max: float = 700.0
    max_side: int = 1024
    unet: Any

    def __init__(self, unet: Any, codec: Codec, condition: Condition, token: Token):
        super().__init__()
        self.unet, self.codec, self.condition, self.token = unet, codec, condition, token
        # By name, so that it also holds for a copy without gradients, such as an average.
        self._trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def conditions(self, pixels: Tensor, masks: Tensor) -> Conditions:
        """pixels: (B, F, 3, H, W) in [0, 1], H and W multiples of the codec's factor; masks: (B, F, 1, H, W), 1 =
        missing. A frame without missing pixels is a keyframe. The pixels of holes have no influence.
        """
        return Conditions(self.condition(pixels, masks, self.codec), self.token(pixels, masks))

    def forward(self, z_sigma: Tensor, sigma: Tensor, conditions: Conditions, ids: Tensor) -> Tensor:
        """F (B, F, c, h, w), see `gi.diffusion.denoiser`.

        z_sigma: (B, F, c, h, w), not scaled by c_in; sigma: () or (B,), float32; ids: (B, 3), fps − 1, motion bucket
        and strength of the noise on conditions.
        """
        inputs = torch.cat([denoiser.scaled_input(z_sigma, sigma), conditions.latents.to(z_sigma.dtype)], dim=2)
        outer, inner = self.unet.conv_in.weight.dtype, self.unet.time_embedding.linear_1.weight.dtype
        # Frozen weights in 16 bits beside trained ones in 32 need autocast.
        mixed = torch.autocast(z_sigma.device.type, inner) if outer != inner else contextlib.nullcontext()
        with mixed:
            return self.unet(inputs.to(outer), denoiser.timestep(sigma), conditions.token.to(inner), ids,
                             return_dict=False)[0]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Those that are trained; the others are frozen."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def checkpointing(self, on: bool = True) -> None:
        """Keeps less for the backward pass, and computes blocks again in it; gradients are the same.

        diffusers' own checkpointing leaves the temporal transformer blocks out, which are most of what is kept.
        """
        self.unet.enable_gradient_checkpointing() if on else self.unet.disable_gradient_checkpointing()
        temporal = extra("diffusers").models.attention.TemporalBasicTransformerBlock
        for block in self.unet.modules():
            if isinstance(block, temporal):
                block.__dict__.pop("forward", None)
                if on:
                    block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)

    # Files ------------------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, object]:
        """The constructor's arguments, as a configuration gives them. Raises InputError if they are unknown."""
        raise InputError("save_pretrained: this network was made from modules, nobody knows its configuration")

    def backbone(self) -> dict[str, object]:
        """A description of the frozen weights; a file for another backbone is refused."""
        return {}

    def licence(self) -> str | None:
        """A line on the licence of the frozen weights, None for a network without any."""
        return None

    def trained_state(self) -> dict[str, Tensor]:
        """{name: weights} of what is trained, which is all that a file has to hold."""
        return {name: parameter.detach() for name, parameter in self.named_parameters() if name in self._trained}

    def load_trained(self, state: Mapping[str, Tensor], path: str | Path) -> None:
        """Copies a `trained_state` into this network. Raises InputError, naming `path`, unless it fits exactly."""
        load_strict(self, dict(state), path, part=self.trained_state())

    def save_pretrained(self, path: str | Path, *, half: bool = False) -> None:
        """Writes the trained weights and the configuration into one .safetensors file, for `from_pretrained`.

        half: matrices and kernels in 16 bits. Without, what is loaded gives the same to the bit.
        """
        node = {"target": self._target(), "params": self.settings()}
        files.write(path, self.trained_state(), node, self.backbone(), half=half)

    @classmethod
    def from_pretrained(cls, path: str | Path, backbone: str | Path | None = None,
                        device: str | torch.device = "cpu") -> KeyframeDiffusion:
        """A network in eval mode from a file of `save_pretrained`.

        backbone: where the frozen weights lie, if not where the file says; only for networks that have some. Raises
        InputError for files that are no such model, or do not fit.
        """
        state, node, metadata = files.read(path)
        location = f"{path}, {files.NODE}"
        kind = find_target(node["target"], location) if is_node(node) else None
        if not (isinstance(kind, type) and issubclass(kind, cls)):
            raise InputError(f"{location}: expected a target derived from {cls.__module__}.{cls.__name__}")
        if backbone is not None:
            node["params"] = {**(node.get("params") or {}), "backbone": str(backbone)}
        with torch.device("meta"):  # a file may ask for any size, which is compared before memory is allocated
            blank = instantiate(node, location)
        expect_fit(blank, state, path, part=blank.trained_state())
        network = instantiate(node, location)
        network.expect_backbone(metadata, path)
        network.load_trained(state, path)
        return network.to(device).eval()

    def load_pretrained(self, path: str | Path) -> None:
        """Copies a file of `save_pretrained` into this network, to train it further.

        Raises InputError that says which, if the rank, the condition or another setting differs.
        """
        state, node, metadata = files.read(path)
        if node.get("target") != self._target():
            raise InputError(f"{path}: holds {node.get('target')}, this network is {self._target()}")
        own, stored = self.settings(), node.get("params") or {}
        for key in sorted((own.keys() & stored.keys()) - FREE):
            if own[key] != stored[key]:
                raise InputError(f"{path}: its {key} is {stored[key]}, this network's {own[key]}")
        self.expect_backbone(metadata, path)
        self.load_trained(state, path)

    def _target(self):
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def expect_backbone(self, metadata: Mapping[str, object], path: str | Path) -> None:
        """Raises InputError if the file at `path` was trained on another backbone, whose metadata this is.

        Other weights of the same form, such as the same ones in 16 bits, are only warned of.
        """
        own = self.backbone()
        for key in sorted(own.keys() | metadata.keys()):
            message = f"{path}: was trained on a backbone with {key} {metadata.get(key)}, this one has {own.get(key)}"
            if own.get(key) != metadata.get(key) and key != "sha256":
                raise InputError(message)
            if own.get(key) != metadata.get(key):
                log.warning(message)
