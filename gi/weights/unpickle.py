"""Reads checkpoints, files from the internet among them, without ever running code from the file.

A pickle is a small program that may call any function it can name. The names are all it gets here: `_KNOWN` has our own
versions of what rebuilds tensors, arrays and plain values; classes of other packages, which checkpoints carry along
(configuration objects, Lightning's callbacks), become stand-ins that record what was done to them and do nothing.
Everything else is refused.

`torch.load(weights_only=True)` does not serve: it cannot fill dictionaries and lists of classes it does not know, which
Lightning of 2021 put into checkpoints, and it enlarges a storage to whatever size a tensor claims.
"""
import _compat_pickle
import collections
import math
import pathlib
import pickle
import re
import reprlib
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file

from gi.errors import InputError, MissingFile

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
        raise MissingFile(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with file:
            if path.suffix == ".safetensors":
                return load_file(path, device=str(map_location))
            restricted = SimpleNamespace(__name__=__name__, Unpickler=_restricted(*_inspect(file, path)))
            restricted.load = lambda f, **options: _check_keys(restricted.Unpickler(f, **options).load())
            return torch.load(file, map_location=map_location, pickle_module=restricted, weights_only=False)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is") from None
    except Exception as error:  # whatever a damaged file leads to
        reason = " ".join(str(error).split())[:200]  # one line, whatever names the file makes up
        if isinstance(error, Refused):
            raise InputError(f"{path}: refused, its pickle {reason}") from error
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

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state, self.members, self.entries = (*args, *kwargs.items()), None, [], {}
        self.append = self.add = self.members.append
        self.extend = self.members.extend
        return self

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.entries[key] = value

    def __repr__(self):
        return f"<stand-in for {type(self).__module__}.{type(self).__qualname__}>"


# What a file may name: tensors, arrays, values; rebuilt as torch and numpy do, with sizes checked, without hooks ------

_short = reprlib.repr  # what a file holds may have no end when written out


def _natural(*numbers):
    return all(type(n) is int and n >= 0 for n in numbers)


def _check_keys(keys):
    """`keys`, unless it is a list of what takes forever to hash, or more stack than there is: tuples within tuples."""
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, tuple | frozenset) and any(isinstance(part, tuple | frozenset) for part in key):
            raise Refused("holds tuples within the tuples of a key")
    return keys


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None, dtype=None):
    dtype = dtype or storage.dtype
    natural = isinstance(size, tuple) and isinstance(stride, tuple) and _natural(offset, *size, *stride)
    if not natural or len(size) != len(stride) or not isinstance(dtype, torch.dtype):
        raise Refused(f"holds a tensor of size {_short(size)} with stride {_short(stride)}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    data = storage._untyped_storage
    if math.prod(size) and (last + 1) * dtype.itemsize > data.nbytes():  # torch would enlarge the storage
        raise Refused(f"holds a tensor of size {_short(size)} in a storage of {data.nbytes()} bytes")
    tensor = torch.empty(0, dtype=dtype, device=data.device).set_(data, offset, size, stride)
    if metadata:
        torch._utils.set_tensor_metadata(tensor, {k: bool(metadata[k]) for k in ("conj", "neg") if k in metadata})
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

    def __init__(self, name):
        self.value = np.dtype(name) if isinstance(name, str) else None
        if self.value is None or self.value.kind not in "biufcSU":
            raise Refused(f"holds a numpy dtype {_short(name)}")

    def __setstate__(self, state):
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """A numpy array that can be filled once its size has been checked."""

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        natural = isinstance(shape, tuple) and _natural(*shape)
        if not natural or not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.value.itemsize:
            raise Refused(f"holds a numpy array of shape {_short(shape)}")
        super().__setstate__((1, shape, dtype.value, bool(fortran), data))


def _numpy_scalar(dtype, data):
    return np.frombuffer(data if isinstance(data, bytes) else data.encode("latin1"), dtype.value, count=1)[0]


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):  # others are looked up by importing modules
        raise Refused(f"holds encoding {_short(encoding)}")
    return text.encode(encoding)


def _new(cls, *args):
    if not isinstance(cls, type) or not issubclass(cls, StandIn):
        raise Refused(f"holds an object of {_short(cls)}")
    return cls(*args)


def _checked(kind, *accepted):
    """`kind`, called with arguments of the accepted types only: bytes(10**12) would be a bomb."""
    def construct(*args):
        if not all(type(arg) in accepted for arg in args):
            raise Refused(f"holds {kind.__name__} of {_short(args)}")
        return kind(*args)
    return construct


def _set_of(kind):
    def construct(members):
        if type(members) is not list:
            raise Refused(f"holds {kind.__name__} of {_short(members)}")
        return kind(_check_keys(members))
    return construct


def _ordered(pairs=()):
    _check_keys([key for key, _ in pairs])
    return collections.OrderedDict(pairs)


