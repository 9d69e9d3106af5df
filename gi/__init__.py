"""Guided and video inpainting with keyframes: two-stream generators, their data, training and evaluation."""
from gi._torchvision import declare_missing_operators

declare_missing_operators()  # before anything below imports torchvision

__version__ = "0.1.0"
