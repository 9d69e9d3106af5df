"""What the discriminator minimises (LaMa; original release): non-saturating, with the R1 penalty on real images."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiscriminatorLoss(nn.Module):
    """Real images are labelled real, predictions real where pixels were known and fake in the hole.

    Known pixels of a prediction count as real, so that the discriminator looks for holes and not for the slight blur of
    an autoencoder; the mask is resized to the logits by nearest neighbour. `r1` is the weight of the gradient penalty.
    """

    def __init__(self, *, r1: float = 0.001):
        super().__init__()
        self.r1 = r1

    def forward(self, prediction: Tensor, batch: dict, discriminator: nn.Module) -> dict[str, Tensor]:
        """{term: scalar}, to be added up: mean softplus(-D(image)), `masked_fake` of the prediction, and R1.

        `prediction` (N,3,H,W) in [0,1] is detached; of `batch`, "image" and "mask" are needed.
        """
        # In float32 even under autocast: half precision spoils the penalty's second derivative.
        image = batch["image"].detach().float().requires_grad_(self.r1 > 0)
        with torch.autocast(image.device.type, enabled=False):
            real_logits, _ = discriminator(image)
            penalty = self.r1 * r1_penalty(real_logits, image) if self.r1 > 0 else image.new_zeros(())
        fake_logits, _ = discriminator(prediction.detach())
        return {
            "discriminator_real": F.softplus(-real_logits.float()).mean(),
            "discriminator_fake": masked_fake(fake_logits, batch["mask"]),
            "discriminator_gradient_penalty": penalty,
        }


def masked_fake(fake_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of softplus(D) where the mask (N,1,H,W), resized to the logits (N,1,h,w), is 1, else of softplus(-D)."""
    fake_logits = fake_logits.float()
    missing = F.interpolate(mask.float(), size=fake_logits.shape[-2:], mode="nearest")
    return (missing * F.softplus(fake_logits) + (1 - missing) * F.softplus(-fake_logits)).mean()


def r1_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """Mean over samples of the squared L2 norm of d(sum of logits) / d(image), differentiable; a scalar >= 0.

    `image` (N,3,H,W) must require a gradient, and `logits` (N,1,h,w) must have been computed from it.
    """
    if not torch.is_grad_enabled():  # a validation step: there is nothing to differentiate
        return logits.new_zeros(())
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()
