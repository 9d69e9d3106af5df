"""Videos as streams of upright RGB frames: files that PyAV can decode, and folders of images.

Everything that can be known beforehand (number and size of the frames) is checked when a video is opened.
"""
import re
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from gi.errors import InputError
from gi.media import container, io
from gi.media.colour import colour_of
from gi.media.orientation import orientation_of
from gi.media.source import FOLDER_RATE, VideoSource

_HDR_DATA = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DOVI_METADATA")


class VideoFile(VideoSource):
    """A video file; see `open_video`."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._index = container.read_index(path)
        self.count = len(self._index)
        with container.opened(path) as (file, stream):
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_RATE)
            self.aspect = Fraction(stream.sample_aspect_ratio or 1)
            picture = next(container.decode(path, file, stream, self._index))
            self.colour = colour_of(picture, stream.codec_context)
            self.remarks = _remarks(file, stream, picture)
            self.orientation = orientation_of(picture)
            start = container.origin(file)
            self.width, self.height = picture.width, picture.height
        self.time_base = self._index.time_base if self._index.exact else 1 / self.rate
        start = round(start / self.time_base) if self._index.exact else 0
        self.times = (self._index.times - start).tolist()
        if self.orientation.swap:
            self.width, self.height, self.aspect = self.height, self.width, 1 / self.aspect

    def pictures(self, start: int = 0) -> Generator[av.VideoFrame, None, None]:
        """The frames from number `start` on, as they are stored. Raises InputError as `frames`."""
        return container.pictures(self.path, self._index, start)

    def _read(self, requested: range) -> Iterator[tuple[int, np.ndarray]]:
        pictures = container.pictures(self.path, self._index, requested.start) if requested else iter(())
        for number, picture in zip(requested, pictures, strict=False):
            yield number, self.orientation.upright(self.colour.to_rgb(picture))
        if requested and requested.stop == self.count:
            next(pictures, None)  # raises if there is another one


class VideoFolder(VideoSource):
    """A folder of images whose names end with `ending` and a suffix, in natural order: frame_2 before frame_10.

    numbers: those in the names that tell the images apart, or None. rich: whether any has 16 bits, alpha or a colour
    profile.
    """

    def __init__(self, path: Path, ending: str = "", rate: Fraction = FOLDER_RATE):
        super().__init__(path)
        images = [item for item in path.iterdir() if item.suffix.lower() in io.SUFFIXES and item.name[0] != "."
                  and item.stem.endswith(ending) and item.is_file()]
        self.files = sorted(images, key=lambda item: natural_order(item.name))
        if not self.files:
            expected = ", ".join(ending + suffix for suffix in io.SUFFIXES)
            raise InputError(f"{path}: no image in this folder, expected files ending with {expected}")
        self.count = len(self.files)
        self.times, self.rate, self.time_base = range(self.count), rate, 1 / rate
        self.numbers = _numbers([file.stem for file in self.files])
        self.width, self.height = io.read_size(self.files[0])
        for file in self.files:
            size = io.read_size(file)
            if size != (self.width, self.height):
                expected = f"{self.width}x{self.height} as {self.files[0].name}"
                raise InputError(f"{file}: the image has {size[0]}x{size[1]} pixels, expected {expected}")
        self.rich = any(io.inspect_image(file, _is_rich) for file in self.files)

    def _read(self, requested: range) -> Iterator[tuple[int, np.ndarray]]:
        for number in requested:
            yield number, io.read_image(self.files[number])

    def _files(self) -> Sequence[Path]:
        return self.files


def open_video(path: str | Path, *, rate: Fraction | None = None) -> VideoSource:
    """A video file (mp4, mov, mkv, webm, avi, ts) or a folder of images.

    A file is read through once to count its frames, mostly without decoding. Pictures are decoded with the file's
    colour matrix and range and turned as its display matrix says. rate: frames a second of a folder, by default 25.

    Raises InputError, naming the file, if it is missing, no video, damaged, without a frame or larger than
    `gi.media.container.MAX_PIXELS` (an image of a folder: `gi.media.io.MAX_PIXELS`), if the images of a folder differ
    in size, or for a rate if a file has its own.
    """
    path = Path(path)
    if path.is_dir():
        return VideoFolder(path, rate=rate or FOLDER_RATE)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder, expected a video or a folder of frames")
    if rate is not None:
        raise InputError(f"{path}: has its own frames per second; they can be given for a folder of frames only")
    return VideoFile(path)


def parse_rate(text: str | None) -> Fraction | None:
    """Frames a second from 25, 23.976 or 30000/1001; None for no text. Raises InputError unless it is between 0.01 and
    1000.
    """
    if not text:
        return None
    try:
        rate = Fraction(text) if re.fullmatch(r"\s*[\d./]{1,40}\s*", text) else Fraction(0)  # 1e9999999 takes minutes
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 100) <= rate <= 1000:
        raise InputError(f"{text}: expected frames per second, such as 25, 23.976 or 30000/1001")
    ntsc = Fraction(1000 * round(rate * Fraction(1001, 1000)), 1001)  # 29.97 stands for 30000/1001
    return ntsc if abs(rate - ntsc) < Fraction(1, 1000) else rate.limit_denominator(10000)


def video_name(path: Path) -> str:
    """What a video is called: as its folder, or as its file without suffix."""
    return path.stem if path.is_file() else path.name


def check_numbers(other: VideoSource, video: VideoSource, *, shift: int | None = None) -> str | None:
    """Checks that images correspond to those of `video` in their order, where both are numbered. Returns a remark if
    numbering starts at another number. Raises InputError if one has a gap where the other has none, or if the starts
    differ by more than `shift` although some numbers are in both.
    """
    numbers, expected = (getattr(source, "numbers", None) for source in (other, video))
    if numbers is None or expected is None or numbers == expected:
        return None
    if len(numbers) == len(expected) and _is_consecutive(numbers) and _is_consecutive(expected):
        if shift is not None and shift < abs(numbers[0] - expected[0]) < len(numbers):
            raise InputError(f"{other.path}: numbered from {numbers[0]}, {video.path} from {expected[0]}; expected the "
                             "same numbers, as some are in both")
        return f"numbered from {numbers[0]}, the frames from {expected[0]}: taken in their order"
    if set(numbers) == set(expected):
        other_file, file = next(files for *files, a, b in zip(other.files, video.files, numbers, expected, strict=True)
                                if a != b)
        raise InputError(f"{other_file}: comes where {file} does, but has another number")
    number = min(set(numbers) ^ set(expected))
    if number in numbers:
        file = other.files[numbers.index(number)]
        raise InputError(f"{file}: belongs to no frame, as {video.path} has none with the number {number}")
    file = video.files[expected.index(number)]
    raise InputError(f"{other.path}: nothing with the number {number}, expected for {file}")


def natural_order(name: str) -> tuple:
    """Sort key by which numbers in names count as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)], name


