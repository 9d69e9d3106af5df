"""Holes: how a network sees an image with one, and how its prediction meets the known pixels."""
import torch
from torch import Tensor


def masked(image: Tensor, mask: Tensor) -> Tensor:
    """(...,3,H,W), (...,1,H,W) -> (...,4,H,W): the image with an empty hole, and the mask, 1 = missing."""
    return torch.cat([image * (1 - mask), mask], dim=-3)


def composite(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`prediction` inside the hole, `image` elsewhere.

    prediction, image (...,3,H,W); mask (...,1,H,W), 1 = missing. With a mask of zeros and ones the known pixels of the
    result are those of `image`, bit for bit.
    """
    return mask * prediction + (1 - mask) * image
