"""A trained generator and the guidance it was trained with, from a checkpoint and its configuration, or from a folder
for sharing that holds both: `Inpainter.save_pretrained`, `Inpainter.from_pretrained`.

The configuration of a checkpoint is that of the run it belongs to; a folder or .safetensors file has its own. torch is
imported where it is used: command lines read the names of `FLOWS` for their --help.
"""
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from omegaconf import DictConfig, OmegaConf

from gi import resources
from gi.config import instantiate, load_config, save_config
from gi.config.load import plain
from gi.config.yaml_files import parse_mapping
from gi.errors import InputError, MissingFile

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="Pretrained")

FLOWS: dict[str, dict | None] = {
    "config": None,  # the estimator the network was trained with
    "raft": {"target": "gi.flow.estimate.RAFT"},
    "dis": {"target": "gi.flow.estimate.DIS"},
    "aligned": {"target": "gi.flow.aligned.Aligned", "params": {"estimator": {"target": "gi.flow.estimate.DIS"}}},
    "zero": {"target": "gi.flow.estimate.ZeroFlow"},
}
# The small trained network, the default.
SMALL = resources.bundled("checkpoints/ours_small.safetensors")
SMALL_CONFIG = resources.bundled("configs/small/ours_small.yaml")
# The files of a folder made by `save_pretrained`.
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"
PARTS = "generator", "guidance"  # of the configuration that goes with weights


class Trained(NamedTuple):
    """generator: in eval mode. guidance: blind to holes. config: of both, as in `model.params`. origin: the file."""

    generator: "nn.Module"
    guidance: Any  # a `gi.flow.guidance.Guidance`
    config: dict
    origin: Path


def load_trained(
    checkpoint: str | Path | None = None,
    *,
    config: str | Path | None = None,
    flow: str = "config",
    overrides: Sequence[str] = (),
) -> Trained:
    """Generator and guidance of a checkpoint, the guidance blind to holes, with the configuration they were made from;
    see `Inpainter.from_checkpoint`.
    """
    if flow not in FLOWS:
        raise InputError(f"flow: expected one of {', '.join(FLOWS)}, got {flow!r}")
    checkpoint = SMALL if checkpoint is None else resources.find(checkpoint)
    own = config or checkpoint_config(checkpoint)
    checkpoint = checkpoint / WEIGHTS if checkpoint.is_dir() else checkpoint
    try:
        return _build(own, checkpoint, flow, overrides)
    except MissingFile:
        raise
    except InputError as error:
        if not isinstance(own, dict) or str(checkpoint) in str(error):
            raise
        raise InputError(f"{checkpoint}: in its configuration: {error}") from error


def _build(own, checkpoint, flow, overrides):
    from gi.weights.checkpoint import load_generator
    cfg = load_config([own], overrides)
    if OmegaConf.select(cfg, "model.params.generator") is None:
        raise InputError(f"{checkpoint if isinstance(own, dict) else own}: model.params.generator is missing")
    node = _guidance_node(cfg, flow)
    try:
        guidance = instantiate(node, "model.params.guidance")
    except MissingFile as error:
        raise MissingFile(f"{error}; flow 'dis' needs no file, nor does 'zero', enough without keyframes") from error
    parts = {"generator": plain(cfg.model.params.generator, "model.params.generator"), "guidance": node}
    generator = load_generator(cfg, checkpoint)
    if hasattr(generator, "trained_state"):
        raise InputError(f"{checkpoint}: is of a diffusion model; --method diffusion takes the "
                         "network.safetensors beside its checkpoints")
    try:
        inspect.signature(generator.forward).bind("target", "sources", "flows", "flow_errors")
    except TypeError:
        raise InputError(f"{checkpoint}: {type(generator).__name__} fills no target by keyframes and flow; a network "
                         "fitted to a video is for --method internal, as its start_from") from None
    return Trained(generator, guidance, parts, checkpoint)


