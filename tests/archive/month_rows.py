"""Rows of any kind, landed in an archive, and how they are read."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from copper_cli.archive import Archive, Instants, SeriesKey
from copper_cli.archive.months import Month, find_files
from copper_cli.buckets import Grid
from copper_cli.records import Series

H = 3600
T0 = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
FAR = 1 << 33
ASKED = T0 + 400 * 24 * H


def open_archive(path: Path) -> Archive:
    path.mkdir(exist_ok=True)
    return Archive(path, archive_id="0" * 32)


def number(rng: random.Random):
    """All that a cloud may send."""
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.3:
        return rng.choice([0, 1, 7, 10**6, -3])
    return rng.choice([round(rng.random() * 9, 4), 0.0, -0.0, 1e-9, 12.5, 2.0])


def actual(rng: random.Random):
    kind = rng.random()
    if kind < 0.1:
        return None
    return rng.randrange(10**12) if kind < 0.8 else round(rng.random() * 99, 2)


def make_series(rng: random.Random, ends: list[int], *, dull: bool = False) -> Series:
    if dull:
        energy = [round(rng.random() * 9, 4) for _ in ends]
        registers = [round(sum(energy[: n + 1]), 2) for n in range(len(ends))]
        return Series(ends, energy, energy, registers, [int(r * 100) for r in registers], None)
    columns = [[number(rng) for _ in ends] for _ in range(3)]
    return Series(ends, *columns, [actual(rng) for _ in ends], None, "power")


def land(archive: Archive, key: SeriesKey, series: Series, start_s: int, end_s: int):
    return archive.land(
        key, (start_s, end_s), series, buckets=Grid((start_s, end_s), "hour"), asked_s=ASKED
    )


def hours(first: int, last: int, phase: int = 0) -> list[int]:
    return [T0 + phase + H * place for place in range(first + 1, last + 1)]


def rows_of(archive: Archive, key: SeriesKey, first: int = 0, last: int = FAR):
    """Every row with every digit."""
    found = []
    for piece in archive.rows(key, first, last):
        assert len(piece.times_s) <= 50_000
        columns = piece.energy, piece.power, piece.value, piece.actual
        assert all(len(column) == len(piece.times_s) for column in columns)
        found += [
            (time_s, *map(repr, numbers))
            for time_s, *numbers in zip(piece.times_s, *columns, strict=True)
        ]
    assert [row[0] for row in found] == sorted({row[0] for row in found})
    return found


def plain(archive: Archive, folder: str = "usage") -> list[tuple]:
    """What any program reads."""
    import duckdb

    key = "gateway_id" if folder == "grid" else "meter_id"
    at = '"end"' if folder in ("usage", "baseline", "average") else "time"
    query = f"SELECT {key}, epoch({at})::BIGINT FROM read_parquet('{archive.path}/{folder}/**/*.parquet')"
    with duckdb.connect() as db:
        return sorted(db.execute(query).fetchall())


def assert_in_order(archive):
    import duckdb

    from copper_cli.archive.parquet import find_fault

    with archive.reading() as db:
        noted = {
            Month(*row[:3]): row[3]
            for row in db.execute("SELECT kind, granularity, month, rows FROM months")
        }
    files = dict(find_files(archive.path))
    assert files.keys() == noted.keys()
    with duckdb.connect() as duck:
        for month, file in files.items():
            assert find_fault(duck, file, month, noted[month]) is None


def make_instants(rng: random.Random, first_s: int, last_s: int, count: int) -> Instants:
    times = sorted(rng.randrange(first_s * 10**6, last_s * 10**6) for _ in range(count))
    times = sorted(times + rng.sample(times, count // 10) * 2)  # several at one instant
    return Instants(times, [actual(rng) for _ in times], [number(rng) for _ in times])


def instants_of(archive: Archive, key: SeriesKey, first: int = 0, last: int = FAR):
    return [
        (time, repr(a), repr(b))
        for piece in archive.instants(key, first, last)
        for time, a, b in zip(piece.times_us, piece.first, piece.second, strict=True)
    ]
