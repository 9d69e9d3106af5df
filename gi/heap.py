"""What glibc keeps of freed memory, which is a third of what a video takes without this. Elsewhere nothing happens."""
import ctypes
import os
import sys
from collections.abc import Sequence

LARGE = 640  # pixels of the longer side, from which on saving memory is worth some time

_glibc = ctypes.CDLL(None) if sys.platform == "linux" else None
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def share_heap() -> None:
    """Lets all threads take memory from one heap, unless MALLOC_ARENA_MAX says otherwise: each has one of its own by
    default, whose freed pieces no other can use. Called before there are threads.
    """
    if hasattr(_glibc, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        _glibc.mallopt(_ARENA_MAX, 1)


def release_freed(after: Sequence[int] | None = None) -> None:
    """Hands freed memory back to the system: glibc keeps it, in pieces that the next large tensor does not fit into.

    `after` work on a frame of this (height, width): only if it is a large one.
    """
    if hasattr(_glibc, "malloc_trim") and (after is None or max(after) > LARGE):
        _glibc.malloc_trim(0)
