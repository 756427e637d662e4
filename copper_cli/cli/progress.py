"""What a person sees on stderr while a job runs."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import datetime
from typing import Any

import click

_BAR_AFTER_S = 0.5
_LINE_EVERY_S = 60.0


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

    def note(self, event: Any) -> None:
        """Something happened in the session: a call, a retry, a wait."""
        with self._lock:
            kind = type(event).__name__
            if kind == "CallDone":
                self._calls += not event.from_cache
                self._draw()
            if kind in ("QuotaWait", "Warned") or self._debug:
                self.say(str(event))

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._total:
            return
        if self._moving:
            if now - self._started_s >= _BAR_AFTER_S:
                filled = 30 * self._done // self._total
                bar = "━" * filled + " " * (30 - filled)
                click.echo(f"\r{bar} {self._state()}  {self._left()}\x1b[K", err=True, nl=False)
                self._drawn = True
        elif now - self._last_s >= _LINE_EVERY_S:
            self._last_s = now
            stamp = datetime.now().astimezone().isoformat(timespec="seconds")
            click.echo(f"{stamp} copper {self._command}: {self._state()}", err=True)

    def _state(self) -> str:
        return f"{self._done}/{self._total} {self._noun}  {self._calls} calls"

    def _left(self) -> str:
        elapsed = time.monotonic() - self._started_s
        seconds = int(elapsed)
        if self._done:
            seconds = int(elapsed / self._done * (self._total - self._done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"

    def _wipe(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False
