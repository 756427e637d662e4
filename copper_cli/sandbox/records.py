"""Premises, meters and gateways in the cloud's own words, ready for JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from copper_cli.sandbox.fleet import DAY_S, HOUR_S, Fleet, Gateway, Meter, Premise
from copper_cli.sandbox.identifiers import mix
from copper_cli.sandbox.instants import format_instant

HEARD_RECENTLY_S = DAY_S
"""`bulk` has the meters heard within this time."""

GRID_STEP_S = 900

_PLACES = {
    "America/Denver": ("Fort Collins", "Larimer", "CO", "805"),
    "America/Chicago": ("Springfield", "Sangamon", "IL", "627"),
    "America/New_York": ("Ithaca", "Tompkins", "NY", "148"),
    "America/Phoenix": ("Tempe", "Maricopa", "AZ", "852"),
}
_ELSEWHERE = ("Springfield", "Elsewhere", "ZZ", "000")
_STREETS = ("Maple Street", "Oak Avenue", "Ridge Road", "Laurel Lane", "Main Street")


def stamp(instant: datetime) -> str:
    """An aware instant as the cloud writes it."""
    return format_instant(int(instant.timestamp()))


def describe_premise(fleet: Fleet, premise: Premise) -> dict[str, Any]:
    """An object of the list `premise`, without users."""
    city, county, state, postal = _PLACES.get(premise.zone, _ELSEWHERE)
    number = mix(fleet.seed, 20, premise.index)
    return {
        "id": premise.id,
        "created_at": stamp(premise.created_utc),
        "name": f"Premise {premise.index + 1}",
        "street_address": f"{100 + number % 9000} {_STREETS[number % len(_STREETS)]}",
        "suite_apartment_unit": "Unit 2" if premise.index % 5 == 3 else None,
        "city_town": city,
        "postal_code": f"{postal}{number % 100:02}",
        "county_district": county,
        "state_region": state,
        "tags": ["sandbox", "pilot"] if premise.index % 3 == 0 else [],
        "timezone": premise.zone,
        "occupancy": 1 + number % 5,
        "external_ref": None,
    }


def list_users(premise: Premise, missing: bool) -> list[dict[str, str]]:
    """`user_list[]` of a premise; while `missing`, every other premise's users lack `email`."""
    count = 1 + premise.index % 2
    if missing and premise.index % 2 == 0:
        return [{} for _ in range(count)]
    return [{"email": f"user{n}.premise{premise.index + 1}@example.com"} for n in range(count)]


def describe_meter(fleet: Fleet, meter: Meter, now_s: int, raw: bool) -> dict[str, Any]:
    """An object of the list `meter`, without history; `raw` leaves the last reading raw."""
    return {
        "id": meter.id,
        "type": meter.type,
        "state": meter.state,
        "premise_id": meter.premise_id,
        "created_at": stamp(meter.created_utc),
        "premise_created_at": stamp(meter.premise_created_utc),
        "uom": meter.uom,
        "last_reading": _describe_last(fleet, meter, now_s, raw),
        "gateway_list": [meter.gateway_id],
        "display_name": None,
    }


def _describe_last(fleet: Fleet, meter: Meter, now_s: int, raw: bool) -> dict[str, Any] | None:
    second = fleet.last_reading_s(meter, now_s)
    if second is None:
        return None
    measures = fleet.register_of(meter).measure([second, second])
    actual, value = measures.actual[0], measures.value[0]
    return {
        "value": float(actual) if raw else value,
        "hw_timestamp": format_instant(second),
        "rssi": -60 - mix(fleet.seed, 21, meter.index) % 40,
    }


def tell_meter_history(fleet: Fleet, meter: Meter, now_s: int) -> list[dict[str, str]] | None:
    """`seven_day_history[]` of a meter, oldest first: it ends in the meter's state.

    None where the meter was not heard for long; empty where nothing changed in seven days.
    """
    if meter.silence_s is None:
        return None
    if meter.state != "connected":
        return [_tell(now_s - meter.silence_s, "connected", meter.state)]
    if meter.index % 4 == 0:
        return [
            _tell(now_s - 4 * DAY_S, "connected", "degraded"),
            _tell(now_s - 2 * DAY_S, "degraded", "connected"),
        ]
    return []


def describe_gateway(fleet: Fleet, gateway: Gateway, now_s: int) -> dict[str, Any]:
    """An object of the list `gateway`, without history; a virgin one is mostly null."""
    number = mix(fleet.seed, 22, gateway.index)
    heard = None if gateway.silence_s is None else format_instant(_hear(gateway.silence_s, now_s))
    virgin = heard is None
    return {
        "id": gateway.id,
        "premise_id": gateway.premise_id,
        "premise": None if virgin else {"id": gateway.premise_id, "timezone": gateway.zone},
        "state": gateway.state,
        "model": "CG-2" if number % 3 else "CG-1",
        "last_heard": heard,
        "firmware_version": None if virgin else f"2.{number % 7}.{number % 11}",
        "test_results": None
        if virgin
        else {"passed": True, "tested_at": stamp(gateway.created_utc)},
        "created_at": stamp(gateway.created_utc),
        "ip_address": None if virgin else f"10.0.{number % 256}.{number // 256 % 256}",
        "wifi_rssi": None if virgin else -40 - number % 40,
        "uptime_seconds": None if virgin else number % 10_000_000,
        "timezone": gateway.zone,
    }


def tell_gateway_history(gateway: Gateway, now_s: int) -> list[dict[str, str]]:
    """`history[]` of a gateway, oldest first: it ends in the gateway's state, unless empty."""
    if gateway.silence_s is None:
        return []
    changes = [_tell(int(gateway.created_utc.timestamp()), "virgin", "active")]
    if gateway.state == "down":
        changes.append(_tell(now_s - gateway.silence_s, "active", "down"))
    return changes


def describe_grid(fleet: Fleet, gateway: Gateway, second: int) -> dict[str, Any]:
    """A grid reading: `gateway_id hw_timestamp voltage frequency`."""
    voltage, frequency = fleet.grid_at(gateway.id, second)
    return {
        "gateway_id": gateway.id,
        "hw_timestamp": format_instant(second),
        "voltage": voltage,
        "frequency": frequency,
    }


def last_grid_s(gateway: Gateway, now_s: int) -> int | None:
    """When a gateway last read the grid: a quarter of an hour; None: never."""
    if gateway.silence_s is None:
        return None
    second = (now_s - gateway.silence_s) // GRID_STEP_S * GRID_STEP_S
    return second if second >= gateway.created_utc.timestamp() else None


def _hear(silence_s: int, now_s: int) -> int:
    """When a gateway was last heard: whole minutes, so that an answer can be cached at all."""
    return (now_s - silence_s) // 60 * 60


def _tell(epoch_s: int, before: str, after: str) -> dict[str, str]:
    """A change of state; whole hours, so that an answer can be cached at all."""
    at = format_instant(epoch_s // HOUR_S * HOUR_S)
    return {"timestamp": at, "from": before, "to": after}
