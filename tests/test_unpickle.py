"""Checkpoints are read without running anything of theirs."""
import collections
import copyreg
import io
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from gi.errors import InputError
from gi.unpickle import Refused, StandIn, read_checkpoint


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def _hand_written(path, program):
    """A checkpoint of the current format whose pickle is `program`, its storages those of the one at `path`, if any."""
    if not path.exists():
        torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)


def _attacks(marker):
    import builtins
    import functools
    import operator
    import os
    touch = f"touch {marker}"
    yield "os.system", Call(os.system, touch)
    yield "eval", Call(builtins.eval, f"open({str(marker)!r}, 'w')")
    yield "exec", Call(builtins.exec, f"open({str(marker)!r}, 'w')")
    yield "open", Call(builtins.open, str(marker), "w")
    yield "popen", Call(subprocess.Popen, ["touch", str(marker)])
    yield "import", Call(builtins.__import__, "os")
    yield "getattr", Call(getattr, Call(builtins.__import__, "os"), "system")
    yield "partial", Call(functools.partial(os.system, touch))
    yield "operator", Call(operator.methodcaller, "system", touch)
    yield "apply", Call(map, os.system, [touch])
    yield "torch.load", Call(torch.load, str(marker))
    yield "load_from_bytes", Call(torch.storage._load_from_bytes, b"")
    yield "hub", Call(torch.hub.load_state_dict_from_url, "file:///etc/hostname")
    yield "numpy.load", Call(np.load, str(marker), None, True)
    yield "numpy.fromfile", Call(np.fromfile, "/etc/hostname")
    yield "numpy object array", np.array([Call(os.system, touch)], dtype=object)
    yield "reconstructor", Call(copyreg._reconstructor, subprocess.Popen, object, None)
    yield "type", Call(type, "X", (), {})
    yield "tempfile", Call(__import__("tempfile").mkdtemp)
    yield "in a hook", {"state_dict": {"x": torch.zeros(1)}, "callbacks": {"x": [Call(os.system, touch)]}}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("index", range(20))
def test_refuses_every_call(tmp_path, index, legacy):
    marker = tmp_path / "marker"
    name, attack = list(_attacks(marker))[index]
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": attack}, tmp_path / "bad.ckpt",
               _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match="bad.ckpt: refused, its pickle") as caught:
        read_checkpoint(tmp_path / "bad.ckpt")
    assert "\n" not in str(caught.value)
    assert not marker.exists(), name


