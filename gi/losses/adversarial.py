"""Adversarial losses (paper, section 3.3): non-saturating, with feature matching and the R1 penalty.

A discriminator is a module that maps images (N,3,H,W) to (logits (N,1,h,w), list of activations).
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def adversarial_generator(fake_logits: Tensor, *, weight: float = 10.0) -> Tensor:
    """`weight` * mean softplus(-D(prediction)), the whole prediction meant to look real; a scalar >= 0."""
    return weight * F.softplus(-fake_logits.float()).mean()


def feature_matching(
    fake_activations: list[Tensor], real_activations: list[Tensor], *, weight: float = 100.0
) -> Tensor:
    """`weight` * mean over the activations of their mean squared difference, a scalar >= 0.

    The activations of the real image are constants here: only the prediction is pulled.
    """
    terms = [F.mse_loss(fake.float(), real.detach().float())
             for fake, real in zip(fake_activations, real_activations, strict=True)]
    return weight * torch.stack(terms).mean()


class DiscriminatorLoss(NamedTuple):
    """Scalars; `total` is the one to minimise, the others are what it consists of."""

    real: Tensor  # mean softplus(-D(image))
    fake: Tensor  # mean of softplus(D(prediction)) in the hole and softplus(-D(prediction)) elsewhere
    gradient_penalty: Tensor  # R1 with its factor

    @property
    def total(self) -> Tensor:
        return self.real + self.fake + self.gradient_penalty


def adversarial_discriminator(
    discriminator: nn.Module, image: Tensor, prediction: Tensor, mask: Tensor, *, r1_weight: float = 0.001
) -> DiscriminatorLoss:
    """What the discriminator minimises; `image` and `prediction` (N,3,H,W) in [0,1], `mask` (N,1,H,W), 1 = missing.

    Known pixels of a prediction count as real, so that the discriminator looks for holes and not for the slight blur
    of an autoencoder; the mask meets the logits by nearest resizing. The prediction is detached. The real images go
    through the discriminator in float32 even under autocast: half precision spoils the penalty's second derivative.
    """
    if r1_weight > 0:
        image = image.detach().float().requires_grad_()
        with torch.autocast(image.device.type, enabled=False):
            real_logits, _ = discriminator(image)
            penalty = r1_weight * r1_penalty(real_logits, image)
    else:
        real_logits, _ = discriminator(image.detach())
        penalty = image.new_zeros((), dtype=torch.float32)
    fake_logits, _ = discriminator(prediction.detach())
    return DiscriminatorLoss(
        real=F.softplus(-real_logits.float()).mean(),
        fake=masked_fake(fake_logits, mask),
        gradient_penalty=penalty,
    )


def masked_fake(fake_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of softplus(D) where the mask (N,1,H,W), resized to the logits (N,1,h,w), is 1, and softplus(-D) elsewhere.
    """
    fake_logits = fake_logits.float()
    missing = F.interpolate(mask.float(), size=fake_logits.shape[-2:], mode="nearest")
    return (missing * F.softplus(fake_logits) + (1 - missing) * F.softplus(-fake_logits)).mean()


def r1_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """Mean over samples of the squared L2 norm of d(sum of logits) / d(image), differentiable; a scalar >= 0.

    `image` must require a gradient, and `logits` must have been computed from it.
    """
    if not torch.is_grad_enabled():  # a validation step: there is nothing to differentiate
        return logits.new_zeros(())
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()
