"""The fleet of a sync: lists that are asked for anew, zones as far as they are remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from copper_cli.archive.lists import read_locations, read_premises
from copper_cli.buckets import DAY_S
from copper_cli.errors import UsageError, ZoneError
from copper_cli.plan import whole_days
from copper_cli.records import Meter, Premise, Window
from copper_cli.work.context import Asking, Context
from copper_cli.work.fleet import Zoneless, Zones, choose, read_zone, tell_days_of_utc
from copper_cli.work.grid_answers import SharedAnswers, Site
from copper_cli.work.sync_needs import SyncMeter
from copper_cli.work.sync_order import SyncOrder, progress_of, read_progress

PREMISES_KEPT_S = 7 * DAY_S
"""For so long the premises are not asked for, unless a meter names one that is not known."""
_LOCATIONS_KEPT_S = 30 * DAY_S


def fetch_targets(
    context: Context, order: SyncOrder, *, is_typed: bool
) -> tuple[list[SyncMeter | Zoneless], list[str]]:
    """The meters of an order, in the cloud's order, and the named ones that the cloud has not.

    UsageError for a type that no meter has, and where the order was just typed for such a name.
    """
    meters = context.client.fetch_meters(with_history=False, anew=True)
    known = {meter.id for meter in meters}
    gone = [one for one in order.meter_ids or () if one not in known]
    if order.meter_ids is None:
        chosen = meters
    elif is_typed:
        chosen = choose(meters, order.meter_ids, "meter")
    else:
        chosen = [meter for meter in meters if meter.id in order.meter_ids]
    chosen = _of_types(chosen, order.types)
    premises = fetch_premises(context, chosen)
    progress = read_progress(context.archive)
    found: list[SyncMeter | Zoneless] = []
    for meter, zone in Zones(context, premises=premises).find(chosen):
        if isinstance(zone, ZoneError):
            found.append(Zoneless(meter, zone))
        else:
            found.append(SyncMeter(meter, zone, order, progress_of(progress, meter.id)))
    return found, gone


def _of_types(meters: Sequence[Meter], types: Sequence[str]) -> list[Meter]:
    known = sorted({meter.type for meter in meters})
    for one in types:
        if one not in known:
            raise UsageError(f"no meter is of type {one}; there are {', '.join(known) or 'none'}.")
    return [meter for meter in meters if not types or meter.type in types]


def fetch_premises(context: Context, meters: Iterable[Meter]) -> list[Premise]:
    """The premises: from the archive for a week, as long as it knows those of all meters."""
    seen_s, held = read_premises(context.archive)
    named = {meter.premise_id for meter in meters if meter.premise_id}
    is_young = seen_s is not None and context.now() < seen_s + PREMISES_KEPT_S
    if not is_young or named - {premise.id for premise in held}:
        held = context.client.fetch_premises(anew=True)
    return _with_locations(context, held, meters)


def _with_locations(
    context: Context, premises: Sequence[Premise], meters: Iterable[Meter]
) -> list[Premise]:
    """Those whose own zone is not known with that of one of their meters, where that is held."""
    locations = {
        meter_id: zone
        for meter_id, (seen_s, zone) in read_locations(context.archive).items()
        if context.now() < seen_s + _LOCATIONS_KEPT_S
    }
    by_premise = {
        meter.premise_id: locations[meter.id]
        for meter in meters
        if locations.get(meter.id) is not None
    }
    return [
        replace(premise, timezone=by_premise[premise.id])
        if premise.id in by_premise and read_zone(premise.timezone) is None
        else premise
        for premise in premises
    ]


class GridBook:
    """The grid readings of all gateways over an order's days."""

    def __init__(self, context: Context, order: SyncOrder) -> None:
        self._context = context
        gateways = context.client.fetch_gateways(anew=True)
        by_id = {one.id: one for one in fetch_premises(context, ())}
        homes = {gateway.id: by_id.get(gateway.premise_id or "") for gateway in gateways}
        utc = read_zone("UTC")
        assert utc is not None
        tell_days_of_utc(context, (one for one in homes.values() if one is not None))
        today = context.now_utc().date()
        self._sites = []
        for gateway in gateways:
            home = homes[gateway.id]
            zone = read_zone(home.timezone if home else None) or utc
            window = whole_days(order.since, today, zone)
            self._sites.append(Site(gateway, home, zone, window))

    def calls(self, start_s: int, end_s: int) -> int:
        """What `fetch` would cost."""
        cost = self._answers(start_s, end_s).cost()
        return cost.calls - cost.held

    def span(self) -> tuple[int, int] | None:
        """From the first instant of an order to the end of today, of all gateways."""
        spans = [site.span for site in self._sites if site.span[0] < site.span[1]]
        if not spans:
            return None
        return min(first for first, _ in spans), max(last for _, last in spans)

    def fetch(self, start_s: int, end_s: int) -> None:
        """Have the archive hold what it lacks of a span. Raises what the cloud raises."""
        answers = self._answers(start_s, end_s)
        for site in answers.sites:
            answers.of(site)

    def _answers(self, start_s: int, end_s: int) -> SharedAnswers:
        sites = []
        for site in self._sites:
            first_s, last_s = max(start_s, site.span[0]), min(end_s, site.span[1])
            if first_s < last_s:
                window = Window(
                    datetime.fromtimestamp(first_s, UTC), datetime.fromtimestamp(last_s, UTC)
                )
                sites.append(replace(site, window=window))
        asking = Asking()
        return SharedAnswers(self._context, asking, sites, premise_id=None, gateway_id=None)
