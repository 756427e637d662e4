"""The lists: premises, gateways, and the newest reading of every meter."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from copper_cli.records import Meter, Premise
from copper_cli.table import Column, Table
from copper_cli.units import Normalised, normalise_last_readings, standard_unit
from copper_cli.work.context import Context
from copper_cli.work.fleet import choose, padded_postal_code, sort_premises
from copper_cli.work.parallel import run_together

TEST_ACCOUNT = "ma.baseline@gmail.com"
"""The vendor's own test account: its premises are not homes."""
HYDRATE_TRIES = 10
HYDRATE_PAUSE_S = 2.0

_PREMISE_COLUMNS = (
    Column("ID", "id"),
    Column("Created", "created"),
    Column("Address", "address"),
    Column("Suite/Apt", "suite_apt"),
    Column("City", "city"),
    Column("Postal Code", "postal_code"),
    Column("County", "county"),
    Column("State", "state"),
    Column("Tags", "tags"),
    Column("Email", "email"),
)
_METER_IDS = Column("Meter IDs", "meter_ids", ";".join)


@dataclass(frozen=True, slots=True)
class _LatestRow:
    """The newest reading of one meter, wherever it came from."""

    meter_id: str
    meter_type: str
    premise_id: str | None
    premise: Premise | None
    time_utc: datetime | None
    reading: Normalised


def list_premises(
    context: Context,
    *,
    with_users: bool = False,
    incomplete: bool = False,
    with_ids: bool = False,
    tries: int = 1,
) -> Table:
    """All premises, oldest first. `incomplete`: only those without any meter.

    With `tries` above 1 it asks again until no user's email is missing. `with_ids` adds the ids of
    each one's meters, in the cloud's order: that takes the meter list, as `incomplete` does.
    """
    if with_users or incomplete:
        premises = _hydrate(context, tries)
    else:
        premises = context.client.fetch_premises()
    listed = len(premises)
    meter_ids = _fetch_meter_ids(context) if incomplete or with_ids else {}
    if incomplete:
        premises = [p for p in premises if _is_incomplete(p, meter_ids)]
    missing = sum(1 for p in premises for email in p.emails or () if email is None)
    columns = (*_PREMISE_COLUMNS, _METER_IDS) if with_ids else _PREMISE_COLUMNS
    rows = [
        (*_premise_row(p), *([meter_ids.get(p.id, [])] if with_ids else ()))
        for p in sort_premises(premises)
    ]
    facts = {"listed": listed, "missing_emails": missing}
    return Table("Premise download", columns, rows, facts)


def list_gateways(context: Context) -> Table:
    """All gateways in the cloud's order, those not yet installed too."""
    gateways = context.client.fetch_gateways()
    columns = (
        Column("ID", "id"),
        Column("Premise ID", "premise_id"),
        Column("State", "state"),
        Column("Model", "model"),
        Column("Last Heard", "last_heard"),
        Column("Firmware Version", "firmware_version"),
    )
    rows = [
        (g.id, g.premise_id, g.state, g.model, g.last_heard, g.firmware_version) for g in gateways
    ]
    return Table("Gateway download", columns, rows, {"listed": len(gateways)})


def show_gateway(context: Context, gateway_id: str) -> Table:
    """One gateway with every field the cloud has, nulls included. UsageError if unknown."""
    (gateway,) = choose(context.client.fetch_gateways(with_history=True), [gateway_id], "gateway")
    columns = (Column("Field", "field"), Column("Value", "value", _plain_value))
    return Table(f"Gateway {gateway.id}", columns, list(gateway.fields.items()))


def list_bulk(context: Context, *, detailed: bool = False, with_ids: bool = False) -> Table:
    """The newest reading of each meter heard recently, in the cloud's order.

    `detailed` adds where it stands, `with_ids` the premise's id: that takes the meter list.
    """
    client = context.client
    bulk, meters, premises = run_together(
        context,
        client.fetch_bulk,
        partial(client.fetch_meters, with_history=False) if detailed or with_ids else list[Meter],
        client.fetch_premises if detailed else list[Premise],
    )
    place_of = {m.id: m.premise_id for m in meters}
    by_id = {p.id: p for p in premises}
    rows = [
        _LatestRow(
            r.meter_id,
            r.meter_type,
            place_of.get(r.meter_id),
            by_id.get(place_of.get(r.meter_id) or ""),
            r.time_utc,
            Normalised(r.value, True),
        )
        for r in bulk
    ]
    joined = detailed or with_ids
    return _latest_table(
        "Bulk meter download", rows, detailed=detailed, with_ids=with_ids, joined=joined
    )


