"""What an archive should hold, as tables of every bucket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from copper_cli.archive import Archive, Instants, SeriesKey, Span
from copper_cli.archive import coverage as ranges
from copper_cli.buckets import Grid
from copper_cli.records import Series

H = 3600
T0 = 1_700_006_400
"""A whole hour."""
Row = tuple[Any, ...]
KEY = SeriesKey("07:1", "usage", "hour", "0")
READINGS = SeriesKey("07:1", "readings")


def end_of(place: int) -> int:
    return T0 + place * H


def span_of(first: int, last: int) -> Span:
    return end_of(first), end_of(last)


@dataclass
class Table:
    """State and when asked for of each bucket, by the place of its end; none: never asked."""

    of: dict[int, tuple[str, int]] = field(default_factory=dict)

    def land(self, first: int, last: int, energy: dict[int, Any], asked_s: int) -> None:
        for place in range(first + 1, last + 1):
            before = self.of.get(place)
            if energy.get(place) is not None:
                self.of[place] = "known", ranges.coarse(asked_s)
            elif before is None or before[0] != "known":
                self.of[place] = ("null" if place in energy else "absent"), asked_s

    def fail(self, first: int, last: int, asked_s: int) -> None:
        for place in range(first + 1, last + 1):
            if self.of.get(place, ("",))[0] != "known":
                self.of[place] = "failed", asked_s

    def drop(self, first: int, last: int, *, is_published: bool) -> None:
        for place in range(first + 1, last + 1):
            if is_published and place in self.of:
                self.of[place] = "failed", self.of[place][1]
            else:
                self.of.pop(place, None)


def put_over(new: Row, old: Row) -> Row:
    """No number gives way to none; a power goes with its amount."""
    energy, power = new[:2]
    if energy is None and old[0] is not None:
        energy, power = old[:2]
    elif power is None and energy == old[0]:
        power = old[1]
    return (
        energy,
        power,
        *(a if a is not None else b for a, b in zip(new[2:], old[2:], strict=True)),
    )


def is_same(a: Row, b: Row) -> bool:
    return repr(a) == repr(b)


@dataclass
class Model:
    """One series of hours."""

    landing: dict[int, Row] = field(default_factory=dict)
    published: dict[int, Row] = field(default_factory=dict)
    edges: dict[int, Row] = field(default_factory=dict)
    table: Table = field(default_factory=Table)
    sums: dict[tuple[int, int], float | None] = field(default_factory=dict)

    def held(self) -> dict[int, Row]:
        return {**self.published, **self.landing}

    def land(
        self, first: int, last: int, rows: dict[int, Row], total: float | None, asked_s: int
    ) -> tuple[int, int, set[int]]:
        """How many rows changed and were withdrawn, and which amounts are others than before."""
        held, touched = self.held(), set()
        changed = withdrawn = 0
        inside = {place: row for place, row in rows.items() if first < place <= last}
        edge = rows.get(first)
        if edge is not None and self.table.of.get(first, ("",))[0] not in ("known", "null"):
            self.edges[first] = put_over(edge, self.edges[first]) if first in self.edges else edge
        for place in range(first + 1, last + 1):
            old, new = held.get(place), inside.get(place)
            if new is None:
                withdrawn += old is not None and any(one is not None for one in old)
                continue
            if new[0] is not None:
                self.edges.pop(place, None)
                if self.table.of.get(place, ("",))[0] in ("null", "absent"):
                    touched.add(place)
            if old is None:
                self.landing[place] = new
                continue
            now = put_over(new, old)
            withdrawn += new[0] is None and old[0] is not None
            changed += any(
                a is not None and b is not None and a != b for a, b in zip(now, old, strict=True)
            )
            if now[0] != old[0]:
                touched.add(place)
            if not is_same(now, old):
                self.landing[place] = now
        self.table.land(first, last, {p: row[0] for p, row in inside.items()}, asked_s)
        self.drop_sums(touched)
        if not withdrawn and (total is not None or (first, last) not in self.sums):
            self.sums[first, last] = total
        return changed, withdrawn, touched

    def drop_sums(self, touched: set[int]) -> None:
        for first, last in list(self.sums):
            if any(first < place <= last for place in touched):
                del self.sums[first, last]

    def publish(self) -> None:
        self.published.update(self.landing)
        self.landing.clear()

    def retract(self, first: int, last: int) -> None:
        for place in range(first + 1, last + 1):
            self.landing.pop(place, None)
        for place in range(first, last):
            self.edges.pop(place, None)
        self.table.drop(first, last, is_published=bool(self.published))
        for start, end in list(self.sums):
            if start < last and end > first:
                del self.sums[start, end]

    def rows(self, first: int, last: int) -> list[tuple[int, Row]]:
        found = {place: row for place, row in self.held().items() if first <= place <= last}
        if first not in found and first in self.edges:
            found[first] = self.edges[first]
        return [(end_of(place), found[place]) for place in sorted(found)]


def series_of(rows: dict[int, Row], total: float | None = None) -> Series:
    columns = list(zip(*(rows[place] for place in sorted(rows)), strict=True)) or [()] * 4
    return Series([end_of(place) for place in sorted(rows)], *columns, total, "power")


def read_rows(archive: Archive, key: SeriesKey, span: Span) -> list[tuple[int, Row]]:
    found = []
    for piece in archive.rows(key, *span):
        assert piece.times_s
        assert piece.sum_energy is None
        columns = piece.energy, piece.power, piece.value, piece.actual
        found += list(zip(piece.times_s, zip(*columns, strict=True), strict=True))
    return found


def land(
    archive: Archive,
    first: int,
    last: int,
    rows: dict[int, Row],
    total: float | None = None,
    *,
    asked_s: float = T0 + 10**7,
    key: SeriesKey = KEY,
) -> tuple[int, int]:
    span = span_of(first, last)
    found = archive.land(
        key, span, series_of(rows, total), buckets=Grid(span, "hour"), asked_s=asked_s
    )
    return found.changed, found.withdrawn


class FakeMonths:
    """Months in memory, published in the way that the landing is told of."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.kept: dict[SeriesKey, dict[int, list[Row]]] = {}
        self.piece_rows = 3
        self.expected: list[SeriesKey] = []
        archive._months = self

    def publish(self) -> None:
        """All that waits, with what is there: rows of a later answer stand."""
        from copper_cli.archive.columns import decode

        with self.archive.transaction() as db:
            waiting = db.execute(
                "SELECT a.id, s.subject, s.kind, s.granularity, s.grid, a.body FROM answers AS a"
                " JOIN series AS s ON s.id = a.series WHERE a.pending = 0 ORDER BY a.id"
            ).fetchall()
            for number, *about, body in waiting:
                key, block = SeriesKey(*about), decode(body)
                found: dict[int, list[Row]] = {}
                for time, row in zip(block.times, block.rows(), strict=True):
                    found.setdefault(time, []).append(row)
                self.kept.setdefault(key, {}).update(found)
                db.execute(
                    "INSERT OR REPLACE INTO months VALUES (?, ?, '2023-11', '', 0, 0, 0)",
                    (key.kind, key.granularity),
                )
                db.execute("DELETE FROM answers WHERE id = ?", (number,))

    def _pieces(self, key: SeriesKey, first: int, last: int) -> Iterator[list[tuple[int, Row]]]:
        kept = self.kept.get(key, {})
        rows = [(t, row) for t in sorted(kept) if first <= t <= last for row in kept[t]]
        for start in range(0, len(rows), self.piece_rows):
            yield rows[start : start + self.piece_rows]

    def rows(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Series]:
        for piece in self._pieces(key, start_s, end_s):
            columns = zip(*(row for _, row in piece), strict=True)
            yield Series([time for time, _ in piece], *columns, None)

    def instants(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Instants]:
        for piece in self._pieces(key, start_s * 10**6, end_s * 10**6 - 1):
            yield Instants([t for t, _ in piece], *zip(*(row for _, row in piece), strict=True))

    def expect(self, keys: Sequence[SeriesKey]) -> None:
        self.expected = list(keys)


def new_archive(folder: Path, **more: Any) -> Archive:
    return Archive(folder / "archive", archive_id="a", **more)
