"""One meter's series: asked for, held against what is known of it, put over what was there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from math import inf
from zoneinfo import ZoneInfo

from copper_cli.errors import CloudError
from copper_cli.files.names import safe_name
from copper_cli.filling import TO_COME_S, Gap, Unfilled
from copper_cli.folders.entries import Question
from copper_cli.layouts import Layout
from copper_cli.plan import SeriesPlan
from copper_cli.records import Meter, Series, SeriesKind, SumSource
from copper_cli.render.meter_csv import SeriesFile, SeriesRows
from copper_cli.series import SUM_PLACES, Survey, is_plain, sum_rows, survey_series
from copper_cli.units import amount_unit
from copper_cli.work.context import Asking, Context, Output
from copper_cli.work.download import FileJob, Part
from copper_cli.work.fetch_rows import Fetched, count_calls, fetch_rows, hold_rows
from copper_cli.work.held_rows import HeldRows, View, series_keys
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
    derive: bool = False
    """Add rows up from shorter ones where those are held whole."""

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
            extras={name: True for name in ("baseline", "derive") if getattr(self, name)},
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

    def created_s(self) -> float | None:
        """When the meter was added to the cloud, seconds since 1970 UTC."""
        created_utc = self.meter.created_utc
        return None if created_utc is None else created_utc.timestamp()


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """One meter's rows, complete or with buckets to come."""

    planned: Planned
    """The meter and what was asked."""
    rows: SeriesRows
    """Its rows, and their sum."""
    baseline: SeriesRows | None
    """Its baseline, where that was asked for."""
    found: Sequence[Survey]
    """What of its buckets is there, then of its baseline's."""
    sum_from: SumSource | None
    """Where its sum is from; None where it has none."""
    held: HeldRows | None
    """The archive's rows that these are."""
    fetched: Fetched
    """What came of asking."""


def fetch_meter(
    context: Context, request: SeriesRequest, planned: Planned, asking: Asking
) -> Fetched:
    """Have the archive hold all rows of one meter, and its baseline where that is asked for."""
    fetched = Fetched()
    for kind in request.kinds():
        fetched += fetch_rows(context, planned.meter, kind, planned.plan, asking)
    return fetched


def read_meter(
    context: Context, request: SeriesRequest, planned: Planned, fetched: Fetched
) -> MeterSeries:
    """What the archive holds of one meter, after what was just fetched.

    Raises CloudError where that cannot be, as `_check_doubts`; then it has failed.
    """
    held = [hold_rows(context, planned.meter.id, kind, planned.plan) for kind in request.kinds()]
    found, sums = [], []
    for one in held:
        total, source = one.sum(planned.plan.start_s, planned.plan.end_s)
        survey = _survey(planned, one, total, context.now())
        if source is None and survey.amounts:
            total, source = round(survey.sum_rows, SUM_PLACES), "rows"
        found.append(survey)
        sums.append((total, source))
    if fetched.asked:
        try:
            _check_doubts(context, planned, held[0], found[0])
        except CloudError:
            for key, span in series_keys(planned.meter.id, request.kind, planned.plan):
                context.archive.fail(key, span, asked_s=context.now())
            raise
    rows, *baselines = (
        SeriesRows(one.pieces, total) for one, (total, _) in zip(held, sums, strict=True)
    )
    baseline = baselines[0] if baselines else None
    return MeterSeries(planned, rows, baseline, found, sums[0][1], held[0], fetched)


def _check_doubts(context: Context, planned: Planned, held: HeldRows, found: Survey) -> None:
    """Say what in an answer contradicts what else is known, and yet may be right.

    Raises CloudError where nothing of it holds a value, long after its time, and its sum does.
    """
    meter, plan = planned.meter, planned.plan
    is_bare = not found.amounts and found.sum_cloud not in (0, None, *_first_amount(held))
    if is_bare and not _is_young(context, planned):
        raise CloudError(
            f"no row of meter {meter.id} holds a value, though the cloud's own sum says "
            f"{found.sum_cloud:.10g}."
        )
    # Gaps say it already; and where windows meet at a clock change some rows are the program's own.
    if found.disagrees() and not found.gaps and is_plain(plan):
        context.progress.say(
            f"{meter.id}: its rows add up to {found.sum_rows:.10g}, the cloud's own sum says "
            f"{found.sum_cloud:.10g}."
        )


def _first_amount(held: HeldRows) -> Sequence[float | None]:
    """The amount of the first row, which some clouds count into the sum."""
    return next((piece.energy[:1] for piece in held.pieces()), ())


def _survey(
    planned: Planned, held: HeldRows, sum_cloud: float | None, now_s: float = inf
) -> Survey:
    """What of a meter's buckets is there."""
    return _survey_rows(planned, held.pieces(), sum_cloud, now_s)


def _survey_rows(
    planned: Planned,
    pieces: Iterable[Series],
    sum_cloud: float | None = None,
    now_s: float = inf,
) -> Survey:
    return survey_series(pieces, planned.plan, planned.created_s(), sum_cloud, now_s)


def count_meter_calls(
    context: Context,
    request: SeriesRequest,
    planned: Planned,
    asking: Asking,
    *,
    is_held: bool = False,
) -> Cost:
    """What fetch_meter would cost; `is_held`: the archive lacks nothing of it."""
    costs = (
        count_calls(context, planned.meter.id, kind, planned.plan, asking, is_held=is_held)
        for kind in request.kinds()
    )
    return sum(costs, Cost(0))


def cut_day(got: MeterSeries, day: Planned, now_s: float) -> MeterSeries:
    """The rows of one day, both midnights, with what was used after the first.

    The cloud's own sum where the day was asked by itself; else that of the rows, if all are there.
    """
    if got.planned is day:
        return got  # cut already
    held = got.held
    assert held is not None
    rows = held.clip(day.plan.start_s, day.plan.end_s)
    source: SumSource | None
    total, source = held.sum(day.plan.start_s, day.plan.end_s)
    if source is None:
        total = sum_rows(rows, day.plan.start_s)
        source = None if total is None else "rows"
    found = _survey_rows(day, [rows], now_s=now_s)
    return MeterSeries(
        day, SeriesRows(lambda: [rows], total), None, [found], source, None, got.fetched
    )


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
        series=got.rows,
        baseline=got.baseline,
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
        changed=got.fetched.changed,
        withdrawn=got.fetched.withdrawn,
        sum_energy=got.rows.sum_energy,
        sum_from=got.sum_from,
    )


def _is_young(context: Context, planned: Planned) -> bool:
    return planned.plan.end_s > context.now() - TO_COME_S


def meter_job(
    context: Context,
    request: SeriesRequest,
    planned: Planned,
    output: Output,
    parts: Sequence[Part[MeterSeries]],
) -> FileJob[MeterSeries]:
    """What is asked of one meter, and the files made of it."""
    asking = output.asking
    keys = [
        one for kind in request.kinds() for one in series_keys(planned.meter.id, kind, planned.plan)
    ]
    view = View(context.archive, keys)

    def fetch() -> MeterSeries:
        fetched = fetch_meter(context, request, planned, asking)
        view.fix()  # before it is read: what comes meanwhile makes the file an older one
        return read_meter(context, request, planned, fetched)

    return FileJob(
        subject=planned.meter.id,
        windows=planned.plan.windows,
        view=view,
        fetch=fetch,
        cost=partial(count_meter_calls, context, request, planned, asking),
        held_cost=partial(count_meter_calls, context, request, planned, asking, is_held=True),
        parts=parts,
        known=planned.known(),
    )
