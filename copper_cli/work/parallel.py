"""Several calls in flight at once, results one by one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Future,
    ThreadPoolExecutor,
    wait,
)
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from copper_cli.work.context import Context

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

_SPARE_THREADS = 2
"""While an answer is read its thread makes no call: with as many threads as calls, the cloud would
wait for us. One more than this brings nothing, since Python reads one answer at a time."""


def run_parallel(
    items: Sequence[T],
    work: Callable[[T], R],
    jobs: int,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Each item with a function that gives its result or raises what `work` raised.

    The first item runs alone: what it learns of the cloud's limits saves the others from
    finding out too. The session sees to it that no more than `jobs` calls are in flight; a few
    threads more read answers meanwhile. Once `stopping()` holds, or the consumer is done, nothing
    new is begun; what is in flight still comes, since its calls are paid for.
    """
    rest = len(items) - 1
    is_parallel = jobs > 1 and rest > 1
    alone = items[:1] if is_parallel else items
    for item in alone:
        if stopping():
            return
        yield item, _settle(work, item).result
    if is_parallel:
        threads = min(rest, jobs + _SPARE_THREADS)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="copper")
        wait_for_threads = True
        try:
            yield from _run_pool(pool, items[1:], work, threads, stopping)
        except KeyboardInterrupt:
            wait_for_threads = False  # they may wait for a silent server
            raise
        finally:
            pool.shutdown(wait=wait_for_threads, cancel_futures=True)


def _run_pool(
    pool: ThreadPoolExecutor,
    items: Sequence[T],
    work: Callable[[T], R],
    ahead: int,
    stopping: Callable[[], bool],
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """At most `ahead` are begun and not yet taken: results wait in memory."""
    waiting = iter(items)
    begun: dict[Future[R], T] = {}
    try:
        while True:
            room = 0 if stopping() else ahead - len(begun)
            begun.update({pool.submit(work, item): item for item in islice(waiting, room)})
            if not begun:
                return
            done, _ = wait(begun, return_when=FIRST_COMPLETED)
            if stopping():
                done |= {future for future in begun if future.cancel()}
            for future in done:
                item = begun.pop(future)
                if not future.cancelled():
                    yield item, future.result
    finally:
        for future in begun:
            future.cancel()


@overload
def run_together(context: Context, a: Callable[[], A], b: Callable[[], B], /) -> tuple[A, B]: ...
@overload
def run_together(
    context: Context, a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], /
) -> tuple[A, B, C]: ...
@overload
def run_together(
    context: Context,
    a: Callable[[], A],
    b: Callable[[], B],
    c: Callable[[], C],
    d: Callable[[], D],
    /,
) -> tuple[A, B, C, D]: ...
def run_together(context: Context, *works: Callable[[], Any]) -> tuple[Any, ...]:
    """What each gives, in order; the lists of a command, which need not wait for each other.

    Raises what the first that failed raised, and has the others wait for nothing more.
    """
    if context.jobs == 1:
        return tuple(work() for work in works)
    pool = ThreadPoolExecutor(len(works), thread_name_prefix="copper")
    wait_for_threads = True
    try:
        begun = [pool.submit(work) for work in works]
        done, _ = wait(begun, return_when=FIRST_EXCEPTION)
        for future in done:
            if future.exception() is not None:
                context.session.cancel()  # another may wait for the quota, perhaps for an hour
                future.result()
        return tuple(future.result() for future in begun)
    except KeyboardInterrupt:
        wait_for_threads = False  # they may wait for a silent server
        raise
    finally:
        pool.shutdown(wait=wait_for_threads, cancel_futures=True)


def _settle(work: Callable[[T], R], item: T) -> Future[R]:
    """The result of doing it now, held back until asked for."""
    future: Future[R] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:  # handed on to whoever asks for the result
        future.set_exception(error)
    return future
