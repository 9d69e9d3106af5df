"""Makes glibc return freed memory, otherwise a third of what a video takes. No effect on other systems."""
import ctypes
import os
import sys
from collections.abc import Sequence

LARGE = 640  # pixels of the longer side above which saving memory is worth the time

_glibc = ctypes.CDLL(None) if sys.platform == "linux" else None
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def share_heap() -> None:
    """Lets all threads share one heap, unless MALLOC_ARENA_MAX says otherwise. By default each thread has its own,
    whose freed pieces no other thread can use. To be called before threads are started.
    """
    if hasattr(_glibc, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        _glibc.mallopt(_ARENA_MAX, 1)


def release_freed(after: Sequence[int] | None = None) -> None:
    """Hands freed memory back to the system: glibc keeps it, in pieces that the next large tensor does not fit into.

    With `after`, the (height, width) of the frame just processed, only if that frame is large.
    """
    if hasattr(_glibc, "malloc_trim") and (after is None or max(after) > LARGE):
        _glibc.malloc_trim(0)
