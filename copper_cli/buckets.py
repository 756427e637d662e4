"""The buckets that interval rows come in: how long each is. Ground: imports nothing of ours."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

GRANULARITIES = ("minute", "fifteenminute", "hour", "bihour", "day", "month")
BUCKET_S = {"minute": 60, "fifteenminute": 900, "hour": 3600, "bihour": 7200, "day": 86400}
"""Seconds of a bucket; a month has no one length."""
DAY_S = 86400
MONTH_S = 30 * DAY_S
"""A month's length where only its order of size matters."""
MEAN_MONTH_S = 365.2425 * DAY_S / 12
"""A month's length on average over the years."""


def bucket_s(granularity: str) -> int:
    """The nominal length of a bucket in seconds."""
    return BUCKET_S.get(granularity, MONTH_S)


def count_buckets(span_s: float, granularity: str) -> int:
    """How many buckets a span between two of their boundaries holds.

    Rounded so that an odd bucket counts as one: an hour more or less in a day or a bihour at a
    clock change, months of 28 to 31 days.
    """
    step = BUCKET_S.get(granularity)
    if step is None:
        return max(0, round(span_s / MEAN_MONTH_S))
    return max(0, int((span_s + step / 4) // step))


@dataclass(frozen=True, slots=True)
class Grid:
    """Where buckets end: counted from one edge to the next, and at each edge."""

    edges: tuple[int, ...]
    """Ascending, seconds since 1970 UTC; the first begins the first bucket."""
    granularity: str
    """One of GRANULARITIES."""
    odd: tuple[int, ...] = ()
    """Edges from which to the next it is one bucket, whatever its length."""

    def count(self, after_s: float, until_s: float) -> int:
        """Buckets that end later than an instant, and not later than another."""
        return max(0, self._rank(until_s) - self._rank(after_s))

    def holds(self, time_s: int) -> bool:
        """True where a bucket ends or the first one begins."""
        return time_s == self.edges[0] or self.count(time_s - 1, time_s) == 1

    def floor(self, time_s: float) -> int:
        """The last end not later than an instant; the beginning where there is none."""
        rank = self._rank(time_s)
        return self._end(rank)

    def after(self, time_s: float) -> int:
        """The first end later than an instant; the last of all where there is none."""
        return self._end(self._rank(time_s) + 1)

    def _rank(self, time_s: float) -> int:
        """How many buckets end not later than an instant."""
        ends, starts = _ends(self), _starts(self)
        segment = bisect_right(self.edges, time_s) - 1
        if segment < 0:
            return 0
        if segment >= len(self.edges) - 1:
            return starts[-1]
        return starts[segment] + _count_in(ends[segment], self.edges[segment], time_s)

    def _end(self, rank: int) -> int:
        """The end of the bucket of a rank; rank 0 is the beginning."""
        starts = _starts(self)
        rank = min(max(rank, 0), starts[-1])
        segment = max(0, bisect_left(starts, rank) - 1)
        within = rank - starts[segment]
        if within <= 0:
            return self.edges[segment]
        if rank == starts[segment + 1]:
            return self.edges[segment + 1]
        ends = _ends(self)[segment]
        if isinstance(ends, int):
            return self.edges[segment] + within * ends
        return ends[within - 1]


def _count_in(ends: int | Sequence[int], edge_s: int, time_s: float) -> int:
    """Buckets of a segment that end not later than an instant before its own end."""
    if isinstance(ends, int):
        return int((time_s - edge_s) // ends)
    return bisect_right(ends, time_s)


@lru_cache(maxsize=4096)  # a fleet's meters share their plans
def _ends(grid: Grid) -> tuple[int | tuple[int, ...], ...]:
    """Of each segment the length of its buckets, or the ends of its months but the last."""
    step = BUCKET_S.get(grid.granularity)
    return tuple(
        () if start_s in grid.odd else step if step is not None else _months(start_s, end_s)
        for start_s, end_s in pairwise(grid.edges)
    )


def _months(start_s: int, end_s: int) -> tuple[int, ...]:
    from dateutil.relativedelta import relativedelta

    start, found, months = datetime.fromtimestamp(start_s, UTC), [], 1
    while (at_s := int((start + relativedelta(months=months)).timestamp())) < end_s:
        found.append(at_s)
        months += 1
    return tuple(found)


@lru_cache(maxsize=4096)
def _starts(grid: Grid) -> tuple[int, ...]:
    """How many buckets end up to each edge."""
    counts = [0]
    for ends, (start_s, end_s) in zip(_ends(grid), pairwise(grid.edges), strict=True):
        inside = (end_s - start_s - 1) // ends if isinstance(ends, int) else len(ends)
        counts.append(counts[-1] + inside + 1)
    return tuple(counts)
