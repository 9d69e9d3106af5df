"""The packages of the extra `diffusion`, imported where they are used: importing them takes seconds."""
import importlib
from types import ModuleType

from gi.errors import InputError, one_line


def extra(name: str) -> ModuleType:
    """The package `name`, one of diffusers, transformers, peft. Raises InputError, with what to install, without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'diffusion needs {name}: pip install ".[diffusion]" in a clone of gi '
                         f"({one_line(error)})") from error
