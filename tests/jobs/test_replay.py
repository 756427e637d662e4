"""Two years of real hours, electricity and gas, come back from a local cloud as they went in.

Expected numbers are read from the CSV files with decimals; their notice is in tests/data/series.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.jobs.interval import download_series
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Output
from copper_cli.work.meter_series import SeriesRequest

FOLDER = Path(__file__).parents[1] / "data" / "series"
FILES = {"power": "il-electricity-cdd-hdd-hourly.csv.gz", "gas": "il-gas-hdd-only-hourly.csv.gz"}
CHICAGO = ZoneInfo("America/Chicago")
HOUR = 3600
DAY = timedelta(days=1)


@cache
def hours(meter_type: str) -> tuple[tuple[int, Decimal], ...]:
    """(bucket END, amount) of each hour of a file; its last row only closes the series."""
    with gzip.open(FOLDER / FILES[meter_type], "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    starts = [int(datetime.fromisoformat(start).timestamp()) for start, _ in rows]
    assert all(b - a == HOUR for a, b in pairwise(starts))
    return tuple((end, Decimal(value)) for end, (_, value) in zip(starts[1:], rows, strict=False))


def first_day(meter_type: str) -> date:
    return datetime.fromtimestamp(hours(meter_type)[0][0] - HOUR, CHICAGO).date()


def last_day(meter_type: str) -> date:
    return datetime.fromtimestamp(hours(meter_type)[-1][0], CHICAGO).date()


@cache
def running_total(meter_type: str) -> dict[int, Decimal]:
    """What the file says was used from its begin to the END of each hour."""
    ends, values = zip(*hours(meter_type), strict=True)
    totals = dict(zip(ends, accumulate(values), strict=True))
    return {ends[0] - HOUR: Decimal(0), **totals}


def used(meter_type: str, start_s: int, end_s: int) -> Decimal:
    """What the file says was used between two instants on the hour."""
    return running_total(meter_type)[end_s] - running_total(meter_type)[start_s]


@pytest.fixture(scope="module", params=["from-start", "aligned"])
def cloud(request) -> Iterator[Sandbox]:
    """The two files as the meters of a premise in Chicago; both ways of counting buckets."""
    quirks = frozenset({"aligned-buckets"} if request.param == "aligned" else ())
    config = SandboxConfig(
        series_dir=FOLDER, series_zone="America/Chicago", quota=None, quirks=quirks
    )
    with Sandbox(config) as cloud:
        yield cloud


@pytest.fixture
def download(cloud, make_context, tmp_path):
    """Downloads a range of a meter type; gives the file's summary and its result lines."""

    def run(meter_type: str, start: date, end: date, granularity: str):
        meter = next(m for m in cloud.fleet.meters() if m.type == meter_type)
        request = SeriesRequest("usage", start, end, granularity, meter_ids=(meter.id,))
        table = download_series(make_context(cloud), request, Output(tmp_path / "out"))
        assert [row[0] for row in table.rows] == [meter.id]
        name = f"{meter.id.replace(':', '_')}.usage.csv"
        with (tmp_path / "out" / name).open(encoding="utf-8", newline="") as file:
            summary, *results = csv.DictReader(file)
        assert summary["record"] == "usage_summary__"
        assert {row["record"] for row in results} == {"usage_result__"}
        assert {row["timezone"] for row in (summary, *results)} == {"America/Chicago"}
        return summary, results

    return run


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize("meter_type", FILES)
def test_every_hour_comes_back(download, meter_type):
    """Each hour's amount to the last digit, at the hour's END with Chicago's offset; the register
    runs up by it; the sum is the file's."""
    expected = hours(meter_type)
    start, end = first_day(meter_type), last_day(meter_type)
    summary, results = download(meter_type, start, end, "hour")
    assert len(results) == len(expected) + 1  # and the row at START
    assert [(row["timestamp"], Decimal(row["energy"])) for row in results[1:]] == [
        (datetime.fromtimestamp(time_s, CHICAGO).isoformat(), value) for time_s, value in expected
    ]
    assert results[0]["timestamp"] == f"{start}T00:00:00-06:00"
    total = Decimal(0)
    for (_, value), row in zip(expected, results[1:], strict=True):
        total += value
        assert Decimal(row["value"]) == total
        assert Decimal(row["power"]) == value
    assert Decimal(summary["sum_energy"]) == total


