"""Grid readings of many gateways: one call for all, and each gateway's part of what it brought."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

from copper_cli.archive import Instants, Landed, SeriesKey, join_spans
from copper_cli.buckets import DAY_S
from copper_cli.errors import CloudError, CopperError
from copper_cli.plan import MAX_ROWS
from copper_cli.records import Gateway, GridAnswer, GridSeries, Premise, Window
from copper_cli.text import one_line
from copper_cli.work.context import Asking, Context
from copper_cli.work.outcome import Cost
from copper_cli.work.window_parts import Measure, ask_part

_READINGS_A_DAY = 1440
"""ASSUMED the most a gateway sends: one a minute. To check: count a day of one gateway."""
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway where it stands."""

    gateway: Gateway
    premise: Premise | None
    zone: ZoneInfo
    window: Window

    @property
    def key(self) -> SeriesKey:
        """Under which the archive holds its readings."""
        return SeriesKey(self.gateway.id, "grid")

    @property
    def span(self) -> tuple[int, int]:
        """Its own local days, seconds since 1970 UTC."""
        return int(self.window.start_utc.timestamp()), int(self.window.end_utc.timestamp())


@dataclass(frozen=True, slots=True)
class SiteReadings:
    """The readings of one gateway within its own local days, as the archive holds them."""

    context: Context
    site: Site
    unread: int
    """Readings that could not be read, or not whole."""
    unnamed: int
    """Readings that may be this gateway's or another's."""
    fetched: Landed
    """What came of asking."""

    def pieces(self) -> Iterator[GridSeries]:
        """Them, ascending by time, as often as need be."""
        for found in self.context.archive.instants(self.site.key, *self.site.span):
            yield GridSeries(found.times_us, found.first, found.second)


