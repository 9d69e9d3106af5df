"""The frames of one video and their masks at the working size, held once."""
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from gi.errors import InputError
from gi.media.crop import resize, resize_known

BUDGET = 2**30  # bytes in memory; a larger shot is kept on disk


class Shot:
    """frames: uint8 (N, H, W, 3); masks: uint8 (N, H, W), 1 = missing. Four bytes a pixel and frame.

    Raises InputError if there is no frame with a known pixel.
    """

    def __init__(self, frames: np.ndarray, masks: np.ndarray):
        self.frames, self.masks = frames, masks
        share = np.array([mask.mean() for _, mask in self.each_mask()])
        self.known = np.flatnonzero(share < 1)  # numbers of frames with known pixels
        self.holes = np.flatnonzero((share > 0) & (share < 1))  # and of those with a hole
        if not len(self.known):
            raise InputError("the masks cover every frame wholly, so there is nothing to learn from")

    @classmethod
    def read(cls, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, count: int, size: tuple[int, int],
             folder: Path, budget: int = BUDGET, antialias: bool = True) -> "Shot":
        """Reduces `count` frames (H, W, 3) and masks (H, W) to `size` = (height, width).

        A shot of more than `budget` bytes becomes files in `folder`, mapped into memory. antialias: without it, frames
        are sampled bilinearly, as the release does. In both cases a pixel that a missing one contributes to is missing.
        """
        shapes = (count, *size, 3), (count, *size)
        if 4 * count * size[0] * size[1] > budget:
            stored = [mapped(folder / f"{name}.npy", shape)
                      for name, shape in zip(("frames", "masks"), shapes, strict=True)]
        else:
            stored = [np.empty(shape, np.uint8) for shape in shapes]
        reduce = resize_known if antialias else sample_known
        for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            stored[0][number], stored[1][number] = reduce(frame, mask != 0, size)
            _release(*stored)
        return cls(*stored)

    def __len__(self) -> int:
        return len(self.frames)

    def expect_holes(self) -> None:
        """Raises InputError if no frame has a hole and known pixels."""
        if not len(self.holes):
            raise InputError("the masks mark nothing, or whole frames: there is no hole to move over known pixels")

    def each_mask(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number, mask) of all frames, without keeping mapped ones in memory."""
        for number, mask in enumerate(self.masks):
            yield number, mask
            self.release()

    def release(self) -> None:
        """Lets the system drop what was read of a shot in files; it is read again on demand."""
        _release(self.frames, self.masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape[1:3]


def mapped(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new file of uint8, mapped into memory, whose room on the disk is taken at once where the system can do that.

    On a disk that is full later, the first access to a page would end the process. Raises OSError that names the file.
    """
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def _release(*arrays):
    for array in arrays:
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            array._mmap.madvise(mmap.MADV_DONTNEED)  # shared: what was written stays


def sample_known(frame: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`resize_known` as the release does it: bilinear, pixels at their centres, without antialiasing."""
    frame, mask = (resize(x.astype(np.float32), size, cv2.INTER_LINEAR) for x in (frame, mask))
    return np.where(mask[..., None] > 0, 0, frame.round()).astype(np.uint8), mask > 0
