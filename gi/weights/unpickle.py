"""Reads checkpoints, files from the internet among them, without ever running code from the file.

A pickle is a small program that may call any function it can name. `gi.weights.rebuild` decides what a name resolves
to: our own versions of the functions that rebuild tensors, arrays and plain values; placeholders for classes of other
packages that checkpoints contain (configuration objects, Lightning's callbacks). Everything else is refused.

`torch.load(weights_only=True)` is not enough: it cannot fill dictionaries and lists of classes it does not know, which
Lightning of 2021 put into checkpoints, and it enlarges a storage to whatever size a tensor claims.
"""
import collections
import pathlib
import pickle
import struct
import tarfile
import zipfile
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from gi.errors import InputError, MissingFile
from gi.weights.rebuild import Placeholder, Refused, check_keys, fill_array, fill_dtype, find_class, short

_MAX_COMPRESSION = 100  # torch stores uncompressed; more than this is a zip bomb


def read_checkpoint(path: str | pathlib.Path, map_location: str | torch.device = "cpu") -> Any:
    """The content of a .ckpt, .pth or .pt file of torch.save (either format), or of a .safetensors file.

    Objects of unknown classes become instances of `Placeholder`. Raises InputError for a file that is missing, damaged,
    no checkpoint, or that asks for anything which could run code.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            if path.suffix == ".safetensors":
                return load_file(path, device=str(map_location))
            restricted = SimpleNamespace(__name__=__name__, Unpickler=_restricted(*_inspect(file, path)))
            restricted.load = lambda f, **options: check_keys(restricted.Unpickler(f, **options).load())
            return torch.load(file, map_location=map_location, pickle_module=restricted, weights_only=False)
    except InputError:
        raise
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such checkpoint") from None
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file can make torch raise anything
        reason = " ".join(str(error).split())[:200]  # one line, whatever names the file makes up
        if isinstance(error, Refused):
            raise InputError(f"{path}: refused, its pickle {reason}") from error
        raise InputError(f"{path}: not a checkpoint, or damaged ({type(error).__name__}: {reason})") from error


def read_metadata(path: str | pathlib.Path) -> dict[str, str]:
    """The metadata of a .safetensors file. Raises InputError if it is not one."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a .safetensors file, or damaged ({error})") from error


def _inspect(file, path):
    """(limit for all storages in bytes, {storage key: bytes} or None), after refusing what torch would run or inflate.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise InputError(f"{path}: is empty")
    zipped = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not zipped:
        try:
            tarfile.open(fileobj=file, mode="r:").close()
        except tarfile.TarError:
            file.seek(0)
            return size, None
        raise InputError(f"{path}: is a tar archive, expected a file written by torch.save (PyTorch 0.4 or newer)")
    _expect_one_directory(file, size, path)
    with zipfile.ZipFile(file) as entries:  # before torch does anything, which reads one of them at once
        _expect_no_bomb((entry.file_size for entry in entries.infolist()), size, path)
    file.seek(0)
    # Names and sizes as torch sees them: two readers of the zip format may disagree about a file made to deceive one.
    archive = torch._C.PyTorchFileReader(file)
    sizes = {name: archive.get_record_size(name) for name in archive.get_all_records()}
    file.seek(0)
    if any(name == "constants.pkl" or name.startswith("code/") for name in sizes):
        raise InputError(f"{path}: is a TorchScript archive, a program; expected a file written by torch.save")
    _expect_no_bomb(sizes.values(), size, path)
    storages = {name.removeprefix("data/"): length for name, length in sizes.items() if name.startswith("data/")}
    return size * _MAX_COMPRESSION, storages


def _expect_one_directory(file, size, path):
    """Refuses a zip file unless the list of its entries ends where the records of its end begin, as torch writes it.

    Python looks for the list there, torch where those records say.
    """
    file.seek(max(0, size - 98))
    tail = file.read()
    file.seek(0)
    end, (length, offset) = size - 22, struct.unpack("<LL", tail[-10:-2])
    intact = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    if tail[-42:-38] == b"PK\6\7":  # zip64, of large files
        end, (length, offset) = size - 98, struct.unpack("<QQ", tail[-58:-42])
        intact = intact and tail[:4] == b"PK\6\6" and struct.unpack("<Q", tail[-34:-26]) == (end,)
    if not intact or length + offset != end:
        raise InputError(f"{path}: not a checkpoint, or damaged (the list of its entries is not where it should be)")


def _expect_no_bomb(sizes, size, path):
    if sum(sizes) > size * _MAX_COMPRESSION:
        raise InputError(f"{path}: would unpack to far more than its size, expected a file written by torch.save")


def _hashing(opcode, keys):
    """Handler of an opcode that hashes some of the objects since the last mark on the stack: it checks these `keys`
    first.
    """
    load = pickle._Unpickler.dispatch[opcode[0]]

    def load_checked(self):
        check_keys(self.stack[keys])
        load(self)

    return load_checked


_HASHING = {opcode[0]: _hashing(opcode, keys) for opcode, keys in [
    (pickle.SETITEM, slice(-2, -1)), (pickle.SETITEMS, slice(None, None, 2)), (pickle.DICT, slice(None, None, 2)),
    (pickle.ADDITEMS, slice(None)), (pickle.FROZENSET, slice(None))]}


def _restricted(largest, sizes):
    """The unpickler for one file. All storages together have at most `largest` bytes, each those in `sizes`.

    It derives from the implementation in Python: the one in C does not allow restricting what BUILD does to an object.
    """
    classes, storages = {}, {}

    class Unpickler(pickle._Unpickler):
        dispatch = pickle._Unpickler.dispatch | _HASHING

        def find_class(self, module, name):
            return classes.setdefault((module, name), find_class(module, name))  # one class for all its instances

        def load_build(self):
            state, target = self.stack.pop(), self.stack[-1]
            if isinstance(target, Placeholder):
                target.state = state
            elif isinstance(target, np.dtype):
                fill_dtype(target, state)
            elif type(target) is np.ndarray:
                fill_array(target, state)
            elif type(target) is not collections.OrderedDict or not isinstance(state, dict):
                raise Refused(f"changes {type(target).__name__} {short(target)}")
            elif "_metadata" in state:  # versions of the modules, which load_state_dict looks at
                target._metadata = state["_metadata"]

        def load_binpersid(self):
            pid = self.stack.pop()
            if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
                raise Refused(f"names something other than a storage: {short(pid)}")
            _, kind, key, _, numel, *view = pid
            check_keys([key, *(view[0] or () if view else ())])
            dtype = getattr(kind, "dtype", None)
            if not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
                raise Refused(f"names a storage of {short(numel)} times {short(kind)}")
            storages[key] = numel * dtype.itemsize
            if storages[key] > (largest if sizes is None else sizes.get(key, -1)) or sum(storages.values()) > largest:
                raise ValueError(f"{numel} values of {dtype} in storage {short(key)}, the file holds fewer")
            self.append(self.persistent_load(pid))

        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.BINPERSID[0]] = load_binpersid
        for opcode in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
            del dispatch[opcode[0]]  # torch never writes them, and they reserve whatever memory they name

    return Unpickler
