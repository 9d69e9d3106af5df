"""Features of images kept on disk by their content: a second evaluation of the same images need not compute them.

`<folder>/features/<digest of the network>/<digest of the pixels>.npy`, float32 (dimensions,). The network's digest
covers its weights, torch's version and the kind of device, each of which can change a feature.
"""
import functools
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
    """A feature network, as ImageMetrics takes it for FID, with a cache on disk; `computed` and `cached` count images.

    folder: of the cache, made when first written to. If that fails, it works without.
    """

    def __init__(self, *, network: nn.Module, folder: str | Path):
        super().__init__()
        self.network, self.dimensions = network, network.dimensions
        self.folder, self.writable = Path(folder) / "features", True
        self.computed = self.cached = 0

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """(N,3,H,W) in [0,1] -> (N, dimensions) float32."""
        network_folder = self.folder / self._network_digest(rgb.device.type)
        files = [network_folder / f"{_digest([image])}.npy" for image in rgb]
        features = [self._read(file) for file in files]
        uncached = [row for row, feature in enumerate(features) if feature is None]
        for row, feature in zip(uncached, self.network(rgb[uncached]).float().cpu() if uncached else (), strict=True):
            features[row] = feature
            self._write(files[row], feature)
        self.computed, self.cached = self.computed + len(uncached), self.cached + len(files) - len(uncached)
        return torch.stack(features).to(rgb.device)

    @functools.cache  # noqa: B019  there are one or two of them, which live as long as the program
    def _network_digest(self, device: str) -> str:
        return _digest(self.network.state_dict().values(), f"{_VERSION} {torch.__version__} {device}")

    def _read(self, path: Path) -> Tensor | None:
        try:
            feature = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        valid = feature.shape == (self.dimensions,) and feature.dtype == np.float32 and np.isfinite(feature).all()
        return torch.from_numpy(feature) if valid else None

    def _write(self, path: Path, feature: Tensor) -> None:
        if self.writable and torch.isfinite(feature).all():
            try:
                with atomic_write(path) as temporary:
                    np.save(temporary, feature.numpy())
            except OSError as error:
                log.warning("features are not kept: %s", error)
                self.writable = False


def _digest(tensors, description: str = "") -> str:
    digest = hashlib.sha256(description.encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
