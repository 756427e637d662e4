from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.sandbox import ConfigError, Sandbox, SandboxConfig
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


# ---- what people have


def make_series(folder: Path, name: str, *rows: str) -> Path:
    return write(folder, name, "\n".join(["start,value", *rows, ""]))


def read_starts(path: Path, zone: str | None = None) -> list[str]:
    """When each row begins, UTC."""
    register = read_series(path, ZoneInfo(zone) if zone else None).register
    return [datetime.fromtimestamp(s, UTC).strftime("%d %H:%M") for s in register.starts_s]


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("0.17099999999999999", 0.171),
        ("0.30000000000000004", 0.3),
        ("12.340000000000002", 12.34),
        ("5.551115123125783e-17", 0.0),
        ("-5.551115123125783e-17", 0.0),
        ("0.36666666666666664", 0.366666667),
        ("1e2", 100.0),
        (" 0.25 ", 0.25),
    ],
)
def test_the_noise_of_floats_is_rounded_off(tmp_path, serve, text, used):
    """What a program printed as a float is the decimal that was meant, to nine places."""
    make_series(tmp_path, "home.csv", f"2020-01-01T00:00:00Z,{text}", "2020-01-01T01:00:00Z,0.07")
    caller = serve(series_dir=tmp_path, now=None)
    meter = next(caller.cloud.fleet.meters())
    answer = caller.usage(meter, "hour", "2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z")
    assert (answer["sum_usage"], answer["results"][1]["usage"]) == (used, used)


def test_the_doubled_hour_of_autumn_is_taken_in_its_order(tmp_path):
    """Local times without an offset: the clock shows 01:00 and 01:30 twice, six hours behind
    UTC and then seven."""
    times = ("00:30", "01:00", "01:30", "01:00", "01:30", "02:00")
    path = make_series(tmp_path, "home.csv", *(f"2020-11-01 {time},1" for time in times))
    assert read_starts(path, "America/Denver") == [
        "01 06:30",
        "01 07:00",
        "01 07:30",
        "01 08:00",
        "01 08:30",
        "01 09:00",
    ]


def test_hours_without_an_offset_lie_in_their_zone(tmp_path):
    """Hourly rows over both changes of the clock, and the half hour of Lord Howe Island."""
    autumn = make_series(
        tmp_path, "a.csv", *(f"2020-11-01T{hour:02}:00:00,1" for hour in (0, 1, 1, 2))
    )
    assert read_starts(autumn, "America/Denver") == ["01 06:00", "01 07:00", "01 08:00", "01 09:00"]
    spring = make_series(
        tmp_path, "b.csv", *(f"2020-03-08T{hour:02}:00:00,1" for hour in (1, 3, 4))
    )
    assert read_starts(spring, "America/Denver") == ["08 08:00", "08 09:00", "08 10:00"]
    times = ("01:00", "01:30", "01:30", "02:00")
    island = make_series(tmp_path, "c.csv", *(f"2021-04-04 {time},1" for time in times))
    assert read_starts(island, "Australia/Lord_Howe") == [
        "03 14:00",
        "03 14:30",
        "03 15:00",
        "03 15:30",
    ]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("2020-03-08 01:30,1", "2020-03-08 02:30,1"), "line 3: there is no 2020-03-08 02:30"),
        (("2020-11-01 01:00,1",) * 3, "line 4: start is not after"),
        (("2020-11-01 02:00,1", "2020-11-01 01:00,1"), "line 3: start is not after"),
    ],
)
def test_times_that_cannot_be_are_refused(tmp_path, rows, what):
    """A local time that the clock skips, one shown a third time, one that goes back."""
    with pytest.raises(SeriesError, match=what):
        read_series(make_series(tmp_path, "home.csv", *rows), ZoneInfo("America/Denver"))


def test_a_time_without_an_offset_needs_the_zone_said(tmp_path):
    """It is never taken for UTC; the line says what to say."""
    path = make_series(tmp_path, "home.csv", "2020-01-01 00:00,1", "2020-01-01 01:00,1")
    with pytest.raises(SeriesError, match="--series-zone"):
        read_series(path)
    assert read_starts(path, "UTC") == ["01 00:00", "01 01:00"]


def test_half_hours_come_back_exactly(tmp_path, serve):
    """A row of half an hour: its quarters add up to it, two rows to their hour."""
    make_series(
        tmp_path,
        "home.csv",
        *("2020-01-01T00:00,0.17", "2020-01-01T00:30,0.05", "2020-01-01T01:00,1"),
    )
    caller = serve(series_dir=tmp_path, series_zone="Asia/Kolkata", now=None)
    meter = next(caller.cloud.fleet.meters())
    start, end = "2019-12-31T18:30:00Z", "2019-12-31T19:30:00Z"
    quarters = caller.usage(meter, "fifteenminute", start, end)["results"]
    assert [row["usage"] for row in quarters] == [0, 0.085, 0.085, 0.025, 0.025]
    assert caller.usage(meter, "hour", start, end)["results"][1]["usage"] == 0.22


