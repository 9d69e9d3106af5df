"""Stable Video Diffusion from a folder in diffusers' layout, or from the hub's cache; nothing is ever fetched here.

Such files come from anywhere: configurations are plain JSON, of which names and values are checked, and weights are
.safetensors, never pickles. Under `torch.device("meta")` no weights are read, and SVD's names need no files.
"""
import json
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gi.diffusion.extra import extra
from gi.errors import InputError, MissingFile, one_line
from gi.weights.files import file_sha256, load_strict
from gi.weights.unpickle import read_checkpoint

log = logging.getLogger(__name__)

REPOSITORIES = {"svd-xt": "stabilityai/stable-video-diffusion-img2vid-xt",
                "svd-base": "stabilityai/stable-video-diffusion-img2vid"}


class Part(NamedTuple):
    """package, kind: the class. weights: its file's name, without ending. gigabytes: of SVD's, in 32 bits."""

    package: str
    kind: str
    weights: str
    gigabytes: float


PARTS = {
    "unet": Part("diffusers", "UNetSpatioTemporalConditionModel", "diffusion_pytorch_model", 6.1),
    "vae": Part("diffusers", "AutoencoderKLTemporalDecoder", "diffusion_pytorch_model", 0.4),
    "image_encoder": Part("transformers", "CLIPVisionModelWithProjection", "model", 2.5),
}
SCHEDULER = "scheduler/scheduler_config.json"
# SVD's configurations, for a dry run without its files. The UNet's are the defaults of its class.
SVD: dict[str, dict[str, Any]] = {
    "unet": {},
    "vae": {"block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4,
            "layers_per_block": 2, "latent_channels": 4},
    "image_encoder": {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1024, "num_hidden_layers": 32,
                      "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "hidden_act": "gelu"},
}
FRAMES = {"svd-xt": 25, "svd-base": 14}
_CLIP_VALUES = (*SVD["image_encoder"], "num_channels", "layer_norm_eps")  # others are of training or transformers
_MOST_BYTES, _MOST, _MOST_LAYERS = 1 << 20, 1 << 16, 64  # limits of a configuration, far above those of SVD's kind


class Parts(NamedTuple):
    """The frozen networks of SVD, in eval mode. sigma_max: the highest noise level. metadata: what the UNet was
    made of, {name: plain value}.
    """

    unet: Any
    vae: Any
    image_encoder: Any
    sigma_max: float
    metadata: dict[str, Any]


def load(backbone: str, dtype: torch.dtype = torch.float32) -> Parts:
    """The networks of SVD, or of a smaller configuration of the same classes.

    backbone: "svd-xt", "svd-base", another repository of the hub that is in its cache, or a folder with unet/, vae/ and
    image_encoder/. dtype: of the UNet and the image encoder; the VAE's is float32 always. SHA-256 of the weights is
    logged. Raises InputError for configurations and weights of other kinds, MissingFile that names what is missing, and
    how to get it.
    """
    dtypes = {"unet": dtype, "vae": torch.float32, "image_encoder": dtype}
    if torch.get_default_device().type == "meta" and backbone in FRAMES:
        networks = {name: _make(name, SVD[name], backbone, dtypes[name]) for name in PARTS}
        networks["unet"].register_to_config(num_frames=FRAMES[backbone])
        folder, digests = None, {name: None for name in PARTS}
    else:
        folder = locate(backbone)
        files = {name: _files(folder, name, backbone) for name in PARTS}
        networks = {name: _make(name, _read_config(config, name), config, dtypes[name])
                    for name, (config, _) in files.items()}
        digests = {name: _read_weights(networks[name], weights) for name, (_, weights) in files.items()}
    config = networks["unet"].config
    metadata = {key: config[key] for key in ("num_frames", "block_out_channels", "layers_per_block")}
    metadata = json.loads(json.dumps(metadata)) | {"sha256": digests["unet"]}
    return Parts(**{name: part.eval() for name, part in networks.items()}, sigma_max=_sigma_max(folder),
                 metadata=metadata)


def locate(backbone: str) -> Path:
    """The folder of a backbone, see `load`. Raises MissingFile, with the command that fetches it, if it is not here."""
    if Path(backbone).is_dir():
        return Path(backbone)
    repository = REPOSITORIES.get(backbone, backbone)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository):
        raise MissingFile(f"{backbone}: no such folder; expected one in diffusers' layout, with {_required_files()}, "
                          f"a repository of the hub, or {' or '.join(REPOSITORIES)}")
    hub = extra("huggingface_hub")
    try:
        return Path(hub.snapshot_download(repository, local_files_only=True))
    except (OSError, ValueError) as error:
        raise MissingFile(f"{backbone}: {_fetch(repository)}") from error


def _required_files():
    return ", ".join(f"{name}/config.json, {name}/{part.weights}.safetensors" for name, part in PARTS.items())


