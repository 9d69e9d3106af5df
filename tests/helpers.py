"""Callbacks that tests put into configurations."""
import json
import time
from pathlib import Path

import pytorch_lightning as pl
import torch


class Pause(pl.Callback):
    """At the start of the batch after optimiser step `at_step`: creates the file `marker`, then waits for `until`."""

    def __init__(self, *, at_step: int, marker: str, until: str):
        self.at_step, self.marker, self.until = at_step, Path(marker), Path(until)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step and not self.marker.exists():
            self.marker.touch()
            give_up = time.monotonic() + 120
            while not self.until.exists() and time.monotonic() < give_up:
                time.sleep(0.02)


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
    """Appends the names of the samples of every training batch to a file, a line a batch."""

    def __init__(self, *, path: str):
        self.path = path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with open(self.path, "a") as file:
            file.write(" ".join(batch["name"]) + "\n")


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
