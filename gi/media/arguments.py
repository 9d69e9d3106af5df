"""Frames and masks of a video as they come from Python: arrays, tensors or PIL images, in lists or from iterators."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gi.errors import InputError
from gi.media.io import to_rgb
from gi.media.mask_values import MaskRule
from gi.media.photos import mask_levels, pixels_of


def frames_of(frames: Iterable) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3) each. Raises InputError, naming the frame, for other depths, and for one picture alone."""
    for number, frame in enumerate(_several(frames, "frames", 4)):
        yield frame_of(frame, f"frame {number}")


def frame_of(frame: np.ndarray | Image.Image, name: str) -> np.ndarray:
    """uint8 (H, W, 3) of an array, or a PIL image of 8 bits. Raises InputError, naming it, for something else."""
    pixels = to_rgb(pixels_of(frame, name))
    if pixels.dtype != np.uint8:
        raise InputError(f"{name}: expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
    return pixels


def masks_of(masks: Iterable) -> Iterator[np.ndarray]:
    """uint8 (H, W) each, 1 = missing, by the rule of `gi.media.mask_values`: decided over all that are in a list, else
    over those that have come.

    Raises InputError, naming the mask, for what no mask is, and for one that shows that those before it were misread.
    """
    rule, masks = MaskRule(), _several(masks, "masks", 3)
    if isinstance(masks, Sequence):
        for number, mask in enumerate(masks):
            rule.look(mask_levels(mask, f"mask {number}"))
    for number, mask in enumerate(masks):
        levels = mask_levels(mask, f"mask {number}")
        if not isinstance(masks, Sequence) and rule.look(levels):
            raise InputError(f"mask {number}: has values up to {rule.top}, by which those before it are to be read in "
                             "another way; give all masks in a list, or as 0 and 255")
        if rule.unclear:
            raise InputError(f"mask {number}: {rule.unclear}")
        yield rule.read(levels)


def edited_of(edited: Mapping[int, Any] | Sequence | None) -> dict[int, np.ndarray]:
    """{number: uint8 (H, W, 3)} of a mapping, or of a list whose entries are those of frames 0, 1 … or None. Raises
    InputError for something else, naming the frame.
    """
    if edited is None:
        return {}
    if not isinstance(edited, Mapping):
        edited = {number: frame for number, frame in enumerate(_several(edited, "edited", 4)) if frame is not None}
    for number in edited:
        if not isinstance(number, Integral) or number < 0:
            raise InputError(f"edited: {number!r} is no number of a frame, expected {{number: frame}}")
    return {int(number): frame_of(frame, f"edited frame {number}") for number, frame in edited.items()}


def _several(items, name: str, dimensions: int):
    """The items, a list if they are one array with a dimension more than a picture has."""
    if isinstance(items, (Image.Image, str, Path)) or not hasattr(items, "__iter__"):
        raise InputError(f"{name}: is a {type(items).__name__}, expected pictures one after the other")
    if (shape := getattr(items, "shape", None)) is not None:
        if len(shape) < dimensions:
            raise InputError(f"{name}: is one array {tuple(shape)}, expected one for each frame")
        return list(items)
    return items
