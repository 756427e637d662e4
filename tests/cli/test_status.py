"""copper status and copper gaps, as they are typed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from copper_cli.archive.home import open_existing
from copper_cli.sandbox import Sandbox

from .conftest import Copper

USAGE = ("meter", "usage", "2022-03-01", "2022-03-08", "--granularity", "hour", "--quiet")
WEEK = ("--since", "2022-03-01", "--until", "2022-03-08")
HOURS = 4 * 7 * 24
"""Of the four meters of the two premises."""


@pytest.fixture
def held(cloud: Sandbox, copper: Copper) -> Sandbox:
    """A cloud of which the archive has a week, whole."""
    assert copper(*USAGE).code == 0
    return cloud


def spoil(tmp_path: Path, hours: int, state: str) -> str:
    """Have an archive without the first hours of the first meter; its id."""
    with open_existing(tmp_path / "archive") as opened, opened.archive.transaction() as db:
        series, meter = db.execute("SELECT id, subject FROM series ORDER BY subject").fetchone()
        start, end = db.execute(
            "SELECT start_s, end_s FROM coverage WHERE series = ?", (series,)
        ).fetchone()
        db.execute("DELETE FROM coverage WHERE series = ?", (series,))
        cut = start + hours * 3600
        rows = [(series, cut, end, "known", 0, (end - cut) // 3600, 0)]
        if state:
            rows.append((series, start, cut, state, end, hours, 0))
        db.executemany("INSERT INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return str(meter)


def test_two_lines_when_all_is_well(held: Sandbox, copper: Copper) -> None:
    """And nothing else; no call is made; a program gets the figures."""
    calls = held.calls
    ended = copper("status", *WEEK, "--check")
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        "Archive sandbox-enterprise: 4 meters, hourly since 2022-03-01. Whole until "
        "2022-03-08 00:00.",
        f"100.00 % of {HOURS} hours known.",
    ]
    found = copper("status", *WEEK, "--format", "json").json
    assert (found["is_well"], found["total"]["known"], found["worst"]) == (True, HOURS, [])
    assert sum(row["known"] for row in found["rows"]) == HOURS
    assert held.calls == calls


@pytest.mark.parametrize(
    ("state", "told"), [("", "never asked"), ("failed", "failed"), ("absent", "missing")]
)
def test_check_is_6_for_what_should_be_there(
    held: Sandbox, copper: Copper, tmp_path: Path, state: str, told: str
) -> None:
    meter = spoil(tmp_path, 5, state)
    ended = copper("status", *WEEK, "--check")
    assert ended.code == 6
    assert f"5 hours should be there and are not, at 1 meter: 5 {told}." in ended.err
    assert f"Worst: {meter} (" in ended.out
    assert f"{HOURS - 5} of" not in ended.out  # the share is told, rounded down
    assert f"99.25 % of {HOURS} hours known; 5 {told}." in ended.out  # 667 of 672
    assert copper("status", *WEEK).code == 0
    quiet = copper("status", *WEEK, "--check", "--quiet")
    assert (quiet.code, quiet.out) == (6, "")


def test_what_is_missing_fails_until_it_is_accepted(
    held: Sandbox, copper: Copper, tmp_path: Path
) -> None:
    """Remembered, shown, undone; what was never asked cannot be accepted."""
    meter = spoil(tmp_path, 5, "absent")
    assert "5 hours at 1 meter accepted as missing" in copper("gaps", *WEEK, "--accept").err
    ended = copper("status", *WEEK, "--check")
    assert (ended.code, len(ended.lines)) == (0, 2)
    assert ended.lines[1].endswith("known; 5 missing and accepted.")
    assert copper("gaps", *WEEK, "--format", "ndjson").lines == []
    (shown,) = copper("gaps", *WEEK, "--accepted", "--format", "json").json["rows"]
    assert (shown["meter_id"], shown["hours"], shown["why"]) == (meter, 5, "missing")
    assert "at 1 meter is waited for again" in copper("gaps", "--reopen").err
    assert copper("status", *WEEK, "--check").code == 6
    ended = copper("gaps", *WEEK, "--accept", "--why", "never asked")
    assert ended.code == 2
    assert "never asked cannot be accepted" in ended.err
    assert copper("gaps", "--accept", "--reopen").code == 2


def test_a_gap_says_what_and_when(held: Sandbox, copper: Copper, tmp_path: Path) -> None:
    meter = spoil(tmp_path, 5, "absent")
    (row,) = copper("gaps", *WEEK, "--format", "json").json["rows"]
    assert row == {
        "meter_id": meter,
        "from": "2022-03-01T00:00:00-07:00",
        "to": "2022-03-01T05:00:00-07:00",
        "hours": 5,
        "buckets": 5,
        "why": "missing",
        "accepted": False,
        "last_asked": "2022-03-08T00:00:00-07:00",
        "asked_again": "next run",
    }
    assert copper("gaps", *WEEK, "--min", "6h", "--format", "ndjson").out == ""
    assert copper("gaps", *WEEK, "--min", "5h", "--format", "ndjson").out != ""
    assert copper("gaps", *WEEK, "--why", "late", "--format", "ndjson").out == ""
    assert (
        f"{HOURS - 5} of {HOURS} hours of 4 meters known; 5 missing." in copper("gaps", *WEEK).err
    )
    ended = copper("gaps", "--meter-id", meter[:-1])
    assert (ended.code, meter in ended.err) == (2, True)


def test_by_day_and_meter(held: Sandbox, copper: Copper, tmp_path: Path) -> None:
    meter = spoil(tmp_path, 30, "failed")
    rows = copper("status", *WEEK, "--by", "day", "--format", "json").json["rows"]
    assert [(row["day"], row["meters"], row["failed"]) for row in rows[:3]] == [
        ("2022-03-01", 4, 24),
        ("2022-03-02", 4, 6),
        ("2022-03-03", 4, 0),
    ]
    first = copper("status", *WEEK, "--by", "meter", "--format", "json").json["rows"][0]
    assert (first["meter_id"], first["failed"]) == (meter, 30)
    assert "Completeness by premise" in copper("status", *WEEK, "--by", "premise").out


def test_late_is_allowed_as_it_is_typed(held: Sandbox, copper: Copper, tmp_path: Path) -> None:
    """Each meter lacks one hour that ended five days ago: late, and older than two days."""
    now_s = int(time.time()) // 3600 * 3600
    bounds = [now_s - 20 * 86400, now_s - 5 * 86400 - 3600, now_s - 5 * 86400, now_s + 7200]
    with open_existing(tmp_path / "archive") as opened, opened.archive.transaction() as db:
        db.execute("DELETE FROM coverage")
        for place, state in enumerate(("known", "null", "known")):
            start_s, end_s = bounds[place : place + 2]
            db.execute(
                "INSERT INTO coverage SELECT id, ?, ?, ?, ?, ?, 0 FROM series",
                (start_s, end_s, state, now_s, (end_s - start_s) // 3600),
            )
    ended = copper("status", "--check")
    assert (ended.code, "at 4 meters: 4 late." in ended.err) == (6, True)
    assert copper("status", "--check", "--allow-late", "4d").code == 6
    assert copper("status", "--check", "--allow-late", "6d").code == 0
    assert copper("gaps", "--why", "late", "--format", "ndjson").out.count("\n") == 4


def test_where_nothing_is_held(cloud: Sandbox, copper: Copper) -> None:
    """One line, and what to do; to be checked it fails."""
    assert copper("meter", "status", "--quiet").code == 0
    ended = copper("status")
    assert (ended.code, len(ended.lines)) == (0, 1)
    assert "nothing is held hourly. Fetch some: copper meter usage" in ended.out
    assert copper("status", "--check").code == 6
    assert copper("status", "--format", "json").json["is_held"] is False
    ended = copper("gaps", "--format", "json")
    assert (ended.json["rows"], "nothing is held hourly" in ended.err) == ([], True)
    assert copper("meter", "usage", *USAGE[2:4], "--granularity", "day", "--quiet").code == 0
    assert "It holds day: --granularity day shows that." in copper("status").out
    ended = copper("status", *WEEK, "--granularity", "day")
    assert "4 meters, daily since 2022-03-01" in ended.out
    assert "100.00 % of 28 days known." in ended.out


def test_without_an_archive_or_whose(copper: Copper, tmp_path: Path) -> None:
    assert copper("status", "--archive", str(tmp_path / "none")).code == 7
    ended = copper("status", "--since", "2022-03-08", "--until", "2022-03-01")
    assert (ended.code, "is not before" in ended.err) == (2, True)
    assert copper("status", "--allow-late", "soon").code == 2


@pytest.mark.parametrize("span", [("--since", "2199-01-01"), ("--until", "2010-01-01")])
def test_a_span_of_nothing_is_not_whole(
    held: Sandbox, copper: Copper, span: tuple[str, str]
) -> None:
    """Of hours that are still to be, or before any meter was there, nobody can say that."""
    for command in (("status", "--check"), ("gaps",)):
        ended = copper(*command, *span)
        assert (ended.code, "no hour of that span is over" in ended.err) == (2, True)


def test_calls_spent_without_the_secret(
    held: Sandbox, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is found by the client id alone; where nobody says which, nothing is told of it."""
    spoil(tmp_path, 5, "failed")
    monkeypatch.delenv("COPPER_CLIENT_SECRET")
    assert "Calls spent: 6 of 100000/h; left: 99994 of 100000/h." in copper("status", *WEEK).out
    monkeypatch.delenv("COPPER_CLIENT_ID")
    ended = copper("status", *WEEK)
    assert (ended.code, "Calls spent" in ended.out) == (0, False)


