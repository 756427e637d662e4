"""Instants as whole UTC seconds, how they are written, and the buckets between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

STEPS_S = {"minute": 60, "fifteenminute": 900, "hour": 3600, "bihour": 7200, "day": 86400}
"""Seconds of the granularities that have a fixed length; `month` has none."""

DAY_S = 86400


def parse_instant(text: str) -> int:
    """`2020-12-22T07:00:00Z` (or with another offset) → UTC seconds, fractions cut off.

    Raises ValueError for anything else, local times without an offset among them.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return int(moment.timestamp() // 1)


def format_instant(epoch_s: int) -> str:
    """UTC seconds → `2022-03-02T04:30:00.000Z`."""
    return format_instants([epoch_s])[0]


def format_instants(epochs_s: Iterable[int]) -> list[str]:
    """UTC seconds → texts like `2022-03-02T04:30:00.000Z`, a million a second.

    The day's text is made once a day and the time's once for each second of a day that
    occurs: an answer can have 100,000 rows.
    """
    texts = []
    day, prefix = None, ""
    for epoch in epochs_s:
        this_day, second = divmod(epoch, DAY_S)
        if this_day != day:
            day = this_day
            prefix = (date(1970, 1, 1) + timedelta(days=day)).isoformat()
        texts.append(prefix + _format_time(second))
    return texts


@cache
def _format_time(second: int) -> str:
    return f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"


def lay_bounds(
    granularity: str, start_s: int, end_s: int, zone: ZoneInfo | None = None
) -> list[int]:
    """The edges of the buckets that END within start…end, both inclusive.

    n + 1 ascending UTC seconds for n buckets: bucket i reaches from edge i to edge i + 1, so
    the first edge lies before `start_s`. Without a zone buckets are counted from `start_s`
    (months in UTC, the day of the month cut to the month's length). With a zone hour, bihour,
    day and month buckets are laid from that zone's midnights: a day bucket has 23 or 25 hours
    at a clock change, and the last hours of a day may be cut short.
    """
    if zone is not None and granularity not in ("minute", "fifteenminute"):
        edges = _lay_local_edges(granularity, start_s, end_s, zone)
        first, last = bisect_left(edges, start_s), bisect_right(edges, end_s)
        return edges[first - 1 : last]
    if granularity == "month":
        return _lay_months(start_s, end_s)
    step = STEPS_S[granularity]
    return list(range(start_s - step, end_s + 1, step))


def _lay_months(start_s: int, end_s: int) -> list[int]:
    edges = [_add_months(start_s, -1)]
    count = 0
    while (edge := _add_months(start_s, count)) <= end_s:
        edges.append(edge)
        count += 1
    return edges


def _add_months(epoch_s: int, months: int) -> int:
    moment = datetime.fromtimestamp(epoch_s, UTC)
    year, month0 = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, monthrange(year, month0 + 1)[1])
    return int(moment.replace(year=year, month=month0 + 1, day=day).timestamp())


def _lay_local_edges(granularity: str, start_s: int, end_s: int, zone: ZoneInfo) -> list[int]:
    """Edges on the zone's midnights, from one bucket before the window to its end or past it."""
    first = datetime.fromtimestamp(start_s, zone).date()
    last = datetime.fromtimestamp(end_s, zone).date()
    if granularity == "month":
        months = range((first.year * 12 + first.month) - 3, last.year * 12 + last.month + 1)
        days = [_start_month(month) for month in months]
    else:
        span = (last - first).days + 4
        days = [first + timedelta(days=offset - 2) for offset in range(span)]
    midnights = sorted({find_midnight(day, zone) for day in days})
    if granularity in ("day", "month"):
        return midnights
    step = STEPS_S[granularity]
    return [edge for begin, end in pairwise(midnights) for edge in range(begin, end, step)]


def _start_month(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def find_midnight(day: date, zone: ZoneInfo) -> int:
    """The UTC second at which a local day begins: where the clock skips midnight, the skip."""
    return int(datetime.combine(day, time(), zone).timestamp())
