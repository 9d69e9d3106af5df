"""Deformable write: high-frequency detail of aligned keyframes enters the target's local map (section 3.3)."""
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.flow.warp import resize, resize_flow, warp


class DeformableWrite(nn.Module):
    """Adds to the target's map the keyframes' warped maps, weighted per pixel and channel by a softmax over keyframes.

    Query and value are 1x1 convolutions of the warped map and the flow error. Such a convolution commutes with the
    warp, so its part that reads the map is computed before (`project`), once for all targets that a frame guides. In
    the original release the query sees the target's map as well. What that and the query's bias add is the same for
    every keyframe and cancels in the softmax: these weights are kept for checkpoints only, and not used.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.query = nn.Conv2d(2 * channels + 1, channels, 1)  # of warped map, error, target's map
        self.value = nn.Conv2d(channels + 1, channels, 1)  # of warped map, error

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """`target` (B,C,h,w), `sources` (B,T,C,h,w); flows (B, T, 2, H, W), flow_errors (B, T, 1, H, W): pixels."""
        return self.write(target, self.project(sources).unbind(1), flows, flow_errors)

    def project(self, sources: Tensor) -> Tensor:
        """Local maps (B, T, C, h, w) -> the parts of the queries and values made of them, (B, T, 2C, h, w)."""
        c = self.channels
        weight = torch.cat([self.query.weight[:, :c], self.value.weight[:, :c]])
        return F.conv2d(sources.flatten(0, 1), weight).unflatten(0, sources.shape[:2])

    def write(self, target: Tensor, detail: tuple[Tensor, ...], flows: Tensor, flow_errors: Tensor) -> Tensor:
        """`forward` with `detail`, what `project` returned, as T maps (B, 2C, h, w)."""
        b, t, size = len(target), len(detail), target.shape[-2:]
        flows = resize_flow(flows.flatten(0, 1), size).unflatten(0, (b, t))
        errors = resize(flow_errors.flatten(0, 1), size).unflatten(0, (b, t))
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            aligned = self._aligned(warp, *(x.flatten(0, 1) for x in (torch.stack(detail, dim=1), flows, errors)))
            query, value = aligned.unflatten(0, (b, t)).split(self.channels, dim=2)
            mean = (query.softmax(dim=1) * value).sum(dim=1)
        else:  # one keyframe after the other, so that memory does not grow with their number
            sample = warp_rows if target.device.type == "cpu" else warp
            frames = zip(detail, flows.unbind(1), errors.unbind(1), strict=True)
            mean = softmax_mean(self._aligned(sample, *frame).split(self.channels, dim=1) for frame in frames)
        return target + self.value.bias[:, None, None] + mean

    def _aligned(self, sample, detail, flows, errors):
        """Queries and values (N, 2C, h, w) in the pixels of the target; flows and errors at the size of the maps."""
        c = self.channels
        weight = torch.cat([self.query.weight[:, c : c + 1], self.value.weight[:, c:]])[..., 0]
        return torch.addcmul(sample(detail, flows), weight, errors)


def softmax_mean(frames: Iterator[Sequence[Tensor]]) -> Tensor:
    """Sum of values weighted by the softmax of queries, over the frames, one or more, of an iterator of (query, value),
    all of one shape.
    """
    query, value = next(frames)
    highest, total, mean = query, torch.ones_like(query), value
    for query, value in frames:  # all sums so far are relative to the highest query so far
        before, highest = highest, torch.maximum(highest, query)
        old, new = (before - highest).exp(), (query - highest).exp()
        total = total * old + new
        mean = mean * old + new * value
    return mean / total


def warp_rows(x: Tensor, flow: Tensor) -> Tensor:
    """`gi.flow.warp.warp` of x (N,C,H,W) by flow (N,2,H,W) in pixels, for a CPU and many channels: several times as
    fast, up to rounding. Channels last.

    Each pixel is a weighted sum of four rows of a table.
    """
    n, channels, height, width = x.shape
    flow = flow.float()
    column = torch.arange(width) + flow[:, 0] * (width > 1)
    row = torch.arange(height)[:, None] + flow[:, 1] * (height > 1)
    frame = height * width * torch.arange(n)[:, None, None]
    indices, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            i, j = row.floor() + dy, column.floor() + dx
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            weight = (1 - (row - i).abs()) * (1 - (column - j).abs())
            weights.append(torch.where(inside, weight, 0))
            indices.append(frame + torch.where(inside, i * width + j, 0).long())
    table = x.float().permute(0, 2, 3, 1).contiguous().view(-1, channels)
    indices, weights = (torch.stack(corners, dim=-1).view(-1, 4) for corners in (indices, weights))
    rows = F.embedding_bag(indices, table, per_sample_weights=weights, mode="sum")
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2).to(x.dtype)
