"""Keeps known samples of videos with 10 or more bits, although frames are processed with 8: only changed pixels are
written.
"""
import contextlib
from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np

from gi.media.colour import planes_of
from gi.media.source import VideoSource


@contextlib.contextmanager
def keep_samples(video: VideoSource, form: str) -> Iterator[Callable[[np.ndarray, av.VideoFrame], None]]:
    """Gives a function that is called for each frame of `video` (a `gi.media.files.VideoFile`) in order, with its
    pixels as they are stored, uint8 (H, W, 3), and their picture of the planar format `form`. Where the pixels are
    those that the file has been read as, the picture gets the file's own samples back.
    """
    with contextlib.closing(video.pictures()) as pictures:
        def keep(pixels: np.ndarray, picture: av.VideoFrame) -> None:
            source = next(pictures)
            changed = (video.colour.to_rgb(source) != pixels).any(axis=2).astype(np.uint8)
            for new, old in zip(planes_of(picture), planes_of(video.colour.convert(source, form)), strict=True):
                # A chroma sample belongs to all the pixels around it that it colours.
                touched = changed
                if new.shape != changed.shape:
                    touched = cv2.resize(cv2.dilate(changed, np.ones((5, 5), np.uint8)), new.shape[::-1],
                                         interpolation=cv2.INTER_NEAREST)
                new[touched == 0] = old[touched == 0]

        yield keep
