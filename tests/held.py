"""What the archive holds after a meter was asked for, as one series."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copper_cli.archive import Archive, Landed, SeriesKey, Span
from copper_cli.plan import SeriesPlan
from copper_cli.records import Meter, Reading, Series, SeriesKind, Window
from copper_cli.render.meter_csv import SeriesRows
from copper_cli.series import clip_series
from copper_cli.work.context import Asking, Context
from copper_cli.work.fetch_rows import fetch_rows, hold_rows
from copper_cli.work.readings_answers import MeterReadings


def new_archive() -> Archive:
    """An empty one, in a folder of its own."""
    return Archive(Path(tempfile.mkdtemp(prefix="copper-archive-")), archive_id="a", temporary=True)


class Brought:
    """In the place of an archive where only calls and rows count: what came, in memory."""

    def __init__(self) -> None:
        self._rows: dict[SeriesKey, list[Series]] = {}

    def lacking(self, key: SeriesKey, span: Span, **how: Any) -> list[Span]:
        return [] if key in self._rows else [span]

    def land(self, key: SeriesKey, span: Span, series: Series, **how: Any) -> Landed:
        self._rows.setdefault(key, []).append(clip_series(series, span[0], span[1]))
        return Landed()

    def rows(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Series]:
        yield from self._rows.get(key, ())

    def fail(self, key: SeriesKey, span: Span, **how: Any) -> None:
        pass

    def sum_of(self, key: SeriesKey, span: Span) -> tuple[float | None, str]:
        sums = [one.sum_energy for one in self._rows.get(key, ())]
        return (None if None in sums else sum(one for one in sums if one is not None)), "tiles"


def meter_named(meter_id: str) -> Meter:
    """A meter of which only the id counts."""
    return Meter(meter_id, "power", "connected", None, None, None, None, ())


def fetch_series(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    asking: Asking | None = None,
) -> Series:
    """All rows of a plan, with the cloud's own sum."""
    fetch_rows(context, meter_named(meter_id), kind, plan, asking)
    held = hold_rows(context, meter_id, kind, plan)
    total, _ = held.sum(plan.start_s, plan.end_s)
    return replace(held.clip(plan.start_s, plan.end_s), sum_energy=total)


def fetch_readings(
    context: Context, meter: Meter, window: Window, asking: Asking | None = None
) -> list[Reading]:
    """All readings of a window."""
    asked = MeterReadings(context, meter.id, window, asking or Asking())
    asked.fetch()
    return list(asked.rows())


def rows_of(series: Series | None) -> SeriesRows | None:
    """A series as a file shows it."""
    return None if series is None else SeriesRows(lambda: [series], series.sum_energy)


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


SUMS = {"sum_energy", "usage_summary__sum_usage", "baseline_summary__sum_energy"}


def assert_alike(found: Path, expected: Path) -> None:
    """The same files with the same rows; sums that were added up differ in the last digits."""
    names = sorted(str(p.relative_to(expected)) for p in expected.rglob("*.csv"))
    assert sorted(str(p.relative_to(found)) for p in found.rglob("*.csv")) == names
    assert names
    for name in names:
        head, *theirs = cells(expected / name)
        may_differ = {at for at, column in enumerate(head) if column in SUMS}
        for at, column in enumerate(head):
            if name.endswith("meter_summary.csv") and column == "Sum Usage":
                may_differ.add(at)
        for ours, row in zip(cells(found / name)[1:], theirs, strict=True):
            for at, (a, b) in enumerate(zip(ours, row, strict=True)):
                assert a == b or (
                    at in may_differ and float(a) == pytest.approx(float(b), abs=2e-3)
                )
