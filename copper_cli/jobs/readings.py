"""Download register readings, as the meters sent them: one file a meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

from copper_cli.archive import Landed
from copper_cli.errors import ZoneError
from copper_cli.files.names import safe_name
from copper_cli.filling import Unfilled
from copper_cli.folders.entries import Question
from copper_cli.plan import whole_days
from copper_cli.records import Meter, Reading, Window
from copper_cli.render.meter_csv import render_readings
from copper_cli.table import Column, Table
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, Part, download_files, failed_job
from copper_cli.work.estimate import estimate_files, estimate_table
from copper_cli.work.fleet import Zoneless, Zones, choose, fetch_meters_and_zones, with_zone
from copper_cli.work.outcome import Outcome, created_later, judge_readings, summarise
from copper_cli.work.readings_answers import MeterReadings

_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Created", "created", lambda t: t and t.replace(tzinfo=None, microsecond=0)),
)


@dataclass(frozen=True, slots=True)
class ReadingsRequest:
    """Whose readings, from when to when."""

    start: date
    """First local day."""
    end: date
    """Last local day, included."""
    zone: ZoneInfo | None = None
    """Forced for all meters; None: each meter's own."""
    meter_ids: tuple[str, ...] = ()
    """Empty: all meters."""
    latest: bool = False
    """Keep only the last reading of the range."""

    def title(self) -> str:
        """The table's title, in the reference's words."""
        return f"Meter readings download {self.start} through {self.end}"


@dataclass(frozen=True, slots=True)
class _Located:
    """A meter and where its days begin."""

    meter: Meter
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be written of a meter."""

    rows: Sequence[Reading]
    """Ascending by time, within the window."""
    unread: int
    """Readings of the window that could not be read, or not whole."""
    fetched: Landed
    """What came of asking."""

    def latest(self) -> _Found:
        """With the last reading alone: the last that holds a number, if one does."""
        last = next(filter(_has_number, reversed(self.rows)), None)
        return replace(self, rows=self.rows[-1:] if last is None else [last])


def download_readings(context: Context, request: ReadingsRequest, output: Output) -> Table:
    """One file a meter; the table lists every meter with its local creation time."""
    before = context.session.calls_used
    planned, _ = _plan(context, request)
    jobs = [_job(context, request, one, output) for one in planned]
    outcomes = download_files(context, output, jobs)
    rows = [(one.meter.id, one.meter.type, _created(one)) for one in planned]
    facts = summarise(context, outcomes, before, noun="meter", folder=output.folder)
    return Table(request.title(), _COLUMNS, rows, facts)


def estimate_readings(context: Context, request: ReadingsRequest, output: Output) -> Table:
    """What download_readings would cost beyond its lists; nothing is fetched or written."""
    found, zones = _plan(context, request)
    jobs = [_job(context, request, one, output) for one in with_zone(context, found)]
    estimate = estimate_files(context, output, jobs, zones.cost())
    return estimate_table(context, request.title(), "meters", estimate)


def _plan(context: Context, request: ReadingsRequest) -> tuple[list[_Located | Zoneless], Zones]:
    """The meters to ask, each with its zone or why it has none; and the zones."""
    meters, zones = fetch_meters_and_zones(context, request.zone)
    planned: list[_Located | Zoneless] = [
        Zoneless(meter, zone) if isinstance(zone, ZoneError) else _Located(meter, zone)
        for meter, zone in zones.find(choose(meters, request.meter_ids, "meter"))
    ]
    return planned, zones


def _created(one: _Located | Zoneless) -> datetime | None:
    """When the meter was created, in its own zone."""
    created_utc = one.meter.created_utc
    if created_utc is None or isinstance(one, Zoneless):
        return None
    return created_utc.astimezone(one.zone)


def _is_younger(meter: Meter, window: Window) -> bool:
    return meter.created_utc is not None and meter.created_utc >= window.end_utc


def _question(request: ReadingsRequest) -> Question:
    return Question(
        command="meter readings",
        start=request.start.isoformat(),
        end=request.end.isoformat(),
        timezone=request.zone.key if request.zone else None,
        extras={"latest": True} if request.latest else {},
    )


def _job(
    context: Context, request: ReadingsRequest, planned: _Located | Zoneless, output: Output
) -> FileJob[_Found]:
    meter = planned.meter
    file_name, question = safe_name(meter.id, ".csv"), _question(request)
    if isinstance(planned, Zoneless):
        return failed_job(context, meter.id, [(file_name, question)], planned.error)
    zone = planned.zone
    window = whole_days(request.start, request.end, zone)
    asked = MeterReadings(context, meter.id, window, output.asking)

    def fetch() -> _Found:
        landed = asked.fetch()
        found = _Found(list(asked.rows()), asked.unread(), landed)
        return found.latest() if request.latest else found

    part: Part[_Found] = Part(
        name=file_name,
        question=question,
        render=lambda found: render_readings(
            meter.id,
            meter.type,
            meter.uom,
            zone.key,
            found.rows,
            raw_cells=output.raw_cells,
        ),
        judge=partial(_judge, context, meter, window),
        timezone=zone.key,
    )
    known = None
    if _is_younger(meter, window):
        known = Outcome(meter.id, "empty", reason=created_later(meter, zone))
    return FileJob(
        subject=meter.id,
        windows=[window],
        view=asked.view,
        fetch=fetch,
        cost=asked.cost,
        parts=[part],
        known=known,
    )


def _judge(context: Context, meter: Meter, window: Window, found: _Found) -> Outcome:
    outcome = judge_readings(
        context, meter.id, window, len(found.rows), sum(map(_has_number, found.rows))
    )
    return replace(
        outcome,
        unfilled=Unfilled(missing=found.unread),
        changed=found.fetched.changed,
        withdrawn=found.fetched.withdrawn,
    )


def _has_number(reading: Reading) -> bool:
    return reading.actual is not None or reading.value is not None
