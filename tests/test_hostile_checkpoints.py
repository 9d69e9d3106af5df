"""Checkpoints that are made to stop or to fill a machine: refused, quickly and in one line."""
import io
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.weights.unpickle import read_checkpoint

DEEP = b")" + b"\x85" * 300_000  # a tuple in a tuple in a tuple …: hashing it takes more stack than there is
SHARED = b")" + b"2\x86" * 60  # (x, x), of itself, 60 times: hashing it, or writing it out, takes years
LONG = b"\x8a\x06\xff\xff\xff\xff\xff\x00"  # 2**40 - 1
STORAGE = b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00%b%b\x89NtR"  # size, stride
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01%bcnumpy\ndtype\n(\x8c\x02f8tR\x89C\x00tb."  # shape
PROGRAMS = {
    "deep key": (b"}" + DEEP + b"K\x01s.", "a key"),
    "shared key": (b"}" + SHARED + b"K\x01s.", "a key"),
    "keys": (b"}(" + SHARED + b"K\x01u.", "a key"),
    "dictionary": (b"(" + SHARED + b"K\x01d.", "a key"),
    "set": (b"cbuiltins\nset\n](K\x01" + DEEP + b"e\x85R.", "a key"),
    "members of a set": (b"\x8f(" + DEEP + b"\x90.", "a key"),
    "frozen set": (b"(" + SHARED + b"\x91.", "a key"),
    "ordered dictionary": (b"ccollections\nOrderedDict\n](](" + SHARED + b"K\x01ee\x85R.", "a key"),
    "name of a storage": (b"(\x8c\x07storagectorch\nFloatStorage\n" + SHARED + b"\x8c\x03cpuK\x01tQ.", "a key"),
    "no storage": (SHARED + b"Q.", "names something other than a storage"),
    "size of a tensor": (TENSOR % (SHARED, b")") + b".", "holds a tensor of size"),
    "endless size": (TENSOR % (b"cbuiltins\nrange\n" + LONG + b"\x85R", b")") + b".", "tensor of size range"),
    "large size": (TENSOR % (LONG + b"\x85", b"K\x01\x85") + b".", "in a storage of 16 bytes"),
    "attributes of a tensor": (TENSOR % (b"K\x02\x85", b"K\x01\x85") + b"}b.", "changes Tensor"),
    "endless set": (b"cbuiltins\nset\ncbuiltins\nrange\n" + LONG + b"\x85R\x85R.", "holds set of range"),
    "endless bytes": (b"cbuiltins\nbytearray\n" + LONG + b"\x85R.", "holds bytearray of"),
    "shape of an array": (ARRAY % SHARED, "holds a numpy array of shape"),
    "large array": (ARRAY % (LONG + b"\x85"), "holds a numpy array of shape"),
    "numpy's own reader": (b"cnumpy\nload\n(\x8c\x06x.ckpttR.", "asks for numpy.load, which could run code"),
}


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    def write(program):
        path = tmp_path / "x.ckpt"
        torch.save({"x": torch.zeros(4)}, path, _use_new_zipfile_serialization=request.param == "zip")
        if request.param == "legacy":
            file = io.BytesIO(path.read_bytes())
            for _ in range(3):  # magic number, version, facts of the system
                pickle.load(file)
            program = program.replace(STORAGE, STORAGE.removesuffix(b"tQ") + b"NtQ")  # no view of another storage
            path.write_bytes(path.read_bytes()[:file.tell()] + program)
            return path
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, program if name.endswith("data.pkl") else content)
        return path

    return write


@pytest.mark.parametrize("name", PROGRAMS)
def test_refused(save, name):
    program, reason = PROGRAMS[name]
    path = save(b"\x80\x04" + program)
    with pytest.raises(InputError, match=f"x.ckpt: refused, its pickle .*{reason}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(path))


def test_names_of_storages_of_the_legacy_format(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-len(pickle.dumps([], protocol=2))] + b"\x80\x02](" + DEEP + b"e.")
    with pytest.raises(InputError, match="tuples within the tuples of a key"):
        read_checkpoint(path)


def test_the_deep_key_would_have_killed_the_program(tmp_path):
    (tmp_path / "x.pickle").write_bytes(b"\x80\x02" + PROGRAMS["deep key"][0])
    command = [sys.executable, "-c", f"import pickle; pickle.load(open({str(tmp_path / 'x.pickle')!r}, 'rb'))"]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0


def test_values_may_be_tuples_within_tuples(tmp_path):
    content = {"crop": ((1, 2), (3, (4, 5))), ("a", 1): {"x"}, "parts": frozenset({("b", 2)})}
    torch.save(content, tmp_path / "x.ckpt")
    assert read_checkpoint(tmp_path / "x.ckpt") == content


def test_what_was_read_can_be_saved_and_read_again(tmp_path):
    content = {"array": np.arange(6.0).reshape(2, 3), "number": np.float32(2), "path": pathlib.Path("a/b")}
    for _ in range(2):
        torch.save(content, tmp_path / "x.ckpt")
        content = read_checkpoint(tmp_path / "x.ckpt")
    assert type(content["array"]) is np.ndarray and np.array_equal(content["array"], [[0, 1, 2], [3, 4, 5]])
    assert content["number"] == 2 and content["path"] == pathlib.PurePosixPath("a/b")
