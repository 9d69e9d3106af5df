"""How much memory a training step takes, counted on the meta device: nothing is computed, no weights are needed."""
import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from gi.config import instantiate
from gi.config.load import plain
from gi.config.schema import find_target, is_node, parameters
from gi.diffusion.network import KeyframeDiffusion
from gi.errors import InputError

GIB = 2**30


class Memory(NamedTuple):
    """Bytes. weights: of all networks. kept: for the backward pass, copies of weights in another precision among it.
    optimiser: gradients, AdamW's two averages.

    Passing peaks and what the GPU's libraries take come on top.
    """

    weights: int
    kept: int
    optimiser: int

    def __str__(self) -> str:
        parts = [f"{name} {count / GIB:.2f} GiB" for name, count in
                 (("weights", self.weights), ("kept for the backward pass", self.kept),
                  ("gradients and optimiser", self.optimiser), ("in all", sum(self)))]
        return ", ".join(parts) + "; passing peaks come on top"


def of_config(config: DictConfig) -> str:
    """A line on the memory that the training of a configuration takes on each device, before anything is computed.

    Raises InputError for networks that are not of this kind, and clips whose size the configuration does not say.
    """
    node = plain(OmegaConf.select(config, "model.params.generator"), "model.params.generator")
    kind = find_target(node["target"], "model.params.generator") if is_node(node) else None
    if not (isinstance(kind, type) and issubclass(kind, KeyframeDiffusion)):
        name = node["target"] if is_node(node) else "model.params.generator"
        raise InputError(f"{name}: its memory cannot be told beforehand, only that of diffusion's networks can")
    data = plain(config.data, "data")["params"]
    size = next(_sizes(data.get("train")), None)
    if size is None:
        raise InputError("data.params.train: says no frames, height and width, without which memory cannot be told")
    saving = bool(OmegaConf.select(config, "model.params.checkpointing"))
    network = on_meta(node, "model.params.generator")
    half = "16" in str(OmegaConf.select(config, "lightning.trainer.precision")) or any(
        parameter.dtype == torch.bfloat16 for parameter in network.unet.parameters())  # see its `forward`
    if saving:
        network.checkpointing()
    memory = step(network, data["batch_size"], *size, dtype=torch.bfloat16 if half else torch.float32)
    if OmegaConf.select(config, "model.params.average_decay") is not None:
        memory = memory._replace(weights=2 * memory.weights)
    clips = f"{data['batch_size']} {'clip' if data['batch_size'] == 1 else 'clips'} of {'x'.join(map(str, size))}"
    return f"{clips}, {16 if half else 32} bits, checkpointing {'on' if saving else 'off'}: {memory}"


def _sizes(node: Any) -> Iterator[tuple[int, int, int]]:
    """Frames, height and width of the nodes that have all of them, defaults of their classes included."""
    if isinstance(node, list | dict):
        if is_node(node):
            known = parameters(find_target(node["target"], "data"))[0]
            values = {key: item[1].default for key, item in known.items()} | (node.get("params") or {})
            size = [values.get(key) for key in ("frames", "height", "width")]
            if all(isinstance(length, int) for length in size):
                yield size[0], size[1], size[2]
        for item in node.values() if isinstance(node, dict) else node:
            yield from _sizes(item)


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
    unet = nn.Module.to(copy.deepcopy(network.unet), dtype)
    copies = {name for name, parameter in network.unet.named_parameters() if parameter.dtype != dtype}
    shape = batch, frames, unet.config.in_channels, height // network.codec.factor, width // network.codec.factor
    inputs = torch.empty(shape, device="meta", dtype=dtype)
    token = torch.empty(batch, 1, unet.config.cross_attention_dim, device="meta", dtype=dtype)
    ids, noise = torch.empty(batch, 3, device="meta"), torch.empty(batch, device="meta")
    kept = kept_bytes(unet.train(), lambda: unet(inputs, noise, token, ids, return_dict=False), copies)
    return Memory(weights, kept, 3 * 4 * trained)


def kept_bytes(module: nn.Module, call: Callable[[], object], copies: Collection[str] = ()) -> int:
    """Bytes that `call` keeps for the backward pass, without the weights of `module`. Each storage counts once.

    copies: names of weights that count nevertheless, as autocast makes them of weights in another precision.
    """
    own = {parameter.untyped_storage()._cdata for name, parameter in module.named_parameters() if name not in copies}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    del result
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
