"""Compositing: the one place where a prediction meets the known pixels."""
from torch import Tensor


def composite(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """`prediction` inside the hole, `image` elsewhere.

    prediction, image (...,3,H,W); mask (...,1,H,W), 1 = missing. With a mask of zeros and ones the known pixels of the
    result are those of `image`, bit for bit.
    """
    return mask * prediction + (1 - mask) * image
