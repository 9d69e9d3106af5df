"""A run: what a configuration describes is built, trained and tested."""
import functools
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_info

from gi import resources
from gi.config import instantiate, load_config, save_config, trainer_options
from gi.errors import InputError, expect_within
from gi.report.paper import stated_rows
from gi.report.results import expect_apart, report_results
from gi.training.callbacks import LastCheckpoint
from gi.training.evaluation import EvaluationReport
from gi.training.module import GuidedInpainting
from gi.training.resume import RunStart
from gi.training.signals import StopSignals
from gi.training.trainer import MODULE_OPTIONS, build_trainer, complaints
from gi.weights.checkpoint import is_resumable, load_discriminator_weights, load_generator_weights, trained_steps
from gi.weights.fetch import expect_weights
from gi.weights.pretrained import SMALL, SMALL_CONFIG

TRAINING_PARTS = ("discriminator", "objective")
TRAINING_SETS = ("train", "validation")


def run(cfg: DictConfig, args: Namespace, logdir: Path) -> dict:
    """Builds what `cfg` describes, trains and tests it as `args` say; returns {test set: scores} (or of validation)."""
    seed = cfg.get("seed") or 0
    expect_within(0, 2**32 - 1, seed=seed)
    pl.seed_everything(seed, workers=True, verbose=False)
    options = trainer_options(cfg)
    module_options = {name: options.pop(name) for name in MODULE_OPTIONS if name in options}
    # What only training needs is not built for an evaluation, so its files need not exist; nor are test sets without a
    # test.
    node = without(cfg.model, [] if args.train else TRAINING_PARTS)
    expect_weights(node, "model")
    model = instantiate(node, "model", **module_options)
    unused = [*([] if args.train else TRAINING_SETS), *([] if args.test else ["test"])]
    data = instantiate(without(cfg.data, unused), "data")
    for names in data.validation_names, data.test_names:
        expect_apart(names)
    trainer = build_trainer(cfg, options, logdir, data, model.measured, sharded=model.sharded)
    config = logdir / "configs" / "config.yaml"
    if trainer.is_global_zero and not config.exists():
        config.parent.mkdir(parents=True, exist_ok=True)
        save_config(cfg, config)
    # The configuration of an earlier run stays unless this one trains with other values.
    trainer.callbacks.append(RunStart(functools.partial(save_config, cfg, config)))
    device = trainer.strategy.root_device
    device = f"{os.cpu_count()} cores" if device.type == "cpu" else device
    rank_zero_info(f"{trainer.world_size} process(es) on {type(trainer.accelerator).__name__} ({device}), "
                   f"{trainer.precision}; everything goes to {logdir}")

    start, last = args.resume_from_checkpoint, logdir / "checkpoints" / "last.ckpt"
    start = start and resources.find(start)
    if start is None and args.resume:
        start = last if last.is_file() else None
        if args.train and start is None:
            rank_zero_info(f"no checkpoint in {last.parent}: starting from the beginning")
    with StopSignals(trainer.strategy.launcher) as signals, complaints():
        for callback in trainer.callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.signals = signals
        if args.train:
            train(trainer, model, data, start)
        else:
            start = start or small_weights(cfg)
            load_for_test(model.generator, start, cfg)
        if args.test:
            name = args.base[-1].stem if args.base else logdir.name
            metadata = {"checkpoint": None if args.train else str(start),
                     "step": trainer.global_step if args.train else trained_steps(start)}
            test(trainer, model, data, logdir, cfg, name=name, metadata=metadata)
    return model.results


def train(trainer: pl.Trainer, model: GuidedInpainting, data: pl.LightningDataModule, start: Path | None) -> None:
    """Trains from the state or the weights that the checkpoint `start` holds, or, if it is None, from the beginning."""
    resumable = start is not None and is_resumable(start)
    if start is not None and not resumable:
        rank_zero_info(f"{start}: holds weights but no state of a training; starting from the weights")
        load_generator_weights(model.generator, start)
        if model.discriminator is not None:
            load_discriminator_weights(model.discriminator, start)
    model.resumes = resumable
    trainer.fit(model, data, ckpt_path=start if resumable else None)
    (begun,) = (callback.first_step for callback in trainer.callbacks if isinstance(callback, RunStart))
    if begun in (None, trainer.global_step):
        limits = ", ".join(f"{name} is {value}" for name in ("max_steps", "max_epochs")
                           if (value := getattr(trainer, name)) not in (None, -1))
        rank_zero_info(f"nothing to train: {trainer.global_step} steps are done, and {limits}")


def test(trainer: pl.Trainer, model: GuidedInpainting, data: pl.LightningDataModule, logdir: Path, cfg: DictConfig, *,
         name: str, metadata: dict) -> None:
    """Scores the test sets; writes results and reports with the run's name, its configuration, the rows of the paper
    that this states, and `metadata`.
    """
    paper = stated_rows(cfg)
    reports = [callback for callback in trainer.callbacks if isinstance(callback, EvaluationReport)]
    for report in reports:
        report.run, report.metadata, report.paper, report.config = name, metadata, paper, OmegaConf.to_yaml(cfg)
    trainer.test(model, data, verbose=False)
    if trainer.is_global_zero:
        # A comparison was printed already, and has the scores in it that need no network.
        show = not any(r.baselines for r in reports) or any(metric.network for metric in model.measured)
        report_results(model.results, name, logdir, paper=paper, metadata=metadata, show=show)
        for report in reports:
            print(f"report: {report.path(trainer)}")


def load_for_test(generator: torch.nn.Module, start: Path, cfg: DictConfig) -> None:
    """Loads the weights of a checkpoint; if they do not fit, and its run had another network, the error says so."""
    try:
        load_generator_weights(generator, start)
    except InputError as error:
        folder = start.absolute().parent.parent
        own = folder / "configs" / "config.yaml"
        if own.is_file() and load_config([own]).model.params.generator != cfg.model.params.generator:
            raise InputError(f"{error}; its run had another network: repeat the overrides it was trained with, or take "
                             f"its configuration by gi test {folder} (or -r {folder} --train false)") from error
        raise


def small_weights(cfg: DictConfig) -> Path:
    """The repository's small trained weights, if they are those of this network."""
    if cfg.model.params.generator != load_config([SMALL_CONFIG]).model.params.generator:
        raise InputError("nothing to evaluate: give --resume_from_checkpoint FILE, or -r LOGDIR with --train false for "
                         f"a run with all its overrides (without, {SMALL_CONFIG.name} alone has weights, {SMALL.name})")
    return SMALL


def without(node: DictConfig, names: Sequence[str]) -> dict[str, Any]:
    """A node as plain containers, without some of its params."""
    content: Any = OmegaConf.to_container(node, resolve=True)
    return {**content, "params": {name: value for name, value in content.get("params", {}).items()
                                  if name not in names}}
