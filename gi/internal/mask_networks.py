"""Networks that segment an object in a frame, after they were fitted to some annotated frames."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.internal import mask_unet
from gi.internal.layers import Layer, Stack
from gi.internal.networks import COARSE, STRIDE


class MaskBase(nn.Module):
    """The paper's: the base network that fills holes, of 17 layers, with the sigmoid of one channel as its result.

    prior: whether it also gets a guess of the mask.
    """

    def __init__(self, *, prior: bool = False):
        super().__init__()
        self.prior = prior
        last = {"conv17": Layer(1, activation=None)}
        self.coarse_net = Stack(4 if prior else 3, COARSE | last)

    def forward(self, image: Tensor, prior: Tensor) -> Tensor:
        """Probabilities (B,1,H,W) for images (B,3,H,W) in [0,1] of any size; prior (B,1,H,W), 0 and 1."""
        height, width = image.shape[-2:]
        inputs = torch.cat([2 * image - 1, prior] if self.prior else [2 * image - 1], dim=1)
        inputs = F.pad(inputs, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        return torch.sigmoid(self.coarse_net(inputs)[..., :height, :width])


class MaskLarge(mask_unet.MaskUNet):
    """The release's U-Net for images of any size, called like `MaskBase`."""

    prior = False

    def forward(self, image: Tensor, prior: Tensor | None = None) -> Tensor:
        height, width = image.shape[-2:]
        margins = (0, -width % mask_unet.STRIDE, 0, -height % mask_unet.STRIDE)
        return super().forward(F.pad(image, margins, mode="replicate"))[..., :height, :width]


def mask_loss(probability: Tensor, target: Tensor, excluded: Tensor, *, alpha: float = 0.8) -> Tensor:
    """Cross-entropy of (B,1,H,W) each, a scalar; `excluded` pixels cost nothing but count in the mean, as in the paper.

    alpha: weight of false positives, 0.8 in the paper and 1 in the release.
    """
    included = 1 - excluded
    p = (probability.float() * included).clamp(1e-7, 1 - 1e-7)
    t = target * included
    return -(t * p.log() + alpha * (1 - t) * (1 - p).log()).mean()
