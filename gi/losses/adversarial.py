"""Adversarial loss of the generator (LaMa; original release): non-saturating, on the whole prediction."""
import torch.nn.functional as F
from torch import Tensor, nn

from gi.losses.objective import Discriminated


class AdversarialLoss(nn.Module):
    """`weight` * mean softplus(-D(prediction)), a scalar >= 0."""

    needs_discriminator = True

    def __init__(self, *, weight: float = 10.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Tensor, batch: dict, discriminated: Discriminated) -> Tensor:
        logits, _ = discriminated.prediction
        return self.weight * F.softplus(-logits.float()).mean()
