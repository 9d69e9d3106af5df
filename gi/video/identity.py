"""Checksums of code and weights: parts of a video that two versions of an algorithm computed must never be joined."""
import hashlib
import importlib
import inspect
import sys
from importlib import resources

import cv2
import torch
from torch import nn

from gi.errors import InputError


def code_checksum(method: object) -> str:
    """SHA-256 of everything that computes: this package, the modules of the method's classes, torch and OpenCV."""
    modules = {kind.__module__ for kind in type(method).__mro__}
    own = sorted(name for name in modules if name.partition(".")[0] not in {"gi", "torch", *sys.stdlib_module_names})
    parts = [package_checksum("gi"), *map(_module_checksum, own), torch.__version__, cv2.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def package_checksum(name: str) -> str:
    """SHA-256 of names and contents of all .py files of a package, whatever their line ends; also of one in a zip."""
    digest = hashlib.sha256()
    for path, source in _sources(resources.files(name)):
        digest.update(f"{path}\0".encode() + b"\n".join(source.splitlines()) + b"\0")
    return digest.hexdigest()


def network_checksum(module: nn.Module | None) -> str:
    """SHA-256 of a network's structure and weights, and of the settings that its parts and their helpers have as
    attributes; "" without one.
    """
    if module is None:
        return ""
    options = [(name, _settings(part), _helpers(part)) for name, part in module.named_modules()]
    digest = hashlib.sha256(f"{module} {options}".encode())
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _settings(part):
    """Attributes that are numbers, words, or sequences of them."""
    def plain(value):
        return isinstance(value, (int, float, str)) or isinstance(value, (tuple, list)) and all(map(plain, value))
    return {key: value for key, value in vars(part).items() if plain(value)}


def _helpers(part):
    """The settings of objects, not networks, that are attributes and from the package that the part is from."""
    def package(value):
        return type(value).__module__.partition(".")[0]
    return {key: _settings(value) for key, value in vars(part).items()
            if package(value) == package(part) != "torch" and hasattr(value, "__dict__")}


def _module_checksum(name):
    try:
        return hashlib.sha256(inspect.getsource(importlib.import_module(name)).encode()).hexdigest()
    except (OSError, TypeError) as error:
        raise InputError(f"{name}: no source to tell versions of this method apart, put it into a file") from error


def _sources(folder, path=""):
    # Not by pathlib: what `files` gives may lie in a zip.
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _sources(item, f"{path}{item.name}/")
        elif item.name.endswith(".py"):
            yield path + item.name, item.read_bytes()
