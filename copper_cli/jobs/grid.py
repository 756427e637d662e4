"""Voltage and frequency as the gateways measure them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date

from copper_cli.errors import UsageError
from copper_cli.files.names import safe_name
from copper_cli.filling import Unfilled
from copper_cli.folders.entries import Question
from copper_cli.plan import whole_days
from copper_cli.records import Premise
from copper_cli.render.meter_csv import render_grid
from copper_cli.table import Column, Table
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, Part, download_files
from copper_cli.work.estimate import estimate_files, estimate_table
from copper_cli.work.fleet import choose, padded_postal_code, read_zone, tell_days_of_utc
from copper_cli.work.grid_answers import SharedAnswers, Site, SiteReadings, count_filled
from copper_cli.work.held_rows import View
from copper_cli.work.outcome import Cost, Outcome, judge_readings, summarise
from copper_cli.work.parallel import run_together

_PLACE = (
    Column("Premise ID", "premise_id"),
    Column("Address", "address"),
    Column("City", "city"),
    Column("Postal Code", "postal_code"),
    Column("Gateway ID", "gateway_id"),
)


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

    def question(self) -> Question:
        """What a file answers; the same again needs no call."""
        return Question(
            command="grid readings", start=self.start.isoformat(), end=self.end.isoformat()
        )


def list_grid_latest(context: Context) -> Table:
    """The newest reading of each gateway, in the premise's local time."""
    client = context.client
    readings, found = run_together(context, client.fetch_grid_latest, client.fetch_premises)
    premises = {p.id: p for p in found}
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
    answers = _answers(context, request, sites, output)
    jobs = _jobs(context, answers, request, sites, output)
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
    answers = _answers(context, request, sites, output)
    jobs = _jobs(context, answers, request, sites, output)
    estimate = estimate_files(context, output, jobs)
    cost = answers.cost()  # the gateways share the calls
    if not estimate.open:
        cost = replace(cost, held=cost.calls)
    estimate = replace(estimate, total=cost)
    return estimate_table(context, request.title(), "gateways", estimate)


def _sites(context: Context, request: GridRequest) -> list[Site]:
    client = context.client
    gateways, premises = run_together(context, client.fetch_gateways, client.fetch_premises)
    wanted = [request.gateway_id] if request.gateway_id else []
    gateways = choose(gateways, wanted, "gateway")
    if request.premise_id:
        choose(premises, [request.premise_id], "premise")
        gateways = [g for g in gateways if g.premise_id == request.premise_id]
        if not gateways:
            raise UsageError(f"premise {request.premise_id} has no such gateway.")
    by_id = {p.id: p for p in premises}
    utc = read_zone("UTC")
    assert utc is not None
    homes = (by_id.get(gateway.premise_id or "") for gateway in gateways)
    tell_days_of_utc(context, (home for home in homes if home is not None))
    sites = []
    for gateway in gateways:
        premise = by_id.get(gateway.premise_id or "")
        zone = read_zone(premise.timezone if premise else None) or utc
        window = whole_days(request.start, request.end, zone)
        sites.append(Site(gateway, premise, zone, window))
    return sites


def _answers(
    context: Context, request: GridRequest, sites: Sequence[Site], output: Output
) -> SharedAnswers:
    return SharedAnswers(
        context,
        output.asking,
        sites,
        premise_id=request.premise_id,
        gateway_id=request.gateway_id,
    )


def _jobs(
    context: Context,
    answers: SharedAnswers,
    request: GridRequest,
    sites: Iterable[Site],
    output: Output,
) -> list[FileJob[SiteReadings]]:
    question = request.question()
    return [_job(context, answers, site, question, output) for site in sites]


def _job(
    context: Context, answers: SharedAnswers, site: Site, question: Question, output: Output
) -> FileJob[SiteReadings]:
    def judge(found: SiteReadings) -> Outcome:
        rows = filled = 0
        for piece in found.pieces():
            rows, filled = rows + len(piece.times_us), filled + count_filled(piece)
        outcome = judge_readings(context, site.gateway.id, site.window, rows, filled)
        return replace(
            outcome,
            unfilled=Unfilled(missing=found.unread),
            whole=outcome.whole and not found.unnamed,
            changed=found.fetched.changed,
            withdrawn=found.fetched.withdrawn,
        )

    part: Part[SiteReadings] = Part(
        name=safe_name(site.gateway.id, ".csv"),
        question=question,
        render=lambda found: render_grid(
            site.gateway.id, site.zone.key, found.pieces(), raw_cells=output.raw_cells
        ),
        judge=judge,
        timezone=site.zone.key,
    )
    return FileJob(
        subject=site.gateway.id,
        windows=[site.window],
        view=View(context.archive, [(site.key, site.span)]),
        fetch=lambda: answers.of(site),
        cost=lambda: Cost(0),
        parts=[part],
    )


def _place(premise: Premise | None) -> tuple[str | None, str | None, str | None]:
    if premise is None:
        return None, None, None
    return premise.street_address, premise.city_town, padded_postal_code(premise)
