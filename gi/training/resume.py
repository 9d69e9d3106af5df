"""Resuming a training: its state comes from the checkpoint, everything else from the configuration."""
import inspect
from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from gi.errors import InputError

_AVERAGE = "average."


class RunStart(pl.Callback):
    """Restores the configuration's values in callbacks, and calls `started` once nothing can be refused any more.

    Lightning restores all state of callbacks, including their parameters (such as the patience of EarlyStopping).

    Attributes:
        first_step: optimiser steps done when training started; None before.
    """

    def __init__(self, started: Callable[[], None] = lambda: None):
        self.first_step: int | None = None
        self._started, self._values = started, {}

    def setup(self, trainer, pl_module, stage) -> None:
        for callback in trainer.callbacks:
            names = inspect.signature(type(callback)).parameters
            self._values[callback] = {name: value for name, value in vars(callback).items() if name in names}

    def on_fit_start(self, trainer, pl_module) -> None:
        for callback, values in self._values.items():
            vars(callback).update(values)

    def on_train_start(self, trainer, pl_module) -> None:
        self.first_step = trainer.global_step
        if trainer.is_global_zero:
            self._started()


def fit_to_module(checkpoint: dict, module: pl.LightningModule) -> None:
    """Adapts the weights in a checkpoint to `module`, in place: averaging may begin or end when a training is resumed.

    Raises InputError if they are those of other networks than the module has.
    """
    weights = checkpoint["state_dict"]
    averaged = [key for key in weights if key.startswith(_AVERAGE)]
    if averaged and module.average is None:
        rank_zero_info("the checkpoint's average of weights is left out, the configuration has no average_decay")
        for key in averaged:
            del weights[key]
    elif module.average is not None and not averaged:
        rank_zero_info("the checkpoint has no average of weights, averaging begins with those it has")
        weights |= {f"{_AVERAGE}{key}": value for key, value in module.average.state_dict().items()}
    own = module.state_dict()
    for key in own.keys() | weights.keys():
        expected, stored = (tuple(state[key].shape) if key in state else "none" for state in (own, weights))
        if expected != stored:
            raise InputError(f"checkpoint: {key} has shape {stored}, and {expected} with this configuration: a "
                             "training goes on with its own networks only; for other ones, start a new run")
