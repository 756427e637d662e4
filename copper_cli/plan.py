"""What to ask: local days in a meter's zone become UTC windows. Pure: no clock, no network.

The cloud counts buckets either from a call's start or along the local day; nobody has
confirmed which (ASSUMED: either; to check, ask for two days from an odd hour). Windows are
therefore cut so that both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from copper_cli.buckets import BUCKET_S, DAY_S, Grid
from copper_cli.records import Window

MAX_ROWS = 100_000
"""No call for a series asks for more rows than this, nor one for grid readings where that is less
than a day of the fleet: it bounds the memory a job needs."""

_DAY = timedelta(days=1)
_YEARS = range(2000, 2038)
"""Those of which a zone's offsets are looked at: of earlier ones there is no data."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An instant where one window ends and the next begins because the clocks changed."""

    at_s: int
    """The first bucket boundary at a local midnight after the change."""
    previous_s: int
    """The bucket boundary before it: the two enclose a bucket of unusual length."""
    stray_s: int
    """Where a cloud that counts from the call's start puts that boundary instead."""


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The windows of one meter, ascending and meeting; empty when there is nothing to ask."""

    windows: tuple[Window, ...]
    """Each to be asked in one call, if the cloud allows its span."""
    cuts: tuple[Cut, ...]
    """Where windows meet because of a clock change; a subset of the windows' ends."""
    granularity: str
    """One of buckets.GRANULARITIES."""
    start_s: int
    """First instant of the whole."""
    end_s: int
    """Last instant of the whole; its own row is wanted."""
    grid: str = ""
    """What names the places where its buckets end: two plans of one grid share their buckets."""
    tail_s: int | None = None
    """Where the last whole month ends, if a part of a month follows; None else."""

    def stretches(self) -> list[tuple[str, int, int]]:
        """Name of the grid, first and last instant of the parts that it is made of; they meet.

        A part of a month is a bucket of its own kind: no other range has it, unless it ends there.
        """
        if self.tail_s is None:
            return [(self.grid, self.start_s, self.end_s)]
        part = f"{self.grid}/{_utc(self.end_s):%Y%m%dT%H%M}"
        found = [(self.grid, self.start_s, self.tail_s), (part, self.tail_s, self.end_s)]
        return [one for one in found if one[1] < one[2]]

    def buckets(self) -> Grid:
        """Where its buckets end."""
        edges = {self.start_s, *(int(window.end_utc.timestamp()) for window in self.windows)}
        odd = [cut.previous_s for cut in self.cuts]
        return Grid(tuple(sorted(edges.union(odd))), self.granularity, tuple(odd))


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC, also where clocks skip or repeat midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def local_day(instant_utc: datetime, zone: tzinfo) -> date:
    """The local date at an instant."""
    return instant_utc.astimezone(zone).date()


@lru_cache(maxsize=256)  # asked for each meter of a fleet that lies in few zones
def whole_days(start: date, last: date, zone: ZoneInfo) -> Window:
    """From the first instant of `start` to the end of `last`, which is included."""
    return Window(local_midnight(start, zone), local_midnight(last + _DAY, zone))


def plan_series(
    start: date,
    end: date,
    zone: ZoneInfo,
    granularity: str,
    *,
    created_utc: datetime | None = None,
    step_days: int | None = None,
) -> SeriesPlan:
    """The windows from local midnight of `start` to local midnight of `end`.

    A meter created inside is asked from the local midnight of its first day; one created
    after `end` not at all. `step_days` forces windows of that many local days, except for
    months: a cloud that counts them from a call's start would begin them at every window.
    """
    first = start if created_utc is None else max(start, local_day(created_utc, zone))
    return _plan_series(start, first, end, zone, granularity, step_days)


def plan_month_sum(month: date, zone: ZoneInfo, created_utc: datetime | None) -> SeriesPlan:
    """The month that begins on a day as one bucket: its sum is wanted, not its rows."""
    from dateutil.relativedelta import relativedelta

    end = month + relativedelta(months=1)
    plan = plan_series(month, end, zone, "hour", created_utc=created_utc)
    return replace(plan, granularity="month", grid=grid_name(zone, "month", month.day))


def plan_whole_days(first: date, days: int, zone: ZoneInfo) -> SeriesPlan:
    """So many times 24 hours from the local midnight of a day on, in one window."""
    start_utc = local_midnight(first, zone)
    end_utc = start_utc + timedelta(days=days)
    # A clock may change in between, so that these days are those of no other question.
    is_local = local_day(end_utc - timedelta(seconds=1), zone) != local_day(end_utc, zone)
    start_s, end_s = int(start_utc.timestamp()), int(end_utc.timestamp())
    grid = grid_name(zone, "day") if is_local else f"from {start_s}"
    return SeriesPlan((Window(start_utc, end_utc),), (), "day", start_s, end_s, grid)


