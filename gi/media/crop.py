"""The crop of a picture that a network sees, and the size it is resized to."""
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from gi.errors import InputError

MIN_SIDE = 32  # the deepest encoder halves four times and then needs more than one pixel


class Box(NamedTuple):
    """A rectangle of pixels: rows top … bottom - 1, columns left … right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, mask: np.ndarray) -> "Box | None":
        """The bounding box of a mask (H, W); None if it is all 0."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return cls(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else None

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def of(self, array: np.ndarray) -> np.ndarray:
        return array[self.top : self.bottom, self.left : self.right]


def context_box(mask: np.ndarray, side: int, times: float = 2) -> Box:
    """A square around the hole of a mask (H, W), or around the middle without one, limited to the picture; its side is
    at least `side`, and `times` that of the hole. With 2, the hole covers a quarter at most, about as in training.
    """
    middle = [size // 2 for size in mask.shape]
    hole = Box.around(mask) or Box(*middle, *middle)
    spans = (hole.top, hole.bottom), (hole.left, hole.right)
    length = max(side, *(round(times * size) for size in hole.size))
    height, width = (min(length, size) for size in mask.shape)
    top, left = (min(max((start + end - length) // 2, 0), whole - length)
                 for (start, end), length, whole in zip(spans, (height, width), mask.shape, strict=True))
    return Box(top, left, top + height, left + width)


def resize_known(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`image` (H, W, C), emptied in its hole, and `mask` (H, W) at `size` = (height, width).

    A pixel that any missing pixel contributes to is missing, so that known pixels do not depend on the hole.
    """
    image = np.where(mask[..., None], 0, image).astype(image.dtype) if mask.any() else image
    if mask.shape == tuple(size):
        return image, mask
    return resize(image, size, cv2.INTER_AREA), resize(mask.astype(np.float32), size, cv2.INTER_AREA) > 0


def fit_known(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """As `resize_known`, without stretching: an image of other proportions is centred, as large as fits into `size`,
    and the margins at two sides are missing.
    """
    factor = min(new / old for new, old in zip(size, mask.shape, strict=True))
    inner = tuple(max(1, round(old * factor)) for old in mask.shape)
    if all(new - side <= 1 for new, side in zip(size, inner, strict=True)):  # the same proportions, but for rounding
        return resize_known(image, mask, size)
    image, mask = resize_known(image, mask, inner)
    margins = [((new - side) // 2, new - side - (new - side) // 2)
               for new, side in zip(size, inner, strict=True)]
    return np.pad(image, [*margins, (0, 0)]), np.pad(mask, margins, constant_values=True)


def limited(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) with the same proportions and no side longer than `side`."""
    scale = min(1, side / max(size))
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def working_size(size: tuple[int, int], *, max_side: int | None, resize: Sequence[int] | None) -> tuple[int, int]:
    """(height, width) to work at, for frames of `size`. Raises InputError for one that is no size."""
    if resize is None:
        return size if max_side is None else limited(size, max_side)
    if len(resize) != 2 or min(resize) < 8:
        raise InputError(f"resize: expected width and height of 8 pixels or more, got {resize}")
    return resize[1], resize[0]


def resize(array: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """`cv2.resize` of (H, W) or (H, W, C) to `size` = (height, width)."""
    if array.shape[:2] == tuple(size):
        return array
    return cv2.resize(np.ascontiguousarray(array), (size[1], size[0]), interpolation=interpolation)
