"""Writes masks of a video: a folder of PNG files, 0 and 255, or a video file, and an overlay video for viewing."""
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from gi.errors import InputError
from gi.media import writer
from gi.media.frame_folder import write_folder
from gi.media.source import VideoSource

COLOUR, LINE = (255, 40, 40), (255, 255, 0)
SHARE = 0.45  # of the colour over the object


class _Masks(VideoSource):
    """The properties of a video of masks: those of the frames, but upright, without sound and colours."""

    def __init__(self, video: VideoSource):
        super().__init__(Path(os.devnull))  # no file that sound could come from, nor a folder that results lie in
        self.width, self.height, self.count, self.aspect = video.width, video.height, video.count, video.aspect
        self.rate, self.times, self.time_base = video.rate, video.times, video.time_base
        self.files = [Path(path.name) for path in getattr(video, "files", ())] or \
            [Path(f"{number:06d}") for number in range(video.count)]

    def _read(self, requested: range) -> Iterator[tuple[int, np.ndarray]]:
        raise NotImplementedError


def check_output(out: Path, video: VideoSource, overlay: str | Path | None) -> None:
    """Raises InputError unless both can be written, see `gi.media.writer.check_output`."""
    writer.check_output(out, video)
    if overlay is not None:
        writer.check_output(overlay, video)
        if Path(overlay).resolve() == out.resolve():
            raise InputError(f"{overlay}: is the name of the masks as well, expected another one")


@contextlib.contextmanager
def open_output(out: Path, video: VideoSource, overlay: str | Path | None) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that takes the masks of all frames in order, uint8 (H, W), 1 = object.

    Images are named as those of `video`, or 000000.png and so on; files are lossless, except webm. Both results are
    there completely or not at all.
    """
    with contextlib.ExitStack() as stack:
        masks = _Masks(video)
        number = 0
        if writer.is_file(out):
            lossless = stack.enter_context(writer.open_writer(out, masks, quality=0)).write
        else:
            put = stack.enter_context(write_folder(out, masks, 0, None))
        film = stack.enter_context(writer.open_writer(overlay, video)).write if overlay is not None else None
        frames = video.frames() if film else None

        def write(mask: np.ndarray) -> None:
            nonlocal number
            if writer.is_file(out):
                lossless(np.repeat(255 * mask[..., None], 3, axis=2))
            else:
                put(number, 255 * mask)
            if film and frames:
                film(laid_over(next(frames), mask))
            number += 1

        yield write


def laid_over(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`frame`, uint8 (H, W, 3), with the object coloured and its outline drawn."""
    result, inside = frame.copy(), mask > 0
    result[inside] = ((1 - SHARE) * frame[inside] + SHARE * np.array(COLOUR)).round()
    outlines, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(result, outlines, -1, LINE, max(1, round(max(mask.shape) / 640)))
