"""The health report: a sign a day, walked back from today's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from copper_cli.cloud import parse
from copper_cli.jobs.health import report_health, walk_back
from copper_cli.records import StateChange
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context

DENVER = ZoneInfo("America/Denver")
NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
DAYS = [date(2022, 3, 28) - timedelta(days=n) for n in range(7)]


def change(text: str, before: str) -> StateChange:
    return StateChange(datetime.fromisoformat(text), before)


def signs(state: str | None, *history: StateChange, zone: Any = DENVER) -> str:
    return "".join(walk_back(state, history, DAYS, zone))


@pytest.mark.parametrize(
    ("state", "sign"),
    [
        ("active", "."),
        ("connected", "."),
        ("degraded", "/"),
        ("disconnected", "X"),
        ("down", "X"),
        ("virgin", "?"),
        ("", "?"),
        (None, "?"),
    ],
)
def test_a_state_that_never_changed_shows_on_each_day(state: str | None, sign: str) -> None:
    """Without a change today's state is every day's; a state nobody has described is `?`."""
    assert signs(state) == sign * 7


def test_a_change_between_up_and_down_is_a_question_mark_and_goes_on_before() -> None:
    """Up today, down before 03-26 noon: the day of change is `?`, the days before are X."""
    assert signs("connected", change("2022-03-26T18:00Z", "disconnected")) == "..?XXXX"


def test_a_change_within_up_shows_the_carried_state() -> None:
    """`active` and `connected` are both up: a day on which one became the other is no `?`."""
    assert signs("connected", change("2022-03-26T18:00Z", "active")) == "......."
    assert signs("down", change("2022-03-26T18:00Z", "disconnected")) == "XXXXXXX"


def test_degraded_is_neither_up_nor_down() -> None:
    """A change from degraded is `?` whatever it became, also from degraded to degraded."""
    assert signs("connected", change("2022-03-27T18:00Z", "degraded")) == ".?/////"
    assert signs("down", change("2022-03-27T18:00Z", "degraded")) == "X?/////"
    assert signs("degraded", change("2022-03-27T18:00Z", "degraded")) == "/?/////"
    assert signs("degraded", change("2022-03-27T18:00Z", "connected")) == "/?....."


def test_of_several_changes_in_a_day_the_earliest_from_counts() -> None:
    """The day's earliest `from` is compared with its end, in whatever order the cloud lists."""
    history = (
        change("2022-03-27T20:00Z", "disconnected"),
        change("2022-03-27T15:00Z", "connected"),
        change("2022-03-27T17:00Z", "degraded"),
    )
    assert signs("connected", *history) == "......."
    assert signs("down", *history) == "X?....."


def test_what_a_change_went_to_is_never_read() -> None:
    """`to` may belie the state that is carried; the golden reports ignore it."""
    row = {"timestamp": "2022-03-28T17:00Z", "from": "connected", "to": "down"}
    (gateway,) = parse.parse_histories([{"id": "a", "history": [row]}])
    assert signs("connected", *gateway.changes) == "......."


def test_changes_fall_on_local_days_of_the_premise() -> None:
    """05:30 UTC is still the evening before in Denver, and that day in Kolkata."""
    late = change("2022-03-27T05:30Z", "down")
    assert signs("active", late) == "..?XXXX"
    assert signs("active", late, zone=ZoneInfo("Asia/Kolkata")) == ".?XXXXX"


def test_each_change_is_carried_to_the_day_before() -> None:
    """Down, then up, then down again over the week: every step is told."""
    history = (change("2022-03-27T12:00Z", "down"), change("2022-03-25T12:00Z", "active"))
    assert signs("active", *history) == ".?X?..."


def test_an_unknown_state_before_is_carried_as_unknown() -> None:
    """A `from` that nobody has described is `?` on all days before."""
    assert signs("connected", change("2022-03-27T12:00Z", "asleep")) == ".??????"


# The report


