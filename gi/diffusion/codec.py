"""From pixels to the latents in which diffusion takes place, and back."""
from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import expect_at_least


class Codec(nn.Module):
    """Encodes each frame by itself; decoding may look at neighbouring frames.

    channels: of the latents. factor: by which they are smaller than the pixels, in height and width. scale: what the
    latents of clips are multiplied by to have about unit variance, z_0 = scale · encode(pixels). The latents of
    *conditions* are not multiplied, and `decode` takes z_0 / scale.
    """

    channels: int
    factor: int
    scale: float

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, F, 3, H, W) in [0, 1] -> (B, F, c, H/factor, W/factor), not scaled, always the same for the same pixels.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, F, c, h, w), not scaled -> (B, F, 3, h·factor, w·factor), about in [0, 1], not clamped."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """The arguments that make such a codec anew, as a configuration gives them."""


class PixelShuffle(Codec):
    """No network, and nothing lost: squares of factor² pixels become channels. For small models trained from nothing."""

    def __init__(self, *, factor: int = 4):
        super().__init__()
        expect_at_least(1, factor=factor)
        self.channels, self.factor, self.scale = 3 * factor**2, factor, 2.0

    def encode(self, pixels: Tensor) -> Tensor:
        return F.pixel_unshuffle(2 * pixels - 1, self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        return (F.pixel_shuffle(latents, self.factor) + 1) / 2

    def settings(self) -> dict[str, object]:
        return {"factor": self.factor}
