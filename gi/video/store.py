"""Fills of a part of a video on disk: a npz file with, for each frame, the pixels that its hole needs."""
import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media import io
from gi.media.crop import Box

_MARGIN = 4  # pixels around a hole that enlarging its content looks at


@contextlib.contextmanager
def write_part(path: Path) -> Iterator[Callable[[int, np.ndarray, Box, tuple[int, int]], None]]:
    """Gives keep(number, fill, hole, size); the file is at `path` when all of it is there.

    fill: uint8 (h, w, 3); hole: its box in pixels of the frame, whose (height, width) is `size`. Raises OSError, naming
    the file, if it cannot be written (a full disk).
    """
    with _errors_named(path), io.atomic_write(path, durable=True) as temporary, \
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        def keep(number: int, fill: np.ndarray, hole: Box, size: tuple[int, int]) -> None:
            scale = [inner / outer for inner, outer in zip(fill.shape[:2], size, strict=True)] * 2
            top, left, bottom, right = (side * factor for side, factor in zip(hole, scale, strict=True))
            box = Box(max(0, math.floor(top) - _MARGIN), max(0, math.floor(left) - _MARGIN),
                      math.ceil(bottom) + _MARGIN, math.ceil(right) + _MARGIN)
            place = np.array([box.top, box.left, *fill.shape[:2]])
            for name, array in (("fill", box.of(fill)), ("place", place)):
                with file.open(f"{name}_{number}.npy", "w") as entry:
                    np.save(entry, array, allow_pickle=False)

        yield keep


@contextlib.contextmanager
def read_part(path: Path) -> Iterator[Callable[[int], np.ndarray]]:
    """Gives a function from a frame's number to its fill, uint8 (h, w, 3), 0 away from the hole.

    Raises InputError, also from the function, if the file is missing or damaged.
    """
    with _damage_named(path):
        arrays = np.load(path, allow_pickle=False)

    def fill_of(number: int) -> np.ndarray:
        with _damage_named(path):
            part, (top, left, height, width) = arrays[f"fill_{number}"], arrays[f"place_{number}"]
            fill = np.zeros((height, width, 3), np.uint8)
            fill[top:top + part.shape[0], left:left + part.shape[1]] = part
            return fill

    with arrays:
        yield fill_of


@contextlib.contextmanager
def _errors_named(path):
    try:
        yield
    except OSError as error:
        if error.filename is None and error.strerror:
            raise OSError(f"{path}: cannot keep this chunk: {error.strerror}") from error
        raise


@contextlib.contextmanager
def _damage_named(path):
    try:
        yield
    except Exception as error:  # zip files can be damaged in many ways
        raise InputError(f"{path}: cannot read this finished chunk ({error}); delete the file and run again") from error
