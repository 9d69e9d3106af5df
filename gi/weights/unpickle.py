"""Reads checkpoints, files from the internet among them, without ever running code from the file.

A pickle is a small program that may call any function it can name. Here it can name very little: `_GLOBALS` lists what
it gets, with our own versions of the functions that rebuild tensors and arrays, and `_CONSTRUCT` which of that may be
called. Classes of other packages, which checkpoints carry along (configuration objects, Lightning's callbacks), become
stand-ins that record what was done to them and do nothing. Everything else is refused.

The machine of opcodes is Python's own `pickle._Unpickler`: in the C version, what an opcode does to an object it has
built (calling `__setstate__`, setting attributes) cannot be restricted.
"""
import _compat_pickle
import collections
import math
import pathlib
import pickle
import re
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file

from gi.errors import InputError

_CLASS_NAME = re.compile(r"_*[A-Z]\w*")
_MAX_COMPRESSION = 100  # torch stores uncompressed; more than this is a bomb


class Refused(Exception):
    """A pickle contains something that is not rebuilt; the message says what, after "its pickle …"."""


def read_checkpoint(path, map_location="cpu"):
    """The content of a .ckpt, .pth or .pt file of torch.save (either format), or of a .safetensors file.

    Tensors land on `map_location`. Objects of unknown classes are instances of `StandIn`. Raises InputError for a file
    that is missing, damaged, no checkpoint, or that asks for anything which could run code.
    """
    path = pathlib.Path(path)
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with file:
            if path.suffix == ".safetensors":
                return load_file(path, device=str(map_location))
            limits = _inspect(file, path)
            restricted = SimpleNamespace(__name__="gi.weights.unpickle", Unpickler=_restricted(*limits))
            restricted.load = lambda f, **options: restricted.Unpickler(f, **options).load()
            return torch.load(file, map_location=map_location, pickle_module=restricted, weights_only=False)
    except InputError:
        raise
    except Refused as error:
        reason = " ".join(str(error).split())[:200]  # one line, whatever names the file makes up
        raise InputError(f"{path}: refused, its pickle {reason}") from error
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is") from None
    except Exception as error:  # whatever a damaged file leads to
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a checkpoint, or damaged ({type(error).__name__}: {reason})") from error


def _inspect(file, path):
    """(bytes of all storages at most, {storage key: bytes} or None), after refusing what torch would run or inflate."""
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
    # The records as torch sees them: two readers of the zip format may disagree about a file made to deceive one.
    records = torch._C.PyTorchFileReader(file).get_all_records()
    if any(name == "constants.pkl" or name.startswith("code/") for name in records):
        raise InputError(f"{path}: is a TorchScript archive, a program; expected a file written by torch.save")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    file.seek(0)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if sum(entry.file_size for entry in entries) > size * (1 if stored else _MAX_COMPRESSION):
        raise InputError(f"{path}: would unpack to far more than its size, expected a file written by torch.save")
    sizes = [(entry.filename.split("/data/"), entry.file_size) for entry in entries]
    return size * _MAX_COMPRESSION, {parts[-1]: length for parts, length in sizes if len(parts) == 2}


class StandIn:
    """Instance of a class this program does not load: it remembers and does nothing.

    args: what it was constructed with; state: what its attributes were set to; members, entries: what was appended to
    it and set as its items. `type(x)` has the name and module of the original class.
    """

    def __init__(self, *args, **kwargs):
        self.args, self.state, self.members, self.entries = (*args, *kwargs.items()), None, [], {}

    def append(self, value):
        self.members.append(value)

    def extend(self, values):
        self.members.extend(values)

    add = append

    def __setitem__(self, key, value):
        self.entries[key] = value

    def __repr__(self):
        return f"<stand-in for {type(self).__module__}.{type(self).__qualname__}>"


class _StandInClass(type):
    """Marks the classes made by `_stand_in`, the only ones the unpickler instantiates freely."""

    def __repr__(cls):
        return f"<stand-in for class {cls.__module__}.{cls.__qualname__}>"


def _stand_in(module, name):
    return _StandInClass(name.rsplit(".", 1)[-1], (StandIn,), {"__module__": module, "__qualname__": name})


# Rebuilding tensors and arrays: as torch and numpy do, with the sizes checked and without hooks. --------------------

