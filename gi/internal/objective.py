"""What a fitted network minimises, in two phases, and the batches that it is computed of."""
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gi.losses.objective import Objective


class TwoPhases(Objective):
    """Terms from the start, and regularisers from optimiser step `regularise_from` on, when Adam begins anew.

    Terms are as in `Objective`, but the prediction is that of every stage, (S, B, 3, H, W), and the batch is that of
    `prepare`. null switches one off.
    """

    def __init__(self, *, terms: dict[str, nn.Module | None], regularisers: dict[str, nn.Module | None] | None = None,
                 regularise_from: int = 0):
        super().__init__(terms=terms)
        self.regularise_from = regularise_from
        present = {name: term for name, term in (regularisers or {}).items() if term is not None}
        present = {name: term for name, term in present.items() if getattr(term, "weight", 1)}
        self.regularisers = Objective(terms=present) if present else None

    def starts_anew(self, step: int) -> bool:
        """Whether the second phase begins with this optimiser step."""
        return self.regularisers is not None and step == self.regularise_from > 0

    def generator(self, prediction: Tensor, batch: dict, discriminator: nn.Module | None = None) -> dict[str, Tensor]:
        """{name: weighted scalar}; `batch` says which step this is."""
        values = super().generator(prediction, batch, None)
        if self.regularisers is not None and batch["step"] >= self.regularise_from:
            values |= self.regularisers.generator(prediction, batch, None)
        return values


def prepare(batch: dict, fill: Callable[..., list[Tensor]], *, step: int, seed: int = 0) -> dict:
    """A batch of `gi.internal.hidden.HiddenSample` as floats, with all that terms ask for.

    "image", "mask", "sources", "source_masks" as in a sample; "hole": the frame's own and the moved one; "hidden":
    known pixels under the moved one; "fill": the network, (image, hole) -> stages; "step"; "random": a generator on the
    CPU for this step, another for every `seed`. "prior", if the sample has one: (B, 3, H, W).
    """
    image, sources = batch["image"].float() / 255, batch["sources"].float() / 255
    mask, moved = batch["mask"].float(), batch["moved"].float()
    prior = {"prior": batch["prior"].float() / 255} if "prior" in batch else {}
    return prior | {
            "image": image, "mask": mask, "sources": sources, "source_masks": batch["source_masks"].float(),
            "hole": torch.maximum(mask, moved), "hidden": moved * (1 - mask), "fill": fill, "step": step,
            "random": torch.Generator().manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))}
