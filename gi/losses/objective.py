"""What is minimised: the paper's loss terms with their weights, for the generator and for the discriminator."""
import torch
from torch import Tensor, nn

from gi.losses.adversarial import adversarial_discriminator, adversarial_generator, feature_matching
from gi.losses.reconstruction import masked_l1


class Objective(nn.Module):
    """Terms with weight 0, and the perceptual one if it is None, are not computed at all.

    Args:
        known, missing: weights of the L1 distance on known pixels and inside the hole.
        adversarial, feature_matching: weights of the terms that need a discriminator.
        r1: weight of the gradient penalty on real images.
        perceptual: module (prediction, image) -> weighted scalar.
    """

    def __init__(
        self,
        *,
        known: float = 10.0,
        missing: float = 0.0,
        adversarial: float = 10.0,
        feature_matching: float = 100.0,
        r1: float = 0.001,
        perceptual: nn.Module | None = None,
    ):
        super().__init__()
        self.known = known
        self.missing = missing
        self.adversarial = adversarial
        self.feature_matching = feature_matching
        self.r1 = r1
        self.perceptual = perceptual

    def generator(self, prediction: Tensor, image: Tensor, mask: Tensor, discriminator: nn.Module | None) -> dict:
        """{term: weighted scalar} of the raw prediction (B, 3, H, W), not of the composite."""
        terms = {}
        if self.known or self.missing:
            terms["l1"] = masked_l1(prediction, image, mask, known=self.known, missing=self.missing)
        if discriminator is not None and (self.adversarial or self.feature_matching):
            logits, activations = discriminator(prediction)
            if self.adversarial:
                terms["adversarial"] = adversarial_generator(logits, weight=self.adversarial)
            if self.feature_matching:
                with torch.no_grad():
                    _, wanted = discriminator(image)
                terms["feature_matching"] = feature_matching(activations, wanted, weight=self.feature_matching)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(prediction, image)
        return terms

    def discriminator(self, prediction: Tensor, image: Tensor, mask: Tensor, discriminator: nn.Module) -> dict:
        """{term: scalar}; the prediction is detached."""
        loss = adversarial_discriminator(discriminator, image, prediction, mask, r1_weight=self.r1)
        return {f"discriminator_{term}": value for term, value in loss._asdict().items()}
