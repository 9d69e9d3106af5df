"""The motion of a plane: fitted to a flow field to fill its hole, or to matched keypoints. Ours, not the paper's.

A hole's edge tells little about the middle of a large hole when the scene turns or changes in size: the nearest flow
is the wrong one there. Where most of what is around it moves as one plane does, the hole most likely does so too.
Lenses bend what a plane shows, to first order by a cubic polynomial; and scenes are often nearly planar only.
"""
import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.threads import on_threads
from gi.flow.unseen import smooth_fill
from gi.flow.warp import forward_backward_error
from gi.media.scale import PHOTO_SIDE, scale

_POINTS = 400  # of a field are looked at for its plane, the more of them the closer to the hole
_BEND_POINTS = 1000  # ... for how it bends
_STIFF = 1e-3  # a bend is penalised as if so large a share of the points had its terms for coordinates, and none
_ROUNDS = 5  # of least squares, each with less weight for points that were far off before
_NEAR = 0.08  # of the longer side: pixels so far from the hole are looked at a quarter as often as those at its edge
_AGREE = 0.4  # share of them that a plane must explain
# Lengths are pixels of an image of 256 x 256, and scale with it.
_PLANE = 1.0  # flow that deviates less from a plane agrees with it
_MOTION = 2.0  # flow that deviates more is another motion, or an error
_NOISE = 0.1  # an estimator's, at least
_CELL = 16  # what is left of the flow is averaged over squares of this side, as flow near holes is noisy
_SEEN = 0.3  # ... so much of which must be known
_CONSISTENT = 0.25  # flow there and back that misses its start by less is reliable
_ENOUGH = 0.003  # of a field must be reliable, or all of it is looked at
_TERMS = [(i, j) for i in range(4) for j in range(4 - i)]  # powers of x and y of a cubic polynomial
_LARGEST_CHANGE = 9.0  # of an area, or the other way around; what a plane shows beyond is no longer of use


@torch.no_grad()
def complete_planar(flows: Tensor, mask: Tensor) -> Tensor:
    """Flows (2,B,T,2,H,W), to T images and back, completed with `inpaint_planar` from where the two are consistent.

    Both are replaced in the hole `mask` (B,1,H,W), also those back, which start in other images: so does the original
    release. float32.
    """
    _, batch, frames, _, *size = flows.shape
    limit = _CONSISTENT * scale(size, PHOTO_SIDE)
    pairs = [[direction.flatten(0, 1) for direction in pair] for pair in (flows, flows.flip(0))]
    reliable = torch.cat([forward_backward_error(*pair) < limit for pair in pairs])
    reliable |= reliable.float().mean(dim=(1, 2, 3), keepdim=True) < _ENOUGH
    hole = mask.repeat_interleave(frames, dim=0).repeat(2, 1, 1, 1)
    return inpaint_planar(flows.flatten(0, 2), hole, reliable).view(flows.shape)


@torch.no_grad()
def inpaint_planar(flow: Tensor, mask: Tensor, reliable: Tensor | None = None) -> Tensor:
    """Replaces flow (N,2,H,W) where `mask` (N,1,H,W) is 1 (> 0.5) by that of the plane the rest shows.

    What a field deviates from its plane, where that is little, is fitted by a cubic polynomial; what is left is
    averaged over squares and continued smoothly into the hole. A field that shows no plane is continued smoothly as a
    whole. Where `reliable` (N,1,H,W), unless None, is not true, flow is not looked at. Planes are found on the host by
    RANSAC, with the same random numbers every time. Returns float32 (N,2,H,W); outside the holes the values are those
    of `flow`.
    """
    if not flow.numel():
        return flow.float()
    fields, size, hole = flow.float(), flow.shape[-2:], mask > 0.5
    known = ~hole if reliable is None else ~hole & reliable
    unit = scale(size, PHOTO_SIDE)
    fitted = on_threads(functools.partial(_fit_field, unit=unit),
                        *(x.cpu().numpy() for x in (fields, known[:, 0], hole[:, 0])))
    has_plane = torch.tensor([fit is not None for fit in fitted], device=flow.device)
    matrices, bends = zip(*((np.eye(3), np.zeros((len(_TERMS), 2))) if fit is None else fit for fit in fitted),
                          strict=True)
    plane = planar_flow(matrices, size).to(flow.device) + _bend_flow(bends, size).to(flow.device)
    rest = fields - plane
    # What is far from the plane is another motion, or an error: nothing to continue.
    far = torch.hypot(*rest.split(1, dim=1)) > _MOTION * unit
    unknown = (~known | (has_plane.view(-1, 1, 1, 1) & far)).float()
    filled = torch.empty_like(rest)
    filled[~has_plane] = smooth_fill(rest[~has_plane], unknown[~has_plane])
    filled[has_plane] = _coarsely_continued(rest[has_plane], unknown[has_plane], max(1, round(_CELL * unit)))
    return torch.where(hole, plane + filled, fields)


