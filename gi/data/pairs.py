"""Guided pairs from single photographs: a target and T keyframes, each a differently distorted view with its own hole.

Every sample has its own random generators, derived from (seed, epoch, index), whichever process makes it. The streams
of the view and of each frame are separate, so a sample's target is the same for any T.
"""
import logging
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal

import cv2
import numpy as np
import torch
from cachetools import LRUCache, cachedmethod
from torch.utils.data import Dataset

from gi.data import exact_flow as exact
from gi.data import geometry as geo
from gi.data.masks import GrowthRamp, MaskKind, MixedMask
from gi.data.photometric import Photometric
from gi.data.sample import SyntheticSample, make_sample
from gi.data.sampler import sampled_entry
from gi.data.sources import ImageSource
from gi.errors import InputError, expect_at_least, expect_within
from gi.media import io
from gi.media.crop import resize

log = logging.getLogger(__name__)


class GuidedPairs(Dataset):
    """Samples of distorted views of photographs (paper, section 4; numbers of the original release).

    A random square of `size + margin` pixels is the view all frames share (flipped, colours changed); each frame is
    distorted on its own from there. Smaller photographs are padded by mirroring, down to `min_side`.

    `dataset[epoch, index]` is a sample of that epoch, `dataset[index]` one of epoch 0: a loader without `EpochSampler`
    sees fixed samples, as evaluation needs.

    Args:
        images: a source of `gi.data.sources`.
        n_sources: T, the number of keyframes; may be 0.
        size, margin: side of a frame, and how much larger the shared view is, in pixels.
        mask: a kind of `gi.data.masks`; half strokes, half boxes if None.
        mask_growth: lets the holes grow with the epoch.
        view_photometric, frame_photometric, frame_geometry: changes of colour of the view and of each frame, and
            distortion of each frame; the defaults if None.
        flip: probability of mirroring the view left to right.
        length: samples an epoch. None: every photograph once. Otherwise photographs are taken from reshuffled
            passes over all of them that continue from epoch to epoch.
        seed: of all randomness.
        on_bad_image: "skip" takes the next photograph instead and logs a warning.
        min_side: photographs with a shorter side are bad.
        short_side: photographs are reduced until their shorter side has so many pixels; None: they are not.
        exact_flow: samples also hold the exact flow between target and keyframes. All else stays the same.
        cache: bytes of photographs, reduced to `short_side`, that each worker process keeps in memory.
    """

    def __init__(self, *, images: ImageSource, n_sources: int = 2, size: int = 256, margin: int = 200,
                 mask: MaskKind | None = None, mask_growth: GrowthRamp | None = None,
                 view_photometric: Photometric | None = None, frame_photometric: Photometric | None = None,
                 frame_geometry: geo.FrameGeometry | None = None, flip: float = 0.5, length: int | None = None,
                 seed: int = 0, on_bad_image: Literal["error", "skip"] = "error", min_side: int = 64,
                 short_side: int | None = None, exact_flow: bool = False, cache: int = 0):
        expect_at_least(0, n_sources=n_sources, margin=margin, seed=seed, cache=cache)
        expect_at_least(1, size=size, min_side=min_side, length=1 if length is None else length,
                        short_side=1 if short_side is None else short_side)
        expect_within(0, 1, flip=flip)
        if on_bad_image not in ("error", "skip"):
            raise InputError(f"on_bad_image: expected error or skip, got {on_bad_image!r}")
        self.images, self.n_sources, self.size, self.view = images, n_sources, size, size + margin
        self.mask, self.mask_growth = mask or MixedMask(), mask_growth
        self.view_photometric = view_photometric or Photometric()
        self.frame_photometric = frame_photometric or Photometric.of_frames()
        self.frame_geometry = frame_geometry or geo.FrameGeometry()
        self.flip, self.length, self.seed = flip, length, seed
        self.on_bad_image, self.min_side, self.exact_flow = on_bad_image, min_side, exact_flow
        self.short_side, self._cache = short_side, LRUCache(cache, getsizeof=attrgetter("nbytes"))

    def __len__(self) -> int:
        return len(self.images) if self.length is None else self.length

    def __getitem__(self, index: int | tuple[int, int]) -> SyntheticSample:
        epoch, index = index if isinstance(index, tuple) else (0, index)
        return self.sample(epoch, index)[0]

    def sample(self, epoch: int, index: int) -> tuple[SyntheticSample, np.ndarray]:
        """The sample and its maps, float32 (1+T, 2, size, size): where each pixel of target and keyframes lies in the
        view they share (x, y in its pixels).

        Raises IndexError if there is no such sample, InputError for a bad photograph, or with "skip" without good ones.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        sequence = np.random.SeedSequence((self.seed, epoch, index))
        view_rng, *frame_rngs = (np.random.default_rng(stream) for stream in sequence.spawn(2 + self.n_sources))
        photograph, name = self._read(
            *sampled_entry(epoch, index, count=len(self.images), length=self.length, seed=self.seed))
        view = self._shared_view(view_rng, photograph)
        growth = 1.0 if self.mask_growth is None else self.mask_growth(epoch)
        view = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA)  # see `resample`
        frames, masks, maps = zip(*(self._frame(rng, view, growth) for rng in frame_rngs), strict=True)
        sample: Any = make_sample(frames, masks, name) | {"seed": torch.tensor(int(sequence.generate_state(1)[0]))}
        if self.exact_flow:
            sample |= _flows(maps)
        return sample, np.stack(maps)

    def _read(self, index: int, repetition: int) -> tuple[np.ndarray, str]:
        for attempt in range(len(self.images)):
            candidate = (index + attempt) % len(self.images)
            try:
                photograph = self._photograph(candidate)
            except InputError as error:
                if self.on_bad_image == "error":
                    raise
                log.warning("skipped a photograph: %s", error)
                continue
            # A name is unique within an epoch, also when photographs repeat or replace bad ones.
            suffix = f"#{repetition}" if repetition else ""
            return photograph, self.images.name(candidate) + suffix + (f"@{index}" if attempt else "")
        raise InputError(f"{self.images.root}: no readable photograph among {len(self.images)}")

    @cachedmethod(attrgetter("_cache"))
    def _photograph(self, index: int) -> np.ndarray:
        path = self.images.path(index)
        photograph = io.read_image(path)
        height, width = photograph.shape[:2]
        if min(height, width) < self.min_side:
            raise InputError(f"{path}: {width}x{height} is too small, expected sides of {self.min_side}")
        if self.short_side is not None and (reduction := self.short_side / min(height, width)) < 1:
            size = max(1, round(height * reduction)), max(1, round(width * reduction))
            photograph = resize(photograph, size, cv2.INTER_AREA)
        return photograph

    def _shared_view(self, rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
        vertical, horizontal = (max(0, self.view - extent) for extent in photograph.shape[:2])
        if vertical or horizontal:
            top, left = vertical // 2, horizontal // 2
            sides = top, vertical - top, left, horizontal - left
            photograph = cv2.copyMakeBorder(photograph, *sides, cv2.BORDER_REFLECT_101)
        top, left = (rng.integers(extent - self.view + 1) for extent in photograph.shape[:2])
        view = photograph[top : top + self.view, left : left + self.view]
        if rng.random() < self.flip:
            view = cv2.flip(view, 1)
        return self.view_photometric(rng, np.ascontiguousarray(view))

    def _frame(self, rng: np.random.Generator, view: np.ndarray,
               growth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        steps = self.frame_geometry.sample(rng, view=self.view, size=self.size)
        coordinates = geo.compose(steps, size=self.size)
        frame = self.frame_photometric(rng, cv2.cvtColor(geo.resample(view, coordinates), cv2.COLOR_RGBA2RGB))
        return frame, self.mask(rng, self.size, self.size, growth), coordinates


def _flows(maps: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    target, *sources = maps
    exact_flows = [exact.exact_flow(target, source) for source in sources]
    exact_flows += [exact.exact_flow(source, target) for source in sources]
    shape, size = (2, len(sources)), target.shape[1:]
    flows = np.array([flow for flow, _ in exact_flows], np.float32).reshape(*shape, 2, *size)
    valid = np.array([valid for _, valid in exact_flows], np.uint8).reshape(*shape, 1, *size)
    return {"flows": torch.from_numpy(flows), "flows_valid": torch.from_numpy(valid)}
