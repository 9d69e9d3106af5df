"""Keyframes adjusted to the exposure and colours of the target, by what both images show. Ours, not the paper's.

Two photographs of a scene differ in exposure, white balance and vignetting. Copied as it is, a keyframe then leaves a
visible box in a clear sky, and a network trained on pairs of one exposure takes the difference for a wrong alignment.
A curve per channel takes most of it away. The rest is a smooth field of gains, harmonic where the target is missing:
at the border of the hole it is what the two still differ by there, so the copy joins its surroundings without a seam,
as in Poisson image editing (Pérez et al., 2003), but from averages over cells: a membrane through single pixels would
smear each edge that is misaligned by a pixel across the hole.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.align import align
from gi.flow.unseen import soft_fill
from gi.media.scale import PHOTO_SIDE, scale

CELL = 8  # pixels of an image of 256 x 256: what fields are averages over
_DARK = 0.02  # added to colours before their logarithm is taken
_CLIPPED = 0.98  # a pixel this bright may have been brighter
_PRIOR = 0.02  # variance of log colours below which contrast is no longer compared
_LARGEST_CONTRAST, _LARGEST_GAIN = 2.0, 1.65  # of the curves, and of the field; inverses are the lower bounds
_STEPS = 8  # of iteratively reweighted moments
_ENOUGH = 30  # blocks of colours that both images must show
_WORTH = 0.9  # a correction that leaves more than this share of the difference is not applied


@torch.no_grad()
def match_exposure(image: Tensor, mask: Tensor, source: Tensor, source_mask: Tensor, flow: Tensor) -> Tensor:
    """A keyframe (1,3,H,W) in [0,1] as if it had been exposed as the target `image` (1,3,H,W), float32.

    `mask` and `source_mask` (1,1,H,W) are their holes, whose content has no influence; `flow` (1,2,H,W) in pixels leads
    from the target to the keyframe. A keyframe that is as similar without correction is returned as it is.
    """
    # Half the size is enough for what is smooth.
    image, half_source, flow = (F.avg_pool2d(x.float(), 2, ceil_mode=True) for x in (image, source, flow / 2))
    mask, source_mask = (F.max_pool2d(x, 2, ceil_mode=True) for x in (mask, source_mask))
    warped, visible = align(half_source, source_mask, flow)
    both = visible * (1 - mask)
    curves = _curves(image, warped, both)
    if curves is None:
        return source.float()
    gain = _gain_field(image, _power(warped, *curves), both, flow)
    cell = cell_side(image.shape[-2:])
    after, _ = align(_correct(half_source, curves, gain, cell), source_mask, flow)
    if _difference(image, after, both) > _WORTH * _difference(image, warped, both):
        return source.float()
    return _correct(source.float(), curves, gain, 2 * cell)


def scatter(values: Tensor, flow: Tensor) -> Tensor:
    """Sums of `values` (1,C,H,W) over the cells of the keyframe that `flow` (1,2,H,W) leads to: (1,C,h,w)."""
    height, width = values.shape[-2:]
    cell = cell_side((height, width))
    rows, columns = -(-height // cell), -(-width // cell)
    x = (torch.arange(width, device=flow.device) + flow[0, 0]).clamp(0, width - 1) // cell
    y = (torch.arange(height, device=flow.device)[:, None] + flow[0, 1]).clamp(0, height - 1) // cell
    place = (y * columns + x).long().flatten()
    sums = values.new_zeros(values.shape[1], rows * columns).index_add_(1, place, values[0].flatten(1))
    return sums.view(1, -1, rows, columns)


def spread(field: Tensor, size: Sequence[int], cell: int) -> Tensor:
    """A field (1,C,h,w) over cells of so many pixels, at the pixels of an image of `size` = (height, width)."""
    field = F.interpolate(field, scale_factor=cell, mode="bilinear", align_corners=False)
    return field[..., :size[0], :size[1]]


def cell_side(size: Sequence[int]) -> int:
    """Pixels along a cell's side, in an image of `size` = (height, width)."""
    return max(4, round(CELL * scale(size, PHOTO_SIDE)))


