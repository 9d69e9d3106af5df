"""Guided pairs from videos: a frame is the target, others of the same video are its keyframes, so motion is real."""
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache, cachedmethod
from torch.utils.data import Dataset

from gi.data.masks import MaskKind, MixedMask
from gi.data.sample import SyntheticSample, make_sample
from gi.errors import InputError, expect_at_least
from gi.media.crop import MIN_SIDE, resize_known, working_size
from gi.media.files import open_video, video_name
from gi.media.io import SUFFIXES
from gi.media.masks import open_masks

_TRIES = 50  # random squares, until one has no missing pixel


class RealPairs(Dataset):
    """Square crops of the frames of one video, or of a folder of videos; the videos' own holes are never in a target.

    A sample's target is a square in which everything is known, so that any loss may look at all of it. Its hole, and
    those of the keyframes, which are the same square of other frames, are the video's own, moved by the same random
    translation, or drawn. The video's own holes stay missing in the keyframes.

    `dataset[epoch, index]` is a sample of that epoch, which follows from (seed, epoch, index) alone; `dataset[index]`
    is one of epoch 0.

    Args:
        videos: a video (see `gi.media.files.open_video`), or a folder of videos.
        masks: of what is missing in it, see `gi.media.masks.open_masks`; for a folder of videos one with an entry of
            the same name, suffix apart, for each; None if nothing is. dilate: pixels, as there.
        n_sources: T, the number of keyframes; may be 0.
        reach: frames that keyframes are at most away from their target, each drawn uniformly. Videos must be longer
            than T; where one ends closer, there are fewer to choose from.
        size: side of a square. max_side: frames with a longer side are reduced.
        mask: a kind of `gi.data.masks` for the holes, independent from frame to frame. None: the video's own holes,
            moved; half strokes, half boxes for videos without any.
        length: samples an epoch.
        seed: of all randomness.
        cache: bytes of frames kept in memory, in each process that makes samples.

    Raises InputError for a video without counterpart, and if videos are too short or too small.
    """

    def __init__(self, *, videos: str, masks: str | None = None, dilate: int | None = None, n_sources: int = 2,
                 reach: int = 20, size: int = 128, max_side: int | None = None, mask: MaskKind | None = None,
                 length: int = 1000, seed: int = 0, cache: int = 1 << 29):
        expect_at_least(0, n_sources=n_sources, seed=seed, cache=cache)
        expect_at_least(1, reach=reach, length=length)
        expect_at_least(MIN_SIDE, size=size, max_side=size if max_side is None else max_side)
        self.videos, self._masks = [], []
        for video, holes in _pairs(Path(videos), None if masks is None else Path(masks)):
            self.videos.append(open_video(video))
            self._masks.append(None if holes is None else open_masks(holes, self.videos[-1], dilate=dilate))
        self.n_sources, self.reach, self.size, self.max_side, self.mask = n_sources, reach, size, max_side, mask
        self.length, self.seed, self._cache = length, seed, LRUCache(cache, getsizeof=_bytes)
        for video in self.videos:
            if video.count <= n_sources:
                raise InputError(f"{video.path}: {video.count} frames, expected more than the {n_sources} keyframes")
            if min(shape := self._shape(video)) < size:
                raise InputError(f"{video.path}: frames of {shape[1]}x{shape[0]} hold no square of {size} pixels; "
                                 "a smaller size helps")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int | tuple[int, int]) -> SyntheticSample:
        """Raises IndexError if there is no such sample, InputError if no square of a video is known wholly."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        sequence = np.random.SeedSequence((self.seed, epoch, index))
        rng = np.random.default_rng(sequence)
        number = int(rng.integers(len(self.videos)))
        target, window = self._target(rng, number)
        numbers = [target, *self._keyframes(rng, target, self.videos[number].count)]
        frames, own = zip(*(self._frame(number, i) for i in numbers), strict=True)
        holes = [np.maximum(hole, unknown[window]) for hole, unknown in
                 zip(self._holes(rng, own, window), own, strict=True)]
        name = f"{self.videos[number].path.name}/{target}#{index}"
        sample: Any = make_sample([frame[window] for frame in frames], holes, name)
        return sample | {"seed": torch.tensor(int(sequence.generate_state(1)[0]))}

    def _target(self, rng, number):
        """A frame and the rows and columns of a square in it, all of which is known."""
        count, (height, width) = self.videos[number].count, self._shape(self.videos[number])
        for _ in range(_TRIES):
            target = int(rng.integers(count))
            top, left = (int(rng.integers(extent - self.size + 1)) for extent in (height, width))
            window = slice(top, top + self.size), slice(left, left + self.size)
            if not self._frame(number, target)[1][window].any():
                return target, window
        raise InputError(f"{self.videos[number].path}: found no square of {self.size} pixels without missing ones; "
                         "a smaller size helps")

    def _keyframes(self, rng, target, count):
        near = np.arange(max(0, target - self.reach), min(count, target + self.reach + 1))
        if len(near) <= self.n_sources:
            near = np.arange(count)
        return sorted(rng.choice(near[near != target], self.n_sources, replace=False).tolist())

    def _holes(self, rng, own, window):
        """A hole for each frame in the square `window`: drawn, or those the frames have, moved over it together."""
        marked = [hole for hole in own if hole.any()]
        if self.mask is not None or not marked:
            kind = self.mask or MixedMask()
            return [kind(rng, self.size, self.size) for _ in own]
        first = own[0] if own[0].any() else marked[0]  # the target's: without any, there would be nothing to learn
        y, x = rng.choice(np.argwhere(first))  # a missing pixel that is moved into the square
        down, right = (int(rng.integers(rows.start, rows.stop)) - int(i)
                       for rows, i in zip(window, (y, x), strict=True))
        return [np.roll(hole, (down, right), axis=(0, 1))[window] for hole in (first, *own[1:])]

    @cachedmethod(attrgetter("_cache"))
    def _frame(self, number, i):
        """Frame uint8 (H, W, 3), 0 in its hole, and hole uint8 (H, W), 1 = missing, at the working size."""
        video, masks = self.videos[number], self._masks[number]
        frame = next(video.frames(i, i + 1))
        hole = np.zeros(frame.shape[:2], np.uint8) if masks is None else next(masks.frames(i, i + 1))
        frame, hole = resize_known(frame, hole != 0, self._shape(video))
        return frame, hole.astype(np.uint8)

    def _shape(self, video):
        return working_size((video.height, video.width), max_side=self.max_side, resize=None)


def _bytes(value):
    return sum(array.nbytes for array in value)


def _pairs(videos, masks):
    """(video, its masks or None) for each."""
    if not videos.exists():
        raise InputError(f"{videos}: no such file or folder, expected a video or a folder of videos")
    entries = sorted(entry for entry in videos.iterdir() if entry.name[0] != ".") if videos.is_dir() else []
    if not entries or any(entry.suffix.lower() in SUFFIXES for entry in entries):  # a file, or a folder of frames
        return [(videos, masks)]
    pairs = []
    for video in entries:
        holes = None
        if masks is not None:
            name = video_name(video)
            holes = next((entry for entry in sorted(masks.iterdir())
                          if entry.name[0] != "." and video_name(entry) == name), None)
            if holes is None:
                raise InputError(f"{video}: expected its masks as {masks / name}, a file or folder")
        pairs.append((video, holes))
    return pairs
