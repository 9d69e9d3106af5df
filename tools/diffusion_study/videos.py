"""Clips of videos with object masks, as a `ClipSource`: `hide_object` then hides a moving object of a real video."""
from pathlib import Path

import numpy as np

from gi.data.clips import Clip
from gi.data.video_clips import VideoClips
from gi.errors import InputError

ATTEMPTS = 100


class MarkedVideos:
    """Args:
        root: a folder with `frames` and `masks`, in each a folder of every video, with files of the same names.
        frames, height, width, rate: as those of `VideoClips`.
        smallest: least share of the picture that the object covers in every frame of a clip.
    """

    def __init__(self, *, root: str, frames: int, height: int, width: int, rate: float, smallest: float = 0.02):
        self.smallest = smallest
        self.videos, self.objects = (
            VideoClips(root=str(Path(root, kind)), frames=frames, height=height, width=width, rate=rate, flip=0,
                       across_cuts=True)
            for kind in ("frames", "masks"))
        names = [[source.name(index) for index in range(len(source))] for source in (self.videos, self.objects)]
        if names[0] != names[1]:
            raise InputError(f"{root}: expected the same videos in frames and masks, got {names[0]} and {names[1]}")

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, index: int) -> str:
        """The name of the video's folder."""
        return self.videos.name(index)

    def clip(self, rng: np.random.Generator, index: int) -> Clip:
        """Raises InputError if no clip is sampled in which the object is large enough in every frame."""
        for _ in range(ATTEMPTS):
            seed = rng.integers(2**32)  # the same frames and the same crop for both
            clip, marks = (source.clip(np.random.default_rng(seed), index) for source in (self.videos, self.objects))
            shape = (marks.frames[..., 0] > 127).astype(np.uint8)
            if shape.mean(axis=(1, 2)).min() >= self.smallest:
                return Clip(clip.frames, clip.fps, shape)
        raise InputError(f"{self.name(index)}: no clip in {ATTEMPTS} attempts in which the object covers "
                         f"{self.smallest:.0%} of every frame")
