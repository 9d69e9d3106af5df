"""The motion of a hole where objects move in front of a background: that of the background. Ours, not the paper's.

Flow continued smoothly from a hole's edge follows whatever passes by. Where nearly all of a hole's surroundings follow
one simple motion, the hole is taken to belong to that layer; what moves otherwise passes in front of it.
"""
import cv2
import numpy as np
import torch
from torch import Tensor

from gi.flow.planar import planar_flow
from gi.flow.unseen import smooth_fill
from gi.flow.warp import forward_backward_error
from gi.media.scale import video_pixels

_POINTS = 500  # sampled from the surroundings, more densely close to the hole
_NEAR = 0.08  # of the longer side: pixels so far from the hole are sampled a quarter as often as at its edge
_AGREE = 0.7  # share of them that the layer must explain; a plane explains less of parallax or waves
_SIMPLER = 0.95  # a simpler motion is preferred that explains this share of what the best one does
_CLOSE = 0.5  # pixels at 432 x 240: flow that deviates less belongs to the layer, and flow there and back is reliable


def background_flow(flow: Tensor, back: Tensor, hole: Tensor) -> Tensor | None:
    """Flow (1,2,H,W) of the layer that nearly all of the surroundings of `hole` (1,1,H,W) belong to; None if none.

    `flow` (1,2,H,W) leads to another image and `back` from there, in pixels. The layer stands still, or moves by an
    affine map or a homography: the simplest that explains the surroundings. The same random numbers every time.
    """
    size, inside = flow.shape[-2:], (hole[0, 0] > 0.5).cpu().numpy()
    limit = video_pixels(_CLOSE, size)
    reliable = (forward_backward_error(flow, back)[0, 0] < limit).cpu().numpy() & ~inside
    start, end = _moves(flow[0].cpu().numpy(), reliable, inside)
    if len(start) < 32:
        return None
    shares = [(matrix, _share(matrix, start, end, limit)) for matrix in _models(start, end, limit)]
    best = max(share for _, share in shares)
    if best < _AGREE:
        return None
    matrix = next(matrix for matrix, share in shares if share >= _SIMPLER * best)
    return planar_flow([matrix], size).to(flow.device)


def continue_flow(flow: Tensor, hole: Tensor, background: Tensor | None) -> Tensor:
    """`flow` (1,2,H,W) with `hole` (1,1,H,W) filled by the background's flow, or without one by a smooth continuation.
    """
    return smooth_fill(flow, hole) if background is None else torch.where(hole > 0.5, background, flow)


def _moves(flow, reliable, hole):
    """Some reliable moves (n, 2) -> (n, 2) that do not leave the image."""
    y, x = np.nonzero(reliable)
    if len(y) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    distance = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 3)[y, x]
    weights = (distance + _NEAR * max(hole.shape)) ** -2.0
    chosen = np.random.default_rng(0).choice(len(y), min(len(y), _POINTS), replace=False, p=weights / weights.sum())
    y, x = y[chosen], x[chosen]
    start = np.stack([x, y], axis=1).astype(np.float64)
    end = start + flow[:, y, x].T
    inside = ((end >= 0) & (end <= [hole.shape[1] - 1, hole.shape[0] - 1])).all(axis=1)
    return start[inside], end[inside]


def _models(start, end, limit):
    """Matrices (3, 3), the simplest first."""
    yield np.eye(3)
    cv2.setRNGSeed(0)
    affine, _ = cv2.estimateAffine2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=limit, maxIters=300)
    if affine is not None:
        yield np.vstack([affine, [0, 0, 1]])
    cv2.setRNGSeed(0)
    homography, _ = cv2.findHomography(start, end, cv2.RANSAC, limit, maxIters=300)
    if homography is not None:
        yield homography


def _share(matrix, start, end, limit):
    x, y, depth = matrix @ np.concatenate([start, np.ones((len(start), 1))], axis=1).T
    if (depth <= 0).any():
        return 0.0
    return float((np.hypot(x / depth - end[:, 0], y / depth - end[:, 1]) < limit).mean())
