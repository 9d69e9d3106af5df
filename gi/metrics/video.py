"""Video metrics as pure functions, and the table of them: a new one is a function and an entry here.

Those of single frames take uint8 arrays (H,W,3) and compute in float64, as the DEVIL benchmark's tools do with
scikit-image. Those that need a network or a flow take tensors. How they are averaged: `video_scores`.
"""
import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from scipy import ndimage, signal
from skimage.metrics import structural_similarity
from torch import Tensor

from gi.errors import InputError
from gi.flow.warp import warp
from gi.metrics import functional
from gi.metrics.functional import INCEPTION_NETWORK, MOST_PSNR
from gi.metrics.i3d import VideoFeature
from gi.metrics.metric import Metric, Network, table

WINDOW = 10  # frames that VFID-clips and PVCS look at together
PATCH, REACH = 50, 20  # of pcons: pixels of the patch's side; offsets are -REACH ... REACH - 1
SSIM_SIDE = 7


def composite(truth: np.ndarray, hole: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`prediction` inside the hole, `truth` elsewhere: (...,H,W,3) uint8; `hole` (...,H,W), not zero = missing."""
    return np.where(hole[..., None] != 0, prediction, truth)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two frames in dB; infinite for equal ones. Their range is 255."""
    return _decibels(np.square(a.astype(np.int64) - b).mean())


def ssim(a: np.ndarray, b: np.ndarray, data_range: float = 1) -> float:
    """Structural similarity of two frames, scikit-image's: uniform windows of 7 x 7 that lie inside the frame.

    data_range: 1 is right for images in [0,1]; 2 is what the DEVIL benchmark and the paper's video table used, because
    scikit-image once took the range of a floating point type, [-1,1]. Raises InputError for frames with a side under 7.
    """
    if min(a.shape[:2]) < SSIM_SIDE:
        raise InputError(f"ssim: expected frames of at least {SSIM_SIDE} x {SSIM_SIDE} pixels, "
                         f"got {a.shape[1]} x {a.shape[0]}")
    return float(structural_similarity(a, b, win_size=SSIM_SIDE, data_range=255 * data_range, channel_axis=2))


def inside(function: Callable[..., Tensor], truth: Tensor, composite: Tensor, mask: Tensor) -> float:
    """An image metric of `gi.metrics.functional` inside the hole of a frame: (3,H,W), (3,H,W) in [0,1] and (1,H,W); nan
    without a hole.
    """
    positions = mask[0].nonzero()
    if not len(positions):
        return math.nan
    # Only the part that matters: the window of SSIM reaches five pixels beyond the hole.
    rows, columns = (slice(max(int(axis.min()) - 5, 0), int(axis.max()) + 6) for axis in positions.T)
    return function(*(x[None, :, rows, columns] for x in (truth, composite, mask))).item()


def pcons(frame: np.ndarray, hole: np.ndarray, following: np.ndarray) -> float:
    """Patch consistency: how well the next frame contains what is in the middle of the hole, as a PSNR in dB.

    The patch of 50 x 50 pixels around the centroid of `hole` (H,W) in `frame` (moved inside the frame where it sticks
    out) is looked for in `following` at every offset from -20 to +19 in both directions that lies inside the frame; the
    best PSNR counts. Infinite if the patch is there unchanged; nan without a hole. Raises InputError for frames with a
    side under 50.
    """
    height, width = hole.shape
    if min(height, width) < PATCH:
        raise InputError(f"pcons: expected frames of at least {PATCH} x {PATCH} pixels, got {width} x {height}")
    if not hole.any():
        return math.nan
    y, x = ndimage.center_of_mass(hole)
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

    frame, following (N,3,H,W) in [0,1]; `flow` (N,2,H,W) of the true video, from `frame` to `following`; `visible`
    (N,1,H,W), those pixels that count. nan without any. E_warp of Lai et al. (2018), averaged over pairs of
    neighbours. DEVIL's flow is FlowNet2's, ours that of any estimator.
    """
    squares = (frame.float() - warp(following.float(), flow)).square().mean(dim=1, keepdim=True)
    return (squares * visible).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))


def touches_hole(hole: Tensor, following_hole: Tensor, flow: Tensor) -> Tensor:
    """Where `flow` begins or ends in a hole, holes (N,1,H,W), 1 = missing: (N,1,H,W) bool. The masked warp error is
    that of visible pixels like that (DEVIL).
    """
    return (hole.float() + warp(following_hole.float(), flow)) > 1e-3  # not 0: rounding lets positions stray


def video_feature(activations: Mapping[str, Tensor]) -> Tensor:
    """Feature of VFID and VFID-clips, (N,1024): mean over time and space of I3D's last Inception module."""
    return activations["Mixed_5c"].mean(dim=(2, 3, 4))


def pvcs(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Perceptual video clip similarity of clips by their I3D activations, (N,): a distance, 0 for equal ones.

    The activations (N,C,T,H,W) of every layer are scaled to unit length over channels; their squared differences are
    summed over channels, averaged over time and space, and summed over layers.
    """
    return sum(_squared(_unit(a[name]) - _unit(b[name])).mean(dim=(1, 2, 3, 4)) for name in a)  # type: ignore[return-value]


# The table: of Frames (`gi.metrics.frames`), a function gives the values of every frame, pair or window, by `span` ----

def _each(function: Callable, *parts: np.ndarray) -> list[float]:
    return [function(*frame) for frame in zip(*parts, strict=True)]


def _features(frames) -> Tensor:
    network = frames.networks["inception"]
    return torch.stack([network(images).float() for images in frames.images])


def _warp_error(frames, hole: bool) -> Tensor:
    composite, (flow, backward) = frames.images[1], frames.flows
    counted = visible(flow, backward)
    if hole:
        counted = counted & touches_hole(frames.masks[:-1], frames.masks[1:], flow)
    return warp_error(composite[:-1], composite[1:], flow, counted)


LPIPS_NETWORK = Network("lpips", "gi.metrics.features.LPIPS", {"net": "alex"})  # the paper's for video
I3D_NETWORK = Network("i3d", "gi.metrics.i3d.I3D")
ESTIMATOR = Network("estimator", "gi.flow.estimate.DIS")
VIDEO_METRICS = table(
    Metric("FID", 2, False, "fid", _features, INCEPTION_NETWORK, per_set=True),
    Metric("LPIPS", 4, False, "lpips", lambda f: f.networks["lpips"](*f.images), LPIPS_NETWORK),
    Metric("SSIM, data range 2", 4, True, "ssim2", lambda f: _each(lambda a, b: ssim(a, b, 2), f.truth, f.composite)),
    # span=None: the function makes, for a network and a number of frames, what takes them in pieces (push, result).
    Metric("VFID", 4, False, "vfid", VideoFeature, I3D_NETWORK, per_set=True, span=None),
    Metric("VFID of clips", 4, False, "vfid_clips", lambda f: f.windows[0], I3D_NETWORK, per_set=True, span=WINDOW),
    Metric("PVCS", 4, False, "pvcs", lambda f: f.windows[1], I3D_NETWORK, span=WINDOW),
    Metric("PCons", 2, True, "pcons", lambda f: _each(pcons, f.composite[:-1], f.hole[:-1], f.composite[1:]), span=2,
           optional=True),  # as DEVIL has it: no pair is capped, and a patch that recurs exactly is infinite
    Metric("PSNR", 2, True, "psnr", lambda f: _each(psnr, f.truth, f.composite), most=MOST_PSNR),
    Metric("SSIM", 4, True, "ssim", lambda f: _each(ssim, f.truth, f.composite)),
    Metric("PSNR in the hole", 2, True, "psnr_hole", optional=True, most=MOST_PSNR,
           function=lambda f: [inside(functional.psnr, *frame) for frame in zip(*f.images, f.masks, strict=True)]),
    Metric("SSIM in the hole", 4, True, "ssim_hole", optional=True,
           function=lambda f: [inside(functional.ssim, *frame) for frame in zip(*f.images, f.masks, strict=True)]),
    Metric("warp error", 5, False, "warp_error", lambda f: _warp_error(f, False), ESTIMATOR, span=2, optional=True),
    Metric("warp error in the hole", 5, False, "warp_error_hole", lambda f: _warp_error(f, True), ESTIMATOR, span=2,
           optional=True),
)


def _decibels(mean_square: float) -> float:
    return 10 * math.log10(255 ** 2 / mean_square) if mean_square > 0 else math.inf


def _squared_differences(patch: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Sum over pixels and channels of (patch - region)^2 at every place of `patch` (h,w,3) in `region`, exact."""
    patch, region = patch.astype(np.float64), region.astype(np.float64)
    mixed = signal.fftconvolve(region, patch[::-1, ::-1], mode="valid", axes=(0, 1)).sum(axis=-1)
    squares = cv2.sqrBoxFilter(region, cv2.CV_64F, patch.shape[1::-1], anchor=(0, 0), normalize=False).sum(axis=-1)
    # Rounding errors of the transform are far under one half, so that rounding to whole numbers makes it exact.
    return squares[:mixed.shape[0], :mixed.shape[1]] + np.square(patch).sum() - 2 * np.rint(mixed)


def _squared(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    return x / (_squared(x).sqrt() + 1e-10)
