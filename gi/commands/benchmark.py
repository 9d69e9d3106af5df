"""`gi benchmark`: runs tools/benchmark, which only a clone of the repository has."""
import importlib
from collections.abc import Sequence

from gi import resources
from gi.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """As `python -m tools.benchmark`. Raises InputError where only the package is installed."""
    if resources.CLONE is None:
        raise InputError("benchmark: its code is not in the installed package; it needs a clone of the repository")
    importlib.import_module("tools.benchmark.__main__").main(argv)
