"""Longer buckets added up from hours that the archive holds whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Asking, Context, Output
from copper_cli.work.meter_series import SeriesRequest

NOW = datetime(2022, 12, 20, 12, tzinfo=UTC)
HOURS = SeriesRequest("usage", date(2022, 3, 1), date(2022, 4, 1), "hour")
DAYS = replace(HOURS, granularity="day", derive=True)


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(premises=2, quota=None, max_age=0, now=NOW)) as found:
        yield found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return [line for line in csv.DictReader(stream) if line["record"] == "usage_result__"]


@pytest.mark.parametrize("kind", ["usage", "baseline-series"])
def test_days_are_the_sums_of_their_hours(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, kind: str
) -> None:
    """March has a day of 23 hours: each day is what its registers moved, no call is made but for
    the lists, and the manifest says that the sum is derived."""
    hours, days = (replace(one, kind=kind) for one in (HOURS, DAYS))  # type: ignore[arg-type]
    download_series(make_context(cloud), hours, Output(tmp_path / "hours"))
    calls = cloud.calls
    assert estimate_series(make_context(cloud), days, Output(tmp_path / "d")).facts["to_ask"] == 0
    table = download_series(make_context(cloud), days, Output(tmp_path / "d"))
    assert cloud.calls - calls == 4
    assert table.facts["done"] == len(list(cloud.fleet.meters()))
    entries = json.loads((tmp_path / "d" / "manifest.json").read_text())["files"]
    assert {entry["sum_from"] for entry in entries.values()} == {"derived"}
    if kind != "usage":
        return
    at = cloud.fleet.register_at
    for meter in cloud.fleet.meters():
        name = days.file_name(meter.id)
        found = rows_of(tmp_path / "d" / name)
        assert len(found) == 31
        starts = [datetime.fromisoformat(row["timestamp"]) for row in found]
        assert all(start.hour == 0 for start in starts)
        for before, row in zip([starts[0] - timedelta(days=1), *starts], found, strict=False):
            end = datetime.fromisoformat(row["timestamp"]).astimezone(UTC)
            used = at(meter.id, end) - at(meter.id, before.astimezone(UTC))
            assert float(row["energy"]) == pytest.approx(used, abs=25 * 0.00005)
        spring = next(row for row in found if row["timestamp"].startswith("2022-03-14"))
        assert float(spring["power"]) == pytest.approx(float(spring["energy"]) / 23, abs=0.0001)


def test_months_and_pairs_of_hours(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """As the cloud's own, where buckets lie the same."""
    download_series(make_context(cloud), HOURS, Output(tmp_path / "hours"))
    for granularity in ("month", "bihour"):
        request = replace(DAYS, granularity=granularity)
        download_series(make_context(cloud), request, Output(tmp_path / granularity))
        own = replace(request, derive=False)
        download_series(
            make_context(cloud, apart=True), own, Output(tmp_path / "own" / granularity)
        )
        for path in (tmp_path / granularity).glob("*.csv"):
            derived = {row["timestamp"]: row for row in rows_of(path)}
            theirs = {
                r["timestamp"]: r for r in rows_of(tmp_path / "own" / granularity / path.name)
            }
            assert len(derived) in (len(theirs), len(theirs) - 1)  # not the bucket before
            for time, row in derived.items():
                assert float(row["energy"]) == pytest.approx(
                    float(theirs[time]["energy"]), abs=0.04
                )
                assert row["value"] == theirs[time]["value"]


def test_a_hole_is_not_passed_over(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Hours of the first half alone: the cloud is asked for the days."""
    half = replace(HOURS, end=date(2022, 3, 20))
    download_series(make_context(cloud), half, Output(tmp_path / "hours"))
    calls = cloud.calls
    download_series(make_context(cloud), DAYS, Output(tmp_path / "d"))
    assert cloud.calls - calls > 2
    entries = json.loads((tmp_path / "d" / "manifest.json").read_text())["files"]
    assert "derived" not in {entry["sum_from"] for entry in entries.values()}


def test_without_the_word_the_cloud_is_asked(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Granularities stay apart as the cloud gave them."""
    download_series(make_context(cloud), HOURS, Output(tmp_path / "hours"))
    calls = cloud.calls
    download_series(make_context(cloud), replace(DAYS, derive=False), Output(tmp_path / "d"))
    assert cloud.calls - calls > 2


def test_fresh_asks_the_cloud(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Whatever could be derived."""
    download_series(make_context(cloud), HOURS, Output(tmp_path / "hours"))
    calls = cloud.calls
    output = Output(tmp_path / "d", asking=Asking(fresh=True))
    download_series(make_context(cloud), DAYS, output)
    assert cloud.calls - calls > 2
