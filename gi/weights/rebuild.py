"""What the names in a pickle resolve to, and nothing else: see `gi.weights.unpickle`.

Tensors and arrays are rebuilt as torch and numpy do, with their sizes checked and without hooks. Unknown classes become
placeholders, see `Placeholder`.
"""
import _compat_pickle
import collections
import math
import pathlib
import re
import reprlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


class Refused(Exception):
    """A pickle contains something that is not rebuilt; the message says what, after "its pickle …"."""


class Placeholder:
    """Placeholder for an instance of a class that is not loaded: it keeps the data and runs no code.

    args: what it was constructed with; state: what its attributes were set to; members, entries: what was appended to
    it and set as its items. `type(x)` has the name and module of the original class.
    """

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state, self.members, self.entries = (*args, *kwargs.items()), None, [], {}
        self.append = self.add = self.members.append
        self.extend = self.members.extend
        return self

    def __setitem__(self, key, value):
        self.entries[key] = value

    def __repr__(self):
        return f"<stand-in for {type(self).__module__}.{type(self).__qualname__}>"


short = reprlib.repr  # what a file holds may be endless in print


def _natural(*numbers):
    return all(type(n) is int and n >= 0 for n in numbers)


def check_keys(keys: Any) -> Any:
    """Returns `keys`. Raises Refused for a list with tuples in tuples, which may take for ever to hash or overflow the
    stack.
    """
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, tuple | frozenset) and any(isinstance(part, tuple | frozenset) for part in key):
            raise Refused("holds tuples within the tuples of a key")
    return keys


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None, dtype=None):
    dtype = dtype or storage.dtype
    natural = isinstance(size, tuple) and isinstance(stride, tuple) and _natural(offset, *size, *stride)
    if not natural or len(size) != len(stride) or not isinstance(dtype, torch.dtype):
        raise Refused(f"holds a tensor of size {short(size)} with stride {short(stride)}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    data = storage._untyped_storage
    if math.prod(size) and (last + 1) * dtype.itemsize > data.nbytes():  # torch would enlarge the storage
        raise Refused(f"holds a tensor of size {short(size)} in a storage of {data.nbytes()} bytes")
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


def _dtype(name, *flags):
    dtype = np.dtype(name, copy=True) if isinstance(name, str) else None  # its byte order is set afterwards
    if dtype is None or dtype.kind not in "biufcSU":
        raise Refused(f"holds a numpy dtype {short(name)}")
    return dtype


def fill_dtype(dtype: np.dtype, state: tuple) -> None:
    """`__setstate__` of a dtype, except that only the byte order can change."""
    order = state[1] if state[1] in ("<", ">") else "|"
    dtype.__setstate__((3, order, None, None, None, dtype.itemsize, dtype.alignment, dtype.flags))


def fill_array(array: np.ndarray, state: tuple) -> None:
    """`__setstate__` of an array, after a check of its size."""
    _, shape, dtype, fortran, data = state
    data = data.encode("latin1") if isinstance(data, str) else data
    natural = isinstance(shape, tuple) and _natural(*shape)
    if not natural or not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise Refused(f"holds a numpy array of shape {short(shape)}")
    array.__setstate__((1, shape, dtype, bool(fortran), data))  # type: ignore[arg-type]


def _numpy_scalar(dtype, data):
    if not isinstance(dtype, np.dtype):
        raise Refused(f"holds a number of type {short(dtype)}")
    return np.frombuffer(data if isinstance(data, bytes) else data.encode("latin1"), dtype, count=1)[0]


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):  # others are looked up by importing modules
        raise Refused(f"holds encoding {short(encoding)}")
    return text.encode(encoding)


def _new(cls, *args):
    if not isinstance(cls, type) or not issubclass(cls, Placeholder):
        raise Refused(f"holds an object of {short(cls)}")
    return cls(*args)


def _checked(kind, *accepted):
    """`kind`, called with arguments of the accepted types only: bytes(10**12) would fill the memory."""
    def construct(*args):
        if not all(type(arg) in accepted for arg in args):
            raise Refused(f"holds {kind.__name__} of {', '.join(map(short, args))}")
        return kind(*map(check_keys, args))
    return construct


def _ordered(pairs=()):
    check_keys([key for key, _ in pairs])
    return collections.OrderedDict(pairs)


_UNTYPED = SimpleNamespace(dtype=torch.uint8)  # for torch.UntypedStorage, which could be called
KNOWN = {
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
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "copyreg.__newobj__": _new,
    "copyreg._reconstructor": lambda cls, base, state: _new(cls) if state is None else _new(cls, state),
    "builtins.complex": _checked(complex, int, float),
    "builtins.bytes": _checked(bytes, str, bytes),
    "builtins.bytearray": _checked(bytearray, str, bytes),
    "builtins.range": _checked(range, int),
    "builtins.slice": _checked(slice, int, type(None)),
    "builtins.set": _checked(set, list),
    "builtins.frozenset": _checked(frozenset, list),
    "collections.OrderedDict": _ordered,
    "collections.Counter": _checked(collections.Counter, dict),
    "collections.defaultdict": lambda *args: {},  # without the function that makes missing values
}
KNOWN |= {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
for _module in ("pathlib", "pathlib._local"):
    for _system, _path in ("Posix", pathlib.PurePosixPath), ("Windows", pathlib.PureWindowsPath):
        KNOWN |= {f"{_module}.{pure}{_system}Path": _checked(_path, str) for pure in ("", "Pure")}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    KNOWN |= {f"{_module}.scalar": _numpy_scalar, f"{_module}._reconstruct": lambda *args: np.empty(0, np.int8)}

_CLASS_NAME = re.compile(r"_*[A-Z]\w*")
_INERT_STDLIB = {"typing", "datetime", "enum", "argparse", "uuid", "decimal", "fractions"}  # modules of plain values
_INERT_NAMES = {
    "numpy.ndarray", "collections.deque", "types.SimpleNamespace",
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"builtins.{name}" for name in ("object", "bool", "int", "float", "str", "list", "tuple", "dict")),
}


def find_class(module: str, name: str) -> Callable[..., Any]:
    """What a name in a pickle resolves to: one of `KNOWN`, or a new subclass of `Placeholder`. Raises Refused for other
    names.
    """
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))  # names of Python 2, which Python 3
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)  # writes, too, in the protocol that torch uses
    full = f"{module}.{name}"
    if full in KNOWN:
        return KNOWN[full]
    third_party = module.split(".")[0] not in sys.stdlib_module_names
    is_class = _CLASS_NAME.fullmatch(name.rsplit(".", 1)[-1])
    if full not in _INERT_NAMES and not (is_class and (third_party or module in _INERT_STDLIB)):
        raise Refused(f"asks for {full}, which could run code")
    return type(name.rsplit(".", 1)[-1], (Placeholder,), {"__module__": module, "__qualname__": name})