@pytest.mark.parametrize("meter_type", FILES)
def test_the_files_hold_both_changes_twice(download, meter_type):
    """Days of 23 and of 25 hours are among those that come back."""
    _, results = download(meter_type, date(2016, 3, 12), date(2016, 11, 7), "hour")
    a_day = {}
    for row in results[1:]:
        day = datetime.fromtimestamp(instant(row["timestamp"]) - 1, CHICAGO).date()
        a_day[day] = a_day.get(day, 0) + 1
    assert {day: n for day, n in a_day.items() if n != 24} == {
        date(2016, 3, 13): 23,
        date(2016, 11, 6): 25,
    }


@pytest.mark.parametrize("meter_type", FILES)
def test_every_day_is_the_sum_of_its_hours(download, meter_type):
    """Two years of local days, each at the midnight that ends it, each to the last digit but
    those of 23 and 25 hours: within 0.02."""
    start, end = first_day(meter_type), last_day(meter_type)
    summary, results = download(meter_type, start, end, "day")
    assert [row["timestamp"][:19] for row in results] == [
        f"{start + DAY * n}T00:00:00" for n in range((end - start).days + 1)
    ]
    odd = 0
    for before, row in pairwise(results):
        a, b = instant(before["timestamp"]), instant(row["timestamp"])
        expected, got = used(meter_type, a, b), Decimal(row["energy"])
        if b - a == 24 * HOUR:
            assert got == expected
        else:
            odd += 1
            assert abs(got - expected) <= Decimal("0.02")
        per_hour = float(got) * HOUR / (b - a)
        assert float(row["power"]) == pytest.approx(per_hour, abs=1e-4)
    assert odd >= 4
    first, last = instant(results[0]["timestamp"]), instant(results[-1]["timestamp"])
    total = float(used(meter_type, first, last))
    assert float(summary["sum_energy"]) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("meter_type", FILES)
def test_every_month_is_the_sum_of_its_hours(download, meter_type):
    """Whole months between the files' ends, at the local midnight of the 1st, within 0.02."""
    summary, results = download(meter_type, date(2016, 1, 1), date(2017, 11, 1), "month")
    firsts = [date(2016 + n // 12, n % 12 + 1, 1) for n in range(23)]
    assert [row["timestamp"][:19] for row in results] == [f"{day}T00:00:00" for day in firsts]
    for before, row in pairwise(results):
        a, b = instant(before["timestamp"]), instant(row["timestamp"])
        assert abs(Decimal(row["energy"]) - used(meter_type, a, b)) <= Decimal("0.02")
        assert float(row["power"]) == pytest.approx(float(row["energy"]) * HOUR / (b - a), abs=1e-4)
    first, last = instant(results[0]["timestamp"]), instant(results[-1]["timestamp"])
    total = float(used(meter_type, first, last))
    assert float(summary["sum_energy"]) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("meter_type", FILES)
def test_pairs_of_hours_over_a_change(download, meter_type):
    """Twelve a day; on 5 November 2017 a thirteenth of one hour."""
    _, results = download(meter_type, date(2017, 11, 4), date(2017, 11, 7), "bihour")
    assert len(results) == 1 + 12 + 13 + 12
    spans = [(instant(a["timestamp"]), instant(b["timestamp"])) for a, b in pairwise(results)]
    assert [b - a for a, b in spans].count(HOUR) == 1
    for (a, b), row in zip(spans, results[1:], strict=True):
        assert abs(Decimal(row["energy"]) - used(meter_type, a, b)) <= Decimal("0.02")


def test_the_clock_stands_at_the_end_of_the_series(cloud, make_context, tmp_path):
    """A week asked for beyond it: the hours there are, then null rows that are still to come."""
    end_s = hours("power")[-1][0]
    end = datetime.fromtimestamp(end_s, UTC)
    assert cloud.fleet.default_now >= end
    meter = next(m for m in cloud.fleet.meters() if m.type == "power")
    last = last_day("power")
    request = SeriesRequest("usage", last - DAY, last + 2 * DAY, "hour", meter_ids=(meter.id,))
    table = download_series(make_context(cloud), request, Output(tmp_path))
    found = {column.key: value for column, value in zip(table.columns, table.rows[0], strict=True)}
    missing = 2 * 24 - round((cloud.fleet.default_now - end).total_seconds() / HOUR)
    assert found["to_come"] >= missing > 0
    assert found["rows"] == 3 * 24 + 1