class SharedAnswers:
    """All readings of the range, asked for once, by as many calls as their number needs.

    One call after the other, each set down before the next is made: the answer for a day of a
    large fleet is large, and no more than one is held at once.
    """

    def __init__(
        self,
        context: Context,
        asking: Asking,
        sites: Sequence[Site],
        *,
        premise_id: str | None,
        gateway_id: str | None,
    ) -> None:
        self._context = context
        self._asking = asking
        self._ask_cloud = partial(
            context.client.fetch_grid_readings, premise_id=premise_id, gateway_id=gateway_id
        )
        self._is_fleet = premise_id is None
        self.sites = sites
        """The gateways whose readings these are."""
        days = MAX_ROWS // (_READINGS_A_DAY * max(1, len(sites)))
        self._measure = Measure("grid", 60, max(1, days) * DAY_S // 60)
        self._is_fetched = False
        self._failure: CopperError | None = None
        self._unnamed = 0
        self._landed: dict[str, Landed] = defaultdict(Landed)
        self._strangers: dict[str, int] = defaultdict(int)

    def of(self, site: Site) -> SiteReadings:
        """The readings of one gateway. The first to ask has all of them fetched.

        Raises CloudError where there are some and no number of them can be read.
        """
        # Needs no lock: a download's first job runs alone (see run_parallel). Before a second
        # thread comes there are answers or a failure, and from then on both are only read.
        if self._failure is not None:
            raise self._failure  # all gateways share the calls, and so their failure
        if not self._is_fetched:
            try:
                self._fetch()
            except CopperError as failure:
                self._failure = failure
                raise
            self._is_fetched = True
        unread = sum(one.unread for one in self._context.archive.coverage(site.key, site.span))
        landed = self._landed[site.gateway.id]
        found = SiteReadings(self._context, site, unread, self._unnamed, landed)
        if unread:
            told = f"{unread} of its readings cannot be read"
            if not any(map(count_filled, found.pieces())):
                self._context.archive.fail(site.key, site.span, asked_s=self._context.now())
                raise CloudError(
                    f"grid readings of gateway {site.gateway.id}: {told}, none has a number."
                )
            self._context.progress.say(f"{site.gateway.id}: {told}, or not whole.")
        return found

    def lacks(self) -> list[Window]:
        """What the archive lacks of any gateway, or what may have come since; ascending."""
        spans = join_spans(
            span
            for site in self.sites
            for span in self._context.archive.lacking(
                site.key,
                site.span,
                now_s=self._context.now(),
                recheck=self._asking.recheck,
                fresh=self._asking.fresh,
            )
        )
        return [Window(_utc(first), _utc(last)) for first, last in spans]

    def cost(self) -> Cost:
        """The calls for all gateways together; none is made."""
        if not self.sites:
            return Cost(0)
        whole = Window(
            min(site.window.start_utc for site in self.sites),
            max(site.window.end_utc for site in self.sites),
        )
        every, to_ask = (
            sum(1 for one in windows for _ in self._measure.plan(self._context.spans, one))
            for windows in ([whole], self.lacks())
        )
        return Cost(max(every, to_ask), held=max(0, every - to_ask))

    def _fetch(self) -> None:
        lacks = self.lacks()
        landed_utc = _utc(0)
        try:
            for window in lacks:
                rest = window
                while rest.start_utc < window.end_utc:
                    landed_utc = self._ask(rest)
                    rest = Window(landed_utc, window.end_utc)
        except CloudError:
            for window in lacks:
                self._fail(Window(max(window.start_utc, landed_utc), window.end_utc))
            raise
        if self._strangers:
            names = one_line(", ".join(self._strangers), 80)
            self._context.progress.say(
                f"{sum(self._strangers.values())} grid readings are of gateways that the cloud "
                f"does not list ({names}); left out."
            )

    def _fail(self, rest: Window) -> None:
        """Note that what is left of a window was not answered."""
        asked_s = self._context.now()
        for site in self.sites:
            first, last = _intersect(site.span, rest)
            if first < last:
                self._context.archive.fail(site.key, (first, last), asked_s=asked_s)

    def _ask(self, rest: Window) -> datetime:
        """Ask for as long a part as the cloud grants; until when it goes."""
        with self._measure.attempt(self._context.spans, rest) as attempt:
            part, answer = ask_part(self._measure, attempt, rest, self._ask_cloud)
            attempt.grant()
        self._note_strangers(answer)
        self._land(part, answer)
        return part.end_utc

    def _land(self, part: Window, answer: GridAnswer) -> None:
        """Set an answer down, by gateway: also that there was nothing of one."""
        archive, asked_s = self._context.archive, self._context.now()
        nothing = GridSeries((), (), ())
        answers = []
        for site in self.sites:
            first, last = _intersect(site.span, part)
            if first < last:
                found = answer.series.get(site.gateway.id, nothing)
                inside = sum(first * _US <= time_us < last * _US for time_us in found.unread_us)
                # What names no gateway may be anybody's: nobody's span is known then.
                unread = inside + found.lost
                rows = Instants(found.times_us, found.voltage, found.frequency)
                answers.append((site, (first, last), rows, unread))
        with archive.together():
            for site, span, rows, unread in answers:
                landed = archive.land_readings(
                    site.key,
                    span,
                    rows,
                    asked_s=asked_s,
                    unread=unread,
                    is_doubtful=answer.unnamed > 0,
                )
                before = self._landed[site.gateway.id]
                self._landed[site.gateway.id] = Landed(
                    before.changed + landed.changed, before.withdrawn + landed.withdrawn
                )

    def _note_strangers(self, answer: GridAnswer) -> None:
        self._unnamed += answer.unnamed
        known = {site.gateway.id for site in self.sites}
        for gateway_id, found in answer.series.items():
            if self._is_fleet and gateway_id not in known:
                self._strangers[gateway_id] += len(found.times_us)


def count_filled(piece: GridSeries) -> int:
    """How many of its readings hold a number."""
    if None not in piece.voltage or None not in piece.frequency:
        return len(piece.times_us)
    pairs = zip(piece.voltage, piece.frequency, strict=True)
    return sum(volts is not None or hertz is not None for volts, hertz in pairs)


def _intersect(span: tuple[int, int], window: Window) -> tuple[int, int]:
    start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
    return max(span[0], start_s), min(span[1], end_s)


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
