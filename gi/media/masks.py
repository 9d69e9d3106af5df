"""Masks of a video: a video, a folder of images, or one image for all frames."""
import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from gi.errors import InputError
from gi.media import io
from gi.media.files import VideoFile, VideoFolder, open_video
from gi.media.scale import video_pixels
from gi.media.source import VideoSource

# Object masks are tight: soft edges, motion blur and compression carry the object's colours further, this many pixels
# at 432 x 240.
DILATE = 4
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


class MaskSource(VideoSource):
    """As `VideoSource`, but `frames` gives uint8 (H, W), 1 = missing; what is not about size is as in the video."""

    def __init__(self, path: Path, source: VideoSource | None, video: VideoSource, dilate: int):
        super().__init__(path)
        self._source, self._dilate = source, dilate
        self.count, self.width, self.height = video.count, video.width, video.height
        self.rate, self.aspect, self.times, self.time_base = video.rate, video.aspect, video.times, video.time_base
        self._threshold = self._find_threshold()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        for number, values in self._read(range(self.count)[start:stop]):
            if values.shape != (self.height, self.width):
                raise InputError(f"{self.path}: mask {number} has another size than when the folder was opened")
            yield grow((values >= self._threshold).astype(np.uint8), self._dilate)

    def fingerprint(self) -> str:
        """Changes with the content, and with how far the masks are grown."""
        content = self._source.fingerprint() if self._source else super().fingerprint()
        return hashlib.sha256(f"{content} {self._dilate}".encode()).hexdigest()

    def check_unchanged(self) -> None:
        """As that of a `VideoSource`."""
        super().check_unchanged()
        if self._source is not None:
            self._source.check_unchanged()

    def _read(self, wanted: range) -> Iterator[tuple[int, np.ndarray]]:
        """Values 0 … 255, as `_values` has them."""
        if self._source is None:
            values = io.look_at(self.path, _values)
            yield from ((number, values) for number in wanted)
        elif isinstance(self._source, VideoFolder):
            yield from ((number, io.look_at(self._source.files[number], _values)) for number in wanted)
        else:
            for number, frame in zip(wanted, self._source.frames(wanted.start, wanted.stop), strict=True):
                yield number, frame.max(axis=2)

    def _find_threshold(self) -> int:
        """128, or 1 where no mask reaches that: then they number objects, or are 0 and 1."""
        brightest, where = 0, self.path
        for number, values in self._read(range(1 if self._source is None else self.count)):
            largest = int(values.max())
            if largest >= 128:  # nearly always in the first mask
                return 128
            if largest > brightest:
                brightest = largest
                where = self._source.files[number] if isinstance(self._source, VideoFolder) else self.path
        if brightest and (isinstance(self._source, VideoFile) or where.suffix.lower() not in _LOSSLESS):
            raise InputError(f"{where}: the brightest mask pixel is {brightest}, expected 255 where pixels are missing")
        return 1 if brightest else 128


def open_masks(path: str | Path, video: VideoSource, *, dilate: int | None = None) -> MaskSource:
    """Masks for the frames of `video`: a video or a folder with as many, or one image for all of them.

    Missing is what is at least half white (the largest of the channels is at least 128); of a palette with colours,
    every index but 0; and if no image of a folder reaches half white (numbered objects, 0 and 1), whatever is not 0.
    Then missing regions grow by `dilate` pixels in all directions, by default `DILATE` at 432 x 240.

    Raises InputError as `open_video`; if number or size differ from the video's; if `dilate` is negative; if a video or
    lossy image never reaches half white without being black.
    """
    path = Path(path)
    if dilate is None:
        dilate = round(video_pixels(DILATE, (video.height, video.width)))
    if dilate < 0:
        raise InputError(f"masks cannot grow by {dilate} pixels, expected 0 or more")
    if path.is_file() and path.suffix.lower() in io.SUFFIXES:
        source, (width, height) = None, io.read_size(path)
    else:
        source = open_video(path)
        width, height = source.width, source.height
    if (width, height) != (video.width, video.height):
        size = f"{video.width}x{video.height} as {video.path}"
        raise InputError(f"{path}: masks have {width}x{height} pixels, expected {size}")
    if source is not None and source.count != video.count:
        raise InputError(f"{path}: {source.count} masks, expected {video.count}, one for each frame of {video.path}")
    return MaskSource(path, source, video, dilate)


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Adds to a mask, uint8 (H, W), every pixel at most `pixels` away from it (Euclidean), however many those are."""
    if not pixels or not mask.any():
        return mask
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= pixels + 1e-3).astype(np.uint8)


def _values(image: Image.Image) -> np.ndarray:
    """uint8 (H, W): 128 and more is missing; what is darker, but not 0, may be."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA"):
        indices = np.asarray(image.getchannel(0) if image.mode == "PA" else image)
        colours = np.asarray(image.convert("RGB"))
        grey = (colours == colours[..., :1]).all()
        return colours[..., 0] if grey else 255 * (indices > 0).astype(np.uint8)
    if image.mode[:1] in "IF":  # 16 and more bits
        values = np.asarray(image)
        return np.where(values >= 32768, 255, values > 0).astype(np.uint8)
    return np.asarray(image.convert("RGB")).max(axis=2)
