"""Today's date where the meters are."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from zoneinfo import ZoneInfo

from copper_cli.errors import CloudError
from copper_cli.plan import local_day
from copper_cli.records import Premise
from copper_cli.work.context import Context
from copper_cli.work.fleet import read_zone

_LOCATIONS = 3
"""So many meters are asked for their place where no premise tells it: each is a call."""


def find_today(
    context: Context,
    zone: ZoneInfo | None = None,
    *,
    meter_ids: tuple[str, ...] = (),
    premise_id: str | None = None,
    gateway_id: str | None = None,
) -> date:
    """The date in a zone; without one, that of the premises of what is asked for.

    Where they lie in zones of different dates it is the earliest: yesterday is over for all. The
    machine's own date is taken only where the cloud knows no zone. It asks for the premises, and
    for what stands at them only where their zones do not agree.
    """
    if zone is not None:
        return local_day(context.now_utc(), zone)
    premises = context.client.fetch_premises()
    days = _days(context, premises)
    if len(days) > 1 and (meter_ids or premise_id or gateway_id):
        places = {premise_id, *_places(context, meter_ids, gateway_id)}
        days = _days(context, (p for p in premises if p.id in places)) or days
    return min(days or _days_of_location(context, meter_ids), default=context.today().date())


def _days(context: Context, premises: Iterable[Premise]) -> set[date]:
    zones = {read_zone(premise.timezone) for premise in premises}
    return {local_day(context.now_utc(), zone) for zone in zones if zone is not None}


def _places(
    context: Context, meter_ids: tuple[str, ...], gateway_id: str | None
) -> Iterable[str | None]:
    """The premises of some meters or of a gateway."""
    if meter_ids:
        meters = context.client.fetch_meters(with_history=False)
        return [m.premise_id for m in meters if m.id in meter_ids]
    if gateway_id:
        return [g.premise_id for g in context.client.fetch_gateways() if g.id == gateway_id]
    return []


def _days_of_location(context: Context, meter_ids: tuple[str, ...]) -> set[date]:
    """The date where one of the meters is, for premises that are mute."""
    meters = context.client.fetch_meters(with_history=False)
    for meter in [m for m in meters if m.id in meter_ids or not meter_ids][:_LOCATIONS]:
        with suppress(CloudError):  # its download will say so
            if zone := read_zone(context.client.fetch_timezone(meter.id)):
                return {local_day(context.now_utc(), zone)}
    return set()
