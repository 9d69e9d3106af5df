"""What glibc keeps of freed memory, which is a third of what a video takes without this. Elsewhere nothing happens."""
import ctypes
import os
import sys

_glibc = ctypes.CDLL(None) if sys.platform == "linux" else None
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def share_heap() -> None:
    """Lets all threads take memory from one heap, unless MALLOC_ARENA_MAX says otherwise: each has one of its own by
    default, whose freed pieces no other can use. Called before there are threads.
    """
    if hasattr(_glibc, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        _glibc.mallopt(_ARENA_MAX, 1)


def release_freed() -> None:
    """Hands freed memory back to the system: glibc keeps it, in pieces that the next large tensor does not fit into."""
    if hasattr(_glibc, "malloc_trim"):
        _glibc.malloc_trim(0)
