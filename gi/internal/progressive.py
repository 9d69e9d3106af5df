"""Fills large videos in stages, each twice as large as the one before and starting from its enlarged result."""
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn

from gi.internal.fitting import Fitting, Recipe
from gi.internal.grid import fill_cells
from gi.internal.objective import TwoPhases
from gi.internal.patches import HiddenPatches
from gi.internal.preview import fill_frame, rows_of
from gi.internal.shot import BUDGET, Shot
from gi.media.crop import Box, resize, resize_known
from gi.report.pictures import hatch

STAGE_BUDGET = BUDGET // 4  # bytes of a stage's frames in memory, as parts of few frames are looked at
PICTURED = 3  # places in pictures


def stage_sizes(size: tuple[int, int], side: int | None) -> list[tuple[int, int]]:
    """Sizes of the stages that lead to `size` = (height, width), smallest first: its longer side is at most `side`, and
    each stage is exactly twice as large as the one before, so that the last may exceed `size` by some pixels. None: one
    stage.
    """
    count = 1 if side is None else 1 + max(0, math.ceil(math.log2(max(size) / side)))
    if count == 1:
        return [size]
    height, width = (-(-length // 2**(count - 1)) for length in size)
    return [(height * 2**stage, width * 2**stage) for stage in range(count)]


def stage_shots(shot: Shot, sizes: Sequence[tuple[int, int]], folder: Path) -> list[Shot]:
    """The shot at all `sizes`, of which its own is the last; in `folder` where that takes much memory."""
    shots = [shot]
    for size in reversed(sizes[:-1]):
        place = folder / f"{size[1]}x{size[0]}"
        place.mkdir(exist_ok=True)
        larger = shots[0]
        shots.insert(0, Shot.read(larger.frames, larger.masks, count=len(shot), size=size, folder=place,
                                  budget=STAGE_BUDGET))
        larger.release()
    return shots


def pyramid(frame: np.ndarray, mask: np.ndarray, sizes: Sequence[tuple[int, int]]
            ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames (h, w, 3), emptied in their holes, and masks (h, w), uint8, at all `sizes`, as `stage_shots` has them."""
    pairs = []
    for size in reversed(sizes):
        frame, mask = resize_known(frame, mask != 0, size)
        pairs.insert(0, (frame, mask.astype(np.uint8)))
    images, holes = zip(*pairs, strict=True)
    return list(images), list(holes)


class Stages:
    """The networks of the first stages: one for whole frames, others for parts of that size, with a prior.

    None in the place of a later network: the previous stage's result is only enlarged.
    """

    def __init__(self, networks: Sequence[nn.Module | None], part: tuple[int, int]):
        self.networks, self.part = list(networks), part

    def fill(self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray]) -> np.ndarray:
        """The frame at its largest size with its hole filled, given its images, uint8 (h, w, 3), and holes (h, w) at
        all sizes.
        """
        result: np.ndarray | None = None
        for network, image, hole in zip(self.networks, images, holes, strict=True):
            whole = Box(0, 0, *hole.shape)
            prior = None if result is None else enlarged(result, Box(0, 0, *result.shape[:2]), whole)
            if prior is None or network is None:
                result = self._draw(network, image, hole, prior)
                continue

            def draw(box, network=network, image=image, hole=hole, prior=prior):
                return self._draw(network, box.of(image), box.of(hole), box.of(prior))
            result = np.where(hole[..., None] > 0, fill_cells(draw, hole, self.part), image)
        assert result is not None
        return result

    def prior(self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray], box: Box) -> np.ndarray:
        """The output of these stages for `box` of the next size, uint8 (h, w, 3); in each stage, one part around it is
        drawn.

        images, holes: of one frame at the sizes of these stages.
        """
        windows = [box]
        for hole in reversed(holes):
            windows.insert(0, self._around(windows[0], hole.shape))
        result: np.ndarray | None = None
        for network, image, hole, window, before in zip(self.networks, images, holes, windows[:-1],
                                                        [None, *windows[:-2]], strict=True):
            prior = None if before is None or result is None else enlarged(result, before, window)
            result = self._draw(network, window.of(image), window.of(hole), prior)
        assert result is not None
        return enlarged(result, windows[-2], box)

    def _around(self, box, size):
        """A part around `box` of the next size, or the whole frame, if it is no larger."""
        sides = [min(side, length) for side, length in zip(self.part, size, strict=True)]
        middles = (box.top + box.bottom) // 4, (box.left + box.right) // 4
        top, left = (min(max(middle - side // 2, 0), length - side)
                     for middle, side, length in zip(middles, sides, size, strict=True))
        return Box(top, left, top + sides[0], left + sides[1])

    def _draw(self, network, image, hole, prior):
        if not hole.any():
            return image
        if network is None:
            return np.where(hole[..., None] > 0, prior, image)
        return fill_frame(network, image, hole, prior)


def enlarged(picture: np.ndarray, inside: Box, box: Box) -> np.ndarray:
    """`box` of the frame twice as large as that of which `picture` shows the part `inside`; uint8 (h, w, 3)."""
    height, width = picture.shape[:2]
    doubled = resize(picture, (2 * height, 2 * width), cv2.INTER_CUBIC)
    top, left = box.top - 2 * inside.top, box.left - 2 * inside.left
    return Box(top, left, top + box.size[0], left + box.size[1]).of(doubled)


class StageFitting(Fitting):
    """Fits a later stage's network, which has a prior, to parts of frames; the score is that of its averaged weights.

    shots: at the sizes of all stages up to this one; before: the stages before. options: of `Fit`.
    """

    helps = "stage_side=N or batch_size=N"

    def __init__(self, network: nn.Module, shots: Sequence[Shot], before: Stages, objective: TwoPhases, recipe: Recipe,
                 **options: Any):
        self.shots, self.before = shots, before
        super().__init__(network, shots[-1], objective, recipe, **options)
        self._of_prior = self.score_of(lambda batch: batch["prior"])

    def hidden(self, length: int, seed: int) -> HiddenPatches:
        return HiddenPatches(self.shots, self.before.part, length=length, seed=seed, prior=self.prior)

    def prior(self, moved: np.ndarray, number: int, box: Box) -> np.ndarray:
        """The earlier stages' output in `box` of frame `number`, uint8 (h, w, 3), when `moved` (h, w) is missing, too.

        So the prior, as that of a real hole, has no knowledge of the hidden pixels; nor has the score.
        """
        holes, window = [np.array(shot.masks[number]) for shot in self.shots[:-1]], box
        for hole in reversed(holes):
            window, moved = halved(window, moved)
            view = window.of(hole)
            np.maximum(view, moved[:view.shape[0], :view.shape[1]], out=view)
        return self.before.prior([shot.frames[number] for shot in self.shots[:-1]], holes, box)

    @property
    def improves(self) -> bool:
        """Whether the averaged network reconstructs hidden pixels better than its prior does."""
        return self.score() > self._of_prior

    def picture(self) -> np.ndarray:
        """Some of the scored places with their holes, the prior, and filled."""
        parts = [[np.ascontiguousarray(x.permute(1, 2, 0).cpu().numpy()) for x in self._places[name][:PICTURED]]
                 for name in ("image", "mask", "moved", "prior")]
        rows = [(hatch(image / 255, hole[..., 0]), np.where(hole > 0, prior, image),
                 fill_frame(self.average, image, hole[..., 0], prior))
                for image, mask, moved, prior in zip(*parts, strict=True) for hole in [np.maximum(mask, moved)]]
        return rows_of(*zip(*rows, strict=True))

    def verdict(self, score: float) -> str:
        return f"{score:.2f} dB at hidden pixels it has learned from (the stage before, enlarged, {self._of_prior:.2f})"


def halved(box: Box, mask: np.ndarray) -> tuple[Box, np.ndarray]:
    """A box that begins at even pixels, and the mask (h, w) in it, at half the size; a pixel is 1 if any of its four
    was.
    """
    height, width = mask.shape
    even = np.pad(mask, ((0, height % 2), (0, width % 2)))
    return (Box(box.top // 2, box.left // 2, -(-box.bottom // 2), -(-box.right // 2)),
            even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).max(axis=(1, 3)))
