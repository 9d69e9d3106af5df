"""Clips of videos: of files that PyAV decodes, and of folders of frames."""
import itertools
import os
from fractions import Fraction
from operator import attrgetter
from pathlib import Path

import cv2
import numpy as np
from cachetools import LRUCache, cachedmethod

from gi.data.clips import Clip
from gi.errors import InputError, expect_at_least, expect_within
from gi.media import io
from gi.media.crop import resize
from gi.media.cuts import CutFinder
from gi.media.files import VideoFolder, open_video
from gi.media.source import VideoSource

OPEN = 256  # videos whose index a process remembers


class VideoClips:
    """A `ClipSource`: consecutive frames from anywhere in a video, a random part of the picture, no scene cut inside.

    A video is decoded only where the clip is, frame by frame, each reduced at once, so that memory does not depend on
    the video. The constructor reads nothing but the names of the files.

    Args:
        root: a folder, looked through with the folders below it for video files and folders of frames.
        list: a text file with one of them a line, relative to `root`, instead of all.
        frames, height, width: of the clips, in pixels. The video is reduced until it just covers them.
        rate: frames a second, about: every n-th frame is taken, with n rounded; None: every frame.
        folder_rate: frames a second of folders, which have no rate.
        flip: probability of mirroring left to right.
        across_cuts: whether a clip may show more than one scene. Otherwise none does, unless one fades into the next.
        attempts: places in a video to try until one has no cut.
    """

    def __init__(self, *, root: str, list: str | None = None, frames: int = 14, height: int = 320, width: int = 576,
                 rate: float | None = 7.0, folder_rate: float = 25.0, flip: float = 0.5,
                 across_cuts: bool = False, attempts: int = 10):
        expect_at_least(1, frames=frames, height=height, width=width, attempts=attempts)
        expect_at_least(0.01, rate=1 if rate is None else rate, folder_rate=folder_rate)
        expect_within(0, 1, flip=flip)
        self.root, self.frames, self.size, self.rate = Path(root), frames, (height, width), rate
        self.folder_rate, self.flip, self.across_cuts, self.attempts = folder_rate, flip, across_cuts, attempts
        self._entries = np.array([os.fsencode(entry) for entry in (io.read_list(list) if list else _find(self.root))])
        self._opened: LRUCache = LRUCache(OPEN)

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        return os.fsdecode(self._entries[index].item())

    def clip(self, rng: np.random.Generator, index: int) -> Clip:
        """Raises InputError, naming the file, for one that is damaged, too short, or has no place without a cut."""
        video = self._open(index)
        step = 1 if self.rate is None else max(1, round(video.rate / Fraction(self.rate)))
        length = (self.frames - 1) * step + 1
        if video.count < length:
            raise InputError(f"{video.path}: has {video.count} frames, expected {length} or more for a clip")
        flip = rng.random() < self.flip
        for _ in range(self.attempts):
            start, offset = int(rng.integers(video.count - length + 1)), rng.random(2)
            frames = self._read(video, range(start, start + length, step), offset)
            if self.across_cuts or not _has_cut(frames):
                return Clip(frames[:, :, ::-1] if flip else frames, float(video.rate / step))
        raise InputError(f"{video.path}: no {length} frames in a row without a scene cut in {self.attempts} attempts")

    @cachedmethod(attrgetter("_opened"))
    def _open(self, index) -> VideoSource:
        path = io.resolve_inside(self.root, self.name(index))
        return open_video(path, rate=Fraction(self.folder_rate) if path.is_dir() else None)

    def _read(self, video, numbers, offset):
        """uint8 (F, H, W, 3) of these frames; offset: of the part that is cut out, (down, right) in [0, 1)."""
        if isinstance(video, VideoFolder):  # frames that are left out need not be read
            pictures = (next(video.frames(number, number + 1)) for number in numbers)
        else:
            pictures = itertools.islice(video.frames(numbers.start, numbers.stop), 0, None, numbers.step)
        scale = max(new / old for new, old in zip(self.size, (video.height, video.width), strict=True))
        inner = [max(new, round(scale * old)) for new, old in zip(self.size, (video.height, video.width), strict=True)]
        top, left = (int(share * (old - new + 1)) for share, old, new in zip(offset, inner, self.size, strict=True))
        part = slice(top, top + self.size[0]), slice(left, left + self.size[1])
        reduce = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        return np.stack([resize(picture, (inner[0], inner[1]), reduce)[part] for picture in pictures])


def _has_cut(frames):
    finder = CutFinder()
    list(finder.watch(frames))
    return bool(finder.cuts)


def _find(root):
    """Video files, and folders that hold images, below a folder, in order."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one with videos or folders of frames")
    entries = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in files if not name.startswith(".")]
        videos = [name for name in visible if name.lower().endswith(io.VIDEO_SUFFIXES)]
        entries += [Path(folder, name).relative_to(root).as_posix() for name in videos]
        if any(name.lower().endswith(io.SUFFIXES) for name in visible):
            entries.append(Path(folder).relative_to(root).as_posix())
    if not entries:
        raise InputError(f"{root}: no video in this folder, expected files ending with {', '.join(io.VIDEO_SUFFIXES)}, "
                         "or folders of frames")
    return sorted(entries)
