import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from copper_cli.render.tables import render_console, render_csv, render_json, render_ndjson
from copper_cli.table import Column, Table

MDT = timezone(timedelta(hours=-6))


def three_decimals(value):
    return None if value is None else f"{value:.3f}"


TABLE = Table(
    "Bulk meter download",
    [
        Column("ID", "id"),
        Column("Latest Timestamp", "latest_timestamp"),
        Column("Latest Value", "latest_value", three_decimals),
        Column("Verified", "verified", hidden=True),
    ],
    [
        ("07:57277300", datetime(2022, 3, 28, 11, 49, tzinfo=MDT), 13170.38, True),
        ("0012", None, None, False),
    ],
    {"calls": 2},
)


def test_console_shows_title_rows_and_an_underlined_header():
    """Numbers stand to the right by what they are; ids keep their zeros; hidden stays hidden."""
    assert render_console(TABLE) == (
        "Bulk meter download (rows=2):\n"
        "ID           Latest Timestamp             Latest Value\n"
        "-----------  -------------------------  --------------\n"
        "07:57277300  2022-03-28 11:49:00-06:00       13170.380\n"
        "0012"
    )


def test_console_never_reads_text_as_a_number():
    """An id that looks like a number is text: left, and written as it is."""
    table = Table(
        "T", [Column("ID", "id"), Column("N", "n")], [("1e5", 5), ("0012", None), ("07:1", -7)]
    )
    assert render_console(table).splitlines()[3:] == ["1e5     5", "0012", "07:1   -7"]


def test_console_of_no_rows_shows_the_header():
    """An empty answer is an answer."""
    lines = render_console(Table("T", TABLE.columns, [])).splitlines()
    assert lines[0] == "T (rows=0):"
    assert lines[1].split("  ")[0] == "ID"
    assert set(lines[2]) == {"-", " "}


def test_console_takes_every_kind_of_value():
    """Lists as Python writes them, truth values as words and to the left, NaN as nothing."""
    columns = [Column(name, name) for name in "abc"]
    table = Table("T", columns, [(["x", "y"], True, math.nan), ([], False, 1.5)])
    assert render_console(table).splitlines()[3:] == ["['x', 'y']  True", "[]          False  1.5"]


def test_a_console_cell_may_say_more_than_the_csv():
    """A column's `console` sees the whole row; CSV and JSON do not change."""

    def mark(row):
        return f"{row[0]} ?" if not row[1] else row[0]

    columns = [Column("V", "v", console=mark), Column("Ok", "ok", hidden=True)]
    table = Table("T", columns, [(5.0, False), (6.0, True)])
    assert render_console(table).splitlines()[3:] == ["5.0 ?", "  6.0"]
    assert "".join(render_csv(table)) == "V\r\n5.0\r\n6.0\r\n"


def test_console_is_safe_from_hostile_text():
    """Escape sequences, line breaks and overrides in any cell, header or title are spelt out."""
    table = Table("T\x1b[2J", [Column("H\nh", "h")], [("\x1b]0;x\x07\u202e",), ("\x01",)])
    assert render_console(table).splitlines() == [
        r"T\x1b[2J (rows=2):",
        r"H\x0ah",
        "------------------",
        r"\x1b]0;x\x07\u202e",
        r"\x01",
    ]


def test_csv_is_what_scripts_know():
    """Header, CRLF, None empty, times as str() of them, hidden columns left out."""
    assert "".join(render_csv(TABLE)) == (
        "ID,Latest Timestamp,Latest Value\r\n"
        "07:57277300,2022-03-28 11:49:00-06:00,13170.380\r\n"
        "0012,,\r\n"
    )


def test_csv_cells_of_other_kinds():
    """Tags as a Python list, numbers in full, truth as a word, formulas defused unless raw."""
    columns = [Column(name, name) for name in "abcd"]
    table = Table("T", columns, [(["b", "c"], 314.518957325874, True, "=1,2")])
    assert (
        "".join(render_csv(table))
        == "a,b,c,d\r\n\"['b', 'c']\",314.518957325874,True,\"'=1,2\"\r\n"
    )
    assert "".join(render_csv(table, raw_cells=True)).endswith(',"=1,2"\r\n')


