"""What a session tells its caller while it works, and the clock it works by. Imports nothing heavy.

No event ever holds a token, a secret or a whole address.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from copper_cli.config import Limit


class Clock(Protocol):
    """Tells the time and waits; tests bring one that does not wait."""

    def now(self) -> float:
        """Seconds since 1970 UTC."""

    def sleep(self, seconds: float) -> None:
        """Come back after so many seconds."""


class SystemClock:
    """The computer's own clock. Ctrl-C ends a sleep in the main thread at once."""

    def now(self) -> float:
        """Seconds since 1970 UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Come back after so many seconds."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class CallDone:
    """An answer is there."""

    kind: str
    """What was asked, without ids: `meter/usage`, `premise`, `token`."""
    status: int | None
    """HTTP status; None where no answer came."""
    seconds: float
    """How long it took."""
    from_cache: bool
    """No request left this machine."""
    counted: bool = True
    """The quota counts it; not where nobody can have seen the request."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """A call failed in a way that may pass; it is tried again."""

    reason: str
    """What happened, as part of a sentence."""
    wait_s: float
    """Seconds until the next try."""


@dataclass(frozen=True, slots=True)
class QuotaWait:
    """No call is free. Sent when a wait begins and about once a second while it lasts."""

    resume_at_utc: datetime
    """When a call may be free; may move when others call too."""
    used: int
    """Calls counted in the window of `limit`."""
    limit: Limit
    """The limit that is spent, or nearest to it."""
    held: bool = False
    """None is spent: the cloud asked to wait (429)."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is not as it should be, and the work goes on."""

    text: str
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class RowsLeftOut:
    """An answer held rows far outside the span it was asked for; they are not used."""

    what: str
    """What was asked."""
    rows: int
    """How many."""


Event = CallDone | Retrying | QuotaWait | RowsLeftOut | Warned