def planar_flow(matrices: Sequence[np.ndarray], size: Sequence[int], after: Tensor | None = None) -> Tensor:
    """The flow (N,2,height,width) in pixels, float32, of N homographies (3, 3) of pixel coordinates x, y.

    They apply `after` another flow (N,2,height,width), whose device and precision then serve; without it, the CPU and
    float64.
    """
    moved = torch.zeros(len(matrices), 2, 1, 1, dtype=torch.float64) if after is None else after
    y, x = (torch.arange(length, device=moved.device, dtype=moved.dtype) for length in size)
    y = y[:, None]
    flows = []
    for matrix, (right, below) in zip(matrices, moved, strict=True):
        across, down, depth = (a * (x + right) + b * (y + below) + c for a, b, c in matrix.tolist())
        flows.append(torch.stack([across / depth - x, down / depth - y]).float())
    return torch.stack(flows)


def fit_homography(start: np.ndarray, end: np.ndarray, size: tuple[int, int], *, tolerance: float,
                   least: int) -> np.ndarray | None:
    """The homography (3, 3) that most of the moves (n, 2) -> (n, 2) agree with, at least `least` of them; None if none.

    `tolerance` is in pixels. One that folds, mirrors or shrinks an image of `size` to a fraction of its area is none.
    """
    if len(start) < max(4, least):
        return None
    cv2.setRNGSeed(0)
    matrix, agree = cv2.findHomography(start.astype(np.float64), end.astype(np.float64), cv2.RANSAC, tolerance,
                                       maxIters=500)
    if matrix is None or agree.sum() < least:
        return None
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    moved = cv2.perspectiveTransform(corners[None], matrix)[0].astype(np.float32)
    area = cv2.contourArea(moved, oriented=True) / max(1, (height - 1) * (width - 1))
    sane = (depth > 0).all() and cv2.isContourConvex(moved) and 1 / _LARGEST_CHANGE < area < _LARGEST_CHANGE
    return matrix if sane else None


def _fit_field(flow, known, hole, unit):
    """The homography (3, 3) of a field, and coefficients (10, 2) of how it bends; None if there is no plane."""
    y, x = np.nonzero(known)
    if len(y) < 64:
        return None
    distance = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 3)[y, x]
    distance = np.minimum(distance, max(known.shape)) + _NEAR * max(known.shape)  # without a hole, it would be endless
    chance = distance**-2.0 / (distance**-2.0).sum()
    some = np.random.default_rng(0).choice(len(y), min(len(y), _BEND_POINTS), replace=False, p=chance)
    y, x = y[some], x[some]
    start = np.stack([x, y], axis=1).astype(np.float64)
    end = start + flow[:, y, x].T
    # Moves out of the image are an estimator's guesses.
    seen = ((end >= 0) & (end <= [known.shape[1] - 1, known.shape[0] - 1])).all(axis=1)[:_POINTS]
    matrix = fit_homography(start[:_POINTS][seen], end[:_POINTS][seen], known.shape, tolerance=_PLANE * unit,
                            least=max(32, round(_AGREE * seen.sum())))
    if matrix is None:
        return None
    return matrix, _fit_bend(start, end - cv2.perspectiveTransform(start[None], matrix)[0], known.shape, unit)


def _fit_bend(points, deviation, size, unit):
    """Coefficients (10, 2) of the polynomial for deviations (n, 2) from a plane, by robust ridge regression."""
    close = np.hypot(*deviation.T) < _MOTION * unit
    x, y = (2 * points[close] / np.maximum(np.array(size[::-1]) - 1, 1) - 1).T  # from -1 to 1
    terms, wanted = np.stack([x**i * y**j for i, j in _TERMS], axis=1), deviation[close]
    penalty = _STIFF * len(wanted) * np.diag([float(i + j > 0) for i, j in _TERMS]) + 1e-6 * np.eye(len(_TERMS))
    weights = np.ones((len(wanted), 1))
    coefficients = np.zeros((len(_TERMS), 2))
    for _ in range(_ROUNDS if len(wanted) else 0):
        coefficients = np.linalg.solve((weights * terms).T @ terms + penalty, (weights * terms).T @ wanted)
        error = np.linalg.norm(wanted - terms @ coefficients, axis=1, keepdims=True)
        weights = 1 / (1 + (error / max(_NOISE * unit, np.median(error))) ** 2)
    return coefficients


def _bend_flow(bends, size):
    """Polynomials with coefficients (10, 2) each as flow (N,2,height,width), float32."""
    y, x = (torch.linspace(-1, 1, length)[:, None] ** torch.arange(4) for length in size)
    terms = torch.zeros(len(bends), 2, 4, 4)
    for number, (i, j) in enumerate(_TERMS):
        terms[:, :, j, i] = torch.from_numpy(np.stack([bend[number] for bend in bends]))
    return y @ terms @ x.T


def _coarsely_continued(rest, unknown, cell):
    """`rest` (N,2,H,W) averaged over squares of `cell` pixels, known enough, and continued where `unknown`."""
    size = [-(-length // cell) for length in rest.shape[-2:]]
    known = F.interpolate(1 - unknown, size=size, mode="area")
    mean = F.interpolate(rest * (1 - unknown), size=size, mode="area") / known.clamp(min=1e-6)
    continued = smooth_fill(mean, (known < _SEEN).float())
    return F.interpolate(continued, size=rest.shape[-2:], mode="bilinear", align_corners=False)
