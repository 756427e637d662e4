"""--csv-output-file that would hit a file of the download itself, or cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import Copper, FixedCloud

USAGE = ("meter", "usage", "2021-03-01", "2021-03-02")
DUMP = ("dump", "foo", "2021-03-01", "2021-03-02", "hour")
READINGS = ("meter", "readings", "2021-03-01", "2021-03-01")
GRID = ("grid", "readings", "2021-03-01", "2021-03-01")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def first_meter_file(cloud: Sandbox, ending: str) -> str:
    """By the rule of docs/csv.md: a colon becomes an underscore."""
    return next(iter(cloud.fleet.meters())).id.replace(":", "_") + ending


BOOKS = [
    "manifest.json",
    "MANIFEST.json",
    ".copper.lock",
    ".manifest.journal",
    ".manifest.stamps",
    ".bundle.stamp",
    ".07_1.usage.csv.draft",
]


@pytest.mark.parametrize("spelling", ["{}", "./{}", "x/../{}", "../out/{}"])
@pytest.mark.parametrize("name", BOOKS)
def test_the_books_of_a_folder(
    fixed: FixedCloud, copper: Copper, work: Path, name: str, spelling: str
) -> None:
    """Refused before any call, however the path is spelt."""
    ended = copper(*USAGE, "--output-dir", "out", "--csv-output-file", spelling.format(name))
    assert (ended.code, ended.out, fixed.asked) == (2, "", [])
    assert "which a download keeps there; give it another name." in ended.err
    assert not (work / "out").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_meter_s_own_file(
    cloud: Sandbox, copper: Copper, work: Path, dry: tuple[str, ...]
) -> None:
    """Its name is known after the list: refused before any other call, and nothing is written."""
    for line, ending in ((USAGE, ".usage.csv"), (READINGS, ".csv")):
        name = first_meter_file(cloud, ending)
        before = cloud.calls
        ended = copper(*line, "--no-cache", "--output-dir", "out", "--csv-output-file", name, *dry)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"copper: --csv-output-file is out/{name}, which this command writes itself; "
            "give it another name.\n"
        )
        assert cloud.calls == before + 2
        assert not (work / "out").exists()


def test_a_gateway_s_own_file(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """As a meter's."""
    assert copper(*GRID, "--output-dir", "out").code == 0
    before = contents(work)
    name = next(p.name for p in (work / "out").glob("*.csv"))
    ended = copper(*GRID, "--output-dir", "out", "--overwrite", "--csv-output-file", name.upper())
    assert (ended.code, contents(work)) == (2, before)


def test_through_a_link(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """A link to the folder, and one to the file, lead to the same."""
    name = first_meter_file(cloud, ".usage.csv")
    (work / "out").mkdir()
    (work / "same").symlink_to("out")
    (work / "table.csv").symlink_to(f"out/{name}")
    for path in (f"../same/{name}", "../table.csv"):
        ended = copper(*USAGE, "--output-dir", "out", "--csv-output-file", path)
        assert ended.code == 2
        assert "which this command writes itself" in ended.err
    assert list((work / "out").iterdir()) == []


@pytest.mark.parametrize("line", [USAGE, ("premise",), ("quota",)])
def test_a_file_that_an_earlier_download_keeps(
    cloud: Sandbox, copper: Copper, work: Path, line: tuple[str, ...]
) -> None:
    """Also by a command that downloads nothing, or other meters: no call, all is as it was."""
    assert copper(*USAGE, "--output-dir", "out").code == 0
    assert copper(*DUMP, "--output-dir", "out").code == 0
    before, calls = contents(work), cloud.calls
    name = first_meter_file(cloud, ".usage.csv")
    for kept in (name, "manifest.json", f"foo/2021-03-01/{name}", "foo/manifest.json"):
        ended = copper(*line, "--output-dir", "out", "--csv-output-file", kept)
        assert (ended.code, ended.out) == (2, "")
        assert f"{work}/out/{kept}, which a download keeps there" in ended.err
    assert (contents(work), cloud.calls) == (before, calls)


def test_the_other_files_of_a_dump(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """A day's file, a day's summary and the ZIP."""
    assert copper(*DUMP).code == 0
    (bundle,) = (work / "generated").glob("foo.*.zip")
    usage = first_meter_file(cloud, ".usage.csv")
    names = [bundle.name, "foo/2021-03-02/meter_summary.csv", f"foo/2021-03-02/{usage}"]
    for path in (work / "generated" / "foo").rglob("*"):
        if path.is_file():
            path.unlink()
    bundle.unlink()
    for name in names:
        ended = copper(*DUMP, "--csv-output-file", f"generated/{name}")
        assert (ended.code, "which this command writes itself" in ended.err) == (2, True)
    assert contents(work / "generated") == {}


def test_what_reports_write_besides(fixed: FixedCloud, copper: Copper, work: Path) -> None:
    """The notes of a month, the ZIP of a partner: no call."""
    line = ("report", "monthly", "2021-03", "--output-dir", "out", "--csv-output-file")
    ended = copper(*line, "README.txt")
    assert (ended.code, fixed.asked) == (2, [])
    assert "out/readme.txt, which this command writes itself" in ended.err
    assert copper("report", "partner", "acme", "--output-dir", "out").code == 0
    (bundle,) = (work / "out").iterdir()
    asked = len(fixed.asked)
    line = ("report", "partner", "acme", "--output-dir", "out", "--csv-output-file")
    assert (copper(*line, bundle.name).code, len(fixed.asked)) == (2, asked)


@pytest.mark.parametrize("line", [USAGE, ("premise",), ("grid", "latest")])
def test_what_cannot_be_written(
    fixed: FixedCloud, copper: Copper, work: Path, line: tuple[str, ...]
) -> None:
    """A folder is exit 2, what the disk refuses 7; both before any call."""
    (work / "folder").mkdir()
    (work / "file").write_text("")
    for given, code in (
        (("--csv-output-file", "folder"), 2),
        (("--output-dir", ".", "--csv-output-file", "folder"), 2),
        (("--csv-output-file", "file/x.csv"), 7),
        (("--csv-output-file", "/proc/x/y.csv"), 7),
    ):
        ended = copper(*line, *given)
        assert (ended.code, ended.out, fixed.asked) == (code, "", [])
        assert len(ended.err.splitlines()) == 1


def test_a_table_beside_the_files(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """The usual case: a name of its own in the download's folder, again and again."""
    for _ in range(2):
        ended = copper(*USAGE, "--output-dir", "out", "--csv-output-file", "meter_summary.csv")
        assert ended.code == 0
    assert "meter_summary.csv" not in json.loads((work / "out/manifest.json").read_text())["files"]


def test_a_table_through_a_link(cloud: Sandbox, copper: Copper, work: Path, tmp_path: Path) -> None:
    """What a person names is taken at its word: the link stays, its file is written."""
    (tmp_path / "real.csv").write_text("old")
    (work / "table.csv").symlink_to(tmp_path / "real.csv")
    assert copper("premise", "--csv-output-file", "table.csv").code == 0
    assert (work / "table.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() != "old"
