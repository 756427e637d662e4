import csv
import io
import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from held import rows_of
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.layouts import LAYOUTS
from copper_cli.records import GridSeries, Reading, Series
from copper_cli.render.meter_csv import (
    SeriesFile,
    render_grid,
    render_readings,
    render_series,
)

DENVER = ZoneInfo("America/Denver")
MIDNIGHT_S = 1_608_620_400  # 2020-12-22T07:00:00Z


def series(energy, *, power=None, value=None, actual=None, sum_energy=None, first_s=MIDNIGHT_S):
    blank = [None] * len(energy)
    return Series(
        [first_s + 3600 * i for i in range(len(energy))],
        energy,
        power or energy,
        value or blank,
        actual or blank,
        sum_energy,
    )


def series_file(rows, kind="usage", baseline=None, **kwargs):
    about = {
        "meter_id": "07:57277300",
        "meter_type": "power_net",
        "uom": "kwh",
        "timezone": "America/Denver",
        "granularity": "hour",
        "start": datetime(2020, 12, 22, tzinfo=DENVER),
        "end": datetime(2021, 1, 12, tzinfo=DENVER),
    }
    shown = {"series": rows_of(rows), "baseline": rows_of(baseline)}
    return SeriesFile(**{**about, **kwargs}, **shown, kind=kind)


def render(file, layout, **kwargs):
    return "".join(render_series(file, layout, **kwargs))


USAGE = series(
    [1.1176, 1.084, None],
    value=[1660.26, 1661.34, None],
    actual=[166026, 166134, None],
    sum_energy=314.518957325874,
)


def test_plain_is_the_reference_file_byte_for_byte():
    """Three columns, local time without offset, numbers as the cloud sent them, CRLF."""
    rows = series([1.1176, 1.084, 1.019, None])
    assert render(series_file(rows), "plain") == (
        "timestamp,energy,power\r\n"
        "2020-12-22 00:00:00,1.1176,1.1176\r\n"
        "2020-12-22 01:00:00,1.084,1.084\r\n"
        "2020-12-22 02:00:00,1.019,1.019\r\n"
        "2020-12-22 03:00:00,,\r\n"
    )


def test_rows_starts_each_line_with_its_kind():
    """A summary line, then a line a bucket; what a line has nothing to say of is empty."""
    about = "07:57277300,power_net,kwh,America/Denver,hour"
    assert render(series_file(USAGE), "rows") == (
        "record,meter_id,meter_type,uom,timezone,granularity,start,end,sum_energy,"
        "timestamp,energy,power,value,actual\r\n"
        f"usage_summary__,{about},2020-12-22T00:00:00-07:00,2021-01-12T00:00:00-07:00,"
        "314.518957325874,,,,,\r\n"
        f"usage_result__,{about},,,,2020-12-22T00:00:00-07:00,1.1176,1.1176,1660.26,166026\r\n"
        f"usage_result__,{about},,,,2020-12-22T01:00:00-07:00,1.084,1.084,1661.34,166134\r\n"
        f"usage_result__,{about},,,,2020-12-22T02:00:00-07:00,,,,\r\n"
    )


def test_rows_with_baseline_has_its_lines_after_the_usage():
    """`baseline_summary__` and `baseline_result__` follow, in the same columns."""
    text = render(series_file(USAGE, baseline=series([7.1721], sum_energy=0)), "rows")
    about = "07:57277300,power_net,kwh,America/Denver,hour"
    assert text.endswith(
        f"baseline_summary__,{about},2020-12-22T00:00:00-07:00,2021-01-12T00:00:00-07:00,0,,,,,\r\n"
        f"baseline_result__,{about},,,,2020-12-22T00:00:00-07:00,7.1721,7.1721,,\r\n"
    )


@pytest.mark.parametrize(
    ("kind", "prefix"), [("baseline-series", "baseline"), ("average-series", "average")]
)
def test_the_other_series_carry_their_own_prefix(kind, prefix):
    """In rows as the kind of a line, in columns in the names; they have no register."""
    rows = series([7.1721], sum_energy=7.1721)
    lines = render(series_file(rows, kind=kind), "rows").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        f"{prefix}_summary__",
        f"{prefix}_result__",
    ]
    assert render(series_file(rows, kind=kind), "columns") == (
        f"{prefix}_summary__meter_id,{prefix}_summary__meter_type,{prefix}_summary__uom,"
        f"{prefix}_summary__sum_energy,"
        f"{prefix}_result__time,{prefix}_result__energy,{prefix}_result__power\r\n"
        "07:57277300,power_net,kwh,7.1721,2020-12-22T00:00:00-07:00,7.1721,7.1721\r\n"
    )


