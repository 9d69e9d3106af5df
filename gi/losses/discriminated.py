"""What the discriminator says of a prediction and of its image, for all terms of the generator's loss that ask."""
from functools import cached_property

import torch
from torch import Tensor, nn


class Discriminated:
    """The discriminator's passes over images (N,3,H,W) in [0,1], each made when it is first asked for.

    Each is (logits (N,1,h,w), list of activations).
    """

    def __init__(self, discriminator: nn.Module, prediction: Tensor, image: Tensor):
        self._discriminator, self._prediction, self._image = discriminator, prediction, image

    @cached_property
    def prediction(self) -> tuple[Tensor, list[Tensor]]:
        return self._discriminator(self._prediction)

    @cached_property
    def image(self) -> tuple[Tensor, list[Tensor]]:
        """Without gradients."""
        with torch.no_grad():
            return self._discriminator(self._image)