def _numbers(stems: Sequence[str]) -> list[int] | None:
    """The last number in each name, if it tells them apart; else the one before it, and so on."""
    numbers = [[int(number) for number in reversed(re.findall(r"[0-9]+", stem))] for stem in stems]
    for column in zip(*numbers, strict=False):
        if len(set(column)) == len(stems):
            return list(column)
    return None


def _is_consecutive(numbers: Sequence[int]) -> bool:
    return list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))


def _is_rich(image: Image.Image) -> bool:
    deep = image.mode.startswith("I") or ";16" in str(image.tile)
    return deep or image.mode in ("RGBA", *io.WITH_ALPHA) or bool({"transparency", "icc_profile"} & image.info.keys())


def _remarks(file, stream, picture: av.VideoFrame) -> list[str]:
    """What no result keeps of a video file."""
    remarks = []
    if picture.interlaced_frame:
        remarks.append("interlaced: fields are not processed separately, the result is progressive")
    bits = max(part.bits for part in picture.format.components)
    if bits > max(8, colour_of(picture, stream.codec_context).bits):  # grey and RGB, which are read as images are
        remarks.append(f"{bits} bits become 8")
    if stream.metadata.get("alpha_mode") == "1" or any(part.is_alpha for part in picture.format.components):
        remarks.append("transparency is not kept")
    if any(str(data.type).rpartition(".")[2] in _HDR_DATA for data in picture.side_data):
        remarks.append("data of the mastering display and dynamic HDR are not kept")
    left = {name: sum(s.type == kind for s in file.streams) for kind, name in
            (("subtitle", "subtitles"), ("attachment", "attachments"))}
    covers = sum(bool(s.disposition & av.stream.Disposition.attached_pic) for s in file.streams.video)
    left |= {"cover pictures": covers, "video tracks but the first": len(file.streams.video) - covers - 1}
    return remarks + [f"not kept: {name}" for name, count in left.items() if count]
