"""Ctrl-C: what is in hand is finished, nothing new is begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SLOW_S = 2.0


class Interruption:
    """Whether somebody pressed Ctrl-C since the job began."""

    def __init__(self, on_first: Callable[[], None], on_slow: Callable[[], None]) -> None:
        self.requested = False
        self._on_first = on_first
        # In a thread: a signal's handler must not wait for what the main thread may hold.
        self._timer = threading.Timer(_SLOW_S, on_slow)
        self._timer.daemon = True

    def request(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler: the first asks to end, the second ends at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._on_first()
        self._timer.start()

    def close(self) -> None:
        """It has ended."""
        self._timer.cancel()


@contextmanager
def catch_interrupt(
    on_first: Callable[[], None], on_slow: Callable[[], None] = lambda: None
) -> Iterator[Interruption]:
    """While inside, the first Ctrl-C (or SIGTERM) only calls `on_first` and sets `requested`.

    `on_slow` is called from a thread where two seconds later it is still inside. Signals reach
    the main thread alone; in any other nothing is changed.
    """
    interruption = Interruption(on_first, on_slow)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruption.request) for number in numbers}
    try:
        yield interruption
    finally:
        interruption.close()
        for number, handler in before.items():
            signal.signal(number, handler)
