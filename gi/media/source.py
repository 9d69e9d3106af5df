"""The interface of a video for all code that reads, fills, scores or writes one: frames in order, and how they are
stored.
"""
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media.colour import HD, Colour
from gi.media.orientation import Orientation

FOLDER_RATE = Fraction(25)  # of frames without a rate of their own


class VideoSource(ABC):
    """Frames of one size, as a player shows them.

    path; width, height: pixels; count: frames; rate: frames a second, on average; aspect: width by height of a pixel.
    times: when each frame is shown, in units of `time_base` seconds, strictly increasing.
    colour, turn: how the frames are stored, for writing them in the same way.
    remarks: properties of the source that no result keeps.
    """

    path: Path
    width: int
    height: int
    count: int
    rate: Fraction = FOLDER_RATE
    aspect: Fraction = Fraction(1)
    times: Sequence[int]
    time_base: Fraction = 1 / FOLDER_RATE
    colour: Colour = HD
    orientation: Orientation = Orientation()
    remarks: Sequence[str] = ()

    def __init__(self, path: Path):
        self.path = path
        self._fingerprint: str | None = None
        self._state: list | None = None

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start … stop - 1 (as in a slice), uint8 (H, W, 3) RGB, in constant memory. Iterators are independent.

        Raises InputError, naming the file and the frame, if that is damaged or of another size, or the file ends early.
        """
        for number, frame in self._read(range(self.count)[start:stop]):
            if frame.shape[:2] != (self.height, self.width):
                size = f"{frame.shape[1]}x{frame.shape[0]}"
                raise InputError(f"{self.path}: frame {number} has {size} pixels, expected {self.width}x{self.height}")
            yield frame

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the content, whatever the files are called; it is computed once."""
        if self._fingerprint is None:
            digest, self._state = hashlib.sha256(), self._stat()
            for path in self._files():
                digest.update(f"{path.stat().st_size}\0".encode())
                with open(path, "rb") as file:
                    while block := file.read(2**20):
                        digest.update(block)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def check_unchanged(self) -> None:
        """Raises InputError, naming it, if a file was written to since the fingerprint was taken."""
        if self._state and (now := self._stat()) != self._state:
            path = next((path for path, old, new in zip(self._files(), self._state, now, strict=False) if old != new),
                        self.path)
            raise InputError(f"{path}: was changed during the work; run again to start over with the present files")

    def _stat(self) -> list[tuple[int, int] | None]:
        """Size and time of the last change of each file, None where it is gone."""
        states = []
        for path in self._files():
            try:
                stat = path.stat()
                states.append((stat.st_size, stat.st_mtime_ns))
            except OSError:
                states.append(None)
        return states

    @abstractmethod
    def _read(self, requested: range) -> Iterator[tuple[int, np.ndarray]]: ...

    def _files(self) -> Sequence[Path]:
        return [self.path]
