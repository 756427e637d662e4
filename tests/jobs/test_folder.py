"""What the other jobs share: choosing ids, zones, postal codes, limits in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from copper_cli.cloud import parse
from copper_cli.config import Limit
from copper_cli.errors import UsageError, ZoneError
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context, Silent
from copper_cli.work.fleet import (
    Zones,
    choose,
    fetch_meters_and_zones,
    padded_postal_code,
    read_zone,
    sort_premises,
)
from copper_cli.work.outcome import limit_text


def meters(*ids: str) -> list[Any]:
    return parse.parse_meters({"id": i, "type": "gas", "premise_id": "p"} for i in ids)


def test_choose_keeps_the_clouds_order() -> None:
    """All when none is named; each once however often it is named."""
    known = meters("a", "b", "c")
    assert choose(known, [], "meter") == known
    assert [m.id for m in choose(known, ["c", "a", "c"], "meter")] == ["a", "c"]


def test_choose_names_the_closest() -> None:
    """With their type; a hostile id does not end it."""
    with pytest.raises(UsageError, match=r"no meter 12:1 in .* Closest: 12:11 \(gas\)\."):
        choose(meters("12:11", "IQ:999"), ["12:1"], "meter")
    with pytest.raises(UsageError, match="It has 0 meters"):
        choose([], ["\x1b"], "meter")
    premises = parse.parse_premises([{"id": "p1"}], with_users=False)
    with pytest.raises(UsageError, match=r"Closest: p1\.$"):
        choose(premises, ["p2"], "premise")


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("America/Denver", ZoneInfo("America/Denver")),
        (None, None),
        ("", None),
        ("Mars/Base", None),
        ("../../etc/passwd", None),
        ("America", None),
        ("\x00", None),
        ("x" * 5000, None),
    ],
)
def test_read_zone(name: str | None, zone: ZoneInfo | None) -> None:
    """What the cloud says may be anything; what is no zone is None."""
    assert read_zone(name) == zone


class Client:
    """Knows a premise without a zone, and a location."""

    def __init__(self, location: str | None) -> None:
        self.location = location
        self.lists: list[str] = []

    def fetch_meters(self, *, with_history: bool) -> list[Any]:
        assert not with_history
        self.lists.append("meters")
        return meters("12:1")

    def fetch_premises(self) -> list[Any]:
        self.lists.append("premises")
        return parse.parse_premises([{"id": "p", "timezone": None}], with_users=False)

    def fetch_timezone(self, meter_id: str) -> str | None:
        return self.location


@pytest.fixture
def context(make_context: Callable[..., Context]) -> Iterator[Context]:
    with Sandbox(SandboxConfig(premises=1, now=datetime(2022, 3, 28, tzinfo=UTC))) as cloud:
        yield make_context(cloud)


def test_zones(context: Context) -> None:
    """Forced, else the premise's, else the location's, else an error. A forced zone needs no
    premises."""
    client = Client("Asia/Kolkata")
    context = replace(context, client=client)  # type: ignore[arg-type]
    (meter,), zones = fetch_meters_and_zones(context, ZoneInfo("UTC"))
    assert zones.find([meter]) == [(meter, ZoneInfo("UTC"))]
    assert client.lists == ["meters"]
    (meter,), zones = fetch_meters_and_zones(context, None)
    assert zones.find([meter]) == [(meter, ZoneInfo("Asia/Kolkata"))]
    assert client.lists == ["meters", "meters", "premises"]
    known = parse.parse_premises([{"id": "p", "timezone": "Asia/Tokyo"}], with_users=False)
    assert Zones(context, premises=known).find([meter]) == [(meter, ZoneInfo("Asia/Tokyo"))]
    context = replace(context, client=Client(None))  # type: ignore[arg-type]
    ((_, error),) = Zones(context).find([meter])
    assert isinstance(error, ZoneError)
    assert str(error) == (
        "the cloud knows no time zone of meter 12:1; give --timezone, which then holds for every "
        "meter, or leave this one out by --meter-id of the others."
    )


def test_premises_without_a_date_come_last() -> None:
    """By the cloud's own text, oldest first."""
    rows = [{"id": "a"}, {"id": "b", "created_at": "2021"}, {"id": "c", "created_at": "2020"}]
    assert [p.id for p in sort_premises(parse.parse_premises(rows, with_users=False))] == [
        "c",
        "b",
        "a",
    ]


@pytest.mark.parametrize(
    ("code", "padded"), [("2134", "02134"), (2134, "02134"), ("80125-1", "80125-1"), (None, None)]
)
def test_postal_codes(code: object, padded: str | None) -> None:
    """Five digits wide; longer ones as they are."""
    (premise,) = parse.parse_premises([{"id": "p", "postal_code": code}], with_users=False)
    assert padded_postal_code(premise) == padded
    assert padded_postal_code(None) is None


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Limit(100, 3600), "100/h"),
        (Limit(1000, 86400), "1000/d"),
        (Limit(20, 10), "20/10s"),
        (Limit(500, 7200), "500/2h"),
        (Limit(5, 90), "5/90s"),
        (Limit(5, 60), "5/m"),
    ],
)
def test_limits_in_words(limit: Limit, text: str) -> None:
    """As --quota reads them."""
    assert limit_text(limit) == text


def test_nobody_watches() -> None:
    """Silent takes all that a watcher is told."""
    watcher = Silent()
    watcher.start("meters", 3)
    watcher.advance()
    watcher.say("x")
