"""How long the rest of a phase takes: no faster than up to now, nor than the quota grants."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from copper_cli.errors import CopperError

if TYPE_CHECKING:
    from copper_cli.config import Limit

WAIT_HEARD_S = 2.5
"""A wait is told of once a second; one not heard of for so long is over."""
_MOST_ASKED = 5000
"""Beyond so many calls the ledger's rate is all that matters: to go through each takes time."""
_ASK_SHARE = 50
"""The ledger is asked again after so many times what its answer took: a long one is dear."""


class Pace:
    """Measures the work of one phase after another. What is waited for the quota is no work."""

    def __init__(self) -> None:
        self._free_at: Callable[[int], float] | None = None
        self._begun_s = self._waited_s = 0.0
        self._calls_before = 0
        self._wait_heard_s = self._ask_after_s = -math.inf
        self._granted_s: float | None = None

    def watch_quota(self, free_at: Callable[[int], float] | None) -> None:
        """`free_at` tells the time when so many more calls could all have been granted."""
        self._free_at = free_at

    def start(self, calls: int) -> None:
        """A phase begins, after so many calls."""
        self._begun_s, self._calls_before = time.monotonic(), calls
        self._waited_s, self._granted_s = 0.0, None

    def hear_wait(self) -> None:
        """The quota is waited for just now."""
        now_s = time.monotonic()
        if self.is_waiting():
            self._waited_s += now_s - max(self._wait_heard_s, self._begun_s)
        self._wait_heard_s = now_s

    def is_waiting(self) -> bool:
        """True while a wait is heard of."""
        return time.monotonic() - self._wait_heard_s <= WAIT_HEARD_S

    def elapsed_s(self) -> float:
        """Since the phase began, waits too."""
        return time.monotonic() - self._begun_s

    def ask_quota(
        self, done: int, total: int, calls: int, left: Sequence[tuple[Limit, int]]
    ) -> None:
        """Find out when what is left to do can have been granted, at so many calls each as yet.

        `left` is what the limits grant at once; empty where that cannot be told.
        """
        now_s = time.monotonic()
        if self._free_at is None or not left or now_s < self._ask_after_s:
            return
        self._granted_s = None
        need = math.ceil((calls - self._calls_before) * _share(done, total))
        if need <= min(count for _, count in left):
            return
        beyond_s = max(need - _MOST_ASKED, 0) * max(one.period_s / one.calls for one, _ in left)
        try:
            self._granted_s = self._free_at(min(need, _MOST_ASKED)) + beyond_s
        except CopperError:  # whoever makes a call is told
            return
        finally:
            self._ask_after_s = now_s + _ASK_SHARE * (time.monotonic() - now_s)

    def to_go_s(self, done: int, total: int, resume_at_utc: datetime | None) -> int | None:
        """Seconds to the end of the phase; None before anything is done.

        `resume_at_utc` is when the wait that is on ends.
        """
        if not done or done >= total:
            return None
        now_s = datetime.now(UTC).timestamp()
        ends_s = [self._granted_s] if self._granted_s is not None else []
        if resume_at_utc is not None and self.is_waiting():
            ends_s.append(resume_at_utc.timestamp())
        work_s = (self.elapsed_s() - self._waited_s) * _share(done, total)
        return round(max(work_s, *(end_s - now_s for end_s in ends_s), 0.0))


def _share(done: int, total: int) -> float:
    """How much there is left to do, in what is done."""
    return max(total - done, 0) / done if done else 0.0
