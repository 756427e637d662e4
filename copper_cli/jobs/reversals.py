"""Water meters that may be connected the wrong way round: indoor where outdoor should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import fsum
from typing import Any, Literal
from zoneinfo import ZoneInfo

from copper_cli.plan import SeriesPlan, plan_whole_days
from copper_cli.records import Meter, Premise
from copper_cli.table import Column, Table
from copper_cli.work.context import Context
from copper_cli.work.estimate import Estimate, estimate_table
from copper_cli.work.fetch_sum import count_sum_calls, fetch_meter_sum, tell_added_up
from copper_cli.work.fleet import Zoneless, Zones, ask_each, plan_each, tell_zoneless
from copper_cli.work.outcome import tell_failure
from copper_cli.work.parallel import run_together

Method = Literal["summer", "winter"]

DAYS = 30
MUCH = 1000.0
"""Gallons in 30 days that one would notice."""
MANY_TIMES = 10.0
_SIDES = ("water_indoor", "water_outdoor")


@dataclass(frozen=True, slots=True)
class _Sides:
    indoor: float | None
    outdoor: float | None

    def suspect(self, method: Method) -> bool:
        """A side missing or without use, or too much of what the season does not need."""
        if not self.indoor or not self.outdoor:
            return True
        if method == "summer":
            return self.indoor > MUCH and self.indoor > MANY_TIMES * self.outdoor
        return self.outdoor > MUCH


def check_water_reversals(
    context: Context, *, method: Method = "summer", check_limit: int | None = None
) -> Table:
    """The premises whose last 30 days of indoor and outdoor water look reversed.

    Only meters heard recently are looked at, the first `check_limit` of them. A premise of
    which a meter could not be had is left out, and `facts["failed"]` says so.
    """
    before = context.session.calls_used
    meters, listed = _fetch_lists(context, check_limit)
    by_id = {m.id: m for m in meters}
    premises = {p.id: p for p in listed}
    planned, zoneless, _ = _plan(context, meters, listed)
    usage, failed = _usage(context, planned)
    failed += [tell_failure(o.meter.id, str(o.error), o.error.lasting) for o in zoneless]
    broken = {by_id[f["id"]].premise_id for f in failed}
    sides: dict[str | None, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for meter in meters:
        if meter.premise_id not in broken:
            used = usage[meter.id]
            sides[meter.premise_id][meter.type] += [] if used is None else [used]
    rows = []
    for premise_id, by_type in sides.items():
        # A side without any amount is not known: it is shown as missing, not as unused.
        found = _Sides(*(fsum(by_type[s]) if by_type.get(s) else None for s in _SIDES))
        if found.suspect(method):
            premise = premises.get(premise_id or "")
            address = premise.street_address if premise else None
            rows.append((premise_id, address, found.indoor, found.outdoor))
    columns = (
        Column("Premise ID", "premise_id", hidden=True),
        Column("Address", "address"),
        Column("Indoor Usage", "indoor_usage"),
        Column("Outdoor Usage", "outdoor_usage"),
    )
    facts = {"failed": failed, "calls": context.session.calls_used - before, "noun": "meter"}
    return Table("Suspect water meter reversals", columns, rows, facts)


def estimate_water_reversals(context: Context, *, check_limit: int | None = None) -> Table:
    """What check_water_reversals would cost beyond its lists; no other call is made."""
    meters, premises = _fetch_lists(context, check_limit)
    planned, zoneless, zones = _plan(context, meters, premises)
    tell_zoneless(context, zoneless)
    costs = [count_sum_calls(context, meter, plan) for meter, plan in planned]
    estimate = Estimate(sum(costs, zones.cost()), 0, len(planned))
    return estimate_table(context, "Suspect water meter reversals", "meters", estimate)


def _fetch_lists(context: Context, check_limit: int | None) -> tuple[list[Meter], list[Premise]]:
    """The first so many water meters of either side that were heard recently; all premises."""
    client = context.client
    bulk, meters, premises = run_together(
        context,
        client.fetch_bulk,
        partial(client.fetch_meters, with_history=False),
        client.fetch_premises,
    )
    heard = [r.meter_id for r in bulk if r.meter_type in _SIDES]
    by_id = {m.id: m for m in meters}
    return [by_id[i] for i in heard[:check_limit] if i in by_id], premises


def _plan(
    context: Context, meters: Sequence[Meter], premises: Iterable[Premise]
) -> tuple[list[tuple[Meter, SeriesPlan]], list[Zoneless], Zones]:
    """What to ask of each meter, those of which nothing can be asked, and the zones."""
    zones = Zones(context, premises=premises)
    planned, zoneless = plan_each(zones, meters, lambda _, zone: _last_days(context, zone))
    return planned, zoneless, zones


def _usage(
    context: Context, plans: Sequence[tuple[Meter, SeriesPlan]]
) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """What each meter used, None without any amount.

    In 30 × 24 hours from its local midnight 30 days before today.
    """
    usage, refused = ask_each(context, plans, partial(fetch_meter_sum, context))
    tell_added_up(context, usage.values())
    used = {meter_id: one.total for meter_id, one in usage.items()}
    return used, [tell_failure(meter.id, str(error), error.lasting) for meter, error in refused]


def _last_days(context: Context, zone: ZoneInfo) -> SeriesPlan:
    return plan_whole_days(context.today().date() - timedelta(days=DAYS), DAYS, zone)
