"""How much memory a training step takes, counted on the meta device: nothing is computed, no weights are needed."""
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gi.config import instantiate
from gi.diffusion.network import KeyframeDiffusion

GIB = 2**30


class Memory(NamedTuple):
    """Bytes. weights: of all networks. kept: for the backward pass. optimiser: gradients, AdamW's two averages.

    Passing peaks and what the GPU's libraries take come on top.
    """

    weights: int
    kept: int
    optimiser: int

    def __str__(self) -> str:
        parts = [f"{name} {count / GIB:.1f} GiB" for name, count in
                 (("weights", self.weights), ("kept for the backward pass", self.kept),
                  ("gradients and optimiser", self.optimiser), ("in all", sum(self)))]
        return ", ".join(parts) + ", and passing peaks"


def on_meta(node: Mapping[str, Any], path: str = "model") -> KeyframeDiffusion:
    """The network of a configuration's node, without weights."""
    with torch.device("meta"):
        return instantiate(node, path).to("meta")  # diffusers makes some scalars without asking for the device


def step(network: KeyframeDiffusion, batch: int, frames: int, height: int, width: int, *,
         dtype: torch.dtype = torch.bfloat16) -> Memory:
    """What one step with clips of this size takes, all of it computed in `dtype`.

    network: of `on_meta`, with `checkpointing` on or off; what is trained is in float32 with its gradients. Attention
    is counted as if it kept its matrices: without checkpointing, fused kernels keep less.
    """
    trained = sum(parameter.numel() for parameter in network.trainable_parameters())
    weights = sum(parameter.numel() * (4 if parameter.requires_grad else parameter.element_size())
                  for parameter in network.parameters())
    unet = network.unet.to(dtype)
    shape = batch, frames, unet.config.in_channels, height // network.codec.factor, width // network.codec.factor
    inputs = torch.empty(shape, device="meta", dtype=dtype)
    token = torch.empty(batch, 1, unet.config.cross_attention_dim, device="meta", dtype=dtype)
    ids, noise = torch.empty(batch, 3, device="meta"), torch.empty(batch, device="meta")
    kept = kept_bytes(unet.train(), lambda: unet(inputs, noise, token, ids, return_dict=False))
    return Memory(weights, kept, 3 * 4 * trained)


def kept_bytes(module: nn.Module, call: Callable[[], object]) -> int:
    """Bytes that `call` keeps for the backward pass, without the weights of `module`. Each storage counts once."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    del result
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
