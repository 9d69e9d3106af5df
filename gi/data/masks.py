"""Random holes. Every kind is a callable: `mask = kind(rng, height, width)`, uint8 (height, width), 1 = missing.

Lengths are given in pixels at 256 x 256 and scale with the shorter side. `growth` in (0, 1] shrinks their upper limit,
for holes that grow during training (`GrowthRamp`). Strokes and boxes, the kinds the paper's models train with, have the
numbers of the original release. The others are its kinds with other numbers: there, outpainting begins at 4 % of a
side, the central square has a side of 47 %, and the ramp goes by samples and shrinks the number of strokes and boxes.
"""
from collections.abc import Sequence
from typing import Literal, Protocol

import cv2
import numpy as np

from gi.errors import InputError, expect_at_least, expect_within

REFERENCE_SIZE = 256


class MaskKind(Protocol):
    """Draws a mask, uint8 (height, width), 1 = missing; with more `growth`, a larger hole."""

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray: ...


class Strokes:
    """Irregular holes: 1 to `max_chains` chains, each of 1 to `max_segments` thick segments end to end.

    A chain starts anywhere; ends are clipped to the image. There are only four directions and their mirror images,
    the latter on every other chain. With `brush="square"` only a square is stamped where each segment starts.
    """

    def __init__(self, *, max_chains: int = 6, max_segments: int = 5, min_length: int = 10, max_length: int = 209,
                 min_width: int = 5, max_width: int = 104, brush: Literal["line", "square"] = "line"):
        expect_at_least(1, max_chains=max_chains, max_segments=max_segments)
        expect_at_least(0, min_length=min_length, min_width=min_width)
        expect_at_least(min_length, max_length=max_length)
        expect_at_least(min_width, max_width=max_width)
        self.max_chains, self.max_segments, self.brush = max_chains, max_segments, brush
        self.min_length, self.max_length, self.min_width, self.max_width = min_length, max_length, min_width, max_width

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        mask = np.zeros((height, width), np.uint8)
        scale = min(height, width) / REFERENCE_SIZE
        for chain in range(rng.integers(1, self.max_chains + 1)):
            start = np.array([rng.integers(width), rng.integers(height)])
            for _ in range(rng.integers(1, self.max_segments + 1)):
                angle = 0.01 + rng.integers(4)  # radians
                if chain % 2 == 0:
                    angle = 2 * np.pi - angle
                length = _length(rng, self.min_length, self.max_length, growth) * scale
                thickness = max(1, round(_length(rng, self.min_width, self.max_width, growth) * scale))
                step = (length * np.array([np.sin(angle), np.cos(angle)])).astype(int)
                end = np.clip(start + step, 0, [width, height])
                if self.brush == "line":
                    cv2.line(mask, start.tolist(), end.tolist(), 1, thickness)
                else:
                    corner = start - thickness // 2
                    cv2.rectangle(mask, corner.tolist(), (corner + thickness - 1).tolist(), 1, cv2.FILLED)
                start = end
        return mask


class Boxes:
    """1 to `max_boxes` upright rectangles, at least `margin` away from the border of the image."""

    def __init__(self, *, max_boxes: int = 4, min_side: int = 30, max_side: int = 150, margin: int = 10):
        expect_at_least(1, max_boxes=max_boxes)
        expect_at_least(0, min_side=min_side, margin=margin)
        expect_at_least(min_side, max_side=max_side)
        if 2 * margin + min_side > REFERENCE_SIZE:
            raise InputError(f"margin: {margin} leaves no room for a box of {min_side} in {REFERENCE_SIZE} pixels")
        self.max_boxes, self.min_side, self.max_side, self.margin = max_boxes, min_side, max_side, margin

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        mask = np.zeros((height, width), np.uint8)
        scale = min(height, width) / REFERENCE_SIZE
        margin = round(self.margin * scale)
        for _ in range(rng.integers(1, self.max_boxes + 1)):
            slices = []
            for extent in (height, width):
                room = max(1, extent - 2 * margin)
                side = min(max(1, round(_length(rng, self.min_side, self.max_side, growth) * scale)), room)
                first = margin + rng.integers(room - side + 1)
                slices.append(slice(first, first + side))
            mask[tuple(slices)] = 1
        return mask


class SuperResolutionGrid:
    """Missing rows and columns that repeat every 2 to `max_step` pixels of any image; some of a step stay known."""

    def __init__(self, *, max_step: int = 4):
        expect_at_least(2, max_step=max_step)
        self.max_step = max_step

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        lines = []
        for extent in (height, width):
            step = rng.integers(2, self.max_step + 1)
            thickness, offset = rng.integers(1, step), rng.integers(step)
            lines.append((np.arange(extent) + offset) % step < thickness)
        return np.logical_or.outer(*lines).astype(np.uint8)


class Full:
    """Everything is missing; nothing about it is random."""

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        return np.ones((height, width), np.uint8)


