"""A trained generator and the guidance it was trained with, from a checkpoint and its configuration."""
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from torch import nn

from gi.config import instantiate, load_config
from gi.errors import InputError, MissingFile
from gi.weights.checkpoint import load_generator
from gi.weights.files import REPOSITORY

FLOWS = {
    "config": None,  # the estimator the network was trained with
    "raft": {"target": "gi.flow.estimate.RAFT"},
    "dis": {"target": "gi.flow.estimate.DIS"},
    "aligned": {"target": "gi.flow.aligned.Aligned", "params": {"estimator": {"target": "gi.flow.estimate.DIS"}}},
    "zero": {"target": "gi.flow.estimate.ZeroFlow"},
}
# The small trained network of the repository, which serves where no other is named.
SMALL = REPOSITORY / "checkpoints" / "ours_small.safetensors"
SMALL_CONFIG = REPOSITORY / "configs" / "small" / "ours_small.yaml"


def load_parts(
    checkpoint: str | Path | None = None,
    *,
    config: str | Path | None = None,
    flow: str = "config",
    overrides: Sequence[str] = (),
) -> tuple[nn.Module, nn.Module]:
    """Generator and guidance of a checkpoint, the guidance blind to holes; see `Inpainter.from_checkpoint`."""
    if flow not in FLOWS:
        raise InputError(f"flow: expected one of {', '.join(FLOWS)}, got {flow!r}")
    checkpoint = SMALL if checkpoint is None else checkpoint
    config = config or run_config(checkpoint)
    cfg = load_config([config], overrides)
    guidance = _guidance(cfg, flow)
    if OmegaConf.select(cfg, "model.params.generator") is None:
        raise InputError(f"{config}: model.params.generator is missing")
    return load_generator(cfg, checkpoint), guidance


def run_config(checkpoint: str | Path) -> Path:
    """Configuration of the run a checkpoint was saved by: LOGDIR/checkpoints/F -> LOGDIR/configs/config.yaml."""
    checkpoint = Path(checkpoint)
    if not checkpoint.is_file():
        raise MissingFile(f"{checkpoint}: no such checkpoint")
    if checkpoint.resolve() == SMALL:
        return SMALL_CONFIG
    config = checkpoint.absolute().parent.parent / "configs" / "config.yaml"
    if not config.is_file():
        raise InputError(f"{checkpoint}: does not lie in the folder of a run (no {config}); name its configuration, "
                         "such as configs/ours.yaml")
    return config


def _guidance(cfg, flow):
    node = OmegaConf.select(cfg, "model.params.guidance")
    if node is None and flow == "config":
        raise InputError(f"model.params.guidance: missing in the configuration; choose one of {', '.join(FLOWS)}")
    node = {"target": "gi.flow.guidance.FlowGuidance"} if node is None else OmegaConf.to_container(node, resolve=True)
    params = {**(node.get("params") or {}), "mask_images": True}
    if flow != "config":
        params["estimator"] = FLOWS[flow]
    try:
        return instantiate({**node, "params": params}, "model.params.guidance")
    except MissingFile as error:
        raise MissingFile(f"{error}; flow 'dis' needs no file, nor does 'zero', enough without keyframes") from error
