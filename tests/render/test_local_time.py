from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.render.local_time import local_text, local_texts, offset_text

ZONES = [
    "UTC",
    "America/Denver",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Africa/Monrovia",
    "Africa/Casablanca",
    "Europe/Amsterdam",
    "Antarctica/Troll",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(text):
    return int(datetime.fromisoformat(text).timestamp())


@given(
    zone=st.sampled_from(ZONES),
    first=st.integers(-2_500_000_000, 4_000_000_000),
    steps=st.lists(st.integers(-100_000, 100_000), max_size=50),
)
def test_texts_are_those_of_zoneinfo(zone, first, steps):
    """For any instants in any order, from before standard time to 2096."""
    times = [first]
    for step in steps:
        times.append(times[-1] + step)
    expected = [(EPOCH + timedelta(seconds=t)).astimezone(ZoneInfo(zone)) for t in times]
    assert local_texts(times, zone, separator="T", offset=True) == [e.isoformat() for e in expected]
    assert local_texts(times, zone) == [str(e.replace(tzinfo=None)) for e in expected]


def test_the_hour_that_does_not_exist_in_spring():
    """Denver, 14 March 2021: the clock goes from 01:59 to 03:00."""
    times = range(at("2021-03-14T08:00Z"), at("2021-03-14T11:00Z"), 3600)
    assert local_texts(times, "America/Denver", separator="T", offset=True) == [
        "2021-03-14T01:00:00-07:00",
        "2021-03-14T03:00:00-06:00",
        "2021-03-14T04:00:00-06:00",
    ]


def test_the_hour_that_comes_twice_in_autumn():
    """Denver, 7 November 2021: two rows say 01:00, and the offset tells them apart."""
    times = range(at("2021-11-07T06:00Z"), at("2021-11-07T10:00Z"), 3600)
    assert local_texts(times, "America/Denver", separator="T", offset=True) == [
        "2021-11-07T00:00:00-06:00",
        "2021-11-07T01:00:00-06:00",
        "2021-11-07T01:00:00-07:00",
        "2021-11-07T02:00:00-07:00",
    ]
    assert local_texts(times, "America/Denver")[1:3] == ["2021-11-07 01:00:00"] * 2


def test_half_an_hour_of_summer_time():
    """Lord Howe moves its clocks by 30 minutes."""
    times = [at("2021-04-03T14:59:59Z"), at("2021-04-03T15:00:00Z")]
    assert local_texts(times, "Australia/Lord_Howe", separator="T", offset=True) == [
        "2021-04-04T01:59:59+11:00",
        "2021-04-04T01:30:00+10:30",
    ]


def test_a_day_that_was_left_out():
    """Samoa went from 29 to 31 December 2011."""
    times = [at("2011-12-30T09:59:59Z"), at("2011-12-30T10:00:00Z")]
    assert local_texts(times, "Pacific/Apia") == ["2011-12-29 23:59:59", "2011-12-31 00:00:00"]


def test_a_change_at_midnight_utc():
    """A change that falls on the seam of two UTC days is found on neither side too early."""
    times = [at("2018-10-27T23:59:59Z"), at("2018-10-28T00:00:00Z"), at("2018-10-28T01:00:00Z")]
    assert local_texts(times, "Atlantic/Azores", offset=True) == [
        "2018-10-27 23:59:59+00:00",
        "2018-10-28 00:00:00+00:00",
        "2018-10-28 00:00:00-01:00",
    ]
    stockholm = [at("1916-09-30T21:59:59Z"), at("1916-09-30T23:00:00Z"), at("1916-10-01T00:00:00Z")]
    expected = [
        datetime.fromtimestamp(t, ZoneInfo("Europe/Stockholm")).isoformat() for t in stockholm
    ]
    assert local_texts(stockholm, "Europe/Stockholm", separator="T", offset=True) == expected


@pytest.mark.parametrize(
    ("offset_s", "text"),
    [(0, "+00:00"), (-25_200, "-07:00"), (20_700, "+05:45"), (-25_196, "-06:59:56")],
)
def test_offsets(offset_s, text):
    """As ISO 8601 has them, seconds only where there are any; datetime reads them back."""
    assert offset_text(offset_s) == text
    found = datetime.fromisoformat("2020-01-01T00:00:00" + text)
    assert found.tzinfo == timezone(timedelta(seconds=offset_s))


def test_one_instant_keeps_its_fraction():
    """A reading with a fraction of a second shows it; without one, whole seconds."""
    time_utc = datetime(2021, 12, 22, 7, 7, 13, 500_000, tzinfo=UTC)
    assert local_text(time_utc, "America/Denver") == "2021-12-22 00:07:13.500000"
    assert local_text(time_utc.replace(microsecond=0), "America/Denver") == "2021-12-22 00:07:13"
