"""Ctrl-C while a job runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from copper_cli.folders.manifest import Question
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work import interrupt
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, Part, download_files
from copper_cli.work.fleet import ask_each
from copper_cli.work.held_rows import View
from copper_cli.work.interrupt import catch_interrupt
from copper_cli.work.outcome import Cost, Outcome


def test_the_first_asks_the_second_ends() -> None:
    """The first only calls and notes; the second is a KeyboardInterrupt at once."""
    calls: list[int] = []
    with catch_interrupt(lambda: calls.append(1)) as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert (interruption.requested, calls) == (True, [1])
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert calls == [1]


def test_what_takes_long_to_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who pressed Ctrl-C must not wonder; what ends at once needs no word."""
    monkeypatch.setattr(interrupt, "_SLOW_S", 0.01)
    told = threading.Event()
    with catch_interrupt(lambda: None, told.set):
        assert not told.wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert told.wait(10)
    monkeypatch.setattr(interrupt, "_SLOW_S", 60)
    told.clear()
    before = threading.active_count()
    with catch_interrupt(lambda: None, told.set):
        os.kill(os.getpid(), signal.SIGINT)
        (timer,) = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    timer.join(10)
    assert threading.active_count() == before
    assert not told.is_set()


def test_afterwards_the_signal_is_as_before() -> None:
    """Also when the job ended with an error."""
    before = signal.getsignal(signal.SIGINT)

    def job() -> None:
        with catch_interrupt(lambda: None):
            assert signal.getsignal(signal.SIGINT) is not before
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        job()
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_nothing_is_changed() -> None:
    """Signals reach the main thread alone; a job elsewhere still works."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def job() -> None:
        with catch_interrupt(lambda: None) as interruption:
            seen.append((interruption.requested, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_report_that_is_interrupted_is_none(
    make_context: Callable[..., Context], jobs: int
) -> None:
    """Its calls that wait are cancelled, and KeyboardInterrupt is raised, not half a sum."""
    with Sandbox(SandboxConfig(premises=1, now=datetime(2022, 3, 28, tzinfo=UTC))) as cloud:
        context = make_context(cloud, jobs=jobs)
        asked: Any = [(SimpleNamespace(id=str(n)), n) for n in range(50)]
        done: list[int] = []

        def ask(item: Any) -> float:
            if item[1] == 2:
                os.kill(os.getpid(), signal.SIGINT)
                raise CancelledError
            done.append(item[1])
            return 1.0

        with pytest.raises(KeyboardInterrupt):
            ask_each(context, asked, ask)
        assert len(done) < 50


def test_a_download_that_is_interrupted_keeps_what_is_done(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Ctrl-C in the third of five: two files are whole, the next run asks for three."""
    pressed: list[bool] = []
    fetched: list[int] = []

    def job(n: int) -> FileJob:
        def fetch() -> int:
            if n == 2 and not pressed:
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)
                raise CancelledError
            fetched.append(n)
            return n

        question = Question(command="x", start=str(date(2021, 1, 1)), end="2021-01-02")
        part = Part(
            f"f{n}.csv", question, lambda got: [f"{got}\r\n"], lambda got: Outcome("x", "fetched")
        )
        return FileJob(str(n), [], View(archive, ()), fetch, lambda: Cost(1), [part])

    with Sandbox(SandboxConfig(premises=1, now=datetime(2022, 3, 28, tzinfo=UTC))) as cloud:
        output, context = Output(tmp_path / "o"), make_context(cloud)
        archive = context.archive
        with pytest.raises(KeyboardInterrupt):
            download_files(context, output, [job(n) for n in range(5)])
        assert sorted(p.name for p in output.folder.glob("*.csv")) == ["f0.csv", "f1.csv"]
        outcomes = download_files(make_context(cloud), output, [job(n) for n in range(5)])
    assert [o.state for o in outcomes] == ["kept", "kept", "fetched", "fetched", "fetched"]
    assert fetched == [0, 1, 2, 3, 4]
