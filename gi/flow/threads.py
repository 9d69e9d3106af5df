"""Work that lets go of Python's lock, as that of OpenCV, NumPy and torch does, on all cores."""
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
    """Within it, torch works on so many threads, also in threads of Python's that begin there; gives the usual number.

    Work that is spread over Python's threads takes 1: its sums are then rounded alike on however many cores it runs.
    """
    usual = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield usual
    finally:
        torch.set_num_threads(usual)
