"""What is shown on stderr while a job runs, by a clock that is set by hand."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine

from copper_cli.cli import bar, pace, progress, running
from copper_cli.cli.progress import Shown, Watcher
from copper_cli.cloud.events import CallDone, QuotaWait, Retrying, Warned
from copper_cli.config import Limit
from copper_cli.errors import LocalError
from copper_cli.table import Column, Table

from .conftest import NOW, Copper
from .terminal import Terminal

CALL = CallDone("meter/usage", 200, 0.125, False)
HOUR, DAY = Limit(100, 3600), Limit(1000, 86400)


class Clock:
    """Set by hand; when it goes on, a watcher's ticker does what is due."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._tickers: list[ByHand] = []
        self._wall = time_machine.travel(NOW.timestamp(), tick=False)
        self._coordinates = self._wall.start()

    def go_on(self, seconds: float) -> None:
        """Second by second, or to the next instant where something is due."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            dues = [t.due_s for t in self._tickers if t.due_s > self.now_s]
            self._set(min([until_s, self.now_s + 1, *dues]))
            for ticker in list(self._tickers):
                ticker.look(self.now_s)

    def _set(self, now_s: float) -> None:
        self._coordinates.shift(now_s - self.now_s)
        self.now_s = now_s

    def make_ticker(self, work: Callable[[], float], last: Callable[[], None]) -> ByHand:
        return ByHand(self, work, last)

    def close(self) -> None:
        self._wall.stop()


class ByHand:
    """A ticker without a thread."""

    def __init__(self, clock: Clock, work: Callable[[], float], last: Callable[[], None]) -> None:
        self._clock, self._work, self.end_work = clock, work, last
        self.due_s = clock.now_s

    def start(self) -> None:
        self._clock._tickers.append(self)
        self.look(self._clock.now_s)

    def look(self, now_s: float) -> None:
        if now_s >= self.due_s:
            again_s = self._work()
            assert again_s > 0, "it would never sleep"
            self.due_s = now_s + again_s

    def end(self) -> None:
        self._clock._tickers.remove(self)
        self.end_work()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    for module in (progress, pace):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now_s))
    monkeypatch.setattr(progress, "_Ticker", made.make_ticker)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the terminal's columns, and rows."""

    def set_size(columns: int, rows: int = 24) -> None:
        measured = os.terminal_size((columns, rows))
        monkeypatch.setattr(os, "get_terminal_size", lambda *a: measured)

    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("LINES", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    set_size(100)
    return set_size


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What was written to stderr since; nothing may be written to stdout."""
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def wait(seconds: int, limit: Limit) -> QuotaWait:
    return QuotaWait(datetime.now(UTC) + timedelta(seconds=seconds), limit.calls, limit)


# Without a terminal


def test_without_a_terminal_a_line_a_minute(capsys: Any, clock: Clock) -> None:
    """In a log nothing moves: each minute what is done, the calls, the scarcest of the quota."""
    watcher = Watcher("meter usage")
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 412)])
    watcher.start("meters", 1200)
    for _ in range(414):
        watcher.note(CALL)
    for _ in range(412):
        watcher.advance()
    clock.go_on(59)
    assert told(capsys) == ""
    clock.go_on(1)
    assert told(capsys) == (
        "2022-03-28T12:01:00-06:00 copper meter usage: "
        "412 of 1200 meters, 414 calls, 86 left this hour\n"
    )
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 1)])
    for _ in range(100):
        watcher.advance()
    clock.go_on(60)
    assert told(capsys).endswith(": 512 of 1200 meters, 414 calls, 1 left today\n")
    clock.go_on(59)
    watcher.stop()
    assert told(capsys) == ""


def test_a_call_that_hangs_is_not_silent(capsys: Any, clock: Clock) -> None:
    """A line a minute though nothing at all happens in the program, in every phase."""
    watcher = Watcher("premise")
    watcher.start("", 0, "reading lists")
    watcher.note(CALL)
    clock.go_on(180)
    lines = told(capsys).splitlines()
    assert [line.split()[0][11:19] for line in lines] == ["12:01:00", "12:02:00", "12:03:00"]
    assert {line.partition(" ")[2] for line in lines} == {"copper premise: reading lists, 1 call"}
    clock.go_on(30)
    watcher.start("files", 12, "zipping")
    clock.go_on(30)
    assert told(capsys).endswith("premise: zipping, 0 of 12 files, 1 call\n")


def test_a_wait_for_the_quota_is_told_in_words(capsys: Any, clock: Clock) -> None:
    """At once, and then in place of the line a minute: never two within a minute."""
    watcher = Watcher("meter usage")
    watcher.start("meters", 12)
    clock.go_on(30)
    for second in range(121):
        watcher.note(wait(1087 - second, HOUR))
        clock.go_on(1)
    first, then, last = told(capsys).splitlines()
    assert first == (
        "Quota spent: 100 of 100 calls this hour. Waiting until 12:18 (0:18:07 to go) for the "
        "next call. Ctrl-C is safe: the same command goes on from here."
    )
    assert "(0:17:07 to go)" in then
    assert "(0:16:07 to go)" in last
    clock.go_on(60)
    assert "copper meter usage: 0 of 12 meters" in told(capsys)


def test_a_run_of_a_day_has_a_line_an_hour(capsys: Any, clock: Clock) -> None:
    """Also while it waits for the quota, which it says at once."""
    watcher = Watcher("sync")
    watcher.line_every_s = 3600.0
    watcher.start("meters", 900)
    clock.go_on(3599)
    assert told(capsys) == ""
    clock.go_on(1)
    assert told(capsys).endswith("copper sync: 0 of 900 meters, 0 calls\n")
    for second in range(3600):
        watcher.note(wait(9000 - second, HOUR))
        clock.go_on(1)
    assert len(told(capsys).splitlines()) == 1


# On a terminal


class Screen:
    """The terminal that a test's stderr is."""

    def __init__(self, columns: int, capsys: pytest.CaptureFixture[str]) -> None:
        self.terminal = Terminal(columns)
        self._capsys = capsys

    @property
    def rows(self) -> list[str]:
        """What is seen now. The cursor is never hidden: nothing has to bring it back."""
        text = told(self._capsys)
        self.terminal.feed(text)
        assert "\x1b[?25" not in text
        return self.terminal.rows


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Screen:
    return Screen(100, capsys)


def bar_and_words(row: str) -> tuple[int, str]:
    """The cells of the bar, and what stands behind."""
    words = row.lstrip("━╸╺ ")
    return len(row) - len(words) - 2, words


def test_a_bar_after_two_seconds_that_goes_away(screen: Screen, clock: Clock) -> None:
    """Not before: short commands show none. It moves by itself, and at the end it is wiped."""
    watcher = Watcher("meter usage", color=True)
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 412)])
    clock.go_on(10)  # a password manager may take its time
    watcher.start("meters", 12)
    watcher.advance()
    watcher.note(CALL)
    clock.go_on(1.75)
    assert screen.rows == [""]
    clock.go_on(0.25)
    assert screen.rows == ["━━╸━━━━━━━━━━━━━━━━━━━━━━━━━━━  1/12 meters  1 call  86/h 412/d left  0:00:22 to go"]  # fmt: skip
    clock.go_on(1)
    assert screen.rows[0].endswith("  0:00:33 to go")
    watcher.stop()
    assert screen.rows == [""]
    assert screen.terminal.cursor == (0, 0)
    watcher.note(CALL)
    watcher.stop()
    clock.go_on(10)
    assert screen.rows == [""]


