import csv
import io
import math
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.render.cells import as_cell, csv_lines, defuse, escape_json, tidy
from copper_cli.text import clean

PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\tx",
        "\rx",
        "  =1",
        "\u00a0=1",
        "\u200b=1",
        "\ufeff=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "﹦1",
        "\u22121+1",
        "-",
    ],
)
def test_formulas_are_defused(text):
    """A cell that a spreadsheet could run starts with an apostrophe instead."""
    assert defuse(text) == "'" + text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a=1",
        "07:57277300",
        "-5",
        "+5",
        "-12.500",
        "-.5",
        "1e5",
        "-1E-5",
        "5-",
        "'=1",
        " ",
        "日本",
        "(x)",
    ],
)
def test_numbers_and_plain_text_are_left(text):
    """Numbers never get an apostrophe, a minus sign in front or not."""
    assert defuse(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Pearl St", "Pearl St"),
        ("日本 é", "日本 é"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x7f\x85\x9b31m", r"\x7f\x85\x9b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_terminals_see_controls_and_do_not_obey_them(text, shown):
    """Control characters, direction overrides and line separators are spelt out."""
    assert clean(text) == shown


@given(st.text())
def test_cleaned_text_holds_no_control_character(text):
    """Whatever the cloud sends, a terminal gets one line without controls."""
    assert not any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in clean(text))
    assert len(clean(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a\r\nb\nc\rd", "a b c d"),
        ("a\u2028b\x85c\vd", "a b c d"),
        ("a\tb", "a\tb"),
        ("\x1b[31mred", "\ufffd[31mred"),
        ("a\x00b\x9bc\u202ed\ud800", "a\ufffdb\ufffdc\ufffdd\ufffd"),
    ],
)
def test_csv_text_is_one_line_without_controls(text, cell):
    """Line breaks become spaces and controls U+FFFD, since CSV on stdout may meet a terminal."""
    assert tidy(text) == cell
    assert as_cell(text, raw_cells=True) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (math.nan, ""),
        (-math.inf, ""),
        (True, True),
        (-5, -5),
        (0.1, 0.1),
        (["a", "b"], "['a', 'b']"),
        (("a",), "['a']"),
        (datetime(2022, 3, 28, 17, 49, tzinfo=UTC), "2022-03-28 17:49:00+00:00"),
        ("=1", "'=1"),
    ],
)
def test_cells_of_every_kind(value, cell):
    """Numbers stay numbers, what is none is empty, lists look as Python writes them."""
    assert as_cell(value) == cell


@given(st.lists(st.lists(PRINTABLE, min_size=2, max_size=4), max_size=4))
def test_raw_cells_come_back_as_they_were(rows):
    """Any printable text, quotes and commas included, survives a CSV reader."""
    text = "".join(csv_lines(rows, raw_cells=True))
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_cell_of_any_text_can_run_or_break_the_line(row):
    """One row is one line, and no cell of it starts like a formula unless it is a number."""
    (line,) = csv_lines([row])
    assert line.endswith("\r\n")
    assert len(line.splitlines()) == 1
    (cells,) = csv.reader(io.StringIO(line, newline=""))
    for cell in cells:
        if cell.lstrip()[:1] in ("=", "+", "-", "@") and cell:
            float(cell)


def test_json_escapes_are_the_same_json():
    """What a terminal could obey is escaped; a JSON reader sees no difference."""
    import json

    text = json.dumps({"a": "\x9b\u202e\ud800é\ufeff"}, ensure_ascii=False)
    assert escape_json(text) == r'{"a": "\u009b\u202e\ud800é\ufeff"}'
    assert json.loads(escape_json(text)) == json.loads(text)
