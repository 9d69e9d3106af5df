"""Video metrics as pure functions. Which of them a video is scored with, and how they are averaged: `video_scores`.

Those of single frames take uint8 arrays (H,W,3) as they lie in files and compute in float64, as the DEVIL benchmark's
tools do with scikit-image. Those that need a network or a flow take tensors.
"""
import math
from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError
from gi.flow.warp import warp

WINDOW = 10  # frames that VFID-clips and PVCS look at together
PATCH, REACH = 50, 20  # of pcons: pixels of the patch's side; offsets are -REACH ... REACH - 1
SSIM_SIDE = 7


def composite(truth: np.ndarray, hole: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`prediction` inside the hole, `truth` elsewhere: (...,H,W,3) uint8; `hole` (...,H,W), not zero = missing."""
    return np.where(hole[..., None] != 0, prediction, truth)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two frames in dB; infinite for equal ones. Their range is 255."""
    return _decibels(np.square(a.astype(np.int64) - b).mean())


def ssim(a: np.ndarray, b: np.ndarray, *data_ranges: float) -> tuple[float, ...]:
    """Structural similarity of two frames for each data range, the default of scikit-image: uniform windows of 7 x 7
    that lie inside the frame, sample covariance, mean over positions and channels.

    data_ranges: 1 is right for images in [0,1]; 2 is what the DEVIL benchmark and the paper's video table used, because
    scikit-image once took the range of a floating point type, [-1,1]; its scores are closer to one.

    Raises InputError for frames with a side under 7.
    """
    if min(a.shape[:2]) < SSIM_SIDE:
        raise InputError(f"ssim: expected frames of at least {SSIM_SIDE} x {SSIM_SIDE} pixels, "
                         f"got {a.shape[1]} x {a.shape[0]}")
    margin, count = SSIM_SIDE // 2, SSIM_SIDE ** 2

    def sums(x, y=None):  # over windows, exact: whole numbers, small enough even for single precision
        x = x.astype(np.float32)
        if y is not None:
            x = x * y
        x = cv2.boxFilter(x, cv2.CV_32F, (SSIM_SIDE, SSIM_SIDE), normalize=False)
        return x[margin:-margin, margin:-margin].astype(np.float64)

    sum_a, sum_b = sums(a), sums(b)
    product, square_a, square_b = sum_a * sum_b, sum_a * sum_a, sum_b * sum_b
    norm = count * (count - 1)
    covariance = (count * sums(a, b) - product) / norm
    variances = (count * (sums(a, a) + sums(b, b)) - square_a - square_b) / norm
    product, squares = product / count ** 2, (square_a + square_b) / count ** 2
    scores = []
    for data_range in data_ranges:
        c1, c2 = (0.01 * 255 * data_range) ** 2, (0.03 * 255 * data_range) ** 2
        similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
        scores.append(float(similarity.mean()))
    return tuple(scores)


def pcons(frame: np.ndarray, hole: np.ndarray, following: np.ndarray) -> float:
    """Patch consistency: how well the next frame contains what is in the middle of the hole, as a PSNR in dB.

    The patch of 50 x 50 pixels around the centroid of `hole` (H,W) in `frame` (moved inside the frame where it sticks
    out) is looked for in `following` at every offset from -20 to +19 in both directions that lies inside the frame; the
    best PSNR counts. Infinite if the patch is there unchanged; nan without a hole, which has no centroid.

    Raises InputError for frames with a side under 50.

    All sums of squared differences at once: the mixed term is a correlation, by fast Fourier transform. Its rounding
    errors are far under one half, so rounding to whole numbers makes it exact.
    """
    height, width = hole.shape
    if min(height, width) < PATCH:
        raise InputError(f"pcons: expected frames of at least {PATCH} x {PATCH} pixels, got {width} x {height}")
    area = hole.view(np.uint8)
    rows, columns = (cv2.reduce(area, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    count = rows.sum()
    if count == 0:
        return math.nan
    y, x = (np.arange(len(counts)) @ counts / count for counts in (rows, columns))
    top = min(max(math.floor(y - PATCH / 2), 0), height - PATCH)
    left = min(max(math.floor(x - PATCH / 2), 0), width - PATCH)
    first_row, first_column = max(top - REACH, 0), max(left - REACH, 0)
    last_row, last_column = min(top + REACH - 1, height - PATCH), min(left + REACH - 1, width - PATCH)
    patch = frame[top:top + PATCH, left:left + PATCH]
    region = following[first_row:last_row + PATCH, first_column:last_column + PATCH]
    return _decibels(_squared_differences(patch, region).min() / patch.size)


def visible(flow: Tensor, backward: Tensor) -> Tensor:
    """Where `flow` (N,2,H,W), from a frame to the next, leads to the same point there: (N,1,H,W) bool.

    `backward` leads back. Not so are points that leave the frame; points that do not come back to where they were,
    |f + b|^2 > 0.01 (|f|^2 + |b|^2) + 0.5, b being `backward` where f leads (Sundaram et al., 2010); and the edges of
    motion, |grad f|^2 > 0.01 |f|^2 + 0.002, where flow mixes two of them (Ruder et al., 2016).
    """
    flow, back = flow.float(), warp(backward.float(), flow)
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, :1]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1:]
    stays = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    length = _squared(flow)
    returns = _squared(flow + back) <= 0.01 * (length + _squared(back)) + 0.5
    gradient = torch.zeros_like(length)
    gradient[..., :-1] += _squared(flow.diff(dim=3))
    gradient[..., :-1, :] += _squared(flow.diff(dim=2))
    return stays & returns & (gradient <= 0.01 * length + 0.002)


def warp_error(frame: Tensor, following: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean over visible pixels and channels of (`frame` - `following` brought back along `flow`)^2: (N,) float32.

    frame, following (N,3,H,W) in [0,1]: usually a few thousandths; `flow` (N,2,H,W) of the true video, from `frame` to
    `following`; `visible` (N,1,H,W), those pixels that count. nan without any. E_warp of Lai et al. (2018), which they
    average over the pairs of neighbours of a video.
    """
    squares = (frame.float() - warp(following.float(), flow)).square().mean(dim=1, keepdim=True)
    return (squares * visible).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))


def touches_hole(hole: Tensor, following_hole: Tensor, flow: Tensor) -> Tensor:
    """Where `flow` begins or ends in a hole, holes (N,1,H,W), 1 = missing: (N,1,H,W) bool. The masked warp error is
    that of visible pixels like that (DEVIL)."""
    return (hole.float() + warp(following_hole.float(), flow)) > 1e-3  # not 0: rounding lets positions stray


def video_feature(activations: Mapping[str, Tensor]) -> Tensor:
    """Feature of VFID and VFID-clips, (N,1024): mean over time and space of I3D's last Inception module."""
    return activations["Mixed_5c"].mean(dim=(2, 3, 4))


def pvcs(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Perceptual video clip similarity of clips by their I3D activations, (N,): a distance, 0 for equal ones.

    The activations (N,C,T,H,W) of every layer are scaled to unit length over channels; their squared differences are
    summed over channels, averaged over time and space, and summed over layers.
    """
    return sum(_squared(_unit(a[name]) - _unit(b[name])).mean(dim=(1, 2, 3, 4)) for name in a)


# Details --------------------------------------------------------------------------------------------------------------

def _decibels(mean_square: float) -> float:
    return 10 * math.log10(255 ** 2 / mean_square) if mean_square > 0 else math.inf


def _squared_differences(patch: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Sum over pixels and channels of (patch - region)^2 at every place of `patch` (h,w,3) in `region`, exact."""
    (h, w), (height, width) = patch.shape[:2], region.shape[:2]
    size = [-(-side // 32) * 32 for side in (height, width)]  # 96, which is fast, rather than 89
    padded = np.zeros((2, *size))
    spectrum = 0.0
    for channel in range(3):
        padded[0, :height, :width], padded[1, :h, :w] = region[..., channel], patch[..., channel]
        spectrum = spectrum + cv2.mulSpectrums(cv2.dft(padded[0]), cv2.dft(padded[1], nonzeroRows=h), 0, conjB=True)
    places = slice(height - h + 1), slice(width - w + 1)
    mixed = cv2.idft(spectrum, flags=cv2.DFT_SCALE)[places]
    squares = cv2.sqrBoxFilter(region, cv2.CV_64F, (w, h), anchor=(0, 0), normalize=False)[places]
    return sum(cv2.split(squares)) + cv2.norm(patch, cv2.NORM_L2SQR) - 2 * np.rint(mixed)


def _squared(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    return x / (_squared(x).sqrt() + 1e-10)
