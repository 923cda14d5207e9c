"""The same function over many jobs in processes that start fresh; how many fit, and progress."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


def silent(done: int, total: int) -> None:
    """The `Progress` that shows nothing."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Results as they come, in any order; the first failure ends it and cancels what is left.

    Processes are spawned, not forked: the caller may hold threads, locks or a GPU.

    Args:
        function: of a module's top level, or a `functools.partial` of one.
        jobs: what it is called with; must pickle.
        workers: processes; 1 runs in this one, without starting any.
    """
    if workers <= 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