def test_columns_has_a_line_a_bucket():
    """The summary is repeated on each line."""
    assert render(series_file(USAGE), "columns") == (
        "usage_summary__meter_id,usage_summary__meter_type,usage_summary__uom,"
        "usage_summary__sum_usage,usage_result__time,usage_result__usage,usage_result__power,"
        "usage_result__value,usage_result__actual\r\n"
        "07:57277300,power_net,kwh,314.518957325874,2020-12-22T00:00:00-07:00,1.1176,1.1176,1660.26,166026\r\n"
        "07:57277300,power_net,kwh,314.518957325874,2020-12-22T01:00:00-07:00,1.084,1.084,1661.34,166134\r\n"
        "07:57277300,power_net,kwh,314.518957325874,2020-12-22T02:00:00-07:00,,,,\r\n"
    )


def test_columns_pairs_the_baseline_by_time():
    """An instant that only one side has is there with the other side empty."""
    usage = series([1.5, 2.5], sum_energy=4.0)
    baseline = series([7.0, 8.0], sum_energy=15.0, first_s=MIDNIGHT_S + 3600)
    text = render(series_file(usage, baseline=baseline), "columns")
    header, *lines = list(csv.reader(io.StringIO(text, newline="")))
    assert header[9:] == [
        "baseline_summary__sum_energy",
        "baseline_result__time",
        "baseline_result__energy",
        "baseline_result__power",
    ]
    at = [f"2020-12-22T{hour:02}:00:00-07:00" for hour in range(3)]
    summary = ["07:57277300", "power_net", "kwh", "4.0"]
    assert lines == [
        [*summary, at[0], "1.5", "1.5", "", "", "15.0", "", "", ""],
        [*summary, at[1], "2.5", "2.5", "", "", "15.0", at[1], "7.0", "7.0"],
        [*summary, "", "", "", "", "", "15.0", at[2], "8.0", "8.0"],
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_that_are_none_are_empty(layout):
    """Missing, NaN and infinite are empty cells, never 0 and never a word."""
    rows = series([math.nan, None, math.inf, 0, -0.5], sum_energy=math.nan)
    text = render(series_file(rows, timezone="UTC"), layout)
    lines = [line.split(",") for line in text.splitlines()]
    place = lines[0].index({"plain": "energy", "rows": "energy"}.get(layout, "usage_result__usage"))
    assert [line[place] for line in lines[-5:]] == ["", "", "", "0", "-0.5"]
    assert not {"nan", "inf", "None"} & {cell for line in lines for cell in line}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 9000])
def test_every_row_is_written_once_whatever_the_chunks(layout, count):
    """Files of any length have a line a row, in order, all lines equally wide."""
    rows = series([float(i) for i in range(count)], sum_energy=1.0)
    text = render(series_file(rows), layout)
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(line) for line in lines}) == 1
    place = next(
        i
        for i, name in enumerate(lines[0])
        if name.endswith(("energy", "__usage")) and "sum" not in name
    )
    first = 2 if layout == "rows" else 1
    assert [line[place] for line in lines[first:]] == [repr(float(i)) for i in range(count)]


