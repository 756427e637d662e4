from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from copper_cli.sandbox.instants import (
    find_midnight,
    format_instant,
    format_instants,
    lay_bounds,
    parse_instant,
)


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


def test_instants_are_read_with_an_offset_only():
    """A time without an offset is nobody's time."""
    assert parse_instant("2020-12-22T07:00:00Z") == at(2020, 12, 22, 7)
    assert parse_instant("2020-12-22T00:00:00.900-07:00") == at(2020, 12, 22, 7)
    for text in ("2020-12-22T07:00:00", "yesterday", ""):
        with pytest.raises(ValueError, match=r".*"):
            parse_instant(text)


def test_instants_are_written_with_milliseconds():
    """The cloud writes `2022-03-02T04:30:00.000Z`."""
    assert format_instant(at(2022, 3, 2, 4, 30)) == "2022-03-02T04:30:00.000Z"
    assert format_instants([at(2020, 2, 29, 23, 59, 59), at(2020, 3, 1)]) == [
        "2020-02-29T23:59:59.000Z",
        "2020-03-01T00:00:00.000Z",
    ]


@pytest.mark.parametrize(
    ("granularity", "step"),
    [("minute", 60), ("fifteenminute", 900), ("hour", 3600), ("bihour", 7200), ("day", 86400)],
)
def test_buckets_are_counted_from_the_start(granularity, step):
    """start, start + step, … up to and with the end: four rows for three steps."""
    start = at(2020, 12, 22, 7)
    bounds = lay_bounds(granularity, start, start + 3 * step)
    assert bounds == [start - step, start, start + step, start + 2 * step, start + 3 * step]
    assert lay_bounds(granularity, start, start + 3 * step - 1) == bounds[:-1]


def test_months_are_calendar_months():
    """From 31 January: the end of February, then 31 March again."""
    bounds = lay_bounds("month", at(2021, 1, 31, 7), at(2021, 3, 31, 7))
    assert bounds == [
        at(2020, 12, 31, 7),
        at(2021, 1, 31, 7),
        at(2021, 2, 28, 7),
        at(2021, 3, 31, 7),
    ]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Denver", date(2021, 3, 14), 23),
        ("America/Denver", date(2021, 11, 7), 25),
        ("America/Denver", date(2021, 11, 8), 24),
        ("Australia/Lord_Howe", date(2021, 4, 4), 24.5),
        ("Australia/Lord_Howe", date(2021, 10, 3), 23.5),
        ("Asia/Kathmandu", date(2021, 3, 14), 24),
        ("America/St_Johns", date(2021, 3, 14), 23),
    ],
)
def test_aligned_days_have_their_true_length(zone, day, hours):
    """A day bucket reaches from one local midnight to the next."""
    there = ZoneInfo(zone)
    start = int(datetime(day.year, day.month, day.day, tzinfo=there).timestamp())
    bounds = lay_bounds("day", start + 1, start + int(hours * 3600), there)
    assert bounds == [start, start + int(hours * 3600)]


def test_aligned_hours_start_at_local_midnight():
    """In Kathmandu (+05:45) a local hour ends at a quarter past in UTC."""
    bounds = lay_bounds("hour", at(2021, 1, 1), at(2021, 1, 1, 2), ZoneInfo("Asia/Kathmandu"))
    assert bounds == [at(2020, 12, 31, 23, 15), at(2021, 1, 1, 0, 15), at(2021, 1, 1, 1, 15)]


def test_the_last_aligned_bucket_of_an_odd_day_is_short():
    """Lord Howe's day of 24.5 hours ends in half an hour; Denver's of 23 in half a bihour."""
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    midnight = find_midnight(date(2021, 4, 5), lord_howe)
    assert lay_bounds("hour", midnight, midnight, lord_howe) == [midnight - 1800, midnight]
    denver = ZoneInfo("America/Denver")
    midnight = find_midnight(date(2021, 3, 15), denver)
    assert lay_bounds("bihour", midnight, midnight, denver) == [midnight - 3600, midnight]


def test_aligned_months_lie_on_local_firsts():
    """Denver's March 2021 is an hour short: 743."""
    denver = ZoneInfo("America/Denver")
    bounds = lay_bounds("month", at(2021, 2, 1, 7), at(2021, 4, 1, 6), denver)
    assert bounds == [at(2021, 1, 1, 7), at(2021, 2, 1, 7), at(2021, 3, 1, 7), at(2021, 4, 1, 6)]


def test_aligned_quarters_are_counted_from_the_start():
    """Minutes and quarters of an hour need no alignment."""
    denver = ZoneInfo("America/Denver")
    assert lay_bounds("minute", 30, 90, denver) == [-30, 30, 90]


def test_a_day_whose_midnight_is_skipped_begins_at_the_skip():
    """Beirut's clocks go from 24:00 to 01:00: the day begins at 22:00 UTC all the same."""
    assert find_midnight(date(2021, 3, 28), ZoneInfo("Asia/Beirut")) == at(2021, 3, 27, 22)


def test_a_day_that_never_was_is_no_bucket():
    """Apia had no 30 December 2011: the edges still rise."""
    apia = ZoneInfo("Pacific/Apia")
    bounds = lay_bounds("day", at(2011, 12, 28), at(2012, 1, 2), apia)
    assert all(a < b for a, b in pairwise(bounds))
