from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.sandbox.series import SeriesError, name_type, read_folder, read_series

FOLDER = Path(__file__).parents[1] / "data" / "series"
ELECTRICITY = "il-electricity-cdd-hdd-hourly.csv.gz"


def read_rows(name: str) -> list[tuple[datetime, Decimal]]:
    """The file's rows, read anew."""
    with gzip.open(FOLDER / name, "rt") as file:
        return [
            (datetime.fromisoformat(row["start"]), Decimal(row["value"]))
            for row in csv.DictReader(file)
        ]


def stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def replay(serve):
    return serve(series_dir=FOLDER, series_zone="America/Chicago", now=None)


def test_each_file_is_a_meter_of_one_premise(replay):
    """Types by the files' names, the zone as told, created at the first start."""
    fleet = replay.cloud.fleet
    assert [meter.type for meter in fleet.meters()] == ["power", "gas"]
    assert {meter.zone for meter in fleet.meters()} == {"America/Chicago"}
    assert [meter.premise_id for meter in fleet.meters()] == [next(fleet.premises()).id] * 2
    assert {m.created_utc for m in fleet.meters()} == {datetime(2015, 11, 22, 6, tzinfo=UTC)}
    assert [gateway.state for gateway in fleet.gateways()] == ["active", "virgin"]
    assert fleet.default_now == datetime(2018, 2, 8, 6, tzinfo=UTC)
    assert [m["id"] for m in replay.get("meter").json()] == [m.id for m in fleet.meters()]
    premise = next(fleet.premises())
    assert len(replay.get("meter", premise_id=premise.id).json()) == 2
    assert [fleet.find_meter(meter.id) for meter in fleet.meters()] == list(fleet.meters())
    assert fleet.find_meter("07:0000000000") is None
    assert {one["timezone"] for one in replay.get("premise").json()} == {"America/Chicago"}


def test_hours_come_back_as_they_stand_in_the_file(replay):
    """Two years of hours: usage, power and the sum are the file's decimals, to the last digit."""
    rows = read_rows(ELECTRICITY)
    meter = next(replay.cloud.fleet.meters())
    answer = replay.usage(meter, "hour", stamp(rows[0][0]), stamp(rows[-1][0]))
    results = answer["results"]
    values = [value for _, value in rows[:-1]]
    assert [Decimal(str(row["usage"])) for row in results[1:]] == values
    assert [Decimal(str(row["power"])) for row in results[1:]] == values
    assert Decimal(str(answer["sum_usage"])) == sum(values)
    running = Decimal(0)
    for row, (start, _), value in zip(results, rows, [Decimal(0), *values], strict=True):
        running += value
        assert datetime.fromisoformat(row["time"]) == start
        assert Decimal(str(row["value"])) == running
        assert row["actual"] == running * 100


def test_finer_buckets_add_up_exactly(replay):
    """A quarter of an hour has a quarter of it; the quarters' decimals sum up to the hour's."""
    rows = read_rows(ELECTRICITY)[100:124]
    meter = next(replay.cloud.fleet.meters())
    end = rows[-1][0] + timedelta(hours=1)
    for granularity in ("fifteenminute", "minute"):
        answer = replay.usage(meter, granularity, stamp(rows[0][0]), stamp(end))
        usages = [Decimal(str(row["usage"])) for row in answer["results"][1:]]
        assert sum(usages) == sum(value for _, value in rows)
        assert Decimal(str(answer["sum_usage"])) == sum(usages)


def test_nothing_lies_outside_the_series(replay):
    """Rows before the first start and after the last are null, whatever the clock says."""
    meter = next(replay.cloud.fleet.meters())
    before = replay.usage(meter, "hour", "2015-11-22T04:00:00Z", "2015-11-22T07:00:00Z")
    assert [row["usage"] for row in before["results"]] == [None, None, 0.0, 0.29]
    assert before["sum_usage"] == 0.29
    after = replay.usage(meter, "hour", "2018-02-08T05:00:00Z", "2018-02-08T07:00:00Z")
    assert [row["usage"] for row in after["results"]] == [1.44, 1.37, None]
    with Sandbox(SandboxConfig(series_dir=FOLDER, now=datetime(2020, 1, 1, tzinfo=UTC))) as later:
        register = later.fleet.register_of(next(later.fleet.meters()))
        assert register.at(1e10) == register.at(register.last_s)
        assert later.fleet.last_reading_s(next(later.fleet.meters()), 1_577_836_800) < 1_518_069_600


def test_aggregates_add_the_files_up(replay):
    """The gas of December 2017, as the file has it."""
    rows = read_rows("il-gas-hdd-only-hourly.csv.gz")
    start, end = datetime(2017, 12, 1, 6, tzinfo=UTC), datetime(2018, 1, 1, 6, tzinfo=UTC)
    query = {"granularity": "month", "start": stamp(start), "end": stamp(end), "meter_type": "gas"}
    answer = replay.get("aggregate/usage", **query).json()
    expected = sum(value for at, value in rows if start <= at < end)
    assert (answer["meter_count"], Decimal(str(answer["sum_energy"]))) == (1, expected)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_plain_files_of_any_step_are_read(tmp_path):
    """Two days of different length, five places: the second file line of a plain CSV."""
    text = "start,value\n2020-01-01T00:00:00Z,1.00001\n2020-01-01T06:00:00Z,2\n2020-01-02T00:00:00Z,9\n"
    series = read_series(write(tmp_path, "my-WATER.csv", text))
    assert (series.name, series.type) == ("my-WATER.csv", "water")
    assert series.register.places == 5
    assert series.register.total(1_577_836_800, 1_577_923_200) == 3.00001


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a-gas.csv", "gas"), ("Water.csv.gz", "water"), ("il-electricity.csv", "power")],
)
def test_the_type_comes_from_the_name(name, kind):
    """gas and water if the name says so, else power."""
    assert name_type(name) == kind


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "first line"),
        ("time,value\n", "first line"),
        ("start,value\n2020-01-01T00:00:00Z,1\n", "two rows"),
        ("start,value\n2020-01-01T00:00:00Z,1\n2020-01-01T00:00:00Z,1\n", "line 3"),
        ("start,value\n2020-01-01T00:00:00,1\n", "line 2"),
        ("start,value\n2020-01-01T00:00:00.5Z,1\n", "line 2"),
        ("start,value\n2020-01-01T00:00:00Z,x\n", "line 2"),
        ("start,value\n2020-01-01T00:00:00Z,NaN\n", "line 2"),
        ("start,value\n2020-01-01T00:00:00Z\n", "line 2"),
        (
            "start,value\n2020-01-01T00:00:00Z,0.0000000001\n2020-01-01T01:00:00Z,1\n",
            "decimal places",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, text, what):
    """One line with the file, and the row where there is one."""
    with pytest.raises(SeriesError, match=what) as caught:
        read_series(write(tmp_path, "bad.csv", text))
    assert "bad.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_named(tmp_path):
    """A folder that is not there, one without series, a file that is no gzip."""
    with pytest.raises(SeriesError, match="cannot read"):
        read_folder(tmp_path / "none")
    with pytest.raises(SeriesError, match="no "):
        read_folder(tmp_path)
    write(tmp_path, "x.csv.gz", "start,value\n")
    with pytest.raises(SeriesError, match=r"x\.csv\.gz"):
        read_folder(tmp_path)
