"""A network's input with its hole emptied, its prediction composited with the known pixels, and conversion between
8-bit pixels and float tensors.
"""
import numpy as np
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


def tensor_of_pixels(pixels: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (...,H,W,3) -> float32 (...,3,H,W) in [0,1], on a device."""
    # Arrays of Pillow images are read-only, which torch warns about.
    tensor = torch.from_numpy(np.require(pixels, requirements="W")).to(device)
    return tensor.movedim(-1, -3).float() / 255


def pixels_of_tensor(image: Tensor) -> np.ndarray:
    """(...,3,H,W), clipped to [0,1] -> uint8 (...,H,W,3). Without clipping, 1.01 would wrap around to black."""
    return (255 * image.float().clamp(0, 1)).round().byte().movedim(-3, -1).cpu().numpy()
