"""Callbacks of a training: the checkpoint to resume from, pictures, progress."""
import math
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torchvision.utils import make_grid

from gi.compositing import composite
from gi.config.targets import nearest
from gi.errors import InputError, expect_at_least, one_line
from gi.flow.warp import warp
from gi.media.io import write_image
from gi.metrics.metric import Metric, measures, mode_of
from gi.report.pictures import to_uint8
from gi.report.results import file_name
from gi.training.signals import StopRequested, StopSignals

# File names in which scores are formatted as numbers. Other formats turn scores into characters, and so into any path.
_FILENAME = r"[^{}:]*(\{[^{}:!\[]+(:[-+ ]?[\d.]*[deEfFgG%]?)?\}[^{}:]*)*"


class LastCheckpoint(pl.Callback):
    """Keeps checkpoints/last.ckpt, from which a run resumes exactly.

    It is written every `every_n_steps` optimiser steps, at the end of each epoch and of the training, before each
    validation, and when a signal asks any of the processes to end, which then ends all of them. Always between
    optimiser steps: no checkpoint holds gradients of an incomplete accumulation window. So a training that is ended by
    its time limit or another callback first completes its step.

    It is also written when an error ends the training, unless that happens in the middle of an optimiser step, or the
    losses are not finite; then only by the first of several processes, whose states are the same.
    """

    def __init__(self, *, every_n_steps: int = 500):
        expect_at_least(1, every_n_steps=every_n_steps)
        self.every_n_steps = every_n_steps
        self.signals = StopSignals()  # replaced by those of the run
        self._saved_step, self._stopping = None, False

    def setup(self, trainer, pl_module, stage) -> None:
        self.path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer, pl_module) -> None:
        self.signals.hold(True)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        stopping = self._stopping or trainer.should_stop  # such as by a time limit
        if not pl_module.between_steps:
            self._stopping, trainer.should_stop = stopping, False  # that has to wait for the end of the step
            return
        step, self._stopping, trainer.should_stop = trainer.global_step, False, stopping
        signum = self._signal_of_any_process(trainer)
        ends = step == trainer.max_steps or (stopping and trainer.fit_loop._can_stop_early)
        if signum or ends or step % self.every_n_steps == 0 or trainer.is_last_batch:
            self._save(trainer)
        if signum:
            raise StopRequested(signum)

    def on_validation_start(self, trainer, pl_module) -> None:
        if trainer.sanity_checking:
            return
        if trainer.global_step and trainer.global_step != self._saved_step and pl_module.between_steps:
            self._save(trainer)
        # Processes do not synchronise before the end of a validation, so each ends by itself; there is nothing left to
        # save.
        self.signals.hold(trainer.global_step != self._saved_step)

    def on_validation_end(self, trainer, pl_module) -> None:
        self.signals.hold(not trainer.sanity_checking)
        if trainer.should_stop and not pl_module.between_steps:
            self._stopping, trainer.should_stop = True, False

    def on_train_end(self, trainer, pl_module) -> None:
        self.signals.hold(False)

    def on_exception(self, trainer, pl_module, exception) -> None:
        sound = trainer.training and pl_module.whole and not isinstance(exception, StopRequested)
        if not sound or trainer.global_step in (0, self._saved_step) or not trainer.is_global_zero:
            return
        try:
            # Not `trainer.save_checkpoint`, which waits for the other processes.
            content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.checkpoint_io.save_checkpoint(content, self.path)
            rank_zero_info(f"state of step {trainer.global_step} saved")
        except Exception as error:  # such as losses that are not finite; the first error is the one to report
            rank_zero_info(f"state of step {trainer.global_step} not saved: {one_line(error)}")

    def _save(self, trainer):
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_step = trainer.global_step

    def _signal_of_any_process(self, trainer):
        signum = self.signals.requested
        if trainer.world_size > 1:
            signum = torch.tensor(float(signum), device=trainer.strategy.root_device)
            signum = int(trainer.strategy.reduce(signum, reduce_op="max"))
        return signum


def check_checkpoint(
    checkpoint: pl.callbacks.ModelCheckpoint, folder: Path, sets: Iterable[str], metrics: Iterable[Metric]
) -> None:
    """Raises InputError if it would write outside the folder of the run, watch a score that no validation of `sets`
    by `metrics` gives, or keep the worst.
    """
    if not re.fullmatch(_FILENAME, checkpoint.filename or ""):
        raise InputError(f"lightning.callbacks: ModelCheckpoint: filename {checkpoint.filename!r}: expected a name in "
                         "which scores stand as numbers, such as {step} or {val/large/fid:.2f}")
    place = Path(checkpoint.dirpath, checkpoint.filename or "")
    if not place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"lightning.callbacks: ModelCheckpoint would write to {place}, expected a place below the "
                         f"folder of the run, {folder}")
    monitor, sets, metrics = checkpoint.monitor or "", list(sets), list(metrics)
    scores = [f"val/{name}/{view}{key}" for name in sets for view in ("", "raw/") for key in measures(metrics)]
    if sets and monitor.startswith("val/") and monitor not in scores:
        raise InputError(f"lightning.callbacks: ModelCheckpoint: no validation gives {monitor}"
                         f"{nearest(monitor, scores)}")
    mode = mode_of(monitor, metrics)
    if mode is not None and checkpoint.mode != mode:
        raise InputError(f"lightning.callbacks: ModelCheckpoint with monitor {monitor} has mode {checkpoint.mode}, "
                         f"expected {mode}")


