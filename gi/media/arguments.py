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
    """uint8 (H, W) each, 1 = missing, by the rule of `gi.media.mask_values`: decided over all masks of a list, or for
    other iterables over those so far.

    Raises InputError, naming the mask, if it cannot be read, or shows that earlier ones were misread.
    """
    rule, masks = MaskRule(), _several(masks, "masks", 3)
    if isinstance(masks, Sequence):
        for number, mask in enumerate(masks):
            rule.look(mask_levels(mask, f"mask {number}"))
    for number, mask in enumerate(masks):
        levels = mask_levels(mask, f"mask {number}")
        if not isinstance(masks, Sequence) and rule.look(levels):
            raise InputError(f"mask {number}: has values up to {rule.top}, by which those before it were misread; "
                             "give all masks in a list, or as 0 and 255")
        if rule.unclear:
            raise InputError(f"mask {number}: {rule.unclear}")
        yield rule.read(levels)


def matched(frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], edited: Mapping[int, np.ndarray], *,
            first: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame (H, W, 3) with its mask (H, W), as they come; the first ones have the number `first`.

    Raises InputError, naming the frame, unless all frames are uint8, of one size, which their masks and the edited
    frames have too, and are as many as the masks, at least one, and more than the numbers of the edited ones.
    """
    frames, masks, size, number = iter(frames), iter(masks), None, first
    while (frame := next(frames, None)) is not None and (mask := next(masks, None)) is not None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"frame {number}: expected uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        if size is None:
            size = frame.shape[:2]
            check_edited(edited, size=size)
        if frame.shape[:2] != size:
            raise InputError(f"frame {number}: {_size(frame)}, but the first one is {size[1]}x{size[0]}")
        if mask.shape != size:
            raise InputError(f"mask {number}: {_size(mask)}, but its frame is {_size(frame)}")
        yield frame, mask
        number += 1
    if frame is not None or next(masks, None) is not None:
        short, long = ("frames", "masks") if frame is None else ("masks", "frames")
        raise InputError(f"{number} {short}, but more {long}: expected as many masks as frames")
    if size is None:
        raise InputError("the video has no frames")
    check_edited(edited, count=number)


def check_edited(edited: Mapping[int, np.ndarray], *, size: tuple[int, int] | None = None,
                 count: int | None = None) -> None:
    """Raises InputError, naming the frame, unless all are of a (height, width), and of a video of `count` frames."""
    for number, image in edited.items():
        if count is not None and number not in range(count):
            raise InputError(f"edited frame {number}: the video has frames 0 to {count - 1}")
        if size is not None and image.shape != (*size, 3):
            raise InputError(f"edited frame {number}: {_size(image)}, but the video is {size[1]}x{size[0]}")


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
            raise InputError(f"edited: {number!r} is not a frame number, expected {{number: frame}}")
    return {int(number): frame_of(frame, f"edited frame {number}") for number, frame in edited.items()}


def _size(array):
    return f"{array.shape[1]}x{array.shape[0]}"


def _several(items, name: str, dimensions: int):
    """The items, a list if they are one array with a dimension more than a picture has."""
    if isinstance(items, (Image.Image, str, Path)) or not hasattr(items, "__iter__"):
        raise InputError(f"{name}: is a {type(items).__name__}, expected pictures one after the other")
    if (shape := getattr(items, "shape", None)) is not None:
        if len(shape) < dimensions:
            raise InputError(f"{name}: is one array {tuple(shape)}, expected one for each frame")
        return list(items)
    return items
