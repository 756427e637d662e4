"""Download register readings, as the meters sent them: one file a meter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.errors import CloudError, ZoneError
from copper_cli.files.names import safe_name
from copper_cli.files.reasons import local_errors
from copper_cli.filling import Unfilled
from copper_cli.folders.manifest import Entry, Folder, Question
from copper_cli.known_readings import Row, renew_readings
from copper_cli.plan import whole_days
from copper_cli.records import Meter, Reading, Readings, Window
from copper_cli.render.meter_csv import render_readings
from copper_cli.render.reread import read_readings
from copper_cli.table import Column, Table
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, Part, download_files, failed_job
from copper_cli.work.estimate import estimate_files, estimate_table
from copper_cli.work.fleet import Zoneless, Zones, choose, fetch_meters_and_zones, with_zone
from copper_cli.work.outcome import Cost, Outcome, created_later, judge_readings, summarise
from copper_cli.work.window_parts import Measure, ask_part

_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Created", "created", lambda t: t and t.replace(tzinfo=None, microsecond=0)),
)
_MEASURE = Measure("readings", 3600)
"""Spans of readings count in hours: nobody knows how many readings a meter sends in one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


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
    changed: int = 0
    """Rows that hold other numbers than the file before."""

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


def fetch_readings(
    context: Context, meter: Meter, window: Window, *, anew: bool = False
) -> Readings:
    """The readings from the window's start up to, not including, its end; sorted by time.

    A window refused with 400 is asked in parts, as long as the cloud grants them. `anew`:
    whatever the cache holds.
    """
    found: list[Reading] = []
    lost = 0
    rest = window
    while rest.start_utc < window.end_utc:
        with _MEASURE.attempt(context.spans, rest, meter.id) as attempt:
            ask = partial(context.client.fetch_readings, meter.id, anew=anew)
            part, answer = ask_part(_MEASURE, attempt, rest, ask)
            attempt.grant()
        found += _without_known(found, answer.rows, part)
        lost += answer.lost
        rest = Window(part.end_utc, window.end_utc)
    return Readings([r for r in found if window.start_utc <= r.time_utc < window.end_utc], lost)


def _without_known(known: list[Reading], answer: Sequence[Reading], part: Window) -> list[Reading]:
    """A part's readings but for those that the part before has brought for the same instant.

    Both ends of a part may be in its answer, or one of them only: neither is relied on.
    """
    seam = part.start_utc
    at_seam = list(takewhile(lambda reading: reading.time_utc >= seam, reversed(known)))
    return [
        reading
        for reading in answer
        if seam < reading.time_utc <= part.end_utc
        or (reading.time_utc == seam and reading not in at_seam)
    ]


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
) -> FileJob:
    meter = planned.meter
    file_name, question = safe_name(meter.id, ".csv"), _question(request)
    if isinstance(planned, Zoneless):
        return failed_job(meter.id, [(file_name, question)], planned.error)
    zone = planned.zone
    window = whole_days(request.start, request.end, zone)

    def fetch(folder: Folder, anew: bool) -> _Found:
        found = _check_found(context, meter, fetch_readings(context, meter, window, anew=anew))
        return found.latest() if request.latest else found

    def renew(path: Path, before: Entry, found: _Found) -> _Found:
        renewed = _renew_file(path, zone, window, found)
        return renewed.latest() if request.latest else renewed

    def cost(look: bool) -> Cost:
        parts = list(_MEASURE.plan(context.spans, window, meter.id))
        is_cached = partial(context.client.is_readings_cached, meter.id)
        return Cost(len(parts), sum(map(is_cached, parts)) if look else 0)

    part = Part(
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
        renew=renew,
    )
    known = None
    if _is_younger(meter, window):
        known = Outcome(meter.id, "empty", reason=created_later(meter, zone))
    return FileJob(meter.id, [window], fetch, cost, [part], known=known)


def _check_found(context: Context, meter: Meter, answer: Readings) -> _Found:
    """What was found; what could not be read of it is told.

    Raises CloudError where there was something, and no number of it can be read.
    """
    unread = answer.lost + sum(not reading.is_whole for reading in answer.rows)
    if unread:
        of = f"{unread} of {len(answer.rows) + answer.lost} readings"
        if not any(map(_has_number, answer.rows)):
            raise CloudError(
                f"readings of meter {meter.id}: {of} cannot be read, none has a number."
            )
        context.progress.say(f"{meter.id}: {of} cannot be read, or not whole.")
    return _Found(answer.rows, unread)


def _renew_file(path: Path, zone: ZoneInfo, window: Window, found: _Found) -> _Found:
    """What was fetched over what the file at a path holds. Raises LocalError."""
    rows = [((r.time_utc - _EPOCH) // _US, r.actual, r.value) for r in found.rows]

    def read_known() -> Iterator[Row]:
        with local_errors(path, "read"):
            yield from read_readings(path)

    renewed = renew_readings(lambda: iter(rows), read_known, zone.key, window)
    together = [
        Reading(_EPOCH + time_us * _US, actual, value) for time_us, actual, value in renewed.read()
    ]
    return _Found(together, found.unread, renewed.changed)


def _judge(context: Context, meter: Meter, window: Window, found: _Found) -> Outcome:
    outcome = judge_readings(
        context, meter.id, window, len(found.rows), sum(map(_has_number, found.rows))
    )
    return replace(outcome, unfilled=Unfilled(missing=found.unread), changed=found.changed)


def _has_number(reading: Reading) -> bool:
    return reading.actual is not None or reading.value is not None
