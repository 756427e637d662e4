"""Read a per-meter file of ours back, so that a later run can go on from where it ends."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.records import Series, SeriesKind
from copper_cli.write.layouts import Layout

_PREFIXES: Mapping[SeriesKind, str] = {
    "usage": "usage",
    "baseline-series": "baseline",
    "average-series": "average",
}


@dataclass(frozen=True, slots=True)
class Reread:
    """The rows of a file; sums are left out, since rows were added since."""

    series: Series
    """The file's own series."""
    baseline: Series | None
    """The baseline beside it; None where the file has none."""


def read_series(path: Path, layout: Layout, kind: SeriesKind, timezone: str) -> Reread:
    """What a file written by render_series holds. The layout `plain` has no registers.

    Raises OSError, and ValueError or KeyError for a file that is not ours.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    prefix = _PREFIXES[kind]
    if layout == "plain":
        return Reread(_collect(_plain_cells(rows, ZoneInfo(timezone))), None)
    read = _rows_cells if layout == "rows" else _columns_cells
    own = _collect(read(rows, prefix))
    baseline = _collect(read(rows, "baseline")) if kind == "usage" else None
    return Reread(own, baseline if baseline is not None and baseline.times_s else None)


_Cells = tuple[int, str, str, str, str]


def _plain_cells(rows: list[dict[str, str]], zone: ZoneInfo) -> Iterator[_Cells]:
    """Local times without offset: an hour that comes twice is told apart by its place."""
    last_s = None
    for row in rows:
        local = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=zone)
        time_s = int(local.timestamp())
        if last_s is not None and time_s <= last_s:
            time_s = int(local.replace(fold=1).timestamp())
        last_s = time_s
        yield time_s, row["energy"], row["power"], "", ""


def _rows_cells(rows: list[dict[str, str]], prefix: str) -> Iterator[_Cells]:
    for row in rows:
        if row["record"] == f"{prefix}_result__":
            time_s = int(datetime.fromisoformat(row["timestamp"]).timestamp())
            yield time_s, row["energy"], row["power"], row["value"], row["actual"]


def _columns_cells(rows: list[dict[str, str]], prefix: str) -> Iterator[_Cells]:
    amount = "usage" if prefix == "usage" else "energy"
    for row in rows:
        if text := row.get(f"{prefix}_result__time"):
            time_s = int(datetime.fromisoformat(text).timestamp())
            cells = [row.get(f"{prefix}_result__{name}") or "" for name in ("value", "actual")]
            power = row[f"{prefix}_result__power"]
            yield time_s, row[f"{prefix}_result__{amount}"], power, cells[0], cells[1]


def _collect(cells: Iterator[_Cells]) -> Series:
    found = list(cells)
    return Series(
        times_s=[row[0] for row in found],
        energy=[_number(row[1]) for row in found],
        power=[_number(row[2]) for row in found],
        value=[_number(row[3]) for row in found],
        actual=[_number(row[4]) for row in found],
        sum_energy=None,
    )


def _number(text: str) -> int | float | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)
