"""Training of a guided inpainting generator, for any of the families."""
import contextlib
import functools
import math
from collections.abc import Callable
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gi.compositing import masked
from gi.data.datamodule import collate
from gi.data.sample import Batch
from gi.errors import InputError, expect_at_least, expect_kind, expect_within
from gi.flow.guidance import Guidance
from gi.losses.objective import Objective
from gi.training.layout import channels_last_is_faster, is_channels_last, is_short, lay_out
from gi.training.optimizer import JointScaler, adam
from gi.training.resume import fit_to_module
from gi.training.schedule import warmup_cosine
from gi.training.scoring import Scored


class NonFiniteLoss(RuntimeError):
    """A loss term became nan or infinite. The message names the term and the step."""


class GuidedInpainting(Scored):
    """A generator with all that training needs: discriminator, losses, flow from target to keyframes, schedule,
    metrics.

    Args:
        generator: any family, called as generator(target, sources, flows, flow_errors).
        guidance: gives the flow to the keyframes and its error, see `gi.flow.guidance.Guidance`.
        discriminator, objective: not needed for evaluation.
        metrics: see `Scored`.
        base_lr: learning rate per sample of the joint batch; discriminator_lr_factor: see `learning_rates`.
        warmup_steps, decay_steps: see `warmup_cosine`.
        accumulate_grad_batches, gradient_clip_val, gradient_clip_algorithm: as in Lightning's Trainer, which leaves
            them to us because there are two optimisers. Clipping is per network, by "norm" unless by "value".
        generator_passes: 1 gives the discriminator the prediction the generator was just trained with. 2 predicts again
            with the updated generator, as the original release does.
        average_decay: decay of a running average of the generator's weights, and of its BatchNorms' statistics, that
            then serves evaluation; None for none. Updated every `average_every` optimiser steps from `average_start`.
        channels_last: memory layout of the networks' weights in training, which those of their activations follow. Same
            results to rounding. "auto" measures on CPUs which is faster, unless the training is short or compiled, and
            a training that is resumed keeps its own; on CUDA it is true. It has no effect on Apple GPUs: BatchNorm's
            backward pass failed with it until 2026 (pytorch/pytorch#188371).
        compile: torch.compile for the generator in training (the discriminator's gradient penalty needs second
            derivatives, which compiled networks do not have). Same results to rounding; weights keep their names. If a
            GPU asks for other strides, switch `channels_last` off (pytorch/pytorch#171622).
    """

    sharded = False  # whether FSDP may shard it, which works for a single network

    def __init__(
        self,
        *,
        generator: nn.Module,
        guidance: Guidance,
        discriminator: nn.Module | None = None,
        objective: Objective | None = None,
        metrics: nn.Module | None = None,
        base_lr: float = 1e-5,
        discriminator_lr_factor: float = 0.1,
        betas: tuple[float, float] | None = None,
        warmup_steps: int = 1000,
        decay_steps: int = 1_000_000,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        generator_passes: Literal[1, 2] = 1,
        average_decay: float | None = None,
        average_every: int = 10,
        average_start: int = 30_000,
        channels_last: bool | Literal["auto"] = "auto",
        compile: bool = False,
    ):
        super().__init__(metrics)
        expect_at_least(1, accumulate_grad_batches=accumulate_grad_batches, average_every=average_every)
        expect_at_least(0, base_lr=base_lr, discriminator_lr_factor=discriminator_lr_factor, warmup_steps=warmup_steps,
                        decay_steps=decay_steps, gradient_clip_val=gradient_clip_val or 0, average_start=average_start)
        expect_within(0, 1, average_decay=average_decay or 0)
        self.betas = (0.9, 0.999) if betas is None else (betas[0], betas[1])
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas: expected numbers in [0, 1), got {self.betas}")
        if gradient_clip_algorithm not in (None, "norm", "value"):
            raise InputError(f"gradient_clip_algorithm: expected norm or value, got {gradient_clip_algorithm!r}")
        if objective is not None:
            objective.check(discriminator)
        self.automatic_optimization = False
        self.channels_last, self.compiled = channels_last, compile
        self.resumes = False  # whether a checkpoint's training is continued; set before it is loaded
        self.generator, self.discriminator, self.average = generator, discriminator, None
        if average_decay is not None:
            # BatchNorm's statistics are averaged, too: those of the current weights do not fit averaged weights.
            average = get_ema_multi_avg_fn(average_decay)
            self.average = AveragedModel(generator, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        if compile:
            generator.compile(dynamic=False)
        self._helpers |= {"guidance": expect_kind(guidance, Guidance, "guidance"), "objective": objective}
        self.base_lr = base_lr
        self.discriminator_lr_factor = discriminator_lr_factor
        self._multiplier: Callable[[int], float] = functools.partial(warmup_cosine, warmup=warmup_steps,
                                                                     end=decay_steps)
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val or None  # 0 means no clipping to Lightning
        self.gradient_clip_algorithm = gradient_clip_algorithm or "norm"
        self.generator_passes = generator_passes
        self.average_every, self.average_start = average_every, average_start
        self._pending_terms = None
        self.whole = True  # false in the middle of an optimiser step

    @property
    def guidance(self) -> Guidance:
        return self._helpers["guidance"]

    # Prediction -------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Prediction (B, 3, H, W) in [0, 1] for a batch as a dataset gives it, by `best_generator`."""
        return self.predict(self.prepare(batch), self.best_generator())

    def prepare(self, batch: Batch, with_sources: bool = True) -> dict:
        """Floats in [0, 1] and the generator's four inputs, from a batch of uint8; without sources, T = 0."""
        image, sources = batch["image"].float() / 255, batch["sources"].float() / 255
        mask, source_masks = batch["mask"].float(), batch["source_masks"].float()
        if not with_sources:
            sources, source_masks = sources[:, :0], source_masks[:, :0]
        extra = {name: batch[name] for name in self.guidance.extra if name in batch and with_sources}
        flows, errors = self.guidance(image, mask, sources, source_masks, **extra)
        inputs = masked(image, mask), masked(sources, source_masks), flows, errors
        return {"image": image, "mask": mask, "sources": sources, "source_masks": source_masks, "inputs": inputs}

    def predict(self, prepared: dict, generator: nn.Module) -> Tensor:
        return generator(*prepared["inputs"]).float()

    def best_generator(self) -> nn.Module:
        """The averaged weights once there are any, the current ones before; in evaluations, a faster copy of these."""
        if (evaluated := self._helpers.get("evaluated")) is not None:
            return evaluated
        if self.average is not None and self.average.n_averaged > 0:
            return self.average.module
        return self.generator

    # Training ---------------------------------------------------------------------------------------------------------

    def setup(self, stage) -> None:
        if stage == "fit" and not self.resumes:
            lay_out(self._networks(), self._wants_channels_last())

    def _networks(self):
        networks = self.generator, self.average, self.discriminator, self._helpers["objective"]
        return [network for network in networks if network is not None]

    def _wants_channels_last(self, loaded: dict[str, Tensor] | None = None) -> bool:
        """The value of `channels_last` for this device; if it is "auto", that of `loaded` weights, or a measurement."""
        device = self.trainer.strategy.root_device.type
        if device != "cpu" or self.channels_last != "auto":
            return bool(self.channels_last) and device != "mps"
        if loaded is not None:
            return is_channels_last(loaded)
        if (self.compiled or self._helpers["objective"] is None
                or is_short(self.trainer, self.accumulate_grad_batches)):
            return False
        return channels_last_is_faster(self._trial(), self._networks(), self.trainer)

    def _trial(self) -> Callable[[], object]:
        """A function that runs the generator's part of a step on the first samples, without side effects."""
        train, size = self.trainer.datamodule.train, self.trainer.datamodule.batch_size
        data = self.prepare(collate([train[i] for i in range(min(size, len(train)))]))
        parameters = [parameter for parameter in self.generator.parameters() if parameter.requires_grad]

        def step():
            with self.trainer.precision_plugin.train_step_context():
                prediction = self.predict(data, self.generator)
                terms = self._helpers["objective"].generator(prediction, data, self.discriminator)
            torch.autograd.grad(sum(terms.values()), parameters, allow_unused=True)

        return step

    def learning_rates(self) -> list[float]:
        """Of the generator and, if there is one, the discriminator, before the schedule.

        The generator's is base x batch per process x processes x accumulated batches: 3.2e-4 with the paper's 8, 2, 2.
        """
        samples = self.trainer.datamodule.batch_size * self.trainer.world_size * self.accumulate_grad_batches
        rate = self.base_lr * samples
        return [rate] if self.discriminator is None else [rate, rate * self.discriminator_lr_factor]

    def explain_rate(self) -> str:
        """What the log says after the generator's learning rate."""
        return (f" = {self.base_lr:g} x batch {self.trainer.datamodule.batch_size} x {self.trainer.world_size} "
                f"process(es) x {self.accumulate_grad_batches} accumulated batch(es)")

    def configure_optimizers(self) -> tuple[list[torch.optim.Adam], list[LambdaLR]]:
        if self._helpers["objective"] is None:
            raise InputError("model.params.objective: training needs one")
        rates = self.learning_rates()
        pl.utilities.rank_zero_info(f"learning rate {rates[0]:.3g}{self.explain_rate()}")
        precision = self.trainer.precision_plugin
        scaled = getattr(precision, "scaler", None) is not None
        if scaled:
            precision.scaler = JointScaler(self.device.type, optimizers=len(rates))
        optimizers = [adam(network.parameters(), lr=rate, betas=self.betas, scaled=scaled)
                      for network, rate in zip((self.generator, self.discriminator), rates, strict=False)]
        return optimizers, [LambdaLR(optimizer, self._multiplier) for optimizer in optimizers]

    def on_train_start(self) -> None:
        """Resuming goes on with the configuration's rates and betas, also if the checkpoint was trained with others."""
        now, before = [(rate, self.betas) for rate in self.learning_rates()], []
        for schedule, (rate, betas) in zip(self._schedules(), now, strict=True):
            group = schedule.optimizer.param_groups[0]
            before.append((group["initial_lr"], tuple(group["betas"])))
            schedule.base_lrs = [rate]
            group.update(initial_lr=rate, betas=betas, lr=rate * self._multiplier(schedule.last_epoch))
        if before != now:
            texts = (", ".join(f"{rate:.3g} with betas {betas}" for rate, betas in pairs) for pairs in (before, now))
            pl.utilities.rank_zero_info("learning rates in the checkpoint: {}; from here on: {}".format(*texts))

    def training_step(self, batch, batch_idx) -> dict:
        n_window, is_last = self._accumulation(batch_idx)
        optimizers = self.optimizers()
        optimizer_g, optimizer_d = optimizers if self.discriminator is not None else (optimizers, None)
        objective = self._helpers["objective"]
        data, rate = self.prepare(batch), self._schedules()[0].optimizer.param_groups[0]["lr"]

        with self._maybe_without_sync(block=not is_last):
            if self.discriminator is not None:
                self.discriminator.requires_grad_(False)
            prediction = self.predict(data, self.generator)
            terms = objective.generator(prediction, data, self.discriminator)
            self.manual_backward(sum(terms.values()) / n_window)
        self.whole = False
        if is_last:
            optimizer_g.step()
            optimizer_g.zero_grad()

        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            if self.generator_passes == 2:
                with torch.no_grad():
                    prediction = self.predict(data, self.generator)
            with self._maybe_without_sync(block=not is_last):
                d_terms = objective.discriminator(prediction.detach(), data, self.discriminator)
                self.manual_backward(sum(d_terms.values()) / n_window)
            if is_last:
                # Not through Lightning's wrapper, which counts its steps: `max_steps` should mean the generator's.
                self.trainer.strategy.optimizer_step(optimizer_d.optimizer, closure=lambda: None)
                optimizer_d.zero_grad()
            terms |= d_terms

        if is_last:
            for schedule in self._schedules():
                schedule.step()
            step = self.global_step
            if self.average is not None and step >= self.average_start and step % self.average_every == 0:
                self.average.update_parameters(self.generator)
        self._log_terms(terms, rate, is_last)
        self.whole = is_last
        return {"prediction": prediction.detach(), "data": data}

    def _accumulation(self, batch_idx):
        """Number of batches whose gradients are averaged with this one's, and whether this one is the last of them."""
        start = batch_idx - batch_idx % self.accumulate_grad_batches
        n_window = min(self.accumulate_grad_batches, self.trainer.num_training_batches - start)
        return n_window, batch_idx + 1 == start + n_window

    @property
    def turn(self) -> int:
        """Index of the current batch in its accumulation window, from 0."""
        return self.trainer.fit_loop.batch_idx % self.accumulate_grad_batches

    @property
    def between_steps(self) -> bool:
        """Whether no gradients wait for the rest of their accumulation window; only then is resuming exact."""
        parameters = (*self.generator.parameters(), *(self.discriminator.parameters() if self.discriminator else ()))
        return all(p.grad is None for p in parameters)

    def _maybe_without_sync(self, block):
        """Under DDP, gradients that will be added to need not be averaged over processes yet."""
        distributed = block and self.trainer.world_size > 1
        return self.trainer.strategy.block_backward_sync() if distributed else contextlib.nullcontext()

    def _schedules(self):
        schedules = self.lr_schedulers()
        return schedules if isinstance(schedules, list) else [schedules]

    def on_before_optimizer_step(self, optimizer) -> None:
        # Here and not in training_step, because fp16 gradients are still scaled there.
        if self.gradient_clip_val is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            by_value = self.gradient_clip_algorithm == "value"
            clip = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
            clip(parameters, self.gradient_clip_val)

    def _log_terms(self, terms, rate, is_last):
        """Logs losses and learning rate, and checks the losses of the previous step, so that the device is not waited
        for.
        """
        self.check_finite()
        values = torch.stack([value.detach().float() for value in terms.values()])
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        self._pending_terms = values, list(terms), f"optimiser step {self.global_step} (epoch {self.current_epoch})"
        self.log_dict({f"train/{name}": value for name, value in zip(terms, values, strict=True)}, prog_bar=True)
        # Lightning would count batches as steps. The first ones of a window belong to the step that the last one takes.
        self.log_dict({"lr": rate, "epoch": float(self.current_epoch), "step": float(self.global_step + (not is_last))})

    def check_finite(self) -> None:
        """Raises NonFiniteLoss if the last losses were not finite."""
        pending, self._pending_terms = self._pending_terms, None
        if pending is not None:
            values, names, moment = pending
            for name, value in zip(names, values.tolist(), strict=True):
                if not math.isfinite(value):
                    self.whole = False
                    raise NonFiniteLoss(f"loss term '{name}' is {value} at {moment}")

    def on_train_end(self) -> None:
        self.check_finite()

    def on_load_checkpoint(self, checkpoint) -> None:
        fit_to_module(checkpoint, self)
        lay_out(self._networks(), self._wants_channels_last(checkpoint["state_dict"]))

    def on_save_checkpoint(self, checkpoint) -> None:
        self.check_finite()  # so that a good checkpoint is never overwritten

    def on_validation_model_zero_grad(self) -> None:
        """Nothing: gradients may wait for the rest of their accumulation window."""
