"""Guided and video inpainting with keyframes: two-stream generators, their data, training and evaluation."""
from gi._torchvision import declare_missing_operators

declare_missing_operators()  # before anything below imports torchvision

__version__ = "0.1.0"


def __getattr__(name):
    if name == "Inpainter":  # on demand, as it needs torch and everything else
        from gi.inpainter import Inpainter
        return Inpainter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
