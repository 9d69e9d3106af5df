"""The motion of a plane: fitted to a flow field to fill its hole, or to matched keypoints. Ours, not the paper's.

When the image rotates or zooms, the flow at a large hole's edge is wrong for its middle. Where most of the surroundings
move as one plane, the hole most likely does so too. Lens distortion and scenes that are only nearly planar need more
than a homography (`gi.flow.bend`), and the images themselves determine the motion more precisely than their flow
(`gi.flow.register`).
"""
import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.bend import MOTION, TERMS, Plane, bend_flow, fit_bend
from gi.flow.register import View, near_hole, register
from gi.flow.threads import on_threads
from gi.flow.unseen import smooth_fill
from gi.flow.warp import area_means, forward_backward_error
from gi.media.scale import PHOTO_SIDE, scale

_POINTS = 400  # sampled from a field to fit its plane, more densely close to the hole
_BEND_POINTS = 1000  # ... to fit its lens distortion
_AGREE = 0.4  # share of them that a plane must explain
# Lengths are pixels of an image of 256 x 256, and scale with it.
_PLANE = 1.0  # flow that deviates less from a plane agrees with it
_CELL = 16  # what is left of the flow is averaged over squares of this side, as flow near holes is noisy
_KNOWN_SHARE = 0.3  # ... of which this share must be known
_PRECISE = 0.3  # flow that deviates less from a plane that was registered is noise
_CONSISTENT = 0.25  # flow with a smaller forward-backward error is reliable
_ENOUGH = 0.003  # share of a field that must be reliable, else all of it is used
_STILL = Plane(np.eye(3), np.zeros((len(TERMS), 2)))
_LARGEST_CHANGE = 9.0  # of an area, enlarged or reduced; beyond it a keyframe is of no use


@torch.no_grad()
def complete_planar(flows: Tensor, mask: Tensor, views: Sequence[Sequence[View]] | None = None) -> Tensor:
    """Flows (2,B,T,2,H,W), to T images and back, completed with `inpaint_planar` from where the two are consistent.

    Both are replaced in the hole `mask` (B,1,H,W), also those back, which start in other images: so does the original
    release. `views`, B*T pairs of images, make those to the images more precise. float32.
    """
    _, batch, frames, _, *size = flows.shape
    limit = _CONSISTENT * scale(size, PHOTO_SIDE)
    pairs = [[direction.flatten(0, 1) for direction in pair] for pair in (flows, flows.flip(0))]
    reliable = torch.cat([forward_backward_error(*pair) < limit for pair in pairs])
    reliable |= reliable.float().mean(dim=(1, 2, 3), keepdim=True) < _ENOUGH
    hole = mask.repeat_interleave(frames, dim=0).repeat(2, 1, 1, 1)
    views = None if views is None else [*views, *(None for _ in views)]
    return inpaint_planar(flows.flatten(0, 2), hole, reliable, views).view(flows.shape)


@torch.no_grad()
def inpaint_planar(flow: Tensor, mask: Tensor, reliable: Tensor | None = None,
                   views: Sequence[Sequence[View] | None] | None = None) -> Tensor:
    """Replaces flow (N,2,H,W) where `mask` (N,1,H,W) is 1 (> 0.5) by that of the plane the rest shows.

    Small deviations of a field from its plane are fitted by a cubic polynomial, which `register` refines for fields
    whose pair of `views` is not None. The residual is averaged over squares and continued smoothly into the hole. A
    field that shows no plane is continued smoothly as a whole. Where `reliable` (N,1,H,W), unless None, is not true,
    flow is ignored. Planes are fitted on the CPU by RANSAC, with the same random numbers every time. Returns float32
    (N,2,H,W); outside the holes the values are those of `flow`.
    """
    if not flow.numel():
        return flow.float()
    fields, size, hole = flow.float(), flow.shape[-2:], mask > 0.5
    known = ~hole if reliable is None else ~hole & reliable
    unit = scale(size, PHOTO_SIDE)
    views = views or [None] * len(flow)
    planes = on_threads(functools.partial(_fit_field, unit=unit),
                        *(x.cpu().numpy() for x in (fields, known[:, 0], hole[:, 0])), views)
    has_plane = torch.tensor([plane is not None for plane in planes], device=flow.device)
    matrices, bends = zip(*(plane or _STILL for plane in planes), strict=True)
    plane = planar_flow(matrices, size, after=bend_flow(bends, size)).to(flow.device)
    rest = fields - plane
    # What is far from the plane is another motion, or an error: nothing to continue.
    outliers = torch.hypot(*rest.split(1, dim=1)) > MOTION * unit
    unknown = (~known | (has_plane.view(-1, 1, 1, 1) & outliers)).float()
    filled = torch.empty_like(rest)
    filled[~has_plane] = smooth_fill(rest[~has_plane], unknown[~has_plane])
    noise = torch.tensor([0.0 if pair is None else _PRECISE * unit for pair in views], device=flow.device)
    filled[has_plane] = _coarsely_continued(rest[has_plane], unknown[has_plane], max(1, round(_CELL * unit)),
                                            noise[has_plane])
    return torch.where(hole, plane + filled, fields)