def test_json_tells_values_and_facts():
    """Values rather than their text, hidden columns too, times with their offset."""
    assert json.loads(render_json(TABLE)) == {
        "title": "Bulk meter download",
        "rows": [
            {
                "id": "07:57277300",
                "latest_timestamp": "2022-03-28T11:49:00-06:00",
                "latest_value": 13170.38,
                "verified": True,
            },
            {"id": "0012", "latest_timestamp": None, "latest_value": None, "verified": False},
        ],
        "calls": 2,
    }


def test_json_has_a_row_a_line():
    """So that a diff of two answers shows the rows that differ."""
    lines = render_json(TABLE).splitlines()
    assert lines[3].startswith('    {"id": "07:57277300"')
    assert lines[4].startswith('    {"id": "0012"')


def test_json_of_no_rows():
    """An empty list, not a missing one."""
    assert json.loads(render_json(Table("T", TABLE.columns, []))) == {"title": "T", "rows": []}


def test_facts_do_not_replace_title_or_rows():
    """What a table is cannot be overwritten by what is said of it."""
    table = Table(
        "T",
        [],
        [],
        {"title": "other", "rows": 5, "more": {"seen": datetime(2022, 1, 1, tzinfo=UTC)}},
    )
    assert json.loads(render_json(table)) == {
        "title": "T",
        "rows": [],
        "more": {"seen": "2022-01-01T00:00:00+00:00"},
    }


def test_json_never_says_nan():
    """NaN and infinities are null, however deep."""
    facts = {
        "deep": {"list": [math.nan, 1.5, (math.inf,)]},
        "flat": -math.inf,
        "text": "nan",
        "n": [2.5, "x", None, math.nan],
    }
    table = Table("T", [Column("A", "a")], [(math.nan,)], facts)
    assert json.loads(render_json(table)) == {
        "title": "T",
        "rows": [{"a": None}],
        "deep": {"list": [None, 1.5, [None]]},
        "flat": None,
        "text": "nan",
        "n": [2.5, "x", None, None],
    }


def test_json_of_values_it_has_no_form_for():
    """Other mappings and sequences become JSON's, anything else its text."""
    from pathlib import PurePosixPath
    from types import MappingProxyType

    facts = {"map": MappingProxyType({"a": 1}), "set": {1}, "path": PurePosixPath("a/b")}
    assert json.loads(render_json(Table("T", [], [], facts))) == {
        "title": "T",
        "rows": [],
        "map": {"a": 1},
        "set": [1],
        "path": "a/b",
    }


@given(st.text(st.characters(exclude_categories=[])))
def test_json_is_safe_and_exact_for_any_text(text):
    """A terminal sees no control character, a reader gets the very text back."""
    table = Table(text, [Column("A", "a")], [(text,)], {"fact": text})
    found = render_json(table)
    assert json.loads(found) == {"title": text, "rows": [{"a": text}], "fact": text}
    assert not any(ord(sign) < 32 and sign != "\n" for sign in found)
    assert not any(127 <= ord(sign) < 160 or 0x202A <= ord(sign) <= 0x202E for sign in found)
    found.encode()


def test_ndjson_has_one_object_a_line():
    """Rows only: what jq and DuckDB read."""
    lines = "".join(render_ndjson(TABLE)).splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["07:57277300", "0012"]


@given(st.lists(st.tuples(st.text(), st.none() | st.integers()), max_size=20))
def test_csv_has_a_line_a_row_for_any_text(rows):
    """The number of rows is the number of lines, whatever is in them."""
    table = Table("T", [Column("A", "a"), Column("B", "b")], rows)
    text = "".join(render_csv(table))
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == len(rows) + 1
    assert text.count("\n") == len(rows) + 1
