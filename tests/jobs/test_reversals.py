"""Water meters that may be swapped: windows, thresholds, premises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from copper_cli.cloud import parse
from copper_cli.errors import CloudError, QuotaSpentError
from copper_cli.jobs.reversals import check_water_reversals
from copper_cli.records import Series, Window
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def denver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/Denver")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Water:
    """A cloud of water meters: id → (type, premise, use in the window)."""

    def __init__(self, meters: dict[str, tuple[str, str | None, float | None]]) -> None:
        self.meters = meters
        self.premises = {
            "p1": ("7 Main St", "America/Denver"),
            "p2": ("7 Main St", "America/New_York"),
        }
        self.silent: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.windows: dict[str, Window] = {}

    def fetch_bulk(self) -> list[Any]:
        heard = [i for i in self.meters if i not in self.silent]
        return parse.parse_bulk(
            {"meter_id": i, "meter_type": self.meters[i][0], "value": 1.0} for i in heard
        )

    def fetch_meters(self, with_history: bool) -> list[Any]:
        return parse.parse_meters(
            {"id": i, "type": kind, "premise_id": premise}
            for i, (kind, premise, _) in self.meters.items()
        )

    def fetch_premises(self) -> list[Any]:
        rows = [
            {"id": i, "street_address": street, "timezone": zone}
            for i, (street, zone) in self.premises.items()
        ]
        return parse.parse_premises(rows, with_users=False)

    def fetch_timezone(self, meter_id: str) -> str:
        return "UTC"

    def fetch_series(
        self, meter_id: str, kind: str, window: Window, granularity: str, *, anew: bool = False
    ) -> Series:
        if meter_id in self.errors:
            raise self.errors[meter_id]
        self.windows[meter_id] = window
        start, end = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        used = self.meters[meter_id][2]
        return Series([start, end], [0.0, used], [None] * 2, [None] * 2, [None] * 2, used)


@pytest.fixture
def check(make_context: Callable[..., Context]) -> Iterator[Callable[..., Any]]:
    with Sandbox(SandboxConfig(now=NOW, premises=1)) as cloud:

        def run(water: Water, jobs: int = 1, **rest: Any) -> Any:
            return check_water_reversals(
                replace(make_context(cloud, apart=True), client=water, jobs=jobs),
                **rest,  # type: ignore[arg-type]
            )

        yield run


def pair(indoor: float | None, outdoor: float | None) -> Water:
    return Water({"in": ("water_indoor", "p1", indoor), "out": ("water_outdoor", "p1", outdoor)})


@pytest.mark.parametrize(
    ("indoor", "outdoor", "summer", "winter"),
    [
        (1000.0, 1.0, False, False),
        (1000.1, 1.0, True, False),
        (1000.1, 100.02, False, False),
        (5000.0, 499.9, True, False),
        (5000.0, 500.0, False, False),
        (10.0, 1000.0, False, False),
        (10.0, 1000.1, False, True),
        (0.0, 10.0, True, True),
        (10.0, 0.0, True, True),
        (None, 10.0, True, True),
        (20000.0, 1500.0, True, True),
    ],
)
def test_thresholds(
    check: Callable[..., Any],
    indoor: float | None,
    outdoor: float | None,
    summer: bool,
    winter: bool,
) -> None:
    """summer: indoor > 1000 and > 10 × outdoor; winter: outdoor > 1000; a zero side always."""
    for method, listed in (("summer", summer), ("winter", winter)):
        rows = check(pair(indoor, outdoor), method=method).rows
        assert [row[0] for row in rows] == (["p1"] if listed else []), method


def test_a_missing_side_is_listed_with_a_blank(check: Callable[..., Any]) -> None:
    """As the golden report: `107 Main St,5007.285981117195,`."""
    water = pair(5007.285981117195, 7.0)
    water.silent = {"out"}
    table = check(water)
    assert table.title == "Suspect water meter reversals"
    assert [c.header for c in table.columns if not c.hidden] == [
        "Address",
        "Indoor Usage",
        "Outdoor Usage",
    ]
    assert [tuple(row) for row in table.rows] == [("p1", "7 Main St", 5007.285981117195, None)]


def test_a_sum_is_never_made_of_a_part(check: Callable[..., Any]) -> None:
    """Where the cloud gives no sum, it is that of the rows; with a row unknown there is none, and
    the premise is left out and named."""
    water = pair(5000.0, 7.0)
    whole = water.fetch_series

    def answer(energy: list[float | None]) -> None:
        def fetch(*question: Any, **how: Any) -> Series:
            found = whole(*question, **how)
            start, end = found.times_s
            nothing = [None] * 3
            return Series([start, end - 86400, end], energy, nothing, nothing, nothing, None)

        water.fetch_series = fetch  # type: ignore[method-assign]

    answer([9.0, 1000.0, 2000.0])
    assert [tuple(row) for row in check(water, method="winter").rows] == [
        ("p1", "7 Main St", 3000.0, 3000.0)
    ]
    answer([9.0, 1000.0, None])
    table = check(water)
    assert not table.rows
    assert {one["id"] for one in table.facts["failed"]} == {"in", "out"}


def test_two_homes_at_one_street_address_stay_two(check: Callable[..., Any]) -> None:
    """The reference merged them: an indoor meter of one and an outdoor of the other."""
    water = Water({"in": ("water_indoor", "p1", 500.0), "out": ("water_outdoor", "p2", 400.0)})
    assert [tuple(row) for row in check(water).rows] == [
        ("p1", "7 Main St", 500.0, None),
        ("p2", "7 Main St", None, 400.0),
    ]


def test_several_meters_of_a_side_add_up(check: Callable[..., Any]) -> None:
    """600 and 500 indoor are 1100, which is much beside 1."""
    water = pair(600.0, 1.0)
    water.meters["in2"] = ("water_indoor", "p1", 500.0)
    assert [tuple(row[2:]) for row in check(water).rows] == [(1100.0, 1.0)]


def test_other_meters_are_not_asked(check: Callable[..., Any]) -> None:
    """Neither plain water nor gas, nor one that the meter list does not know."""
    water = pair(10.0, 10.0)
    water.meters |= {"w": ("water", "p1", 1.0), "g": ("gas", "p1", 1.0)}
    check(water)
    assert set(water.windows) == {"in", "out"}


def test_the_window_is_30_days_of_24_hours(check: Callable[..., Any]) -> None:
    """From the meter's local midnight 30 days before the machine's today, 2022-03-28.

    Denver's and New York's clocks went forward within: the windows end at 01:00 local.
    """
    water = Water({"in": ("water_indoor", "p1", 1.0), "out": ("water_outdoor", "p2", 1.0)})
    check(water)
    shown = {i: (str(w.start_utc), str(w.end_utc)) for i, w in water.windows.items()}
    assert shown == {
        "in": ("2022-02-26 07:00:00+00:00", "2022-03-28 07:00:00+00:00"),
        "out": ("2022-02-26 05:00:00+00:00", "2022-03-28 05:00:00+00:00"),
    }


def test_check_limit(check: Callable[..., Any]) -> None:
    """The first N water meters that were heard; 0: none."""
    water = pair(10.0, 10.0)
    water.meters = {"g": ("gas", "p1", 1.0), **water.meters}
    check(water, check_limit=1)
    assert set(water.windows) == {"in"}
    water.windows.clear()
    assert check(water, check_limit=0).rows == []
    assert water.windows == {}


def test_a_premise_that_is_not_listed_has_no_address(check: Callable[..., Any]) -> None:
    """The row stands, with its ids for JSON."""
    water = Water({"in": ("water_indoor", "gone", 5.0)})
    assert [tuple(row) for row in check(water).rows] == [("gone", None, 5.0, None)]


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_premise_of_which_a_meter_failed_is_left_out(
    check: Callable[..., Any], jobs: int
) -> None:
    """Half a premise would look suspect; the meter is named."""
    water = pair(10.0, 10.0)
    water.meters["in2"] = ("water_indoor", "p2", 5.0)
    water.errors["out"] = CloudError("no answer")
    table = check(water, jobs)
    assert [row[0] for row in table.rows] == ["p2"]
    assert table.facts["failed"] == [{"id": "out", "reason": "no answer"}]


def test_a_spent_quota_ends_it(check: Callable[..., Any]) -> None:
    """Rather than a list with holes."""
    water = pair(10.0, 10.0)
    water.errors["out"] = QuotaSpentError("spent", resume_at_utc=NOW)
    with pytest.raises(QuotaSpentError):
        check(water)
