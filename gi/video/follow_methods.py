"""The table of ways to find an object in a video. A new one is a `Follower` in a file of its own and a line here."""
import pkgutil
from collections.abc import Mapping

from gi.config import instantiate, schema
from gi.errors import InputError
from gi.video.method import Entry

METHODS = {
    "flow": Entry("gi.video.propagate_flow.FlowFollower",
                  "along optical flow, with outlines moved to edges of the image"),
}


def build_follower(name: str, options: Mapping[str, object]) -> object:
    """The `gi.video.propagate_flow.Follower` of this name, or dotted path. Raises InputError for a name that does not
    exist and for options that it does not have or take.
    """
    from gi.video.propagate_flow import Follower
    if name not in METHODS and "." not in name:
        hint = schema.nearest(name, METHODS, f", or package.module.Name; there are {', '.join(METHODS)}")
        raise InputError(f"method {name!r}: no such method{hint}")
    path = f"method {name}"
    target = pkgutil.resolve_name(METHODS[name].target) if name in METHODS else schema.find_target(name, path)
    follower = target(**schema.arguments(target, options, path, instantiate, name=f"the method {name}"))
    if not isinstance(follower, Follower):
        raise InputError(f"{path}: is a {type(follower).__name__}, expected a gi.video.propagate_flow.Follower")
    return follower


def describe_methods() -> str:
    """A line for each of the table, for --help."""
    return "\n".join(f"  {name:<10} {entry.description}" for name, entry in METHODS.items())
