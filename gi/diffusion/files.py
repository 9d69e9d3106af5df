"""One .safetensors file of a model: what was trained of it, and its configuration, as JSON in the metadata."""
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from gi.config.yaml_files import parse_mapping
from gi.errors import InputError, MissingFile
from gi.media.io import atomic_write
from gi.weights.unpickle import read_checkpoint, read_metadata

NODE, BACKBONE = "diffusion", "backbone"  # in the metadata: the configuration; what the backbone's files were


def write(path: str | Path, state: Mapping[str, Tensor], node: Mapping, backbone: Mapping, *,
          half: bool = False) -> None:
    """Writes the file, completely or not at all.

    half: matrices and kernels in 16 bits. Raises InputError for a name that does not end in .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: expected a name ending in .safetensors")
    state = {name: value.half() if half and value.ndim > 1 else value for name, value in state.items()}
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, {"format": "pt", NODE: json.dumps(node), BACKBONE: json.dumps(backbone)})


def read(path: str | Path) -> tuple[dict[str, Tensor], dict, dict]:
    """State, node and backbone of a file of `write`, which may come from anywhere. Raises InputError for others."""
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file, expected a .safetensors file of a diffusion model")
    metadata = read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if NODE not in metadata:
        raise InputError(f"{path}: holds no diffusion model, expected a .safetensors file of save_pretrained, such as "
                         "the network.safetensors that a training writes beside its checkpoints")
    node, backbone = (parse_mapping(metadata.get(name, "{}"), f"{path}, {name}") for name in (NODE, BACKBONE))
    return read_checkpoint(path), node, backbone
