"""Growing and shrinking masks (N,1,H,W), values 0 and 1 of any dtype, by a cross of 3 x 3 pixels.

The image's border has no influence: a mask neither grows in from there nor is eaten away from there.
"""
import torch.nn.functional as F
from torch import Tensor


def dilate(mask: Tensor, times: int = 1) -> Tensor:
    """Adds the 4-neighbours of every mask pixel, `times` times."""
    grown = mask > 0.5
    for _ in range(times):
        padded = F.pad(grown, (1, 1, 1, 1))
        grown = (grown | padded[..., 1:-1, :-2] | padded[..., 1:-1, 2:] | padded[..., :-2, 1:-1]
                 | padded[..., 2:, 1:-1])
    return grown.to(mask.dtype)


def erode(mask: Tensor, times: int = 1) -> Tensor:
    """Removes every mask pixel that has a 4-neighbour outside the mask, `times` times."""
    return (~dilate(mask <= 0.5, times)).to(mask.dtype)


def close(mask: Tensor) -> Tensor:
    """One dilation, then one erosion. Closing again changes nothing, so n closings are this one."""
    return erode(dilate(mask))


def grow(mask: Tensor, dilations: int = 15) -> Tensor:
    """How the original release grows a video's masks before completing flow: 15 dilations, then (21) closings."""
    return close(dilate(mask, dilations))
