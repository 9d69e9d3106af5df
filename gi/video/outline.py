"""Refines an object's outline in one frame: a graph cut moves it to edges of the image, and specks are removed.

Masks are uint8 (H, W), 1 = object; images uint8 (H, W, 3), RGB.
"""
from typing import NamedTuple

import cv2
import numpy as np

from gi.media.crop import Box
from gi.media.scale import video_pixels

# Lengths are pixels at 432 x 240, see `video_pixels`.
BAND = 2  # around an outline, in which a cut may move it
MARGIN = 6  # that a drawn mask may be wider than its object
CONTEXT = 20  # around the object, whose colours a cut learns as those of the background
LEAST = 0.25  # of an annotation that its core must be, or the annotation itself is followed


class Core(NamedTuple):
    """A mask without the margin, in pixels, that it was drawn with around its object."""

    mask: np.ndarray
    margin: float


def cut_out(image: np.ndarray, mask: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """`mask`, with pixels near its outline and those that are `unknown` (bool) decided anew by colours and edges.

    GrabCut (Rother et al., 2004), OpenCV's, whose models of colours are made of this image alone.
    """
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (mask, 1 - mask))
    band, context = (video_pixels(length, mask.shape) for length in (BAND, CONTEXT))
    labels = np.where(mask > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    labels[(inside > band) & ~unknown] = cv2.GC_FGD
    labels[(outside > band) & ~unknown] = cv2.GC_BGD
    return _cut(image, labels.astype(np.uint8), outside <= context, 1) if mask.any() else mask


def core_of(image: np.ndarray, mask: np.ndarray) -> Core:
    """The object inside an annotation. People draw it with a margin, which the masks of all frames are given, too."""
    if not mask.any() or mask.all():
        return Core(mask, 0.0)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (mask, 1 - mask))
    deep = min(video_pixels(MARGIN, mask.shape), 0.8 * inside.max())
    labels = np.where(mask == 0, cv2.GC_BGD, np.where(inside > deep, cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    core = _cut(image, labels, outside <= video_pixels(CONTEXT, mask.shape), 5)
    if core.sum() < LEAST * mask.sum():
        return Core(mask, 0.0)
    outline = (mask > 0) & (cv2.erode(mask, np.ones((3, 3), np.uint8)) == 0)  # without the frame's own border
    distances = cv2.distanceTransform(1 - core, cv2.DIST_L2, 5)[outline]
    return Core(core, float(np.median(distances)) if distances.size else 0.0)


def _cut(image, labels, region, rounds):
    """GrabCut of `labels` within the box around `region`; where it cannot be applied, they stay as they are."""
    box = Box.around(region)
    part = box.of(labels).copy()
    objects = np.isin(part, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if objects.any() and not objects.all():
        cv2.setRNGSeed(0)  # or a run that was interrupted would end differently
        models = np.zeros((2, 1, 65))
        cv2.grabCut(np.ascontiguousarray(box.of(image)), part, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    result = np.zeros(labels.shape, np.uint8)
    box.of(result)[:] = np.isin(part, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return result


def parts_of(mask: np.ndarray) -> np.ndarray:
    """Areas of the connected parts of a mask, in pixels, largest first."""
    return np.sort(cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA])[::-1]


def without_specks(mask: np.ndarray, *, least: float, most: int | None = None) -> np.ndarray:
    """The parts of a mask that have at least `least` pixels, the largest one in any case, and no more than `most`."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    kept = [number + 1 for place, number in enumerate(order[:most]) if place == 0 or areas[number] >= least]
    return mask if len(kept) == count - 1 else np.isin(labels, kept).astype(np.uint8)
