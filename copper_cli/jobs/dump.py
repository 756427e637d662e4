"""Download a range as one folder a day, and zip it: one call a meter, cut into days here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.folder import FileJob, Part, download_files
from copper_cli.jobs.interval import (
    MeterSeries,
    SeriesRequest,
    fetch_meter,
    judge_series,
    plan_downloads,
    series_file,
)
from copper_cli.jobs.outcome import Outcome, summarise
from copper_cli.plan import SeriesPlan, plan_series
from copper_cli.records import Column, Meter, Table
from copper_cli.series import clip_series, sum_rows
from copper_cli.write.bundle import write_bundle
from copper_cli.write.files import check_name, write_whole
from copper_cli.write.layouts import Layout, render_series
from copper_cli.write.tables import render_csv

SUMMARY = "meter_summary.csv"
_COLUMNS = (
    Column("Day", "day"),
    Column("Meters", "meters"),
    Column("Rows", "rows"),
    Column("To Come", "to_come"),
)
_SUMMARY_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Sum Usage", "sum_usage"),
)


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """Which days, under which name."""

    name: str
    """Folder below the output folder, and of the ZIP."""
    start: date
    """First local day."""
    finish: date
    """Last local day, included."""
    granularity: str
    """One of plan.GRANULARITIES."""
    zone: ZoneInfo | None
    """Forced for all meters; None: each meter's own."""
    layout: Layout
    """How the files look."""

    def days(self) -> list[date]:
        """Every day of the range."""
        count = (self.finish - self.start).days + 1
        return [self.start + timedelta(days=n) for n in range(count)]

    def whole(self) -> SeriesRequest:
        """The whole range in one question."""
        return self._request(self.start, self.finish + timedelta(days=1))

    def of_day(self, day: date) -> SeriesRequest:
        """One day's question."""
        return self._request(day, day + timedelta(days=1))

    def _request(self, start: date, end: date) -> SeriesRequest:
        return SeriesRequest("usage", start, end, self.granularity, self.zone, layout=self.layout)


@dataclass(frozen=True, slots=True)
class _DayFile:
    """One meter's file of one day."""

    day: date
    meter: Meter
    part: Part


def dump_days(context: Context, request: DumpRequest, output: Output) -> Table:
    """A row a day: meters with a file, rows in them, buckets to come.

    Writes NAME/DAY/ID.usage.csv and NAME/DAY/meter_summary.csv, then NAME.TODAY.zip of them
    where nothing is missing; `facts["bundle"]` is its path, None where there is none.
    """
    before = context.session.calls_used
    check_name(request.name, "NAME")
    folder = output.folder / request.name
    planned = plan_downloads(context, request.whole())
    jobs, files = [], []
    for meter, zone, plan in planned:
        own = [
            f
            for day in request.days()
            if (f := _day_file(context, request, day, meter, zone, output.raw_cells))
        ]
        fetch = partial(fetch_meter, context, request.whole(), meter, zone, plan)
        jobs.append(FileJob(meter.id, plan.windows, fetch, [f.part for f in own]))
        files += own
    outcomes = download_files(context, replace(output, folder=folder), jobs)
    by_day: dict[date, list[tuple[_DayFile, Outcome]]] = defaultdict(list)
    for file, outcome in zip(files, outcomes, strict=True):
        if outcome.state in ("fetched", "kept"):
            by_day[file.day].append((file, outcome))
    members = {}
    for day in request.days():
        path = folder / day.isoformat() / SUMMARY
        write_whole(path, render_csv(_summary(by_day[day]), raw_cells=output.raw_cells))
        for name in [*(file.part.name for file, _ in by_day[day]), f"{day}/{SUMMARY}"]:
            members[f"{request.name}/{name}"] = folder / name
    facts: dict[str, Any] = summarise(outcomes, context.session.calls_used - before)
    facts |= {"folder": str(folder), "noun": "file", "bundle": None}
    if not facts["failed"]:
        bundle = output.folder / f"{request.name}.{context.today():%Y%m%d}.zip"
        write_bundle(bundle, members)
        facts["bundle"] = str(bundle)
    title = f"Dump {request.name} {request.start} through {request.finish}"
    return Table(title, _COLUMNS, [_row(d, by_day[d]) for d in request.days()], facts)


def _day_file(
    context: Context,
    request: DumpRequest,
    day: date,
    meter: Meter,
    zone: ZoneInfo,
    raw_cells: bool,
) -> _DayFile | None:
    """The file of one day; None where the meter did not exist yet."""
    asked = request.of_day(day)
    plan = plan_series(
        asked.start, asked.end, zone, request.granularity, created_utc=meter.created_utc
    )
    if not plan.windows:
        return None
    part = Part(
        name=f"{day}/{asked.file_name(meter.id)}",
        question=replace(asked.question(), command="dump"),
        render=lambda got: render_series(
            series_file(_slice(got, plan), asked), request.layout, raw_cells=raw_cells
        ),
        judge=lambda got: judge_series(context, _slice(got, plan)),
    )
    return _DayFile(day, meter, part)


def _slice(got: MeterSeries, plan: SeriesPlan) -> MeterSeries:
    """The rows of one day, both midnights, with the sum of those after the first."""
    rows = clip_series(got.series, plan.start_s, plan.end_s)
    return replace(got, plan=plan, series=replace(rows, sum_energy=sum_rows(rows, plan.start_s)))


def _summary(found: Sequence[tuple[_DayFile, Outcome]]) -> Table:
    rows = [(f.meter.id, f.meter.type, o.sum_energy) for f, o in found]
    return Table("Meter usage", _SUMMARY_COLUMNS, rows)


def _row(day: date, found: Sequence[tuple[_DayFile, Outcome]]) -> tuple[Any, ...]:
    return (
        day.isoformat(),
        len(found),
        sum(o.rows for _, o in found),
        sum(o.to_come for _, o in found),
    )