# The curve and the field ----------------------------------------------------------------------------------------------

def _curves(image, warped, both):
    """Contrast and shift (3,) of the lines between log colours, or None if too little is seen in both.

    Moments are compared, not errors minimised: colours that do not belong together, as where the alignment is wrong,
    would flatten a line through them, but hardly change what the two distributions are.
    """
    first, second, whole = _blocks(image, warped, both)
    whole = whole & (torch.maximum(first, second).amax(dim=1, keepdim=True) < _CLIPPED)
    if whole.sum() < _ENOUGH:
        return None
    first, second = (colours[0, :, whole[0, 0]] for colours in (first, second))  # 3, N
    y, x = (first + _DARK).log(), (second + _DARK).log()
    contrast, shift = torch.ones_like(x[:, :1]), (y - x).median(dim=1, keepdim=True).values
    for _ in range(_STEPS):
        error = second * ((y - shift - contrast * x).exp() - 1).clamp(-1, 1)
        limit = 1.5 * error.abs().median(dim=1, keepdim=True).values + 0.005
        weight = first * second / (1 + (error / limit) ** 2) ** 2
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-9)
        mean_x, mean_y = ((weight * v).sum(dim=1, keepdim=True) for v in (x, y))
        spread_x, spread_y = ((weight * (v - mean) ** 2).sum(dim=1, keepdim=True)
                              for v, mean in ((x, mean_x), (y, mean_y)))
        contrast = ((spread_y + _PRIOR) / (spread_x + _PRIOR)).sqrt().clamp(1 / _LARGEST_CONTRAST, _LARGEST_CONTRAST)
        shift = mean_y - contrast * mean_x
    return contrast[:, 0], shift[:, 0]


def _power(colours, contrast, shift):
    return ((colours + _DARK) ** contrast.view(3, 1, 1) * shift.view(3, 1, 1).exp() - _DARK).clamp(0, 1)


def _correct(colours, curves, gain, cell):
    """Colours (1,3,H,W) after the curves and a field of log gains, in cells of so many pixels."""
    return ((_power(colours, *curves) + _DARK) * spread(gain, colours.shape[-2:], cell).exp() - _DARK).clamp(0, 1)


def _gain_field(image, warped, both, flow):
    """Logarithms of the gains left to apply to the keyframe's colours after the curves, on its own cells (1,3,h,w)."""
    error = (image - warped).abs().mean(dim=1, keepdim=True)
    limit = 1.5 * error[both > 0.5].median() + 0.02
    full = torch.maximum(image, warped).amax(dim=1, keepdim=True) >= _CLIPPED
    weight = both * ~full / (1 + (error / limit) ** 2) ** 2
    sums = scatter(torch.cat([image * weight, warped * weight, weight], dim=1), flow)
    target_sum, source_sum, total = sums.split([3, 3, 1], dim=1)
    mean = total.clamp(min=1e-6)
    gain = ((target_sum / mean + _DARK) / (source_sum / mean + _DARK)).log()
    limit = torch.tensor(_LARGEST_GAIN).log().item()
    # A cell with few pixels relies on its neighbours instead.
    share = total / (total + 0.3 * cell_side(image.shape[-2:]) ** 2)
    return soft_fill(gain.clamp(-limit, limit) * share, share, relax=True)


def _difference(image, warped, both):
    """The median difference of blocks that are known completely in both images."""
    first, second, whole = _blocks(image, warped, both)
    return (first - second).abs().mean(dim=1, keepdim=True)[whole].median()


def _blocks(image, warped, both):
    """Means of the two images (1,3,h,w) over blocks of pixels, and whether both know all of a block, (1,1,h,w)."""
    side = cell_side(image.shape[-2:]) // 2
    whole = F.avg_pool2d(both, side) > 0.99
    return F.avg_pool2d(image, side), F.avg_pool2d(warped, side), whole