def test_the_attacks_above_would_have_worked(tmp_path):
    name, attack = next(iter(_attacks(tmp_path / "marker")))
    torch.save(attack, tmp_path / "bad.ckpt")
    torch.load(tmp_path / "bad.ckpt", weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("program", [
    b"cposix\nsystem\n(S'touch MARKER'\ntR.",  # GLOBAL, REDUCE
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",  # STACK_GLOBAL
    b"(S'touch MARKER'\niposix\nsystem\n.",  # INST
    b"(cposix\nsystem\nS'touch MARKER'\no.",  # OBJ
    b"\x80\x02cposix\nsystem\nS'touch MARKER'\n\x85\x81.",  # NEWOBJ
    b"\x80\x04cposix\nsystem\nS'touch MARKER'\n\x85}\x92.",  # NEWOBJ_EX
    b"ccopyreg\n__newobj__\n(csubprocess\nPopen\nS'touch MARKER'\ntR.",
    b"\x80\x02\x82\x01.",  # EXT1
    b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'get'\ntR.",
    b"\x80\x04\x8c\x08builtins\x8c\x0edict.__class__\x93.",  # dotted names
    b"\x80\x04\x8c\x08omegaconf\x8c\x12DictConfig.__init__\x93.",
    b"c__builtin__\neval\n(S'1'\ntR.",  # name of Python 2
    b"ctorch._utils\n_rebuild_tensor_v2\n}S'__defaults__'\n)sb.",  # BUILD on a function
    b"comegaconf\nDictConfig\n}S'append'\nNsb.",  # BUILD on a class
    b"Pstorage\n.",
    b"\x80\x02]Q.",
    b"cnumpy\ndtype\n(S'O8'\ntR.",
    b"cbuiltins\nbytearray\n(I99999999999999\ntR.",  # a bomb
    b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00.",  # another one
])
def test_refuses_hand_written_programs(tmp_path, program):
    marker = tmp_path / "m"
    command = f"touch {marker}".encode()
    program = program.replace(b"\x0ctouch MARKER", bytes([len(command)]) + command).replace(b"touch MARKER", command)
    _hand_written(tmp_path / "bad.ckpt", program)
    (tmp_path / "bare.ckpt").write_bytes(program)
    for name in ("bad.ckpt", "bare.ckpt"):
        with pytest.raises(InputError, match=f"{name}: .*(refused|not a checkpoint)"):
            read_checkpoint(tmp_path / name)
    assert not marker.exists()


@pytest.fixture
def old_lightning(monkeypatch):
    """Classes of packages that will be gone when the file is read; each would leave a trace if it came to life."""
    alive, made = [], set()

    def make(module, name, base=object):
        def __setstate__(self, state):
            alive.append(name)

        cls = type(name, (base,), {"__module__": module, "__setstate__": __setstate__})
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            if path not in made and (path not in sys.modules or depth == len(parts)):
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
                made.add(path)
        setattr(sys.modules[module], name, cls)
        return cls

    return make, alive


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_old_lightning_checkpoint_loads_with_its_objects_inert(tmp_path, monkeypatch, old_lightning, legacy):
    make, alive = old_lightning
    torch.manual_seed(0)
    weights = collections.OrderedDict(
        {"generator.a": torch.randn(3, 4), "generator.b": torch.randn(5).half(), "n": torch.tensor(7)})
    weights["view"] = weights["generator.a"].t()[1:]
    weights._metadata = collections.OrderedDict({"": {"version": 1}})
    config = OmegaConf.create({"model": {"target": "a.b", "params": {"x": [1, 2.5, "s", None]}}})
    checkpoint = make("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    thing = make("some_missing_module", "Thing", dict)
    a_list = make("some_missing_module", "Many", list)
    instance, many = thing(x=1), a_list([1, 2])
    instance.attribute = 3
    content = {
        "epoch": 3, "pytorch-lightning_version": "1.4.2", "state_dict": weights,
        "callbacks": {checkpoint: {"best_model_score": torch.tensor(2.0), "dirpath": pathlib.Path("/a/b"),
                                   "np": np.float64(1.5), "array": np.arange(6, dtype="<i4").reshape(2, 3)}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]}],
        "lr_schedulers": [], "hyper_parameters": config, "thing": instance, "many": many, "class": thing,
        "default": collections.defaultdict(list, a=[1]), "set": {1, 2}, "bytes": b"\x00\xff",
    }
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=not legacy)
    for name in ("pytorch_lightning.callbacks.model_checkpoint", "some_missing_module"):
        monkeypatch.delitem(sys.modules, name)
    alive.clear()
    read = read_checkpoint(tmp_path / "old.ckpt")
    assert not alive
    assert "some_missing_module" not in sys.modules
    assert list(read["state_dict"]) == list(weights)
    assert read["state_dict"]._metadata == weights._metadata
    for key, value in weights.items():
        assert read["state_dict"][key].dtype == value.dtype
        assert torch.equal(read["state_dict"][key], value)
    (kind, state), = read["callbacks"].items()
    assert isinstance(kind, type) and issubclass(kind, StandIn) and kind.__name__ == "ModelCheckpoint"
    assert state["best_model_score"] == 2 and state["dirpath"] == pathlib.PurePosixPath("/a/b") and state["np"] == 1.5
    assert np.array_equal(state["array"], [[0, 1, 2], [3, 4, 5]])
    assert isinstance(read["hyper_parameters"], StandIn) and type(read["hyper_parameters"]).__name__ == "DictConfig"
    assert read["thing"].entries == {"x": 1} and read["thing"].state == {"attribute": 3}
    assert read["many"].members == [1, 2] and read["class"] is type(read["thing"])
    assert read["default"] == {"a": [1]} and read["set"] == {1, 2} and read["bytes"] == b"\x00\xff"
    assert read["optimizer_states"][0]["param_groups"] == [{"lr": 1e-3}]


