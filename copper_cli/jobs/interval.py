"""Download interval rows: usage, baseline-series, average-series; one file a meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from zoneinfo import ZoneInfo

from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.fetch import fetch_series
from copper_cli.jobs.fleet import Zones, choose
from copper_cli.jobs.folder import FileJob, Part, download_files
from copper_cli.jobs.outcome import Outcome, summarise
from copper_cli.plan import SeriesPlan, local_midnight, plan_series
from copper_cli.records import Column, Meter, Series, SeriesKind, Table
from copper_cli.series import count_to_come, has_values
from copper_cli.units import standard_unit
from copper_cli.write.files import safe_name
from copper_cli.write.layouts import Layout, SeriesFile, render_series
from copper_cli.write.manifest import Question

_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Sum Usage", "sum_usage"),
    Column("Unit", "unit", hidden=True),
    Column("File", "file", hidden=True),
    Column("Rows", "rows", hidden=True),
    Column("To come", "to_come", hidden=True),
)


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """What was asked for, of every meter or of some."""

    kind: SeriesKind
    """Which series."""
    start: date
    """Local midnight of this day begins it."""
    end: date
    """Local midnight of this day ends it."""
    granularity: str
    """One of plan.GRANULARITIES."""
    zone: ZoneInfo | None = None
    """Forced for all meters; None: each meter's own."""
    meter_ids: tuple[str, ...] = ()
    """Empty: all meters."""
    step_days: int | None = None
    """Windows of that many days; None: as few as the cloud allows."""
    layout: Layout = "rows"
    """How the files look."""
    baseline: bool = False
    """Add the baseline series to the usage."""

    @property
    def command(self) -> str:
        """As it is typed."""
        return f"meter {self.kind}"

    def question(self) -> Question:
        """What a file answers; the same again needs no call."""
        return Question(
            command=self.command,
            start=self.start.isoformat(),
            end=self.end.isoformat(),
            granularity=self.granularity,
            timezone=self.zone.key if self.zone else None,
            layout=self.layout,
            extras={"baseline": True} if self.baseline else {},
        )

    def file_name(self, meter_id: str) -> str:
        """`07_57277300.usage.csv`."""
        return safe_name(meter_id, f".{self.kind}.csv")


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """One meter's rows, complete or with buckets to come."""

    meter: Meter
    zone: ZoneInfo
    plan: SeriesPlan
    series: Series
    baseline: Series | None


def download_series(context: Context, request: SeriesRequest, output: Output) -> Table:
    """One file a meter and a row each in the table, in the cloud's order.

    Meters created after the end are not asked; those without any value get no file and no
    row. `facts` says what is done, empty, failed and still to come.
    """
    before = context.session.calls_used
    jobs = plan_downloads(context, request)
    question = request.question()
    outcomes = download_files(
        context,
        output,
        [
            FileJob(
                subject=meter.id,
                windows=plan.windows,
                fetch=partial(fetch_meter, context, request, meter, zone, plan),
                parts=[_part(context, request, question, meter, output.raw_cells)],
            )
            for meter, zone, plan in jobs
        ],
    )
    by_id = {meter.id: meter for meter, _, _ in jobs}
    rows = [_row(by_id[o.subject], o) for o in outcomes if o.state in ("fetched", "kept")]
    title = f"Meter {request.kind} download {request.start} through {request.end}"
    facts = summarise(outcomes, context.session.calls_used - before)
    return Table(title, _COLUMNS, rows, {**facts, "folder": str(output.folder), "noun": "meter"})


def plan_downloads(
    context: Context, request: SeriesRequest
) -> list[tuple[Meter, ZoneInfo, SeriesPlan]]:
    """The meters to ask, each with its zone and windows; no call beyond the lists.

    Raises UsageError for an unknown meter or a meter whose zone nobody knows.
    """
    meters = choose(context.client.fetch_meters(with_history=False), request.meter_ids, "meter")
    zones = Zones(context, request.zone)
    planned = []
    for meter in meters:
        zone = zones.of(meter)
        plan = plan_series(
            request.start,
            request.end,
            zone,
            request.granularity,
            created_utc=meter.created_utc,
            step_days=request.step_days,
        )
        if plan.windows:
            planned.append((meter, zone, plan))
    return planned


def fetch_meter(
    context: Context, request: SeriesRequest, meter: Meter, zone: ZoneInfo, plan: SeriesPlan
) -> MeterSeries:
    """All rows of one meter, and its baseline where that is asked for."""
    series = fetch_series(context, meter.id, request.kind, plan)
    baseline = (
        fetch_series(context, meter.id, "baseline-series", plan) if request.baseline else None
    )
    return MeterSeries(meter, zone, plan, series, baseline)


def series_file(got: MeterSeries, request: SeriesRequest) -> SeriesFile:
    """What the layouts need to write one meter's file."""
    first_day = local_midnight(request.start, got.zone)
    return SeriesFile(
        meter_id=got.meter.id,
        meter_type=got.meter.type,
        uom=standard_unit(got.meter.type) or got.meter.uom,
        timezone=got.zone.key,
        granularity=request.granularity,
        kind=request.kind,
        start=max(first_day, got.plan.windows[0].start_utc).astimezone(got.zone),
        end=got.plan.windows[-1].end_utc.astimezone(got.zone),
        series=got.series,
        baseline=got.baseline,
    )


def _part(
    context: Context, request: SeriesRequest, question: Question, meter: Meter, raw_cells: bool
) -> Part:
    return Part(
        name=request.file_name(meter.id),
        question=question,
        render=lambda got: render_series(
            series_file(got, request), request.layout, raw_cells=raw_cells
        ),
        judge=partial(judge_series, context),
    )


def judge_series(context: Context, got: MeterSeries) -> Outcome:
    """Whether there is anything to write, and how much of it is still to come."""
    if not has_values(got.series):
        return Outcome(got.meter.id, "empty")
    to_come, first = count_to_come(got.series, context.now())
    return Outcome(
        got.meter.id,
        "fetched",
        rows=len(got.series.times_s),
        to_come=to_come,
        first_to_come=first,
        sum_energy=got.series.sum_energy,
    )


def _row(meter: Meter, outcome: Outcome) -> Sequence[object]:
    return (
        meter.id,
        meter.type,
        outcome.sum_energy,
        standard_unit(meter.type) or meter.uom,
        outcome.file,
        outcome.rows,
        outcome.to_come,
    )
