"""What became of each meter of a download, and what is said of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from copper_cli.config import limit_text
from copper_cli.filling import FINAL_S, TO_COME_S, Gap, Unfilled, span_gaps
from copper_cli.records import Meter, Window
from copper_cli.work.context import Context

State = Literal["fetched", "kept", "to come", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One meter or gateway after its download."""

    subject: str
    """Its id."""
    state: State
    """`kept`: an earlier run had fetched it. `to come`: nothing of it is there yet."""
    file: str | None = None
    """Name of its file in the folder; None where there is none."""
    rows: int = 0
    """Rows in the file."""
    gaps: Sequence[Gap] = ()
    """Its buckets without an amount, as the cloud has just answered."""
    unfilled: Unfilled = field(default_factory=Unfilled)
    """How many they are, by what they are called now; of an answer: those beyond the gaps, such as
    rows that could not be read."""
    whole: bool = True
    """False where, beyond its gaps and what is unfilled, something of an answer is null or may
    still come."""
    changed: int = 0
    """Rows that hold other values than before."""
    withdrawn: int = 0
    """Rows of which the cloud now has nothing, so that the earlier values stand."""
    sum_energy: float | None = None
    """What was used over the range, in the standard unit."""
    sum_from: str | None = None
    """Where that is from: see records.SumSource."""
    reason: str | None = None
    """Why it failed, or is empty."""
    lasting: bool = False
    """Asking again would fail for the same reason."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Calls that a job needs."""

    calls: int
    """In all, were nothing held yet."""
    cached: int = 0
    """Of them, those that the cache answers."""
    held: int = 0
    """Of them, those that the archive makes needless."""

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(self.calls + other.calls, self.cached + other.cached, self.held + other.held)


def summarise(
    context: Context, outcomes: Sequence[Outcome], calls_before: int, *, noun: str, folder: Path
) -> dict[str, Any]:
    """The facts of a whole download, as JSON shows them and the last lines say them."""
    # A meter that could not be had is said once, however many files it was to be.
    failed = Counter((o.subject, o.reason, o.lasting) for o in outcomes if o.state == "failed")
    unfilled = sum((o.unfilled for o in outcomes), Unfilled())
    return {
        "noun": noun,
        "folder": str(folder),
        "complete": not failed,
        "done": sum(1 for o in outcomes if o.state in ("fetched", "kept")),
        "kept": sum(1 for o in outcomes if o.state == "kept"),
        "empty": sum(1 for o in outcomes if o.state == "empty"),
        "empties": _list_empty(outcomes),
        "waiting": sum(1 for o in outcomes if o.state == "to come"),
        "to_come": unfilled.to_come,
        "late": unfilled.late,
        "missing": unfilled.missing,
        "changed": sum(o.changed for o in outcomes),
        "withdrawn": sum(o.withdrawn for o in outcomes),
        "unfilled": _list_unfilled(outcomes),
        "failed": [
            tell_failure(i, r, lasting) | {"files": n} for (i, r, lasting), n in failed.items()
        ],
        "files": sum(1 for o in outcomes if o.file and o.state in ("fetched", "kept")),
        "calls": context.session.calls_used - calls_before,
        "quota_left": quota_left(context),
    }


def _list_empty(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Whoever has nothing in the whole range, each once, with the reason where there is one."""
    found = {o.subject: o.reason for o in outcomes if o.state == "empty"}
    others = {o.subject for o in outcomes if o.state != "empty"}
    return [{"id": i, "reason": reason} for i, reason in found.items() if i not in others]


def _list_unfilled(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Whoever has late or missing buckets, the most first, over all its files."""
    found: dict[str, Unfilled] = {}
    for one in outcomes:
        if one.unfilled.late or one.unfilled.missing:
            found[one.subject] = found.get(one.subject, Unfilled()) + one.unfilled
    ordered = sorted(found.items(), key=lambda item: -(item[1].late + item[1].missing))
    return [{"id": i, "late": u.late, "missing": u.missing} for i, u in ordered]


def tell_failure(subject: str, reason: str | None, lasting: bool) -> dict[str, Any]:
    """One failure as JSON shows it; `lasting` stands there only where it is true."""
    return {"id": subject, "reason": reason} | ({"lasting": True} if lasting else {})


def window_gaps(context: Context, window: Window, has_rows: bool) -> list[Gap]:
    """What may still come of a window without buckets."""
    span = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
    return span_gaps(*span, is_empty=not has_rows, now_s=context.now())


def judge_readings(
    context: Context, subject: str, window: Window, rows: int, filled: int
) -> Outcome:
    """Whether there is anything to write of readings, which have no buckets.

    `filled`: how many of the rows hold a number.
    """
    end_s = window.end_utc.timestamp()
    gaps = window_gaps(context, window, filled > 0)
    if not filled:
        # That the cloud has nothing is believed when it has had the time to get something.
        state: State = "to come" if end_s > context.now() - TO_COME_S else "empty"
        return Outcome(subject, state, gaps=gaps, whole=False)
    # Nobody knows how many are to be had: until then more may reach the cloud.
    is_over = end_s <= context.now() - FINAL_S
    return Outcome(subject, "fetched", rows=rows, gaps=gaps, whole=is_over and filled == rows)


def created_later(meter: Meter, zone: ZoneInfo) -> str:
    """Why there is nothing of a meter."""
    created = meter.created_utc
    day = f"{created.astimezone(zone):%Y-%m-%d}" if created else "later"
    return f"created {day}, after the range"


def quota_left(context: Context) -> dict[str, int]:
    """Calls left of each limit, by its text: `100/h`."""
    usage = context.session.quota_usage()
    return {limit_text(one.limit): one.left for one in usage.limits}
