"""Where the published rows lie: a file a month. Pure but for looking into folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

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
    return f"{datetime.fromtimestamp(instant_s, UTC):%Y-%m}"


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
    longest_s = _longest_s(granularity)
    shortest_s = BUCKET_S[granularity] if granularity in BUCKET_S and longest_s <= 3600 else 1
    return months_between(first_s - longest_s, last_s - shortest_s)


def _longest_s(granularity: str) -> int:
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
        return [found.name for found in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