@lru_cache(maxsize=4096)  # a fleet's meters lie in few zones, and mostly begin together
def _plan_series(
    asked: date, start: date, end: date, zone: ZoneInfo, granularity: str, step_days: int | None
) -> SeriesPlan:
    """The plan of every meter that has rows from `start` on, where `asked` was typed."""
    start_utc, end_utc = local_midnight(start, zone), local_midnight(end, zone)
    start_s, end_s = int(start_utc.timestamp()), int(end_utc.timestamp())
    if start_s >= end_s:
        return SeriesPlan((), (), granularity, start_s, end_s)
    cuts = _clock_cuts(asked, start, end, zone, granularity)
    edges = {start_s, end_s, *(cut.at_s for cut in cuts)}
    if step_days and granularity in BUCKET_S:
        day = start + timedelta(days=step_days)
        while day < end:
            edges.add(int(local_midnight(day, zone).timestamp()))
            day += timedelta(days=step_days)
    spans = pairwise(sorted(edges))
    windows = tuple(Window(_utc(a), _utc(b)) for a, b in spans)
    grid = grid_name(zone, granularity, asked.day)
    tail_s = _find_tail(asked, start, end, zone) if granularity == "month" else None
    return SeriesPlan(windows, cuts, granularity, start_s, end_s, grid, tail_s)


def _find_tail(asked: date, start: date, end: date, zone: ZoneInfo) -> int | None:
    """Where the last whole month ends, if the range goes beyond it."""
    last = [day for day in _month_starts(asked, end) if day > start or day == asked][-1:]
    boundary = max(start, *last) if last else start
    return int(local_midnight(boundary, zone).timestamp()) if boundary < end else None


@lru_cache(maxsize=1024)
def grid_name(zone: ZoneInfo, granularity: str, month_day: int = 1) -> str:
    """What names the places where buckets end in a zone.

    Hours and shorter ones lie alike in all zones whose offsets leave the same rest: that rest in
    seconds names them. Longer ones follow the local day, and months the day that begins them.
    """
    if granularity == "month":
        return f"{zone.key}/{month_day:02d}"
    step = BUCKET_S[granularity]
    rests = {_offset_s(zone, year, month) % step for year in _YEARS for month in (1, 4, 7, 10)}
    if step > BUCKET_S["hour"] or len(rests) > 1:
        return zone.key
    return str(-rests.pop() % step)


def _offset_s(zone: ZoneInfo, year: int, month: int) -> int:
    offset = datetime(year, month, 1, tzinfo=zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _clock_cuts(
    asked: date, start: date, end: date, zone: ZoneInfo, granularity: str
) -> tuple[Cut, ...]:
    """A cut at the first boundary after each clock change that upsets the buckets."""
    step = BUCKET_S.get(granularity)
    if step is None:
        return tuple(_month_cuts(asked, start, end, zone))
    return tuple(_day_cuts(start, end, zone, step))


def _day_cuts(start: date, end: date, zone: ZoneInfo, step: int) -> Iterator[Cut]:
    """A cut after each local day that buckets of this length do not fill evenly."""
    midnights = [int(local_midnight(day, zone).timestamp()) for day in _days(start, end)]
    for before_s, at_s in pairwise(midnights):
        length = at_s - before_s
        if length == 0 or (length == step if step == DAY_S else length % step == 0):
            continue  # a day that the zone skipped, or one without an odd bucket
        # The odd bucket is the last of its day, or the day.
        previous_s = before_s if step == DAY_S else at_s - length % step
        yield Cut(at_s, previous_s, previous_s + step)


def _month_cuts(asked: date, start: date, end: date, zone: ZoneInfo) -> Iterator[Cut]:
    """A cut wherever months counted in UTC from a window's start leave the local midnights.

    That is at a clock change; where the UTC day of the month is one that not every month has
    (east of Greenwich the 1st begins on the last day of the month before); and after the first
    days of a meter that is younger than what was `asked`, so that all meters' months agree.
    """
    from dateutil.relativedelta import relativedelta

    later = (day for day in _month_starts(asked, end) if day > start)
    boundaries = [local_midnight(day, zone) for day in (start, *later)]
    base, months = boundaries[0], 0
    for previous, at in pairwise(boundaries):
        months += 1
        counted = base + relativedelta(months=months)
        if counted != at:
            yield Cut(*(int(instant.timestamp()) for instant in (at, previous, counted)))
            base, months = at, 0


def _days(start: date, end: date) -> Iterator[date]:
    day = start
    while day <= end:
        yield day
        day += _DAY


def _month_starts(start: date, end: date) -> Iterator[date]:
    """`start`, then the same day of each month to come (the last day where there is none)."""
    from dateutil.relativedelta import relativedelta

    months = 0
    while (day := start + relativedelta(months=months)) <= end:
        yield day
        months += 1


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
