"""Voltage and frequency as the gateways measure them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

from copper_cli.errors import CopperError, UsageError
from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.estimate import estimate_files, estimate_table
from copper_cli.jobs.fleet import choose, padded_postal_code, read_zone
from copper_cli.jobs.folder import FileJob, Part, download_files
from copper_cli.jobs.outcome import Cost, Outcome, State, open_from, summarise
from copper_cli.jobs.parallel import run_parallel
from copper_cli.plan import MAX_ROWS, whole_days
from copper_cli.records import Column, Gateway, GridReading, Premise, Table, Window
from copper_cli.write.files import safe_name
from copper_cli.write.layouts import render_grid
from copper_cli.write.manifest import Question

_PLACE = (
    Column("Premise ID", "premise_id"),
    Column("Address", "address"),
    Column("City", "city"),
    Column("Postal Code", "postal_code"),
    Column("Gateway ID", "gateway_id"),
)
_READINGS_A_DAY = 1440
"""ASSUMED the most a gateway sends: one a minute. To check: count a day of one gateway."""


@dataclass(frozen=True, slots=True)
class GridRequest:
    """Whose grid readings, from when to when."""

    start: date
    """First local day."""
    end: date
    """Last local day, included."""
    premise_id: str | None = None
    """Only the gateways of this premise."""
    gateway_id: str | None = None
    """Only this gateway."""

    def title(self) -> str:
        """The table's title, in the reference's words."""
        return f"Grid readings download {self.start} through {self.end}"


@dataclass(frozen=True, slots=True)
class _Site:
    """A gateway where it stands."""

    gateway: Gateway
    premise: Premise | None
    zone: ZoneInfo
    window: Window


def list_grid_latest(context: Context) -> Table:
    """The newest reading of each gateway, in the premise's local time."""
    readings = context.client.fetch_grid_latest()
    premises = {p.id: p for p in context.client.fetch_premises()}
    columns = (
        *_PLACE,
        Column("Timestamp", "timestamp", lambda t: t.replace(tzinfo=None, microsecond=0)),
        Column("Voltage", "voltage"),
        Column("Frequency", "frequency"),
    )
    rows = []
    for reading in readings:
        premise = premises.get(reading.premise_id or "")
        zone = read_zone(premise.timezone if premise else None) or UTC
        place = (reading.premise_id, *_place(premise), reading.gateway_id)
        rows.append((*place, reading.time_utc.astimezone(zone), reading.voltage, reading.frequency))
    return Table("Grid latest download", columns, rows, {"listed": len(rows)})


def download_grid_readings(context: Context, request: GridRequest, output: Output) -> Table:
    """One file a gateway, each with its own premise's local days, END's whole day included.

    Raises UsageError for an unknown gateway or premise.
    """
    before = context.session.calls_used
    sites = _sites(context, request)
    jobs = _jobs(context, _Readings(context, request, sites), request, sites, output)
    outcomes = download_files(context, output, jobs, "gateways")
    by_id = {site.gateway.id: site for site in sites}
    rows = [
        (s.gateway.premise_id, *_place(s.premise), s.gateway.id)
        for o in outcomes
        if o.state in ("fetched", "kept")
        for s in [by_id[o.subject]]
    ]
    facts = summarise(context, outcomes, before, noun="gateway", folder=output.folder)
    return Table(request.title(), _PLACE, rows, facts)


def estimate_grid_readings(context: Context, request: GridRequest, output: Output) -> Table:
    """What download_grid_readings would cost beyond its lists; nothing is fetched or written."""
    sites = _sites(context, request)
    readings = _Readings(context, request, sites)
    estimate = estimate_files(context, output, _jobs(context, readings, request, sites, output))
    cost = readings.cost()  # the gateways share the calls: all or none
    if estimate.open:
        estimate = replace(estimate, total=cost)
    else:
        estimate = replace(estimate, total=Cost(cost.calls, 0), kept=cost.calls)
    return estimate_table(context, request.title(), "gateways", estimate)


def _jobs(
    context: Context,
    readings: _Readings,
    request: GridRequest,
    sites: Sequence[_Site],
    output: Output,
) -> list[FileJob]:
    question = _question(request)
    return [_job(context, readings, site, question, output) for site in sites]


