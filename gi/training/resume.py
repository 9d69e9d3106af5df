"""What holds when a training goes on: the state is the checkpoint's, everything else is what the configuration says."""
import inspect
from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from gi.errors import InputError

_AVERAGE = "average."


class RunStart(pl.Callback):
    """Gives callbacks the values of the configuration again, and calls `started`, once nothing can be refused any more.

    Lightning restores what callbacks were like, their parameters among it (the patience of EarlyStopping).

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
    """Changes the weights in a checkpoint to those of `module`, in place: averages may begin or end with it.

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
        here, there = (tuple(state[key].shape) if key in state else "none" for state in (own, weights))
        if here != there:
            raise InputError(f"checkpoint: {key} has shape {there}, and {here} with this configuration: a training "
                             "goes on with its own networks only; for other ones, start a new run")
