"""Order of training samples over epochs, processes and restarts; evaluation sets."""
import gc

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import Dataset

from gi.data.datamodule import GuidedDataModule, collate
from gi.data.sampler import EpochSampler
from gi.errors import InputError


class Indices(Dataset):
    """Samples that only tell which they are."""

    def __init__(self, length, shapes=((4, 4),)):
        self.length, self.shapes = length, shapes

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, index = key if isinstance(key, tuple) else (0, key)
        size = self.shapes[index % len(self.shapes)]
        shapes = {"image": (3, *size), "mask": (1, *size), "sources": (0, 3, *size), "source_masks": (0, 1, *size)}
        tensors = {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in shapes.items()}
        return {**tensors, "name": f"{epoch}/{index}"}


def _order(epoch=0, done=0, **options):
    return list(EpochSampler(**{"length": 23, "batch_size": 4, "position": lambda: (epoch, done), **options}))


def test_sampler_is_a_permutation_of_each_epoch():
    orders = []
    for epoch in range(3):
        batches = _order(epoch, seed=3)
        assert len(batches) == 5 and all(len(batch) == 4 for batch in batches)
        flat = [pair for batch in batches for pair in batch]
        assert {e for e, _ in flat} == {epoch} and len({i for _, i in flat}) == 20
        orders.append([i for _, i in flat])
        assert batches == _order(epoch, seed=3) != _order(epoch, seed=4)
    assert orders[0] != orders[1] != orders[2] and orders[0] != sorted(orders[0])


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_joint_batches_do_not_depend_on_the_number_of_processes(world_size):
    alone = _order(2, length=50, batch_size=12)
    places = [{"rank": rank, "world_size": world_size} for rank in range(world_size)]
    shares = [_order(2, length=50, batch_size=12 // world_size, **place) for place in places]
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == alone


def test_sampler_passes_over_batches_but_keeps_its_length():
    assert _order(3, 2) == _order(3)[2:]
    assert len(EpochSampler(length=23, batch_size=4, position=lambda: (3, 2))) == 5


def test_sampler_needs_one_joint_batch():
    with pytest.raises(InputError, match="7 samples do not fill a batch of 4 on each of 2"):
        EpochSampler(length=7, batch_size=4, world_size=2)


class Recorder(pl.LightningModule):
    """Trains nothing in particular, by hand, and notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.automatic_optimization = False
        self.seen, self.validated, self.batch_numbers = [], [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.layer(torch.ones(1, 1)).sum())
        optimizer.step()
        self.seen.append(tuple(batch["name"]))
        self.batch_numbers.append(batch_idx)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.validated.append((dataloader_idx, *batch["name"]))


class Save(pl.Callback):
    """Saves once, at a given hook and after the given number of batches."""

    def __init__(self, hook, batches, path):
        self.hook, self.batches, self.path = hook, batches, path

    def _at(self, hook, trainer, module):
        if hook == self.hook and len(module.seen) == self.batches and not self.path.exists():
            if not trainer.sanity_checking:
                trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer, module, *args):
        self._at("batch_end", trainer, module)

    def on_train_epoch_start(self, trainer, module):
        self._at("epoch_start", trainer, module)

    def on_train_epoch_end(self, trainer, module):
        self._at("epoch_end", trainer, module)

    def on_validation_end(self, trainer, module):
        self._at("validation_end", trainer, module)

    def on_train_end(self, trainer, module):
        self._at("train_end", trainer, module)


def _data(length=21, workers=0, **options):
    validation = {"small": Indices(3), "large": Indices(5)}
    options = {"batch_size": 4, "num_workers": workers, "seed": 7, "validation": validation, **options}
    return GuidedDataModule(train=Indices(length), **options)


def _fit(tmp_path, *, steps, checkpoint=None, callbacks=(), workers=0, **options):
    gc.collect()  # loaders of earlier runs that are garbage would be finalised, noisily, in the workers of this one
    module = Recorder()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(module, datamodule=_data(workers=workers), ckpt_path=checkpoint, weights_only=False)
    return module


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    seen = _fit(tmp_path_factory.mktemp("whole"), steps=18).seen
    assert [{name.partition("/")[0] for name in batch} for batch in seen] == [{str(i // 5)} for i in range(18)]
    return seen


# An epoch has 5 batches.
PLACES = [("batch_end", 1), ("batch_end", 5), ("batch_end", 8), ("batch_end", 10), ("epoch_end", 5), ("epoch_end", 10)]
PLACES += [("epoch_start", 5), ("epoch_start", 10), ("validation_end", 5), ("validation_end", 10)]


@pytest.mark.parametrize(
    "workers, hook, batches", [*((0, *place) for place in PLACES), (2, *PLACES[4]), *(
        pytest.param(2, *place, marks=pytest.mark.slow) for place in PLACES[2:4])]
)
def test_resumed_run_sees_the_same_samples(tmp_path, uninterrupted, hook, batches, workers):
    path = tmp_path / "a.ckpt"
    first = _fit(tmp_path, steps=12, callbacks=[Save(hook, batches, path)], workers=workers)
    assert first.seen == uninterrupted[:12]
    second = _fit(tmp_path, steps=18, checkpoint=path, workers=workers)
    assert second.seen == uninterrupted[batches:]
    assert second.batch_numbers == [number % 5 for number in range(batches, 18)]


@pytest.mark.parametrize("batches", [7, 9])
def test_resume_from_a_checkpoint_at_validation_within_an_epoch(tmp_path, uninterrupted, batches):
    path, options = tmp_path / "a.ckpt", {"val_check_interval": 2}
    first = _fit(tmp_path, steps=12, callbacks=[Save("validation_end", batches, path)], **options)
    assert path.exists() and first.seen == uninterrupted[:12]
    assert _fit(tmp_path, steps=18, checkpoint=path, **options).seen == uninterrupted[batches:]


@pytest.mark.parametrize("every", [3, 5])
def test_resume_from_lightnings_own_checkpoints_more_than_once(tmp_path, uninterrupted, every):
    """Three runs, each continuing the `last` checkpoint of the one before, stopped at any step."""
    seen = []
    for steps in (7, 13, 18):
        keep = ModelCheckpoint(dirpath=tmp_path / "c", every_n_train_steps=every, save_last=True, save_top_k=1)
        last = tmp_path / "c" / "last.ckpt"
        done = torch.load(last, weights_only=False)["global_step"] if last.exists() else 0
        seen = seen[:done] + _fit(tmp_path, steps=steps, checkpoint=last if done else None, callbacks=[keep]).seen
    assert seen == uninterrupted


@pytest.mark.parametrize("hook, batches", [PLACES[2], PLACES[3], PLACES[5], PLACES[9]])
def test_resume_a_run_that_is_limited_by_epochs(tmp_path, uninterrupted, hook, batches):
    path, options = tmp_path / "a.ckpt", {"steps": -1, "max_epochs": 3}
    assert _fit(tmp_path, callbacks=[Save(hook, batches, path)], **options).seen == uninterrupted[:15]
    assert _fit(tmp_path, checkpoint=path, **options).seen == uninterrupted[batches:15]


def test_resume_with_fewer_batches_an_epoch(tmp_path):
    options = {"limit_train_batches": 3}
    whole = _fit(tmp_path, steps=10, **options).seen
    path = tmp_path / "a.ckpt"
    _fit(tmp_path, steps=6, callbacks=[Save("batch_end", 5, path)], **options)
    assert _fit(tmp_path, steps=10, checkpoint=path, **options).seen == whole[5:]


def test_state_of_other_kinds_is_refused():
    data = _data()
    state = {"epoch": 2, "batches_done": 3, "batches_total": 13}
    data.load_state_dict(state)
    assert data.state_dict() == state
    for bad in ({}, {**state, "epoch": -1}, {**state, "epoch": "1"}):
        with pytest.raises(InputError, match="epoch, batches_done"):
            data.load_state_dict(bad)


def test_evaluation_sets_keep_name_and_order(tmp_path):
    data = _data(test={"two": Indices(2), "four": Indices(4)}, eval_batch_size=2)
    assert data.validation_names == ["small", "large"] and data.test_names == ["two", "four"]
    assert [len(loader.dataset) for loader in data.val_dataloader()] == [3, 5]
    names = [batch["name"] for batch in data.test_dataloader()[1]]
    assert names == [["0/0", "0/1"], ["0/2", "0/3"]]
    module = _fit(tmp_path, steps=5, num_sanity_val_steps=0)
    assert module.validated == [(k, f"0/{i}") for k, count in enumerate((3, 5)) for i in range(count)]


class _Place(pl.Trainer):
    """A Trainer that believes to be one of several processes."""

    def __init__(self, rank, world_size):
        super().__init__(accelerator="cpu", logger=False, enable_checkpointing=False)
        self._place = rank, world_size

    global_rank = property(lambda self: self._place[0])
    world_size = property(lambda self: self._place[1])


def test_evaluation_samples_are_shared_out_once():
    seen = []
    for rank in range(3):
        data = _data(validation={"a": Indices(7), "b": Indices(2)})
        data.trainer = _Place(rank, 3)
        seen += [(k, *batch["name"]) for k, loader in enumerate(data.val_dataloader()) for batch in loader]
    assert sorted(seen) == [(k, f"0/{i}") for k, count in enumerate((7, 2)) for i in range(count)]
    data = _data(validation={"b": Indices(2)})
    for rank in range(3):  # also where there are samples: nobody is to wait for the last process
        data.trainer = _Place(rank, 3)
        with pytest.raises(InputError, match="fewer samples in b than the 3 processes"):
            data.val_dataloader()
    data = _data(validation={"a": Indices(7)}, test={"b": Indices(2)})
    data.trainer = _Place(0, 3)
    with pytest.raises(InputError, match="fewer samples in b than the 3 processes"):  # before hours of training
        data.setup("fit")


def test_training_batches_are_shared_out():
    joint = [batch["name"] for batch in _data(batch_size=6).train_dataloader()]
    shares = []
    for rank in range(2):
        data = _data(batch_size=3)
        data.trainer = _Place(rank, 2)
        shares.append([batch["name"] for batch in data.train_dataloader()])
    assert [first + second for first, second in zip(*shares, strict=True)] == joint


def test_sizes_within_a_batch_must_agree():
    dataset = Indices(4, shapes=((4, 4), (4, 6)))
    with pytest.raises(InputError, match=r"samples 0/0 and 0/1: image has shapes \(3, 4, 4\) and \(3, 4, 6\)"):
        next(iter(_data(validation={"a": dataset}, eval_batch_size=2).val_dataloader()[0]))
    assert len(list(_data(validation={"a": dataset}).val_dataloader()[0])) == 4
    for samples in ([dataset[0] | {"depth": 1}, dataset[2]], [dataset[0], dataset[2] | {"depth": 1}]):
        with pytest.raises(InputError, match="^data set: one of the samples 0/0 and 0/2 has no 'depth', expected"):
            collate(samples)
    batch = collate([dataset[0], dataset[2]])
    assert batch["image"].shape == (2, 3, 4, 4) and batch["name"] == ["0/0", "0/2"]


def test_impossible_numbers():
    with pytest.raises(InputError, match="batch_size"):
        GuidedDataModule(batch_size=0)
    with pytest.raises(InputError, match="no training set"):
        GuidedDataModule(batch_size=1).train_dataloader()
    assert np.size(GuidedDataModule(batch_size=1).val_dataloader()) == 0


def test_null_switches_an_inherited_set_off():
    data = GuidedDataModule(batch_size=1, test={"two": None, "four": []}, validation=None)
    assert data.test_names == ["four"] and data.validation_names == []
