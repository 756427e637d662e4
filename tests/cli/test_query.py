"""copper query, as it is typed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import PROGRAM, Copper

USAGE = ("meter", "usage", "2022-03-01", "2022-03-03", "--granularity", "hour")


@pytest.fixture
def held(cloud: Sandbox, copper: Copper) -> Sandbox:
    """Two days of four meters are held, none of them published."""
    assert copper(*USAGE).code == 0
    return cloud


def test_it_sees_what_was_fetched_and_makes_no_call(held: Sandbox, copper: Copper) -> None:
    """Without a word of publishing, and without credentials."""
    before = held.calls
    ended = copper("query", "SELECT count(*) AS n, count(DISTINCT meter_id) AS meters FROM usage")
    assert (ended.code, held.calls) == (0, before)
    assert ended.lines == [
        "",
        "Query (rows=1):",
        "  n    meters",
        "---  --------",
        "192         4",
        "complete!",
    ]


def test_formats(held: Sandbox, copper: Copper) -> None:
    """The same rows in each; instants with their offset."""
    sql = "SELECT meter_id, start_utc, energy FROM usage ORDER BY 1, 2"
    rows = copper("query", sql, "--format", "json").json["rows"]
    assert len(rows) == 192
    assert rows[0]["start_utc"] == "2022-03-01T07:00:00+00:00"
    lines = copper("query", sql, "--format", "ndjson").lines
    assert [json.loads(line) for line in lines] == rows
    found = list(csv.DictReader(io.StringIO(copper("query", sql, "--format", "csv").out)))
    assert [{**row, "energy": float(row["energy"])} for row in found] == rows
    assert copper("query", "FROM usage WHERE false", "--format", "json").json == {
        "title": "Query",
        "rows": [],
    }


def test_values_of_all_kinds(held: Sandbox, copper: Copper) -> None:
    """Numbers are numbers, the rest is text, null is empty; a name is there once."""
    sql = """SELECT 1.5 AS a, 1::HUGEINT AS b, NULL AS c, DATE '2022-03-01' AS d, [1, 2] AS e,
             {'x': 1.5} AS f, 'nan'::DOUBLE AS g, TIMESTAMP '2022-03-01 00:00' AS h, true AS a,
             INTERVAL 36 HOUR AS i"""
    (row,) = copper("query", sql, "--format", "json").json["rows"]
    assert row == {
        "a": 1.5, "b": 1, "c": None, "d": "2022-03-01", "e": [1, 2], "f": {"x": 1.5}, "g": None,
        "h": "2022-03-01T00:00:00", "a_2": True, "i": "1 day, 12:00:00",
    }  # fmt: skip


def test_cells_are_defused(held: Sandbox, copper: Copper) -> None:
    """As in every CSV, unless --raw-cells says otherwise; a number is none."""
    sql = "SELECT '=1+1' AS a, '@x' AS b, -1 AS c, -1.5 AS d"
    assert copper("query", sql, "--format", "csv").lines[1] == "'=1+1,'@x,-1,-1.5"
    assert copper("query", sql, "--format", "csv", "--raw-cells").lines[1] == "=1+1,@x,-1,-1.5"


def test_files(held: Sandbox, copper: Copper, work: Path) -> None:
    """By the name's ending, within --output-dir; each whole, nothing beside it."""
    import duckdb

    for name in ("a.csv", "a.json", "a.ndjson", "a.parquet"):
        ended = copper("query", "FROM usage ORDER BY ALL", "-o", name, "--output-dir", "out")
        assert (ended.code, ended.lines) == (0, ["complete!"])
        assert f"192 rows in out/{name}." in ended.err
    assert len(json.loads((work / "out/a.json").read_text())["rows"]) == 192
    counts = [
        duckdb.sql(f"SELECT count(*), sum(energy) FROM '{work}/out/a.{name}'").fetchall()[0]
        for name in ("csv", "ndjson", "parquet")
    ]
    assert counts[0][0] == 192
    assert len({(count, round(total, 6)) for count, total in counts}) == 1
    assert len(list((work / "out").iterdir())) == 4
    ended = copper("query", "FROM usage", "--csv-output-file", "t.csv")
    assert (ended.code, len((work / "t.csv").read_text().splitlines())) == (0, 193)
    for name, told in (
        ("a.txt", "ending"),
        ("generated", "is a "),
        ("generated/manifest.json", ""),
    ):
        ended = copper("query", "FROM usage", "-o", name)
        assert (ended.code, told in ended.err) == (2, True), name


