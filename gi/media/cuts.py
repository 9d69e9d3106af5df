"""Where one shot of a video ends and another begins."""
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

DIFFERENT = 0.5  # share of the colours of small copies that changes from one shot to the next
ALONE = 2.5  # times the change from a frame to the next before and after: a flash and a fast pan last longer
_BINS = 8


class CutFinder:
    """Looks at frames in order; `cuts` are the numbers of those that begin another shot, known one frame later."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self._before: np.ndarray | None = None
        self._changes: list[float] = []  # the last three
        self._count = 0

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hands on frames, uint8 (H, W, 3) RGB, having looked at them."""
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
        """About the frame before the one that was looked at last."""
        if len(self._changes) == 3:
            before, change, after = self._changes
            if change > DIFFERENT and change > ALONE * max(before, after):
                self.cuts.append(self._count - 1)


def _colours(frame):
    """Shares of colours, softly counted so that a little more light is a little change."""
    small = cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA)
    counts = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    for axis in range(3):
        moved = np.swapaxes(counts, 0, axis)
        moved[:] = np.stack([moved[max(i - 1, 0)] + 2 * moved[i] + moved[min(i + 1, _BINS - 1)]
                             for i in range(_BINS)]) / 4
    return counts / counts.sum()
