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

from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.jobs.context import Context, Silent
from copper_cli.jobs.fetch import fetch_series
from copper_cli.jobs.parallel import run_parallel
from copper_cli.plan import BUCKET_S, plan_series
from copper_cli.records import Series, Window
from copper_cli.sandbox import Sandbox, SandboxConfig

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
    """A client whose cloud grants so many seconds a call, and whose every bucket holds 1.0."""

    def __init__(self, longest_s: int) -> None:
        self.calls = 0
        self._longest_s = longest_s
        self._lock = threading.Lock()

    def fetch_series(self, meter_id: str, kind: str, window: Window, granularity: str) -> Series:
        with self._lock:
            self.calls += 1
        start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        if end_s - start_s > self._longest_s:
            raise BadRequestError("too long")
        times = range(start_s, end_s + 1, BUCKET_S[granularity])
        ones = [1.0] * len(times)
        return Series(times, ones, ones, ones, ones, len(times) - 1.0)


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(("granularity", "days", "fewest"), [("hour", 31, 12), ("day", 100, 4)])
def test_a_year_takes_hardly_more_calls_than_it_must(
    tmp_path: Path, clock: Clock, granularity: str, days: int, fewest: int, jobs: int
) -> None:
    """1,000 meters over a year: finding the cloud's limit out costs a few calls in all, not some
    for each meter, so that they stay within 2 % of the fewest; the next run knows the limit."""
    clock.set(AFTER)
    client = Thin(days * 86400)
    start, end = date(2021, 1, 1), date(2022, 1, 1)
    plan = plan_series(start, end, ZoneInfo("America/Phoenix"), granularity)
    rows = 8761 if granularity == "hour" else 366

    def run(meters: int) -> float:
        before = client.calls
        context = Context(
            client=cast(Any, client),
            session=cast(Any, None),
            spans=SpanBook(tmp_path / "spans.json", clock.now),
            now=clock.now,
            sleep=clock.sleep,
            progress=Silent(),
        )
        results = run_parallel(
            range(meters), lambda one: fetch_series(context, str(one), "usage", plan), jobs
        )
        for _, result in results:
            series = result()
            assert len(series.times_s) == rows
            assert series.sum_energy == rows - 1
        return (client.calls - before) / (fewest * meters)

    assert run(1000) <= 1.02
    assert run(10) <= 1.02
