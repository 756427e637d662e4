"""What a person reads where hours are missing or an answer cannot be believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .conftest import Copper, FixedCloud

USAGE = ("meter", "usage", "2021-03-02", "2021-03-03")
SPAN = "from 2021-03-02T07:00:00Z to 2021-03-03T07:00:00Z"


def rows(query: dict[str, str], left_out: range = range(0), days: int = 0) -> dict[str, Any]:
    """Half a unit an hour, some hours left out, `days` more at either side."""
    start, end = (datetime.fromisoformat(query[name]) for name in ("start", "end"))
    first, last = start - timedelta(days=days), end + timedelta(days=days)
    hours = int((last - first).total_seconds()) // 3600
    found = []
    for hour in range(hours + 1):
        at = (first + timedelta(hours=hour)).astimezone(UTC)
        if hour not in left_out:
            found.append({"time": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "usage": 0.5})
    return {"meter_type": "power", "sum_usage": 12.0, "results": found}


@pytest.fixture
def town(fixed: FixedCloud) -> FixedCloud:
    """Two meters in Denver, whole."""
    fixed.answers["premise"] = [{"id": "p", "timezone": "America/Denver"}]
    fixed.answers["meter"] = [{"id": f"07:{n}", "type": "power", "premise_id": "p"} for n in (1, 2)]
    for n in (1, 2):
        fixed.answers[f"meter/07:{n}/usage"] = rows
    return fixed


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_what_is_missing_is_the_last_line(
    town: FixedCloud, copper: Copper, quiet: tuple[str, ...]
) -> None:
    """Exit 0 and `complete!`, since the cloud has no more; and the eye falls on the 8 hours."""
    town.answers["meter/07:1/usage"] = lambda query: rows(query, range(3, 11))
    ended = copper(*USAGE, *quiet)
    assert ended.code == 0
    assert ended.lines[-1] == "complete!"
    assert ended.err.splitlines()[-1] == (
        "8 buckets missing at 07:1: the cloud sent no readable amount for them. "
        "--recheck asks again."
    )
    town.answers["meter/07:1/usage"] = rows
    assert "missing" in copper(*USAGE, *quiet).err
    ended = copper(*USAGE, *quiet, "--recheck")
    assert ended.code == 0
    assert "missing" not in ended.err


def test_what_is_late_will_be_asked_for_again(town: FixedCloud, copper: Copper) -> None:
    """The last line says so, and how to have it at once."""
    town.answers["meter/07:1/usage"] = lambda query: rows(query, range(3, 6))
    ended = copper("meter", "usage", "-7d", "-6d", "--quiet")
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == (
        "3 buckets late at 07:1: asked for again as they age, or at once with --recheck."
    )


def test_every_call_is_counted(town: FixedCloud, copper: Copper) -> None:
    """That too by which it was found out what day it is where the meters are."""
    for days in (("2021-03-02", "2021-03-03"), ("-7d", "-6d")):
        town.asked.clear()
        found = copper(
            "meter", "usage", *days, "--format", "json", "--overwrite", "--no-cache"
        ).json
        assert found["calls"] == len(town.asked)


def test_programs_read_what_is_missing(town: FixedCloud, copper: Copper) -> None:
    """In the JSON of the whole and of each meter."""
    town.answers["meter/07:1/usage"] = lambda query: rows(query, range(3, 11))
    found = copper(*USAGE, "--format", "json").json
    assert (found["to_come"], found["late"], found["missing"]) == (0, 0, 8)
    assert found["unfilled"] == [{"id": "07:1", "late": 0, "missing": 8}]
    assert [(row["id"], row["missing"]) for row in found["rows"]] == [("07:1", 8), ("07:2", 0)]


def test_the_worst_are_named(town: FixedCloud, copper: Copper) -> None:
    """Three by name, the most first; the others are counted."""
    ids = [f"07:{n}" for n in range(1, 7)]
    town.answers["meter"] = [{"id": i, "type": "power", "premise_id": "p"} for i in ids]
    for n, meter_id in enumerate(ids):
        gone = range(3, 3 + n)
        town.answers[f"meter/{meter_id}/usage"] = lambda query, gone=gone: rows(query, gone)
    ended = copper(*USAGE)
    assert ended.err.splitlines()[-1] == (
        "15 buckets missing at 07:6, 07:5, 07:4 and 2 others: "
        "the cloud sent no readable amount for them. --recheck asks again."
    )


def test_rows_that_do_not_belong_are_counted(town: FixedCloud, copper: Copper) -> None:
    """A cloud that sends three days for one, for both meters."""
    for n in (1, 2):
        town.answers[f"meter/07:{n}/usage"] = lambda query: rows(query, days=1)
    ended = copper(*USAGE)
    assert ended.code == 0
    assert (
        "92 rows left out that lay outside the span asked for: usage of meter 07:1 "
        f"{SPAN} and 1 other answer." in ended.err
    )


def test_one_meter_without_a_readable_answer(town: FixedCloud, copper: Copper) -> None:
    """The other is done; one line says what was wrong; exit 6, no `complete!`."""
    town.answers["meter/07:2/usage"] = {"error": "upstream\x1b[31m timed out", "code": 504}
    ended = copper(*USAGE)
    assert ended.code == 6
    assert "complete!" not in ended.out
    assert ended.err.splitlines()[0] == (
        f"07:2 failed: usage of meter 07:2 {SPAN}: "
        "the cloud answered 200 with an error: upstream [31m timed out."
    )
    assert "1 meter done, 0 empty, 1 failed" in ended.err
    assert ended.err.splitlines()[-1] == (
        "copper: 1 meter missing. Run the same command again to fetch what is missing."
    )


def test_what_changed_is_told(town: FixedCloud, copper: Copper) -> None:
    """By how many rows."""
    town.answers["meter/07:1/usage"] = lambda query: rows(query, range(3, 4))
    copper(*USAGE)

    def changed(query: dict[str, str]) -> dict[str, Any]:
        found = rows(query)
        for row in found["results"][5:8]:
            row["usage"] = 0.75
        return {**found, "sum_usage": 12.75}

    town.answers["meter/07:1/usage"] = changed
    assert "3 rows changed in the cloud since." in copper(*USAGE, "--fresh").err


def test_a_meter_without_data_yet(town: FixedCloud, copper: Copper) -> None:
    """It is neither done nor empty."""
    town.answers["meter/07:2/usage"] = {"results": [], "sum_usage": None}
    ended = copper("meter", "usage", "yesterday", "today")
    assert ended.code == 0
    assert "1 meter done, 1 still without data, 0 empty, 0 failed, 2" in ended.err
