"""Splits large pictures into overlapping parts of one size, and blends them."""
from collections.abc import Callable, Iterator

import numpy as np

from gi.internal.networks import STRIDE
from gi.media.crop import Box

OVERLAP = 0.25  # of a part's side; its outer quarter, which is affected by the part's border, has weight 0


def cells(size: tuple[int, int], part: tuple[int, int]) -> Iterator[tuple[Box, np.ndarray]]:
    """Parts of at most `part` = (height, width) that cover a picture of `size`, and the weights (h, w) of their pixels.

    Weights fall linearly where parts overlap, and their sum is 1 everywhere. The paper has a grid of parts side by
    side, and further ones astride the lines of the grid; how they are blended it does not say.
    """
    rows, columns = (list(_spans(*lengths)) for lengths in zip(size, part, strict=True))
    for top, down in rows:
        for left, across in columns:
            yield Box(top, left, top + len(down), left + len(across)), np.outer(down, across)


def fill_cells(draw: Callable[[Box], np.ndarray], hole: np.ndarray, part: tuple[int, int]) -> np.ndarray:
    """The content of `hole` (H, W) as `draw` gives it, (h, w, 3) for a box: uint8 (H, W, 3), undefined elsewhere.

    Only parts that have weight at a pixel of the hole are drawn.
    """
    result = np.zeros((*hole.shape, 3), np.float32)
    for box, weight in cells(hole.shape, part):
        if (weight[box.of(hole) != 0] > 0).any():
            box.of(result)[...] += weight[..., None] * draw(box)
    return (result + 0.5).astype(np.uint8)


def _spans(length, part):
    """(start, weights) of the parts of a line."""
    part = min(part, length)
    overlap = OVERLAP * part
    step = max(STRIDE, int(part - overlap) // STRIDE * STRIDE)  # features lie alike in all parts but the last
    starts = [*range(0, length - part, step), length - part]
    within = np.arange(part, dtype=np.float32) + 0.5
    weights, total = [], np.zeros(length, np.float32)
    for start in starts:
        weight = np.ones(part, np.float32)
        for inner, distance in ((start > 0, within), (start + part < length, part - within)):
            if inner:
                weight = weight * np.clip((distance - overlap / 4) / (overlap / 2), 0, 1)
        total[start:start + part] += weight
        weights.append(weight)
    return [(start, weight / total[start:start + part]) for start, weight in zip(starts, weights, strict=True)]
