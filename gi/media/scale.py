"""Lengths in pixels that mean the same in images of every size.

There is one measure of size, the longer side: `max_side` limits it, and it does not change when the black bars of a
film are cropped, as motion does not.
"""
from collections.abc import Sequence

PHOTO_SIDE = 256  # networks are trained at 256 x 256
VIDEO_SIDE = 432  # the paper's videos have 432 x 240


def scale(size: Sequence[int], side: int) -> float:
    """How many times `side` the longer side of an image of `size` = (height, width) is."""
    return max(size) / side


def video_pixels(length: float, size: Sequence[int]) -> float:
    """`length` in pixels at 432 x 240 in pixels of an image of `size` = (height, width).

    Smaller images keep the length: masks and estimates of motion are no more precise than the grid they are made on.
    """
    return length * max(1.0, scale(size, VIDEO_SIDE))
