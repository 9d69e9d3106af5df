"""The earlier name of `gi.weights.unpickle`, kept for code that imports it."""
from gi.weights.rebuild import Placeholder, Refused, _tensor
from gi.weights.unpickle import read_checkpoint

__all__ = ["Refused", "Placeholder", "_tensor", "read_checkpoint"]
