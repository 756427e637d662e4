"""Download a range as one folder a day, and zip it: one call a meter, cut into days here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from copper_cli.files.bundle import FolderBundle
from copper_cli.files.names import check_name
from copper_cli.files.whole import renew_whole
from copper_cli.filling import Unfilled
from copper_cli.folders.entries import Question, read_manifest
from copper_cli.folders.manifest import MANIFEST_NAME
from copper_cli.jobs.interval import plan_downloads
from copper_cli.layouts import Layout
from copper_cli.plan import plan_series
from copper_cli.records import Meter
from copper_cli.render.meter_csv import render_series
from copper_cli.render.tables import render_csv
from copper_cli.table import Column, Table
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, Part, download_files, failed_job
from copper_cli.work.estimate import estimate_files, estimate_table
from copper_cli.work.fleet import Zoneless, Zones, with_zone
from copper_cli.work.meter_series import (
    MeterSeries,
    Planned,
    SeriesRequest,
    cut_day,
    judge_series,
    meter_job,
    series_file,
)
from copper_cli.work.outcome import Outcome, summarise

SUMMARY = "meter_summary.csv"
_COLUMNS = (
    Column("Day", "day"),
    Column("Meters", "meters"),
    Column("Rows", "rows"),
    Column("To Come", "to_come"),
    Column("Late", "late", hidden=True),
    Column("Missing", "missing", hidden=True),
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
    """One of buckets.GRANULARITIES."""
    zone: ZoneInfo | None
    """Forced for all meters; None: each meter's own."""
    layout: Layout
    """How the files look."""

    def days(self) -> list[date]:
        """Every day of the range."""
        count = (self.finish - self.start).days + 1
        return [self.start + timedelta(days=n) for n in range(count)]

    def title(self) -> str:
        """The table's title."""
        return f"Dump {self.name} {self.start} through {self.finish}"

    def whole(self) -> SeriesRequest:
        """The whole range in one question."""
        return self._request(self.start, self.finish + timedelta(days=1))

    def of_day(self, day: date) -> SeriesRequest:
        """One day's question."""
        return self._request(day, day + timedelta(days=1))

    def _request(self, start: date, end: date) -> SeriesRequest:
        return SeriesRequest("usage", start, end, self.granularity, self.zone, layout=self.layout)


@dataclass(frozen=True, slots=True)
class _Day:
    """What is asked of every meter on one day."""

    day: date
    asked: SeriesRequest
    question: Question


@dataclass(frozen=True, slots=True)
class _DayFile:
    """One meter's file of one day."""

    day: date
    meter: Meter
    part: Part[MeterSeries]


@dataclass(frozen=True, slots=True)
class _MeterDays:
    """One meter: what is fetched once, and the days made of it."""

    job: FileJob[MeterSeries]
    files: Sequence[_DayFile]


def dump_days(context: Context, request: DumpRequest, output: Output) -> Table:
    """A row a day: meters with a file, rows in them, buckets to come.

    Writes NAME/DAY/ID.usage.csv and NAME/DAY/meter_summary.csv, then NAME.TODAY.zip of them
    where nothing is missing, with the days of earlier runs; `facts["bundle"]` is its path, None
    where there is none.
    """
    before = context.session.calls_used
    folder = output.folder / request.name
    found, _ = _find_meters(context, request, output)
    planned = _plan(context, request, output, found)
    outcomes = download_files(context, replace(output, folder=folder), [p.job for p in planned])
    by_day: dict[date, list[tuple[_DayFile, Outcome]]] = defaultdict(list)
    files = [file for one in planned for file in one.files]
    for file, outcome in zip(files, outcomes, strict=True):
        by_day[file.day].append((file, outcome))
    context.progress.start("days", len(request.days()), "adding up")
    for day in request.days():
        text = "".join(render_csv(_summary(by_day[day]), raw_cells=output.raw_cells))
        renew_whole(folder / day.isoformat() / SUMMARY, text)
        context.progress.advance()
    facts = summarise(context, outcomes, before, noun="file", folder=folder) | {"bundle": None}
    if not facts["failed"]:
        path = output.folder / _bundle_name(context, request)
        bundle = FolderBundle(path, folder, _members(context, folder))
        if not bundle.is_current():
            context.progress.start("files", len(bundle), "zipping")
            bundle.write(context.progress.advance)
        facts["bundle"] = str(path)
    return Table(request.title(), _COLUMNS, [_row(d, by_day[d]) for d in request.days()], facts)


