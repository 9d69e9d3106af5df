"""Lens distortion of planar motion: a cubic polynomial fitted to the flow's deviation from the plane. Ours.

A cubic is lens distortion to first order, and is applied before the plane's homography. It also fits scenes that are
only nearly planar.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gi.flow.window import EVERYWHERE, Window

TERMS = [(i, j) for i in range(4) for j in range(4 - i)]  # powers of x and y of a cubic polynomial
MOTION = 2.0  # pixels at 256 x 256: what deviates more is another motion, or an error
_STIFF = 1e-3  # ridge penalty of every coefficient but the constant ones, for each point
_ROUNDS = 5  # of iteratively reweighted least squares
_NOISE = 0.1  # least error assumed of an estimator, in pixels at 256 x 256


class Plane(NamedTuple):
    """The motion p -> matrix(p + bend(p))."""

    matrix: np.ndarray  # (3, 3), of pixel coordinates x, y
    bend: np.ndarray  # (10, 2): factors of `TERMS` of coordinates from -1 to 1, in pixels


def fit_bend(points: np.ndarray, deviation: np.ndarray, size: Sequence[int], unit: float) -> np.ndarray:
    """The bend (10, 2) for deviations (n, 2) from a plane at points (n, 2), by robust ridge regression.

    `size` is the image's height and width; `unit` how many times 256 pixels its longer side is.
    """
    inliers = np.hypot(*deviation.T) < MOTION * unit
    terms, targets = terms_at(points[inliers], size), deviation[inliers]
    penalty = _STIFF * len(targets) * np.diag([float(i + j > 0) for i, j in TERMS]) + 1e-6 * np.eye(len(TERMS))
    weights = np.ones((len(targets), 1))
    bend = np.zeros((len(TERMS), 2))
    for _ in range(_ROUNDS if len(targets) else 0):
        bend = np.linalg.solve((weights * terms).T @ terms + penalty, (weights * terms).T @ targets)
        error = np.linalg.norm(targets - terms @ bend, axis=1, keepdims=True)
        weights = 1 / (1 + (error / max(_NOISE * unit, np.median(error))) ** 2)
    return bend


def bend_flow(bends: Sequence[np.ndarray], size: Sequence[int]) -> Tensor:
    """Bends (10, 2) as flow (N,2,height,width) in pixels, float64."""
    return torch.from_numpy(np.stack([bend_at(bend, size, EVERYWHERE) for bend in bends]))


def terms_at(points: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Values (n, 10) of `TERMS` at points (n, 2), x first."""
    x, y = (2 * points / np.maximum(np.array(size[::-1]) - 1, 1) - 1).T
    return np.stack([x**i * y**j for i, j in TERMS], axis=1)


def bend_at(bend: np.ndarray, size: Sequence[int], window: Window) -> np.ndarray:
    """A bend (10, 2) at the pixels of a window of an image of `size`: (2, h, w), x first."""
    factors = np.zeros((2, 4, 4))
    for (i, j), factor in zip(TERMS, bend, strict=True):
        factors[:, j, i] = factor
    y, x = (np.linspace(-1, 1, length)[part, None] ** np.arange(4)
            for length, part in zip(size, window, strict=True))
    return sum(((y @ factors)[..., power, None] * x[:, power] for power in range(4)), np.zeros(1))
