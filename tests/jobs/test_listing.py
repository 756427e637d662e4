"""Lists: when they ask again, what they count, what they mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from copper_cli.cloud import parse
from copper_cli.jobs.listing import HYDRATE_TRIES, list_bulk, list_meter_status, list_premises
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context, Silent

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)


class Sleeper:
    """Notes how long it was told to sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


class Told(Silent):
    """Keeps what a person should see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def serve(make_context: Callable[..., Context]) -> Iterator[Callable[..., tuple[Sandbox, Context]]]:
    clouds = []

    def start(**settings: Any) -> tuple[Sandbox, Context]:
        cloud = Sandbox(SandboxConfig(**{"quota": None, "now": NOW, "premises": 12, **settings}))
        clouds.append(cloud.start())
        return cloud, make_context(cloud)

    yield start
    for cloud in clouds:
        cloud.stop()


@pytest.mark.parametrize(
    ("filled_after", "tries", "calls", "missing"),
    [(0, 10, 1, 0), (1, 10, 2, 0), (9, 10, 10, 0), (10, 10, 10, 6), (99, 10, 10, 6), (99, 1, 1, 6)],
)
def test_hydrating_is_bounded(
    serve: Callable[..., tuple[Sandbox, Context]],
    filled_after: int,
    tries: int,
    calls: int,
    missing: int,
) -> None:
    """Ten calls at most, two seconds apart, none too many; six of twelve premises lack emails."""
    cloud, context = serve(missing_emails=filled_after)
    sleep, told = Sleeper(), Told()
    context = replace(context, sleep=sleep, progress=told)
    table = list_premises(context, with_users=True, tries=tries)
    assert HYDRATE_TRIES == 10
    assert cloud.calls == calls
    assert sleep.slept == [2.0] * (calls - 1)
    assert len(told.lines) == calls - 1
    assert table.facts == {"listed": 12, "missing_emails": missing}


def test_premises_in_the_order_of_their_creation(
    serve: Callable[..., tuple[Sandbox, Context]],
) -> None:
    """Not the cloud's."""
    cloud, context = serve()
    made = sorted(cloud.fleet.premises(), key=lambda p: p.created_utc)
    assert [row[0] for row in list_premises(context).rows] == [p.id for p in made]


def test_incomplete_is_the_premise_without_meters(
    serve: Callable[..., tuple[Sandbox, Context]],
) -> None:
    """The sixth of the pattern of twelve; all twelve were looked at."""
    cloud, context = serve(missing_emails=0)
    table = list_premises(context, incomplete=True)
    assert [row[0] for row in table.rows] == [cloud.fleet.premise_at(5).id]
    assert table.facts["listed"] == 12


def test_bulk_has_what_was_heard_status_has_all(
    serve: Callable[..., tuple[Sandbox, Context]],
) -> None:
    """25 meters, of which three are silent for longer than a day; values by the closed form."""
    cloud, context = serve()
    bulk, status = list_bulk(context), list_meter_status(context, detailed=True)
    assert (bulk.facts["listed"], status.facts["listed"]) == (22, 25)
    keys = [c.key for c in status.columns]
    for row, meter in zip(status.rows, cloud.fleet.meters(), strict=True):
        cells = dict(zip(keys, row, strict=True))
        second = cloud.fleet.last_reading_s(meter, int(NOW.timestamp()))
        if second is None:
            assert cells["latest_value"] is cells["latest_timestamp"] is None
            continue
        at = datetime.fromtimestamp(second, UTC)
        assert cells["latest_timestamp"] == at
        assert cells["latest_value"] == pytest.approx(
            cloud.fleet.register_at(meter.id, at), abs=0.01
        )


def test_raw_registers_are_found_out(serve: Callable[..., tuple[Sandbox, Context]]) -> None:
    """With last_reading a hundredfold, bulk and peers tell the scale: the same values."""
    plain = list_meter_status(serve()[1]).rows
    raw = list_meter_status(serve(quirks=frozenset({"raw-last-reading"}))[1]).rows
    for one, other in zip(plain, raw, strict=True):
        assert (one[0], one[3]) == (other[0], other[3])


def test_tags_are_sorted_without_repeats(serve: Callable[..., tuple[Sandbox, Context]]) -> None:
    """And what is no text among them is left out."""
    rows = [{"id": "p", "tags": ["b", "a", "b", None, 3]}]

    class Client:
        def fetch_premises(self) -> list[Any]:
            return parse.parse_premises(rows, with_users=False)

    context = replace(serve()[1], client=Client())  # type: ignore[arg-type]
    assert list_premises(context).rows[0][8] == ["a", "b"]
