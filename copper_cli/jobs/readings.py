"""Download register readings, as the meters sent them: one file a meter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import takewhile
from zoneinfo import ZoneInfo

from copper_cli.errors import ZoneError
from copper_cli.files.names import safe_name
from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.estimate import estimate_files, estimate_table
from copper_cli.jobs.fleet import Zoneless, Zones, choose, fetch_meters_and_zones, with_zone
from copper_cli.jobs.folder import FileJob, Part, download_files, failed_job
from copper_cli.jobs.outcome import Cost, Outcome, created_later, summarise, window_gaps
from copper_cli.jobs.parts import Measure, ask_part
from copper_cli.plan import whole_days
from copper_cli.records import Meter, Reading, Window
from copper_cli.table import Column, Table
from copper_cli.write.layouts import render_readings
from copper_cli.write.manifest import Folder, Question

_COLUMNS = (
    Column("ID", "id"),
    Column("Type", "type"),
    Column("Created", "created", lambda t: t and t.replace(tzinfo=None, microsecond=0)),
)
_MEASURE = Measure("readings", 3600)
"""Spans of readings count in hours: nobody knows how many readings a meter sends in one."""


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
) -> list[Reading]:
    """The readings from the window's start up to, not including, its end; sorted by time.

    A window refused with 400 is asked in parts, as long as the cloud grants them. `anew`:
    whatever the cache holds.
    """
    found: list[Reading] = []
    rest = window
    while rest.start_utc < window.end_utc:
        with _MEASURE.attempt(context.spans, rest, meter.id) as attempt:
            ask = partial(context.client.fetch_readings, meter.id, anew=anew)
            part, answer = ask_part(_MEASURE, attempt, rest, ask)
            attempt.grant()
        found += _without_known(found, answer, part)
        rest = Window(part.end_utc, window.end_utc)
    return [r for r in found if window.start_utc <= r.time_utc < window.end_utc]


def _without_known(known: list[Reading], answer: list[Reading], part: Window) -> list[Reading]:
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

    def fetch(folder: Folder, anew: bool) -> list[Reading]:
        found = fetch_readings(context, meter, window, anew=anew)
        return found[-1:] if request.latest else found

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
            found,
            raw_cells=output.raw_cells,
        ),
        judge=lambda found: Outcome(
            meter.id, "fetched", rows=len(found), gaps=window_gaps(context, window, bool(found))
        ),
    )
    known = None
    if _is_younger(meter, window):
        known = Outcome(meter.id, "empty", reason=created_later(meter, zone))
    return FileJob(meter.id, [window], fetch, cost, [part], known=known)
