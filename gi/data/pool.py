"""Jobs shared out to processes."""
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator

from gi.errors import InputError, expect_at_least


class Pool:
    """`with Pool(n) as run: for job, result in run(function, jobs)`, in any order; in this process if n is 1.

    The first exception of a job ends the loop; leaving the `with` drops the jobs that have not started.

    Raises InputError for n < 1, and if a process dies, as it does when memory runs out.
    """

    def __init__(self, workers: int):
        expect_at_least(1, workers=workers)
        self.executor = None
        if workers > 1:
            context = multiprocessing.get_context("spawn")  # a process with threads is not to be forked
            self.executor = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)

    def __enter__(self) -> Callable[[Callable, list], Iterator[tuple]]:
        return self._run

    def __exit__(self, *_: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)

    def _run(self, function: Callable, jobs: list) -> Iterator[tuple]:
        if self.executor is None:
            yield from ((job, function(job)) for job in jobs)
            return
        futures = {self.executor.submit(function, job): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise InputError("a worker process died, perhaps for lack of memory; go on with fewer workers") from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process alone
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """If the main process is killed, its workers would otherwise wait for jobs for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