def test_a_table_file_is_written_when_all_is_well(
    held: Sandbox, copper: Copper, work: Path
) -> None:
    assert copper("status", *WEEK, "--csv-output-file", "s.csv").code == 0
    assert (work / "s.csv").read_text().splitlines()[0].startswith("Type,Meters,Whole Until,Known")


def test_the_fleet_as_a_picture(
    held: Sandbox, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal: a character a day, the meter that lacks most; nowhere else."""
    meter = spoil(tmp_path, 30, "failed")
    assert "a character a day" not in copper("gaps", *WEEK).out
    monkeypatch.setattr(sys.stdout.__class__, "isatty", lambda self: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    lines = copper("gaps", *WEEK).lines
    at = next(n for n, line in enumerate(lines) if "a character a day" in line)
    assert lines[at].strip().startswith("2022-03-01 to 2022-03-07")
    assert lines[at + 1] == f"{meter}  ff....."
    assert "f failed" in lines[at + 2]


def test_it_begins_where_the_standing_order_does(held: Sandbox, copper: Copper) -> None:
    """What older files left in the archive is no part of what is kept; what is typed goes before."""
    assert copper("meter", "usage", "2021-03-01", "2021-03-03", "--output-dir", "old").code == 0
    assert "hourly since 2021-03-01" in copper("status", "--until", "2022-03-08").lines[0]
    order = ("--since", "2022-03-01", "--granularity", "hour", "--keep")
    assert copper("sync", *order, "--calls", "1").code in (0, 5)
    assert "hourly since 2022-03-01" in copper("status", "--until", "2022-03-08").lines[0]
    ended = copper("status", "--since", "2021-03-01", "--until", "2022-03-08")
    assert "hourly since 2021-03-01" in ended.lines[0]