def test_checkpoint_of_todays_lightning(tmp_path):
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
            self.save_hyperparameters({"config": {"x": 1}})

        def training_step(self, batch, _):
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    module = Module()
    trainer = pl.Trainer(max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=tmp_path,
                         callbacks=[pl.callbacks.ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1)])
    data = torch.utils.data.TensorDataset(torch.randn(8, 2))
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    trainer.save_checkpoint(tmp_path / "now.ckpt")
    read, expected = (load(tmp_path / "now.ckpt") for load in
                      (read_checkpoint, lambda path: torch.load(path, weights_only=False)))
    assert read.keys() == expected.keys()
    for key, value in module.state_dict().items():
        assert torch.equal(read["state_dict"][key], value)
    ours, theirs = read["optimizer_states"][0], expected["optimizer_states"][0]
    assert ours["param_groups"] == theirs["param_groups"]
    assert all(torch.equal(value, ours["state"][i][name])
               for i, state in theirs["state"].items() for name, value in state.items())
    assert read["loops"] == expected["loops"] and read["lr_schedulers"] == expected["lr_schedulers"]
    module.load_state_dict(read["state_dict"])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_of_every_kind(tmp_path, legacy):
    base = torch.arange(24.0)
    content = {"shared": base, "view": base.view(4, 6).t()[2:, 1:], "expanded": torch.ones(1).expand(5), "empty":
               torch.empty(0, 3), "scalar": torch.tensor(3), "bool": torch.tensor([True]), "bf16": base.bfloat16(),
               "complex": torch.view_as_complex(torch.randn(3, 2)).conj(), "parameter": nn.Parameter(base.clone()),
               "uint8": torch.arange(4, dtype=torch.uint8), "grad": torch.ones(1, requires_grad=True),
               "dtype": torch.float16, "size": torch.Size([1, 2]), "device": torch.device("cpu")}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(tmp_path / "x.pt")
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            assert read[key].dtype == value.dtype and torch.equal(read[key], value), key
            assert read[key].requires_grad == value.requires_grad and type(read[key]) is type(value)
        else:
            assert read[key] == value
    assert read["view"].untyped_storage().data_ptr() == read["shared"].untyped_storage().data_ptr()


def test_safetensors(tmp_path):
    from safetensors.torch import save_file
    save_file({"a": torch.arange(3)}, tmp_path / "a.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["a"], torch.arange(3))
    (tmp_path / "b.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="b.safetensors: not a checkpoint"):
        read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_truncated_files(tmp_path, legacy):
    torch.save({"state_dict": {"w": torch.randn(1000)}}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    whole = (tmp_path / "x.pt").read_bytes()
    for share in (0, 0.01, 0.1, 0.5, 0.9, 0.99):
        (tmp_path / "x.pt").write_bytes(whole[:int(len(whole) * share)])
        with pytest.raises(InputError, match="x.pt: (is empty|not a checkpoint, or damaged)") as caught:
            read_checkpoint(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(tmp_path)
    for content in (b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", pickle.dumps([1, 2]), b"\0"):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(InputError, match="not a checkpoint"):
            read_checkpoint(tmp_path / "x.pth")
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "script.pt")
    with pytest.raises(InputError, match="TorchScript"):
        read_checkpoint(tmp_path / "script.pt")
    import tarfile
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    with pytest.raises(InputError, match="tar archive"):
        read_checkpoint(tmp_path / "x.tar")


def test_bombs(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.zeros(2_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="far more than its size"):
        read_checkpoint(path)
    numel = struct.pack("<i", 100_000_000)  # the file holds 100
    for legacy in (False, True):
        torch.save({"w": torch.zeros(100)}, path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        assert whole.count(b"Kdt") + whole.count(b"KdNt") >= 1  # BININT1 100 and the end of the storage's tuple
        bomb = whole.replace(b"Kdt", b"J" + numel + b"t").replace(b"KdNt", b"J" + numel + b"Nt")
        if legacy:
            path.write_bytes(bomb)
        else:
            with zipfile.ZipFile(path) as archive:
                program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
            _hand_written(path, program.replace(b"Kdt", b"J" + numel + b"t"))
        with pytest.raises(InputError, match="the file holds fewer"):
            read_checkpoint(path)


def test_lists_of_entries_that_python_and_torch_would_look_for_at_different_places(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.zeros(100)}, path)
    whole = path.read_bytes()
    size, start = struct.unpack("<LL", whole[-10:-2])
    path.write_bytes(whole[:start] + 2 * whole[start:start + size] + whole[-22:])
    with zipfile.ZipFile(path) as archive:
        assert archive.start_dir == start + size
    for content in (path.read_bytes(), whole + b"x", whole[:-2] + b"\1\0x"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="the list of its entries is not where it should be"):
            read_checkpoint(path)


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path):
    from gi.unpickle import _tensor
    storage = torch.zeros(10)._typed_storage()
    assert _tensor(storage, 2, (4, 2), (2, 1)).shape == (4, 2)
    outside = (3, (4, 2), (2, 1)), (0, (11,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2,), ())
    for offset, size, stride in outside:
        with pytest.raises(Refused):
            _tensor(storage, offset, size, stride)
