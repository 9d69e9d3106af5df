"""Arithmetic on optical flow: sampling along it, moving it to another grid, checking one direction against the other.

Everywhere in this project flow is (N,2,H,W) in pixels of its own grid, channel 0 along x, and leads from the target to
the source: the source is sampled at `pixel + flow` to lie on the target.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(x: Tensor, flow: Tensor, corner: Sequence[int] = (0, 0)) -> Tensor:
    """Samples `x` (N,C,H,W) at `pixel + flow`, bilinearly, with zeros outside the image; `flow` (N,2,h,w) in pixels.

    `flow` is of the whole image, or of a part that begins at `corner`, row and column; the result (N,C,h,w) as well. It
    has the dtype of `x`. Positions are always computed in float32: half precision cannot represent fractions of a pixel
    at coordinate 1000. Along an axis of a single pixel every position is that pixel.
    """
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        column, row = places(flow, corner)
        grid = torch.stack([2 * column / max(width - 1, 1) - 1, 2 * row / max(height - 1, 1) - 1], dim=-1)
        return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True).to(x.dtype)


def places(flow: Tensor, corner: Sequence[int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """Column and row (N,H,W), float32, that each pixel of a flow (N,2,H,W) leads to; `corner` as in `warp`."""
    flow = flow.float()
    rows, columns = (start + torch.arange(length, device=flow.device, dtype=flow.dtype)
                     for start, length in zip(corner, flow.shape[-2:], strict=True))
    return columns + flow[:, 0], rows[:, None] + flow[:, 1]


def sample(image: Tensor, points: Tensor) -> Tensor:
    """Values (N, C) of `image` (1, C, H, W) at `points` (N, 2), x and y in pixels: bilinear, border continued."""
    last = points.new_tensor([max(length - 1, 1) for length in image.shape[:-3:-1]])
    grid = (2 * points / last - 1).clamp(-1, 1)  # padding_mode "border" is missing on Apple GPUs before torch 2.13
    return F.grid_sample(image, grid[None, None], mode="bilinear", align_corners=True)[0, :, 0].T


def area_means(x: Tensor, size: Sequence[int]) -> Tensor:
    """Mode "area" of `interpolate`: means of (N,C,H,W) over rectangles of whole pixels, (N,C,*size).

    PyTorch has it on Apple GPUs only for sizes that divide (pytorch/pytorch#96056): others are computed on the CPU.
    """
    divisible = all(full % reduced == 0 for full, reduced in zip(x.shape[-2:], size, strict=True))
    compute_device = x.device if divisible or x.device.type != "mps" else torch.device("cpu")
    return F.interpolate(x.to(compute_device), tuple(size), mode="area").to(x.device)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing of (N,C,H,W) to `size` = (height, width) with aligned corners, in float32."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x.float()
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x.float(), tuple(size), mode="bilinear", align_corners=True)


def resize_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """Moves flow (N,2,H,W) to a grid of `size` = (height, width); its vectors are pixels of the new grid, float32.

    They scale with the number of pixels, as in the original release, although the corners of the grids are aligned.
    """
    if tuple(flow.shape[-2:]) == tuple(size):
        return flow.float()
    x, y = resize(flow, size).unbind(1)
    return torch.stack([x * (size[1] / flow.shape[-1]), y * (size[0] / flow.shape[-2])], dim=1)


def forward_backward_error(flow: Tensor, backward: Tensor, estimated_at: Sequence[int] | None = None) -> Tensor:
    """How far a pixel lands from itself after going along `flow` and back along `backward`: (N,1,H,W), >= 0, float32.

    Mean over x and y of |flow + backward sampled at flow|, both (N,2,H,W), in pixels. `estimated_at` is the (height,
    width) that the flow was estimated at: the original release multiplies each component by (width, height) / this
    size on top of the resizing, and its networks were trained on that.
    """
    height, width = flow.shape[-2:]
    difference = (flow.float() + warp(backward.float(), flow)).abs()
    if estimated_at is not None:
        x, y = difference.unbind(1)
        difference = torch.stack([x * (width / estimated_at[1]), y * (height / estimated_at[0])], dim=1)
    return difference.mean(dim=1, keepdim=True)
