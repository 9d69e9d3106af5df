"""Deformable write: high-frequency detail of aligned keyframes enters the target's local map (section 3.3)."""

import torch
from torch import nn

from gi.flow.warp import resize, resize_flow, warp


class DeformableWrite(nn.Module):
    """Adds to the target's map the keyframes' warped maps, weighted per pixel and channel by a softmax over keyframes.

    The paper's query sees the warped keyframe and the flow error; in the original release it sees the target's map as
    well, and so it does here.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(2 * channels + 1, channels, 1)
        self.value = nn.Conv2d(channels + 1, channels, 1)

    def forward(self, target, sources, flows, flow_errors):
        """target (B, C, h, w), sources (B, T, C, h, w); flows (B, T, 2, H, W), flow_errors (B, T, 1, H, W): pixels."""
        b, t = sources.shape[:2]
        size = target.shape[-2:]
        warped = warp(sources.flatten(0, 1), resize_flow(flows.flatten(0, 1), size))
        aligned = torch.cat([warped, resize(flow_errors.flatten(0, 1), size)], dim=1)
        repeated = target[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1)
        query = self.query(torch.cat([aligned, repeated], dim=1)).unflatten(0, (b, t))
        value = self.value(aligned).unflatten(0, (b, t))
        return target + (query.softmax(dim=1) * value).sum(dim=1)
