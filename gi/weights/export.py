"""A generator's weights alone, as a .safetensors file for sharing: much smaller than a checkpoint, which holds the
training's state.

Such a file goes wherever a checkpoint does; its metadata has the configuration of the network and its guidance.
"""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from gi.config import load_config
from gi.errors import InputError
from gi.media.io import atomic_write, same_file
from gi.weights.checkpoint import load_generator
from gi.weights.pretrained import PARTS, checkpoint_config, metadata_of


def export_generator(
    config: str | Path | None,
    checkpoint: str | Path,
    out: str | Path,
    *,
    half: bool = True,
    metadata: Mapping | None = None,
    parts: Mapping[str, str | Path] | None = None,
) -> int:
    """Writes the generator of a checkpoint, its averaged weights if it has any, to `out`; returns the file's bytes.

    config: YAML of the network; None: the checkpoint's own. half: the weights of convolutions and linear layers in 16
    bits; biases, norms and their statistics keep 32. parts: {name of a part of the network, such as "pixel_write":
    checkpoint of the run to take it from instead}. The file's metadata has the configuration's parts as JSON,
    "generator" and "guidance", and what `metadata` says. Raises InputError as `load_generator` does, for parts that
    do not fit, and if `out` is one of the files that are read.
    """
    for source in (checkpoint, *(parts or {}).values()):
        if same_file(Path(out), Path(source)):
            raise InputError(f"{out}: is a file to be exported, expected another name")
    cfg = load_config([config or checkpoint_config(checkpoint)])
    generator = load_generator(cfg, checkpoint)
    if hasattr(generator, "trained_state"):
        raise InputError(f"{checkpoint}: is of a diffusion model, whose weights for sharing are already written, "
                         "as network.safetensors beside its checkpoints")
    state = generator.state_dict()
    for part, path in (parts or {}).items():
        joined = load_generator(load_config([checkpoint_config(path)]), path).state_dict()
        own, replacement = ({name: value for name, value in weights.items() if name.startswith(f"{part}.")}
                            for weights in (state, joined))
        if not own or {n: v.shape for n, v in own.items()} != {n: v.shape for n, v in replacement.items()}:
            raise InputError(f"{path}: has no part {part!r} as in {checkpoint}, expected the same names and shapes")
        state |= replacement
    write_generator(cfg, state, out, half=half, metadata=metadata)
    return Path(out).stat().st_size


def write_generator(
    cfg: DictConfig,
    state: Mapping[str, Tensor],
    out: str | Path,
    *,
    half: bool = True,
    metadata: Mapping | None = None,
) -> None:
    """Writes the weights of the network of `cfg` to `out`; half and metadata as `export_generator` takes them."""
    state = {name: (value.half() if half and value.is_floating_point() and value.ndim > 1 else value).contiguous()
             for name, value in state.items()}
    nodes: dict[str, Any] = {name: OmegaConf.select(cfg, f"model.params.{name}") for name in PARTS}
    nodes = {name: OmegaConf.to_container(node, resolve=True) for name, node in nodes.items() if node is not None}
    metadata = {key: str(value) for key, value in (metadata or {}).items()}
    with atomic_write(out) as path:
        save_file(state, path, metadata | metadata_of(nodes))
