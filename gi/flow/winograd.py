"""Convolutions by Winograd's minimal filtering (Lavin & Gray 2016): fewer products, the same result to rounding.

A tile of m outputs along an axis needs m + r - 1 products with a kernel of r, not m r: as many as there are points at
which the polynomials of signal and kernel are multiplied (Toom and Cook). Here m is 4, so a 3x3 kernel takes a quarter
of the products, and one of 5 pixels along an axis two fifths. What remains are large matrix products. For CPUs, where
arithmetic is the bottleneck, and without gradients.
"""
import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4
FEWEST_CHANNELS = 32  # with fewer, rearranging tiles takes longer than the multiplications it saves
_POINTS = 0, 1, -1, 0.5, -2, 2, -0.5  # the first ones, and infinity


def is_faster(weight: Tensor) -> bool:
    """Whether `convolve` is faster than torch for a convolution of stride 1 by a weight (O,C,height,width)."""
    supported = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (supported and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
            and 1 < max(weight.shape[2:]) <= 5 and min(weight.shape[:2]) >= FEWEST_CHANNELS)


def convolve(x: Tensor, kernels: Tensor, size: Sequence[int]) -> Tensor:
    """The convolution of stride 1 and without padding of x (N,C,H,W), in the layout of x.

    kernels: what `transformed` makes of a weight whose last two axes are of this `size`.
    """
    number, channels, *sides = x.shape
    tile = [_tile(side) for side in size]
    height, width = (side - r + 1 for side, r in zip(sides, size, strict=True))
    rows, columns = -(-height // tile[0]), -(-width // tile[1])
    last = x.stride(1) == 1
    x = F.pad(x, (0, columns * tile[1] - width, 0, rows * tile[0] - height)).permute(0, 2, 3, 1)
    of_signal, _, to_tile = _matrices(*size)
    tiles = x.unfold(1, tile[0] + size[0] - 1, tile[0]).unfold(2, tile[1] + size[1] - 1, tile[1])
    tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(-1, tiles[..., 0, 0].numel())  # (pixels of a tile, all else)
    signal = of_signal.to(x.dtype) @ tiles
    product = torch.bmm(signal.view(len(signal), -1, channels), kernels)
    y = (to_tile.to(x.dtype) @ product.flatten(1)).view(*tile, number, rows, columns, -1)
    if last:
        y = y.permute(2, 3, 0, 4, 1, 5).reshape(number, rows * tile[0], columns * tile[1], -1).permute(0, 3, 1, 2)
    else:
        y = y.permute(2, 5, 3, 0, 4, 1).reshape(number, -1, rows * tile[0], columns * tile[1])
    return y[..., :height, :width]


def transformed(weight: Tensor) -> Tensor:
    """A weight (O,C,height,width) as (points, C, O)."""
    outputs, inputs, height, width = weight.shape
    of_kernel = _matrices(height, width)[1].to(weight.dtype)
    kernels = of_kernel @ weight.permute(2, 3, 1, 0).reshape(height * width, -1)
    return kernels.view(-1, inputs, outputs)


def _tile(size):
    """Outputs that are computed together along an axis of a kernel; one of a single pixel is left as it is."""
    return TILE if size > 1 else 1


@functools.cache
def _matrices(height, width):
    """Those of `toom_cook` for two axes at once."""
    axes = [toom_cook(_tile(size), size) for size in (height, width)]
    return [torch.kron(*pair) for pair in zip(*axes, strict=True)]


def toom_cook(m: int, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices S (n,n), K (n,r) and T (m,n), n = m + r - 1, float64: T (S d * K g) correlates d (n,) and g (r,).

    K evaluates the kernel's polynomial at the points and divides by the Lagrange polynomials' denominators, T is
    evaluation transposed, S holds the numerators' coefficients (multiplication, transposed).
    """
    points = np.array(_POINTS[: m + r - 2], dtype=float)
    others = [np.delete(points, i) for i in range(len(points))]
    denominators = [np.prod(point - rest) for point, rest in zip(points, others, strict=True)]
    numerators = [np.append(np.poly(rest)[::-1], 0) for rest in others] + [np.atleast_1d(np.poly(points))[::-1]]
    evaluate = np.append(np.vander(points, max(m, r), increasing=True), np.zeros((1, max(m, r))), axis=0)
    kernel, tile = evaluate[:, :r] / np.append(denominators, 1)[:, None], evaluate[:, :m].copy()
    kernel[-1, -1] = tile[-1, -1] = 1  # at infinity a polynomial is its highest coefficient
    return torch.tensor(np.stack(numerators)), torch.tensor(kernel), torch.tensor(tile.T.copy())