def test_a_mistake_leaves_the_file_as_it_was(held: Sandbox, copper: Copper, work: Path) -> None:
    """Also one that shows after thousands of rows."""
    (work / "a.csv").write_text("mine")
    late = "SELECT CASE WHEN i = 90000 THEN error('late') ELSE i END AS i FROM range(100000) t(i)"
    for sql in ("SELEC 1", late):
        assert copper("query", sql, "-o", "a.csv").code == 2
        assert (work / "a.csv").read_text() == "mine"
        assert copper("query", sql, "-o", "b.parquet").code == 2
    assert [one.name for one in work.iterdir() if one.is_file()] == ["a.csv"]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1 +", 'copper: SQL, line 1, column 10: syntax error at or near "+".'),
        ("FROM usages", 'Table with name usages does not exist. Did you mean "usage"?'),
        ("SELECT nrg\nFROM usage", "line 1, column 8: Referenced column"),
        ("SELECT 'x'::INT", "column 11: Could not convert string 'x' to INT32."),
        ("COPY usage TO 'x.csv'", "copper: COPY is not allowed here"),
        ("ATTACH 'x.db'", "copper: ATTACH is not allowed here"),
        ("INSTALL httpfs", "copper: INSTALL is not allowed here"),
        ("SET threads = 1", "copper: SET is not allowed here"),
        ("SELECT * FROM read_csv('/etc/passwd')", "only the views can be asked"),
        ("", "there is no question"),
        ("/* nothing */", "there is no question"),
    ],
)
def test_what_is_refused(held: Sandbox, copper: Copper, sql: str, told: str) -> None:
    """One line, exit code 2, nothing on stdout."""
    ended = copper("query", sql)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert told in ended.err


def test_granularities_are_not_added_up_unawares(held: Sandbox, copper: Copper) -> None:
    """A line says so, unless the question names them or there is one alone."""
    sql = "SELECT sum(energy) FROM usage"
    assert "granularity" not in copper("query", sql).err
    assert (
        copper("meter", "usage", *USAGE[2:4], "--granularity", "day", "--output-dir", "d").code == 0
    )
    told = copper("query", sql)  # publishes the days
    told = copper("query", sql)
    assert told.code == 0
    assert (
        "usage holds the same energy by hour and by day: say WHERE granularity = 'day'" in told.err
    )
    assert "holds" not in copper("query", f"{sql} WHERE granularity = 'hour'").err
    assert "holds" not in copper("query", "SELECT count(*) FROM meters").err


def test_a_table_ends_after_a_thousand_rows(held: Sandbox, copper: Copper) -> None:
    """And says that there are more."""
    ended = copper("query", "FROM range(1001)")
    assert "Query (rows=1000):" in ended.lines
    assert "Only the first 1,000 rows are shown" in ended.err
    assert "first" not in copper("query", "FROM range(1000)").err
    assert len(copper("query", "FROM range(5001)", "--format", "csv").lines) == 5002


def test_a_plan_is_drawn(held: Sandbox, copper: Copper) -> None:
    """EXPLAIN is no table."""
    out = copper("query", "EXPLAIN FROM meters").out
    assert "─" in out
    assert "\\x0a" not in out


