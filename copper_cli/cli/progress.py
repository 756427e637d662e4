"""What a person sees on stderr while a job runs."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import click

_BAR_AFTER_S = 0.5
_LISTS_AFTER_S = 2.0
_LINE_EVERY_S = 60.0
_PERIODS = {60: "this minute", 3600: "this hour", 86400: "today"}


class Watcher:
    """Progress on stderr: a bar on a terminal, a line a minute elsewhere.

    It hears of things done from jobs and of calls from the session, from any thread.
    """

    def __init__(self, command: str, *, color: bool | None = None, debug: bool = False) -> None:
        moving = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        self._moving = moving if color is None else color
        self._command = command
        self._debug = debug
        self._lock = threading.RLock()
        self._noun, self._total, self._done = "", 0, 0
        self._calls = 0
        self._started_s = self._last_s = time.monotonic()
        self._drawn = False
        self._wait_said_s: float | None = None

    def start(self, noun: str, total: int) -> None:
        """`total` things called `noun` are to be done."""
        with self._lock:
            self._noun, self._total, self._done = noun, total, 0
            self._started_s = self._last_s = time.monotonic()

    def advance(self) -> None:
        """One of them is done."""
        with self._lock:
            self._done += 1
            self._draw()

    def say(self, text: str) -> None:
        """A line that stays."""
        from copper_cli.write.cells import clean

        with self._lock:
            self._wipe()
            click.echo(clean(text), err=True)

    def stop(self) -> None:
        """The bar goes; lines stay."""
        with self._lock:
            self._wipe()
            self._total = 0
            self._started_s = self._last_s = math.inf

    def note(self, event: Any) -> None:
        """Something happened in the session: a call, a retry, a wait."""
        with self._lock:
            kind = type(event).__name__
            if kind == "QuotaWait":
                self._show_wait(event)
                return
            if kind == "CallDone":
                self._calls += not event.from_cache
                self._draw()
            if kind == "Warned" or self._debug:
                self.say(_describe(event))

    def _show_wait(self, wait: Any) -> None:
        """One line that counts down on a terminal; elsewhere one now and then."""
        now = time.monotonic()
        due = self._wait_said_s is None or now - self._wait_said_s >= _LINE_EVERY_S
        if not (self._moving or due):
            return
        until = wait.resume_at_utc.astimezone()
        left_s = max(0, round((until - datetime.now(UTC)).total_seconds()))
        period = _PERIODS.get(wait.limit.period_s, f"in {wait.limit.period_s} s")
        text = (
            f"Quota spent: {wait.used} of {wait.limit.calls} calls {period}. "
            f"Waiting until {until:%H:%M} ({_duration(left_s)} to go) for the next call. "
            "Ctrl-C is safe: the same command goes on from here."
        )
        self._wait_said_s = now
        if self._moving:
            click.echo(f"\r{text}\x1b[K", err=True, nl=False, color=self._moving)
            self._drawn = True
        else:
            self.say(text)

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._moving:
            if now - self._last_s >= _LINE_EVERY_S:
                self._last_s = now
                stamp = datetime.now().astimezone().isoformat(timespec="seconds")
                click.echo(f"{stamp} copper {self._command}: {self._state()}", err=True)
            return
        if now - self._started_s < (_BAR_AFTER_S if self._total else _LISTS_AFTER_S):
            return
        text = f"{self._state()}  {_duration(int(now - self._started_s))}"
        if self._total:
            filled = 30 * self._done // self._total
            text = f"{'━' * filled}{' ' * (30 - filled)} {self._state()}  {self._left()}"
        click.echo(f"\r{text}\x1b[K", err=True, nl=False, color=True)
        self._drawn = True

    def _state(self) -> str:
        """How far it is; while lists are read nobody knows how long they are."""
        if not self._total:
            return f"{self._calls} calls"
        return f"{self._done}/{self._total} {self._noun}  {self._calls} calls"

    def _left(self) -> str:
        elapsed = time.monotonic() - self._started_s
        seconds = int(elapsed)
        if self._done:
            seconds = int(elapsed / self._done * (self._total - self._done))
        return f"{_duration(seconds)} left"

    def _wipe(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False, color=self._moving)
            self._drawn = False


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _describe(event: Any) -> str:
    """One of the session's events for --debug; a warning for everybody."""
    match type(event).__name__:
        case "CallDone" if event.from_cache:
            return f"{event.kind}: from the cache"
        case "CallDone":
            return f"{event.kind}: {event.status or 'no answer'} after {event.seconds:.2f} s"
        case "Retrying":
            return f"{event.reason}; trying again in {event.wait_s:.1f} s"
        case _:
            return str(event.text)
