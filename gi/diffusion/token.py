"""The one token of the network's cross-attention: what the keyframe shows, as a vector."""
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        """pixels (B, F, 3, H, W) in [0, 1], masks (B, F, 1, H, W) -> (B, 1, D)."""
        position, present = middle_keyframe(masks)
        keyframe = pixels[torch.arange(len(pixels), device=pixels.device), position]
        return torch.where(present[:, None], self.describe(keyframe), 0)[:, None]

    @abstractmethod
    def describe(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, D)."""


class LinearToken(Token):
    """A linear map, trained with the rest, of the keyframe at 4x4 pixels. For small models."""

    def __init__(self, size: int):
        super().__init__()
        self.linear = nn.Linear(3 * 4 * 4, size)

    def describe(self, image: Tensor) -> Tensor:
        return self.linear(2 * F.adaptive_avg_pool2d(image, 4).flatten(1) - 1)
