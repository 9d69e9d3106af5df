"""Validation and test: each set of the data module is scored under its own name."""
import warnings
from typing import Any

import pytorch_lightning as pl
from torch import nn

from gi.models.fold import prepare_for_inference
from gi.training.processes import share_buffers


class Scored(pl.LightningModule):
    """A module whose predictions are scored; `results` has the scores of the latest evaluation by set.

    A subclass has `prepare`, `predict` and `best_generator` as `gi.training.module.GuidedInpainting` does; the last of
    them gives `_helpers["evaluated"]` while that is there.

    metrics: an ImageMetrics that scores each validation and test set; None skips scoring.
    """

    def __init__(self, metrics: nn.Module | None):
        super().__init__()
        # Frozen helpers stay out of the module tree, hence out of checkpoints, DDP's buffers and train(): see `_apply`.
        self._helpers: dict[str, Any] = {}
        self._make_metrics = None if metrics is None else metrics.clone
        self.measured = getattr(metrics, "metrics", ())  # entries of the table of metrics
        self._metrics, self.results, self._logged = {}, {}, set()

    def _apply(self, fn, *args, **kwargs):
        for helper in [*self._helpers.values(), *self._metrics.values()]:
            if helper is not None:
                helper._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:
            share_buffers(self)
        self._start_metrics(self.trainer.datamodule.validation_names)

    def on_test_epoch_start(self) -> None:
        self._start_metrics(self.trainer.datamodule.test_names)

    def _start_metrics(self, names):
        self.results = {}
        if self._make_metrics is not None:
            self._metrics = {name: self._make_metrics().to(self.device) for name in names}
        self._helpers["evaluated"] = None  # left by an interrupted evaluation
        self._helpers["evaluated"] = self.for_evaluation(self.best_generator())

    def for_evaluation(self, generator: nn.Module) -> nn.Module:
        """A faster copy of a generator, the same function."""
        return prepare_for_inference(generator)

    def validation_step(self, batch, batch_idx, dataloader_idx=0) -> dict:
        return self._evaluate(batch, self.trainer.datamodule.validation_names[dataloader_idx])

    def test_step(self, batch, batch_idx, dataloader_idx=0) -> dict:
        return self._evaluate(batch, self.trainer.datamodule.test_names[dataloader_idx])

    def _evaluate(self, batch, name):
        data = self.prepare(batch)
        prediction = self.predict(data, self.best_generator())
        if name in self._metrics:
            self._metrics[name].update(prediction, data["image"], data["mask"], batch["name"])
        return {"prediction": prediction, "data": data}

    def on_validation_epoch_end(self) -> None:
        self._finish_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._finish_metrics("test")

    def _finish_metrics(self, stage):
        at = {"epoch": float(self.current_epoch), "step": float(self.global_step)} if stage == "val" else {}
        for name, metric in self._metrics.items():
            self.results[name] = result = metric.compute()
            for remark in result.remarks():
                if (name, remark) not in self._logged:
                    self._logged.add((name, remark))
                    pl.utilities.rank_zero_info(f"set {name}: {remark}")
            # Every process has computed the same from the gathered states, so there is nothing left to synchronise.
            warnings.filterwarnings("ignore", message="It is recommended to use `self.log")
            self.log_dict({f"{stage}/{name}/{key}": value for key, value in result.scalars().items()} | at,
                          sync_dist=False)
        self._metrics = {}
        self._helpers["evaluated"] = None
