"""What a person sees on stderr while a job runs: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from copper_cli.cli.pace import Pace

if TYPE_CHECKING:
    from copper_cli.cli.bar import Bar
    from copper_cli.cloud.events import CallDone, QuotaWait, Retrying, Warned
    from copper_cli.config import Limit

_BAR_AFTER_S = 2.0
_REDRAW_S = 0.25
_PEEK_EVERY_S = 1.0
_LINE_EVERY_S = 60.0
_PERIODS = {60: "this minute", 3600: "this hour", 86400: "today"}


@dataclass(frozen=True, slots=True)
class Shown:
    """How far a run is at one instant, in words."""

    phase: str
    """`zipping`; empty where the command's own name says it."""
    noun: str
    """What is counted."""
    done: int
    """So many of them."""
    total: int
    """Of so many; 0 where nobody knows."""
    calls: int
    """Requests of this run that the quota counts: retries too, those for a token not."""
    left: Sequence[tuple[Limit, int]]
    """What of the quota is left; empty where nobody can tell at once."""
    seconds: int
    """Since the phase began."""
    to_go_s: int | None
    """To the end of the phase; None before anything is done."""
    wait: str
    """The sentence that says until when the quota is waited for; empty where it is not."""

    def time(self) -> str:
        """The time to go; the time gone by where that is all one knows."""
        if self.to_go_s is None:
            return _duration(self.seconds)
        return f"{_duration(self.to_go_s)} to go"

    def line(self) -> str:
        """The state as a line of a log: `412 of 1200 meters, 414 calls, 86 left this hour`."""
        parts = [self.phase] if self.phase else []
        if self.total:
            parts.append(f"{self.done} of {self.total} {self.noun}")
        parts.append(count_calls(self.calls))
        if self.left:
            limit, left = min(self.left, key=lambda one: one[1])
            parts.append(f"{left} left {_period(limit)}")
        return ", ".join(parts)


class Watcher:
    """Progress on stderr, told of things done by jobs and of calls by the session.

    Its ticker shows it, so that neither a silent cloud nor a long computation stands still.
    Any thread may tell it of calls and say lines; one thread starts, advances and stops it.
    """

    def __init__(self, command: str, *, color: bool | None = None, debug: bool = False) -> None:
        # NO_COLOR takes the colours and leaves the bar; --no-color asks for lines that stay.
        # --quiet leaves the table out and --debug adds lines; neither says anything about
        # progress. A dumb terminal could not go back a line.
        moving = sys.stderr.isatty() if color is None else color
        self._moving = moving and os.environ.get("TERM") != "dumb"
        self._color = bool(color) or not os.environ.get("NO_COLOR")
        self.line_every_s = _LINE_EVERY_S
        """Where nothing moves, a line is written so often; for runs of a day less often."""
        self._command = command
        self._debug = debug
        self._peek: Callable[[], Sequence[tuple[Limit, int]] | None] = lambda: None
        self._phase, self._noun, self._total, self._done = "", "", 0, 0
        self._calls = 0
        self._pace = Pace()
        self._begun_s = time.monotonic()
        self._line_s = self._peeked_s = -math.inf
        self._left: Sequence[tuple[Limit, int]] = ()
        self._wait: QuotaWait | None = None
        self._renew()
        _watchers.add(self)

    def _renew(self) -> None:
        """New locks and no ticker: at first, and in the child of a fork, which has no threads."""
        self._count_lock = threading.Lock()
        self._screen_lock = threading.Lock()
        self._ticker: _Ticker | None = None
        self._bar: Bar | None = None

    def watch_quota(
        self,
        peek: Callable[[], Sequence[tuple[Limit, int]] | None],
        free_at: Callable[[int], float] | None = None,
    ) -> None:
        """`peek` tells what the quota has left, or None; it may neither raise nor wait long.

        `free_at` tells the time when so many more calls could all have been granted; without it
        the pace up to now is all that is known. Both are asked once a second at most.
        """
        self._peek = peek
        self._pace.watch_quota(free_at)

    def start(self, noun: str, total: int, phase: str = "") -> None:
        """`total` things called `noun` are to be done; 0: nobody knows how many."""
        from copper_cli.text import clean

        self._phase, self._noun, self._total, self._done = clean(phase), noun, total, 0
        self._pace.start(self._calls)
        if self._ticker is None:
            self._begun_s = time.monotonic()
            self._ticker = _Ticker(self._tick, self._end_bar)
            self._ticker.start()

    def advance(self) -> None:
        """One of them is done."""
        self._done += 1

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        from copper_cli.text import clean

        with self._screen_lock:
            if self._bar is not None:
                self._bar.say(clean(text))
            else:
                click.echo(clean(text), err=True)

    def stop(self) -> None:
        """Nothing goes on: the bar goes, lines stay. May be called again and at any time."""
        if self._ticker is not None:
            self._ticker.end()
            self._ticker = None

    def give_way(self) -> None:
        """Others write to the terminal now: no bar, while the lines of a log go on."""
        if self._moving:
            self.stop()

    def note(self, event: CallDone | Retrying | QuotaWait | Warned) -> None:
        """Something happened in the session: a call, a retry, a wait."""
        from copper_cli.cloud.events import CallDone, QuotaWait, Warned

        if isinstance(event, QuotaWait):
            self._wait = event
            self._pace.hear_wait()
            if not self._moving:
                self._write_line(since_s=-math.inf)
            return
        if (
            isinstance(event, CallDone)
            and event.counted
            and not event.from_cache
            and event.kind != "token"
        ):
            with self._count_lock:
                self._calls += 1
        if isinstance(event, Warned) or self._debug:
            self.say(_describe(event))

    def look(self) -> Shown:
        """How far it is. Takes no lock, so that whoever draws may ask at any time."""
        return Shown(
            phase=self._phase,
            noun=self._noun,
            done=min(self._done, self._total),
            total=self._total,
            calls=self._calls,
            left=self._left,
            seconds=int(self._pace.elapsed_s()),
            to_go_s=self._pace.to_go_s(
                self._done, self._total, self._wait.resume_at_utc if self._wait else None
            ),
            wait=self._describe_wait(),
        )

    def _describe_wait(self) -> str:
        wait = self._wait
        if wait is None or not self._pace.is_waiting():
            return ""
        until = wait.resume_at_utc.astimezone()
        left_s = round((until - datetime.now(UTC)).total_seconds())
        if left_s <= 0:
            return ""
        spent = f"Quota spent: {wait.used} of {wait.limit.calls} calls {_period(wait.limit)}. "
        return (
            ("The cloud asked to wait (429). " if wait.held else spent)
            + f"Waiting until {until:%H:%M} ({_duration(left_s)} to go) for the next call. "
            "Ctrl-C is safe: the same command goes on from here."
        )

    # What the ticker does

    def _tick(self) -> float:
        """Show how far it is where that is due; the seconds until it must look again."""
        now = time.monotonic()
        if not self._moving:
            return self._write_line(since_s=self._begun_s)
        if now < self._begun_s + _BAR_AFTER_S:
            return self._begun_s + _BAR_AFTER_S - now
        if now >= self._peeked_s + _PEEK_EVERY_S:
            self._peeked_s = now
            self._left = self._peek() or ()
            self._pace.ask_quota(self._done, self._total, self._calls, self._left)
        self._draw()
        return _REDRAW_S

    def _write_line(self, *, since_s: float) -> float:
        """A line of a log, where `since_s` and the last one are a minute ago; seconds to the next.

        It says the wait where there is one: a log, too, has a line a minute and no more (or as
        `line_every_s` says).
        """
        with self._screen_lock:
            now = time.monotonic()
            due_s = max(since_s, self._line_s) + self.line_every_s
            if now < due_s:
                return due_s - now
            self._line_s = now
            self._left = self._peek() or ()
            shown = self.look()
            stamp = datetime.now().astimezone().isoformat(timespec="seconds")
            text = shown.wait or f"{stamp} copper {self._command}: {shown.line()}"
            click.echo(text, err=True)
        return self.line_every_s

    def _draw(self) -> None:
        from copper_cli.cli.bar import Bar  # heavy: only where a bar is really drawn

        with self._screen_lock:
            if self._bar is None:
                self._bar = Bar(self.look, color=self._color)
            self._bar.draw()

    def _end_bar(self) -> None:
        with self._screen_lock:
            if self._bar is not None:
                self._bar.end()
                self._bar = None


