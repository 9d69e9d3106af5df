"""Filling the hole of a flow field from the pixels on its edge (original release)."""
import numpy as np
import torch
from torch import Tensor

from gi.flow.morphology import dilate

_PIXELS_AT_ONCE = 1 << 18  # bounds the memory of the (pixels, samples) weights to some 100 MB


@torch.no_grad()
def inpaint_flow(flow: Tensor, mask: Tensor, samples: int = 20, seed: int = 1) -> Tensor:
    """Replaces flow (N,C,H,W) where `mask` (N,1,H,W) is 1 (> 0.5) by an average over pixels of the hole's edge.

    C is 2, or 2k for k flow fields with the same hole, which then share the work.

    Edge pixels are hole pixels with a 4-neighbour outside the hole, without those on the image border; a hole that
    has none takes the flow of pixel (0, 0). `samples` of them are drawn with replacement, by the same `seed` for every
    image, so that an image's result does not depend on its neighbours in the batch. Weights are distance^-6; a
    drawn pixel keeps its own flow. Returns float32 (N,C,H,W); outside the holes the values are those of `flow`.
    """
    flow = flow.float()
    number, hole = len(flow), mask[:, 0] > 0.5
    if number == 0:
        return flow.clone()

    edge = hole & dilate(~hole)
    edge[:, [0, -1], :] = False
    edge[:, :, [0, -1]] = False
    points = edge.nonzero()  # (P, 3) of image, row, column: image after image, in each of them row after row
    counts = torch.bincount(points[:, 0], minlength=number).cpu().numpy()
    drawn = np.stack([np.random.default_rng(seed).choice(max(count, 1), samples) for count in counts])
    drawn += (np.cumsum(counts) - counts)[:, None]
    points = torch.cat([points[:, 1:], points.new_zeros(1, 2)])  # the last one is pixel (0, 0), for images without edge
    drawn[counts == 0] = len(points) - 1
    rows, columns = points[torch.from_numpy(drawn).to(points.device)].unbind(-1)  # (N, samples) each
    image = torch.arange(number, device=flow.device)[:, None]
    values = flow[image, :, rows, columns]  # (N, samples, C)

    filled = flow.clone()
    for index, row, column in (part.unbind(-1) for part in hole.nonzero().split(_PIXELS_AT_ONCE)):
        squared = (rows[index] - row[:, None]) ** 2 + (columns[index] - column[:, None]) ** 2
        squared = squared.float().clamp(min=1e-4)  # distance 0 must win against distance 1 without dividing by 0
        # Relative to the nearest sample: distance^-6 itself leaves float32's range within a large image.
        weight = (squared.amin(dim=1, keepdim=True) / squared) ** 3
        weight = weight / weight.sum(dim=1, keepdim=True)
        # One sample after the other: a matrix product would lose digits under autocast or TF32.
        filled[index, :, row, column] = sum(weight[:, i, None] * values[index, i] for i in range(samples))
    return filled
