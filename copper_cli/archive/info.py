"""What an archive holds, without looking at its rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from copper_cli.archive.home import Marker, find_network_type

if TYPE_CHECKING:
    import sqlite3

    from copper_cli.archive import Archive

_KINDS = """
SELECT s.kind, s.granularity, count(DISTINCT s.subject), min(c.start_s), max(c.end_s)
FROM series AS s LEFT JOIN coverage AS c ON c.series = s.id AND c.state = 'known'
GROUP BY s.kind, s.granularity ORDER BY s.kind DESC, s.granularity
"""
_WAITING = """
SELECT s.kind, s.granularity, sum(a.rows), sum(length(a.body))
FROM answers AS a JOIN series AS s ON s.id = a.series GROUP BY s.kind, s.granularity
"""
_PUBLISHED = "SELECT kind, granularity, sum(rows), count(*) FROM months GROUP BY kind, granularity"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What is held of one kind and granularity."""

    kind: str
    """As in SeriesKey."""
    granularity: str
    """As in SeriesKey."""
    subjects: int
    """Meters, for grid readings gateways."""
    start_s: int | None
    """From when on something is known; None where nothing is."""
    end_s: int | None
    """Until when."""
    published: int
    """Rows in months."""
    months: int
    """How many these are."""
    waiting: int
    """Rows in answers that are not published yet."""


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What an archive holds."""

    path: Path
    """Its folder."""
    marker: Marker
    """Whose it is, and since when."""
    meters: int
    """Of which there are rows."""
    kinds: Sequence[KindInfo]
    """Rows by kind and granularity."""
    size_bytes: int
    """Of all files."""
    waiting: int
    """Rows that are not published yet."""
    waiting_bytes: int
    """Of the answers that hold them."""
    published_s: int | None
    """When a month was last published."""
    listed: Sequence[tuple[str, int, int]]
    """Lists: name, how many things were ever in it, when one was last seen."""
    forgotten: int
    """Ids that no list brings back."""
    network: str | None
    """The type of the network file system it lies on."""


def read_info(archive: Archive, marker: Marker) -> ArchiveInfo:
    """What an archive holds. Raises LocalError."""
    with archive.reading() as db:
        kinds, waiting_bytes = _read_kinds(db)
        meters = db.execute(
            "SELECT count(DISTINCT subject) FROM series WHERE kind <> 'grid'"
        ).fetchone()[0]
        published_s = db.execute("SELECT max(published_s) FROM months").fetchone()[0]
        listed = db.execute(
            "SELECT list, count(DISTINCT id), max(last_s) FROM seen GROUP BY list ORDER BY list"
        ).fetchall()
        snapshots = db.execute(
            "SELECT 'bulk', count(DISTINCT meter_id), max(seen_s) FROM snapshots"
        ).fetchone()
        listed += [snapshots] if snapshots[1] else []
        forgotten = db.execute("SELECT count(*) FROM forgotten").fetchone()[0]
    return ArchiveInfo(
        archive.path,
        marker,
        meters,
        kinds,
        sum(_sizes(archive.path)),
        sum(kind.waiting for kind in kinds),
        waiting_bytes,
        published_s,
        [(name, count, last_s) for name, count, last_s in listed],
        forgotten,
        find_network_type(archive.path),
    )


def _read_kinds(db: sqlite3.Connection) -> tuple[list[KindInfo], int]:
    waiting = {(kind, fine): (rows, size) for kind, fine, rows, size in db.execute(_WAITING)}
    months = {(kind, fine): (rows, count) for kind, fine, rows, count in db.execute(_PUBLISHED)}
    found = [
        KindInfo(
            kind,
            fine,
            subjects,
            start_s,
            end_s,
            *months.get((kind, fine), (0, 0)),
            waiting.get((kind, fine), (0, 0))[0],
        )
        for kind, fine, subjects, start_s, end_s in db.execute(_KINDS)
    ]
    return found, sum(size for _, size in waiting.values())


def _sizes(path: Path) -> list[int]:
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found.append(os.stat(os.path.join(folder, name)).st_size)  # noqa: PTH116, PTH118
            except OSError:  # it was there a moment ago
                continue
    return found
