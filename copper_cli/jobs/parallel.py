"""Several calls in flight at once, results one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def run_parallel(
    items: Sequence[T], work: Callable[[T], R], jobs: int
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Each item with a function that gives its result or raises what `work` raised.

    The first item runs alone: what it learns of the cloud's limits saves the others from
    finding out too. Where the consumer stops early or is interrupted, nothing new is started,
    and what is in hand is finished.
    """
    if not items:
        return
    first, rest = items[0], items[1:]
    yield first, _settle(work, first).result
    if jobs <= 1 or len(rest) <= 1:
        for item in rest:
            yield item, _settle(work, item).result
        return
    pool = ThreadPoolExecutor(max_workers=min(jobs, len(rest)), thread_name_prefix="copper")
    try:
        futures = {pool.submit(work, item): item for item in rest}
        for future in as_completed(futures):
            yield futures.pop(future), future.result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _settle(work: Callable[[T], R], item: T) -> Future[R]:
    """The result of doing it now, held back until asked for."""
    future: Future[R] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:  # handed on to whoever asks for the result
        future.set_exception(error)
    return future
