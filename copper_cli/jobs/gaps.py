"""What an archive does not know of its fleet, gap by gap, and what of it was accepted. No call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from copper_cli.archive.completeness import Extent, Lack, Survey, survey
from copper_cli.archive.home import Owner, open_existing
from copper_cli.errors import UsageError
from copper_cli.filling import Shown
from copper_cli.jobs.archive import check_owner
from copper_cli.jobs.status import Question, check_span, local, places_of, show_instant
from copper_cli.table import Column, Table

ACCEPTABLE: Sequence[Shown] = ("missing", "late")
"""What may be accepted: the cloud was asked for it and has it not."""

_MARKS = "fnmlta. "
"""Of a day in the picture, the worst first."""
_LEGEND = "f failed  n never asked  m missing  l late  t to come  a accepted  . whole"
_COLUMNS = (
    Column("Meter", "meter_id"),
    Column("From", "from", show_instant),
    Column("To", "to", show_instant),
    Column("Hours", "hours"),
    Column("Buckets", "buckets", hidden=True),
    Column("Why", "why"),
    Column("Accepted", "accepted", hidden=True),
    Column("Last Asked", "last_asked", show_instant),
    Column(
        "Asked Again", "asked_again", lambda at: at if isinstance(at, str) else show_instant(at)
    ),
)


def show_gaps(
    path: Path,
    owner: Owner | None,
    question: Question,
    *,
    why: Sequence[Shown] = (),
    min_s: int = 0,
    accepted: bool = False,
    limit: int | None = None,
    picture: tuple[int, int] | None = None,
    now_s: float | None = None,
) -> Table:
    """A row a gap: meter, from, to, hours, why, last asked, asked again at; the worst meter first.

    What was accepted is left out, or with `accepted` all there is. `limit`: not more rows than
    these. The facts hold `is_held`, the `total` of the fleet, and whether there are `more` rows;
    with `picture`, so many meters and columns, the lines of draw_fleet.
    """
    now_s = time.time() if now_s is None else now_s
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        asked = question.asked(opened.archive, now_s)
        with survey(opened.archive, asked, places_of(question.granularity)) as found:
            check_span(found, question)
            facts = _facts(found, question)
            rows: list[tuple[Any, ...]] = []
            for lack in found.lacks(why=why, accepted=accepted, min_s=min_s):
                if len(rows) == limit:
                    facts["more"] = True
                    break
                rows.append(_row(lack, now_s))
            if picture is not None and found.is_held:
                facts["picture"] = draw_fleet(found, *picture)
    facts["archive"] = opened.marker.owner.enterprise_id or opened.marker.owner.user
    kind = "Accepted gaps" if accepted else "Gaps"
    return Table(f"{kind} ({question.granularity})", _COLUMNS, rows, facts)


def draw_fleet(found: Survey, meters: int, columns: int) -> list[str]:
    """A line a meter that lacks something, the worst first, a character a day, the last days.

    So many meters at most, and lines of so many columns. Of a day the worst counts.
    Empty where nothing is lacking; the first line says which days.
    """
    fleet = found.worst_fleet(meters)
    if not fleet:
        return []
    last = max(_day(extent.end_s - 1, extent.zone) for extent, _ in fleet)
    first = min(_day(extent.start_s, extent.zone) for extent, _ in fleet)
    width = max(len(extent.meter_id) for extent, _ in fleet)
    first = max(first, last - timedelta(days=max(1, columns - width - 2) - 1))
    lines = [f"{'':{width}}  {first.isoformat()} to {last.isoformat()}, a character a day"]
    for extent, lacks in fleet:
        marks = _marks(extent, lacks, first, (last - first).days + 1)
        lines.append(f"{extent.meter_id:{width}}  {marks}")
    return [*lines, f"{'':{width}}  {_LEGEND}"]


def _marks(extent: Extent, lacks: Sequence[Lack], first: date, days: int) -> str:
    marks = [" "] * days

    def put(start_s: int, end_s: int, mark: str) -> None:
        begin = (_day(start_s, extent.zone) - first).days
        end = (_day(end_s - 1, extent.zone) - first).days
        for place in range(max(begin, 0), min(end, days - 1) + 1):
            marks[place] = min(mark, marks[place], key=_MARKS.index)

    put(extent.start_s, extent.end_s, ".")
    for lack in lacks:
        put(lack.start_s, lack.end_s, "a" if lack.is_accepted else lack.why[0])
    return "".join(marks)


def _day(instant_s: int, zone: tzinfo) -> date:
    return datetime.fromtimestamp(instant_s, zone).date()


def accept_gaps(
    path: Path,
    owner: Owner | None,
    question: Question,
    *,
    why: Sequence[Shown] = (),
    min_s: int = 0,
    now_s: float | None = None,
) -> tuple[int, int]:
    """Remember of what is missing that nobody waits for it; how many hours at how many meters.

    `why`: `late` too, or only that. UsageError for what the cloud was not asked for.
    """
    for one in why:
        if one not in ACCEPTABLE:
            raise UsageError(
                f"What is {one} cannot be accepted: only what the cloud was asked for and has not, "
                "which is missing, or late."
            )
    now_s = time.time() if now_s is None else now_s
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        asked = question.asked(opened.archive, now_s)
        places = places_of(question.granularity)
        with survey(opened.archive, asked, places, writes=True) as found:
            lacks = list(found.lacks(why=why or ("missing",), min_s=min_s)) if found.is_held else []
            found.accept(lacks)
    return sum(one.buckets for one in lacks), len({one.meter_id for one in lacks})


def reopen_gaps(
    path: Path, owner: Owner | None, question: Question, *, now_s: float | None = None
) -> int:
    """Forget of a span what was accepted of it; of how many meters anything was."""
    now_s = time.time() if now_s is None else now_s
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        asked = question.asked(opened.archive, now_s)
        places = places_of(question.granularity)
        with survey(opened.archive, asked, places, writes=True) as found:
            return found.reopen() if found.is_held else 0


def _facts(found: Survey, question: Question) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "granularity": question.granularity,
        "is_held": found.is_held,
        "held": found.granularities(),
        "more": False,
    }
    if found.is_held:
        total = found.groups()[0]
        start_s, end_s = found.span()
        facts |= {
            "since": local(start_s),
            "until": local(end_s),
            "total": {
                "meters": total.meters,
                "expected": total.expected,
                "known": total.known,
                "to_come": total.to_come,
                "late": total.late,
                "missing": total.missing,
                "failed": total.failed,
                "never_asked": total.never_asked,
                "accepted": total.accepted,
            },
        }
    return facts


def _row(lack: Lack, now_s: float) -> tuple[Any, ...]:
    hours = (lack.end_s - lack.start_s) / 3600
    again: Any = "next run"
    if lack.next_s is None:
        again = "with --recheck"
    elif lack.next_s > now_s:
        again = local(lack.next_s)
    return (
        lack.meter_id,
        local(lack.start_s),
        local(lack.end_s),
        int(hours) if hours.is_integer() else round(hours, 2),
        lack.buckets,
        lack.why,
        lack.is_accepted,
        local(lack.asked_s),
        again,
    )
