"""Masks of a video: a video, a folder of images, or one image for all frames."""
import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from gi.errors import InputError
from gi.media import container, io
from gi.media.files import VideoFile, VideoFolder, check_numbers, open_video
from gi.media.mask_values import Levels, MaskRule, levels_of_array, levels_of_image
from gi.media.scale import video_pixels
from gi.media.source import VideoSource

# Object masks are tight: soft edges, motion blur and compression carry the object's colours further, this many pixels
# at 432 x 240.
DILATE = 4
_LOSSLESS = ("ffv1", "png", "apng", "rawvideo", "qtrle", "huffyuv", "ffvhuff", "utvideo")  # codecs


class MaskSource(VideoSource):
    """As `VideoSource`, but `frames` gives uint8 (H, W), 1 = missing; count, size and times are the video's.

    The constructor reads all masks once. rule: how their values are understood.
    """

    def __init__(self, path: Path, source: VideoSource | None, video: VideoSource, dilate: int):
        super().__init__(path)
        self._source, self._dilate = source, dilate
        self.order: str | None = None  # a remark on the numbers of the masks
        self.count, self.width, self.height = video.count, video.width, video.height
        self.rate, self.aspect, self.times, self.time_base = video.rate, video.aspect, video.times, video.time_base
        self.rule, brightest = MaskRule(), path
        self._lossy = isinstance(source, VideoFile) and not _is_lossless(path)
        for number, levels in self._read(range(1 if source is None else self.count)):
            if levels.values.max(initial=0) > self.rule.top and isinstance(source, VideoFolder):
                brightest = source.files[number]
            self.rule.look(levels)
        if self.rule.unclear:
            raise InputError(f"{brightest}: {self.rule.unclear}")

    @property
    def remark(self) -> str:
        """What was read, in one line: "masks: 12 % missing, label 1; nothing in 3 of 20"."""
        rule = self.rule
        counts = [f"{content} in {count} of {rule.total}" for content, count in (("nothing", rule.empty),
                  ("everything", rule.full)) if 0 < count < rule.total]
        return "; ".join([f"{self.path}: {rule.remark}", *counts, *filter(None, [self.order])])

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        for number, levels in self._read(range(self.count)[start:stop]):
            if levels.values.shape != (self.height, self.width):
                raise InputError(f"{self.path}: mask {number} has another size than when the folder was opened")
            yield grow(self.rule.read(levels), self._dilate)

    def fingerprint(self) -> str:
        """Changes with the content, and with how far the masks are grown."""
        content = self._source.fingerprint() if self._source else super().fingerprint()
        return hashlib.sha256(f"{content} {self._dilate}".encode()).hexdigest()

    def check_unchanged(self) -> None:
        """As that of a `VideoSource`."""
        super().check_unchanged()
        if self._source is not None:
            self._source.check_unchanged()

    def _read(self, requested: range) -> Iterator[tuple[int, Levels]]:  # type: ignore[override]  # `frames` reads them
        if self._source is None:
            levels = io.inspect_image(self.path, levels_of_image)
            yield from ((number, levels) for number in requested)
        elif isinstance(self._source, VideoFolder):
            yield from ((number, io.inspect_image(self._source.files[number], levels_of_image)) for number in requested)
        else:
            for number, frame in zip(requested, self._source.frames(requested.start, requested.stop), strict=True):
                yield number, levels_of_array(frame, str(self.path))._replace(lossy=self._lossy)


def open_masks(path: str | Path, video: VideoSource, *, dilate: int | None = None, ending: str = "") -> MaskSource:
    """Masks for the frames of `video`: a video or a folder with as many, or one image for all of them.

    The rule of `gi.media.mask_values`, decided over all masks, tells what is missing. Then missing regions grow by
    `dilate` pixels in all directions, by default `DILATE` at 432 x 240. ending: of the names in a folder that are used.

    Raises InputError as `open_video`; if number, numbering or size differ from the video's; if `dilate` is negative; if
    a video or lossy image never reaches half white without being black.
    """
    path = Path(path)
    if dilate is None:
        dilate = round(video_pixels(DILATE, (video.height, video.width)))
    if dilate < 0:
        raise InputError(f"masks cannot grow by {dilate} pixels, expected 0 or more")
    if path.is_file() and path.suffix.lower() in io.SUFFIXES:
        source, (width, height) = None, io.read_size(path)
        if (pictures := io.inspect_image(path, lambda image: getattr(image, "n_frames", 1))) > 1:
            raise InputError(f"{path}: has {pictures} pictures, expected one for all frames, a video or a folder")
    else:
        source = VideoFolder(path, ending) if ending else open_video(path)
        width, height = source.width, source.height
    if (width, height) != (video.width, video.height):
        size = f"{video.width}x{video.height} as {video.path}"
        raise InputError(f"{path}: masks have {width}x{height} pixels, expected {size}")
    if source is not None and source.count != video.count:
        raise InputError(f"{path}: {source.count} masks, expected {video.count}, one for each frame of {video.path}")
    order = check_numbers(source, video)
    masks = MaskSource(path, source, video, dilate)
    masks.order = order
    return masks


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Adds to a mask, uint8 (H, W), every pixel at most `pixels` away from it (Euclidean), however many those are."""
    if not pixels or not mask.any():
        return mask
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= pixels + 1e-3).astype(np.uint8)


def _is_lossless(path: Path) -> bool:
    with container.opened(path) as (_, stream):
        return stream.codec_context.name in _LOSSLESS
