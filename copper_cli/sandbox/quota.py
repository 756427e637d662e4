"""How many calls a client id may make: sliding windows, as the real cloud counts them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from threading import Lock


class Quota:
    """Sliding windows of calls for each client id; safe between threads.

    A window is (calls, seconds): a call is let through when fewer than `calls` calls were let
    through in the `seconds` before it. Instants are seconds of whatever clock the caller has.
    """

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        self._windows = tuple(windows)
        self._keep = max((calls for calls, _ in self._windows), default=0)
        self._lock = Lock()
        self._stamps: dict[str, deque[float]] = {}

    def admit(self, client: str, now_s: float) -> int | None:
        """None when the call is let through (and counted), else whole seconds to wait (≥ 1).

        A refused call is not counted.
        """
        with self._lock:
            stamps = self._stamps.setdefault(client, deque(maxlen=self._keep))
            waits = [
                stamps[-calls] + seconds - now_s
                for calls, seconds in self._windows
                if len(stamps) >= calls and stamps[-calls] > now_s - seconds
            ]
            if waits:
                return max(1, math.ceil(max(waits)))
            stamps.append(now_s)
            return None

    def release(self, client: str, now_s: float) -> None:
        """Takes back a call let through at `now_s`: one that was refused after all."""
        with self._lock:
            stamps = self._stamps.get(client)
            if stamps and now_s in stamps:
                stamps.remove(now_s)

    def clear(self) -> None:
        """Forgets every call."""
        with self._lock:
            self._stamps.clear()

    def used(self, now_s: float) -> dict[str, dict[str, int]]:
        """For each client id the calls counted in each window, named like `100/3600s`."""
        with self._lock:
            return {
                client: {
                    f"{calls}/{seconds}s": sum(1 for stamp in stamps if stamp > now_s - seconds)
                    for calls, seconds in self._windows
                }
                for client, stamps in self._stamps.items()
            }
