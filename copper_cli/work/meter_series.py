"""One meter's series: asked for, held against what is known of it, put over what was there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.cloud.worth import check_spacing
from copper_cli.errors import CloudError, LocalError
from copper_cli.files.names import safe_name
from copper_cli.files.reasons import local_errors
from copper_cli.filling import TO_COME_S, Gap, Unfilled
from copper_cli.folders.draft import Draft, draft_path
from copper_cli.folders.manifest import Entry, Question
from copper_cli.known import renew_series
from copper_cli.layouts import Layout
from copper_cli.plan import SeriesPlan
from copper_cli.records import AnySeries, LongSeries, Meter, Series, SeriesKind
from copper_cli.render.meter_csv import SeriesFile
from copper_cli.render.reread import read_series
from copper_cli.series import Survey, is_plain, survey_series
from copper_cli.text import one_line
from copper_cli.units import amount_unit
from copper_cli.work.context import Context, Output
from copper_cli.work.fetch_rows import count_calls, fetch_series
from copper_cli.work.outcome import Cost, Outcome, State, created_later


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
    """One of buckets.GRANULARITIES."""
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

    def kinds(self) -> tuple[SeriesKind, ...]:
        """The series that are asked for: its own, then the baseline."""
        return (self.kind, "baseline-series") if self.baseline else (self.kind,)

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
    """Its windows; none where it was created after the range."""

    def known(self) -> Outcome | None:
        """What becomes of it without a call; None where it is to be asked."""
        if self.plan.windows:
            return None
        return Outcome(self.meter.id, "empty", reason=created_later(self.meter, self.zone))


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """One meter's rows, complete or with buckets to come."""

    planned: Planned
    """The meter and what was asked."""
    series: AnySeries
    """Its rows."""
    baseline: AnySeries | None
    """Its baseline, where that was asked for."""
    found: Sequence[Survey]
    """What of its buckets is there, then of its baseline's."""
    changed: int = 0
    """Rows that hold other values than the file before."""


def fetch_meter(
    context: Context, request: SeriesRequest, planned: Planned, draft: Draft, *, anew: bool
) -> MeterSeries:
    """All rows of one meter, and its baseline where that is asked for.

    Answers in the draft are not asked for again, and those that come are noted there; where it
    cannot be finished, they are kept for the next run. `anew`: whatever the cache holds.
    """
    meter = planned.meter
    try:
        series, *baselines = (
            fetch_series(context, meter.id, kind, planned.plan, draft, anew=anew)
            for kind in request.kinds()
        )
        if any(isinstance(one, LongSeries) for one in (series, *baselines)):
            draft.save()  # its last answer need not be held until the file is written
    except BaseException:
        with suppress(LocalError):  # what ended it is what the user must hear
            draft.save()
        raise
    for kind, one in zip(request.kinds(), (series, *baselines), strict=True):
        if isinstance(one, Series):  # answers of a row or two each say nothing of their distance
            check_spacing(one.times_s, request.granularity, f"{kind} of meter {meter.id}")
    found = [survey(planned, one) for one in (series, *baselines)]
    _check_doubts(context, planned, series, found[0])
    return MeterSeries(planned, series, baselines[0] if baselines else None, found)


def _check_doubts(context: Context, planned: Planned, series: AnySeries, found: Survey) -> None:
    """Say what in an answer contradicts what else is known, and yet may be right.

    Raises CloudError where nothing of it holds a value, long after its time, and its sum does.
    """
    meter = planned.meter
    is_bare = not found.amounts and found.sum_cloud not in (0, None, *_first_amount(series))
    if is_bare and not _is_young(context, planned):
        raise CloudError(
            f"no row of meter {meter.id} holds a value, though the cloud's own sum says "
            f"{found.sum_cloud:.10g}."
        )
    if series.meter_type and meter.type and series.meter_type != meter.type:
        context.progress.say(
            f"{meter.id}: its rows are said to be of type {one_line(series.meter_type, 40)}, the "
            f"meter list says {meter.type}."
        )
    # Gaps say it already; and where windows meet at a clock change some rows are the program's own.
    if found.disagrees() and not found.gaps and is_plain(planned.plan):
        context.progress.say(
            f"{meter.id}: its rows add up to {found.sum_rows:.10g}, the cloud's own sum says "
            f"{found.sum_cloud:.10g}."
        )


def _first_amount(series: AnySeries) -> Sequence[float | None]:
    """The amount of the first row, which some clouds count into the sum."""
    return next(iter(series.pieces())).energy[:1] if isinstance(series, Series) else ()


def survey(planned: Planned, series: AnySeries) -> Survey:
    """What of a meter's buckets is there."""
    created = planned.meter.created_utc
    created_s = None if created is None else created.timestamp()
    return survey_series(series, planned.plan, created_s)


