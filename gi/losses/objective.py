"""What is minimised: named terms, each with a weight of its own, for the generator, and the discriminator's loss.

A term is any module `term(prediction, batch, discriminated) -> scalar`, its weight included:

- prediction: (B, 3, H, W) in [0, 1], not the composite,
- batch: what `GuidedInpainting.prepare` returns, such as "image" (B, 3, H, W) in [0, 1] and "mask" (B, 1, H, W),
- discriminated: None without a discriminator. A term that cannot do without says `needs_discriminator = True`.

A new one is a line under `terms` of a configuration. If it has a `weight`, it is not computed while that is 0.
"""
from functools import cached_property

import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.losses.discriminator import DiscriminatorLoss


class Discriminated:
    """The discriminator's outputs, (logits (N,1,h,w), list of activations), each computed on first use."""

    def __init__(self, discriminator: nn.Module, prediction: Tensor, image: Tensor):
        self._discriminator, self._prediction, self._image = discriminator, prediction, image

    @cached_property
    def prediction(self) -> tuple[Tensor, list[Tensor]]:
        """With gradients."""
        return self._discriminator(self._prediction)

    @cached_property
    def image(self) -> tuple[Tensor, list[Tensor]]:
        """Without gradients."""
        with torch.no_grad():
            return self._discriminator(self._image)


class Objective(nn.Module):
    """Adds up named terms.

    Args:
        terms: of the generator's loss, by the names they are logged under; null switches an inherited one off. One at
            least must be left.
        discriminator: module (prediction, batch, discriminator) -> {name: scalar}, the names in the log beginning with
            "discriminator_"; by default the paper's loss.
    """

    def __init__(self, *, terms: dict[str, nn.Module | None], discriminator: nn.Module | None = None):
        super().__init__()
        self._terms = {name: term for name, term in terms.items() if term is not None}
        self._modules_of_terms = nn.ModuleList(self._terms.values())  # names of a ModuleDict are not free
        self.discriminator = discriminator or DiscriminatorLoss()
        if not self.terms:
            raise InputError("terms: there is none with a weight above 0, expected one at least")

    @property
    def terms(self) -> dict[str, nn.Module]:
        """The terms whose weight is not 0."""
        return {name: term for name, term in self._terms.items() if getattr(term, "weight", 1)}

    def check(self, discriminator: nn.Module | None) -> None:
        """Raises InputError if a term needs a discriminator and there is none."""
        for name, term in self.terms.items():
            if discriminator is None and getattr(term, "needs_discriminator", False):
                raise InputError(f"objective.params.terms.{name}: needs a discriminator, and there is none; "
                                 "set model.params.discriminator, or this term to null")

    def generator(self, prediction: Tensor, batch: dict, discriminator: nn.Module | None) -> dict[str, Tensor]:
        """{name: weighted scalar} of every term. Raises InputError, naming it, for one that gives no scalar."""
        discriminated = None if discriminator is None else Discriminated(discriminator, prediction, batch["image"])
        values = {name: term(prediction, batch, discriminated) for name, term in self.terms.items()}
        for name, value in values.items():
            if (shape := getattr(value, "shape", type(value).__name__)) != ():
                raise InputError(f"objective.params.terms.{name}: gave {shape}, expected a tensor of no dimension")
        return values