class _Ticker:
    """A thread that does `work` again after as many seconds as it says, and `last` at the end.

    The bar is begun, drawn and ended in this one thread: Ctrl-C reaches the main thread alone,
    so that it can never leave half a line.
    """

    def __init__(self, work: Callable[[], float], last: Callable[[], None]) -> None:
        self._work = work
        self._last = last
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="copper-progress", daemon=True)

    def start(self) -> None:
        """Begin; `work` is done at once."""
        self._thread.start()

    def end(self) -> None:
        """Do `last`, and come back when that is done."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        # A terminal that is gone, or a log on a full disk: nobody is left to show it to.
        with suppress(OSError):
            try:
                while not self._ended.wait(self._work()):
                    pass
            finally:
                self._last()


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()


def _after_fork() -> None:
    for watcher in list(_watchers):
        watcher._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def count_calls(number: int) -> str:
    """`1 call`, `414 calls`."""
    return f"{number} call{'' if number == 1 else 's'}"


def describe_left(left: Sequence[tuple[Limit, int]]) -> str:
    """`86/h 412/d left`; empty where nothing is known."""
    from copper_cli.config import limit_text

    if not left:
        return ""
    return " ".join(limit_text(replace(limit, calls=calls)) for limit, calls in left) + " left"


def _period(limit: Limit) -> str:
    return _PERIODS.get(limit.period_s, f"in {limit.period_s} s")


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _describe(event: CallDone | Retrying | Warned) -> str:
    """One of the session's events for --debug; a warning for everybody."""
    from copper_cli.cloud.events import CallDone, Retrying

    match event:
        case CallDone(from_cache=True):
            return f"{event.kind}: from the cache"
        case CallDone():
            return f"{event.kind}: {event.status or 'no answer'} after {event.seconds:.2f} s"
        case Retrying():
            return f"{event.reason}; trying again in {event.wait_s:.1f} s"
        case _:
            return event.text
