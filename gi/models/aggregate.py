"""Deformable write: high-frequency detail of aligned keyframes enters the target's local map (section 3.3)."""

import torch
import torch.nn.functional as F
from torch import nn

from gi.flow.warp import resize, resize_flow, warp


class DeformableWrite(nn.Module):
    """Adds to the target's map the keyframes' warped maps, weighted per pixel and channel by a softmax over keyframes.

    Query and value are 1x1 convolutions of the warped map and the flow error. Such a convolution commutes with the
    warp, so its part that reads the map is made before (`project`), once for all targets that a frame guides.

    The paper's query sees the warped keyframe and the flow error; in the original release it sees the target's map as
    well. What that and the query's bias add is the same for every keyframe, though, and cancels in the softmax over
    them: these weights exist for the sake of checkpoints and are not used.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.query = nn.Conv2d(2 * channels + 1, channels, 1)  # of warped map, error, target's map
        self.value = nn.Conv2d(channels + 1, channels, 1)  # of warped map, error

    def forward(self, target, sources, flows, flow_errors):
        """target (B, C, h, w), sources (B, T, C, h, w); flows (B, T, 2, H, W), flow_errors (B, T, 1, H, W): pixels."""
        return self.write(target, self.project(sources), flows, flow_errors)

    def project(self, sources):
        """Local maps (B, T, C, h, w) -> the parts of the queries and values made of them, (B, T, 2C, h, w)."""
        c = self.channels
        weight = torch.cat([self.query.weight[:, :c], self.value.weight[:, :c]])
        return F.conv2d(sources.flatten(0, 1), weight).unflatten(0, sources.shape[:2])

    def write(self, target, detail, flows, flow_errors):
        """`forward` with `detail` (B, T, 2C, h, w), what `project` returned."""
        b, t = detail.shape[:2]
        c = self.channels
        size = target.shape[-2:]
        warped = warp(detail.flatten(0, 1), resize_flow(flows.flatten(0, 1), size))
        weight = torch.cat([self.query.weight[:, c : c + 1], self.value.weight[:, c:]])[..., 0]
        warped = torch.addcmul(warped, weight, resize(flow_errors.flatten(0, 1), size))
        query, value = warped.unflatten(0, (b, t)).split(c, dim=2)
        return target + self.value.bias[:, None, None] + (query.softmax(dim=1) * value).sum(dim=1)
