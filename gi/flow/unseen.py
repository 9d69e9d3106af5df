"""Prepares images for flow estimation whose holes show what must have no influence, such as the object to be removed.

Black holes would be matched with each other, so they are filled smoothly from their surroundings. Flow close to a hole
is wrong too, so the hole is grown before its flow is replaced by the flow around it.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.morphology import dilate
from gi.flow.window import window_around

GROWTH = 15  # pixels at the size of the estimation, see `video_pixels`; as much as the original release, at 432 x 240


def smooth_fill(image: Tensor, mask: Tensor) -> Tensor:
    """`image` (N,3,H,W), where `mask` (N,1,H,W) is 1 replaced by a smooth continuation of its surroundings.

    Known pixels are averaged over ever larger squares until the hole is closed, and interpolated on the way back.
    """
    known = 1 - mask
    return soft_fill(image * known, known)


def soft_fill(colours: Tensor, share: Tensor, *, relax: bool = False) -> Tensor:
    """Fills (N,C,H,W) where its `share` (N,1,H,W) in [0,1] is below 1: `smooth_fill` for pixels that are known in part.

    `colours` come multiplied by their share. Gradients reach both. `relax` brings the result close to the harmonic
    continuation, in which every missing pixel is the mean of its four neighbours, by some steps of Jacobi's method at
    every size on the way back.
    """
    size, steps = colours.shape[-2:], max(4, 512 // max(colours.shape[-2:])) if relax else 0
    if max(size) == 1 or len(colours) == 0 or share.min() >= 1:
        return colours
    mean_share = F.avg_pool2d(share, 2, ceil_mode=True)
    coarse_share = (4 * mean_share).clamp(max=1)  # one pixel of four is enough
    coarse = F.avg_pool2d(colours, 2, ceil_mode=True) / mean_share.clamp(min=1e-6) * coarse_share
    coarse = soft_fill(coarse, coarse_share, relax=relax)
    smooth = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    if colours.requires_grad or share.requires_grad:
        return _refined(colours, share, smooth, steps)
    # Only missing pixels change, and they depend only on the known ones beside them.
    part = ..., *window_around(share < 1, margin=1)
    filled = colours.clone()
    filled[part] = _refined(colours[part], share[part], smooth[part], steps)
    return filled


def _refined(colours, share, smooth, steps):
    """Missing pixels as in `smooth`, then after some steps of Jacobi's method."""
    missing = 1 - share
    filled = colours + missing * smooth
    for _ in range(steps):
        x = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        mean = (x[..., 1:-1, 2:] + x[..., 1:-1, :-2] + x[..., 2:, 1:-1] + x[..., :-2, 1:-1]) / 4
        filled = colours + missing * mean
    return filled


def grow_hole(mask: Tensor, times: int) -> Tensor:
    """Grows each hole (N,1,H,W) by up to `times` pixels, as long as this leaves half of what is known of its image."""
    return torch.cat([_grow(hole, times) for hole in mask.split(1)]) if len(mask) else mask


def _grow(hole, times):
    while times > 0:
        grown = dilate(hole, times)
        if 1 - grown.mean() >= (1 - hole.mean()) / 2:
            return grown
        times //= 2
    return hole
