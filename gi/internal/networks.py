"""The networks that are fitted to a video: base, stacked, coarse-to-fine, and coarse-to-fine with a prior.

Layers and their names are those of the authors' release, which leaves the paper in these points: zeros instead of
reflection as padding, nearest instead of bilinear enlargement (both are options here), a last kernel of 3x3 instead of
1x1, a smaller second stage without dilation for stacked, and a shorter second branch for coarse-to-fine.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError
from gi.internal.layers import Layer, Padding, Stack, Upsampling

STRIDE = 4  # of the features; images are padded to multiples of it

# The paper's table lists these 17 layers.
COARSE = {
    "conv1": Layer(48, kernel=5), "conv2": Layer(96, stride=2), "conv3": Layer(96), "conv4": Layer(192, stride=2),
    "conv5": Layer(192), "conv6": Layer(192), "conv7": Layer(192, dilation=2), "conv8": Layer(192, dilation=4),
    "conv9": Layer(192, dilation=8), "conv10": Layer(192, dilation=16), "conv11": Layer(192), "conv12": Layer(192),
    "conv13": Layer(96, up=True), "conv14": Layer(96), "conv15": Layer(48, up=True), "conv16": Layer(24),
    "conv17": Layer(3, activation=None),
}
DILATED = {
    "fineconv1": Layer(48, kernel=5), "fineconv2": Layer(48, stride=2), "fineconv3": Layer(96),
    "fineconv4": Layer(96, stride=2), "fineconv5": Layer(192), "fineconv6": Layer(192),
    "fineconv7": Layer(192, dilation=2), "fineconv8": Layer(192, dilation=4), "fineconv9": Layer(192, dilation=8),
    "fineconv10": Layer(192, dilation=16),
}
PLAIN = {
    "fineconv2_1": Layer(48, kernel=5), "fineconv2_2": Layer(48, stride=2), "fineconv2_3": Layer(96),
    "fineconv2_4": Layer(192, stride=2), "fineconv2_5": Layer(192), "fineconv2_6": Layer(192, activation="relu"),
    "fineconv2_9": Layer(192), "fineconv2_10": Layer(192),
}
OUT = {
    "outconv1": Layer(192), "outconv2": Layer(192), "outconv3": Layer(96, up=True), "outconv4": Layer(96),
    "outconv5": Layer(48, up=True), "outconv6": Layer(24), "outconv7": Layer(3, activation=None),
}


class InternalNetwork(nn.Module):
    """Generates the content of one frame's hole; other frames enter through the weights alone.

    `stages` is what a network is made of. `forward` takes images of any size: it pads them to multiples of 4 (the edge
    repeated, known there) and crops the results.
    """

    prior_channels = 0

    def forward(self, image: Tensor, hole: Tensor, prior: Tensor | None = None) -> list[Tensor]:
        """Predictions (B, 3, H, W) in [0, 1] of each stage, the last one is the result; not composited.

        image: (B, 3, H, W) in [0, 1], whatever in its hole; hole: (B, 1, H, W), 1 = missing; prior: (B, 3, H, W) in [0,
        1], for the network that has one. Raises InputError if a prior is missing or not expected.
        """
        if (prior is None) != (self.prior_channels == 0):
            need = "needs a prior" if self.prior_channels else "takes no prior"
            raise InputError(f"{type(self).__name__}: {need}")
        height, width = image.shape[-2:]
        margins = (0, -width % STRIDE, 0, -height % STRIDE)
        if any(margins):
            image, prior = (x if x is None else F.pad(x, margins, mode="replicate") for x in (image, prior))
            hole = F.pad(hole, margins)
        images = (x if x is None else 2 * x - 1 for x in (image, prior))
        x, prior = images
        return [(y[..., :height, :width] + 1) / 2 for y in self.stages(x, hole, prior)]

    def stages(self, x: Tensor, hole: Tensor, prior: Tensor | None) -> list[Tensor]:
        """As `forward`, but images and results are in [-1, 1]; sizes are multiples of 4."""
        raise NotImplementedError


class Base(InternalNetwork):
    """The paper's base network: 17 layers at up to a quarter of the size, dilation up to 16."""

    def __init__(self, *, padding: Padding = "zeros", upsampling: Upsampling = "nearest"):
        super().__init__()
        self.coarse_net = Stack(4, COARSE, padding=padding, upsampling=upsampling)

    def stages(self, x: Tensor, hole: Tensor, prior: Tensor | None = None) -> list[Tensor]:
        return [torch.tanh(self.coarse_net(torch.cat([x * (1 - hole), hole], dim=1)))]


class TwoStage(InternalNetwork):
    """A coarse network, and one that improves its result after that is composited into the hole, with two branches, of
    which one has dilated convolutions, or with one. The second stage does not see the mask; gradients go through both.
    """

    def __init__(self, *, dilated: bool, first: dict[str, Layer] = COARSE, prior_channels: int = 0,
                 padding: Padding = "zeros", upsampling: Upsampling = "nearest"):
        super().__init__()
        options: dict[str, Any] = {"padding": padding, "upsampling": upsampling}
        self.prior_channels = prior_channels
        self.coarse_net = Stack(4 + prior_channels, first, **options)
        self.conv_branch = Stack(3, DILATED, **options) if dilated else None
        self.conv_branch2 = Stack(3, PLAIN, **options)
        branches = [branch for branch in (self.conv_branch, self.conv_branch2) if branch is not None]
        self.out_branch = Stack(sum(branch.outputs for branch in branches), OUT, **options)

    def stages(self, x: Tensor, hole: Tensor, prior: Tensor | None = None) -> list[Tensor]:
        known = x * (1 - hole)
        coarse = torch.tanh(self.coarse_net(torch.cat([known, hole, *([] if prior is None else [prior])], dim=1)))
        return [coarse, self.refine(coarse * hole + known)]

    def refine(self, composite: Tensor) -> Tensor:
        """The second stage alone, (B, 3, H, W) in [-1, 1] to the same."""
        branches = [branch for branch in (self.conv_branch, self.conv_branch2) if branch is not None]
        return torch.tanh(self.out_branch(torch.cat([branch(composite) for branch in branches], dim=1)))


class Stacked(TwoStage):
    """Two networks, one after the other."""

    def __init__(self, *, padding: Padding = "zeros", upsampling: Upsampling = "nearest"):
        super().__init__(dilated=False, padding=padding, upsampling=upsampling)


class CoarseToFine(TwoStage):
    """A second stage of two branches, the paper's default."""

    def __init__(self, *, padding: Padding = "zeros", upsampling: Upsampling = "nearest"):
        super().__init__(dilated=True, padding=padding, upsampling=upsampling)


class Progressive(TwoStage):
    """Coarse-to-fine with a prior, the enlarged result of a smaller size, and a first kernel of 8x8.

    The second stage gets the first one's result as elsewhere. In the release's fragment it gets the prior in its place,
    so that the first stage is trained and of no use.
    """

    def __init__(self):
        first = COARSE | {"conv1": COARSE["conv1"]._replace(kernel=8)}
        super().__init__(dilated=True, first=first, prior_channels=3)
