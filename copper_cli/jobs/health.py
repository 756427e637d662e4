"""The health report: the last seven days of every meter and gateway, a sign a day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta, tzinfo
from functools import partial

from copper_cli.plan import local_day
from copper_cli.records import Gateway, Meter, Premise, StateChange
from copper_cli.table import Column, Table
from copper_cli.work.context import Context
from copper_cli.work.fleet import read_zone, sort_premises, tell_days_of_utc
from copper_cli.work.parallel import run_together

DAYS = 7
_SIGNS = {
    "active": ".",
    "connected": ".",
    "degraded": "/",
    "disconnected": "X",
    "down": "X",
}
_UNKNOWN = "?"
_UP = frozenset(("active", "connected"))
_DOWN = frozenset(("disconnected", "down"))


@dataclass(frozen=True, slots=True)
class _Device:
    """A meter or gateway, as the report lists it."""

    kind: str
    id: str
    state: str | None
    history: tuple[StateChange, ...]


def report_health(context: Context) -> Table:
    """Premises oldest first, for each its meters, then its gateways; today's sign first.

    Today is the machine's local date; changes fall on days of the premise's zone.
    """
    today = context.today().date()
    client = context.client
    premises, meters, gateways, histories = run_together(
        context,
        client.fetch_premises,
        partial(client.fetch_meters, with_history=True),
        client.fetch_gateways,
        client.fetch_gateway_histories,
    )
    devices = _devices_by_premise(meters, gateways, histories)
    tell_days_of_utc(context, (premise for premise in premises if premise.id in devices))
    days = [today - timedelta(days=n) for n in range(DAYS)]
    columns = (
        Column("Premise ID", "premise_id"),
        Column("Address", "address"),
        Column("Type", "type"),
        Column("ID", "id"),
        Column("State", "state"),
        *(Column(f"{day:%m/%d}", day.isoformat()) for day in days),
    )
    rows = [
        (premise.id, premise.street_address, device.kind, device.id, device.state, *signs)
        for premise in sort_premises(premises)
        for device in devices.get(premise.id, ())
        for signs in [_signs(device, premise, days)]
    ]
    return Table("Premise Health", columns, rows)


def _devices_by_premise(
    meters: Sequence[Meter],
    gateways: Sequence[Gateway],
    histories: Mapping[str, tuple[StateChange, ...]],
) -> Mapping[str | None, Sequence[_Device]]:
    found: dict[str | None, list[_Device]] = defaultdict(list)
    for meter in meters:
        device = _Device(f"{meter.type} meter", meter.id, meter.state, meter.history)
        found[meter.premise_id].append(device)
    for gateway in gateways:
        history = histories.get(gateway.id, ())
        found[gateway.premise_id].append(_Device("gateway", gateway.id, gateway.state, history))
    return found


def _signs(device: _Device, premise: Premise, days: Sequence[date]) -> list[str | None]:
    zone = read_zone(premise.timezone) or UTC
    first = local_day(premise.created_utc, zone) if premise.created_utc else date.min
    signs = walk_back(device.state, device.history, days, zone)
    return [sign if day >= first else None for day, sign in zip(days, signs, strict=True)]


def walk_back(
    state: str | None,
    history: Iterable[StateChange],
    days: Sequence[date],
    zone: tzinfo,
) -> list[str]:
    """A sign for each of `days`, which run back from today.

    On a day with changes the state before the earliest is compared with the state at the
    day's end: both up or both down shows the latter, anything else is `?`.
    """
    by_day: dict[date, list[StateChange]] = defaultdict(list)
    for change in history:
        by_day[local_day(change.time_utc, zone)].append(change)
    signs = []
    carried = state or ""
    for day in days:
        sign = _SIGNS.get(carried, _UNKNOWN)
        if changes := by_day.get(day):
            before = min(changes, key=lambda c: c.time_utc).from_state
            if not ({before, carried} <= _UP or {before, carried} <= _DOWN):
                sign = _UNKNOWN
            carried = before
        signs.append(sign)
    return signs
