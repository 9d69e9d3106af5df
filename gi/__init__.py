"""Guided and video inpainting with keyframes: two-stream generators, their data, training and evaluation."""
import importlib
import os

from gi import _torchvision

__version__ = "0.1.0"

# Waiting OpenMP threads of torch spin for a long time by default, which takes CPU time from everything else. Two demos
# training at once on two cores made 2.1 steps/s each with this setting and 0.7 without it; one alone made 9.5 with it
# and 9.4 without. It has to be set before torch is imported; other builds of OpenMP ignore it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

_torchvision.guard()

_PUBLIC = {"Inpainter": "gi.photo", "VideoInpainter": "gi.video"}  # imported on demand: they need torch and most of gi


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
