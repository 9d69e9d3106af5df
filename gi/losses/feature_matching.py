"""Feature matching (LaMa; original release): prediction and image should have the same activations in the
discriminator.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.losses.objective import Discriminated


class FeatureMatchingLoss(nn.Module):
    """`weight` * mean over the discriminator's activations of their mean squared difference, a scalar >= 0."""

    needs_discriminator = True

    def __init__(self, *, weight: float = 100.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Tensor, batch: dict, discriminated: Discriminated) -> Tensor:
        (_, activations), (_, image_activations) = discriminated.prediction, discriminated.image
        distances = [F.mse_loss(a.float(), b.float()) for a, b in zip(activations, image_activations, strict=True)]
        return self.weight * torch.stack(distances).mean()
