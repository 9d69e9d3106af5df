import gi  # noqa: I001  first: it makes torchvision importable beside a CPU build of torch

import functools
import importlib.util
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gi.config import allow
from tests.runs import tiny_run

allow("tests")  # configurations of tests name what tests define
REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="session")
def root():
    """Folder of the repository."""
    return Path(gi.__file__).resolve().parents[1]


@pytest.fixture
def run_script(root, monkeypatch, capsys):
    """Function: name of a file in scripts/ -> function: words -> exit status and what was printed, `out` and `err`."""
    def named(name):
        def run(*words):
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(root / "scripts" / f"{name}.py"), run_name="__main__")
            return end.value.code, capsys.readouterr()

        return run

    return named


@pytest.fixture(scope="session")
def reference():
    """Outputs of the original release and the rules its weights and inputs were made by.

    `reference.load("raft")` -> {name: array} of tests/reference/raft.npz; `reference.fill` is the module fill.py,
    which makes every weight and input from its name and shape.
    """
    spec = importlib.util.spec_from_file_location("reference_fill", REFERENCE / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)

    def load(name):
        with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return SimpleNamespace(folder=REFERENCE, fill=fill, load=load)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of ten smooth pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((48, 44), Image.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def arguments(photographs, tmp_path):
    """Function: overrides -> arguments of main for a tiny run in its own folder of tmp_path."""
    return functools.partial(tiny_run, photographs, tmp_path)
