"""Where the published rows lie: a file a month. Pure but for looking into folders."""

from __future__ import annotations

import os
import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.buckets import BUCKET_S, DAY_S, bucket_s

FOLDERS = {
    "usage": "usage",
    "baseline-series": "baseline",
    "average-series": "average",
    "readings": "readings",
    "grid": "grid",
}
"""The folder of each kind; its files have the same name."""
TEMPORARY = ".tmp"
"""What files end in until they are whole: no engine takes them for Parquet."""
_MONTH = re.compile(r"month=(\d{4}-(?:0[1-9]|1[0-2]))")
_GRANULARITY = re.compile(r"granularity=([a-z]+)")
_LONGEST_MONTH_S = 31 * DAY_S
_SEARCH_S = BUCKET_S["hour"]
"""No bucket that follows the local day is shorter."""


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """The rows of one kind and granularity whose buckets start in one month of UTC."""

    kind: str
    """As in SeriesKey."""
    granularity: str
    """As in SeriesKey."""
    name: str
    """`2025-01`."""

    def file(self, archive: Path) -> Path:
        """Where they lie."""
        return self.folder(archive) / f"{FOLDERS[self.kind]}.parquet"

    def folder(self, archive: Path) -> Path:
        """The folder that holds this file alone."""
        return kind_folder(archive, self.kind, self.granularity) / f"month={self.name}"

    def __str__(self) -> str:
        return " ".join(word for word in (self.kind, self.granularity, self.name) if word)


def kind_folder(archive: Path, kind: str, granularity: str) -> Path:
    """The folder that holds the months of a kind and granularity."""
    folder = archive / FOLDERS[kind]
    return folder / f"granularity={granularity}" if granularity else folder


def month_of(instant_s: float) -> str:
    """The month of UTC that an instant lies in."""
    return _month_of_day(int(instant_s // DAY_S))


@lru_cache(maxsize=4096)
def _month_of_day(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_S, UTC):%Y-%m}"


@lru_cache(maxsize=1024)
def month_span(name: str) -> tuple[int, int]:
    """The first instant of a month, and that of the next."""
    year, month = int(name[:4]), int(name[5:7])
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp()), int(end.timestamp())


def months_between(first_s: float, last_s: float) -> Iterator[str]:
    """The months from that of one instant to that of another."""
    name, last = month_of(first_s), month_of(last_s)
    while name <= last:
        yield name
        name = month_of(month_span(name)[1])


def months_of_ends(first_s: int, last_s: int, granularity: str) -> Iterator[str]:
    """The months in which buckets may start that end between two instants, both included.

    Days have up to 25 hours and more, and months up to 31 days: one month too many may be named.
    """
    if not granularity:
        return months_between(first_s, last_s)
    longest_s = longest_bucket_s(granularity)
    shortest_s = BUCKET_S[granularity] if granularity in BUCKET_S and longest_s <= 3600 else 1
    return months_between(first_s - longest_s, last_s - shortest_s)


def longest_bucket_s(granularity: str) -> int:
    """No bucket is longer, and no row earlier than its own by more; of readings 0."""
    if not granularity:
        return 0
    if granularity == "month":
        return _LONGEST_MONTH_S + DAY_S
    length_s = bucket_s(granularity)
    return length_s if length_s <= BUCKET_S["hour"] else length_s + DAY_S


def find_files(archive: Path) -> Iterator[tuple[Month, Path]]:
    """All published files. Raises OSError."""
    for kind in FOLDERS:
        for granularity in _granularities(archive, kind):
            for name in sorted(list_months(archive, kind, granularity)):
                month = Month(kind, granularity, name)
                if month.file(archive).is_file():
                    yield month, month.file(archive)


def list_months(archive: Path, kind: str, granularity: str) -> list[str]:
    """The months of a kind and granularity that have a folder. Raises OSError."""
    found = _list(kind_folder(archive, kind, granularity))
    return [match[1] for name in found if (match := _MONTH.fullmatch(name))]


def _granularities(archive: Path, kind: str) -> list[str]:
    if kind in ("readings", "grid"):
        return [""]
    found = _list(archive / FOLDERS[kind])
    return sorted(match[1] for name in found if (match := _GRANULARITY.fullmatch(name)))


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - this is asked for each series
    except (FileNotFoundError, NotADirectoryError):
        return []


# Where buckets start


def fixed_step(granularity: str) -> int | None:
    """The seconds of a bucket, None where they follow the local day."""
    step = BUCKET_S.get(granularity)
    return step if step is not None and step <= BUCKET_S["hour"] else None


@lru_cache(maxsize=1 << 16)
def find_start(granularity: str, grid: str, end_s: int) -> int:
    """Where the bucket starts that ends then: the last boundary before."""
    found = _find_zone(grid)
    if found is None:
        return end_s - bucket_s(granularity)
    zone, month_day = found
    day = datetime.fromtimestamp(end_s - 1, zone).date()
    midnight_s = _midnight(day, zone)
    if midnight_s >= end_s:  # the clocks skip it
        midnight_s = _midnight(day - timedelta(days=1), zone)
    if granularity == "day":
        return midnight_s
    if granularity == "bihour":
        step = BUCKET_S["bihour"]
        return midnight_s + (end_s - 1 - midnight_s) // step * step
    return _find_month_start(day, month_day, zone, end_s)


_ZONE_GRID = re.compile(r"(?P<zone>.+?)(?:/(?P<day>\d\d)(?:/\d{8}T\d{4})?)?")


def _find_month_start(day: date, month_day: int, zone: ZoneInfo, end_s: int) -> int:
    """Months begin on one day of each, or the last one where there is no such day."""
    year, month = day.year, day.month
    while True:
        begins = date(year, month, min(month_day, monthrange(year, month)[1]))
        start_s = _midnight(begins, zone)
        if start_s < end_s:
            return start_s
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp())


def phase_at(grid: str, step_s: int, at_s: int) -> int:
    """Where buckets of a length end after a whole one since 1970 UTC, around an instant.

    Hours of a zone that moves its clocks by part of one follow its local time.
    """
    if not grid or grid.isdecimal():
        return int(grid or 0)
    found = _find_zone(grid)
    offset = datetime.fromtimestamp(at_s, found[0]).utcoffset() if found else None
    return -int(offset.total_seconds()) % step_s if offset else 0


def find_boundary(granularity: str, grid: str, at_s: int) -> int:
    """The first boundary of buckets that is not before an instant."""
    step = fixed_step(granularity)
    if step is not None:
        return at_s + (phase_at(grid, step, at_s) - at_s) % step
    if _find_zone(grid) is None:
        return at_s
    start_s = find_start(granularity, grid, at_s)
    after_s = at_s
    while find_start(granularity, grid, after_s + 1) == start_s:
        after_s += _SEARCH_S
    # The bucket that holds the instant ends between the last two places looked at.
    return find_start(granularity, grid, after_s + 1)


def month_bounds(kind: str, granularity: str, grid: str, name: str) -> tuple[int, int]:
    """Between which ends, the first not included, the buckets lie that start in a month."""
    start_s, end_s = month_span(name)
    if not granularity:
        return start_s, end_s
    return find_boundary(granularity, grid, start_s), find_boundary(granularity, grid, end_s)


@lru_cache(maxsize=1024)
def _find_zone(grid: str) -> tuple[ZoneInfo, int] | None:
    """The zone that a grid follows, and the day on which months begin."""
    found = _ZONE_GRID.fullmatch(grid)
    try:
        return (ZoneInfo(found["zone"]), int(found["day"] or 1)) if found else None
    except (KeyError, OSError, ValueError):
        return None