def checkpoint_config(checkpoint: str | Path) -> Path | dict:
    """The configuration of a checkpoint, as `load_config` takes it: of the run that it was saved by
    (LOGDIR/checkpoints/F -> LOGDIR/configs/config.yaml), beside it in a folder of `save_pretrained`, or in the file.

    Raises InputError if it has none.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        return _existing(checkpoint / CONFIG, f"{checkpoint}: no {CONFIG} in it, expected a folder of save_pretrained")
    if not checkpoint.is_file():
        raise MissingFile(f"{checkpoint}: no such checkpoint")
    if checkpoint.suffix == ".safetensors" and (parts := _parts_in(checkpoint)):
        return {"model": {"params": parts}}
    config = checkpoint.absolute().parent.parent / "configs" / "config.yaml"
    return _existing(config, f"{checkpoint}: does not lie in the folder of a run (no {config}); name its "
                             "configuration, such as configs/ours.yaml")


def _existing(path, message):
    if not path.is_file():
        raise InputError(message)
    return path


def _parts_in(path):
    """The configuration in the metadata of a .safetensors file; from elsewhere, it is as little trusted as any YAML."""
    from gi.weights.unpickle import read_metadata
    metadata = read_metadata(path)
    return {name: parse_mapping(metadata[name], f"{path}, {name}") for name in PARTS if name in metadata}


def metadata_of(parts: Mapping[str, Mapping]) -> dict[str, str]:
    """What a .safetensors file says of its network, for `checkpoint_config`."""
    return {"format": "pt", **{name: json.dumps(node) for name, node in parts.items()}}


def _guidance_node(cfg: DictConfig, flow: str) -> dict:
    node: Any = OmegaConf.select(cfg, "model.params.guidance")
    if node is None and flow == "config":
        raise InputError(f"model.params.guidance: missing in the configuration; choose one of {', '.join(FLOWS)}")
    node = {"target": "gi.flow.guidance.FlowGuidance"} if node is None else plain(node, "model.params.guidance")
    if not isinstance(node, dict):
        raise InputError(f"model.params.guidance: found {node!r}, expected target and params")
    params = {**(node.get("params") or {}), "mask_images": True}
    if flow != "config":
        params["estimator"] = FLOWS[flow]
    return {**node, "params": params}


class Pretrained:
    """Saving and loading for a class with `from_checkpoint`, which keeps the `Trained` it was made from."""

    trained: Trained | None = None

    @classmethod
    def from_pretrained(cls: type[Network], path: str | Path, **options: object) -> Network:
        """Loads a folder of `save_pretrained`, or a .safetensors file with its configuration (`gi export`).

        options: as of `from_checkpoint`. Raises InputError, also for a configuration that names what is not allowed.
        """
        return cls.from_checkpoint(path, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, configuration and a model card (model.safetensors, config.yaml, README.md) into a folder.

        Loaded by `from_pretrained`, it gives the same results to the bit. The card is that of the network it was loaded
        from, if it has one. Raises InputError for an object made from modules, whose configuration is unknown, and for
        a folder whose files belong to something else.
        """
        from safetensors.torch import save_file

        from gi.media.io import atomic_write
        if self.trained is None:
            raise InputError("save_pretrained: expected a network from a checkpoint, this one was made from modules")
        generator, _, config, origin = self.trained
        folder = Path(folder)
        foreign = [name for name in (CONFIG, CARD) if (folder / name).exists()]
        if foreign and not (folder / WEIGHTS).exists():
            raise InputError(f"{folder}: has a {foreign[0]} of something else, expected a folder for the network alone")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / WEIGHTS) as path:
            save_file(generator.state_dict(), path, metadata_of(config))
        save_config(OmegaConf.create({"model": {"params": config}}), folder / CONFIG)
        cards = [path for path in (origin.with_suffix(".md"), origin.with_name(CARD)) if path.is_file()]
        card = cards[0].read_text(encoding="utf-8") if cards else _card(self.trained)
        with atomic_write(folder / CARD) as path:
            path.write_text(card, encoding="utf-8")


def _card(trained):
    count = sum(parameter.numel() for parameter in trained.generator.parameters())
    return f"""# {trained.origin.stem}

A network for guided inpainting: `{trained.config["generator"]["target"]}`, {count:,} parameters, with
`{trained.config["guidance"]["target"]}`; {CONFIG} has the rest.

```python
from gi import Inpainter
inpainter = Inpainter.from_pretrained("FOLDER")
```

Training data, scores, limits and licence: to be filled in by whoever trained it.
"""
