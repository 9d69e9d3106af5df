"""Keyframes brought onto the target by optical flow."""
import torch
from torch import Tensor

from gi.flow.warp import warp

SURELY_KNOWN = 1 - 1e-3  # of a bilinear sample of a map of zeros and ones; positions are rounded


def align_keyframes(sources: Tensor, source_masks: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """Keyframes (B,T,3,H,W) brought onto the target by their flow, zero where not visible, and visibility (B,T,1,H,W).

    Visibility is 1 where the whole bilinear sample lies inside the frame and outside the keyframe's hole, else 0.
    """
    batch, frames = sources.shape[:2]
    if batch * frames == 0:
        return sources.float(), source_masks.float()
    known = (source_masks <= 0.5).float()
    # A keyframe's hole is emptied first: bilinear weights of 1e-7 on it must not carry anything over.
    layers = torch.cat([sources.float() * known, known], dim=2).flatten(0, 1)
    warped = warp(layers, flows.flatten(0, 1)).unflatten(0, (batch, frames))
    visible = (warped[:, :, 3:] > SURELY_KNOWN).float()
    return warped[:, :, :3] * visible, visible
