"""The frames of a video as the network sees them: at the working size, without a hole where they are given, in windows.
"""
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from gi.media import io
from gi.media.crop import resize, resize_known


class Item(NamedTuple):
    """A frame at the working size: picture uint8 (h, w, 3); hole bool (h, w), empty if it was given."""

    number: int
    picture: np.ndarray
    hole: np.ndarray


class WorkingFrames:
    """The frames of one video, for windows.

    Args:
        size: from (height, width) of the frames to those of the working size.
        edited: frames edited by hand, by their number, uint8 (H, W, 3).
        folder: where results of frames are kept for later clips, to which they are given.
    """

    def __init__(self, size: Callable[[tuple[int, int]], tuple[int, int]], edited: Mapping[int, np.ndarray],
                 folder: Path):
        self.size, self.edited, self.folder = size, edited, folder

    def items(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]], first: int, known: Container[int] = (),
              selected: Container[int] | None = None) -> Iterator[Item]:
        """Items for frames uint8 (H, W, 3) and masks uint8 (H, W) from number `first` on, those `selected` (None: all).

        known: those that are whole, as they have been kept, or nothing is missing in them.
        """
        for number, (frame, mask) in enumerate(pairs, first):
            if selected is None or number in selected:
                size = self.size(frame.shape[:2])
                if number in self.edited:
                    picture, hole = resize(self.edited[number], size, cv2.INTER_AREA), np.zeros(size, bool)
                else:
                    picture, hole = resize_known(frame, mask != 0, size)
                    if number in known and hole.any():
                        picture, hole = io.read_image(self._path(number)), np.zeros(size, bool)
                yield Item(number, picture, hole)

    def keep(self, number: int, picture: np.ndarray) -> None:
        """Keeps the result of a frame, uint8 (h, w, 3), for clips that it is given to."""
        io.write_image(self._path(number), picture)

    def _path(self, number):
        return self.folder / f"anchor_{number:06d}.png"


def in_windows(items: Iterator[Item], bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[Item]]]:
    """(which, its items) of windows, given as (start, stop) in order; what no later one needs is not kept."""
    held: list[Item] = []
    for which, (start, stop) in enumerate(bounds):
        held = [item for item in held if item.number >= start]
        while not held or held[-1].number < stop - 1:
            item = next(items)
            if item.number >= start:
                held.append(item)
        yield which, [item for item in held if item.number < stop]


def stacked(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (F, h, w, 3) and holes bool (F, h, w)."""
    return np.stack([item.picture for item in items]), np.stack([item.hole for item in items])
