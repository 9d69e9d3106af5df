"""Features of images kept on disk by their content: a second evaluation of the same truth need not compute them.

`<folder>/features/<digest of the network>/<digest of the pixels>.npy`, float32 (dimensions,). The network's digest
covers its weights, torch's version and the kind of device, each of which can change a feature.
"""
import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gi.media.io import atomic_write

log = logging.getLogger(__name__)
_VERSION = 1  # to be raised when InceptionFeatures itself changes


class CachedFeatures(nn.Module):
    """A network of features, as ImageMetrics takes it for FID, with a memory.

    Args:
        network: images (N,3,H,W) in [0,1] to features (N, its attribute `dimensions`).
        folder: of the cache; made when first written to. If that fails, it works without.

    `remember(images)` takes features of these from the disk or computes and stores them; `forward` then has them
    ready, until the next `remember`. Other images are computed once as long, and not stored. `computed` and `found`
    count images.
    """

    def __init__(self, *, network: nn.Module, folder: str | Path):
        super().__init__()
        self.network, self.dimensions = network, network.dimensions
        self.folder = Path(folder) / "features"
        self.computed = self.found = 0
        self._writable = True
        self._ready: dict[str, Tensor] = {}
        self._digests: dict[str, str] = {}

    @torch.no_grad()
    def remember(self, images: Tensor) -> None:
        self._ready = {}
        keys = [_digest([image]) for image in images]
        place = self.folder / self._network_digest(images.device.type)
        for key in keys:
            feature = self._read(place / f"{key}.npy")
            if feature is not None:
                self._ready[key] = feature.to(images.device)
                self.found += 1
        missing = [key for key in keys if key not in self._ready]
        self(images)
        for key in missing:
            self._write(place / f"{key}.npy", self._ready[key])

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """(N,3,H,W) in [0,1] -> (N, dimensions) float32."""
        keys = [_digest([image]) for image in rgb]
        new = {key: row for row, key in enumerate(keys) if key not in self._ready}
        if new:
            features = self.network(rgb[list(new.values())]).float()
            self._ready |= dict(zip(new, features, strict=True))
            self.computed += len(new)
        return torch.stack([self._ready[key] for key in keys])

    def _network_digest(self, device: str) -> str:
        if device not in self._digests:
            about = f"{_VERSION} {torch.__version__} {device}"
            self._digests[device] = _digest(self.network.state_dict().values(), about)
        return self._digests[device]

    def _read(self, path: Path) -> Tensor | None:
        try:
            feature = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        right = feature.shape == (self.dimensions,) and feature.dtype == np.float32 and np.isfinite(feature).all()
        return torch.from_numpy(feature) if right else None

    def _write(self, path: Path, feature: Tensor) -> None:
        if not self._writable or not torch.isfinite(feature).all():
            return
        try:
            with atomic_write(path) as temporary:
                np.save(temporary, feature.cpu().numpy())
        except OSError as error:
            log.warning("features are not kept: %s", error)
            self._writable = False


def _digest(tensors, about: str = "") -> str:
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
