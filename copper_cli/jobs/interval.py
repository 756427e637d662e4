"""Download interval rows: usage, baseline-series, average-series; one file a meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from zoneinfo import ZoneInfo

from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.estimate import estimate_files, estimate_table
from copper_cli.jobs.fetch import count_calls, fetch_series
from copper_cli.jobs.fleet import Zones, choose
from copper_cli.jobs.folder import FileJob, Part, download_files
from copper_cli.jobs.outcome import Cost, Outcome, summarise
from copper_cli.plan import SeriesPlan, plan_series
from copper_cli.records import LATE_S, Column, Meter, Series, SeriesKind, Table
from copper_cli.series import clip_series, count_to_come, has_values
from copper_cli.units import standard_unit
from copper_cli.write.draft import Draft
from copper_cli.write.files import safe_name
from copper_cli.write.layouts import Layout, SeriesFile, render_series
from copper_cli.write.manifest import Folder, Question
from copper_cli.write.reread import Reread, read_series

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

    def title(self) -> str:
        """The table's title, in the reference's words."""
        return f"Meter {self.kind} download {self.start} through {self.end}"

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
class Planned:
    """A meter and what is asked of it."""

    meter: Meter
    """Which one."""
    zone: ZoneInfo
    """Where its days begin."""
    plan: SeriesPlan
    """Its windows."""


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """One meter's rows, complete or with buckets to come."""

    planned: Planned
    """The meter and what was asked."""
    series: Series
    """Its rows."""
    baseline: Series | None
    """Its baseline, where that was asked for."""


def download_series(context: Context, request: SeriesRequest, output: Output) -> Table:
    """One file a meter and a row each in the table, in the cloud's order.

    Meters created after the end are not asked; those without any value get no file and no
    row. `facts` says what is done, empty, failed and still to come.
    """
    before = context.session.calls_used
    planned = plan_downloads(context, request)
    jobs = [_job(context, request, output, one) for one in planned]
    outcomes = download_files(context, output, jobs)
    by_id = {one.meter.id: one.meter for one in planned}
    rows = [_row(by_id[o.subject], o) for o in outcomes if o.state in ("fetched", "kept")]
    facts = summarise(context, outcomes, before, noun="meter", folder=output.folder)
    return Table(request.title(), _COLUMNS, rows, facts)


def estimate_series(context: Context, request: SeriesRequest, output: Output) -> Table:
    """What download_series would cost beyond its lists; nothing is fetched or written."""
    planned = plan_downloads(context, request)
    estimate = estimate_files(
        context, output, [_job(context, request, output, one) for one in planned]
    )
    return estimate_table(context, request.title(), "meters", estimate)


def plan_downloads(context: Context, request: SeriesRequest) -> list[Planned]:
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
            planned.append(Planned(meter, zone, plan))
    return planned


def fetch_meter(
    context: Context,
    request: SeriesRequest,
    planned: Planned,
    draft: Draft,
    known: Reread | None = None,
) -> MeterSeries:
    """All rows of one meter, and its baseline where that is asked for.

    Rows `known` from an earlier run and answers in the draft are not asked for again. Where it
    cannot be finished, the draft is kept.
    """
    try:
        got = _fetch_meter(context, request, planned, draft, known)
    except BaseException:
        draft.save()
        raise
    draft.discard()
    return got


def _fetch_meter(
    context: Context,
    request: SeriesRequest,
    planned: Planned,
    draft: Draft,
    known: Reread | None,
) -> MeterSeries:
    meter_id, plan = planned.meter.id, planned.plan
    own = known.series if known else None
    series = fetch_series(context, meter_id, request.kind, plan, own, draft)
    baseline = None
    if request.baseline:
        old = known.baseline if known else None
        baseline = fetch_series(context, meter_id, "baseline-series", plan, old, draft)
    return MeterSeries(planned, series, baseline)


def count_meter_calls(context: Context, request: SeriesRequest, planned: Planned) -> Cost:
    """What fetch_meter would cost, were nothing known."""
    kinds: list[SeriesKind] = [request.kind]
    kinds += ["baseline-series"] if request.baseline else []
    costs = [count_calls(context, planned.meter.id, kind, planned.plan) for kind in kinds]
    return sum(costs, Cost(0, 0))


def series_file(got: MeterSeries, request: SeriesRequest) -> SeriesFile:
    """What the layouts need to write one meter's file."""
    meter, zone, plan = got.planned.meter, got.planned.zone, got.planned.plan
    return SeriesFile(
        meter_id=meter.id,
        meter_type=meter.type,
        uom=standard_unit(meter.type) or meter.uom,
        timezone=zone.key,
        granularity=request.granularity,
        kind=request.kind,
        start=plan.windows[0].start_utc.astimezone(zone),
        end=plan.windows[-1].end_utc.astimezone(zone),
        series=got.series,
        baseline=got.baseline,
    )


def _job(context: Context, request: SeriesRequest, output: Output, planned: Planned) -> FileJob:
    part = Part(
        name=request.file_name(planned.meter.id),
        question=request.question(),
        render=lambda got: render_series(
            series_file(got, request), request.layout, raw_cells=output.raw_cells
        ),
        judge=partial(judge_series, context),
    )
    return FileJob(
        subject=planned.meter.id,
        windows=planned.plan.windows,
        fetch=lambda folder: fetch_meter(
            context,
            request,
            planned,
            open_draft(folder, request, planned),
            _read_known(folder, part, request, planned),
        ),
        cost=partial(count_meter_calls, context, request, planned),
        parts=[part],
    )


def open_draft(folder: Folder, request: SeriesRequest, planned: Planned) -> Draft:
    """What earlier runs were answered for a meter they could not finish."""
    meter_id = planned.meter.id
    return Draft(folder.path / request.file_name(meter_id), [meter_id, request.granularity])


def _read_known(
    folder: Folder, part: Part, request: SeriesRequest, planned: Planned
) -> Reread | None:
    """The filled rows of a file that was written while some were still to come.

    None where there is no such file, or where a row in it is not known: then all is asked anew.
    """
    entry = folder.state_of(part.name)
    if folder.check(part.name, part.question) != "to come":
        return None
    if entry is None or entry.first_to_come is None:
        return None
    path = folder.path / part.name
    found = read_series(path, request.layout, request.kind, planned.zone.key)
    until_s = int(entry.first_to_come.timestamp()) - 1
    series = _filled(found.series, until_s)
    baseline = _filled(found.baseline, until_s) if found.baseline else None
    if series is None or (request.baseline and baseline is None):
        return None
    return Reread(series, baseline)


def _filled(series: Series, until_s: int) -> Series | None:
    """The rows up to an instant; None where one after the first is not known."""
    rows = clip_series(series, 0, until_s)
    if len(rows.times_s) < 2 or any(energy is None for energy in rows.energy[1:]):
        return None
    return rows


def judge_series(context: Context, got: MeterSeries) -> Outcome:
    """Whether there is anything to write, and how much of it is still to come."""
    meter_id, now_s = got.planned.meter.id, context.now()
    to_come, first = count_to_come(got.series, now_s - LATE_S)
    if first is None and got.planned.plan.end_s > now_s:
        first = int(now_s)  # a cloud that leaves out what is to come
    if not has_values(got.series):
        return Outcome(meter_id, "empty", first_to_come=first)
    return Outcome(
        meter_id,
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
