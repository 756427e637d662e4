"""What docs/csv.md shows is what the program writes, and its recipes work."""

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from held import rows_of

from copper_cli.records import Series
from copper_cli.render.meter_csv import ROWS_HEADER, SeriesFile, render_series

PAGE = (Path(__file__).parents[2] / "docs" / "csv.md").read_text(encoding="utf-8")
DENVER = ZoneInfo("America/Denver")
START_S = 1_608_620_400  # 2020-12-22T07:00:00Z
# The example's day, row at START first, as the local cloud answers it.
ENERGY = [
    *(2.3474, 2.329, 2.248, 2.1099, 1.9241, 1.7033, 1.4626, 1.2183, 0.9873, 0.7852, 0.6258, 0.52),
    *(0.4751, 0.4941, 0.5757, 0.7145, 0.9009, 1.1224, 1.3637, 1.6086, 1.8403, 2.043, 2.203, 2.3095),
    2.355,
]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def series(energy, value, actual, sum_energy):
    times = [START_S + 3600 * i for i in range(len(energy))]
    rest = [None] * (len(energy) - len(value))
    return Series(times, energy, energy, [*value, *rest], [*actual, *rest], sum_energy)


@pytest.fixture
def example():
    usage = series(ENERGY, [15515.48, 15517.81], [1551548, 1551781], 33.919276812557655)
    baseline = series([1.8779, 1.8632], [], [], 27.135421450046124)
    midnights = [datetime(2020, 12, day, tzinfo=DENVER) for day in (22, 23)]
    about = ("07:1095490886", "power", "kwh", "America/Denver", "hour", "usage", *midnights)
    return SeriesFile(*about, rows_of(usage), rows_of(baseline))


@pytest.mark.parametrize(("place", "layout"), list(enumerate(["rows", "columns", "plain"])))
def test_the_examples_are_real(example, place, layout):
    """Each layout's example is the head of the file the writer makes."""
    shown = blocks("csv")[place].replace("\n", "\r\n")
    assert "".join(render_series(example, layout)).startswith(shown)


def test_the_python_recipe_works(example, tmp_path, monkeypatch, capsys):
    """It prints what the page says: the sum of the rows is the cloud's."""
    (tmp_path / "generated").mkdir()
    text = "".join(render_series(example, "rows"))
    (tmp_path / "generated" / "07_1095490886.usage.csv").write_text(text, newline="")
    monkeypatch.chdir(tmp_path)
    (recipe,) = [block for block in blocks("python") if not block.startswith("# needs")]
    exec(compile(recipe, "docs/csv.md", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert printed == "33.919 of 33.919 kwh"
    assert f"`{printed}`" in PAGE


def test_the_page_tells_of_every_column():
    """The table of meanings leaves none out."""
    for name in ROWS_HEADER.strip().split(",")[1:]:
        assert f"`{name}`" in PAGE


def test_the_spreadsheet_range_is_the_day(example):
    """K4:K27 are the 24 hours after the row at START in line 3."""
    lines = "".join(render_series(example, "rows")).splitlines()
    assert lines[2].split(",")[9] == lines[1].split(",")[6]
    assert sum(float(line.split(",")[10]) for line in lines[3:27]) == pytest.approx(
        33.9193, abs=1e-9
    )
