"""Videos as streams of upright RGB frames: files that PyAV can decode, and folders of images.

Everything that can be known beforehand (number and size of the frames) is checked when a video is opened.
"""
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media import container, io
from gi.media.colour import colour_of
from gi.media.source import FOLDER_RATE, VideoSource
from gi.media.turn import turn_of


class VideoFile(VideoSource):
    """A file with moving pictures; see `open_video`."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._index = container.read_index(path)
        self.count = len(self._index)
        with container.opened(path) as (file, stream):
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_RATE)
            self.aspect = Fraction(stream.sample_aspect_ratio or 1)
            picture = next(container.decode(path, file, stream, self._index))
            self.colour = colour_of(picture, stream.codec_context)
            self.turn = turn_of(picture)
            start = container.origin(file)
            self.width, self.height = picture.width, picture.height
        self.time_base = self._index.time_base if self._index.exact else 1 / self.rate
        start = round(start / self.time_base) if self._index.exact else 0
        self.times = (self._index.times - start).tolist()
        if self.turn.swap:
            self.width, self.height, self.aspect = self.height, self.width, 1 / self.aspect

    def _read(self, wanted: range) -> Iterator[tuple[int, np.ndarray]]:
        pictures = container.pictures(self.path, self._index, wanted.start) if wanted else ()
        for number, picture in zip(wanted, pictures, strict=False):
            yield number, self.turn.upright(self.colour.to_rgb(picture))
        if wanted and wanted.stop == self.count:
            next(pictures, None)  # complains if there is another one


class VideoFolder(VideoSource):
    """Images in natural order of their names, frame_2 before frame_10, of those that end with `ending` and a suffix."""

    def __init__(self, path: Path, ending: str = ""):
        super().__init__(path)
        found = [item for item in path.iterdir() if item.suffix.lower() in io.SUFFIXES and item.name[0] != "."
                 and item.stem.endswith(ending) and item.is_file()]
        self.files = sorted(found, key=lambda item: natural_order(item.name))
        if not self.files:
            expected = ", ".join(ending + suffix for suffix in io.SUFFIXES)
            raise InputError(f"{path}: no image in this folder, expected files ending with {expected}")
        self.count = len(self.files)
        self.times = range(self.count)
        self.width, self.height = io.read_size(self.files[0])
        for file in self.files:
            size = io.read_size(file)
            if size != (self.width, self.height):
                expected = f"{self.width}x{self.height} as {self.files[0].name}"
                raise InputError(f"{file}: the image has {size[0]}x{size[1]} pixels, expected {expected}")

    def _read(self, wanted: range) -> Iterator[tuple[int, np.ndarray]]:
        for number in wanted:
            yield number, io.read_image(self.files[number])

    def _files(self) -> Sequence[Path]:
        return self.files


def open_video(path: str | Path) -> VideoSource:
    """A video file (mp4, mov, mkv, webm, avi, ts) or a folder of images.

    A file is read through once to count its frames, mostly without decoding. Pictures are decoded with the file's
    colour matrix and range and turned as its display matrix says.

    Raises InputError, naming the file, if it is missing, no video, damaged, without a frame or larger than
    `gi.media.io.MAX_PIXELS`, or if the images of a folder differ in size.
    """
    path = Path(path)
    if path.is_dir():
        return VideoFolder(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder, expected a video or a folder of frames")
    return VideoFile(path)


def natural_order(name: str) -> tuple:
    """Sort key by which numbers in names count as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name
