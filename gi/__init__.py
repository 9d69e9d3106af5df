"""Guided and video inpainting with keyframes: two-stream generators, their data, training and evaluation."""
import os

# Threads of torch's OpenMP that wait for each other do so at full speed for long, at the cost of whatever else runs.
# Two demos training at once on two cores made 2.1 steps/s each with this setting and 0.7 without it; one alone made 9.5
# with it and 9.4 without. It has to be set before torch is imported; other builds of OpenMP ignore it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from gi._torchvision import declare_missing_operators  # noqa: E402

declare_missing_operators()  # before anything below imports torchvision

__version__ = "0.1.0"


def __getattr__(name):
    if name == "Inpainter":  # on demand, as it needs torch and everything else
        from gi.photo import Inpainter
        return Inpainter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
