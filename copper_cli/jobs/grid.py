"""Voltage and frequency as the gateways measure them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.buckets import DAY_S
from copper_cli.errors import CloudError, CopperError, UsageError
from copper_cli.files.names import safe_name, short_digest
from copper_cli.files.reasons import local_errors
from copper_cli.filling import Unfilled
from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.estimate import estimate_files, estimate_table
from copper_cli.jobs.fleet import choose, padded_postal_code, read_zone, tell_days_of_utc
from copper_cli.jobs.folder import FileJob, Part, download_files, is_answered, judge_part
from copper_cli.jobs.outcome import Cost, Outcome, judge_readings, summarise, window_gaps
from copper_cli.jobs.parallel import run_together
from copper_cli.jobs.parts import Measure, ask_part
from copper_cli.known_readings import Row, renew_readings
from copper_cli.plan import MAX_ROWS, whole_days
from copper_cli.records import Gateway, GridAnswer, GridSeries, Premise, Window
from copper_cli.table import Column, Table
from copper_cli.text import one_line
from copper_cli.write.draft import GridDraft, discard_draft, draft_path
from copper_cli.write.layouts import render_grid
from copper_cli.write.manifest import Entry, Folder, Question
from copper_cli.write.reread import read_grid

_PLACE = (
    Column("Premise ID", "premise_id"),
    Column("Address", "address"),
    Column("City", "city"),
    Column("Postal Code", "postal_code"),
    Column("Gateway ID", "gateway_id"),
)
_READINGS_A_DAY = 1440
"""ASSUMED the most a gateway sends: one a minute. To check: count a day of one gateway."""
_US = 1_000_000
_PIECE_ROWS = 50_000
_NEVER = datetime.fromtimestamp(0, UTC)


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


@dataclass(frozen=True, slots=True)
class _Site:
    """A gateway where it stands."""

    gateway: Gateway
    premise: Premise | None
    zone: ZoneInfo
    window: Window


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
    answers = _Answers(context, request, sites, output)
    jobs = _jobs(context, answers, request, sites, output)
    outcomes = download_files(context, output, jobs, "gateways")
    if not any(outcome.state == "failed" for outcome in outcomes):
        discard_draft(answers.path)
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
    answers = _Answers(context, request, sites, output)
    jobs = _jobs(context, answers, request, sites, output)
    estimate = estimate_files(context, output, jobs)
    cost = answers.cost(estimate.open > 0)  # the gateways share the calls: all or none
    kept = cost.drafted if estimate.open else cost.calls
    estimate = replace(estimate, total=cost, kept=kept)
    return estimate_table(context, request.title(), "gateways", estimate)


@dataclass(frozen=True, slots=True)
class _SiteReadings:
    """The readings of one gateway within its own local days, wherever they lie."""

    site: _Site
    pieces: Callable[[], Iterator[GridSeries]]
    """Brings them, ascending by time, as often as need be."""
    unread: int
    """Readings that could not be read, or not whole."""
    unnamed: int
    """Readings that may be this gateway's or another's."""
    changed: int = 0
    """Rows that hold other numbers than the file before."""

    def rows(self) -> Iterator[Row]:
        """The same, one by one."""
        for piece in self.pieces():
            yield from zip(piece.times_us, piece.voltage, piece.frequency, strict=True)


class _Answers:
    """All readings of the range, asked for once, by as many calls as their number needs.

    One call after the other, each set down before the next is made: the answer for a day of a
    large fleet is large, and no more than one is held at once.
    """

    def __init__(
        self, context: Context, request: GridRequest, sites: Sequence[_Site], output: Output
    ) -> None:
        settings = context.session.settings
        self._whose = [settings.api_url, settings.enterprise_id, *map(str, astuple(request))]
        # By name too: one gateway's download must not take the place of the fleet's.
        self.anew = output.recheck
        """Ask whatever the cache holds."""
        self.path = draft_path(output.folder, f"grid.{short_digest(*self._whose)}")
        self._context = context
        self._request = request
        self._sites = sites
        days = MAX_ROWS // (_READINGS_A_DAY * max(1, len(sites)))
        self._measure = Measure("grid", 60, max(1, days) * DAY_S // 60)
        self._draft: GridDraft | None = None
        self._failure: CopperError | None = None
        self._unnamed = 0
        self._unread_us: dict[str, set[int]] = defaultdict(set)
        self._lost: dict[str, int] = defaultdict(int)
        self._strangers: dict[str, int] = defaultdict(int)

    def of(self, site: _Site) -> _SiteReadings:
        """The readings of one gateway. The first to ask has all of them fetched.

        Raises CloudError where there are some and no number of them can be read.
        """
        # Needs no lock: a download's first job runs alone (see run_parallel). Before a second
        # thread comes there is a draft or a failure, and from then on both are only read.
        if self._failure is not None:
            raise self._failure  # all gateways share the calls, and so their failure
        if self._draft is None:
            try:
                self._draft = self._fetch()
            except CopperError as failure:
                self._failure = failure
                raise
        gateway_id, window = site.gateway.id, site.window
        start_us, end_us = (int(t.timestamp()) * _US for t in (window.start_utc, window.end_utc))
        unread_us = self._unread_us.get(gateway_id, ())
        unread = sum(start_us <= time_us < end_us for time_us in unread_us)
        unread += self._lost.get(gateway_id, 0)
        read = partial(self._draft.read, gateway_id, start_us, end_us)
        found = _SiteReadings(site, read, unread, self._unnamed)
        if unread:
            told = f"{unread} of its readings cannot be read"
            if not any(map(_count_filled, found.pieces())):
                raise CloudError(
                    f"grid readings of gateway {gateway_id}: {told}, none has a number."
                )
            self._context.progress.say(f"{gateway_id}: {told}, or not whole.")
        return found

    def cost(self, look: bool) -> Cost:
        """The calls for all gateways together.

        Where it is not to `look`, neither the cache nor a draft is taken to have any of it.
        """
        draft = self._open_draft() if look else None
        parts: list[Window] = []
        drafted = 0
        rest = self._span()
        while rest.start_utc < rest.end_utc:
            until_utc = _recall(draft, rest) if draft else None
            if until_utc is None:
                parts.append(next(self._measure.plan(self._context.spans, rest)))
            else:
                drafted += 1
            rest = Window(until_utc or parts[-1].end_utc, rest.end_utc)
        client, of = self._context.client, self._request
        cached = (
            client.is_grid_cached(part, premise_id=of.premise_id, gateway_id=of.gateway_id)
            for part in parts
        )
        is_looked_up = look and not self.anew
        return Cost(drafted + len(parts), sum(cached) if is_looked_up else 0, drafted)

    def _open_draft(self) -> GridDraft:
        return GridDraft(self.path, self._whose)

    def _fetch(self) -> GridDraft:
        draft = self._open_draft()
        rest = self._span()
        while rest.start_utc < rest.end_utc:
            until_utc = _recall(draft, rest) or self._ask(draft, rest)
            rest = Window(until_utc, rest.end_utc)
        if self._strangers:
            names = one_line(", ".join(self._strangers), 80)
            self._context.progress.say(
                f"{sum(self._strangers.values())} grid readings are of gateways that the cloud "
                f"does not list ({names}); left out."
            )
        return draft

    def _ask(self, draft: GridDraft, rest: Window) -> datetime:
        """Ask for as long a part as the cloud grants; until when it goes."""
        client, of = self._context.client, self._request
        ask = partial(
            client.fetch_grid_readings,
            premise_id=of.premise_id,
            gateway_id=of.gateway_id,
            anew=self.anew,
        )
        with self._measure.attempt(self._context.spans, rest) as attempt:
            part, answer = ask_part(self._measure, attempt, rest, ask)
            attempt.grant()
        start_s, until_s = (int(t.timestamp()) for t in (part.start_utc, part.end_utc))
        has_rows = any(found.times_us for found in answer.series.values())
        settled = not window_gaps(self._context, part, has_rows)
        # What could not be read is counted by this run alone: the next one must ask again.
        is_read = not self._note_unread(answer)
        draft.add(start_s, until_s, answer.series, settled=settled and is_read)
        return part.end_utc

    def _note_unread(self, answer: GridAnswer) -> bool:
        """Count what could not be read; True where there was anything."""
        self._unnamed += answer.unnamed
        unread = answer.unnamed > 0
        known = {site.gateway.id for site in self._sites}
        for gateway_id, found in answer.series.items():
            if gateway_id not in known and self._request.premise_id is None:
                self._strangers[gateway_id] += len(found.times_us)
            if found.unread_us or found.lost:
                self._unread_us[gateway_id].update(found.unread_us)
                self._lost[gateway_id] += found.lost
                unread = True
        return unread

    def _span(self) -> Window:
        """From the first zone's first to the last zone's last instant; nothing without sites."""
        start = min((site.window.start_utc for site in self._sites), default=_NEVER)
        return Window(start, max((site.window.end_utc for site in self._sites), default=_NEVER))


def _recall(draft: GridDraft, rest: Window) -> datetime | None:
    """Until when an earlier run was answered; None where it was not."""
    until_s = draft.recall(int(rest.start_utc.timestamp()), int(rest.end_utc.timestamp()))
    return None if until_s is None else datetime.fromtimestamp(until_s, UTC)


def _sites(context: Context, request: GridRequest) -> list[_Site]:
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
        sites.append(_Site(gateway, premise, zone, window))
    return sites


def _jobs(
    context: Context,
    answers: _Answers,
    request: GridRequest,
    sites: Iterable[_Site],
    output: Output,
) -> list[FileJob]:
    """A job a gateway, and whether any was answered before and is asked again for more.

    They share the calls, and so whether the cache may answer them.
    """
    question = request.question()
    jobs = [_job(context, answers, site, question, output) for site in sites]
    output.refuse_table(part.name for job in jobs for part in job.parts)
    folder = Folder.look(output.folder)
    for job in jobs:
        for part in job.parts:
            verdict, kept = judge_part(context, folder, part, output)
            answers.anew = answers.anew or (kept is None and is_answered(verdict))
    return jobs


def _job(
    context: Context, answers: _Answers, site: _Site, question: Question, output: Output
) -> FileJob:
    def judge(found: _SiteReadings) -> Outcome:
        rows = filled = 0
        for piece in found.pieces():
            rows, filled = rows + len(piece.times_us), filled + _count_filled(piece)
        outcome = judge_readings(context, site.gateway.id, site.window, rows, filled)
        return replace(
            outcome,
            unfilled=Unfilled(missing=found.unread),
            whole=outcome.whole and not found.unnamed,
            changed=found.changed,
        )

    part = Part(
        name=safe_name(site.gateway.id, ".csv"),
        question=question,
        render=lambda found: render_grid(
            site.gateway.id, site.zone.key, found.pieces(), raw_cells=output.raw_cells
        ),
        judge=judge,
        timezone=site.zone.key,
        renew=_renew_file,
    )
    return FileJob(
        subject=site.gateway.id,
        windows=[site.window],
        fetch=lambda folder, anew: answers.of(site),
        cost=lambda look: Cost(0, 0),
        parts=[part],
    )


def _renew_file(path: Path, before: Entry, found: _SiteReadings) -> _SiteReadings:
    """What was fetched over what the file at a path holds. Raises LocalError."""

    def read_known() -> Iterator[Row]:
        with local_errors(path, "read"):
            yield from read_grid(path)

    renewed = renew_readings(found.rows, read_known, found.site.zone.key, found.site.window)
    if not renewed.kept:
        return replace(found, changed=renewed.changed)
    return replace(found, pieces=lambda: _pieces(renewed.read()), changed=renewed.changed)


def _pieces(rows: Iterator[Row]) -> Iterator[GridSeries]:
    while piece := list(islice(rows, _PIECE_ROWS)):
        times_us, voltage, frequency = zip(*piece, strict=True)
        yield GridSeries(times_us, voltage, frequency)


def _count_filled(piece: GridSeries) -> int:
    """How many of its readings hold a number."""
    if None not in piece.voltage or None not in piece.frequency:
        return len(piece.times_us)
    pairs = zip(piece.voltage, piece.frequency, strict=True)
    return sum(volts is not None or hertz is not None for volts, hertz in pairs)


def _place(premise: Premise | None) -> tuple[str | None, str | None, str | None]:
    if premise is None:
        return None, None, None
    return premise.street_address, premise.city_town, padded_postal_code(premise)