def _fetch(repository):
    sizes = ", ".join(f"{name} {part.gigabytes} GB" for name, part in PARTS.items())
    return (f"not in the hub's cache ({extra('huggingface_hub').constants.HF_HUB_CACHE}), and nothing is fetched "
            f"unasked; read its licence at https://huggingface.co/{repository} and run: hf download {repository} "
            f"{_required_files().replace(',', '')} {SCHEDULER} README.md LICENSE.md "
            f"({sizes}; files that end in .fp16.safetensors have half of that and will do)")


def _files(folder, name, backbone):
    """Configuration and weights of a part."""
    config, stem = folder / name / "config.json", PARTS[name].weights
    choices = [folder / name / f"{stem}{variant}.safetensors" for variant in ("", ".fp16")]
    weights = next((path for path in choices if path.is_file()), None)
    if config.is_file() and weights:
        return config, weights
    lacking = choices[0] if config.is_file() else config
    pickles = any((folder / name).glob("*.bin"))
    repository = REPOSITORIES.get(backbone, None if Path(backbone).is_dir() else backbone)
    hint = f"; {_fetch(repository)}" if repository else f"; expected {_required_files()} in {folder}"
    raise MissingFile(f"{lacking}: no such file{' (a pickle is there, which is not read)' if pickles else ''}{hint}")


def _read_config(path, name):
    """The arguments of a part's class from its config.json, every value checked."""
    content = _read_json(path)
    part = PARTS[name]
    kind = content.get("_class_name") or next(iter(_listed(content.get("architectures"))), None)
    if kind != part.kind:
        raise InputError(f"{path}: is of class {kind!r}, expected {part.kind}")
    if name == "image_encoder":
        values = {key: value for key, value in content.items() if key in _CLIP_VALUES}
    else:
        values = {key: value for key, value in content.items() if not key.startswith("_")}
    for key, value in values.items():
        most = _MOST_LAYERS if "layers" in key else _MOST
        items = _listed(value)
        if len(items) > 16 or not all(item is None or isinstance(item, str | bool) or
                                      isinstance(item, int | float) and 0 <= item <= most for item in items):
            raise InputError(f"{path}: {key}: expected a name, or numbers from 0 to {most}, got {str(value)[:80]}")
    return values


def _listed(value):
    return value if isinstance(value, list) else [value]


def _read_json(path):
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected a configuration of at most {_MOST_BYTES}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping")
    return content


def _make(name, values, path, dtype):
    """The network, its parameters on the meta device."""
    package = extra(PARTS[name].package)
    kind = getattr(package, PARTS[name].kind)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        with extra("accelerate").init_empty_weights(include_buffers=False):
            network = kind(package.CLIPVisionConfig(**values)) if name == "image_encoder" else kind(**values)
        return nn.Module.to(network, dtype)  # diffusers' own `to` warns of layers that these networks do not have
    except Exception as error:  # whatever the class makes of values that do not go together
        raise InputError(f"{path}: no {PARTS[name].kind} can be made of this: {one_line(error)}") from error


def _read_weights(module, path):
    """Fills the network with a file's weights, in its own precision; returns the SHA-256, None on the meta device."""
    if torch.get_default_device().type == "meta":
        return None
    state = read_checkpoint(path)
    state = {key: value for key, value in state.items() if not key.endswith(".position_ids")}  # of older transformers
    buffers = {key: buffer.clone() for key, buffer in module.named_buffers()}
    module.to_empty(device="cpu")
    for key, buffer in buffers.items():
        module.get_buffer(key).copy_(buffer)
    load_strict(module, state, path)
    digest = file_sha256(path)
    log.info("%s: SHA-256 %s", path, digest)
    return digest


def licence(backbone: str) -> str:
    """The licence that the folder of a backbone, see `load`, states, in a line: the model card's words, or the file's
    name.
    """
    folder = locate(backbone)
    return f"{folder}: licence: {_licence(folder)}"


def _licence(folder):
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:4096].split("---")
        for key in ("license_name", "license"):
            if len(head) > 2 and (match := re.search(rf"^{key}:\s*(\S.{{0,100}})$", head[1], re.MULTILINE)):
                return match[1]
    file = next((path for path in sorted(folder.glob("LICENSE*"))), None)
    return f"see {file}" if file else "not stated in this folder"


def _sigma_max(folder):
    """The highest noise level of the scheduler's configuration, SVD's own if there is none."""
    path = folder / SCHEDULER if folder else None
    if path is None or not path.is_file():
        return 700.0
    content = _read_json(path)
    prediction, highest = content.get("prediction_type"), content.get("sigma_max")
    if prediction != "v_prediction" or not isinstance(highest, int | float) or not 1 <= highest <= 1e6:
        raise InputError(f"{path}: prediction_type {prediction!r} and sigma_max {highest!r}, "
                         "expected v_prediction and a number from 1 to a million")
    return float(highest)