def count_meter_calls(
    context: Context, request: SeriesRequest, planned: Planned, output: Output, look: bool
) -> Cost:
    """What fetch_meter would cost into a folder.

    Where it is not to `look`, neither the cache nor a draft is taken to have any of it.
    """
    draft = None
    if look:
        draft = open_draft(context, output.folder, request, planned, recheck=output.recheck)
    costs = (
        count_calls(context, planned.meter.id, kind, planned.plan, draft, look=look)
        for kind in request.kinds()
    )
    return sum(costs, Cost(0, 0))


def series_file(got: MeterSeries, request: SeriesRequest) -> SeriesFile:
    """What the layouts need to write one meter's file."""
    meter, zone, plan = got.planned.meter, got.planned.zone, got.planned.plan
    return SeriesFile(
        meter_id=meter.id,
        meter_type=meter.type,
        uom=amount_unit(meter.type, meter.uom),
        timezone=zone.key,
        granularity=request.granularity,
        kind=request.kind,
        start=plan.windows[0].start_utc.astimezone(zone),
        end=plan.windows[-1].end_utc.astimezone(zone),
        series=got.series,
        baseline=got.baseline,
    )


def renew_file(request: SeriesRequest, path: Path, before: Entry, got: MeterSeries) -> MeterSeries:
    """What was fetched over what the file at a path holds: nothing never replaces a value.

    Where values of the file stay, the sum is that of the rows, or the earlier one if it is. Raises
    LocalError.
    """
    zone = got.planned.zone.key
    changed = 0
    renewed: list[AnySeries] = []
    for kind, series in zip(request.kinds(), (got.series, got.baseline), strict=False):
        assert series is not None

        def read_known(kind: SeriesKind = kind) -> Iterator[Series]:
            with local_errors(path, "read"):
                yield from read_series(path, request.layout, kind, zone)

        found = renew_series(series, read_known)
        changed += found.changed
        earlier = before.facts.get("sum_energy") if kind == request.kind else None
        total = _sum_of_rows(got.planned, found.series, earlier)
        renewed.append(replace(found.series, sum_energy=total) if found.kept else found.series)
    series, *baselines = renewed
    found_all = [survey(got.planned, one) for one in renewed]
    return MeterSeries(got.planned, series, baselines[0] if baselines else None, found_all, changed)


def _sum_of_rows(planned: Planned, series: AnySeries, earlier: float | None) -> float:
    found = survey(planned, replace(series, sum_energy=earlier))
    return round(found.sum_rows, 9) if earlier is None or found.disagrees() else earlier


def inspect_file(
    context: Context, request: SeriesRequest, planned: Planned, path: Path
) -> list[Gap]:
    """The gaps of a file that an older version wrote without a word about them.

    Raises LocalError.
    """

    def read(first_s: int, last_s: int) -> Iterator[Series]:
        with local_errors(path, "read"):
            yield from read_series(path, request.layout, request.kind, planned.zone.key)

    return survey(planned, LongSeries(read, None)).gaps_at(context.now())


def open_draft(
    context: Context, folder: Path, request: SeriesRequest, planned: Planned, *, recheck: bool
) -> Draft:
    """What earlier runs into a folder were answered for a meter they could not finish.

    To the very same question to the same partner's cloud: the windows of another range or zone
    may be cut elsewhere. A run that rechecks believes only what such a run was answered.
    """
    path = draft_path(folder, request.file_name(planned.meter.id))
    settings = context.session.settings
    whose = [settings.api_url, settings.enterprise_id, planned.meter.id, planned.zone.key]
    return Draft(
        path,
        [
            *whose,
            request.kind,
            str(request.start),
            str(request.end),
            request.granularity,
            request.step_days,
            *(["recheck"] if recheck else []),
        ],
    )


def judge_series(context: Context, got: MeterSeries) -> Outcome:
    """Whether there is anything to write, and which of its buckets are unfilled."""
    meter_id, plan, now_s = got.planned.meter.id, got.planned.plan, context.now()
    found, *baselines = got.found
    gaps = found.gaps_at(now_s)
    for one in baselines:
        # A meter need not have a baseline; but where it has one, all of it counts.
        gaps += [replace(gap, told=one.has_values) for gap in one.gaps_at(now_s)]
    if not found.has_values:
        # That the cloud has nothing is believed when it has had the time to get something.
        state: State = "to come" if _is_young(context, got.planned) else "empty"
        return Outcome(meter_id, state, gaps=gaps or [Gap(plan.start_s, plan.end_s, 1)])
    # Where rows fall short of the sum nobody can tell which, or how many.
    unfilled = Unfilled(missing=1) if found.falls_short() else Unfilled()
    return Outcome(
        meter_id,
        "fetched",
        rows=found.rows,
        gaps=gaps,
        unfilled=unfilled,
        changed=got.changed,
        sum_energy=got.series.sum_energy,
    )


def _is_young(context: Context, planned: Planned) -> bool:
    return planned.plan.end_s > context.now() - TO_COME_S
