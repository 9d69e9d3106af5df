"""Inputs of the benchmarks: the networks of a configuration, untrained where weights are missing, and images."""
import contextlib
import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import default_collate

from gi.config import instantiate
from gi.config.schema import find_target
from gi.data.pairs import GuidedPairs
from gi.data.sources import BundledPhotographs, FolderTree
from gi.errors import InputError, MissingFile
from gi.media import io
from tools.benchmark.timing import Meter

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
QUALITY = 90
PHOTOGRAPH = 1024, 768  # width, height


@dataclass
class Settings:
    """How the paths are run. `size`, of square images, and `video` (height, width) in pixels."""

    config: DictConfig
    device: torch.device
    precision: str = "32-true"
    batch_size: int = 1
    size: int = 256
    repeats: int = 5
    video: tuple[int, int] = (240, 432)
    fid_images: int = 2000  # in each of the two sets
    samples: int = 32  # a lap of the data path

    def __post_init__(self):
        for name in "batch_size", "repeats", "samples":
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.size < 32:
            raise InputError(f"size: expected at least 32, got {self.size}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.precision == "16-mixed" and self.device.type == "cpu":
            raise InputError("precision 16-mixed: not on a CPU, expected 32-true or bf16-mixed")


class Parts:
    """Builds the networks and batches of several paths. A context manager: its photographs are temporary files.

    Methods that return `notes` list in them the networks whose weights are missing.
    """

    def __init__(self, settings: Settings):
        self.settings, self.device = settings, settings.device
        self.model = OmegaConf.to_container(settings.config, resolve=True).get("model", {}).get("params", {})
        if "generator" not in self.model:
            raise InputError("model.params.generator: missing in the configuration")

    def __enter__(self) -> "Parts":
        self._folder = tempfile.TemporaryDirectory()
        # Padded to the size, not enlarged: an enlarged photograph is smoother and takes less time to decode.
        coffee = io.read_image(BundledPhotographs(names=["coffee.png"]).path(0))
        width, height = PHOTOGRAPH
        right, below = width - coffee.shape[1], height - coffee.shape[0]
        self.photograph = cv2.copyMakeBorder(coffee, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        cv2.imwrite(str(self.jpeg), self.photograph[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return self

    def __exit__(self, *error) -> None:
        self._folder.cleanup()

    @property
    def n_sources(self) -> int:
        """Keyframes in training."""
        return OmegaConf.select(self.settings.config, "data.params.train.params.n_sources", default=2)

    @property
    def jpeg(self) -> Path:
        return Path(self._folder.name) / "photograph.jpg"

    def meter(self, **options) -> Meter:
        return Meter(**{"device": self.device, "repeats": self.settings.repeats} | options)

    def autocast(self) -> contextlib.AbstractContextManager:
        dtype = PRECISIONS[self.settings.precision]
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    # Images -----------------------------------------------------------------------------------------------------------

    def pairs(self, n_sources: int) -> GuidedPairs:
        """Training samples of the photograph, with the paper's numbers at the size of the settings."""
        size = self.settings.size
        return GuidedPairs(images=FolderTree(root=self._folder.name), n_sources=n_sources, size=size,
                           margin=round(size * 200 / 256), length=1 << 20)

    def batch(self, n_sources: int, count: int | None = None) -> dict:
        """A batch as a data loader returns it, moved to the device."""
        pairs = self.pairs(n_sources)
        batch = default_collate([pairs[i] for i in range(count or self.settings.batch_size)])
        return {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}

    # Networks ---------------------------------------------------------------------------------------------------------

    @cached_property
    def generator(self) -> nn.Module:
        """In eval mode, with random weights, initialised such that the output depends on all inputs."""
        torch.manual_seed(0)
        generator = instantiate(self.model["generator"], "model.params.generator").to(self.device)
        for parameter in generator.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        sources = torch.rand(1, 2, 4, 64, 64, device=self.device)
        norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0  # statistics of this batch, so that activations have the scale of training
        with torch.no_grad():
            generator.train()(sources[:, 0], sources, sources[:, :, :2], sources[:, :, :1])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return generator.eval()

    def build(self, name: str, **extra) -> tuple[nn.Module, list[str]]:
        """The object of `model.params.<name>`, with `extra` params, and notes on its parts without weights."""
        notes: list[str] = []
        if name not in self.model:
            raise InputError(f"model.params.{name}: missing in the configuration")
        node = {**self.model[name], "params": {**(self.model[name].get("params") or {}), **extra}}
        node = without_missing_weights(node, notes)
        return instantiate(node, f"model.params.{name}"), notes


def without_missing_weights(node: object, notes: list[str]) -> object:
    """The node with `weights: null` wherever a file of weights is missing; each case is added to `notes`."""
    if isinstance(node, list):
        return [without_missing_weights(item, notes) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: without_missing_weights(value, notes) for key, value in node.items()}
    if isinstance(node.get("target"), str):
        target, params = find_target(node["target"], "target"), node.get("params") or {}
        known = inspect.signature(target).parameters
        path = params.get("weights", known["weights"].default) if "weights" in known else None
        if isinstance(path, str) and not Path(path).is_file():
            notes.append(f"{target.__name__} untrained: no weights here")
            node["params"] = {**params, "weights": None}
    return node


def trained_or_not(build: Callable[..., nn.Module], notes: list[str]) -> nn.Module:
    """build(), or build(weights=None) if its file of weights is missing."""
    try:
        return build()
    except MissingFile:
        notes.append(f"{build.__name__} untrained: no weights here")
        return build(weights=None)
