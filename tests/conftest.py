import gi  # noqa: I001  first: it makes torchvision importable beside a CPU build of torch

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="session")
def root():
    """Folder of the repository."""
    return Path(gi.__file__).resolve().parents[1]


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
