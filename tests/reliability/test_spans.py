"""What the cloud grants a call: the rows are those of a cloud without limit, in few calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from held import Brought, fetch_series

from copper_cli.buckets import BUCKET_S
from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.plan import plan_series
from copper_cli.records import Series, Window
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context, Silent
from copper_cli.work.fetch_rows import count_calls
from copper_cli.work.parallel import run_parallel

from .runs import Clock, Machine, in_process

DENVER = ZoneInfo("America/Denver")
AFTER = datetime(2022, 1, 10, tzinfo=UTC)
WINDOWS = {
    # over the end of summer time, but for minutes over its beginning
    "hour": (date(2020, 10, 1), date(2021, 1, 20)),
    "fifteenminute": (date(2020, 10, 20), date(2020, 11, 15)),
    "minute": (date(2021, 3, 12), date(2021, 3, 16)),
}
SPANS = {
    "hour": timedelta(days=31),
    "fifteenminute": timedelta(days=7),
    "minute": timedelta(days=1),
}
ODD_SPANS = {
    "hour": timedelta(hours=101),
    "fifteenminute": timedelta(hours=30),
    "minute": timedelta(minutes=777),
}


def limits(granularity: str) -> dict[str, dict[str, Any]]:
    """Settings of clouds that grant less than is asked."""
    cap = {"hour": 744, "fifteenminute": 500, "minute": 1000}[granularity]
    return {
        "refused": {"max_span": {granularity: SPANS[granularity]}},
        "refused at an odd length": {"max_span": {granularity: ODD_SPANS[granularity]}},
        "cut": {"cap_rows": cap},
        "cut with its sum": {"cap_rows": cap, "quirks": frozenset({"capped-sum"})},
        "cut to very few": {"cap_rows": cap // 9 + 2},
        "refused and cut": {"cap_rows": cap // 3, "max_span": {granularity: SPANS[granularity]}},
        "aligned, refused": {
            "max_span": {granularity: SPANS[granularity]},
            "quirks": frozenset({"aligned-buckets"}),
        },
    }


def fetch_all(machine: Machine, granularity: str, kind: Any = "usage") -> dict[str, Series]:
    """The series of each meter over the granularity's window."""
    machine.clock.set(AFTER)
    context = machine.connect(use_cache=False)
    start, end = WINDOWS[granularity]
    return {
        meter.id: fetch_series(
            context, meter.id, kind, plan_series(start, end, DENVER, granularity)
        )
        for meter in list(machine.cloud.fleet.meters())[:3]
    }


@pytest.mark.parametrize("limit", limits("hour"))
@pytest.mark.parametrize("granularity", WINDOWS)
def test_rows_and_sum_equal_those_of_a_cloud_without_limit(
    machine: Callable[[Sandbox], Machine],
    monkeypatch: pytest.MonkeyPatch,
    granularity: str,
    limit: str,
) -> None:
    """Refused with 400 or silently cut: every row is the same, and the sum is the register's
    difference."""
    settings = limits(granularity)[limit]
    config = SandboxConfig(premises=2, quota=None, now=AFTER, quirks=settings.get("quirks", set()))
    free = Sandbox(replace(config, quirks=config.quirks - {"capped-sum"}))
    in_process(monkeypatch, free)
    expected = fetch_all(machine(free), granularity)
    cloud = Sandbox(replace(config, **settings))
    in_process(monkeypatch, cloud)
    found = fetch_all(machine(cloud), granularity)
    start, end = (datetime(d.year, d.month, d.day, tzinfo=DENVER) for d in WINDOWS[granularity])
    for meter_id, series in expected.items():
        ours = found[meter_id]
        for column in ("times_s", "energy", "power", "value", "actual"):
            assert list(getattr(ours, column)) == list(getattr(series, column))
        used = cloud.fleet.register_at(meter_id, end) - cloud.fleet.register_at(meter_id, start)
        # A sum told of rows alone lacks what each row's four places leave out.
        places = 1e-4 * len(series.times_s) if "capped-sum" in config.quirks else 1e-6
        assert ours.sum_energy == pytest.approx(used, abs=places)


class Thin:
    """A client whose cloud grants so many buckets a call, or brings so many rows, and whose every
    bucket holds 1.0; some of its meters are refused whatever is asked."""

    def __init__(
        self, *, refused: int = 1 << 40, rows: int = 1 << 40, sick: frozenset[str] = frozenset()
    ) -> None:
        self.calls = 0
        self._refused, self._rows, self._sick = refused, rows, sick
        self._lock = threading.Lock()

    def fetch_series(
        self, meter_id: str, kind: str, window: Window, granularity: str, *, anew: bool = False
    ) -> Series:
        with self._lock:
            self.calls += 1
        step_s = BUCKET_S[granularity]
        start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        if meter_id in self._sick or end_s - start_s > self._refused * step_s:
            raise BadRequestError("too long")
        times = range(start_s, end_s + 1, step_s)[: self._rows]
        ones = [1.0] * len(times)
        return Series(times, ones, ones, ones, ones, len(times) - 1.0)

    def is_series_cached(self, *question: Any) -> bool:
        return False


