"""Pictures for the page: small JPEGs of frames, masks at their size, slices through time."""
import io as streams
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from gi.app.folder import Problem
from gi.errors import InputError
from gi.media import io
from gi.media.crop import limited
from gi.media.files import VideoFile
from gi.media.source import VideoSource

SIDE = 960  # pixels of the longer side of a proxy
QUALITY = 82
LONGEST = 960  # columns of a slice through time
AHEAD = 12  # frames that are decoded on the way to a later one, rather than seeking again
_PHOTOS = ThreadPoolExecutor(1)


def jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    """An image as a JPEG file."""
    file = streams.BytesIO()
    image.convert("RGB").save(file, format="JPEG", quality=quality)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    """An image as a PNG file, packed quickly."""
    file = streams.BytesIO()
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def frame_jpeg(frame: np.ndarray, side: int) -> bytes:
    """A frame, uint8 (H, W, 3), as a JPEG file with no side longer than `side`."""
    image = Image.fromarray(frame)
    size = limited(image.size, side)
    return jpeg(image.resize(size, Image.Resampling.BOX, reducing_gap=2) if size != image.size else image)


def photo_jpeg(path: Path, side: int) -> bytes:
    """A photo of any depth as a JPEG file with no side longer than `side`.

    One thread decodes all, so that memory does not grow with the number of requests: threads keep what they once had.
    """
    return _PHOTOS.submit(lambda: frame_jpeg(io.read_image(path), side)).result()


def small_mask(path: Path, size: tuple[int, int]) -> bytes:
    """A mask at this size, a PNG of 0 and 255. Raises Problem if there is none."""
    if not path.is_file():
        raise Problem("there is no such mask", 404)
    with Image.open(path, formats=("PNG",)) as image:
        return png(image.convert("L").resize(size, Image.Resampling.NEAREST))


def small_jpeg(path: Path, side: int) -> bytes:
    """A picture of this machine's own making, smaller; a JPEG is decoded at no more than it needs."""
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        size = limited(image.size, side)
        image.draft("RGB", size)
        return jpeg(image.resize(size, Image.Resampling.BOX if max(size) < 200 else Image.Resampling.LANCZOS))


def read_mark(data: bytes, sizes: list[tuple[int, int]]) -> Image.Image:
    """A painted mask, in which white and opaque is the object, as an image L, 0 or 255, at the last of the sizes.

    Raises Problem for what is no PNG, or of none of these sizes (width, height), before anything is decoded.
    """
    try:
        with Image.open(streams.BytesIO(data), formats=("PNG",)) as image:
            if image.size not in sizes:
                expected = " or ".join(f"{width}x{height}" for width, height in dict.fromkeys(sizes))
                raise Problem(f"the mask is {image.width}x{image.height}, expected {expected}")
            pixels = np.asarray(image.convert("RGBA")).astype(np.uint16)
    except Problem:
        raise
    except Exception as error:  # a damaged file can make the decoder raise anything
        raise Problem(f"the mask is no picture that can be read: {io.reason(error)}") from None
    marked = (pixels[..., :3].max(axis=2) * pixels[..., 3] > 127 * 255).astype(np.uint8) * 255
    return Image.fromarray(marked).resize(sizes[-1], Image.Resampling.NEAREST)


def small_frames(video: VideoSource, start: int) -> Iterator[np.ndarray]:
    """The frames from number `start` on, uint8 (h, w, 3), at the size of proxies. Those of a file are reduced before
    they become RGB, which takes a third of the time.
    """
    size = limited((video.width, video.height), SIDE)
    if isinstance(video, VideoFile):
        width, height = size[::-1] if video.orientation.swap else size
        for picture in video.pictures(start):
            small = picture.reformat(width=width, height=height, interpolation="AREA")
            yield video.orientation.upright(video.colour.to_rgb(small))
    else:
        for frame in video.frames(start):
            yield np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX, reducing_gap=2))


class Reader:
    """Frames of videos one by one, for what has no proxy yet. The decoder of the last video is kept for the frames that
    follow. One frame is decoded at a time, so memory does not grow with the number of requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: str | None = None
        self._video: VideoSource | None = None
        self._frames: Iterator[np.ndarray] | None = None
        self._small, self._next = False, 0

    def keep(self, key: str, video: VideoSource) -> None:
        """Takes over a video that is open already."""
        with self._lock:
            self._drop()
            self._key, self._video = key, video

    def close(self) -> None:
        """Releases the last video."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._key = self._video = self._frames = None
        self._small, self._next = False, 0

    def frame(self, open_video: Callable[[], VideoSource], key: str, number: int, *, small: bool = False) -> np.ndarray:
        """uint8 (H, W, 3), or at the size of proxies. open_video: opens what `key` names. Raises Problem if the frame
        cannot be read.
        """
        with self._lock:
            try:
                if key != self._key:
                    self._drop()
                    self._video, self._key = open_video(), key
                if self._frames is None or small != self._small or not self._next <= number < self._next + AHEAD:
                    self._frames = small_frames(self._video, number) if small else self._video.frames(number)
                    self._small, self._next = small, number
                while self._next <= number:
                    frame, self._next = next(self._frames), self._next + 1
                return frame
            except (InputError, StopIteration) as error:
                self._drop()
                raise Problem(f"frame {number} cannot be read: {io.reason(error)}", 404) from None


def slice_through_time(frame_of: Callable[[int], Path | None], count: int, position: float, height: int) -> bytes:
    """A PNG: the column of every frame at `position` (0 to 1), from left to right; of long videos, of as many frames
    as `LONGEST`, evenly. frame_of: the JPEG of a frame, None while there is none, which is grey.
    """
    numbers = np.unique(np.linspace(0, count - 1, min(count, LONGEST)).round().astype(int)).tolist()
    columns = np.full((height, len(numbers), 3), 128, np.uint8)
    for place, number in enumerate(numbers):
        if path := frame_of(number):
            with Image.open(path, formats=("JPEG",)) as image:
                column = min(int(position * image.width), image.width - 1)
                strip = image.convert("RGB").crop((column, 0, column + 1, image.height))
                columns[:, place] = np.asarray(strip.resize((1, height)))[:, 0]
    return png(Image.fromarray(columns))