def test_stdin_and_several_questions(
    held: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered for people; programs take one."""
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1 AS one;\nSELECT ';' AS two;\n"))
    assert copper("query").out.count("Query (rows=1):") == 2
    ended = copper("query", "SELECT 1; SELECT 2", "--format", "csv")
    assert (ended.code, ended.out) == (2, "")
    assert "these are 2 questions" in ended.err


def test_quiet(held: Sandbox, copper: Copper) -> None:
    """Leaves out the table."""
    assert copper("query", "SELECT 1", "--quiet").lines == ["complete!"]
    assert copper("query", "SELECT 1", "--quiet", "--format", "csv").out == ""


@pytest.mark.parametrize("size", ["1", "10MB", "x", "-1GB", "1PB", "1GB;"])
def test_memory_is_an_amount(copper: Copper, held: Sandbox, size: str) -> None:
    """Enough to begin with."""
    assert copper("query", "SELECT 1", "--memory", size).code == 2


def test_memory(copper: Copper, held: Sandbox) -> None:
    """What was typed is what DuckDB is given; too little is told."""
    sql = "SELECT current_setting('memory_limit') AS m"
    assert copper("query", sql, "--memory", "300 mb", "--format", "csv").lines[1] == "286.1 MiB"
    ended = copper(
        "query", "SELECT length(string_agg(i::VARCHAR, ',')) FROM range(60000000) t(i)",
        "--memory", "64MB",
    )  # fmt: skip
    assert (ended.code, "--memory" in ended.err) == (2, True)


def test_whose_archive_it_is(
    held: Sandbox, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None there: 7, as for every command on archives; another partner's: 2."""
    assert copper("query", "SELECT 1", "--archive", str(tmp_path / "none")).code == 7
    monkeypatch.setenv("COPPER_ENTERPRISE_ID", "another")
    ended = copper("query", "SELECT 1")
    assert (ended.code, "is the archive of" in ended.err) == (2, True)


# As a process of its own


def test_big_answers_stream(held: Sandbox) -> None:
    """The first rows are there long before the last, and memory does not grow with their number."""
    sql = "SELECT i, repeat('x', 50) AS x FROM range(3000000) t(i)"
    command = (
        "import resource, sys; from copper_cli.cli import root, run; "
        f"code = run(root, ['query', {sql!r}, '--format', 'csv', '--memory', '64MB']); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr); "
        "sys.exit(code)"
    )
    done = subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.stdout is not None
    assert done.stderr is not None
    size = 0
    while chunk := done.stdout.read(1 << 20):
        size += len(chunk)
    assert done.wait(60) == 0
    told = done.stderr.read()
    done.stdout.close()
    done.stderr.close()
    assert size > 3_000_000 * 58
    assert int(told.split()[-1]) < 300  # MB, where the text alone has 180


def test_ctrl_c_ends_a_question(held: Sandbox, tmp_path: Path) -> None:
    """At once, with 130; nothing is left in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    sql = "SELECT count(*) FROM range(1000000000) a(i), range(1000000000) b(j) WHERE i + j = 7"
    process = subprocess.Popen(
        [PROGRAM, "query", sql], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    while not list((tmp_path / "tmp").glob("copper-query-*")):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, "interrupted" in err) == (130, "", True)
    assert not list((tmp_path / "tmp").iterdir())


def test_the_shell(held: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions over several lines, words with a dot, mistakes, Ctrl-C in a question, Ctrl-D."""
    import pty

    monkeypatch.setenv("TERM", "dumb")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "query"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = ""

    def wait_for(text: str) -> str:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 4096).decode()
        before, _, shown = shown.partition(text)
        return before

    def type_line(text: str) -> None:
        os.write(ours, f"{text}\n".encode())

    wait_for("copper> ")
    type_line("SELECT count(*) AS n")
    wait_for("...> ")
    type_line("FROM usage;")
    assert "192" in wait_for("copper> ")
    type_line(".tables")
    assert "register_use" in wait_for("copper> ")
    type_line(".schema meters")
    assert "firmware_version" not in (told := wait_for("copper> "))
    assert "created_utc" in told
    type_line("SELECT foo FROM usage;")
    assert "SQL, line 1, column 8" in wait_for("copper> ")
    type_line("COPY usage TO 'x';")
    assert "COPY is not allowed here" in wait_for("copper> ")
    type_line(
        "SELECT count(*) FROM range(1000000000) a(i), range(1000000000) b(j) WHERE i + j = 7;"
    )
    wait_for("= 7;")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert "stopped" in wait_for("copper> ")
    type_line("SELECT 6 * 7 AS answer;")
    assert re.search(r"\n\s*42\r", wait_for("copper> "))
    os.write(ours, b"\x04")
    assert process.wait(20) == 0
    os.close(ours)


def test_the_page_is_named_in_help(copper: Copper) -> None:
    """And the options that make a difference."""
    out = copper("query", "--help").out
    assert "docs/query.md" in out
    assert "--memory" in out
