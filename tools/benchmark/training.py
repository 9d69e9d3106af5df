"""A training step under Lightning's Trainer, as `gi/main.py` runs it."""
import contextlib
import logging
import warnings
from collections.abc import Iterator

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from gi.config import instantiate
from tools.benchmark.parts import Parts, without_missing_weights
from tools.benchmark.timing import Meter, Result


def train_step(parts: Parts) -> Iterator[tuple[str, Result]]:
    """Flow, generator and discriminator with their losses, backward passes and optimisers, for one batch."""
    settings, notes = parts.settings, []
    node = without_missing_weights({"target": settings.config.model.target, "params": parts.model}, notes)
    node["params"].pop("metrics", None)
    module = instantiate(node, "model")
    meter = parts.meter()
    with warnings.catch_warnings(), _quiet("pytorch_lightning"):  # the table already names the device
        warnings.simplefilter("ignore")  # Lightning's about loaders and their workers
        trainer = pl.Trainer(
            accelerator="gpu" if parts.device.type == "cuda" else parts.device.type,
            devices=1 if parts.device.index is None or parts.device.type != "cuda" else [parts.device.index],
            precision=settings.precision,
            max_steps=meter.laps,
            callbacks=[_Laps(meter)],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )
        trainer.fit(module, _SameBatch(parts, meter.laps))
    note = f"batch {settings.batch_size}, {parts.n_sources} keyframes"
    yield "train_step", meter.result("step", notes=[note, *notes])


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _SameBatch(pl.LightningDataModule):
    """The same batch in every step: loading is timed by a path of its own."""

    def __init__(self, parts, times):
        super().__init__()
        self.batch_size = parts.settings.batch_size
        self.batches = [parts.batch(parts.n_sources)] * times

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)


class _Laps(pl.Callback):
    def __init__(self, meter: Meter):
        self.meter = meter

    def on_train_batch_start(self, *args):
        self.meter.__enter__()

    def on_train_batch_end(self, *args):
        self.meter.__exit__(None, None, None)

    def on_exception(self, trainer, module, exception):
        self.meter.__exit__(type(exception), exception, None)
