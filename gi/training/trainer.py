"""The Trainer of a run: Lightning's options work by their own names here, or are refused in a line."""
import contextlib
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar, Timer
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.profilers import PyTorchProfiler
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from gi.config import instantiate_all
from gi.config.load import plain
from gi.data.datamodule import GuidedDataModule
from gi.errors import InputError, expect_kind, one_line
from gi.metrics.metric import Metric
from gi.training.callbacks import RunProgress, check_checkpoint
from gi.training.checkpoint_io import SafeCheckpointIO
from gi.training.processes import SyncGeneratorBatchNorm

# Trainer options that mean something else with two optimisers; the module takes them over.
MODULE_OPTIONS = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
_LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning_utilities")


def build_trainer(
    cfg: DictConfig, options: dict[str, Any], logdir: Path, data: GuidedDataModule, metrics: Iterable[Metric], *,
    sharded: bool = False
) -> pl.Trainer:
    """The Trainer that the configuration describes, for a run in `logdir`.

    options: those of `lightning.trainer` without MODULE_OPTIONS. metrics: what the validation sets of `data` are scored
    by. sharded: whether the module can be trained by FSDP, as one network is. Raises InputError for what Lightning
    refuses, and for what does not fit two optimisers or our own samplers.
    """
    _check_options(options)
    callbacks, loggers = _parts(plain(cfg.get("lightning"), "lightning") or {}, logdir)
    best = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    for callback in best:
        callback.dirpath = callback.dirpath or str(logdir / "checkpoints")
        check_checkpoint(callback, logdir, data.validation_names, metrics)
    options.setdefault("enable_checkpointing", bool(best))  # or Lightning adds one of its own, next to the events
    if not options.get("enable_progress_bar", True):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    elif not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks.append(RunProgress())
    if options.get("profiler") == "pytorch":  # recording module names leaves hooks that prevent copying a network
        options["profiler"] = PyTorchProfiler(dirpath=logdir, filename="profile", record_module_names=False)
    plugins = options.pop("plugins", None) or []
    norm = [SyncGeneratorBatchNorm()] if options.get("sync_batchnorm") else []
    with complaints():
        if (limit := options.pop("max_time", None)) and not any(isinstance(callback, Timer) for callback in callbacks):
            callbacks.append(Timer(limit))
        # Before LastCheckpoint, which lets what they stop end between two steps.
        callbacks.sort(key=lambda callback: not isinstance(callback, Timer | EarlyStopping))
        trainer = pl.Trainer(
            default_root_dir=str(logdir),
            logger=loggers or TensorBoardLogger(str(logdir), name="", version="tensorboard"),
            callbacks=callbacks,
            plugins=[SafeCheckpointIO(), *norm, *(plugins if isinstance(plugins, list) else [plugins])],
            use_distributed_sampler=False,  # ours know the epoch, the position in it, and every process's share
            **options,
        )
    _check_trainer(trainer, options, sharded)
    if isinstance(trainer.strategy, DDPStrategy):
        # Where there are two networks, one of them gets no gradients in each backward pass.
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", not sharded)
    return trainer


@contextlib.contextmanager
def complaints() -> Iterator[None]:
    """Turns what Lightning itself raises about options and callbacks into an InputError of one line.

    Errors of what it calls, such as a step of the training, pass as they are.
    """
    try:
        yield
    except InputError:
        raise
    except (MisconfigurationException, AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
        packages = [frame.f_globals.get("__name__", "").partition(".")[0]
                    for frame, _ in traceback.walk_tb(error.__traceback__)]
        while isinstance(error, AttributeError) and packages[-1] == "torch":  # of a module that lacks what one asks for
            packages.pop()
        raised_in = packages[-1]
        if raised_in not in _LIGHTNING and not isinstance(error, MisconfigurationException):
            raise
        raise InputError(f"lightning.trainer: {one_line(error)}") from error


def _parts(lightning, logdir):
    """Callbacks and loggers that the configuration names; their places are relative to the folder of the run."""
    components = []
    for section, kind, key in ("callbacks", pl.Callback, "dirpath"), ("logger", Logger, "save_dir"):
        nodes = lightning.get(section) or {}
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            _expect_no_address(node, f"lightning.{section}.{name}")
            params = node.get("params") if isinstance(node, dict) else None
            if isinstance(params, dict) and isinstance(place := params.get(key), str):
                params[key] = str(Path(logdir, place))
        components.append(instantiate_all(nodes, f"lightning.{section}"))
        for name, part in components[-1].items():
            expect_kind(part, kind, f"lightning.{section}.{name}")
    callbacks, loggers = components
    for name, logger in loggers.items():
        if logger.log_dir and not Path(logger.log_dir).resolve().is_relative_to(logdir.resolve()):
            raise InputError(f"lightning.logger.{name}: would write to {logger.log_dir}, expected a save_dir, name and "
                             f"version below the folder of the run, {logdir}")
    return list(callbacks.values()), list(loggers.values())


def _expect_no_address(value, path):
    """Refuses remote addresses, and fsspec's chained URLs: Lightning opens them as soon as it has them."""
    if isinstance(value, str) and ("://" in value or "::" in value):
        raise InputError(f"{path}: found {value!r:.80}, expected a place on this machine")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _expect_no_address(item, f"{path}.{key}")


def _check_options(options):
    """Refuses options that Lightning accepts and then fails on, or ignores."""
    interval, epochs = options.get("val_check_interval"), options.get("check_val_every_n_epoch", 1)
    if interval == 0 and not isinstance(interval, bool):
        raise InputError("lightning.trainer.val_check_interval: expected more than 0; limit_val_batches=0 switches "
                         "validation off")
    if epochs is not None and epochs < 1:
        raise InputError(f"lightning.trainer.check_val_every_n_epoch: expected at least 1 or null, got {epochs}")
    if options.get("barebones"):
        raise InputError("lightning.trainer.barebones: is not supported, a run has checkpoints and loggers")


def _check_trainer(trainer, options, sharded):
    """Refuses what training with two optimisers does not work with, or only one kind of device has."""
    strategy, device = trainer.strategy, trainer.strategy.root_device.type
    if trainer.precision not in PRECISIONS:
        raise InputError(f"lightning.trainer.precision: {trainer.precision} is not supported, expected one of "
                         f"{', '.join(PRECISIONS)}: weights and losses need 32 bits")
    spawns = isinstance(strategy.launcher, _MultiProcessingLauncher)
    allowed = (DDPStrategy, SingleDeviceStrategy, *[FSDPStrategy] * sharded)
    if not isinstance(strategy, allowed) or spawns:
        raise InputError(f"lightning.trainer.strategy: {options['strategy']} is not supported, expected auto"
                         f"{', ddp or fsdp' if sharded else ' or ddp'}")
    if options.get("sync_batchnorm") and trainer.world_size > 1 and device != "cuda":
        raise InputError(f"lightning.trainer.sync_batchnorm: only GPUs have it, and this run is on {device}")
