"""Keyframes brought onto the target by optical flow."""
from collections.abc import Sequence

import torch
from torch import Tensor

from gi.flow.warp import warp


def surely_known(sampled: Tensor) -> Tensor:
    """Whether bilinear samples of a map that is 1 where something is known, else 0, lie on nothing but known pixels."""
    return sampled >= 1 - 1e-3  # positions are rounded


def align_keyframes(sources: Tensor, source_masks: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """`align` for keyframes (B,T,3,H,W) with holes (B,T,1,H,W) and flows (B,T,2,H,W): the same shapes with T."""
    if 0 in sources.shape[:2]:
        return sources.float(), source_masks.float()
    # One after the other: what is computed on the way then takes no more memory with more of them.
    aligned = [align(*frame) for frame in zip(sources.unbind(1), source_masks.unbind(1), flows.unbind(1), strict=True)]
    colours, visible = (torch.stack(parts, dim=1) for parts in zip(*aligned, strict=True))
    return colours, visible


def align(source: Tensor, mask: Tensor, flow: Tensor, corner: Sequence[int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """A keyframe (B,3,H,W) brought onto the target by its flow, zero where not visible, and visibility (B,1,H,W).

    Or onto a part of the target, which `flow` is of and which begins at `corner`, row and column.
    Visibility is 1 where the whole bilinear sample lies inside the frame and outside the keyframe's hole, else 0.
    """
    known = (mask <= 0.5).float()
    # A keyframe's hole is emptied first: bilinear weights of 1e-7 on it must not carry anything over.
    warped = warp(torch.cat([source.float() * known, known], dim=1), flow, corner)
    visible = surely_known(warped[:, 3:]).float()
    return warped[:, :3] * visible, visible
