"""SIFT keypoints of images, cached for recent images, and their matches between two images."""
import contextlib
import functools
import hashlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from cachetools import LRUCache
from torch import Tensor

from gi.flow.threads import on_threads
from gi.heap import LARGE

_RATIO = 0.8  # a match must be this much closer than the second best one (Lowe, 2004)
_KEPT = 13 << 20  # bytes of cached keypoints: some 60 images with 1500 each
_LOCK = threading.Lock()  # of the cache: flow is estimated on several threads
_ALONE = threading.Lock()  # one large image at a time: SIFT's pyramids take some 200 bytes a pixel


class Keypoints(NamedTuple):
    """n keypoints of an image."""

    positions: np.ndarray  # (n, 2), x and y in pixels
    descriptors: Tensor  # (n, 128), uint8: SIFT's descriptors
    fineness: float = 1.0  # side of a pixel of these coordinates, in pixels of the image given to SIFT

    def inside(self, corner: Sequence[float], scale: Sequence[float], size: Sequence[int]) -> "Keypoints":
        """The keypoints in a crop of the image, in the crop's pixels. It begins at `corner`, x and y, is enlarged
        `scale` times along x and y, and then has `size` = (height, width).
        """
        positions = (self.positions + 0.5 - corner) * scale - 0.5
        within = ((positions > -0.5) & (positions < np.array(size[::-1]) - 0.5)).all(axis=1)
        return Keypoints(positions[within], self.descriptors[torch.from_numpy(within)], self.fineness / max(scale))


class Detector:
    """Detects up to `most` keypoints in an image, and caches those of recent images by the images' content."""

    def __init__(self, most: int):
        self.most = most
        self._kept: LRUCache = LRUCache(_KEPT, getsizeof=_bytes)

    def __call__(self, images: Sequence[np.ndarray], scale: int = 1) -> list[Keypoints]:
        """Keypoints of grey images (H, W), uint8, detected after enlarging them `scale` times, up to `scale` times as
        many.
        """
        keys = [(scale, image.shape, hashlib.blake2b(image.tobytes()).digest()) for image in images]
        with _LOCK:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        uncached = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        known |= zip(uncached, on_threads(functools.partial(self._detect, scale=scale), uncached.values()), strict=True)
        with _LOCK:
            self._kept.update((key, known[key]) for key in uncached)
        return [known[key] for key in keys]

    def _detect(self, grey, scale):
        if scale != 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        sift = cv2.SIFT_create(scale * self.most, contrastThreshold=0.01)
        with _ALONE if max(grey.shape) > LARGE else contextlib.nullcontext():
            keypoints, descriptors = sift.detectAndCompute(grey, None)
        if descriptors is None:
            return Keypoints(np.zeros((0, 2)), torch.zeros(0, 128, dtype=torch.uint8), scale)
        positions = (np.array([keypoint.pt for keypoint in keypoints]) + 0.5) / scale - 0.5
        return Keypoints(positions, torch.from_numpy(descriptors.astype(np.uint8)), scale)


def _bytes(keypoints):
    return keypoints.positions.nbytes + keypoints.descriptors.nbytes


Ends = tuple[np.ndarray, np.ndarray]  # places (n, 2) in one image, and those that match them in another


def match(first: Keypoints, second: Keypoints) -> tuple[Ends, Ends]:
    """Positions of matching keypoints in both images, for matches of the first image's and for matches of the second's.
    """
    if min(len(first.positions), len(second.positions)) < 2:
        return (first.positions[:0], second.positions[:0]), (second.positions[:0], first.positions[:0])
    # RootSIFT: roots of histograms compare better (Arandjelović & Zisserman, 2012).
    first_roots, second_roots = (F.normalize(keypoints.descriptors.float(), p=1).sqrt()
                                 for keypoints in (first, second))
    cosine = (first_roots @ second_roots.T).numpy()
    back, sources = _clear(np.ascontiguousarray(cosine.T))
    clear, nearest = _clear(cosine)
    return (first.positions[clear], second.positions[nearest]), (second.positions[back], first.positions[sources])


def _clear(cosine):
    """Rows whose best match passes the ratio test, and its columns; overwrites `cosine`."""
    row = np.arange(len(cosine))
    nearest = cosine.argmax(axis=1)
    best = cosine[row, nearest]
    cosine[row, nearest] = -1
    clear = 2 - 2 * best < _RATIO**2 * (2 - 2 * cosine.max(axis=1))  # squared distances of vectors of length 1
    return clear, nearest[clear]
