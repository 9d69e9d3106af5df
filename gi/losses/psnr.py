"""PSNR in the hole, the score that reconstructions are compared by, as a loss. Ours, not the paper's."""
import math

from torch import Tensor, nn


class PSNRLoss(nn.Module):
    """`weight` * minus the mean over samples of the PSNR in the hole, in dB, a scalar.

    So every sample counts alike, however much contrast it has. `floor` is added to the mean squared error: improvements
    below it hardly count. Samples without hole give a constant.
    """

    def __init__(self, *, weight: float = 1.0, floor: float = 3e-4):
        super().__init__()
        self.weight, self.floor = weight, floor

    def forward(self, prediction: Tensor, batch: dict, discriminated: object = None) -> Tensor:
        mask = batch["mask"]
        squares = (mask * (prediction - batch["image"]).square()).sum(dim=(1, 2, 3))
        error = squares / (prediction.shape[1] * mask.sum(dim=(1, 2, 3))).clamp(min=1)
        return self.weight * 10 / math.log(10) * (error + self.floor).log().mean()