def planar_flow(matrices: Sequence[np.ndarray], size: Sequence[int], after: Tensor | None = None) -> Tensor:
    """The flow (N,2,height,width) in pixels, float32, of N homographies (3, 3) of pixel coordinates x, y.

    They are applied on top of another flow `after` (N,2,height,width), whose device and precision are used; without it,
    the CPU and float64.
    """
    moved = torch.zeros(len(matrices), 2, 1, 1, dtype=torch.float64) if after is None else after
    y, x = (torch.arange(length, device=moved.device, dtype=moved.dtype) for length in size)
    y = y[:, None]
    flows = []
    for matrix, (right, below) in zip(matrices, moved, strict=True):
        across, down, depth = (a * (x + right) + b * (y + below) + c for a, b, c in matrix.tolist())
        flows.append(torch.stack([across.div_(depth).sub_(x).float(), down.div_(depth).sub_(y).float()]))
    return torch.stack(flows)


def fit_homography(start: np.ndarray, end: np.ndarray, size: tuple[int, int], *, tolerance: float,
                   least: int) -> np.ndarray | None:
    """The homography (3, 3) that most of the moves (n, 2) -> (n, 2) agree with, at least `least` of them; None if none.

    `tolerance` is in pixels. One that folds or mirrors an image of `size`, or changes its area too much, is rejected.
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
    plausible = (depth > 0).all() and cv2.isContourConvex(moved) and 1 / _LARGEST_CHANGE < area < _LARGEST_CHANGE
    return matrix if plausible else None


def _fit_field(flow, known, hole, views, unit):
    """The `Plane` of a field, made precise by the two `views` if there are any; None if there is no plane."""
    y, x = np.nonzero(known)
    if len(y) < 64:
        return None
    chosen = near_hole(~hole, y, x, _BEND_POINTS)
    y, x = y[chosen], x[chosen]
    start = np.stack([x, y], axis=1).astype(np.float64)
    end = start + flow[:, y, x].T
    # Flow that leaves the image is a guess of the estimator.
    inside = ((end >= 0) & (end <= [known.shape[1] - 1, known.shape[0] - 1])).all(axis=1)[:_POINTS]
    matrix = fit_homography(start[:_POINTS][inside], end[:_POINTS][inside], known.shape, tolerance=_PLANE * unit,
                            least=max(32, round(_AGREE * inside.sum())))
    if matrix is None:
        return None
    before = cv2.perspectiveTransform(end[None], np.linalg.inv(matrix))[0]
    plane = Plane(matrix, fit_bend(start, before - start, known.shape, unit))
    return plane if views is None else register(plane, *views, known.shape)


def _coarsely_continued(rest, unknown, cell, noise):
    """`rest` (N,2,H,W) averaged over squares of side `cell`, and continued into squares that are mostly `unknown`.

    Of N fields, vectors shorter than their `noise` (N) become 0, and those that are hardly longer are shortened.
    """
    size = [-(-length // cell) for length in rest.shape[-2:]]
    known = area_means(1 - unknown, size)
    mean = area_means(rest * (1 - unknown), size) / known.clamp(min=1e-6)
    continued = smooth_fill(mean, (known < _KNOWN_SHARE).float())
    squared = continued.square().sum(dim=1, keepdim=True).clamp(min=1e-12)
    continued = continued * (1 - noise.view(-1, 1, 1, 1).square() / squared).clamp(min=0)
    return F.interpolate(continued, size=rest.shape[-2:], mode="bilinear", align_corners=False)