def list_meter_status(context: Context, *, detailed: bool = False, with_ids: bool = False) -> Table:
    """Every meter with its newest reading in the standard unit, also those not heard lately.

    `detailed` adds where it stands, `with_ids` shows people the premise's id too.
    `facts["unverified"]` counts the readings whose unit nothing confirms.
    """
    client = context.client
    meters, bulk, found = run_together(
        context,
        partial(client.fetch_meters, with_history=False),
        client.fetch_bulk,
        client.fetch_premises if detailed else list[Premise],
    )
    checked = normalise_last_readings(meters, bulk)
    premises = {p.id: p for p in found}
    rows = [
        _LatestRow(
            m.id,
            m.type,
            m.premise_id,
            premises.get(m.premise_id or ""),
            m.last_reading.time_utc if m.last_reading else None,
            checked[m.id],
        )
        for m in meters
    ]
    return _latest_table("Meter download", rows, detailed=detailed, with_ids=with_ids)


def _hydrate(context: Context, tries: int) -> list[Premise]:
    """Premises with users, asked for until no email is missing or `tries` are used up."""
    premises = context.client.fetch_premises(with_users=True)
    for left in range(tries - 1, 0, -1):
        missing = sum(1 for p in premises for email in p.emails or () if email is None)
        if not missing:
            break
        context.progress.say(f"{missing} emails are still missing; asking again ({left} left).")
        context.sleep(HYDRATE_PAUSE_S)
        premises = context.client.fetch_premises(with_users=True)
    return premises


def _fetch_meter_ids(context: Context) -> Mapping[str | None, list[str]]:
    """The meters of each premise that has any."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for meter in context.client.fetch_meters(with_history=False):
        found[meter.premise_id].append(meter.id)
    return found


def _is_incomplete(premise: Premise, metered: Container[str | None]) -> bool:
    return (
        premise.id not in metered
        and not (premise.name or "").startswith("Cube:")
        and TEST_ACCOUNT not in (premise.emails or ())
    )


def _premise_row(premise: Premise) -> tuple[Any, ...]:
    emails = None
    if premise.emails is not None:
        emails = ";".join("missing" if email is None else email for email in premise.emails)
    return (
        premise.id,
        premise.created_at,
        premise.street_address,
        premise.suite_apartment_unit,
        premise.city_town,
        premise.postal_code,
        premise.county_district,
        premise.state_region,
        list(premise.tags),
        emails,
    )


def _latest_table(
    title: str,
    rows: Sequence[_LatestRow],
    *,
    detailed: bool,
    with_ids: bool,
    joined: bool = True,
) -> Table:
    """Where premise ids are known (`joined`), programs get them always, people if asked."""
    place = (Column("Address", "address"), Column("City", "city"))
    columns = (
        Column("ID", "id"),
        Column("Type", "type"),
        *((Column("Premise ID", "premise_id", hidden=not with_ids),) if joined else ()),
        *((*place, Column("Postal Code", "postal_code")) if detailed else ()),
        Column("Latest Timestamp", "latest_timestamp"),
        Column("Latest Value", "latest_value", _three_decimals, console=_marked_value),
        Column("Unit", "unit", hidden=True),
        Column("Verified", "verified", hidden=True),
    )
    cells = [_latest_cells(row, detailed, joined) for row in rows]
    how = Counter(row.reading.verified for row in rows)
    return Table(title, columns, cells, {"listed": len(rows), "unverified": how[False]})


def _latest_cells(row: _LatestRow, detailed: bool, joined: bool) -> tuple[Any, ...]:
    place: tuple[str | None, ...] = (row.premise_id,) if joined else ()
    if detailed:
        p = row.premise
        place += (
            p.street_address if p else None,
            p.city_town if p else None,
            padded_postal_code(p),
        )
    local = row.time_utc.astimezone() if row.time_utc else None
    unit = standard_unit(row.meter_type)
    return (
        row.meter_id,
        row.meter_type,
        *place,
        local,
        row.reading.value,
        unit,
        row.reading.verified,
    )


def _three_decimals(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _marked_value(row: Sequence[Any]) -> str | None:
    """The value, with a `?` where its unit is not verified."""
    *_, value, _unit, verified = row
    return _three_decimals(value) if verified else f"{value:.3f} ?"


def _plain_value(value: Any) -> Any:
    """A nested value as JSON text; anything else as it is."""
    if isinstance(value, (dict, list)):
        import json

        return json.dumps(value, ensure_ascii=False)
    return "null" if value is None else value
