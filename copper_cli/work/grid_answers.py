"""Grid readings of many gateways: one call for all, and each gateway's part of what it brought."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.buckets import DAY_S
from copper_cli.errors import CloudError, CopperError
from copper_cli.files.names import short_digest
from copper_cli.files.reasons import local_errors
from copper_cli.folders.draft import GridDraft, draft_path
from copper_cli.folders.manifest import Entry
from copper_cli.known_readings import Row, renew_readings
from copper_cli.plan import MAX_ROWS
from copper_cli.records import Gateway, GridAnswer, GridSeries, Premise, Window
from copper_cli.render.reread import read_grid
from copper_cli.text import one_line
from copper_cli.work.context import Context, Output
from copper_cli.work.outcome import Cost, window_gaps
from copper_cli.work.window_parts import Measure, ask_part

_READINGS_A_DAY = 1440
"""ASSUMED the most a gateway sends: one a minute. To check: count a day of one gateway."""
_US = 1_000_000
_PIECE_ROWS = 50_000
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway where it stands."""

    gateway: Gateway
    premise: Premise | None
    zone: ZoneInfo
    window: Window


@dataclass(frozen=True, slots=True)
class SiteReadings:
    """The readings of one gateway within its own local days, wherever they lie."""

    site: Site
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


class SharedAnswers:
    """All readings of the range, asked for once, by as many calls as their number needs.

    One call after the other, each set down before the next is made: the answer for a day of a
    large fleet is large, and no more than one is held at once.
    """

    def __init__(
        self,
        context: Context,
        output: Output,
        sites: Sequence[Site],
        request: Sequence[object],
        *,
        premise_id: str | None,
        gateway_id: str | None,
    ) -> None:
        settings = context.session.settings
        self._whose = [settings.api_url, settings.enterprise_id, *map(str, request)]
        # By name too: one gateway's download must not take the place of the fleet's.
        self.anew = output.recheck
        """Ask whatever the cache holds."""
        self.path = draft_path(output.folder, f"grid.{short_digest(*self._whose)}")
        self._context = context
        client = context.client
        self._ask_cloud = partial(
            client.fetch_grid_readings, premise_id=premise_id, gateway_id=gateway_id
        )
        self._is_cached = partial(
            client.is_grid_cached, premise_id=premise_id, gateway_id=gateway_id
        )
        self._is_fleet = premise_id is None
        self._sites = sites
        days = MAX_ROWS // (_READINGS_A_DAY * max(1, len(sites)))
        self._measure = Measure("grid", 60, max(1, days) * DAY_S // 60)
        self._draft: GridDraft | None = None
        self._failure: CopperError | None = None
        self._unnamed = 0
        self._unread_us: dict[str, set[int]] = defaultdict(set)
        self._lost: dict[str, int] = defaultdict(int)
        self._strangers: dict[str, int] = defaultdict(int)

    def of(self, site: Site) -> SiteReadings:
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
        found = SiteReadings(site, read, unread, self._unnamed)
        if unread:
            told = f"{unread} of its readings cannot be read"
            if not any(map(count_filled, found.pieces())):
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
        is_looked_up = look and not self.anew
        cached = sum(map(self._is_cached, parts)) if is_looked_up else 0
        return Cost(drafted + len(parts), cached, drafted)

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
        ask = partial(self._ask_cloud, anew=self.anew)
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
            if self._is_fleet and gateway_id not in known:
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


def renew_site(path: Path, before: Entry, found: SiteReadings) -> SiteReadings:
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


def count_filled(piece: GridSeries) -> int:
    """How many of its readings hold a number."""
    if None not in piece.voltage or None not in piece.frequency:
        return len(piece.times_us)
    pairs = zip(piece.voltage, piece.frequency, strict=True)
    return sum(volts is not None or hertz is not None for volts, hertz in pairs)