class Fleet:
    """Meters of one zone that are asked for one range; their runs share what was learned."""

    def __init__(
        self, client: Thin, folder: Path, clock: Clock, granularity: str, days: tuple[date, date]
    ) -> None:
        self._client, self._folder, self._clock = client, folder, clock
        self._archive = Brought()
        self._plan = plan_series(*days, ZoneInfo("America/Phoenix"), granularity)
        self._rows = (self._plan.end_s - self._plan.start_s) // BUCKET_S[granularity] + 1
        clock.set(AFTER)

    def context(self) -> Context:
        return Context(
            client=cast(Any, self._client),
            session=cast(Any, None),
            spans=SpanBook(self._folder / "spans.json", self._clock.now),
            now=self._clock.now,
            sleep=self._clock.sleep,
            progress=Silent(),
            archive=cast(Any, self._archive),
        )

    def run(self, meters: int, jobs: int) -> int:
        """The calls of a run that brings every row of all that are not sick."""
        before, context = self._client.calls, self.context()
        results = run_parallel(
            range(meters), lambda one: fetch_series(context, str(one), "usage", self._plan), jobs
        )
        for one, result in results:
            try:
                series = result()
            except BadRequestError:
                assert str(one) in self._client._sick
                continue
            assert len(series.times_s) == self._rows
            assert series.sum_energy == self._rows - 1
        return self._client.calls - before

    def planned(self) -> int:
        """The calls that a dry run tells for a meter."""
        return count_calls(self.context(), "one", "usage", self._plan).calls


YEAR = (date(2021, 1, 1), date(2022, 1, 1))
DAYS = [3, 7, 30, 31, 60, 75, 90, 121, 122, 182, 183, 364]
"""Limits of a year of days; a call may bring 121 days, a third of the year 122."""
HOURS = [24, 101, 499, 743, 744, 999, 2879, 4379]
"""Limits of a year of hours; 31 days are 744."""


@pytest.mark.parametrize("jobs", [1, 8])
@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize(
    ("granularity", "longest", "meters"),
    [
        ("day", 1, 100),
        *(("day", days, 1000) for days in DAYS),
        *(("hour", hours, 100) for hours in HOURS),
    ],
)
def test_a_year_takes_hardly_more_calls_than_it_must(
    tmp_path: Path,
    clock: Clock,
    granularity: str,
    longest: int,
    meters: int,
    refuses: bool,
    jobs: int,
) -> None:
    """Whatever the limit is, and whether a call beyond it is refused or brings fewer rows: a
    thousand meters, or a hundred, stay within 2 % of the fewest calls, finding out included. A
    later run spends the fewest, and so says its plan."""
    client = Thin(refused=longest) if refuses else Thin(rows=longest + 1)
    fleet = Fleet(client, tmp_path, clock, granularity, YEAR)
    fewest = -(-(365 if granularity == "day" else 8760) // longest)
    assert fleet.run(meters, jobs) <= 1.02 * fewest * meters + (12 if meters < 1000 else 0)
    assert fleet.planned() == fewest
    assert fleet.run(10, jobs) <= 1.02 * fewest * 10


@pytest.mark.parametrize("jobs", [1, 8])
def test_two_days_of_minutes_are_not_asked_by_days(tmp_path: Path, clock: Clock, jobs: int) -> None:
    """2,880 rows reach over a minute less than two days: a week takes 4 calls, not 7."""
    days = (date(2021, 3, 1), date(2021, 3, 8))
    fleet = Fleet(Thin(refused=2879), tmp_path, clock, "minute", days)
    assert fleet.run(100, jobs) <= 4 * 100 + 20
    assert fleet.planned() == 4


@pytest.mark.parametrize("jobs", [1, 8])
def test_meters_that_are_always_refused_cost_a_few_calls_each(
    tmp_path: Path, clock: Clock, jobs: int
) -> None:
    """The first and nine more of a hundred, a call may bring 31 days: the others take their 12,
    and the sick three at most once the limit is found, whoever asks first."""
    sick = frozenset(str(n) for n in range(0, 100, 10))
    fleet = Fleet(Thin(refused=744, sick=sick), tmp_path, clock, "hour", YEAR)
    assert fleet.run(100, jobs) <= 90 * 12 + 10 * 3 + 25
    assert fleet.planned() == 12
    assert fleet.run(100, jobs) <= 90 * 12 + 10 * 3
