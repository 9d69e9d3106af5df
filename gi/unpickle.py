"""The earlier name of `gi.weights.unpickle`, kept for code that imports it."""
from gi.weights.rebuild import Refused, StandIn, _tensor
from gi.weights.unpickle import read_checkpoint

__all__ = ["Refused", "StandIn", "_tensor", "read_checkpoint"]
