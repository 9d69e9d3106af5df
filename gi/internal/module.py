"""Training with Lightning: `python gi/main.py --base configs/internal/coarse_to_fine.yaml data.params.video=…`."""
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gi.data.datamodule import collate
from gi.flow.estimate import ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.internal.layers import even_out
from gi.internal.networks import InternalNetwork
from gi.internal.objective import TwoPhases, prepare
from gi.internal.preview import strip
from gi.training.callbacks import write_picture
from gi.training.module import GuidedInpainting


class InternalLearning(GuidedInpainting):
    """The training of `GuidedInpainting` for a network that sees one frame, hence without guidance.

    Args:
        learning_rate: of Adam, whatever the size of the batches (the paper's); constant, unless `decay_steps` says
            where a cosine ends.
        even: initialise weights so that all layers have signals of variance 1, see `gi.internal.layers.even_out`,
            instead of as in the paper. Higher rates, such as 2e-3, work then.
        others: as there.
    """

    def __init__(self, *, generator: InternalNetwork, objective: TwoPhases | None = None,
                 metrics: nn.Module | None = None, learning_rate: float = 2e-4,
                 betas: tuple[float, float] | None = None,
                 decay_steps: int | None = None, even: bool = False, accumulate_grad_batches: int = 1,
                 gradient_clip_val: float | None = None, average_decay: float | None = None, average_every: int = 1,
                 average_start: int = 0, channels_last: bool = False, compile: bool = False):
        super().__init__(
            generator=generator, objective=objective, metrics=metrics, betas=betas, warmup_steps=0,
            decay_steps=decay_steps or 1, accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val, average_decay=average_decay, average_every=average_every,
            average_start=average_start, channels_last=channels_last, compile=compile,
            guidance=FlowGuidance(estimator=ZeroFlow(), inpaint=False))
        self.learning_rate, self.even = learning_rate, even
        if decay_steps is None:
            self._multiplier = _constant

    def learning_rates(self) -> list[float]:
        return [self.learning_rate]

    def explain_rate(self) -> str:
        return ", whatever the size of the batches"

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.even:
            batch = self.transfer_batch_to_device(collate([self.trainer.datamodule.train[0]]), self.device, 0)
            data = self.prepare(batch)
            even_out(self.generator, data["image"], data["hole"])

    def prepare(self, batch: dict, with_sources: bool = True) -> dict:
        """See `gi.internal.objective.prepare`."""
        seed = 0  # of what is random in a step, which only training asks for
        if self.training:
            seed = self.global_rank + self.trainer.world_size * self.turn
        return prepare(batch, self.generator, step=self.global_step, seed=seed)

    def predict(self, prepared: dict, generator: nn.Module) -> Tensor:
        """(S, B, 3, H, W) in [0, 1], the result last."""
        return torch.stack(generator(prepared["image"], prepared["hole"])).float()

    def training_step(self, batch, batch_idx) -> dict:
        if self._helpers["objective"].starts_anew(self.global_step):
            self.optimizers().optimizer.state.clear()
        return super().training_step(batch, batch_idx)

    def _evaluate(self, batch, name):
        data = self.prepare(batch)
        prediction = self.predict(data, self.best_generator())[-1]
        if name in self._metrics:
            self._metrics[name].update(prediction, data["image"], data["hidden"], batch["name"])
        return {"prediction": prediction, "data": data}


class Strips(pl.Callback):
    """Frames of the video with their holes, and filled, to images/ and TensorBoard at every validation and test."""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        self._write(trainer, pl_module)

    def on_test_epoch_end(self, trainer, pl_module) -> None:
        self._write(trainer, pl_module)

    def _write(self, trainer, pl_module):
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        write_picture(trainer, "filled", strip(pl_module.best_generator(), trainer.datamodule.shot))


def _constant(step):
    return 1.0
