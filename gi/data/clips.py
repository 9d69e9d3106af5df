"""Training clips: a source of frames (`ClipSource`), holes that move along a path, and keyframes without a hole.

For any method that learns from videos; `gi.data.photo_clips` makes clips of photographs, `gi.data.video_clips` takes
them from videos.
"""
import logging
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from gi.data.mask_paths import Keyframes, MaskPath, MixedPath
from gi.data.masks import GrowthRamp
from gi.data.sample import ClipSample
from gi.data.sampler import sampled_entry
from gi.errors import InputError, expect_at_least, expect_within

log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """frames: uint8 (F, H, W, 3). fps: frames a second. shape: uint8 (F, H, W), 1 where an object is, if one is known.
    """

    frames: np.ndarray
    fps: float
    shape: np.ndarray | None = None


class ClipSource(Protocol):
    """Makes clips of one length and size; all that is random in them follows from the generator."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Unique in the source."""

    def clip(self, rng: np.random.Generator, index: int) -> Clip:
        """Raises InputError, naming the file, if this one cannot be used."""


class Clips(Dataset):
    """Clips of a `source` with random holes and keyframes.

    `dataset[epoch, index]` is a sample of that epoch, `dataset[index]` one of epoch 0. Clip, masks and keyframes have
    streams of random numbers of their own that follow from (seed, epoch, index), whichever process asks.

    Args:
        source: a `ClipSource`.
        masks: a path of `gi.data.mask_paths`, `MixedPath()` if None.
        keyframes: `Keyframes()` if None.
        mask_growth: lets the holes grow with the epoch.
        hide_object: probability that the hole is a known object and a margin around it, in all frames; only a keyframe
            then shows what is in the hole.
        length: samples an epoch; None: every clip of the source once. Otherwise they are taken from reshuffled passes.
        seed: of all randomness.
        repeat: epochs after which the same samples come again, so that what is computed from each can be cached; None:
            never.
        on_bad: "skip" takes the next of the source instead of a file that cannot be used, and logs a warning.
    """

    def __init__(self, *, source: ClipSource, masks: MaskPath | None = None, keyframes: Keyframes | None = None,
                 mask_growth: GrowthRamp | None = None, hide_object: float = 0.0, length: int | None = None,
                 seed: int = 0, repeat: int | None = None, on_bad: Literal["error", "skip"] = "error"):
        expect_at_least(0, seed=seed)
        expect_at_least(1, length=1 if length is None else length, repeat=1 if repeat is None else repeat)
        expect_within(0, 1, hide_object=hide_object)
        if on_bad not in ("error", "skip"):
            raise InputError(f"on_bad: expected error or skip, got {on_bad!r}")
        self.source, self.masks, self.keyframes = source, masks or MixedPath(), keyframes or Keyframes()
        self.mask_growth, self.hide_object, self.length = mask_growth, hide_object, length
        self.seed, self.repeat, self.on_bad = seed, repeat, on_bad

    def __len__(self) -> int:
        return len(self.source) if self.length is None else self.length

    def __getitem__(self, index: int | tuple[int, int]) -> ClipSample:
        epoch, index = index if isinstance(index, tuple) else (0, index)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if self.repeat is not None:
            epoch %= self.repeat
        streams = np.random.SeedSequence((self.seed, epoch, index)).spawn(3)
        clip_rng, mask_rng, keyframe_rng = map(np.random.default_rng, streams)
        clip, name = self._clip(clip_rng, epoch, index)
        masks = self._holes(mask_rng, clip, 1.0 if self.mask_growth is None else self.mask_growth(epoch))
        masks[self.keyframes.sample(keyframe_rng, len(masks))] = 0
        return {"pixels": torch.from_numpy(np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2))),
                "masks": torch.from_numpy(masks[:, None]), "fps": torch.tensor(clip.fps, dtype=torch.float32),
                "name": name}

    def _clip(self, rng, epoch, index):
        first, repetition = sampled_entry(epoch, index, count=len(self.source), length=self.length, seed=self.seed)
        for attempt in range(len(self.source)):
            number = (first + attempt) % len(self.source)
            try:
                clip = self.source.clip(rng, number)
            except InputError as error:
                if self.on_bad == "error":
                    raise
                log.warning("skipped a clip: %s", error)
                continue
            suffix = f"#{repetition}" if repetition else ""  # a name is unique within an epoch
            return clip, self.source.name(number) + suffix + (f"@{index}" if attempt else "")
        raise InputError(f"no usable clip among {len(self.source)}")

    def _holes(self, rng, clip, growth):
        frames, height, width = clip.frames.shape[:3]
        if rng.random() < self.hide_object and clip.shape is not None:
            margin = 2 * max(1, round(0.03 * min(height, width))) + 1
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (margin, margin))
            return np.stack([cv2.dilate(shape, kernel) for shape in clip.shape])
        return self.masks(rng, frames, height, width, growth)