HOSTILE = ["../../etc/passwd", "=cmd|' /C calc'!A0", 'a"b,c', "x\r\ny", "\x1b[2J", "\ud800"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hostile_names_stay_in_their_cell(text, layout):
    """Whatever the cloud calls a meter, the file is a rectangle of one line a row."""
    file = series_file(USAGE, meter_id=text, meter_type=text, uom=text, granularity=text)
    out = render(file, layout)
    lines = list(csv.reader(io.StringIO(out, newline="")))
    assert len({len(line) for line in lines}) == 1
    assert len(out.splitlines()) == len(lines)
    assert not any(cell.startswith("=") for line in lines for cell in line)
    out.encode()


def test_raw_cells_are_not_defused():
    """A program that reads the file may ask for the text as it is."""
    file = series_file(USAGE, meter_id="=1")
    assert "\r\nusage_summary__,=1," in render(file, "rows", raw_cells=True)
    assert "\r\nusage_summary__,'=1," in render(file, "rows")


NUMBERS = (
    st.none() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.lists(NUMBERS, max_size=30))
def test_numbers_come_back_as_they_were(energy):
    """Reading a cell as a number gives exactly what the cloud sent."""
    text = render(series_file(series(energy)), "plain")
    cells = [line[1] for line in csv.reader(io.StringIO(text, newline=""))][1:]
    assert [None if cell == "" else float(cell) for cell in cells] == [
        None if number is None else float(number) for number in energy
    ]


FEW = st.sampled_from([0.0, -0.0, 1.5, 2.25, 1e16, 1e-7, 3, 0, None, math.nan, math.inf, -math.inf])


@given(st.lists(st.lists(FEW, max_size=200), max_size=5))
def test_numbers_are_written_as_python_writes_them(columns):
    """Also where they come again and again, minus zero and whole numbers among them."""
    for energy in columns:
        for power in (energy, energy[::-1], [0.0 if e == 0 else e for e in energy]):
            text = render(series_file(series(energy, power=power)), "plain")
            cells = [line[1:] for line in csv.reader(io.StringIO(text, newline=""))][1:]
            told = [
                ["" if n is None or not math.isfinite(n) else repr(n) for n in c]
                for c in (energy, power)
            ]
            assert cells == list(map(list, zip(*told, strict=True)))


def test_readings_are_the_reference_file_with_the_right_units():
    """Sorted by time; Actual in the meter's unit, Normalized in the standard one."""
    rows = [
        Reading(datetime(2021, 12, 22, 8, 7, 13, tzinfo=UTC), 291346, 2913.46),
        Reading(datetime(2021, 12, 22, 7, 7, 13, tzinfo=UTC), 291331, 2913.31),
        Reading(datetime(2021, 12, 22, 9, 7, 13, tzinfo=UTC), None, None),
    ]
    text = "".join(render_readings("12:08834954", "gas", "ccf", "America/Denver", rows))
    assert text == (
        "ID,Type,Timestamp,Actual (ccf),Normalized (ccf)\r\n"
        "12:08834954,gas,2021-12-22 00:07:13,291331,2913.31\r\n"
        "12:08834954,gas,2021-12-22 01:07:13,291346,2913.46\r\n"
        "12:08834954,gas,2021-12-22 02:07:13,,\r\n"
    )


@pytest.mark.parametrize(
    ("meter_type", "uom", "actual", "normalised"),
    [
        ("gas", "cf", "Actual (cf)", "Normalized (ccf)"),
        ("power", None, "Actual", "Normalized (kwh)"),
        ("steam", "lb", "Actual (lb)", "Normalized (lb)"),
        ("steam", None, "Actual", "Normalized"),
    ],
)
def test_readings_name_no_unit_that_nobody_knows(meter_type, uom, actual, normalised):
    """Without a unit the column has its bare name."""
    header = next(render_readings("1", meter_type, uom, "UTC", []))
    assert header == f"ID,Type,Timestamp,{actual},{normalised}\r\n"


def test_grid_is_the_reference_file():
    """Volts and hertz by local time without an offset, a part of a second where there is one."""
    at = int(datetime(2022, 1, 20, 7, 2, tzinfo=UTC).timestamp()) * 1_000_000
    pieces = [
        GridSeries([at], [118.85], [59.989]),
        GridSeries([at + 900_000_000, at + 900_250_000], [119.19, 7], [None, 60]),
    ]
    assert "".join(render_grid("17e14b2eeba1", "America/Denver", pieces)) == (
        "Gateway ID,Timestamp,Voltage,Frequency\r\n"
        "17e14b2eeba1,2022-01-20 00:02:00,118.85,59.989\r\n"
        "17e14b2eeba1,2022-01-20 00:17:00,119.19,\r\n"
        "17e14b2eeba1,2022-01-20 00:17:00.250000,7,60\r\n"
    )
