"""Runs functions that release Python's global lock (GIL), as OpenCV, NumPy and torch do, on all cores."""
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def on_threads(function: Callable[..., T], *items: Iterable) -> list[T]:
    """[function(*each) for each in zip(*items)], by as many threads as torch uses on the CPU."""
    jobs, threads = list(zip(*items, strict=True)), torch.get_num_threads()
    if threads == 1 or len(jobs) < 2:
        return [function(*job) for job in jobs]
    with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
        return list(pool.map(lambda job: function(*job), jobs))


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[int]:
    """Within it, torch uses `number` threads, also in Python threads that start within it; yields the previous number.

    Work that is spread over Python threads uses 1, so that its sums are rounded alike on any number of cores.
    """
    previous = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield previous
    finally:
        torch.set_num_threads(previous)
