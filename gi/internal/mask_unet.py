"""The release's network for masks from a single frame: a U-Net, much larger than the networks that fill holes."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError

STRIDE = 16


class Conv(nn.Conv2d):
    """A convolution with a ReLU, padded to keep the size; an even kernel pads one pixel less on the left and the top.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__(inputs, outputs, kernel)
        spread = (2 / (inputs * kernel ** 2)) ** 0.5 / 0.87962566  # He's, after truncation, as in Keras
        nn.init.trunc_normal_(self.weight, std=spread, a=-2 * spread, b=2 * spread)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        before, after = (self.kernel_size[0] - 1) // 2, self.kernel_size[0] // 2
        return F.relu(super().forward(F.pad(x, (before, after, before, after))))


class Unused(nn.Identity):
    """A dropout that the release never switches on; it keeps the place in the numbering."""


def _pool():
    return nn.MaxPool2d(2)


def _up(inputs, outputs):
    return [nn.Upsample(scale_factor=2), Conv(inputs, outputs, 2)]


class MaskUNet(nn.Module):
    """The probability that a pixel belongs to the object, (B, 1, H, W), from frames (B, 3, H, W) in [0, 1].

    Parameters have the release's names. Height and width are multiples of 16; raises InputError for others.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(Conv(3, 64), Conv(64, 64))
        self.conv2 = nn.Sequential(_pool(), Conv(64, 128), Conv(128, 128))
        self.conv3 = nn.Sequential(_pool(), Conv(128, 256), Conv(256, 256))
        self.drop4 = nn.Sequential(_pool(), Conv(256, 512), Conv(512, 512), Unused())
        self.up6 = nn.Sequential(_pool(), Conv(512, 1024), Conv(1024, 1024), Unused(), *_up(1024, 512))
        self.up7 = nn.Sequential(Conv(1024, 512), Conv(512, 512), *_up(512, 256))
        self.up8 = nn.Sequential(Conv(512, 256), Conv(256, 256), *_up(256, 128))
        self.up9 = nn.Sequential(Conv(256, 128), Conv(128, 128), *_up(128, 64))
        # The ReLU of the third one, on two channels, can die; then the result is constant.
        self.conv10 = nn.Sequential(Conv(128, 64), Conv(64, 64), Conv(64, 2), nn.Conv2d(2, 1, 1))
        nn.init.xavier_uniform_(self.conv10[3].weight)
        nn.init.zeros_(self.conv10[3].bias)

    def forward(self, image: Tensor) -> Tensor:
        if any(size % STRIDE for size in image.shape[-2:]):
            raise InputError(f"images of {image.shape[-1]}x{image.shape[-2]}: expected multiples of {STRIDE}")
        first = self.conv1(2 * image - 1)
        second = self.conv2(first)
        third = self.conv3(second)
        fourth = self.drop4(third)
        x = self.up6(fourth)
        for skipped, part in (fourth, self.up7), (third, self.up8), (second, self.up9), (first, self.conv10):
            x = part(torch.cat([skipped, x], dim=1))
        return torch.sigmoid(x)
