"""What became of each meter of a download, and what is said of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from copper_cli.config import limit_text
from copper_cli.jobs.context import Context
from copper_cli.records import LATE_S, Window

State = Literal["fetched", "kept", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One meter or gateway after its download."""

    subject: str
    """Its id."""
    state: State
    """`kept`: an earlier run had fetched it."""
    file: str | None = None
    """Name of its file in the folder; None where there is none."""
    rows: int = 0
    """Rows in the file."""
    to_come: int = 0
    """Rows whose bucket is still to be filled."""
    first_to_come: int | None = None
    """From this instant on (seconds since 1970 UTC) asking again may bring more; None: never."""
    sum_energy: float | None = None
    """The cloud's sum over the range, in the standard unit."""
    reason: str | None = None
    """Why it failed."""
    lasting: bool = False
    """Asking again would fail for the same reason."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Calls that a job needs."""

    calls: int
    """In all."""
    cached: int
    """Of them, those that the cache answers."""
    drafted: int = 0
    """Of them, those that an unfinished run was answered."""

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.calls + other.calls, self.cached + other.cached, self.drafted + other.drafted
        )


def summarise(
    context: Context, outcomes: Sequence[Outcome], calls_before: int, *, noun: str, folder: Path
) -> dict[str, Any]:
    """The facts of a whole download, as JSON shows them and the last lines say them."""
    # A meter that could not be had is said once, however many files it was to be.
    failed = Counter((o.subject, o.reason, o.lasting) for o in outcomes if o.state == "failed")
    return {
        "noun": noun,
        "folder": str(folder),
        "complete": not failed,
        "done": sum(1 for o in outcomes if o.state in ("fetched", "kept")),
        "kept": sum(1 for o in outcomes if o.state == "kept"),
        "empty": sum(1 for o in outcomes if o.state == "empty"),
        "to_come": sum(o.to_come for o in outcomes),
        "failed": [
            tell_failure(i, r, lasting) | {"files": n} for (i, r, lasting), n in failed.items()
        ],
        "files": sum(1 for o in outcomes if o.file and o.state in ("fetched", "kept")),
        "calls": context.session.calls_used - calls_before,
        "quota_left": quota_left(context),
    }


def tell_failure(subject: str, reason: str | None, lasting: bool) -> dict[str, Any]:
    """One failure as JSON shows it; `lasting` stands there only where it is true."""
    return {"id": subject, "reason": reason} | ({"lasting": True} if lasting else {})


def open_from(context: Context, window: Window) -> int | None:
    """From when on asking again may bring more: now, where the window has not ended long ago.

    What meters send may reach the cloud late.
    """
    now_s = context.now()
    return int(now_s) if window.end_utc.timestamp() > now_s - LATE_S else None


def quota_left(context: Context) -> dict[str, int]:
    """Calls left of each limit, by its text: `100/h`."""
    usage = context.session.quota_usage()
    return {limit_text(one.limit): one.left for one in usage.limits}
