"""The one token of the network's cross-attention: what the keyframe shows, as a vector."""
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from gi.flow.warp import area_means
from gi.weights.files import Frozen

CLIP_MEAN = 0.48145466, 0.4578275, 0.40821073  # of its training images, RGB in [0, 1]
CLIP_DEVIATION = 0.26862954, 0.26130258, 0.27577711


def middle_keyframe(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The keyframe nearest to the middle of each clip, an earlier one of two; and whether there is any.

    masks: (B, F, 1, H, W), 1 = missing; a keyframe has nothing missing. Returns (B,) positions and (B,) bool.
    """
    whole = masks.flatten(2).amax(dim=2) == 0
    count = masks.shape[1]
    distance = (torch.arange(count, device=masks.device) - (count - 1) / 2).abs()
    return torch.where(whole, distance, count).argmin(dim=1), whole.any(dim=1)


class Token(nn.Module):
    """Describes the keyframe in the middle; zeros for a clip without keyframe, and for guidance."""

    def forward(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """(B, 1, D) of pixels (B, F, 3, H, W) in [0, 1] and masks (B, F, 1, H, W), 1 = missing."""
        position, present = middle_keyframe(masks)
        keyframe = pixels[torch.arange(len(pixels), device=pixels.device), position]
        return torch.where(present[:, None], self.describe(keyframe), 0)[:, None]

    @abstractmethod
    def describe(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D)."""


class ClipToken(Frozen, Token):
    """The embedding of CLIP's image encoder, which SVD was trained with."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder: Any = encoder
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(CLIP_DEVIATION).view(3, 1, 1), persistent=False)
        self.freeze()

    @torch.no_grad()
    def describe(self, image: Tensor) -> Tensor:
        side = self.encoder.config.image_size
        pixels = (shrink(image.float(), side) - self.mean) / self.deviation
        return self.encoder(pixels.to(self.encoder.dtype)).image_embeds.to(image.dtype)


def shrink(image: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, side, side), blurred and resized as SVD's image encoder was fed.

    The blur's deviation is half of what the factor exceeds 1; its kernel reaches two of them.
    """
    factors = [length / side for length in image.shape[-2:]]
    deviations = [max((factor - 1) / 2, 0.001) for factor in factors]
    kernel = [max(int(4 * deviation), 3) // 2 * 2 + 1 for deviation in deviations]
    blurred = gaussian_blur(image, kernel[::-1], deviations[::-1])  # torchvision's order is x, y
    return F.interpolate(blurred, (side, side), mode="bicubic", align_corners=True)


class LinearToken(Token):
    """A linear map, trained with the rest, of the keyframe at 4x4 pixels. For small models."""

    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(3 * 4 * 4, size)

    def describe(self, image: Tensor) -> Tensor:
        return self.linear(2 * area_means(image, (4, 4)).flatten(1) - 1)
