"""meter usage, baseline-series, average-series, readings, grid readings, dump, as they are typed."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine

from copper_cli.sandbox import Fault, Sandbox

from .conftest import NOW, Copper, FixedCloud

DENVER = ZoneInfo("America/Denver")
IDS = ["07:3597166776", "12:6346999187", "07:9096831598", "07:1846664009"]


def midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=DENVER).astimezone(UTC)


def used(cloud: Sandbox, meter_id: str, start: datetime, end: datetime) -> float:
    """What the fleet's closed form says was used."""
    return cloud.fleet.register_at(meter_id, end) - cloud.fleet.register_at(meter_id, start)


def asked(cloud: Sandbox, ending: str = "") -> list[str]:
    """Paths of the API calls so far."""
    return [r.path for r in cloud.log if "/partner/" in r.path and r.path.endswith(ending)]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_usage_as_in_the_readme(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """The vendor's own example: one file a meter, the summary beside, sums of the closed form."""
    ended = copper(
        *["--output-dir", "generated", "--csv-output-file", "meter_summary.csv", "meter", "usage"],
        *["2020-12-22", "2021-01-12", "--granularity", "hour", "--layout", "plain"],
    )
    assert ended.code == 0, ended.err
    assert ended.lines[1] == "Meter usage download 2020-12-22 through 2021-01-12 (rows=4):"
    assert ended.lines[-1] == "complete!"
    assert ended.err.splitlines() == [
        "4 meters done, 0 empty, 0 failed. 6 calls used; quota left: 99994 of 100000/h.",
        "Files: 4 CSV and manifest.json in generated/",
    ]
    start, end = midnight("2020-12-22"), midnight("2021-01-12")
    summary = rows_of(work / "generated/meter_summary.csv")
    assert list(summary[0]) == ["ID", "Type", "Sum Usage"]
    assert [row["ID"] for row in summary] == IDS
    for row in summary:
        own = used(cloud, row["ID"], start, end)
        assert float(row["Sum Usage"]) == pytest.approx(own, abs=1e-6)
        lines = rows_of(work / f"generated/{row['ID'].replace(':', '_')}.usage.csv")
        assert list(lines[0]) == ["timestamp", "energy", "power"]
        assert len(lines) == 21 * 24 + 1
        assert [lines[0]["timestamp"], lines[-1]["timestamp"]] == [
            "2020-12-22 00:00:00",
            "2021-01-12 00:00:00",
        ]
        hour = used(cloud, row["ID"], start, start + timedelta(hours=1))
        assert float(lines[1]["energy"]) == pytest.approx(hour, abs=1e-4)
    assert len(asked(cloud, "/usage")) == 4


@pytest.mark.parametrize(
    ("kind", "series"), [("baseline-series", "baseline"), ("average-series", "average")]
)
def test_the_other_series(
    cloud: Sandbox, copper: Copper, work: Path, kind: str, series: str
) -> None:
    """Files of their own name; sums are the usage times the fleet's factor."""
    ended = copper("meter", kind, "2021-03-01", "2021-03-03", "--format", "json")
    assert ended.code == 0, ended.err
    assert ended.json["title"] == f"Meter {kind} download 2021-03-01 through 2021-03-03"
    start, end = midnight("2021-03-01"), midnight("2021-03-03")
    for row in ended.json["rows"]:
        own = used(cloud, row["id"], start, end) * cloud.fleet.series_factor(row["id"], series)
        assert row["sum_usage"] == pytest.approx(own, abs=1e-6)
        assert row["file"] == f"{row['id'].replace(':', '_')}.{kind}.csv"
        assert row["rows"] == 49
        lines = rows_of(work / "generated" / row["file"])
        assert {line["record"] for line in lines} == {f"{series}_summary__", f"{series}_result__"}


def test_one_meter_several_meters(cloud: Sandbox, copper: Copper) -> None:
    """--meter-id may be repeated; rows come in the cloud's order."""
    line = ["meter", "usage", "2021-03-01", "2021-03-02", "--format", "ndjson"]
    ended = copper(*line, "--meter-id", IDS[3], "--meter-id", IDS[1])
    assert [json.loads(one)["id"] for one in ended.lines] == [IDS[1], IDS[3]]
    assert len(asked(cloud, "/usage")) == 2


def test_baseline_beside_the_usage(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """--baseline adds its lines to the same file: two calls a meter."""
    line = ["meter", "usage", "2021-03-01", "2021-03-02", "--meter-id", IDS[0]]
    assert copper(*line, "--baseline").code == 0
    (file,) = work.glob("generated/*.csv")
    kinds = [row["record"] for row in rows_of(file)]
    assert set(kinds) == {
        "usage_summary__",
        "usage_result__",
        "baseline_summary__",
        "baseline_result__",
    }
    assert kinds.count("usage_result__") == kinds.count("baseline_result__") == 25
    assert len(asked(cloud, "/baseline-series")) == 1


def test_step_forces_windows(cloud: Sandbox, copper: Copper) -> None:
    """--step 1 over three days: three calls."""
    line = ["meter", "usage", "2021-03-01", "2021-03-04", "--meter-id", IDS[0]]
    assert copper(*line, "--step", "1").code == 0
    assert len(asked(cloud, "/usage")) == 3


def test_a_meter_created_after_the_end_is_not_asked(cloud: Sandbox, copper: Copper) -> None:
    """All of this fleet's meters are younger than 2019: lists only, no row, no file."""
    ended = copper("meter", "usage", "2019-01-01", "2019-01-05")
    assert ended.code == 0
    assert "rows=0" in ended.out
    assert asked(cloud, "/usage") == []


def test_one_meter_fails(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """The others are done, it is named, exit 6, no `complete!`; again asks only what lacks."""
    cloud.faults.add(Fault(path=r"meter/12(:|%3A)6346999187/usage", times=5))
    line = ["meter", "usage", "2021-03-01", "2021-03-02", "--csv-output-file", "s.csv"]
    ended = copper(*line)
    assert ended.code == 6
    assert "complete!" not in ended.out
    first, done, files, last = ended.err.splitlines()
    assert first.startswith("12:6346999187 failed: usage of meter 12:6346999187 from 2021-03-01T")
    assert "answered 500" in first
    assert done.startswith("3 meters done, 0 empty, 1 failed. 10 calls used;")
    assert files == "Files: 3 CSV and manifest.json in generated/"
    assert last == ("copper: 1 meter missing. Run the same command again to fetch what is missing.")
    assert [row["ID"] for row in rows_of(work / "s.csv")] == [IDS[0], IDS[2], IDS[3]]
    before = cloud.calls
    again = copper(*line)
    assert (again.code, again.lines[-1]) == (0, "complete!")
    assert cloud.calls - before == 1  # the lists come from the cache
    assert "4 meters done (3 kept from before)" in again.err
    assert [row["ID"] for row in rows_of(work / "s.csv")] == IDS


def test_what_failed_is_told_in_json(cloud: Sandbox, copper: Copper) -> None:
    """Facts for programs; stdout is still one JSON text."""
    cloud.faults.add(Fault(path="/usage", times=5, skip=1))
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--format", "json", "--jobs", "1")
    facts = ended.json
    assert ended.code == 6
    assert (facts["complete"], facts["done"], facts["empty"]) == (False, 3, 0)
    assert [one["id"] for one in facts["failed"]] == [IDS[1]]
    assert facts["calls"] == 2 + 3 + 5


def test_several_failures_are_counted(cloud: Sandbox, copper: Copper) -> None:
    """`2 meters missing`."""
    for meter_id in IDS[:2]:
        cloud.faults.add(Fault(path=f"{meter_id[3:]}/usage", times=5))
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02")
    assert ended.err.splitlines()[-1].startswith("copper: 2 meters missing.")


def test_no_permission_ends_early(serve: Callable[..., Sandbox], copper: Copper) -> None:
    """403 for one meter after the other: three in a row end it, exit 3."""
    cloud = serve(premises=12)
    cloud.faults.add(Fault(status=403, path="/usage", times=None))
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--jobs", "1")
    assert ended.code == 3
    assert "no permission (403" in ended.err.splitlines()[-1]
    assert len(asked(cloud, "/usage")) == 3
    assert "complete!" not in ended.out


def test_one_refusal_is_a_meter_that_failed(cloud: Sandbox, copper: Copper) -> None:
    """A single 403 between good answers is that meter's own."""
    cloud.faults.add(Fault(status=403, path="/usage", times=2))
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--jobs", "1")
    assert ended.code == 6
    assert "2 meters done, 0 empty, 2 failed" in ended.err


def test_a_folder_is_not_mixed(cloud: Sandbox, copper: Copper) -> None:
    """Another layout into the same folder: exit 2 before any series call, or --overwrite."""
    assert copper("meter", "usage", "2021-03-01", "2021-03-02").code == 0
    before = len(asked(cloud, "/usage"))
    line = ["meter", "usage", "2021-03-01", "2021-03-02", "--layout", "plain"]
    for more in ((), ("--dry-run",)):
        ended = copper(*line, *more)
        assert (ended.code, ended.out) == (2, "")
        assert "holds meter usage 2021-03-01 to 2021-03-02" in ended.err
        assert "--overwrite" in ended.err
    assert len(asked(cloud, "/usage")) == before
    assert copper(*line, "--overwrite", "--dry-run").code == 0
    assert copper(*line, "--overwrite").code == 0


def test_files_changed_or_gone_are_fetched_anew(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """And that is said."""
    line = ["meter", "usage", "2021-03-01", "2021-03-02"]
    copper(*line)
    first, second, *_ = sorted(work.glob("generated/*.csv"))
    whole = first.read_bytes()
    first.write_bytes(b"half")
    second.unlink()
    ended = copper(*line)
    assert ended.code == 0
    assert f"{first.name} is not as it was written; writing it anew." in ended.err
    assert f"{second.name} is gone from generated; writing it anew." in ended.err
    assert first.read_bytes() == whole


def test_a_folder_held_by_another_run(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """Exit 7, one line, no series call."""
    from copper_cli.folders.manifest import Folder

    with Folder.open(work / "generated"):
        ended = copper("meter", "usage", "2021-03-01", "2021-03-02")
    assert ended.code == 7
    assert len(ended.err.splitlines()) == 1
    assert asked(cloud, "/usage") == []


def test_buckets_to_come_are_counted(serve: Callable[..., Sandbox], copper: Copper) -> None:
    """The day of the cloud's now (12:00 in Denver): 12 hours filled, 12 to come."""
    serve()
    with time_machine.travel(NOW.timestamp(), tick=True):
        ended = copper("meter", "usage", "2022-03-28", "2022-03-29", "--meter-id", IDS[0])
    assert ended.code == 0, ended.err
    assert "1 meter done, 0 empty, 0 failed, 12 buckets to come." in ended.err


def test_readings_and_their_latest(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """END's whole day, sorted, the right units; --latest keeps the last; every meter listed."""
    ended = copper("meter", "readings", "2021-12-22", "2021-12-23", "--output-dir", "all")
    assert ended.lines[1] == "Meter readings download 2021-12-22 through 2021-12-23 (rows=4):"
    copper("meter", "readings", "2021-12-22", "2021-12-23", "--latest", "--output-dir", "last")
    start, end = midnight("2021-12-22"), midnight("2021-12-24")
    for meter in cloud.fleet.meters():
        name = f"{meter.id.replace(':', '_')}.csv"
        unit = "ccf" if meter.type == "gas" else "kwh"
        lines = (work / "all" / name).read_text().splitlines()
        assert lines[0] == f"ID,Type,Timestamp,Actual ({unit}),Normalized ({unit})"
        hours = range(int(start.timestamp()) // 3600, int(end.timestamp()) // 3600)
        seconds = [cloud.fleet.reading_s(meter, hour) for hour in hours]
        times = [str(datetime.fromtimestamp(s, DENVER).replace(tzinfo=None)) for s in seconds]
        assert [line.split(",")[2] for line in lines[1:]] == times
        assert (work / "last" / name).read_text().splitlines() == [lines[0], lines[-1]]
    rows = copper(
        "meter", "readings", "2021-12-22", "2021-12-23", "--output-dir", "all", "--format", "csv"
    )
    assert rows.lines[:2] == ["ID,Type,Created", "07:3597166776,power,2020-05-01 11:51:10"]


# What it would cost


def plan(ended: Any) -> dict[str, Any]:
    facts = dict(ended.json)
    return {key: facts[key] for key in ("calls", "cached", "kept", "to_ask")}


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("meter usage 2021-03-01 2021-03-08", 4),
        ("meter usage 2021-03-01 2021-03-08 --baseline", 8),
        ("meter usage 2021-03-01 2021-03-08 --step 1", 28),
        ("meter usage 2019-03-01 2019-03-08", 0),
        ("meter baseline-series 2021-03-01 2021-03-08", 4),
        ("meter average-series 2021-03-01 2021-03-08 --meter-id 07:3597166776", 1),
        ("meter readings 2021-03-01 2021-03-08", 4),
        ("meter readings 2019-03-01 2019-03-08", 0),
        ("grid readings 2021-03-01 2021-03-08", 1),
        ("grid readings 2021-03-01 2021-03-08 --gateway-id 9959f729483ab8c6", 1),
        ("dump foo 2021-03-01 2021-03-08 hour", 4),
    ],
)
def test_a_dry_run_counts_and_spends_nothing(
    cloud: Sandbox, copper: Copper, work: Path, line: str, calls: int
) -> None:
    """Only lists are asked, nothing is written; the real run then spends just that, and no more."""
    ended = copper(*line.split(), "--dry-run", "--format", "json")
    assert ended.code == 0, ended.err
    assert plan(ended) == {"calls": calls, "cached": 0, "kept": 0, "to_ask": calls}
    lists = len(asked(cloud))
    assert lists == 2
    assert not list(work.iterdir())
    real = copper(*line.split(), "--no-cache", "--format", "json")
    assert real.code == 0, real.err
    assert len(asked(cloud)) - 2 * lists == calls
    after = copper(*line.split(), "--dry-run", "--format", "json")
    assert plan(after) == {"calls": calls, "cached": 0, "kept": calls, "to_ask": 0}


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("report monthly 2021-03", 4),
        ("report monthly 2021-03 --include-per-meter-sum", 8),
        ("meter check-for-water-reversals", 0),
    ],
)
def test_a_dry_run_of_a_report_counts_and_spends_nothing(
    cloud: Sandbox, copper: Copper, line: str, calls: int
) -> None:
    """Four meters of four types, none of them for one side's water; each list once."""
    ended = copper(*line.split(), "--dry-run", "--quiet", "--format", "json")
    assert plan(ended) == {"calls": calls, "cached": 0, "kept": 0, "to_ask": calls}
    lists = len(asked(cloud))
    assert lists == len(set(asked(cloud)))
    assert copper(*line.split(), "--no-cache").code == 0
    assert len(asked(cloud)) - 2 * lists == calls
    again = plan(copper(*line.split(), "--dry-run", "--format", "json"))
    sums = 4 if "sum" in line else 0
    assert again == {"calls": calls, "cached": 0, "kept": sums, "to_ask": calls - sums}


def test_a_dry_run_knows_what_the_archive_holds(cloud: Sandbox, copper: Copper) -> None:
    """Into another folder the same question is answered by the archive."""
    for line in (
        "meter usage 2021-03-01 2021-03-02",
        "meter readings 2021-03-01 2021-03-02",
        "grid readings 2021-03-01 2021-03-02",
    ):
        first = copper(*line.split(), "--output-dir", "a", "--overwrite", "--format", "json")
        assert first.json["calls"] > 0
        ended = copper(*line.split(), "--output-dir", "b", "--dry-run", "--format", "json")
        found = plan(ended)
        assert found["kept"] == found["calls"] > 0
        assert found["to_ask"] == 0


def test_a_dry_run_as_people_read_it(cloud: Sandbox, copper: Copper) -> None:
    """Five rows and no `complete!`, since nothing is."""
    ended = copper("meter", "usage", "2021-03-01", "2021-03-08", "--dry-run")
    assert "Plan: Meter usage download 2021-03-01 through 2021-03-08 (rows=5):" in ended.lines
    assert re.search(r"^needed in all +4  4 meters$", ended.out, re.M)
    assert re.search(r"^to ask +4  quota left: 9999\d of 100000/h$", ended.out, re.M)
    assert "complete!" not in ended.out


# dump


def test_dump_a_folder_a_day(serve: Callable[..., Sandbox], copper: Copper, work: Path) -> None:
    """Both days with their meters and summary, sums of the closed form, one call a meter."""
    cloud = serve()
    with time_machine.travel(NOW.timestamp(), tick=True):
        ended = copper("dump", "foo", "2021-03-13", "2021-03-14", "hour")
    assert ended.code == 0, ended.err
    assert ended.lines[-1] == "complete!"
    assert "Dump foo 2021-03-13 through 2021-03-14 (rows=2):" in ended.lines
    folder = work / "generated/foo"
    names = [f"{one.replace(':', '_')}.usage.csv" for one in IDS]
    # 2021-03-14 has 23 hours in Denver: the clocks go forward
    for day, following, hours in (
        ("2021-03-13", "2021-03-14", 24),
        ("2021-03-14", "2021-03-15", 23),
    ):
        assert sorted(p.name for p in (folder / day).iterdir()) == sorted(
            [*names, "meter_summary.csv"]
        )
        summary = rows_of(folder / day / "meter_summary.csv")
        assert list(summary[0]) == ["ID", "Type", "Sum Usage"]
        for row, name in zip(summary, names, strict=True):
            own = used(cloud, row["ID"], midnight(day), midnight(following))
            assert float(row["Sum Usage"]) == pytest.approx(own, abs=1e-4 * hours)
            lines = [r for r in rows_of(folder / day / name) if r["record"] == "usage_result__"]
            assert len(lines) == hours + 1
    zipped = work / "generated/foo.20220328.zip"
    assert f"Bundle: {zipped.relative_to(work)}" in ended.err
    with zipfile.ZipFile(zipped) as bundle:
        assert sorted(bundle.namelist()) == sorted(
            f"foo/{day}/{name}"
            for day in ("2021-03-13", "2021-03-14")
            for name in [*names, "meter_summary.csv"]
        )
        for name in bundle.namelist():
            assert bundle.read(name) == (work / "generated" / name).read_bytes()


def test_dump_again_asks_the_lists_only(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """And writes the same files."""
    line = ["dump", "foo", "2021-03-01", "2021-03-05", "day", "--no-cache"]
    assert copper(*line).code == 0
    assert len(asked(cloud, "/usage")) == len(IDS)
    before = {p: p.read_bytes() for p in work.rglob("*.csv")}
    ended = copper(*line)
    assert ended.code == 0, ended.err
    assert len(asked(cloud, "/usage")) == len(IDS)
    assert "20 files done (20 kept from before)" in ended.err
    assert {p: p.read_bytes() for p in work.rglob("*.csv")} == before


def test_dump_without_a_meter_is_not_zipped(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """A meter that fails: exit 6, its days are named, no ZIP that looks whole."""
    cloud.faults.add(Fault(path="6346999187/usage", times=5))
    line = ["dump", "foo", "2021-03-01", "2021-03-02", "day"]
    ended = copper(*line)
    assert ended.code == 6
    assert re.search(r"[12] (file|meter)s? missing\.", ended.err.splitlines()[-1])
    assert "12:6346999187 failed: " in ended.err
    assert not list(work.rglob("*.zip"))
    assert "complete!" not in ended.out
    assert copper(*line).code == 0
    assert len(list(work.rglob("*.zip"))) == 1


def test_dump_leaves_out_days_before_a_meter(
    serve: Callable[..., Sandbox], copper: Copper, work: Path
) -> None:
    """A meter born on 2020-12-24 local has no file on the 22nd and 23rd."""
    cloud = serve(premises=12)
    late = next(
        m
        for m in cloud.fleet.meters()
        if datetime(2020, 12, 22, tzinfo=UTC) < m.created_utc < datetime(2021, 1, 12, tzinfo=UTC)
    )
    born = late.created_utc.astimezone(ZoneInfo(late.zone)).date()
    first = born - timedelta(days=1)
    ended = copper("dump", "foo", str(first), str(born), "day", "--quiet")
    assert ended.code == 0, ended.err
    name = f"{late.id.replace(':', '_')}.usage.csv"
    assert not (work / f"generated/foo/{first}/{name}").exists()
    assert (work / f"generated/foo/{born}/{name}").exists()


def test_dump_into_another_folder_and_zone(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """--output-dir holds folder and ZIP; --timezone cuts the days."""
    ended = copper(
        *[
            "dump",
            "foo_1",
            "2021-03-01",
            "2021-03-01",
            "hour",
            "--output-dir",
            "o",
            "--timezone",
            "UTC",
        ]
    )
    assert ended.code == 0, ended.err
    rows = rows_of(work / "o/foo_1/2021-03-01/meter_summary.csv")
    start = datetime(2021, 3, 1, tzinfo=UTC)
    for row in rows:
        own = used(cloud, row["ID"], start, start + timedelta(days=1))
        assert float(row["Sum Usage"]) == pytest.approx(own, abs=3e-3)
    assert len(list((work / "o").glob("foo_1.*.zip"))) == 1


@pytest.mark.parametrize(
    ("listed", "header"),
    [
        ({"type": "gas", "uom": "cf"}, "Actual (cf),Normalized (ccf)"),
        ({"type": "gas", "uom": "therm"}, "Actual (therm),Normalized (therm)"),
        ({"type": "water", "uom": "m3"}, "Actual (m3),Normalized (gal)"),
        ({"type": "power", "uom": "kwh"}, "Actual (kwh),Normalized (kwh)"),
        ({"type": "power"}, "Actual,Normalized (kwh)"),
    ],
)
def test_readings_name_the_unit_of_the_list(
    fixed: FixedCloud, copper: Copper, listed: dict[str, str], header: str
) -> None:
    """Actual is the register as the meter reports it; only Normalized is in the standard unit."""
    fixed.answers["meter"] = [{"id": "12:1", **listed}]
    fixed.answers["meter/12:1/readings"] = {
        "meter_id": "12:1",
        "meter_type": listed["type"],
        "results": [{"time": "2021-12-24T07:07:13.000Z", "actual": 4275400, "value": 42754.0}],
    }
    ended = copper("meter", "readings", "2021-12-24", "2021-12-24", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    assert Path("generated/12_1.csv").read_text().splitlines()[0] == f"ID,Type,Timestamp,{header}"


def test_hours_are_not_derived(cloud: Sandbox, copper: Copper) -> None:
    """There is nothing shorter that they could be added up from by default: exit 2, no call."""
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--derive")
    assert (ended.code, ended.out) == (2, "")
    assert "--derive adds up bihour, day, month" in ended.err
    assert asked(cloud, "/usage") == []
