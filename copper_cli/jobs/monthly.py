"""The monthly report: how many homes and meters there were, and what they used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from math import fsum
from typing import Any
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from copper_cli.errors import CopperError, QuotaSpentError, UnreachableError
from copper_cli.plan import SeriesPlan, local_midnight, plan_month_sum
from copper_cli.records import Meter, Premise, Window
from copper_cli.table import Column, Table
from copper_cli.units import amount_unit
from copper_cli.work.context import Context
from copper_cli.work.estimate import Estimate, estimate_table
from copper_cli.work.fetch_sum import count_sum_calls, fetch_meter_sum, tell_added_up
from copper_cli.work.fleet import (
    Zoneless,
    Zones,
    ask_each,
    created_by,
    plan_each,
    read_zone,
    sort_premises,
    tell_zoneless,
)
from copper_cli.work.outcome import Cost, tell_failure
from copper_cli.work.parallel import run_together

LEGEND = (
    (1, "Number of elements in existence during the report window"),
    (2, "Sum of individual meter usages during the report window"),
    (3, "Number of currently-connected meters contributing to the aggregate usage"),
    (4, "Aggregate usage of currently-connected meters during the report window"),
)

_COLUMNS = (
    Column("Statistic", "statistic"),
    Column("Value", "value"),
    Column("Units", "units"),
    Column("Note", "note"),
)


@dataclass(frozen=True, slots=True)
class MonthlyReport:
    """The table and the legend of its notes."""

    table: Table
    legend: Table


def report_monthly(
    context: Context, month: date, *, include_per_meter_sum: bool = False
) -> MonthlyReport:
    """The report of the month that begins at `month` (a first day).

    The month runs between local midnights of the oldest premise's zone; a meter's own sum in
    its own premise's. A total of which a part could not be had is left out, and
    `facts["failed"]` says so.
    """
    before = context.session.calls_used
    premises, meters, window = _fetch_lists(context, month)
    homes = [p for p in premises if p.created_utc is None or p.created_utc < window.end_utc]
    failed: list[dict[str, Any]] = []
    zones = Zones(context, premises=premises)
    sums = _per_meter_sums(context, month, meters, zones, failed) if include_per_meter_sum else {}
    rows: list[Sequence[Any]] = [
        ("total homes", len(homes), None, 1),
        ("total meters", len(meters), None, 1),
    ]
    kinds = sorted({m.type for m in meters})
    context.progress.start("types", len(kinds), "adding up")
    for kind in kinds:
        rows.append((f"{kind} meters", sum(1 for m in meters if m.type == kind), None, 1))
        for unit, used in sums.get(kind, {}).items():
            rows.append((f"{kind} cumulative per-meter usage", round(used, 2), unit, 2))
        aggregate = _aggregate(context, kind, window, failed)
        context.progress.advance()
        if aggregate is not None:
            unit = _unit_of_all(m for m in meters if m.type == kind)
            rows.append((f"{kind} aggregate usage", round(aggregate, 2), unit, 4))
    facts = {"failed": failed, "calls": context.session.calls_used - before, "noun": "part"}
    legend = Table("Notes", (Column("Note", "note"), Column("Description", "description")), LEGEND)
    return MonthlyReport(Table(f"Monthly report for {month:%Y-%m}", _COLUMNS, rows, facts), legend)


def _unit_of_all(meters: Iterable[Meter]) -> str | None:
    """The unit of what meters of a type used together; None where they count in several."""
    units = {amount_unit(meter.type, meter.uom) for meter in meters}
    return units.pop() if len(units) == 1 else None


def estimate_monthly(
    context: Context, month: date, *, include_per_meter_sum: bool = False
) -> Table:
    """What report_monthly would cost beyond its lists; no other call is made."""
    premises, meters, window = _fetch_lists(context, month)
    zones = Zones(context, premises=premises)
    kinds = {m.type for m in meters}
    cached = sum(context.client.is_aggregate_cached(kind, window) for kind in kinds)
    cost = Cost(len(kinds), cached=cached)
    if include_per_meter_sum:
        planned, zoneless = _plan_sums(month, meters, zones)
        cost += zones.cost()
        tell_zoneless(context, zoneless)
        for meter, plan in planned:
            cost += count_sum_calls(context, meter, plan)
    estimate = Estimate(cost, 0, len(meters))
    return estimate_table(context, f"Monthly report for {month:%Y-%m}", "meters", estimate)


def _fetch_lists(context: Context, month: date) -> tuple[list[Premise], list[Meter], Window]:
    """Premises, oldest first; the meters created by the month's end; the month."""
    client = context.client
    found, meters = run_together(
        context, client.fetch_premises, partial(client.fetch_meters, with_history=False)
    )
    premises = sort_premises(found)
    window = _month_window(month, premises)
    return premises, created_by(meters, window.end_utc), window


def _month_window(month: date, premises: Sequence[Premise]) -> Window:
    zone = read_zone(premises[0].timezone if premises else None) or read_zone("UTC")
    assert zone is not None
    return Window(
        local_midnight(month, zone), local_midnight(month + relativedelta(months=1), zone)
    )


def _aggregate(
    context: Context, kind: str, window: Window, failed: list[dict[str, Any]]
) -> float | None:
    """What all reporting meters of the type used; None where none reports or the call failed."""
    try:
        found = context.client.fetch_aggregate(kind, window)
    except (QuotaSpentError, UnreachableError):
        raise
    except CopperError as error:
        failed.append(tell_failure(f"{kind} aggregate usage", str(error), error.lasting))
        return None
    return found.sum_energy if found else None


def _per_meter_sums(
    context: Context,
    month: date,
    meters: Sequence[Meter],
    zones: Zones,
    failed: list[dict[str, Any]],
) -> dict[str, dict[str | None, float]]:
    """The sum of all meters' own sums, by type and unit; a type of which one failed is left out.

    Gas that is counted as energy is never added to gas that is counted as volume.
    """
    planned, zoneless = _plan_sums(month, meters, zones)

    found, refused = ask_each(context, planned, partial(fetch_meter_sum, context))
    tell_added_up(context, found.values())
    refused += [(one.meter, one.error) for one in zoneless]
    failed += [tell_failure(meter.id, str(error), error.lasting) for meter, error in refused]
    lost = {meter.type for meter, _ in refused}
    parts: dict[str, dict[str | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for meter in meters:
        if meter.type not in lost:
            unit = amount_unit(meter.type, meter.uom)
            parts[meter.type][unit].append(found[meter.id].total or 0.0)  # None: it used nothing
    return {
        kind: {unit: fsum(used) for unit, used in by_unit.items()}
        for kind, by_unit in parts.items()
    }


def _plan_sums(
    month: date, meters: Sequence[Meter], zones: Zones
) -> tuple[list[tuple[Meter, SeriesPlan]], list[Zoneless]]:
    """What to ask of each meter, and those of which nothing can be asked."""
    return plan_each(zones, meters, partial(_plan_sum, month))


def _plan_sum(month: date, meter: Meter, zone: ZoneInfo) -> SeriesPlan:
    return plan_month_sum(month, zone, meter.created_utc)
