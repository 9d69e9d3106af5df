"""Fréchet distance between two sets of features (Heusel et al., 2017), without the square root of a matrix.

With centred features A (n,d) and B (m,d), the covariances are S_a = A'A/(n-1) and S_b = B'B/(m-1). The eigenvalues of
S_a S_b other than zero are the squared singular values of A B' / sqrt((n-1)(m-1)), so the trace of the square root of
S_a S_b is their sum. That holds for covariances without full rank too, where `scipy.linalg.sqrtm` returns noise.
"""
import math

import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError


def frechet_distance(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Squared Fréchet distance, >= 0, of the Gaussians fitted to the rows of `a` (n,d) and `b` (m,d).

    FID when the rows are Inception features. Computed in float64 on the CPU. nan when a set has fewer than two rows,
    which have no covariance, or when a feature is not finite. Raises InputError for other shapes.
    """
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[1]:
        raise InputError("Fréchet distance: expected two sets of features (n, d) and (m, d), "
                         f"got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = (torch.as_tensor(x).detach().cpu().double().numpy() for x in (a, b))
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    between_means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    a, b = _factor(a), _factor(b)
    # Singular values, not the roots of the eigenvalues of the squared matrix, whose small ones would be noise.
    trace_of_root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = between_means + np.square(a).sum() + np.square(b).sum() - 2 * trace_of_root
    return max(0.0, float(distance))  # rounding may give -1e-13 for equal sets


def _factor(x: np.ndarray) -> np.ndarray:
    """F (min(n,d), d) such that F'F is the covariance of the rows of x (n,d)."""
    centred = (x - x.mean(axis=0)) / math.sqrt(len(x) - 1)
    # R of the QR decomposition has the same product R'R in d rows; it keeps the precision that forming X'X would lose.
    return np.asarray(np.linalg.qr(centred, mode="r")) if x.shape[0] > x.shape[1] else centred
