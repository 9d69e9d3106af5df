"""Paths of the bundled files, configurations and the small trained network, and of downloaded ones.

In a clone, and after `pip install -e`, bundled files are in the clone's configs/ and checkpoints/; a wheel has both
folders inside the package.
"""
import os
from importlib import resources
from pathlib import Path

_PACKAGE = Path(str(resources.files("gi")))
# The folder of the repository; None where the package comes from a wheel.
CLONE = None if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent


def bundled(name: str | Path) -> Path:
    """Path of a bundled file, such as "configs/ours.yaml" or "checkpoints/ours_small.safetensors"."""
    return (CLONE or _PACKAGE) / name


def find(path: str | Path, folder: str | Path = "") -> Path:
    """`path` in `folder`; if no such file exists, the bundled file of that name, if there is one."""
    path, own = Path(path), Path(folder, path)
    packaged = bundled(path)
    inside = not path.is_absolute() and path.parts[:1] in (("configs",), ("checkpoints",)) and ".." not in path.parts
    return packaged if inside and not own.exists() and packaged.is_file() else own


def home() -> Path:
    """The folder that has checkpoints/ with the weights that were downloaded: $GI_HOME, else the clone, else
    ~/.cache/gi.
    """
    chosen = os.environ.get("GI_HOME")
    return Path(chosen).expanduser() if chosen else CLONE or Path("~/.cache/gi").expanduser()