def test_nothing_heavy_before_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """rich costs a tenth of a second: who is done in two seconds does not pay it."""
    monkeypatch.delitem(sys.modules, "copper_cli.cli.bar")
    monkeypatch.delattr("copper_cli.cli.bar")
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    clock.go_on(1.75)
    assert "copper_cli.cli.bar" not in sys.modules
    clock.go_on(0.25)
    assert "copper_cli.cli.bar" in sys.modules
    watcher.stop()


def test_nothing_heavy_without_a_terminal(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A log needs no bar, however long it takes."""
    monkeypatch.delitem(sys.modules, "copper_cli.cli.bar")
    monkeypatch.delattr("copper_cli.cli.bar")
    watcher = Watcher("x", color=False)
    watcher.start("meters", 12)
    clock.go_on(600)
    assert "copper_cli.cli.bar" not in sys.modules


def test_lines_stay_above_the_bar(screen: Screen, clock: Clock) -> None:
    """Also long ones, which the terminal wraps; what could steer a terminal is shown instead."""
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    clock.go_on(2)
    watcher.say("told\x1b[2J")
    watcher.say("long" * 30)
    assert screen.rows[:3] == ["told\\x1b[2J", "long" * 25, "long" * 5]
    assert bar_and_words(screen.rows[3]) == (30, "0/12 meters  0 calls  0:00:02")
    watcher.stop()
    watcher.say("after\x1b[2J")
    assert screen.rows == ["told\\x1b[2J", "long" * 25, "long" * 5, "after\\x1b[2J"]


def test_lines_have_no_colours(clock: Clock, capsys: Any) -> None:
    """Above a bar they are what they are without one."""
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    clock.go_on(2)
    told(capsys)
    watcher.say("07:1 failed: [red]'x'[/red] 2020-12-22 True :smile:")
    assert "\x1b[J\r07:1 failed: [red]'x'[/red] 2020-12-22 True :smile:\n" in told(capsys)
    watcher.stop()


def test_phases_follow_each_other_in_one_bar(screen: Screen, clock: Clock) -> None:
    """Three of a second each are three seconds: the run counts, not the phase."""
    watcher = Watcher("dump", color=True)
    for phase in ("reading lists", "checking generated/", "zipping"):
        watcher.start("files", 3 if phase == "zipping" else 0, phase)
        clock.go_on(1)
    assert bar_and_words(screen.rows[0]) == (30, "zipping  0/3 files  0 calls  0:00:01")
    watcher.stop()


def test_a_phase_without_an_end_still_moves(screen: Screen, clock: Clock, capsys: Any) -> None:
    """Nobody knows how long a list is: the time goes on, and a wave of colours runs in the bar."""
    watcher = Watcher("premise", color=True)
    watcher.start("", 0, "reading lists")
    clock.go_on(2)
    text = told(capsys)
    assert len(set(re.findall(r"\x1b\[[0-9;]+m━", text))) > 1
    screen.terminal.feed(text)
    first = screen.rows[0]
    clock.go_on(1)
    assert bar_and_words(first) == (30, "reading lists  0 calls  0:00:02")
    assert bar_and_words(screen.rows[0]) == (30, "reading lists  0 calls  0:00:03")
    watcher.stop()


def test_a_wait_on_a_terminal_counts_down_in_place(
    screen: Screen, size: Callable[[int], None], clock: Clock
) -> None:
    """Below the bar, whole, in rows of its own; it goes when it is over. Windows have words."""
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    for second in range(3):
        watcher.note(wait(10 - second, DAY))
        clock.go_on(1)
    assert screen.rows[1:] == [
        "Quota spent: 1000 of 1000 calls today. Waiting until 12:00 (0:00:07 to go) for the next call.",
        "Ctrl-C is safe: the same command goes on from here.",
    ]
    watcher.note(wait(2, Limit(20, 10)))
    clock.go_on(1)
    assert screen.rows[1].startswith("Quota spent: 20 of 20 calls in 10 s. Waiting until")
    assert "(0:00:01 to go)" in screen.rows[1]
    clock.go_on(1)
    assert len(screen.rows) == 1
    watcher.note(wait(100, HOUR))
    clock.go_on(3)  # and was not heard of again: it ended early
    assert len(screen.rows) == 1
    watcher.stop()
    assert screen.rows == [""]


@pytest.mark.parametrize("columns", [1, 5, 12, 20, 40, 41, 80, 200])
def test_a_narrow_terminal_keeps_no_rubbish(
    columns: int, size: Callable[[int], None], capsys: Any, clock: Clock
) -> None:
    """No row is so full that the terminal would wrap it, and all of them are wiped."""
    size(columns)
    screen = Screen(columns, capsys)
    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 412)])
    watcher.start("files", 12000, "checking a folder of a long name/")
    for second in range(6):
        if second > 2:
            watcher.note(wait(100 - second, HOUR))
        clock.go_on(1)
        assert all(len(row) <= max(columns - 4, 1) for row in screen.rows)
    watcher.say("told")
    watcher.stop()
    assert "".join(screen.rows) == "told"


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (96, "5/12 meters  7 calls  86/h 412/d left  0:00:33 to go"),
        (52, "5/12 meters  7 calls  86/h 412/d left  0:00:33 to go"),
        (51, "5/12 meters  7 calls  0:00:33 to go"),
        (36, "5/12 meters  7 calls  0:00:33 to go"),
        (34, "5/12 meters  0:00:33 to go"),
        (20, "5/12 meters  7 calls"),
        (12, "5/12 meters"),
        (8, "7 calls"),
        (2, ""),
    ],
)
def test_the_least_wanted_is_left_out_first(width: int, words: str) -> None:
    """What is done, then the phase, the time, the calls, what is left: each whole or not at all."""
    shown = Shown("", "meters", 5, 12, 7, [(HOUR, 86), (DAY, 412)], 20, 33, "")
    assert bar.choose_words(shown, width) == words


@pytest.mark.parametrize(
    ("done", "calls", "left", "free_s", "to_go"),
    [
        (0, 0, 100, 0, None),  # nothing is known yet
        (10, 10, 90, 0, 90),  # 90 more as fast as the ten
        (10, 10, 89, 3540, 3540),  # the last of 90 calls comes free in an hour
        (10, 0, 0, 3540, 90),  # answered by the cache
        (100, 100, 0, 3540, None),  # nothing is left to do
    ],
)
def test_time_to_go_knows_the_quota(
    screen: Screen, clock: Clock, done: int, calls: int, left: int, free_s: int, to_go: int | None
) -> None:
    """As fast as up to now, ten in ten seconds; no faster than calls come free."""
    asked = []

    def free_at(more: int) -> float:
        asked.append(more)
        return datetime.now(UTC).timestamp() + free_s

    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, left)], free_at)
    watcher.start("meters", 100)
    for _ in range(done):
        watcher.advance()
    for _ in range(calls):
        watcher.note(CALL)
    clock.go_on(10)
    assert watcher.look().to_go_s == to_go
    assert set(asked) <= {90}
    shown = f"0:{(to_go or 10) // 60:02d}:{(to_go or 10) % 60:02d}" + " to go" * (to_go is not None)
    assert screen.rows[0].endswith(shown)
    watcher.stop()


def test_time_to_go_is_never_less_than_the_wait_below_it(screen: Screen, clock: Clock) -> None:
    """Whatever is known of the ledger. An hour of waiting does not make the work any slower."""
    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 0)])
    watcher.start("meters", 200)
    for _ in range(100):
        watcher.note(CALL)
        watcher.advance()
    clock.go_on(10)
    for second in range(3590):
        watcher.note(wait(3590 - second, HOUR))
        clock.go_on(1)
        if second % 600 == 0:
            left = f"{(3589 - second) // 60 % 60:02d}:{(3589 - second) % 60:02d} to go"
            assert screen.rows[0].endswith(f"0:{left}")
            assert f"(0:{left})" in " ".join(screen.rows[1:])
    for _ in range(10):
        watcher.note(CALL)
        watcher.advance()
    clock.go_on(1)
    assert watcher.look().to_go_s == 10  # 110 in 12 seconds of work
    watcher.stop()


def test_a_long_job_asks_the_ledger_for_no_more_than_it_can_tell(clock: Clock) -> None:
    """A million calls at 1000 a day: the first 5000 from the ledger, the rest by the rate."""
    asked = []

    def free_at(more: int) -> float:
        asked.append(more)
        return datetime.now(UTC).timestamp() + 4 * 86400

    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 412)], free_at)
    watcher.start("meters", 1_000_001)
    watcher.advance()
    watcher.note(CALL)
    clock.go_on(2)
    assert asked == [5000]
    assert watcher.look().to_go_s == 4 * 86400 + 995 * 86400
    watcher.stop()


def test_a_ledger_that_takes_long_to_tell_is_asked_less_often(clock: Clock) -> None:
    """No more than a fiftieth of the time: 200 ms a second would slow the work."""
    asked = []

    def free_at(more: int) -> float:
        asked.append(clock.now_s)
        clock.now_s += 0.2
        return datetime.now(UTC).timestamp() + 7000

    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 0)], free_at)
    watcher.start("meters", 200)
    watcher.advance()
    watcher.note(CALL)
    clock.go_on(25)
    assert len(asked) == 3
    assert all(b - a >= 10 for a, b in pairwise(asked))
    watcher.stop()


def test_a_ledger_that_fails_costs_the_estimate_only(screen: Screen, clock: Clock) -> None:
    """Who makes the next call is told of it; the bar goes on with the pace."""

    def free_at(more: int) -> float:
        raise LocalError("The ledger of calls is gone.")

    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 0)], free_at)
    watcher.start("meters", 3)
    watcher.advance()
    watcher.note(CALL)
    clock.go_on(4)
    assert screen.rows[0].endswith("0/h left  0:00:08 to go")
    watcher.stop()


@pytest.mark.parametrize("reflow", [True, False])
@pytest.mark.parametrize("sizes", [(60,), (40, 30, 100), (20,), (200, 50), (99, 98, 97, 96, 95)])
def test_a_resize_leaves_no_stray_line(
    screen: Screen, size: Callable[[int], None], clock: Clock, sizes: tuple[int, ...], reflow: bool
) -> None:
    """Terminals wrap a row anew or cut it: only what was said before and one bar is seen."""
    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: [(HOUR, 86), (DAY, 412)])
    watcher.start("meters", 12)
    clock.go_on(2)
    watcher.say("told before")
    for columns in sizes:
        watcher.note(wait(100, HOUR))
        clock.go_on(1)
        assert screen.rows[0] == "told before"
        screen.terminal.resize(columns, reflow=reflow)
        size(columns)
        clock.go_on(0.25)
        seen = screen.rows
        assert seen[0] == "told before"
        assert sum("0/12 meters" in row for row in seen) == 1
        assert " ".join(seen).count("Quota spent") == 1
        assert all(len(row) < columns for row in seen[1:])
    watcher.stop()
    assert screen.rows == ["told before"]


def test_a_terminal_of_few_rows_keeps_no_rubbish(
    screen: Screen, size: Callable[..., None], clock: Clock
) -> None:
    """What does not fit is left out: rows that scrolled away could not be wiped."""
    size(30, 3)
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    for second in range(3):
        watcher.note(wait(100 - second, HOUR))
        clock.go_on(1)
    assert len(screen.rows) == 2
    watcher.stop()


def test_the_quota_is_asked_for_once_a_second(clock: Clock) -> None:
    """However often a bar is drawn and whatever happens; in a log once a line. So is the rest."""
    asked, foreseen = [], []

    def peek() -> list[tuple[Limit, int]]:
        asked.append(clock.now_s)
        return [(HOUR, 0)]

    def free_at(more: int) -> float:
        foreseen.append(clock.now_s)
        return datetime.now(UTC).timestamp() + 3600

    for color, seconds, most in ((True, 10, 9), (False, 180, 3)):
        watcher = Watcher("x", color=color)
        watcher.watch_quota(peek, free_at)
        watcher.start("meters", 1000)
        for _ in range(seconds):
            for _ in range(20):
                watcher.note(CALL)
                watcher.advance()
                watcher.look()
            clock.go_on(1)
        watcher.stop()
        assert 1 < len(asked) <= most
        assert foreseen == (asked if color else [])
        asked.clear()
        foreseen.clear()


def test_a_quota_that_nobody_can_tell_is_not_shown(screen: Screen, clock: Clock) -> None:
    """The ledger is locked for a moment: the rest of the line stays."""
    watcher = Watcher("x", color=True)
    watcher.watch_quota(lambda: None if clock.now_s > 104 else [(HOUR, 86)])
    watcher.start("meters", 12)
    clock.go_on(3)
    assert "86/h left" in screen.rows[0]
    clock.go_on(3)
    assert bar_and_words(screen.rows[0])[1] == "0/12 meters  0 calls  0:00:06"
    watcher.stop()


def test_a_terminal_that_cannot_draw_gets_dashes(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Where stderr has no heavy line, the bar has none either."""
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", ascii_only)
    watcher = Watcher("x", color=True)
    watcher.start("meters", 2)
    watcher.advance()
    clock.go_on(2)
    watcher.stop()
    ascii_only.seek(0)
    assert "-------------" in ascii_only.read()


# Whose wishes count


@pytest.mark.parametrize(
    ("no_color", "color", "coloured"),
    [("1", None, False), ("", None, True), (None, None, True), ("1", True, True)],
)
def test_no_color_takes_the_colours_and_leaves_the_bar(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    screen: Screen,
    clock: Clock,
    no_color: str | None,
    color: bool | None,
    coloured: bool,
) -> None:
    """A bar is no colour. An empty NO_COLOR says nothing; --color goes before it."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    watcher = Watcher("x", color=color)
    watcher.start("meters", 12)
    for _ in range(6):
        watcher.advance()
    clock.go_on(3)
    text = told(capsys)
    assert bool(re.search(r"\x1b\[[0-9;]*m", text)) is coloured
    screen.terminal.feed(text)
    rest = "╺━━━━━━━━━━━━━━" if coloured else "───────────────"
    assert screen.rows[0].startswith("━━━━━━━━━━━━━━━" + rest + "  ")
    assert "6/12 meters  0 calls  0:00:03 to go" in screen.rows[0]
    watcher.stop()
    assert screen.rows == [""]


@pytest.mark.parametrize(
    ("terminal", "color", "term", "moving"),
    [
        (True, None, "xterm", True),
        (False, None, "xterm", False),
        (True, False, "xterm", False),  # --no-color asks for lines that stay
        (True, True, "dumb", False),  # which could not go back a line
    ],
)
def test_what_moves_is_shown_where_it_can(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    clock: Clock,
    terminal: bool,
    color: bool | None,
    term: str,
    moving: bool,
) -> None:
    """On a terminal that can go back a line, unless --no-color is given."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    watcher = Watcher("x", color=color)
    watcher.start("meters", 12)
    clock.go_on(3)
    assert bool(told(capsys)) is moving
    watcher.stop()


def test_warnings_are_for_everybody(capsys: Any) -> None:
    """As the sentence that they are."""
    watcher = Watcher("x")
    for event in (CALL, Retrying("the cloud answered 500", 0.5), Warned("The token is not kept.")):
        watcher.note(event)
    assert told(capsys) == "The token is not kept.\n"


def test_debug_tells_each_call(capsys: Any) -> None:
    """What, how it ended, how long it took; from the cache; a retry and its wait."""
    watcher = Watcher("x", debug=True)
    watcher.note(CALL)
    watcher.note(CallDone("premise", 200, 0.0, True))
    watcher.note(CallDone("premise", None, 60.0, False))
    watcher.note(Retrying("the cloud answered 500", 0.5))
    watcher.note(Warned("Careful."))
    assert told(capsys).splitlines() == [
        "meter/usage: 200 after 0.12 s",
        "premise: from the cache",
        "premise: no answer after 60.00 s",
        "the cloud answered 500; trying again in 0.5 s",
        "Careful.",
    ]


def test_calls_are_counted_from_every_thread() -> None:
    """None is lost; what the cache answers is none, nor is a token, which costs no quota."""
    watcher = Watcher("x")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [watcher.note(CALL) for _ in range(2000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    watcher.note(CallDone("premise", 200, 0.0, True))
    watcher.note(CallDone("token", 200, 0.5, False))
    assert watcher.look().calls == 8000


# The ticker's thread


def tickers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "copper-progress"]


def test_the_ticker_ends_when_told() -> None:
    """At once though it sleeps for an hour; what is last is done in its thread, then it is gone."""
    looked, done_by = threading.Event(), []
    ticker = progress._Ticker(
        lambda: looked.set() or 3600.0, lambda: done_by.append(threading.current_thread())
    )
    ticker.start()
    (thread,) = tickers()
    assert thread.daemon
    assert looked.wait(10)
    ticker.end()
    assert done_by == [thread]
    assert tickers() == []


def test_a_ticker_that_cannot_write_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log on a full disk must not stop the download; pytest fails for a thread's traceback."""
    ended = threading.Event()

    def work() -> float:
        raise OSError(28, "No space left on device")

    ticker = progress._Ticker(work, ended.set)
    ticker.start()
    assert ended.wait(10)
    ticker.end()


def test_no_thread_stays_behind(cloud: Any, copper: Copper) -> None:
    """However a run ends: well, with an error, or with help."""
    assert copper("premise").code == 0
    assert copper("meter", "usage", "2021-03-01", "2021-03-02", "--meter-id", "no").code == 2
    assert copper("meter", "--help").code == 0
    assert tickers() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_line_does_not_hang() -> None:
    """The child has the locks of threads that it does not have: it gets new ones."""
    watcher = Watcher("x")
    with watcher._screen_lock, watcher._count_lock:
        child = os.fork()
        if not child:
            free = watcher._screen_lock.acquire(timeout=5) and watcher._count_lock.acquire(
                timeout=5
            )
            os._exit(0 if free and watcher._ticker is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# In a run


class Told(Watcher):
    """Keeps the phases that it is told of, with what was done in each."""

    phases: list[list[Any]] = []  # noqa: RUF012 - one run a test

    def start(self, noun: str, total: int, phase: str = "") -> None:
        self.phases.append([phase or noun, total, 0])
        super().start(noun, total, phase)

    def advance(self) -> None:
        self.phases[-1][2] += 1
        super().advance()


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    monkeypatch.setattr(progress, "Watcher", Told)
    monkeypatch.setattr(Told, "phases", [])
    return Told.phases


def test_nothing_slow_in_silence(cloud: Any, copper: Copper, phases: list[list[Any]]) -> None:
    """Each part of a dump is a phase of its own: two days of four meters, eight files of theirs."""
    assert copper("dump", "foo", "2021-03-01", "2021-03-02", "hour").code == 0
    assert phases == [
        ["reading lists", 0, 0],
        ["checking foo/", 8, 8],
        ["meters", 4, 4],
        ["adding up", 2, 2],
        ["zipping", 10, 10],
        ["writing the table", 0, 0],
    ]
    phases.clear()
    assert copper("dump", "foo", "2021-03-01", "2021-03-02", "hour", "--dry-run").code == 0
    assert [name for name, *_ in phases] == [
        "reading lists",
        "checking foo/",
        "writing the table",
    ]


def test_reports_have_phases(cloud: Any, copper: Copper, phases: list[list[Any]]) -> None:
    """The bundle is zipped; a month is added up a meter, then a type of meter at a time."""
    assert copper("report", "partner", "acme").code in (0, 6)
    assert [name for name, *_ in phases] == [
        "reading lists",
        "zipping",
        "reading lists",
        "writing the table",
    ]
    assert phases[1] == ["zipping", 2, 2]
    phases.clear()
    assert copper("report", "monthly", "2021-03", "--include-per-meter-sum").code == 0
    assert [phase[0] for phase in phases] == [
        "reading lists",
        "meters",
        "adding up",
        "writing the table",
    ]
    assert all(total == done for _, total, done in phases[1:3])


def test_a_table_has_the_terminal_to_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """While it is laid out the bar goes on; it goes before stdout is written, unless to a file."""
    seen: list[tuple[str, bool]] = []

    class Out(io.StringIO):
        def write(self, text: Any) -> int:
            if text:  # click tries an empty one
                seen.append(("written", bool(tickers())))
            return super().write(text)

    class FileOut(Out):
        def fileno(self) -> int:
            return file.fileno()

    def lay_out(value: str) -> str:
        seen.append(("laid out", bool(tickers())))
        return value

    table = Table("T", [Column("A", "a", lay_out)], [["x"]])
    ctx: Any = SimpleNamespace(command_path="copper premise")
    values = {"color": True, "debug": False, "quiet": False, "raw_cells": False}
    values |= {"output_format": "table", "csv_output_file": None, "output_dir": None}
    monkeypatch.setattr(running, "program_values", lambda ctx: values)
    with (tmp_path / "out").open("w") as file:
        for out, with_bar in ((Out(), False), (FileOut(), True)):
            monkeypatch.setattr(sys, "stdout", out)
            with running.Run(ctx) as run:
                run.screen.show(table)
            assert tickers() == []
            assert (seen[0], seen[-1]) == (("laid out", True), ("written", with_bar))
            seen.clear()


def test_debug_shows_no_secret(cloud: Any, copper: Copper) -> None:
    """Each call on stderr, neither the token nor the client secret (the reference showed both)."""
    ended = copper("premise", "--debug", "--format", "json")
    assert ended.json["listed"] == 2
    assert [line.split(" after ")[0] for line in ended.err.splitlines()] == [
        "token: 200",
        "premise: 200",
    ]
    assert "sandbox-secret" not in ended.err
    assert datetime.now(UTC) > NOW
