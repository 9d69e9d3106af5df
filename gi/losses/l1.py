"""Pixel loss (LaMa; original release)."""
from torch import Tensor, nn


class L1Loss(nn.Module):
    """`weight` * mean over all pixels and channels of |prediction - image|, a scalar >= 0.

    A pixel counts `known` outside the hole and `missing` inside it: by default that is left to the other losses.
    """

    def __init__(self, *, weight: float = 10.0, known: float = 1.0, missing: float = 0.0):
        super().__init__()
        self.weight, self.known, self.missing = weight, known, missing

    def forward(self, prediction: Tensor, batch: dict, discriminated: object = None) -> Tensor:
        mask = batch["mask"]
        weight = self.weight * (self.known * (1 - mask) + self.missing * mask)
        return (weight * (prediction - batch["image"]).abs()).mean()
