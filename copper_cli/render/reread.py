"""Read a per-meter file of ours back, so that a later run can go on from where it ends."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.layouts import Layout
from copper_cli.records import Series, SeriesKind
from copper_cli.render.meter_csv import PREFIXES

_PIECE_ROWS = 50_000


def read_series(path: Path, layout: Layout, kind: SeriesKind, timezone: str) -> Iterator[Series]:
    """The rows of one kind in a file written by render_series, in ascending pieces without sums.

    A baseline beside the usage is asked for by its own kind. The layout `plain` has no kinds and
    no registers. Raises OSError, and ValueError or KeyError for a file that is not ours.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        lines = csv.reader(stream)
        places = {name: place for place, name in enumerate(next(lines, []))}
        if layout == "plain":
            cells = _plain_cells(lines, places, ZoneInfo(timezone))
        elif layout == "rows":
            cells = _rows_cells(lines, places, PREFIXES[kind])
        else:
            cells = _columns_cells(lines, places, PREFIXES[kind])
        while piece := list(islice(cells, _PIECE_ROWS)):
            yield _collect(piece)


LocalRow = tuple[int, int | float | None, int | float | None]
"""Local clock time in microseconds since 1970, and two numbers."""

_EPOCH = datetime(1970, 1, 1)
_US = timedelta(microseconds=1)


def read_readings(path: Path) -> Iterator[LocalRow]:
    """The rows of a file written by render_readings, in the order of their instants.

    Local time, the register, the register in the standard unit.
    Raises OSError, and ValueError or IndexError for a file that is not ours.
    """
    return _read_local(path, 2)


def read_grid(path: Path) -> Iterator[LocalRow]:
    """The rows of a file written by render_grid, as read_readings: local time, volts, hertz."""
    return _read_local(path, 1)


def _read_local(path: Path, time: int) -> Iterator[LocalRow]:
    """Local time stands in a column, the numbers in the two behind it."""
    with path.open(encoding="utf-8", newline="") as stream:
        lines = csv.reader(stream)
        next(lines, None)
        for line in lines:
            local_us = (datetime.fromisoformat(line[time]) - _EPOCH) // _US
            yield local_us, _number(line[time + 1]), _number(line[time + 2])


_Cells = tuple[int, str, str, str, str]
_Places = Mapping[str, int]


def _plain_cells(lines: Iterator[list[str]], places: _Places, zone: ZoneInfo) -> Iterator[_Cells]:
    """Local times without offset: an hour that comes twice is told apart by its place."""
    time, energy, power = (places[name] for name in ("timestamp", "energy", "power"))
    last_s = None
    for line in lines:
        local = datetime.fromisoformat(line[time]).replace(tzinfo=zone)
        time_s = int(local.timestamp())
        if last_s is not None and time_s <= last_s:
            time_s = int(local.replace(fold=1).timestamp())
        last_s = time_s
        yield time_s, line[energy], line[power], "", ""


def _rows_cells(lines: Iterator[list[str]], places: _Places, prefix: str) -> Iterator[_Cells]:
    record, time = places["record"], places["timestamp"]
    numbers = [places[name] for name in ("energy", "power", "value", "actual")]
    wanted = f"{prefix}_result__"
    for line in lines:
        if line[record] == wanted:
            yield _cells(line, time, numbers)


def _columns_cells(lines: Iterator[list[str]], places: _Places, prefix: str) -> Iterator[_Cells]:
    """No rows where the file has no such columns."""
    time = places.get(f"{prefix}_result__time")
    if time is None:
        return
    names = ("usage" if prefix == "usage" else "energy", "power", "value", "actual")
    numbers = [places.get(f"{prefix}_result__{name}") for name in names]
    for line in lines:
        if line[time]:
            yield _cells(line, time, numbers)


def _cells(line: Sequence[str], time: int, numbers: Sequence[int | None]) -> _Cells:
    time_s = int(datetime.fromisoformat(line[time]).timestamp())
    energy, power, value, actual = ("" if at is None else line[at] for at in numbers)
    return time_s, energy, power, value, actual


def _collect(rows: Sequence[_Cells]) -> Series:
    return Series(
        times_s=[row[0] for row in rows],
        energy=[_number(row[1]) for row in rows],
        power=[_number(row[2]) for row in rows],
        value=[_number(row[3]) for row in rows],
        actual=[_number(row[4]) for row in rows],
        sum_energy=None,
    )


def _number(text: str) -> int | float | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)
