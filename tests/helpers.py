"""Callbacks that tests put into configurations, and what is compared of the runs."""
import contextlib
import json
import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision


class Pause(pl.Callback):
    """After optimiser step `at_step` the first process creates the file `marker`, then waits for `until`."""

    def __init__(self, *, at_step: int, marker: str, until: str):
        self.at_step, self.marker, self.until = at_step, Path(marker), Path(until)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step and trainer.is_global_zero:
            self.marker.touch()
            give_up = time.monotonic() + 120
            while not self.until.exists() and time.monotonic() < give_up:
                time.sleep(0.02)


class Hang(pl.Callback):
    """The second of two processes creates the file `marker` and never goes on, in one of three places."""

    def __init__(self, *, where: str, marker: str):
        self.where, self.marker = where, Path(marker)
        self._hang("loading", rank=int(os.environ.get("LOCAL_RANK", 0)))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            self._hang("training", rank=trainer.global_rank)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._hang("validation", rank=trainer.global_rank)

    def _hang(self, where, rank):
        if where == self.where and rank == 1:
            self.marker.touch()
            time.sleep(600)


class Poison(pl.Callback):
    """Makes a weight of the generator nan after optimiser step `at_step`."""

    def __init__(self, *, at_step: int):
        self.at_step = at_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step:
            with torch.no_grad():
                next(pl_module.generator.parameters()).fill_(float("nan"))


class FreezeNorm(pl.Callback):
    """BatchNorm in eval mode: statistics of a batch are the one thing that sharing it out over processes changes."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for module in pl_module.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


class FloatScaling(MixedPrecision):
    """Scales losses as for fp16, but computes in float32: powers of two change nothing then."""

    def __init__(self):
        super().__init__("16-mixed", "cpu")

    def autocast_context_manager(self):
        return contextlib.nullcontext()


class LossScale(pl.Callback):
    """A loss scale that doubles after each window; the generator's gradient after step `at_step` is infinite."""

    def __init__(self, *, at_step: int | None = None):
        self.at_step = at_step

    def setup(self, trainer, pl_module, stage):
        trainer.strategy.precision_plugin = FloatScaling()

    def on_train_start(self, trainer, pl_module):
        trainer.precision_plugin.scaler.set_growth_interval(1)

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.at_step:
            parameter = next(pl_module.generator.parameters())
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))


class SaveRates(pl.Callback):
    """Appends the learning rate of every step of the generator to a file."""

    def __init__(self, *, path: str):
        self.path = path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with open(self.path, "a") as file:
            file.write(f"{trainer.optimizers[0].param_groups[0]['lr']}\n")


class SaveGradients(pl.Callback):
    """Saves the gradients of every optimiser step as [[{name: gradient} of each step] of each network]."""

    def __init__(self, *, path: str):
        self.path, self.steps = path, {"generator": [], "discriminator": []}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, steps in self.steps.items():
            network = getattr(pl_module, name)
            if network is not None and any(id(p) in owned for p in network.parameters()):
                steps.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            torch.save(self.steps, self.path)


class RecordNames(pl.Callback):
    """Appends the names of the samples of the first process's training batches to a file, a line a batch.

    images: also a checksum of what they show.
    """

    def __init__(self, *, path: str, images: bool = False):
        self.path, self.images = path, images

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.is_global_zero:
            with open(self.path, "a") as file:
                sums = [str(int(batch[key].long().sum())) for key in ("image", "mask", "sources")] * self.images
                file.write(" ".join([*batch["name"], *sums]) + "\n")


class Crash(pl.Callback):
    """Ends the process's training at the start of the batch after optimiser step `at_step`, once."""

    def __init__(self, *, at_step: int, marker: str):
        self.at_step, self.marker = at_step, Path(marker)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step and not self.marker.exists():
            self.marker.touch()
            raise ConnectionAbortedError


class SaveLosses(pl.Callback):
    """Writes the losses of every training batch, {name: value}, to a file, a line a batch."""

    def __init__(self, *, path: str):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        values = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        with open(self.path, "a") as file:
            file.write(json.dumps(values) + "\n")


class RecordNetwork(pl.Callback):
    """Saves the weights and statistics that each process validates, as network<rank>.pt."""

    def __init__(self, *, folder: str):
        self.folder = Path(folder)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        torch.save(dict(pl_module.best_generator().state_dict()), self.folder / f"network{trainer.global_rank}.pt")


def assert_close_gradients(a, b, tolerance=1e-4):
    """Equal to `tolerance`, for each parameter relative to its largest gradient."""
    assert a.keys() == b.keys()
    for key in a:
        scale = b[key].abs().max()
        assert (a[key] - b[key]).abs().max() <= tolerance * scale + 1e-7, key