class _Readings:
    """All readings of the range, asked for once, by as many calls as their number needs."""

    def __init__(self, context: Context, request: GridRequest, sites: Sequence[_Site]) -> None:
        self._context = context
        self._request = request
        self._sites = sites
        self._found: Mapping[str, list[GridReading]] | None = None
        self._failure: CopperError | None = None

    def of(self, site: _Site) -> list[GridReading]:
        """The readings of one gateway within its own local days, sorted by time."""
        if self._failure is not None:
            raise self._failure  # all gateways share the calls, and so their failure
        if self._found is None:
            try:
                self._found = self._fetch()
            except CopperError as failure:
                self._failure = failure
                raise
        window = site.window
        return [
            r
            for r in self._found.get(site.gateway.id, ())
            if window.start_utc <= r.time_utc < window.end_utc
        ]

    def cost(self) -> Cost:
        """The calls for all gateways together."""
        windows = list(self._windows())
        cached = sum(
            self._context.client.is_grid_cached(
                window, premise_id=self._request.premise_id, gateway_id=self._request.gateway_id
            )
            for window in windows
        )
        return Cost(len(windows), cached)

    def _fetch(self) -> Mapping[str, list[GridReading]]:
        found: dict[tuple[str, object], GridReading] = {}
        for _, result in run_parallel(list(self._windows()), self._ask, self._context.jobs):
            for reading in result():
                found[reading.gateway_id, reading.time_utc] = reading
        by_gateway: dict[str, list[GridReading]] = {}
        for reading in sorted(found.values(), key=lambda r: r.time_utc):
            by_gateway.setdefault(reading.gateway_id, []).append(reading)
        return by_gateway

    def _ask(self, window: Window) -> list[GridReading]:
        return self._context.client.fetch_grid_readings(
            window, premise_id=self._request.premise_id, gateway_id=self._request.gateway_id
        )

    def _windows(self) -> Iterator[Window]:
        """Whole days from the first zone's first to the last zone's last instant."""
        if not self._sites:
            return
        start = min(site.window.start_utc for site in self._sites)
        end = max(site.window.end_utc for site in self._sites)
        days = max(1, MAX_ROWS // (_READINGS_A_DAY * len(self._sites)))
        while start < end:
            stop = min(end, start + timedelta(days=days))
            yield Window(start, stop)
            start = stop


def _sites(context: Context, request: GridRequest) -> list[_Site]:
    gateways = context.client.fetch_gateways()
    wanted = [request.gateway_id] if request.gateway_id else []
    gateways = choose(gateways, wanted, "gateway")
    premises = context.client.fetch_premises()
    if request.premise_id:
        choose(premises, [request.premise_id], "premise")
        gateways = [g for g in gateways if g.premise_id == request.premise_id]
        if not gateways:
            raise UsageError(f"premise {request.premise_id} has no such gateway.")
    by_id = {p.id: p for p in premises}
    utc = read_zone("UTC")
    assert utc is not None
    sites = []
    for gateway in gateways:
        premise = by_id.get(gateway.premise_id or "")
        zone = read_zone(premise.timezone if premise else None) or utc
        window = whole_days(request.start, request.end, zone)
        sites.append(_Site(gateway, premise, zone, window))
    return sites


def _question(request: GridRequest) -> Question:
    return Question(
        command="grid readings",
        start=request.start.isoformat(),
        end=request.end.isoformat(),
    )


def _job(
    context: Context, readings: _Readings, site: _Site, question: Question, output: Output
) -> FileJob:
    def judge(found: list[GridReading]) -> Outcome:
        first = open_from(context, site.window)
        state: State = "fetched" if found else "empty"
        return Outcome(site.gateway.id, state, rows=len(found), first_to_come=first)

    part = Part(
        name=safe_name(site.gateway.id, ".csv"),
        question=question,
        render=lambda found: render_grid(
            site.gateway.id, site.zone.key, found, raw_cells=output.raw_cells
        ),
        judge=judge,
    )
    return FileJob(
        subject=site.gateway.id,
        windows=[site.window],
        fetch=lambda folder: readings.of(site),
        cost=lambda: Cost(0, 0),
        parts=[part],
    )


def _place(premise: Premise | None) -> tuple[str | None, str | None, str | None]:
    if premise is None:
        return None, None, None
    return premise.street_address, premise.city_town, padded_postal_code(premise)
