"""The motion of a plane refined by registering the images themselves. Ours, not the paper's.

An estimator's flow determines such a motion to a tenth of a pixel. The images around the hole determine it better: all
of their structure is compared at once.
"""
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from gi.flow.bend import TERMS, Plane, bend_at, terms_at
from gi.flow.window import corner
from gi.media.crop import limited, resize_known

_NEAR = 0.08  # of the longer side: pixels so far from the hole are sampled a quarter as often as at its edge
_STEPS = 6  # of the Gauss-Newton method
_POINTS = 6000  # sampled at most, more densely close to the hole
_FEWEST = 500
_REACH = 1.0  # of the hole's longer side: pixels farther away are not compared
_STIFFNESS = {2: 1e-4, 3: 1e-3}  # by degree: penalty for leaving the initial fit, relative to the data term
_LARGEST = 512  # pixels of a view's longer side
_DIFFERENT = 0.5  # in standard deviations of fine structure: where the robust cost is 1/2
_FITS = 0.55  # mean over points that differ by x of x^2 / (x^2 + _DIFFERENT^2); 0.66 for unrelated noise
# Lengths are pixels of a view, whatever its size
_FINE = 1.6  # coarser structure is not compared, as light changes it
_AROUND = 15  # contrast is measured over squares of this side
_GREY = 2.0  # less contrast than so many levels of 255 is noise
_SETTLED = 0.01  # smaller steps are the last


class View(NamedTuple):
    """An image as `register` compares it, reduced if it is large."""

    grey: np.ndarray  # (h, w) float32, 0 to 255
    known: np.ndarray  # (h, w) float32: 1, 0 where its hole is

    @classmethod
    def of(cls, grey: np.ndarray, hole: np.ndarray) -> "View":
        """Of an image (H, W) uint8 and its hole (H, W), 1 = missing."""
        grey, hole = resize_known(grey[..., None], hole > 0, limited(hole.shape, _LARGEST))
        return cls(grey.reshape(hole.shape).astype(np.float32), (~hole).astype(np.float32))


def register(plane: Plane, first: View, second: View, full: Sequence[int]) -> Plane:
    """The plane with the bend that best aligns the second image with the first one, around the first one's hole.

    Fine structure, normalised to a local contrast of 1, is aligned by the Gauss-Newton method with weights that
    suppress outliers (iteratively reweighted least squares). Returns `plane` itself where nothing fits better, or
    nothing fits well.
    `full` is the height and width of the images whose pixels the plane is of.
    """
    size, window = first.known.shape, _window(first.known)
    if size != tuple(full):
        grid = _grid(full, size)
        reduced = Plane(grid @ plane.matrix @ np.linalg.inv(grid), plane.bend * np.diag(grid)[:2])
        return plane._replace(bend=register(reduced, first, second, size).bend / np.diag(grid)[:2])
    places = _moved(plane, size, window)
    visible = cv2.remap(second.known, *places, cv2.INTER_LINEAR, borderValue=0) > 1 - 1e-3
    both = cv2.erode(first.known[window] * visible, _square(3), borderValue=0)
    y, x = np.nonzero(cv2.erode(both, _square(5), borderValue=0))
    if len(y) < _FEWEST:
        return plane
    top, left = corner(window)
    chosen = near_hole(first.known, y + top, x + left, _POINTS)
    y, x = y[chosen], x[chosen]
    terms = terms_at(np.stack([x + left, y + top], axis=1), size)
    first_detail, bend, best, least = _detail(first.grey[window], both), plane.bend, plane, np.inf
    for _ in range(_STEPS):
        second_detail = _detail(cv2.remap(second.grey, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), both)
        residual = first_detail[y, x] - second_detail[y, x]
        if (cost := np.mean(residual**2 / (residual**2 + _DIFFERENT**2))) >= least:
            break
        best, least = plane._replace(bend=bend), cost
        mean = first_detail + second_detail
        slopes = (mean[y, x + 1] - mean[y, x - 1]) / 4, (mean[y + 1, x] - mean[y - 1, x]) / 4
        change = _step(np.concatenate([slope[:, None] * terms for slope in slopes], axis=1), residual,
                       bend - plane.bend)
        bend = bend + change
        if np.abs(terms @ change).max() < _SETTLED:
            break
        places = _moved(plane._replace(bend=bend), size, window)
    return best if least < _FITS else plane


def near_hole(known: np.ndarray, y: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to `count` of the pixels y, x, sampled more densely close to where `known` (H, W) is 0, by a fixed
    seed.
    """
    side = max(known.shape)
    distance = cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, 3)[y, x]
    chance = (np.minimum(distance, side) + _NEAR * side) ** -2.0  # without a hole, the distance would be endless
    return np.random.default_rng(0).choice(len(y), min(len(y), count), replace=False, p=chance / chance.sum())


def _grid(full, reduced):
    """The matrix (3, 3) from pixels of one size, height and width, to those of another."""
    down, across = (new / old for new, old in zip(reduced, full, strict=True))
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _step(jacobian, residual, moved):
    """The Gauss-Newton step (10, 2) of a bend that has `moved` from its initial fit."""
    deviation = 1.48 * np.median(np.abs(residual)) + 0.02
    weighted = (1 + (residual / (2 * deviation)) ** 2)[:, None] ** -2.0 * jacobian
    normal = np.einsum("ni,nj->ij", weighted, jacobian)  # without BLAS, whose threads get in the way of `on_threads`
    typical = np.diag(normal).mean() + 1e-9
    penalty = typical * np.tile([_STIFFNESS.get(i + j, 0.0) for i, j in TERMS], 2)
    right_hand_side = np.einsum("ni,n->i", weighted, residual) - penalty * moved.T.ravel()
    return np.linalg.solve(normal + np.diag(penalty + 1e-6 * typical), right_hand_side).reshape(2, -1).T


def _moved(plane, size, window):
    """Where a plane moves the pixels of a window: x and y (h, w), float32."""
    x, y = np.indices(size)[(slice(None, None, -1), *window)] + bend_at(plane.bend, size, window)
    across, down, depth = (a * x + b * y + c for a, b, c in plane.matrix)
    return (across / depth).astype(np.float32), (down / depth).astype(np.float32)


def _detail(grey, known):
    """Differences from the local mean, divided by their standard deviation over a larger window; 0 where not `known`.
    """
    fine = known * (grey - cv2.GaussianBlur(grey * known, (0, 0), _FINE)
                    / (cv2.GaussianBlur(known, (0, 0), _FINE) + 1e-3))
    variance = cv2.blur(fine * fine, (_AROUND, _AROUND)) / (cv2.blur(known, (_AROUND, _AROUND)) + 1e-3)
    return fine / np.sqrt(variance + _GREY**2)


def _window(known):
    """Rows and columns around the hole, with all of the image that is in reach."""
    left, top, width, height = cv2.boundingRect(1 - known.astype(np.uint8))
    margin = 16 + round(_REACH * max(width, height))
    return (slice(max(0, top - margin), min(known.shape[0], top + height + margin)),
            slice(max(0, left - margin), min(known.shape[1], left + width + margin)))


def _square(side):
    return np.ones((side, side), np.uint8)
