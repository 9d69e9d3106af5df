"""The reconstruction loss, on all known pixels: those that the moved mask hides and the others."""
from collections.abc import Sequence

from torch import Tensor, nn


class Reconstruction(nn.Module):
    """`weight` * sum over the network's stages of the mean of |prediction - image| over all pixels, 0 in the hole.

    Colours are in [-1, 1] here, as in the paper, whose intermediate supervision this is. The hole is the video's own,
    "mask", not the moved one.
    """

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Sequence[Tensor], batch: dict, discriminated: object = None) -> Tensor:
        """`prediction`: (B,3,H,W) in [0,1] of each stage; of the batch "image" and "mask" (B,1,H,W); a scalar >= 0."""
        known = 1 - batch["mask"]
        return 2 * self.weight * sum(((stage - batch["image"]).abs() * known).mean() for stage in prediction)