class FirstBatch(pl.Callback):
    """Calls `_write` with the first batch of each set at every validation and test."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        if batch_idx == 0 and not trainer.sanity_checking:
            self._write(trainer, pl_module, f"val_{trainer.datamodule.validation_names[dataloader_idx]}", outputs)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        if batch_idx == 0:
            self._write(trainer, pl_module, f"test_{trainer.datamodule.test_names[dataloader_idx]}", outputs)

    def _write(self, trainer, pl_module, name, outputs):
        raise NotImplementedError


class ImageGrids(FirstBatch):
    """Pictures of the network's results, to TensorBoard and to images/<set>/: one row a sample.

    Columns: target with its hole, each keyframe with its holes and aligned to the target, prediction, composite, truth.
    Taken every `every_n_steps` optimiser steps in training and from the first batch of each evaluation set.
    """

    def __init__(self, *, every_n_steps: int = 1000, n_samples: int = 4):
        expect_at_least(1, every_n_steps=every_n_steps, n_samples=n_samples)
        self.every_n_steps, self.n_samples = every_n_steps, n_samples
        self._last_step = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._last_step:
            self._last_step = step
            self._write(trainer, pl_module, "train", outputs)

    @torch.no_grad()
    def _write(self, trainer, pl_module, name, outputs):
        if not trainer.is_global_zero:
            return
        grid = sample_grid(outputs["data"], outputs["prediction"], self.n_samples)
        write_picture(trainer, name, to_uint8(grid.permute(1, 2, 0).numpy()))


def write_picture(trainer: pl.Trainer, name: str, picture: np.ndarray) -> None:
    """A picture, uint8 (H, W, 3), to TensorBoard and to images/<name>/ in the folder of the run."""
    path = Path(trainer.default_root_dir) / "images" / file_name(name) / f"step_{trainer.global_step:07d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, picture)
    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.TensorBoardLogger):
            logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")


def sample_grid(data: dict, prediction: Tensor, n_samples: int) -> Tensor:
    """(3, rows, columns) in [0, 1] on the CPU; see `ImageGrids`. `data` is what GuidedInpainting.prepare returns."""
    target, sources, flows, _ = (x[:n_samples].float() for x in data["inputs"])
    image, mask, prediction = data["image"][:n_samples], data["mask"][:n_samples], prediction[:n_samples]
    columns = [target[:, :3]]
    for t in range(sources.shape[1]):
        columns += [sources[:, t, :3], warp(sources[:, t, :3], flows[:, t])]
    columns += [prediction, composite(prediction, image, mask), image]
    rows = torch.stack(columns, dim=1).flatten(0, 1).clamp(0, 1).cpu()
    return make_grid(rows, nrow=len(columns), padding=2, pad_value=1.0)


class RunProgress(pl.callbacks.TQDMProgressBar):
    """Lightning's progress bar with the time left of the whole training, not only of the epoch.

    Where standard error is no terminal but a file, a line every half minute instead.
    """

    interval = 30.0  # seconds
    _start: tuple[float, int] | None = None
    _last_print, _lines = 0.0, False

    def setup(self, trainer, pl_module, stage) -> None:
        super().setup(trainer, pl_module, stage)
        self._lines, self._last_print = trainer.is_global_zero and not sys.stderr.isatty(), time.monotonic()
        if self._lines:
            self.disable()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._due():
            values = (f"{name} {value if isinstance(value, str) else format(value, '.3g')}"
                      for name, value in self.get_metrics(trainer, pl_module).items())
            self._tell("step", trainer.global_step, total_steps(trainer, pl_module), *values)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if self._due():
            self._tell("validation batch", batch_idx + 1, self.total_val_batches_current_dataloader)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if self._due():
            self._tell("test batch", batch_idx + 1, self.total_test_batches_current_dataloader)

    def _due(self):
        return self._lines and time.monotonic() - self._last_print > self.interval

    def _tell(self, label, done, total, *values):
        self._last_print = time.monotonic()
        print(f"{label} {done}/{total}", *values, sep=", ", file=sys.stderr, flush=True)

    def on_train_start(self, trainer, pl_module) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = time.monotonic(), trainer.global_step

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, pl_module)
        items = {name.removeprefix("train/"): value for name, value in items.items() if name != "v_num"}
        if self._start and trainer.training:
            start, first = self._start
            steps, total = trainer.global_step - first, total_steps(trainer, pl_module)
            left = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, pl.callbacks.Timer)]
            if steps > 0 and total != float("inf"):
                left.append((time.monotonic() - start) / steps * (total - trainer.global_step))
            if known := [seconds for seconds in left if seconds is not None]:
                items["left"] = format_duration(min(known))
        return items


def total_steps(trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
    """Optimiser steps of the whole training; infinity if only time or a signal ends it."""
    if trainer.max_epochs in (None, -1):
        return trainer.estimated_stepping_batches
    # Lightning's own count does not know of the batches that the module accumulates.
    steps = math.ceil(trainer.num_training_batches / pl_module.accumulate_grad_batches) * trainer.max_epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def format_duration(seconds: float) -> str:
    """59 -> "0:59", 3700 -> "1h01m", 200000 -> "2d07h"."""
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}:{seconds:02d}"
