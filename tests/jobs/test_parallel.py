"""Calls in flight: the first alone, the rest at once, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from copper_cli.work.parallel import run_parallel, run_together


@pytest.mark.parametrize("jobs", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_each_item_comes_once_with_its_result(jobs: int, count: int) -> None:
    """Whatever the number of items and threads; the first item first."""
    found = [(item, result()) for item, result in run_parallel(range(count), lambda n: n * n, jobs)]
    assert sorted(found) == [(n, n * n) for n in range(count)]
    assert not found or found[0] == (0, 0)


@pytest.mark.parametrize("jobs", [1, 4])
def test_an_error_is_its_items_own(jobs: int) -> None:
    """The others still come."""

    def work(n: int) -> int:
        if n % 2:
            raise ValueError(n)
        return n

    good, bad = [], []
    for item, result in run_parallel(range(10), work, jobs):
        try:
            good.append(result())
        except ValueError:
            bad.append(item)
    assert (sorted(good), sorted(bad)) == ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9])


def test_the_first_runs_alone_the_rest_together() -> None:
    """What the first learns saves the others; four then meet at a barrier."""
    barrier = threading.Barrier(4, timeout=10)
    running: list[int] = []

    def work(n: int) -> int:
        if n == 0:
            assert running == []
            running.append(n)
            return n
        assert running == [0]
        barrier.wait()
        return n

    assert sorted(r() for _, r in run_parallel(range(5), work, 4)) == [0, 1, 2, 3, 4]


def test_at_most_so_many_at_once() -> None:
    """`jobs` threads and two that read answers meanwhile; the calls are the session's to count."""
    arrived, go_on = threading.Semaphore(0), threading.Event()

    def work(n: int) -> int:
        if n:
            arrived.release()
            assert go_on.wait(10)
        return n

    results = run_parallel(range(50), work, 3)
    assert next(results)[1]() == 0

    def watch() -> bool:
        found = all(arrived.acquire(timeout=10) for _ in range(5))
        one_more = arrived.acquire(timeout=0.2)
        go_on.set()
        return found and not one_more

    with ThreadPoolExecutor(1) as pool:
        right = pool.submit(watch)
        assert len(list(results)) == 49
        assert right.result()


@pytest.mark.parametrize("jobs", [1, 4])
def test_once_stopping_nothing_new_is_begun(jobs: int) -> None:
    """What is in flight still comes, since its calls are paid for."""
    begun: list[int] = []
    taken: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        return n

    for item, result in run_parallel(range(1000), work, jobs, lambda: len(taken) >= 3):
        assert result() == item
        taken.append(item)
    assert sorted(taken) == sorted(begun)
    assert 3 <= len(taken) <= 3 + 2 * jobs


def test_stopping_before_the_first() -> None:
    """Nothing at all."""
    assert list(run_parallel(range(5), lambda n: n, 4, lambda: True)) == []
    assert list(run_parallel(range(5), lambda n: n, 1, lambda: True)) == []


def test_a_consumer_that_leaves_waits_for_what_is_in_flight() -> None:
    """No thread is left behind."""
    before = threading.active_count()
    for item, _ in run_parallel(range(100), lambda n: n, 4):
        if item == 2:
            break
    import gc

    gc.collect()
    assert threading.active_count() == before


def test_a_second_ctrl_c_leaves_silent_threads_behind() -> None:
    """KeyboardInterrupt while waiting for results does not wait for the threads."""
    go_on = threading.Event()
    checks: list[int] = []

    def stopping() -> bool:
        checks.append(1)
        if len(checks) == 3:  # the pool's threads hang now
            raise KeyboardInterrupt
        return False

    def work(n: int) -> int:
        if n:
            go_on.wait(30)
        if n > 2:
            raise CancelledError
        return n

    results = run_parallel(range(3), work, 2, stopping)
    assert next(results)[0] == 0
    checks.append(1)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert not go_on.is_set()
    finally:
        go_on.set()


def surroundings(jobs: int, cancel: Callable[[], None] = lambda: None) -> Any:
    return SimpleNamespace(jobs=jobs, session=SimpleNamespace(cancel=cancel))


def test_lists_are_asked_for_together() -> None:
    """Two that meet at a barrier; their results in order."""
    barrier = threading.Barrier(2, timeout=10)

    def work(name: str) -> str:
        barrier.wait()
        return name

    assert run_together(surroundings(2), lambda: work("a"), lambda: work("b")) == ("a", "b")


def test_one_job_asks_one_list_after_the_other() -> None:
    """In this thread, in order."""
    threads = []

    def work(n: int) -> int:
        threads.append(threading.current_thread())
        return n

    assert run_together(surroundings(1), lambda: work(1), lambda: work(2), lambda: work(3)) == (
        1,
        2,
        3,
    )
    assert set(threads) == {threading.main_thread()}


def test_a_list_that_fails_fails_all_and_leaves_no_thread() -> None:
    """Why is told."""
    before = threading.active_count()

    def fail(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="^one$"):
        run_together(surroundings(4), lambda: 0, lambda: fail("one"), lambda: 0)
    assert threading.active_count() == before


def test_a_list_that_fails_has_the_others_wait_no_longer() -> None:
    """They may wait for the quota, an hour or more; the error is told at once."""
    cancelled = threading.Event()

    def waits() -> None:
        assert cancelled.wait(10)
        raise CancelledError

    def fail() -> None:
        raise ValueError("no permission")

    with pytest.raises(ValueError, match="no permission"):
        run_together(surroundings(4, cancelled.set), waits, fail)
