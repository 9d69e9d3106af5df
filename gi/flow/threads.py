"""Work of OpenCV and NumPy, which let go of Python's lock, on all cores."""
from collections.abc import Callable, Iterable
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
