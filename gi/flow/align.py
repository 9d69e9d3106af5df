"""Keyframes warped to the target by optical flow."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.warp import places, warp


def surely_known(sampled: Tensor) -> Tensor:
    """Whether bilinear samples of a map that is 1 at known pixels, else 0, lie on known pixels only; bool, same shape.
    """
    return sampled >= 1 - 1e-3  # positions are rounded


def align_keyframes(sources: Tensor, source_masks: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """`align` for keyframes (B,T,3,H,W) with holes (B,T,1,H,W) and flows (B,T,2,H,W): the same shapes with T."""
    if 0 in sources.shape[:2]:
        return sources.float(), source_masks.float()
    # One after the other, so that the memory for intermediate results does not grow with T.
    aligned = [align(*frame) for frame in zip(sources.unbind(1), source_masks.unbind(1), flows.unbind(1), strict=True)]
    colours, visible = (torch.stack(parts, dim=1) for parts in zip(*aligned, strict=True))
    return colours, visible


def align(source: Tensor, mask: Tensor, flow: Tensor, corner: Sequence[int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """A keyframe (B,3,H,W) warped to the target by its flow, zero where not visible, and its visibility (B,1,H,W).

    `flow` may cover only a part of the target, which begins at `corner`, row and column.
    Visibility is 1 where the whole bilinear sample lies inside the frame and outside the keyframe's hole, else 0.
    """
    known = (mask <= 0.5).float()
    # A keyframe's hole is emptied first: its content must not leak through bilinear weights of 1e-7.
    warped = warp(torch.cat([source.float() * known, known], dim=1), flow, corner)
    visible = surely_known(warped[:, 3:]).float()
    return warped[:, :3] * visible, visible


def lost_detail(source: Tensor, mask: Tensor, flow: Tensor, corner: Sequence[int] = (0, 0)) -> Tensor:
    """What the bilinear colours of `align` lack compared with Catmull-Rom cubic splines, (B,3,H,W).

    Between two pixels, at a fraction t, linear interpolation lacks -t (1 - t) / 2 times the second difference, which
    these splines add; here they do so along x and along y. It is 0 beside the hole and at the border. All of it is
    sampled bilinearly, as there is no bicubic sampling on Apple GPUs.
    """
    known = (mask <= 0.5).float()
    layers = torch.cat([source.float() * known, known], dim=1)
    across, down = (warp(_second_difference(layers, axis), flow, corner) for axis in (-1, -2))
    right, below = (place.sub(place.floor())[:, None] for place in places(flow, corner))
    return -(right * (1 - right) * across + below * (1 - below) * down) / 2


def _second_difference(layers, axis):
    """Second difference of colours (N,3,H,W) along an axis, 0 where a pixel it needs is missing; `layers`: (N,4,H,W) of
    colours and known pixels.
    """
    length = layers.shape[axis]
    before, centre, after = (layers.narrow(axis, start, max(0, length - 2)) for start in (0, 1, 2))
    inner = (before - 2 * centre + after)[:, :3] * before[:, 3:] * centre[:, 3:] * after[:, 3:]
    return F.pad(inner, (1, 1) if axis == -1 else (0, 0, 1, 1)) if length > 2 else torch.zeros_like(layers[:, :3])