def _bundle_name(context: Context, request: DumpRequest) -> str:
    return f"{request.name}.{context.today():%Y%m%d}.zip"


def _members(context: Context, folder: Path) -> list[str]:
    """The files of every day of the folder, also of days that earlier runs dumped.

    Those of a home that was forgotten since are left where they lie, and go nowhere else.
    """
    is_forgotten = context.archive.is_forgotten
    entries, _ = read_manifest(folder / MANIFEST_NAME)
    names = {name for name, entry in entries.items() if not is_forgotten(entry.subject)}
    days = {name.partition("/")[0] for name in names}
    return sorted(names | {f"{day}/{SUMMARY}" for day in days})


def estimate_dump(context: Context, request: DumpRequest, output: Output) -> Table:
    """What dump_days would cost beyond its lists; nothing is fetched or written."""
    found, zones = _find_meters(context, request, output)
    planned = _plan(context, request, output, with_zone(context, found))
    folder = replace(output, folder=output.folder / request.name)
    estimate = estimate_files(context, folder, [one.job for one in planned], zones.cost())
    return estimate_table(context, request.title(), "meters", estimate)


def _find_meters(
    context: Context, request: DumpRequest, output: Output
) -> tuple[list[Planned | Zoneless], Zones]:
    check_name(request.name, "NAME")
    summaries = [f"{request.name}/{day}/{SUMMARY}" for day in request.days()]
    output.refuse_table([_bundle_name(context, request), *summaries])
    return plan_downloads(context, request.whole())


def _plan(
    context: Context, request: DumpRequest, output: Output, meters: Iterable[Planned | Zoneless]
) -> list[_MeterDays]:
    """Each meter with one fetch of the whole range, and its files of the days."""
    whole = request.whole()
    inner = replace(output, folder=output.folder / request.name)
    days = []
    for day in request.days():
        asked = request.of_day(day)
        days.append(_Day(day, asked, replace(asked.question(), command="dump")))
    found = []
    for planned in meters:
        file_name = whole.file_name(planned.meter.id)
        if isinstance(planned, Zoneless):
            found.append(_lost_days(context, planned, file_name, days))
            continue
        parts = (_day_file(context, one, planned, file_name, output.raw_cells) for one in days)
        files = [file for file in parts if file is not None]
        job = meter_job(context, whole, planned, inner, [file.part for file in files])
        found.append(_MeterDays(job, files))
    return found


def _lost_days(
    context: Context, planned: Zoneless, file_name: str, days: Sequence[_Day]
) -> _MeterDays:
    """A meter that cannot be asked: all its days fail."""
    names = [(f"{one.day}/{file_name}", one.question) for one in days]
    job = failed_job(context, planned.meter.id, names, planned.error)
    parts = zip(days, job.parts, strict=True)
    return _MeterDays(job, [_DayFile(one.day, planned.meter, part) for one, part in parts])


def _day_file(
    context: Context, one: _Day, planned: Planned, file_name: str, raw_cells: bool
) -> _DayFile | None:
    """The file of one day; None where the meter did not exist yet."""
    asked, meter = one.asked, planned.meter
    plan = plan_series(
        asked.start, asked.end, planned.zone, asked.granularity, created_utc=meter.created_utc
    )
    if not plan.windows:
        return None
    day = replace(planned, plan=plan)
    part: Part[MeterSeries] = Part(
        name=f"{one.day}/{file_name}",
        question=one.question,
        render=lambda got: render_series(
            series_file(cut_day(got, day, context.now()), asked), asked.layout, raw_cells=raw_cells
        ),
        judge=lambda got: judge_series(context, cut_day(got, day, context.now())),
        timezone=planned.zone.key,
    )
    return _DayFile(one.day, meter, part)


def _summary(found: Sequence[tuple[_DayFile, Outcome]]) -> Table:
    rows = [(f.meter.id, f.meter.type, o.sum_energy) for f, o in found if o.file]
    return Table("Meter usage", _SUMMARY_COLUMNS, rows)


def _row(day: date, found: Sequence[tuple[_DayFile, Outcome]]) -> tuple[Any, ...]:
    done = [outcome for _, outcome in found if outcome.file]
    unfilled = sum((outcome.unfilled for _, outcome in found), Unfilled())
    return (
        day.isoformat(),
        len(done),
        sum(outcome.rows for outcome in done),
        unfilled.to_come,
        unfilled.late,
        unfilled.missing,
    )
