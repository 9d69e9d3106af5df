"""Guided and video inpainting with keyframes: two-stream generators, their data, training and evaluation."""
import os

# Threads of torch's OpenMP that wait for each other otherwise do so at full speed for long, which on a machine that is
# busy with other work (or with our own data workers) can cost ten times the time, and on an idle one gains nothing:
# the demo trained at 9.5 steps/s with this setting and 9.4 without, beside a busy process at 2.5 instead of below 0.5.
# It has to be set before torch is imported; other builds of OpenMP ignore it.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from gi._torchvision import declare_missing_operators  # noqa: E402

declare_missing_operators()  # before anything below imports torchvision

__version__ = "0.1.0"


def __getattr__(name):
    if name == "Inpainter":  # on demand, as it needs torch and everything else
        from gi.inpainter import Inpainter
        return Inpainter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