def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None, dtype=None):
    size, stride = tuple(size), tuple(stride)
    dtype = dtype or storage.dtype
    numbers = (offset, *size, *stride)
    natural = all(type(n) is int and n >= 0 for n in numbers)
    if not natural or len(size) != len(stride) or not isinstance(dtype, torch.dtype):
        raise Refused(f"holds a tensor of size {size} with stride {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    data = storage._untyped_storage
    if math.prod(size) and (last + 1) * dtype.itemsize > data.nbytes():  # torch would enlarge the storage
        raise Refused(f"holds a tensor of size {size} in a storage of {data.nbytes()} bytes")
    tensor = torch.empty(0, dtype=dtype, device=data.device).set_(data, offset, size, stride)
    if metadata:
        bits = {key: bool(metadata[key]) for key in ("conj", "neg") if key in metadata}
        torch._utils.set_tensor_metadata(tensor, bits)
    return tensor.requires_grad_(bool(requires_grad))


def _tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    return _tensor(storage, offset, size, stride, requires_grad, hooks, metadata, dtype)


def _parameter(data, requires_grad, hooks=None, state=None):
    return torch.nn.Parameter(data.detach(), bool(requires_grad))


def _tensor_with_attributes(rebuild, kind, args, state):
    if rebuild not in (_tensor, _tensor_v3, _parameter):
        raise Refused("holds a tensor subclass")
    return rebuild(*args)


class _Dtype:
    """Stands for a numpy dtype while it is put together."""

    def __init__(self, name, *flags):
        self.value = np.dtype(name) if isinstance(name, str) else None
        if self.value is None or self.value.kind not in "biufcSU":
            raise Refused(f"holds a numpy dtype {name!r:.40}")

    def set_state(self, state):
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


def _numpy_scalar(dtype, data):
    return np.frombuffer(data if isinstance(data, bytes) else data.encode("latin1"), dtype.value, count=1)[0]


def _numpy_array(kind, shape, typecode):
    return np.empty(0, np.int8)  # filled by _set_array


def _set_array(array, state):
    _, shape, dtype, fortran, data = state
    data = data.encode("latin1") if isinstance(data, str) else data
    natural = all(type(n) is int and n >= 0 for n in shape)
    if not natural or not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.value.itemsize:
        raise Refused(f"holds a numpy array of shape {shape}")
    array.__setstate__((1, tuple(shape), dtype.value, bool(fortran), data))


# What a file may name, and what it may call ------------------------------------------------------------------------

def _checked(kind, *accepted):
    """`kind`, called with arguments of the accepted types only: bytes(10**12) would be a bomb."""
    def construct(*args):
        if not all(type(arg) in accepted for arg in args):
            raise Refused(f"holds {kind.__name__} of {args!r:.60}")
        return kind(*args)
    return construct


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):  # others are looked up by importing modules
        raise Refused(f"holds encoding {encoding!r:.40}")
    return text.encode(encoding)


def _new(cls, *args, **kwargs):
    """What copyreg's helpers and the opcodes for new objects do: only for stand-ins and harmless values."""
    if type(cls) is _StandInClass:
        return cls(*args, **kwargs)
    if kwargs or not isinstance(cls, collections.abc.Hashable) or cls not in _CONSTRUCT:
        raise Refused(f"holds an object of {cls!r:.60}")
    return _CONSTRUCT[cls](*args)


def _reconstruct(cls, base, state):
    return _new(cls) if state is None else _new(cls, state)


_SCALARS, _CONTAINERS = (bool, int, float, complex, str, bytes), (list, tuple, set, frozenset, dict)
_BUILTINS = {kind: _checked(kind, *_SCALARS) for kind in (bool, int, float, complex, str)}
_BUILTINS |= {kind: _checked(kind, *_CONTAINERS) for kind in (list, tuple, set, frozenset, dict)}
_BUILTINS |= {kind: _checked(kind, str, bytes) for kind in (bytes, bytearray)}
_BUILTINS |= {kind: _checked(kind, int, type(None)) for kind in (range, slice)}

_VALUES = {
    collections.OrderedDict: _checked(collections.OrderedDict, *_CONTAINERS),
    collections.Counter: _checked(collections.Counter, *_CONTAINERS),
    collections.defaultdict: lambda *args: {},  # without the function that makes missing values
    pathlib.PurePosixPath: _checked(pathlib.PurePosixPath, str),
    pathlib.PureWindowsPath: _checked(pathlib.PureWindowsPath, str),
    torch.Size: _checked(torch.Size, list, tuple),
    torch.device: _checked(torch.device, str, int),
    _Dtype: _Dtype,
}
_FUNCTIONS = [_tensor, _tensor_v3, _parameter, _tensor_with_attributes, _numpy_scalar, _numpy_array, _encode, _new,
              _reconstruct]
_CONSTRUCT = {**_BUILTINS, **_VALUES, **{function: function for function in _FUNCTIONS}}

