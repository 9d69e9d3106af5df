"""The name under which `gi.weights.unpickle` was known before."""
from gi.weights.unpickle import Refused, StandIn, _tensor, read_checkpoint

__all__ = ["Refused", "StandIn", "_tensor", "read_checkpoint"]