def premise(premise_id: str, created: str | None, **fields: Any) -> dict[str, Any]:
    return {"id": premise_id, "created_at": created, "timezone": "America/Denver", **fields}


@pytest.fixture
def report(make_context: Callable[..., Context]) -> Iterator[Callable[..., list[Any]]]:
    with Sandbox(SandboxConfig(now=NOW, premises=1)) as cloud:
        context = make_context(cloud)

        def rows(
            premises: list[Any],
            meters: list[Any],
            gateways: list[Any],
            histories: list[Any] | None = None,
        ) -> list[Any]:
            client = SimpleNamespace(
                fetch_premises=lambda: parse.parse_premises(premises, with_users=False),
                fetch_meters=lambda with_history: parse.parse_meters(meters),
                fetch_gateways=lambda: parse.parse_gateways(gateways),
                fetch_gateway_histories=lambda: {
                    one.id: one.changes for one in parse.parse_histories(histories or [])
                },
            )
            made = Context(
                client=client,  # type: ignore[arg-type]
                session=context.session,
                spans=context.spans,
                now=context.now,
                sleep=context.sleep,
                progress=context.progress,
                archive=context.archive,
            )
            table = report_health(made)
            assert [c.header for c in table.columns[5:]] == [f"{d:%m/%d}" for d in DAYS]
            assert table.title == "Premise Health"
            return [list(row) for row in table.rows]

        yield rows


@pytest.fixture(autouse=True)
def denver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "America/Denver")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_premises_oldest_first_meters_before_gateways(report: Callable[..., list[Any]]) -> None:
    """By created_at, each with its meters, then its gateways; those of no premise are left out."""
    rows = report(
        [
            premise("young", "2021-01-01T00:00:00.000Z", street_address="2 B St"),
            premise("old", "2020-01-01T00:00:00.000Z", street_address="1 A St"),
            premise("dateless", None),
        ],
        [
            {"id": "07:1", "type": "power", "state": "connected", "premise_id": "young"},
            {"id": "12:1", "type": "gas", "state": "disconnected", "premise_id": "old"},
            {"id": "07:9", "type": "power", "state": "connected", "premise_id": None},
        ],
        [
            {"id": "g-old", "state": "active", "premise_id": "old"},
            {"id": "g-new", "state": "down", "premise_id": "dateless"},
            {"id": "g-box", "state": "virgin", "premise_id": None},
        ],
        [{"id": "g-old", "history": [{"timestamp": "2022-03-27T18:00:00Z", "from": "down"}]}],
    )
    assert [row[:5] for row in rows] == [
        ["old", "1 A St", "gas meter", "12:1", "disconnected"],
        ["old", "1 A St", "gateway", "g-old", "active"],
        ["young", "2 B St", "power meter", "07:1", "connected"],
        ["dateless", None, "gateway", "g-new", "down"],
    ]
    assert rows[1][5:] == [".", "?", "X", "X", "X", "X", "X"]
    assert rows[3][5:] == ["X"] * 7


def test_days_before_the_premise_existed_are_blank(report: Callable[..., list[Any]]) -> None:
    """A premise made on 03-26 has signs from that local day on: 05:30 UTC is 03-25 in Denver."""
    meter = {"id": "07:1", "type": "power", "state": "connected", "premise_id": "p"}
    rows = report([premise("p", "2022-03-26T05:30:00.000Z")], [meter], [])
    assert rows[0][5:] == [".", ".", ".", ".", None, None, None]


def test_a_zone_that_nobody_knows_is_taken_as_utc(report: Callable[..., list[Any]]) -> None:
    """A premise without a usable zone still has its week."""
    meter = {
        "id": "07:1",
        "type": "power",
        "state": "connected",
        "premise_id": "p",
        "seven_day_history": [{"timestamp": "2022-03-27T00:30:00Z", "from": "down", "to": "x"}],
    }
    made = [premise("p", None, timezone=zone) for zone in ("../../etc/passwd",)]
    assert report(made, [meter], [])[0][5:] == [".", "?", "X", "X", "X", "X", "X"]