_GLOBALS = {("builtins", kind.__name__): kind for kind in _BUILTINS}
_GLOBALS |= {("collections", kind.__name__): kind for kind in _VALUES if kind.__module__ == "collections"}
for _module in ("pathlib", "pathlib._local"):
    for _prefix in ("", "Pure"):
        _GLOBALS[_module, f"{_prefix}PosixPath"] = pathlib.PurePosixPath
        _GLOBALS[_module, f"{_prefix}WindowsPath"] = pathlib.PureWindowsPath
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _GLOBALS |= {(_module, "scalar"): _numpy_scalar, (_module, "_reconstruct"): _numpy_array}
_GLOBALS |= {
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copyreg", "__newobj__"): _new,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch", "UntypedStorage"): torch.UntypedStorage,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_with_attributes,
}
_GLOBALS |= {("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_INERT_STDLIB = {"typing", "datetime", "enum", "argparse", "uuid", "decimal", "fractions"}  # modules of plain values
_INERT_NAMES = {("builtins", "object"), ("numpy", "ndarray"), ("collections", "deque"), ("types", "SimpleNamespace")}
_INERT_NAMES |= {("datetime", name) for name in ("datetime", "date", "time", "timedelta", "timezone")}


def _restricted(largest, sizes):
    """The unpickler for one file. All storages together have at most `largest` bytes, each those in `sizes`."""
    known, storages = dict(_GLOBALS), {}

    class Unpickler(pickle._Unpickler):
        dispatch = dict(pickle._Unpickler.dispatch)

        def find_class(self, module, name):
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))  # names of Python 2, which
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)  # Python 3 writes, too, in torch's protocol 2
            key = module, name
            if key not in known:
                package = module.split(".")[0]
                third_party = package not in sys.stdlib_module_names
                is_class = _CLASS_NAME.fullmatch(name.rsplit(".", 1)[-1])
                if key not in _INERT_NAMES and not (is_class and (third_party or module in _INERT_STDLIB)):
                    raise Refused(f"asks for {module}.{name}, which could run code")
                known[key] = _stand_in(module, name)
            return known[key]

        def call(self, function, *args, **kwargs):
            if type(function) is not _StandInClass and not (
                    isinstance(function, collections.abc.Hashable) and function in _CONSTRUCT):
                raise Refused(f"calls {function!r:.60}")
            return _new(function, *args, **kwargs)

        def load_reduce(self):
            args = self.stack.pop()
            self.stack[-1] = self.call(self.stack[-1], *args)

        def load_newobj_ex(self):
            kwargs, args = self.stack.pop(), self.stack.pop()
            self.stack[-1] = self.call(self.stack[-1], *args, **kwargs)

        def _instantiate(self, cls, args):  # for the opcodes INST and OBJ
            self.append(self.call(cls, *args))

        def load_build(self):
            state, target = self.stack.pop(), self.stack[-1]
            if isinstance(target, StandIn):
                target.state = state
            elif type(target) is collections.OrderedDict and isinstance(state, dict):
                if "_metadata" in state:  # versions of the modules, which load_state_dict looks at
                    target._metadata = state["_metadata"]
            elif type(target) is _Dtype:
                target.set_state(state)
            elif type(target) is np.ndarray:
                _set_array(target, state)
            else:
                raise Refused(f"changes {type(target).__name__} {target!r:.60}")

        def load_persid(self):
            raise Refused("names a storage in text form")

        def load_binpersid(self):
            pid = self.stack.pop()
            if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
                raise Refused(f"names something other than a storage: {pid!r:.60}")
            kind, key, numel = pid[1], pid[2], pid[4]
            dtype = torch.uint8 if kind is torch.UntypedStorage else getattr(kind, "dtype", None)
            if not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
                raise Refused(f"names a storage of {numel!r:.20} times {kind!r:.60}")
            storages[key] = numel * dtype.itemsize
            if storages[key] > (largest if sizes is None else sizes.get(key, -1)) or sum(storages.values()) > largest:
                raise ValueError(f"{numel} values of {dtype} in storage {key!r:.20}, the file holds fewer")
            self.append(self.persistent_load(pid))

        def load_refused(self):
            raise Refused("uses extension codes or external buffers, which torch never writes")

        dispatch[pickle.REDUCE[0]] = load_reduce
        dispatch[pickle.NEWOBJ[0]] = load_reduce  # the class and its arguments instead of a function and its
        dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.PERSID[0]] = load_persid
        dispatch[pickle.BINPERSID[0]] = load_binpersid
        for opcode in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER,
                       pickle.READONLY_BUFFER):
            dispatch[opcode[0]] = load_refused

    return Unpickler
