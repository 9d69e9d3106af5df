"""Prefetching: the next items are computed on another thread while the current one is in use."""
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def prefetch(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yields `items`, computed up to `depth` items early on one other thread; its exceptions are raised where they
    occurred.

    Worthwhile where computing items releases Python's global lock (GIL), as image and video decoders do.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item  # type: ignore[misc]  # it is not _END
