"""Patch discriminator on RGB (the architecture of pix2pixHD's, as LaMa and the original release use it)."""
from torch import Tensor, nn

from gi.errors import expect_at_least


class PatchDiscriminator(nn.Module):
    """Classifies every patch of an image as real or fake.

    Six 4x4 convolutions with padding 2: four of stride 2 that widen 3 -> w -> 2w -> 4w -> 8w, two of stride 1
    (8w -> 8w -> 1), where w is `width`. LeakyReLU after all but the last, BatchNorm on the second to the fifth.
    """

    def __init__(self, *, width: int = 64):
        super().__init__()
        expect_at_least(1, width=width)
        channels = [3, width, 2 * width, 4 * width, 8 * width, 8 * width]
        strides = [2, 2, 2, 2, 1]
        self.stages = nn.ModuleList(_stage(*channels[i:i + 2], stride=stride, norm=i > 0)
                                    for i, stride in enumerate(strides))
        self.head = nn.Conv2d(channels[-1], 1, kernel_size=4, stride=1, padding=2)

    def forward(self, rgb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`rgb` (N,3,H,W) in [0,1] -> logits (N,1,h,w), above 0 for real, and the five activations before them.

        Any H and W work; h = H/16 + 3 for multiples of 16, every convolution adding one position at the border.
        """
        activations = []
        for stage in self.stages:
            rgb = stage(rgb)
            activations.append(rgb)
        return self.head(rgb), activations


def _stage(channels_in: int, channels_out: int, *, stride: int, norm: bool) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=4, stride=stride, padding=2)
    # Not in place: feature matching keeps the activations, and R1 differentiates through them twice.
    return nn.Sequential(convolution, *([nn.BatchNorm2d(channels_out)] if norm else []), nn.LeakyReLU(0.2))
