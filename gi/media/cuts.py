"""Cut detection: where one shot of a video ends and another begins."""
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

DIFFERENT = 0.5  # share of the colours of downscaled frames that changes from one shot to the next
ALONE = 2.5  # times the changes just before and after it: flashes and fast pans change several frames
_BINS = 8  # of each channel
_SOFT = np.maximum(0, 1 - np.abs((np.arange(256)[:, None] + 0.5) * _BINS / 256 - (np.arange(_BINS) + 0.5)))
_SOFT = (_SOFT / _SOFT.sum(axis=1, keepdims=True)).astype(np.float32)  # (levels, bins): linear between their centres


class CutFinder:
    """Analyses frames in order; `cuts` are the numbers of frames that begin another shot, known one frame later."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self._before: np.ndarray | None = None
        self._changes: list[float] = []  # the last three
        self._count = 0

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the frames, uint8 (H, W, 3) RGB, unchanged, as they are analysed."""
        for frame in frames:
            colours = _colours(frame)
            change = 0.0 if self._before is None else float(np.minimum(1, np.abs(colours - self._before).sum() / 2))
            self._before = colours
            self._changes = [*self._changes[-2:], change]
            self._decide()
            self._count += 1
            yield frame
        self._changes = [*self._changes[-2:], 0.0]
        self._decide()

    def _decide(self):
        """Decides whether the last frame but one begins a shot."""
        if len(self._changes) == 3:
            before, change, after = self._changes
            if change > DIFFERENT and change > ALONE * max(before, after):
                self.cuts.append(self._count - 1)


def _colours(frame):
    """Colour histograms of 3 x 3 parts of the picture, as two shots of one place have the same colours in other parts.
    A colour is shared among the bins around it, so that slightly more light is a small change, also in a flat picture.
    """
    small = cv2.resize(frame, (63, 36), interpolation=cv2.INTER_AREA)
    parts = small.reshape(3, 12, 3, 21, 3).swapaxes(1, 2).reshape(9, -1, 3)
    red, green, blue = np.moveaxis(_SOFT[parts], 2, 0)  # (9, pixels, bins) each
    pairs = (red[..., None] * green[..., None, :]).reshape(*red.shape[:2], -1)
    counts = pairs.swapaxes(1, 2) @ blue
    return counts / counts.sum()
