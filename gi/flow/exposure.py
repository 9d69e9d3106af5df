"""Keyframes in the exposure and the colours of the target, as far as the two show the same. Ours, not the paper's.

Two photographs of a scene differ in exposure, white balance and vignetting. Copied as it is, a keyframe then leaves a
visible box in a clear sky, and a network trained on pairs of one exposure takes the difference for a wrong alignment.
A curve per channel takes most of it away. The rest is a smooth field of gains, harmonic where the target is missing:
at the border of the hole it is what the two still differ by there, so the copy joins its surroundings without a seam,
as in Poisson image editing (Pérez et al., 2003), but from averages over cells: a membrane through single pixels would
smear each edge that is misaligned by a pixel across the hole.
"""
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
_LARGEST_CONTRAST, _LARGEST_GAIN = 2.0, 1.65  # or the other way around; the gain is that of the field
_STEPS = 8  # of iteratively reweighted moments
_ENOUGH = 30  # blocks of colours that both images must show
_WORTH = 0.9  # a correction that leaves more than this of the difference is not made


@torch.no_grad()
def match_exposure(image: Tensor, mask: Tensor, source: Tensor, source_mask: Tensor, flow: Tensor) -> Tensor:
    """A keyframe (1,3,H,W) in [0,1] as if it had been exposed as the target `image` (1,3,H,W), float32.

    `mask` and `source_mask` (1,1,H,W) are their holes, whose content has no influence; `flow` (1,2,H,W) in pixels leads
    from the target to the keyframe. A keyframe that is as similar without correction is returned as it is.
    """
    there, visible = align(source, source_mask, flow)
    both = visible * (1 - mask)
    curves = _curves(image, there, both)
    if curves is None:
        return source
    contrast, shift = (values.view(1, 3, 1, 1) for values in curves)
    corrected, aligned = (_power(colours, contrast, shift) for colours in (source, there))
    gain = _gain_field(image, aligned, both, flow)
    before = difference(image, there, both)
    corrected = ((corrected + _DARK) * gain - _DARK).clamp(0, 1)
    after = difference(image, align(corrected, source_mask, flow)[0], both)
    return corrected if after < _WORTH * before else source.float()


def difference(image: Tensor, there: Tensor, both: Tensor) -> Tensor:
    """The median difference of blocks of colours, mean of the channels, that are known in `both` images."""
    first, second, whole = _blocks(image, there, both)
    return (first - second).abs().mean(dim=1, keepdim=True)[whole].median()


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


def spread(field: Tensor, size: tuple[int, int]) -> Tensor:
    """A field (1,C,h,w) over cells, at the pixels of an image of `size` = (height, width)."""
    cell = cell_side(size)
    field = F.interpolate(field, scale_factor=cell, mode="bilinear", align_corners=False)
    return field[..., :size[0], :size[1]]


def cell_side(size: tuple[int, int]) -> int:
    """Pixels along a cell's side, in an image of `size` = (height, width)."""
    return max(4, round(CELL * scale(size, PHOTO_SIDE)))


# The curve and the field ----------------------------------------------------------------------------------------------

def _curves(image, there, both):
    """Contrast and shift (3,) of the lines between log colours, or None if too little is seen in both.

    Moments are compared, not errors minimised: colours that do not belong together, as where the alignment is wrong,
    would flatten a line through them, but hardly change what the two distributions are.
    """
    first, second, whole = _blocks(image, there, both)
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
    return ((colours.float() + _DARK) ** contrast * shift.exp() - _DARK).clamp(0, 1)


def _gain_field(image, there, both, flow):
    """What the keyframe's colours are still to be multiplied by, (1,3,H,W), smooth, in the keyframe's own pixels."""
    size = image.shape[-2:]
    error = (image - there).abs().mean(dim=1, keepdim=True)
    limit = 1.5 * error[both > 0.5].median() + 0.02
    full = torch.maximum(image, there).amax(dim=1, keepdim=True) >= _CLIPPED
    weight = both * ~full / (1 + (error / limit) ** 2) ** 2
    sums = scatter(torch.cat([image * weight, there * weight, weight], dim=1), flow)
    wanted, given, total = sums.split([3, 3, 1], dim=1)
    mean = total.clamp(min=1e-6)
    gain = ((wanted / mean + _DARK) / (given / mean + _DARK)).log()
    limit = torch.tensor(_LARGEST_GAIN).log().item()
    share = total / (total + 0.3 * cell_side(size) ** 2)  # of a cell with few pixels its neighbours know more
    return spread(soft_fill(gain.clamp(-limit, limit) * share, share, relax=True), size).exp()


def _blocks(image, there, both):
    """Means of the two images (1,3,h,w) over blocks of pixels, and whether both know all of a block, (1,1,h,w)."""
    side = cell_side(image.shape[-2:]) // 2
    whole = F.avg_pool2d(both, side) > 0.99
    return F.avg_pool2d(image.float(), side), F.avg_pool2d(there, side), whole
