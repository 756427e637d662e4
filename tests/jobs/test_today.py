"""Today's date where the meters are: by their zones, whatever the machine's is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from held import new_archive

from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import CloudError, NotFoundError
from copper_cli.work.context import Context, Silent
from copper_cli.work.today import find_today

NIGHT = datetime(2022, 3, 29, 5, 0, tzinfo=UTC)
"""23:00 of the 28th in Denver, 01:00 of the 29th in New York, 19:00 of the 28th in Honolulu."""
DENVER, YORK, HONOLULU = "America/Denver", "America/New_York", "Pacific/Honolulu"


class Cloud:
    """Premises p1, p2 … in the zones given, each with a meter and a gateway; counts its calls."""

    def __init__(self, *zones: str | None, locations: Mapping[str, Any] | None = None) -> None:
        self.places = {f"p{n}": zone for n, zone in enumerate(zones, 1)}
        self.locations = locations or {}
        self.asked: list[str] = []

    def fetch_premises(self) -> list[Any]:
        self.asked.append("premise")
        return [SimpleNamespace(id=p, timezone=zone) for p, zone in self.places.items()]

    def fetch_meters(self, *, with_history: bool) -> list[Any]:
        self.asked.append("meter")
        return [SimpleNamespace(id=f"m{p[1:]}", premise_id=p) for p in self.places]

    def fetch_gateways(self) -> list[Any]:
        self.asked.append("gateway")
        return [SimpleNamespace(id=f"g{p[1:]}", premise_id=p) for p in self.places]

    def fetch_timezone(self, meter_id: str) -> str | None:
        self.asked.append(f"location of {meter_id}")
        found = self.locations.get(meter_id)
        if isinstance(found, Exception):
            raise found
        return found


def on(cloud: Cloud) -> Context:
    book = SpanBook(None, NIGHT.timestamp)
    return Context(cloud, None, book, NIGHT.timestamp, lambda s: None, Silent(), new_archive())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zones", "whose", "day", "asked"),
    [
        ([DENVER, DENVER], {}, 28, ["premise"]),
        ([YORK], {}, 29, ["premise"]),
        ([DENVER, HONOLULU], {"meter_ids": ("m2",)}, 28, ["premise"]),  # the same date in both
        ([DENVER, YORK], {}, 28, ["premise"]),  # the earliest: yesterday is over for all
        ([DENVER, YORK], {"meter_ids": ("m2",)}, 29, ["premise", "meter"]),
        ([DENVER, YORK], {"meter_ids": ("m1", "m2")}, 28, ["premise", "meter"]),
        ([DENVER, YORK], {"meter_ids": ("none",)}, 28, ["premise", "meter"]),  # refused later
        ([DENVER, YORK], {"premise_id": "p2"}, 29, ["premise"]),
        ([DENVER, YORK], {"gateway_id": "g2"}, 29, ["premise", "gateway"]),
        ([YORK, None, "Mars/Olympus"], {}, 29, ["premise"]),
    ],
)
def test_the_date_where_it_is_asked_for(
    zones: list[str | None], whose: dict[str, Any], day: int, asked: list[str]
) -> None:
    """By the premises' zones; what stands at them is asked for only where their dates differ."""
    cloud = Cloud(*zones)
    assert find_today(on(cloud), **whose) == date(2022, 3, day)
    assert cloud.asked == asked


def test_a_zone_that_is_forced_needs_no_call() -> None:
    """--timezone: its date, whatever the meters' is."""
    cloud = Cloud(DENVER)
    assert find_today(on(cloud), ZoneInfo("Asia/Tokyo")) == date(2022, 3, 29)
    assert cloud.asked == []


def test_mute_premises_are_told_by_a_meters_location() -> None:
    """One that cannot be had does not matter; after three it is the machine's date."""
    cloud = Cloud(
        None,
        None,
        None,
        locations={"m1": CloudError("500"), "m2": NotFoundError("404"), "m3": YORK},
    )
    assert find_today(on(cloud)) == date(2022, 3, 29)
    cloud = Cloud(None, None, locations={"m2": YORK})
    assert find_today(on(cloud), meter_ids=("m2",)) == date(2022, 3, 29)
    assert cloud.asked == ["premise", "meter", "location of m2"]
    for cloud in (Cloud(), Cloud(*[None] * 9)):
        assert find_today(on(cloud)) == NIGHT.astimezone().date()
        assert len(cloud.asked) <= 2 + 3
