"""Days as they are typed, and the dates that they become before anything is written down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine

from copper_cli.sandbox import Sandbox

from .conftest import Copper, FixedCloud

EVENING = datetime(2022, 3, 29, 3, 0, tzinfo=UTC)
"""21:00 of the 28th in Denver, where the meters are."""


@pytest.fixture
def evening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server whose own day is a day further than the meters'."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with time_machine.travel(EVENING.timestamp(), tick=True):
        yield


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("meter usage yesterday today", "2022-03-27 through 2022-03-28"),
        ("meter usage -7d today", "2022-03-21 through 2022-03-28"),
        ("meter usage -7d -6d", "2022-03-21 through 2022-03-22"),
        ("meter usage -90d 2022-01-01", "2021-12-28 through 2022-01-01"),
        ("meter usage 2022-03-01 yesterday", "2022-03-01 through 2022-03-27"),
        ("meter usage --granularity day -7d --quiet today", "2022-03-21 through 2022-03-28"),
        ("meter usage -7d --step 1 today --layout plain", "2022-03-21 through 2022-03-28"),
        ("meter usage 2022-01 2022-02", "2022-01-01 through 2022-02-01"),
        ("meter usage 2022-02 today", "2022-02-01 through 2022-03-28"),
        ("meter usage yesterday today --timezone Asia/Tokyo", "2022-03-28 through 2022-03-29"),
        ("meter baseline-series yesterday today", "2022-03-27 through 2022-03-28"),
        ("meter average-series -1d today", "2022-03-27 through 2022-03-28"),
        ("meter readings yesterday yesterday", "2022-03-27 through 2022-03-27"),
        ("meter readings 2022-02 2022-02", "2022-02-01 through 2022-02-28"),
        ("meter readings 2020-02 2020-12", "2020-02-01 through 2020-12-31"),
        ("grid readings -2d today", "2022-03-26 through 2022-03-28"),
        ("grid readings 2022-01 2022-01", "2022-01-01 through 2022-01-31"),
        ("dump foo yesterday today day", "2022-03-27 through 2022-03-28"),
        ("dump foo -2d yesterday day", "2022-03-26 through 2022-03-27"),
        ("dump foo 2022-01 2022-02 day", "2022-01-01 through 2022-02-28"),
    ],
)
def test_words_for_days(
    cloud: Sandbox, evening: None, copper: Copper, line: str, days: str
) -> None:
    """Of the meters' zone, not the machine's; a month is its first day, included its last."""
    ended = copper(*line.split(), "--dry-run", "--format", "json")
    assert ended.code == 0, ended.err
    assert ended.json["title"].endswith(f" {days}")


def test_the_manifest_holds_dates(cloud: Sandbox, evening: None, copper: Copper) -> None:
    """What was asked is written down as dates: on the next day it is another range."""
    ended = copper("meter", "usage", "yesterday", "today", "--granularity", "day")
    assert ended.code == 0, ended.err
    assert "Meter usage download 2022-03-27 through 2022-03-28 (rows=4):" in ended.lines
    manifest = Path("generated/manifest.json").read_text()
    assert '"2022-03-27"' in manifest
    assert not {"yesterday", "today"} & set(json.dumps(json.loads(manifest)).split('"'))
    assert copper("meter", "usage", "2022-03-27", "2022-03-28", "--granularity", "day").code == 0
    with time_machine.travel(EVENING.timestamp() + 86400, tick=True):
        ended = copper("meter", "usage", "yesterday", "today", "--granularity", "day")
    assert ended.code == 0
    assert "2022-03-27 to 2022-03-28" in ended.err
    assert "are replaced by" in ended.err


def test_words_cost_no_call_that_is_not_made_anyway(
    serve: Callable[..., Sandbox], evening: None, copper: Copper
) -> None:
    """The premises are asked for once: the download has them from the cache."""
    cloud = serve(max_age=3600)
    assert copper("meter", "usage", "yesterday", "today").code == 0
    asked = [entry.path.rpartition("/")[2] for entry in cloud.log if "/partner/" in entry.path]
    assert sorted(asked) == ["meter", "premise", *["usage"] * 4]


def test_a_range_that_today_makes_wrong(cloud: Sandbox, evening: None, copper: Copper) -> None:
    """Only today tells that START is after END: exit 2, one line, nothing written."""
    ended = copper("meter", "usage", "2022-03-28", "yesterday")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "copper: START 2022-03-28 is after END 2022-03-27.\n"
    ended = copper("meter", "usage", "-99999d", "today")
    assert ended.code == 2
    assert "lies outside 1970 to 2199" in ended.err
    assert not list(Path().iterdir())


def test_what_does_not_exist_is_refused_as_ever(
    cloud: Sandbox, evening: None, copper: Copper
) -> None:
    """By the download itself, with the closest ones."""
    ended = copper("meter", "usage", "-7d", "today", "--meter-id", "07:359716677")
    assert ended.code == 2
    assert "Closest: 07:3597166776 (power)" in ended.err


def test_an_option_may_hold_what_looks_like_a_day(
    fixed: FixedCloud, evening: None, copper: Copper, work: Path
) -> None:
    """`--output-dir -7d` is a folder of that name."""
    ended = copper("meter", "usage", "-7d", "today", "--output-dir", "-7d", "--timezone", "UTC")
    assert ended.code == 0, ended.err
    assert [path.name for path in work.iterdir()] == ["-7d"]