class Grid:
    """n x n cells of one size, n from `min_cells` to `max_cells`, each missing with a probability that is itself drawn,
    from `min_share` up to `max_share`.
    """

    def __init__(self, *, min_cells: int = 2, max_cells: int = 16, min_share: float = 0.3, max_share: float = 0.7):
        expect_at_least(1, min_cells=min_cells)
        expect_at_least(min_cells, max_cells=max_cells)
        expect_within(0, 1, min_share=min_share)
        expect_within(min_share, 1, max_share=max_share)
        self.min_cells, self.max_cells, self.min_share, self.max_share = min_cells, max_cells, min_share, max_share

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        cells = int(rng.integers(self.min_cells, self.max_cells + 1))
        share = rng.uniform(self.min_share, self.min_share + growth * (self.max_share - self.min_share))
        missing = (rng.random((cells, cells)) < share).astype(np.uint8)
        rows, columns = (np.arange(extent) * cells // extent for extent in (height, width))
        return missing[rows[:, None], columns]


class Outpainting:
    """A missing border: each side with probability 1/2, at least one, `min_share` to `max_share` of the image wide."""

    def __init__(self, *, min_share: float = 0.05, max_share: float = 0.25):
        if not 0 < min_share <= max_share < 0.5:
            raise InputError(f"max_share: expected 0 < min_share <= max_share < 0.5, got {min_share} and {max_share}")
        self.min_share, self.max_share = min_share, max_share

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        sides = rng.random(4) < 0.5
        sides[rng.integers(4)] |= not sides.any()
        largest = self.min_share + growth * (self.max_share - self.min_share)
        top, bottom, left, right = sides * rng.uniform(self.min_share, largest, 4)
        mask = np.ones((height, width), np.uint8)
        rows = slice(round(top * height), height - round(bottom * height))
        mask[rows, round(left * width) : width - round(right * width)] = 0
        return mask


class CentralSquare:
    """A square hole in the middle whose side is `share` of the shorter side; nothing about it is random."""

    def __init__(self, *, share: float = 0.5):
        if not 0 < share <= 1:
            raise InputError(f"share: expected a number in (0, 1], got {share}")
        self.share = share

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        side = max(1, round(self.share * growth * min(height, width)))
        top, left = (height - side) // 2, (width - side) // 2
        mask = np.zeros((height, width), np.uint8)
        mask[top : top + side, left : left + side] = 1
        return mask


class Inverted:
    """Another kind with holes and known pixels exchanged, with the given probability."""

    def __init__(self, *, kind: MaskKind, probability: float = 1.0):
        expect_within(0, 1, probability=probability)
        self.kind, self.probability = kind, probability

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        mask = self.kind(rng, height, width, growth)
        return 1 - mask if rng.random() < self.probability else mask


class MixedMask:
    """One of several kinds, chosen with the given probabilities (equal if None). Default: half strokes, half boxes."""

    def __init__(self, *, kinds: Sequence | None = None, probabilities: list[float] | None = None):
        self.kinds = [Strokes(), Boxes()] if kinds is None else list(kinds)
        self.probabilities = shares(probabilities, len(self.kinds), "kinds of masks")

    def __call__(self, rng: np.random.Generator, height: int, width: int, growth: float = 1.0) -> np.ndarray:
        return self.kinds[rng.choice(len(self.kinds), p=self.probabilities)](rng, height, width, growth)


class GrowthRamp:
    """Growth of the holes by epoch: `start` up to `first_epoch`, linear to 1 at `last_epoch`, 1 after it."""

    def __init__(self, *, start: float = 0.25, first_epoch: int = 0, last_epoch: int = 10):
        if not 0 < start <= 1:
            raise InputError(f"start: expected a number in (0, 1], got {start}")
        expect_at_least(first_epoch + 1, last_epoch=last_epoch)
        self.start, self.first_epoch, self.last_epoch = start, first_epoch, last_epoch

    def __call__(self, epoch: int) -> float:
        return float(np.interp(epoch, [self.first_epoch, self.last_epoch], [self.start, 1.0]))


def shares(probabilities: Sequence[float] | None, count: int, label: str) -> np.ndarray:
    """`count` probabilities that add up to 1, equal ones for None. Raises InputError that calls them those of `label`.
    """
    if probabilities is None:
        probabilities = [1 / max(1, count)] * count
    if not count or len(probabilities) != count:
        raise InputError(f"probabilities: {len(probabilities)} for {count} {label}")
    if min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6:
        raise InputError(f"probabilities: expected non-negative numbers that add up to 1, got {probabilities}")
    return np.asarray(probabilities) / sum(probabilities)


def _length(rng: np.random.Generator, lowest: int, highest: int, growth: float) -> int:
    return int(rng.integers(lowest, lowest + round(growth * (highest - lowest)) + 1))
