"""What the cloud grants a call: the rows are those of a cloud without limit, in few calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from copper_cli.cloud.spans import SpanBook
from copper_cli.jobs.fetch import fetch_series
from copper_cli.jobs.parallel import run_parallel
from copper_cli.plan import plan_series
from copper_cli.records import Series
from copper_cli.sandbox import Sandbox, SandboxConfig

from .runs import NOW, Clock, Machine, asked, in_process

DENVER = ZoneInfo("America/Denver")
AFTER = datetime(2022, 1, 10, tzinfo=UTC)
WINDOWS = {
    # over the end of summer time, but for minutes over its beginning
    "hour": (date(2020, 10, 1), date(2021, 1, 20)),
    "fifteenminute": (date(2020, 10, 20), date(2020, 11, 15)),
    "minute": (date(2021, 3, 12), date(2021, 3, 16)),
}
SPANS = {"hour": timedelta(days=31), "fifteenminute": timedelta(days=7), "minute": timedelta(days=1)}
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


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_year_of_hours_takes_few_more_calls_than_it_must(
    machine: Callable[[Sandbox], Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    jobs: int,
) -> None:
    """1,000 meters over a year where a call brings at most 31 days: twelve calls a meter are the
    fewest, and finding the limit out costs a few calls in all, not a few a meter."""
    config = SandboxConfig(
        premises=480, quota=None, now=AFTER, max_age=0, max_span={"hour": timedelta(days=31)}
    )
    cloud = Sandbox(config)
    in_process(monkeypatch, cloud)
    user = machine(cloud)
    user.clock.set(AFTER)
    context = user.connect(jobs, spans=SpanBook(tmp_path / "spans.json", user.clock.now))
    _answer_thinly(monkeypatch, context.client)
    plan = plan_series(date(2021, 1, 1), date(2022, 1, 1), DENVER, "hour")
    meters = [meter.id for meter in cloud.fleet.meters()]
    assert len(meters) == 1000
    for _, result in run_parallel(
        meters, lambda one: fetch_series(context, one, "usage", plan), jobs
    ):
        assert len(result().times_s) == 8761
    fewest = 12 * len(meters)
    ratio = context.client.calls / fewest
    assert ratio <= 1.02, f"{ratio:.3f}"
