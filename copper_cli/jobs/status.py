"""Whether what an archive holds of its fleet is whole. No call is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from copper_cli.archive.completeness import Asked, Group, Place, Survey, Whole, survey
from copper_cli.archive.home import Marker, Owner, open_existing
from copper_cli.errors import UsageError
from copper_cli.jobs.archive import check_owner
from copper_cli.table import Column, Table
from copper_cli.work.sync_order import read_order

if TYPE_CHECKING:
    from copper_cli.archive import Archive
    from copper_cli.config import Settings

By = Literal["type", "premise", "meter", "day"]

_WORST = 10


def show_share(share: float | None) -> str:
    """In percent; 100 only where nothing is lacking."""
    if share is None:
        return ""
    return f"{int(share * 10_000) / 100:.2f} %"


_COUNTS = (
    Column("Known", "known_share", show_share),
    Column("Expected", "expected", hidden=True),
    Column("Hours Known", "known", hidden=True),
    Column("To Come", "to_come"),
    Column("Late", "late"),
    Column("Missing", "missing"),
    Column("Failed", "failed"),
    Column("Never Asked", "never_asked"),
    Column("Overdue", "overdue", hidden=True),
    Column("Accepted", "accepted", hidden=True),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a person wants to know of a fleet."""

    granularity: str = "hour"
    """Of the rows."""
    since: date | None = None
    """From when on; None: from where the standing order of `sync` begins, or without one from the
    first day that is held of any meter."""
    until: date | None = None
    """Up to the midnight that begins this day; None: now."""
    meter_ids: tuple[str, ...] = ()
    """These only; none: all that the archive has seen."""

    def asked(self, archive: Archive, now_s: float, *, allow_late_s: int = 0) -> Asked:
        """As the archive is asked."""
        order = read_order(archive) if self.since is None else None
        is_ordered = order is not None and order.granularity == self.granularity
        return Asked(
            self.granularity,
            now_s,
            order.since if order is not None and is_ordered else self.since,
            self.until,
            self.meter_ids,
            allow_late_s=allow_late_s,
        )


def show_status(
    path: Path,
    owner: Owner | None,
    question: Question,
    *,
    by: By = "type",
    allow_late_s: int = 0,
    ledger: Settings | None = None,
    now_s: float | None = None,
) -> Table:
    """A row a meter type, premise, meter or day: how much is known, and what the rest is called.

    The facts hold the whole: `is_held`, `is_well` (nothing is lacking that should be there),
    `total`, `whole_until`, `whole_meters`, `worst`, `quota` of the ledger that is named.
    """
    now_s = time.time() if now_s is None else now_s
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        asked = question.asked(opened.archive, now_s, allow_late_s=allow_late_s)
        with survey(opened.archive, asked, places_of(question.granularity)) as found:
            check_span(found, question)
            facts = _facts(opened.marker, question, found, now_s)
            rows = _rows(found, by) if found.is_held else []
    facts["quota"] = [] if ledger is None else _quota(ledger)
    title = f"Completeness by {by} ({question.granularity})"
    return Table(title, (*_heads(by), *_COUNTS), rows, facts)


def check_span(found: Survey, question: Question) -> None:
    """UsageError for a span in which nothing could be lacking: it would look whole."""
    is_named = question.since is not None or question.until is not None
    if is_named and found.is_held and not found.groups()[0].expected:
        raise UsageError(
            "no hour of that span is over, or no meter was there yet: name another with --since "
            "and --until."
        )


def places_of(granularity: str) -> Callable[[str], Place]:
    """Gives what is known of a time zone by its name; where nobody knows it, days are of UTC."""
    from copper_cli.plan import grid_name
    from copper_cli.work.fleet import read_zone

    def find(name: str) -> Place:
        zone = read_zone(name)
        return Place(UTC, None) if zone is None else Place(zone, grid_name(zone, granularity))

    return find


def local(instant_s: float | None) -> datetime | None:
    """An instant as the clock on the wall has it."""
    if instant_s is None:
        return None
    return datetime.fromtimestamp(instant_s, UTC).astimezone()


def _heads(by: By) -> tuple[Column, ...]:
    if by == "day":
        return Column("Day", "day"), Column("Meters", "meters")
    until = Column("Whole Until", "whole_until", show_instant)
    if by == "meter":
        return Column("Meter", "meter_id"), until
    name = Column("Type", "type") if by == "type" else Column("Premise", "premise_id")
    return name, Column("Meters", "meters"), until


def show_instant(instant: datetime | None) -> str:
    """To the minute, in local time."""
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M}"


def _rows(found: Survey, by: By) -> list[tuple[Any, ...]]:
    if by == "day":
        return [(one.name, one.meters, *_counts(one)) for one in found.days()]
    group: Group = by
    return [
        (
            one.name,
            *(() if by == "meter" else (one.meters,)),
            local(one.whole_until_s),
            *_counts(one),
        )
        for one in found.groups(group)
    ]


def _counts(one: Whole) -> tuple[Any, ...]:
    return (
        one.known / one.expected if one.expected else None,
        one.expected,
        one.known,
        one.to_come,
        one.late,
        one.missing,
        one.failed,
        one.never_asked,
        one.overdue,
        one.accepted,
    )


def _facts(marker: Marker, question: Question, found: Survey, now_s: float) -> dict[str, Any]:
    owner = marker.owner
    facts: dict[str, Any] = {
        "archive": owner.enterprise_id or owner.user,
        "granularity": question.granularity,
        "now": local(now_s),
        "is_held": found.is_held,
        "held": found.granularities(),
        "is_well": False,
    }
    if not found.is_held:
        return facts
    total = found.groups()[0]
    counts = {
        key: value for key, value in asdict(total).items() if key not in ("name", "whole_until_s")
    }
    start_s, end_s = found.span()
    whole_until_s, whole_meters = found.whole_until()
    return facts | {
        "since": local(start_s),
        "until": local(end_s),
        "is_well": total.bad == 0,
        "whole_until": local(whole_until_s),
        "whole_meters": whole_meters,
        "total": counts
        | {
            "known": total.known,
            "known_share": total.known / total.expected if total.expected else None,
            "bad": total.bad,
        },
        "worst": [
            {
                "meter_id": one.meter_id,
                "type": one.type,
                "lacking": one.bad,
                "since": local(one.since_s),
            }
            for one in found.worst(_WORST)
        ],
    }


def _quota(settings: Settings) -> list[dict[str, Any]]:
    """What was spent of each limit, and what is left."""
    from copper_cli.cloud.quota import open_ledger
    from copper_cli.config import limit_text

    ledger = open_ledger(settings)
    try:
        usage = ledger.usage()
    finally:
        ledger.close()
    return [
        {"limit": limit_text(one.limit), "used": one.used, "left": one.left} for one in usage.limits
    ]