def test_a_spreadsheets_file_is_read(tmp_path):
    """A mark at its beginning, blanks and capitals in the header, empty lines, an empty end."""
    text = "\ufeffStart, Value\r\n2020-01-01T00:00:00Z,1\r\n\r\n2020-01-01T01:00:00Z,\r\n"
    series = read_series(write(tmp_path, "home.csv", text))
    assert series.register.total(1_577_836_800, 1_577_840_400) == 1


def test_a_bad_file_is_named_and_left_out(tmp_path):
    """The others are served; a file that is no gzip, no text, a folder, or no series."""
    make_series(tmp_path, "good.csv", "2020-01-01T00:00:00Z,1", "2020-01-01T01:00:00Z,1")
    make_series(tmp_path, "bad.csv", "2020-01-01T00:00:00Z,1", "yesterday,1")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"start,value\n" * 99)[:-12])
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"x" * 99)[:10] + b"\xff" * 30)
    (tmp_path / "latin.csv").write_bytes(b"start,value\n\xff,1\n")
    (tmp_path / "dir.csv").mkdir()
    folder = read_folder(tmp_path)
    assert [series.name for series in folder.series] == ["good.csv"]
    left_out = [line for line in folder.notices if line.startswith("Left out: ")]
    assert len(left_out) == 5
    for name in ("bad.csv, line 3", "cut.csv.gz", "torn.csv.gz", "latin.csv", "dir.csv"):
        assert any(name in line and "\n" not in line for line in left_out)


def read_uoms(caller) -> dict[str, str]:
    return {meter["type"]: meter["uom"] for meter in caller.get("meter").json()}


def test_a_unit_can_be_said(serve):
    """The list gives it, the values stay as they stand in the file; power is not in therm."""
    plain = serve(series_dir=FOLDER, now=None)
    said = serve(series_dir=FOLDER, series_units=("therm",), now=None)
    assert read_uoms(plain) == {"power": "kwh", "gas": "ccf"}
    assert read_uoms(said) == {"power": "kwh", "gas": "therm"}
    rows = read_rows("il-gas-hdd-only-hourly.csv.gz")[:25]
    meter = list(said.cloud.fleet.meters())[1]
    answer = said.usage(meter, "hour", stamp(rows[0][0]), stamp(rows[-1][0]))
    assert [Decimal(str(row["usage"])) for row in answer["results"][1:]] == [
        value for _, value in rows[:-1]
    ]
    query = {"granularity": "month", "start": stamp(rows[0][0]), "end": stamp(rows[-1][0])}
    total = said.get("aggregate/usage", meter_type="gas", **query).json()
    assert (total["uom"], Decimal(str(total["sum_energy"]))) == (
        "therm",
        sum(value for _, value in rows[:-1]),
    )


@pytest.mark.parametrize(
    ("said", "uoms"),
    [
        ((), {"gas-1.csv": ("gas", "ccf"), "home.csv": ("power", "kwh"), "w-water.csv": ("water", "gal")}),
        (("therm",), {"gas-1.csv": ("gas", "therm"), "home.csv": ("gas", "therm"), "w-water.csv": ("water", "gal")}),
        (("home.csv=wh", "m3"), {"gas-1.csv": ("gas", "m3"), "home.csv": ("power", "wh"), "w-water.csv": ("water", "m3")}),
        (("gas*=MJ", "kwh"), {"gas-1.csv": ("gas", "MJ"), "home.csv": ("power", "kwh"), "w-water.csv": ("water", "gal")}),
        (("furlong",), {"gas-1.csv": ("gas", "furlong"), "home.csv": ("power", "furlong"), "w-water.csv": ("water", "furlong")}),
    ],
)  # fmt: skip
def test_a_unit_goes_to_the_files_that_count_in_it(tmp_path, said, uoms):
    """A unit alone to each kind that knows it, and it makes the kind of a file whose name tells
    none; FILE=UNIT as it says; a unit nobody knows to all. What was not said is told."""
    for name in uoms:
        make_series(tmp_path, name, "2020-01-01T00:00:00Z,1", "2020-01-01T01:00:00Z,1")
    folder = read_folder(tmp_path, units=said)
    assert {series.name: (series.type, series.uom) for series in folder.series} == uoms
    standard = [name for name, (_, uom) in uoms.items() if uom in ("kwh", "ccf", "gal")]
    if "kwh" in said:
        standard.remove("home.csv")
    assert [line.partition(" ")[0] for line in folder.notices] == standard


@pytest.mark.parametrize("said", ["gal", "none.csv=therm", "=therm", "", "a b", "gas.csv="])
def test_a_unit_that_fits_no_file_is_refused(tmp_path, said):
    """Rather than left out in silence."""
    make_series(tmp_path, "gas.csv", "2020-01-01T00:00:00Z,1", "2020-01-01T01:00:00Z,1")
    with pytest.raises(ConfigError, match="series-unit"):
        read_folder(tmp_path, units=(said,))
