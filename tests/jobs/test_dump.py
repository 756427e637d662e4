"""A range as one folder a day, in each meter's own zone."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import pytest

from copper_cli.errors import UsageError
from copper_cli.jobs.dump import DumpRequest, dump_days, estimate_dump
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Context, Output

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
ZONES = ("America/Denver", "Asia/Kolkata")


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(quota=None, now=NOW, premises=2, zones=ZONES)) as found:
        yield found


def request(start: str, finish: str, name: str = "foo", granularity: str = "hour") -> DumpRequest:
    first, last = date.fromisoformat(start), date.fromisoformat(finish)
    return DumpRequest(name, first, last, granularity, None, "plain")


@pytest.mark.parametrize("granularity", ["minute", "fifteenminute", "hour", "bihour", "day"])
def test_days_rows_and_sums(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, granularity: str
) -> None:
    """Each day from its meter's own midnight to the next: rows at both, sum of the closed form.

    Denver's 2021-11-07 has 25 hours: the two-hour or day bucket of unusual length is known
    from the registers, which have two decimals.
    """
    asked = request("2021-11-06", "2021-11-08", granularity=granularity)
    table = dump_days(make_context(cloud), asked, Output(tmp_path))
    step = {"minute": 60, "fifteenminute": 900, "hour": 3600, "bihour": 7200, "day": 86400}
    for day in asked.days():
        folder = tmp_path / "foo" / str(day)
        sums = {
            row["ID"]: float(row["Sum Usage"])
            for row in csv.DictReader((folder / "meter_summary.csv").read_text().splitlines())
        }
        for meter in cloud.fleet.meters():
            own = ZoneInfo(meter.zone)
            start = datetime(day.year, day.month, day.day, tzinfo=own)
            end = (start + timedelta(days=1)).astimezone(UTC)
            start = start.astimezone(UTC)
            at = cloud.fleet.register_at
            seconds = (end - start).total_seconds()
            rounding = 0.00005 * (seconds / step[granularity] + 1)
            rounding += 0.01 if seconds % step[granularity] else 0
            assert sums[meter.id] == pytest.approx(
                at(meter.id, end) - at(meter.id, start), abs=rounding
            ), (day, meter)
            lines = (folder / f"{meter.id.replace(':', '_')}.usage.csv").read_text().splitlines()
            assert lines[1].startswith(f"{day} 00:00:00,")
            assert lines[-1].startswith(f"{day + timedelta(days=1)} 00:00:00,")
    assert [row[:2] for row in table.rows] == [(str(day), 4) for day in asked.days()]
    with ZipFile(table.facts["bundle"]) as bundle:
        assert len(bundle.namelist()) == 3 * 5


def test_one_call_a_meter_for_the_whole_range(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Two lists and four meters for ten days; then the lists only, also for what was removed."""
    asked = request("2021-03-01", "2021-03-10")
    assert dump_days(make_context(cloud), asked, Output(tmp_path)).facts["calls"] == 2 + 4
    assert dump_days(make_context(cloud), asked, Output(tmp_path)).facts["calls"] == 2
    (tmp_path / "foo/2021-03-05/07_3597166776.usage.csv").unlink()
    estimate = estimate_dump(make_context(cloud), asked, Output(tmp_path))
    assert (estimate.facts["calls"], estimate.facts["to_ask"]) == (4, 0)
    assert dump_days(make_context(cloud), asked, Output(tmp_path)).facts["calls"] == 2
    assert (tmp_path / "foo/2021-03-05/07_3597166776.usage.csv").exists()


def test_a_longer_range_goes_on(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """The days that are there are kept: what a dump was asked for is told day by day."""
    dump_days(make_context(cloud), request("2021-03-01", "2021-03-02"), Output(tmp_path))
    before = (tmp_path / "foo/2021-03-01/meter_summary.csv").read_bytes()
    table = dump_days(make_context(cloud), request("2021-03-01", "2021-03-03"), Output(tmp_path))
    assert table.facts["kept"] == 8
    assert (tmp_path / "foo/2021-03-01/meter_summary.csv").read_bytes() == before


def test_a_day_of_the_future_is_empty(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """No meter has a value yet: a folder with a summary of no rows, four days of hours to come,
    and nothing failed."""
    table = dump_days(make_context(cloud), request("2022-04-05", "2022-04-05"), Output(tmp_path))
    assert [tuple(row) for row in table.rows] == [("2022-04-05", 0, 0, 4 * 24, 0, 0)]
    assert (tmp_path / "foo/2022-04-05/meter_summary.csv").read_bytes() == (
        b"ID,Type,Sum Usage\r\n"
    )
    assert (table.facts["empty"], table.facts["waiting"]) == (0, 4)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/a", "con", "a\nb", "-a", "x" * 300]
)
def test_names_that_lead_elsewhere(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, name: str
) -> None:
    """Refused before any call."""
    with pytest.raises(UsageError, match="cannot name a folder"):
        dump_days(make_context(cloud), request("2021-03-01", "2021-03-01", name), Output(tmp_path))
    assert cloud.calls == 0
