"""Download register readings, as the meters sent them: one file a meter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.fleet import Zones, choose
from copper_cli.jobs.folder import FileJob, Part, download_files
from copper_cli.jobs.outcome import Outcome, summarise
from copper_cli.plan import whole_days
from copper_cli.records import Column, Meter, Reading, Table, Window
from copper_cli.units import standard_unit
from copper_cli.write.files import safe_name
from copper_cli.write.layouts import render_readings
from copper_cli.write.manifest import Question

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


def download_readings(context: Context, request: ReadingsRequest, output: Output) -> Table:
    """One file a meter; the table lists every meter with its local creation time."""
    before = context.session.calls_used
    meters = choose(context.client.fetch_meters(with_history=False), request.meter_ids, "meter")
    zones = Zones(context, request.zone)
    zone_of = {m.id: zones.of(m) for m in meters}
    jobs = [_job(context, request, m, zone_of[m.id], output) for m in meters]
    outcomes = download_files(context, output, jobs)
    rows = [
        (m.id, m.type, m.created_utc.astimezone(zone_of[m.id]) if m.created_utc else None)
        for m in meters
    ]
    facts = summarise(outcomes, context.session.calls_used - before)
    title = f"Meter readings download {request.start} through {request.end}"
    return Table(title, _COLUMNS, rows, {**facts, "folder": str(output.folder), "noun": "meter"})


def fetch_readings(context: Context, meter: Meter, window: Window) -> list[Reading]:
    """The readings from the window's start up to, not including, its end; sorted by time.

    A meter created later is not asked.
    """
    if meter.created_utc is not None and meter.created_utc >= window.end_utc:
        return []
    found = context.client.fetch_readings(meter.id, window)
    return [r for r in found if window.start_utc <= r.time_utc < window.end_utc]


def _question(request: ReadingsRequest) -> Question:
    return Question(
        command="meter readings",
        start=request.start.isoformat(),
        end=request.end.isoformat(),
        timezone=request.zone.key if request.zone else None,
        extras={"latest": True} if request.latest else {},
    )


def _job(
    context: Context, request: ReadingsRequest, meter: Meter, zone: ZoneInfo, output: Output
) -> FileJob:
    window = whole_days(request.start, request.end, zone)

    def fetch() -> list[Reading]:
        found = fetch_readings(context, meter, window)
        return found[-1:] if request.latest else found

    part = Part(
        name=safe_name(meter.id, ".csv"),
        question=_question(request),
        render=lambda found: render_readings(
            meter.id,
            meter.type,
            standard_unit(meter.type) or meter.uom,
            zone.key,
            found,
            raw_cells=output.raw_cells,
        ),
        judge=lambda found: Outcome(meter.id, "fetched", rows=len(found)),
    )
    return FileJob(meter.id, [window], fetch, [part])
