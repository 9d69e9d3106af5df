"""Pixel loss (paper, section 3.3)."""
from torch import Tensor


def masked_l1(prediction: Tensor, image: Tensor, mask: Tensor, *, known: float = 10.0, missing: float = 0.0) -> Tensor:
    """Mean over all pixels and channels of |prediction - image|, weighted `known` where mask is 0, `missing` where 1.

    `prediction` and `image` (N,3,H,W), `mask` (N,1,H,W); a scalar in [0, max(known, missing)] for images in [0,1]. By
    default only known pixels count: what belongs into the hole is left to the other losses.
    """
    weight = known * (1 - mask) + missing * mask
    return (weight * (prediction - image).abs()).mean()
