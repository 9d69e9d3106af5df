"""The earlier name of `gi.weights.unpickle`, with the names of that time, kept for code that imports it."""
from gi.weights.rebuild import Placeholder as StandIn
from gi.weights.rebuild import Refused, _tensor
from gi.weights.unpickle import read_checkpoint

__all__ = ["Refused", "StandIn", "_tensor", "read_checkpoint"]
