"""Pictures whose holes show what must not matter, such as the object to be removed, made fit for estimating flow.

Black holes would be matched with each other, so they are filled smoothly from around them; and flow close to a hole is
wrong too, so more than the hole is replaced by the flow around it. Measured with DIS on photographs shifted by up to 14
pixels at 256 x 256, mean error in the target's hole, with another hole in the keyframe / with the same one: black holes
15.4 / 7.8 pixels, filled smoothly 7.0 / 4.3, more replaced 4.8 / 1.7, both 2.8 / 0.4.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.morphology import dilate

GROWTH = 15  # pixels at the size of the estimation; the original release grows the masks of videos as much


def smooth_fill(image: Tensor, mask: Tensor) -> Tensor:
    """`image` (N,3,H,W), where `mask` (N,1,H,W) is 1 replaced by a smooth continuation of its surroundings.

    Known pixels are averaged over ever larger squares until the hole is closed, and interpolated on the way back.
    """
    known = 1 - mask
    return soft_fill(image * known, known)


def soft_fill(colours: Tensor, share: Tensor) -> Tensor:
    """Fills (N,C,H,W) where its `share` (N,1,H,W) in [0,1] is below 1: `smooth_fill` for pixels that are known in part.

    `colours` come multiplied by their share. Gradients reach both.
    """
    if min(colours.shape[-2:]) == 1 or len(colours) == 0 or share.min() >= 1:
        return colours
    there = F.avg_pool2d(share, 2, ceil_mode=True)
    coarse_share = (4 * there).clamp(max=1)  # one pixel of four is enough
    coarse = F.avg_pool2d(colours, 2, ceil_mode=True) / there.clamp(min=1e-6) * coarse_share
    coarse = soft_fill(coarse, coarse_share)
    smooth = F.interpolate(coarse, size=colours.shape[-2:], mode="bilinear", align_corners=False)
    return colours + (1 - share) * smooth


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
