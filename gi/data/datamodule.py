"""The data of a run: one training set, and validation and test sets that carry their own names."""
import functools
import signal
import warnings
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from gi.data.sample import Batch, Sample, check_sample
from gi.data.sampler import EpochSampler
from gi.errors import InputError, expect_at_least


class GuidedDataModule(pl.LightningDataModule):
    """Loaders for Lightning, with a training order that continues exactly where a checkpoint was taken.

    Use it with `Trainer(use_distributed_sampler=False)`: samples, see `gi.data.sample`, are shared out here, those of
    evaluation sets without repeating or losing one.

    Args:
        batch_size: training samples a batch and process.
        train: training set, asked for (epoch, index) pairs; see `gi.data.pairs`.
        validation, test: evaluation sets by name, null for an inherited one that is not wanted.
        num_workers: processes that prepare samples, for each loader.
        eval_batch_size: evaluation samples a batch and process; 1 for sets whose images differ in size.
        seed: of the training order.
    """

    def __init__(self, *, batch_size: int, train: Dataset | None = None,
                 validation: dict[str, Dataset | None] | None = None, test: dict[str, Dataset | None] | None = None,
                 num_workers: int = 4, eval_batch_size: int = 1, seed: int = 0, pin_memory: bool = False):
        super().__init__()
        expect_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        expect_at_least(0, num_workers=num_workers, seed=seed)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.pin_memory = seed, pin_memory
        self.train = train
        self.validation, self.test = ({name: dataset for name, dataset in (sets or {}).items() if dataset is not None}
                                      for sets in (validation, test))
        self.validation_names, self.test_names = list(self.validation), list(self.test)  # in the order of the loaders
        # With more processes than samples in a small set, some processes have nothing to do there.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._start = {"epoch": 0, "batches_done": 0, "batches_total": 0}

    def setup(self, stage: str) -> None:
        """Raises InputError for test sets that are too small, before a training rather than after it."""
        for datasets in (self.validation, self.test):
            self._expect_samples(datasets)

    def train_dataloader(self) -> DataLoader:
        if self.train is None:
            raise InputError("train: there is no training set")
        rank, world_size = self._place()
        # The Trainer's overfit_batches is the number of first batches, of which it is to see the same again and again.
        overfit = self.trainer is not None and self.trainer.overfit_batches > 0
        position = (lambda: (0, self._position()[1])) if overfit else self._position
        sampler = EpochSampler(length=len(self.train), batch_size=self.batch_size, seed=self.seed, rank=rank,  # type: ignore[arg-type]
                               world_size=world_size, position=position)
        # Evaluation loaders start their workers anew: many sets would otherwise hold many idle processes.
        return self._loader(self.train, "train", batch_sampler=sampler, persistent_workers=self.num_workers > 0)

    def val_dataloader(self) -> list[DataLoader]:
        return self._evaluation_loaders(self.validation)

    def test_dataloader(self) -> list[DataLoader]:
        return self._evaluation_loaders(self.test)

    def state_dict(self) -> dict[str, int]:
        """Where the training order goes on after this checkpoint: the epoch, and the batches done in it and in all."""
        epoch, done = self._position()
        return {"epoch": epoch, "batches_done": done, "batches_total": self._batches_total()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises InputError if this is not what `state_dict` returns."""
        numbers = {name: state_dict.get(name) for name in self._start}
        if not all(isinstance(number, int) and number >= 0 for number in numbers.values()):
            raise InputError(f"checkpoint: data position {state_dict}, expected numbers for {', '.join(numbers)}")
        self._start = numbers
        # Lightning recognises only loaders of its own kind as able to continue within an epoch.
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")

    def _position(self) -> tuple[int, int]:
        """The epoch, and how many of its batches are done. Lightning's own number of the epoch is of no use: resuming a
        checkpoint from the end of an epoch runs an empty epoch first, which counts. The total of batches is right.
        """
        done = self._start["batches_done"] + max(0, self._batches_total() - self._start["batches_total"])
        epoch_length = self._epoch_length()
        return self._start["epoch"] + done // epoch_length, done % epoch_length

    def _batches_total(self) -> int:
        if self.trainer is None:
            return self._start["batches_total"]
        # `processed` counts a batch before on_train_batch_end, where checkpoints are saved, `completed` after it.
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed

    def _epoch_length(self) -> int:
        samples = 0 if self.train is None else len(self.train)  # type: ignore[arg-type]
        batches = max(1, samples // (self.batch_size * self._place()[1]))
        if self.trainer is None:
            return batches
        return int(min(batches, max(1, self.trainer.num_training_batches)))  # a Trainer may limit them

    def _evaluation_loaders(self, datasets: dict[str, Dataset]) -> list[DataLoader]:
        rank, world_size = self._place()
        loaders = []
        for name, dataset in datasets.items():
            share = dataset if world_size == 1 else Subset(dataset, range(rank, len(dataset), world_size))  # type: ignore[arg-type]
            loaders.append(self._loader(share, name, batch_size=self.eval_batch_size))
        self._expect_samples(datasets)
        return loaders

    def _expect_samples(self, datasets: dict[str, Dataset]) -> None:
        """Raises InputError if a process would have nothing to do; in every process, or the others would wait for it.
        """
        world_size = self._place()[1]
        if datasets and max(map(len, datasets.values())) < world_size:  # type: ignore[arg-type]
            raise InputError(f"evaluation sets: fewer samples in {', '.join(datasets)} than the {world_size} processes")

    def _loader(self, dataset: Dataset, name: str, **options: Any) -> DataLoader:
        return DataLoader(dataset, num_workers=self.num_workers, worker_init_fn=_init_worker,
                          collate_fn=functools.partial(collate, set_name=f"data set {name!r}"),
                          pin_memory=self.pin_memory, **options)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def collate(samples: list[Sample], set_name: str = "data set") -> Batch:
    """Stacks samples into a batch.

    Raises InputError, naming the set `set_name` and the entry, if one is no `Sample`; naming the two samples, if they
    differ in their entries, or their images in size or number of keyframes.
    """
    first = samples[0]
    for sample in samples:
        check_sample(sample, set_name)
        if odd := sample.keys() ^ first.keys():
            raise InputError(f"{set_name}: one of the samples {first['name']} and {sample['name']} has no "
                             f"{min(odd)!r}, expected the same entries in all")
        for key, value in first.items():
            other: Any = sample[key]  # type: ignore[literal-required]
            if isinstance(value, torch.Tensor) and value.shape != other.shape:
                raise InputError(f"samples {first['name']} and {sample['name']}: {key} has shapes {tuple(value.shape)} "
                                 f"and {tuple(other.shape)}, expected the same in a batch, or a batch size of 1")
    return default_collate(samples)


def _init_worker(worker: int) -> None:
    """Workers ignore signals until their parent has saved the state: a terminal or scheduler signals all processes of a
    job.
    """
    for name in "SIGINT", "SIGUSR1":
        if hasattr(signal, name):  # Windows has one
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(0)  # workers share the cores already
