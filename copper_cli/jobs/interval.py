"""Download interval rows: usage, baseline-series, average-series; one file a meter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from copper_cli.errors import ZoneError
from copper_cli.folders.entries import Question
from copper_cli.plan import plan_series
from copper_cli.records import Meter
from copper_cli.render.meter_csv import render_series
from copper_cli.table import Column, Table
from copper_cli.units import amount_unit
from copper_cli.work.context import Asking, Context, Output
from copper_cli.work.derived_job import derived_job
from copper_cli.work.download import FileJob, Part, download_files, failed_job
from copper_cli.work.estimate import estimate_files, estimate_table
from copper_cli.work.fleet import Zoneless, Zones, choose, fetch_meters_and_zones, with_zone
from copper_cli.work.meter_series import (
    MeterSeries,
    Planned,
    SeriesRequest,
    judge_series,
    meter_job,
    series_file,
)
from copper_cli.work.outcome import Outcome, summarise

_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Sum Usage", "sum_usage"),
    Column("Unit", "unit", hidden=True),
    Column("File", "file", hidden=True),
    Column("Rows", "rows", hidden=True),
    Column("To come", "to_come", hidden=True),
    Column("Late", "late", hidden=True),
    Column("Missing", "missing", hidden=True),
    Column("Changed", "changed", hidden=True),
)


def download_series(context: Context, request: SeriesRequest, output: Output) -> Table:
    """One file a meter and a row each in the table, in the cloud's order.

    Meters created after the end are not asked; those without any value get no file and no
    row. `facts` says what is done, empty, failed and still to come.
    """
    before = context.session.calls_used
    planned, _ = plan_downloads(context, request)
    jobs = _jobs(context, request, output, planned)
    outcomes = download_files(context, output, jobs)
    by_id = {one.meter.id: one.meter for one in planned}
    rows = [_row(by_id[o.subject], o) for o in outcomes if o.state in ("fetched", "kept")]
    facts = summarise(context, outcomes, before, noun="meter", folder=output.folder)
    return Table(request.title(), _COLUMNS, rows, facts)


def estimate_series(context: Context, request: SeriesRequest, output: Output) -> Table:
    """What download_series would cost beyond its lists; nothing is fetched or written."""
    found, zones = plan_downloads(context, request)
    jobs = _jobs(context, request, output, with_zone(context, found))
    estimate = estimate_files(context, output, jobs, zones.cost())
    return estimate_table(context, request.title(), "meters", estimate)


def plan_downloads(
    context: Context, request: SeriesRequest
) -> tuple[list[Planned | Zoneless], Zones]:
    """The meters to ask, each with its zone and windows or why it has none; and the zones.

    Beyond the lists only calls for zones are made. Raises UsageError for an unknown meter.
    """
    meters, zones = fetch_meters_and_zones(context, request.zone)
    planned: list[Planned | Zoneless] = []
    for meter, zone in zones.find(choose(meters, request.meter_ids, "meter")):
        if isinstance(zone, ZoneError):
            planned.append(Zoneless(meter, zone))
            continue
        plan = plan_series(
            request.start,
            request.end,
            zone,
            request.granularity,
            created_utc=meter.created_utc,
            step_days=request.step_days,
        )
        planned.append(Planned(meter, zone, plan))
    return planned, zones


def _jobs(
    context: Context, request: SeriesRequest, output: Output, planned: Sequence[Planned | Zoneless]
) -> list[FileJob[MeterSeries]]:
    question = request.question()  # one for all meters: it is the same
    return [_job(context, request, question, output, one) for one in planned]


def _job(
    context: Context,
    request: SeriesRequest,
    question: Question,
    output: Output,
    planned: Planned | Zoneless,
) -> FileJob[MeterSeries]:
    if isinstance(planned, Zoneless):
        files = [(request.file_name(planned.meter.id), question)]
        return failed_job(context, planned.meter.id, files, planned.error)
    part: Part[MeterSeries] = Part(
        name=request.file_name(planned.meter.id),
        question=question,
        render=lambda got: render_series(
            series_file(got, request), request.layout, raw_cells=output.raw_cells
        ),
        judge=partial(judge_series, context),
        timezone=planned.zone.key,
    )
    is_held = request.derive and output.asking == Asking()  # else the cloud is to be asked
    derived = derived_job(context, request, planned, [part]) if is_held else None
    return derived or meter_job(context, request, planned, output, [part])


def _row(meter: Meter, outcome: Outcome) -> Sequence[object]:
    return (
        meter.id,
        meter.type,
        outcome.sum_energy,
        amount_unit(meter.type, meter.uom),
        outcome.file,
        outcome.rows,
        outcome.unfilled.to_come,
        outcome.unfilled.late,
        outcome.unfilled.missing,
        outcome.changed,
    )