_UNTYPED = object()  # torch.UntypedStorage, as the kind of a storage; the class itself could be called
_KNOWN = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch.UntypedStorage": _UNTYPED,
    "torch.storage.UntypedStorage": _UNTYPED,
    "torch.Size": _checked(torch.Size, list, tuple),
    "torch.device": _checked(torch.device, str, int),
    "numpy.dtype": lambda name, *flags: _Dtype(name),
    "_codecs.encode": _encode,
    "copyreg.__newobj__": _new,
    "copyreg._reconstructor": lambda cls, base, state: _new(cls) if state is None else _new(cls, state),
    "builtins.complex": _checked(complex, int, float),
    "builtins.set": _set_of(set),
    "builtins.frozenset": _set_of(frozenset),
    "collections.OrderedDict": _ordered,
    "collections.Counter": _checked(collections.Counter, dict),
    "collections.defaultdict": lambda *args: {},  # without the function that makes missing values
}
_KNOWN |= {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_KNOWN |= {f"builtins.{kind.__name__}": _checked(kind, str, bytes) for kind in (bytes, bytearray)}
_KNOWN |= {f"builtins.{kind.__name__}": _checked(kind, int, type(None)) for kind in (range, slice)}
for _module in ("pathlib", "pathlib._local"):
    for _system, _path in ("Posix", pathlib.PurePosixPath), ("Windows", pathlib.PureWindowsPath):
        _KNOWN |= {f"{_module}.{pure}{_system}Path": _checked(_path, str) for pure in ("", "Pure")}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN |= {f"{_module}.scalar": _numpy_scalar, f"{_module}._reconstruct": lambda *args: _Array(0, np.int8)}

_CLASS_NAME = re.compile(r"_*[A-Z]\w*")
_INERT_STDLIB = {"typing", "datetime", "enum", "argparse", "uuid", "decimal", "fractions"}  # modules of plain values
_INERT_NAMES = {"numpy.ndarray", "collections.deque", "types.SimpleNamespace"}
_INERT_NAMES |= {f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")}
_INERT_NAMES |= {f"builtins.{name}" for name in ("object", "bool", "int", "float", "str", "list", "tuple", "dict")}


def _hashing(opcode, keys):
    """How to load an opcode that hashes some of the objects since the last mark on the stack."""
    load = pickle._Unpickler.dispatch[opcode[0]]

    def load_checked(self):
        _check_keys(self.stack[keys])
        load(self)

    return load_checked


_HASHING = {opcode[0]: _hashing(opcode, keys) for opcode, keys in [
    (pickle.SETITEM, slice(-2, -1)), (pickle.SETITEMS, slice(None, None, 2)), (pickle.DICT, slice(None, None, 2)),
    (pickle.ADDITEMS, slice(None)), (pickle.FROZENSET, slice(None))]}


def _restricted(largest, sizes):
    """The unpickler for one file. All storages together have at most `largest` bytes, each those in `sizes`.

    It is Python's own, the version in Python: what BUILD does to an object cannot be restricted in the one in C.
    """
    stand_ins, storages = {}, {}

    class Unpickler(pickle._Unpickler):
        dispatch = pickle._Unpickler.dispatch | _HASHING

        def find_class(self, module, name):
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))  # names of Python 2, which
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)  # Python 3 writes, too, in torch's protocol 2
            full = f"{module}.{name}"
            if full in _KNOWN:
                return _KNOWN[full]
            third_party = module.split(".")[0] not in sys.stdlib_module_names
            is_class = _CLASS_NAME.fullmatch(name.rsplit(".", 1)[-1])
            if full not in _INERT_NAMES and not (is_class and (third_party or module in _INERT_STDLIB)):
                raise Refused(f"asks for {full}, which could run code")
            about = {"__module__": module, "__qualname__": name}
            return stand_ins.setdefault(full, type(name.rsplit(".", 1)[-1], (StandIn,), about))

        def load_build(self):
            state, target = self.stack.pop(), self.stack[-1]
            if isinstance(target, StandIn | _Dtype | _Array):
                target.__setstate__(state)
            elif type(target) is not collections.OrderedDict or not isinstance(state, dict):
                raise Refused(f"changes {type(target).__name__} {_short(target)}")
            elif "_metadata" in state:  # versions of the modules, which load_state_dict looks at
                target._metadata = state["_metadata"]

        def load_binpersid(self):
            pid = self.stack.pop()
            if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
                raise Refused(f"names something other than a storage: {_short(pid)}")
            word, kind, key, location, numel, *view = pid
            _check_keys([key, *(view[0] or () if view else ())])
            dtype = torch.uint8 if kind is _UNTYPED else getattr(kind, "dtype", None)
            if not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
                raise Refused(f"names a storage of {_short(numel)} times {_short(kind)}")
            storages[key] = numel * dtype.itemsize
            if storages[key] > (largest if sizes is None else sizes.get(key, -1)) or sum(storages.values()) > largest:
                raise ValueError(f"{numel} values of {dtype} in storage {_short(key)}, the file holds fewer")
            kind = torch.UntypedStorage if kind is _UNTYPED else kind
            self.append(self.persistent_load((word, kind, key, location, numel, *view)))

        def load_refused(self):
            raise Refused("uses external buffers, which torch never writes")

        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.BINPERSID[0]] = load_binpersid
        for opcode in (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
            dispatch[opcode[0]] = load_refused

    return Unpickler
