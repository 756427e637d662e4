"""Rows of lists: premises, meters, gateways, what they show now; those of an individual too."""

from __future__ import annotations

from collections.abc import Iterable

from copper_cli.cloud.parse.answers import (
    Page,
    Row,
    has_id,
    read_each,
    take_object,
    take_readable,
    take_rows,
)
from copper_cli.cloud.parse.values import to_id, to_number, to_text, to_utc
from copper_cli.records import (
    BulkReading,
    Gateway,
    GatewayHistory,
    GridReading,
    Instant,
    LastReading,
    Meter,
    Premise,
    StateChange,
)


def parse_premises(rows: Iterable[Row], *, with_users: bool) -> list[Premise]:
    """Premises in the cloud's order."""
    return read_each(lambda row: _premise(row, with_users), rows)


def _premise(row: Row, with_users: bool) -> Premise | None:
    premise_id = to_id(row.get("id"))
    if premise_id is None:
        return None
    tags = row.get("tags")
    tags = {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
    return Premise(
        id=premise_id,
        created_at=to_text(row.get("created_at")),
        created_utc=to_utc(row.get("created_at")),
        name=to_text(row.get("name")),
        street_address=to_text(row.get("street_address")),
        suite_apartment_unit=to_id(row.get("suite_apartment_unit")),
        city_town=to_text(row.get("city_town")),
        postal_code=to_id(row.get("postal_code")),
        county_district=to_text(row.get("county_district")),
        state_region=to_text(row.get("state_region")),
        tags=tuple(sorted(tags)),
        timezone=to_text(row.get("timezone")),
        emails=_emails(row) if with_users else None,
    )


def _emails(row: Row) -> tuple[str | None, ...]:
    users = row.get("user_list")
    if not isinstance(users, list):
        return ()
    return tuple(to_text(user.get("email")) or None for user in users if isinstance(user, dict))


def parse_meters(rows: Iterable[Row]) -> list[Meter]:
    """Meters in the cloud's order; register values as the cloud wrote them."""
    return read_each(_meter, rows)


def _meter(row: Row) -> Meter | None:
    meter_id = to_id(row.get("id"))
    if meter_id is None:
        return None
    return Meter(
        id=meter_id,
        type=to_text(row.get("type")) or "",
        state=to_text(row.get("state")),
        premise_id=to_id(row.get("premise_id")),
        created_utc=to_utc(row.get("created_at")),
        uom=to_text(row.get("uom")),
        last_reading=_last_reading(row.get("last_reading")),
        history=_history(row.get("seven_day_history")),
    )


def _last_reading(row: object) -> LastReading | None:
    if not isinstance(row, dict):
        return None
    return LastReading(value=to_number(row.get("value")), time_utc=to_utc(row.get("hw_timestamp")))


def _history(rows: object) -> tuple[StateChange, ...]:
    if not isinstance(rows, list):
        return ()
    return tuple(read_each(_state_change, (row for row in rows if isinstance(row, dict))))


def _state_change(row: Row) -> StateChange | None:
    time_utc = to_utc(row.get("timestamp"))
    if time_utc is None:
        return None
    return StateChange(time_utc, to_text(row.get("from")) or "")


def parse_gateways(rows: Iterable[Row]) -> list[Gateway]:
    """Gateways in the cloud's order."""
    return read_each(_gateway, rows)


def _gateway(row: Row) -> Gateway | None:
    gateway_id = to_id(row.get("id"))
    if gateway_id is None:
        return None
    return Gateway(
        id=gateway_id,
        premise_id=to_id(row.get("premise_id")),
        state=to_text(row.get("state")),
        model=to_text(row.get("model")),
        last_heard=to_text(row.get("last_heard")),
        firmware_version=to_text(row.get("firmware_version")),
        fields=row,
    )


def parse_histories(rows: Iterable[Row]) -> list[GatewayHistory]:
    """Gateways with their state changes, in the cloud's order."""
    ids = ((to_id(row.get("id")), row) for row in rows)
    return [GatewayHistory(i, _history(row.get("history"))) for i, row in ids if i is not None]


def parse_bulk(rows: Iterable[Row]) -> list[BulkReading]:
    """Newest register values in the cloud's order."""
    return read_each(_bulk_reading, rows)


def _bulk_reading(row: Row) -> BulkReading | None:
    meter_id = to_id(row.get("meter_id"))
    if meter_id is None:
        return None
    return BulkReading(
        meter_id=meter_id,
        meter_type=to_text(row.get("meter_type")) or "",
        value=to_number(row.get("value")),
        time_utc=to_utc(row.get("timestamp")),
    )


def parse_grid(rows: Iterable[Row]) -> list[GridReading]:
    """Grid readings in the cloud's order."""
    return read_each(_grid_reading, rows)


def _grid_reading(row: Row) -> GridReading | None:
    gateway_id = to_id(row.get("gateway_id"))
    time_utc = to_utc(row.get("hw_timestamp"))
    if gateway_id is None or time_utc is None:
        return None
    return GridReading(
        gateway_id=gateway_id,
        premise_id=to_id(row.get("premise_id")),
        time_utc=time_utc,
        voltage=to_number(row.get("voltage")),
        frequency=to_number(row.get("frequency")),
    )


def parse_app_page(state: object) -> Page:
    """The rows of an individual's premises. AnswerError where there is no list of them."""
    what = "the account"
    premises = take_rows(take_object(state, what), "premise_list", what)
    return Page(take_readable(premises, has_id, what), len(premises))


def parse_instant_page(body: object, what: str) -> Page:
    """The rows of a premise's meters now. AnswerError where there is no list of them."""
    results = take_rows(take_object(body, what), "results", what)
    return Page(take_readable(results, has_id, what), len(results))


def parse_instants(rows: Iterable[Row]) -> list[Instant]:
    """What each meter of a premise shows right now, in the cloud's order."""
    return read_each(_instant, rows)


def _instant(row: Row) -> Instant | None:
    meter_id = to_id(row.get("id"))
    if meter_id is None:
        return None
    return Instant(
        meter_id=meter_id,
        meter_type=to_text(row.get("type")),
        power=to_number(row.get("instant_power")),
        updated_at=to_text(row.get("updated_at")),
    )
