"""Reading ahead: what comes next is made on another thread while the present item is in use."""
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def read_ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """Yields what `items` gives, made up to `depth` items early by one thread; what it raises is raised in its place.

    It pays where making items lets go of Python's lock, as decoders of pictures and videos do.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item  # type: ignore[misc]  # it is not _END
