"""Local days become windows in UTC: where they begin, meet, end, and are split."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from copper_cli.buckets import GRANULARITIES, bucket_s
from copper_cli.plan import (
    Cut,
    local_day,
    local_midnight,
    plan_series,
    whole_days,
)
from copper_cli.records import Window

DAY = timedelta(days=1)
STEPS_S = {"minute": 60, "fifteenminute": 900, "hour": 3600, "bihour": 7200, "day": 86400}
ZONE_NAMES = sorted(
    name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix"))
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def spans(plan) -> list[tuple[str, str]]:
    return [(f"{w.start_utc:%Y-%m-%dT%H:%M}", f"{w.end_utc:%Y-%m-%dT%H:%M}") for w in plan.windows]


def seconds(text: str) -> int:
    return int(utc(text).timestamp())


@pytest.mark.parametrize(
    ("zone", "day", "instant"),
    [
        ("America/Denver", date(2023, 3, 12), "2023-03-12T07:00"),
        ("America/Denver", date(2023, 3, 13), "2023-03-13T06:00"),
        ("Asia/Kolkata", date(2023, 1, 1), "2022-12-31T18:30"),
        ("Asia/Kathmandu", date(2023, 1, 1), "2022-12-31T18:15"),
        ("America/St_Johns", date(2023, 1, 1), "2023-01-01T03:30"),
        ("America/St_Johns", date(2023, 7, 1), "2023-07-01T02:30"),
        ("Australia/Lord_Howe", date(2023, 4, 2), "2023-04-01T13:00"),
        ("Australia/Lord_Howe", date(2023, 4, 3), "2023-04-02T13:30"),
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00"),  # 00:00 is 01:00
        ("America/Sao_Paulo", date(2018, 11, 5), "2018-11-05T02:00"),
        ("Asia/Beirut", date(2022, 3, 27), "2022-03-26T22:00"),  # 00:00 is 01:00
        ("America/Havana", date(2023, 3, 12), "2023-03-12T05:00"),  # 00:00 is 01:00
        ("America/Havana", date(2023, 11, 5), "2023-11-05T04:00"),  # 00:00 comes twice
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-29T10:00"),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00"),  # a day that never was
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00"),
        ("Africa/Casablanca", date(2023, 4, 1), "2023-04-01T00:00"),  # Ramadan
        ("Africa/Casablanca", date(2023, 5, 1), "2023-04-30T23:00"),
        ("Europe/London", date(2023, 7, 1), "2023-06-30T23:00"),
    ],
)
def test_a_local_day_begins_at_its_first_instant(zone, day, instant):
    """Also where clocks skip or repeat midnight; a skipped day begins where the next does."""
    assert local_midnight(day, ZoneInfo(zone)) == utc(instant)
    assert local_day(utc(instant), ZoneInfo(zone)) >= day
    assert local_day(utc(instant) - timedelta(seconds=1), ZoneInfo(zone)) < day


def test_whole_days_include_the_last():
    """One day of 23 hours from 12 to 12 March in Denver; two days to the 13th."""
    zone = ZoneInfo("America/Denver")
    assert whole_days(date(2023, 3, 12), date(2023, 3, 12), zone) == Window(
        utc("2023-03-12T07:00"), utc("2023-03-13T06:00")
    )
    assert whole_days(date(2023, 3, 12), date(2023, 3, 13), zone).end_utc == utc("2023-03-14T06:00")


@pytest.mark.parametrize("granularity", ["minute", "fifteenminute", "hour"])
def test_a_change_of_whole_buckets_needs_no_cut(granularity):
    """A year of hours in Denver is one window of 8760 hours."""
    zone = ZoneInfo("America/Denver")
    plan = plan_series(date(2023, 1, 1), date(2024, 1, 1), zone, granularity)
    assert spans(plan) == [("2023-01-01T07:00", "2024-01-01T07:00")]
    assert plan.cuts == ()
    assert plan.start_s == seconds("2023-01-01T07:00")
    assert plan.end_s == seconds("2024-01-01T07:00")


def test_days_are_cut_after_each_change():
    """At the midnight that ends the day of 23 or 25 hours; a count from the start misses it by
    an hour."""
    plan = plan_series(date(2023, 1, 1), date(2024, 1, 1), ZoneInfo("America/Denver"), "day")
    assert spans(plan) == [
        ("2023-01-01T07:00", "2023-03-13T06:00"),
        ("2023-03-13T06:00", "2023-11-06T07:00"),
        ("2023-11-06T07:00", "2024-01-01T07:00"),
    ]
    assert plan.cuts == (
        Cut(seconds("2023-03-13T06:00"), seconds("2023-03-12T07:00"), seconds("2023-03-13T07:00")),
        Cut(seconds("2023-11-06T07:00"), seconds("2023-11-05T06:00"), seconds("2023-11-06T06:00")),
    )


def test_the_odd_pair_of_hours_is_the_last_of_its_day():
    """A day of 23 hours ends with a bihour of one."""
    plan = plan_series(date(2023, 3, 12), date(2023, 3, 14), ZoneInfo("America/Denver"), "bihour")
    (cut,) = plan.cuts
    assert (cut.at_s, cut.previous_s) == (seconds("2023-03-13T06:00"), seconds("2023-03-13T05:00"))


def test_half_an_hour_cuts_hours_too():
    """Lord Howe's days of 23.5 and 24.5 hours end with half an hour."""
    plan = plan_series(date(2023, 1, 1), date(2024, 1, 1), ZoneInfo("Australia/Lord_Howe"), "hour")
    assert [(cut.at_s, cut.at_s - cut.previous_s) for cut in plan.cuts] == [
        (seconds("2023-04-02T13:30"), 1800),
        (seconds("2023-10-01T13:00"), 1800),
    ]


def test_a_change_at_midnight_cuts_after_its_own_day():
    """4 November 2018 has 23 hours in Sao Paulo; the day before it 24: no cut at its start."""
    zone = ZoneInfo("America/Sao_Paulo")
    plan = plan_series(date(2018, 11, 1), date(2018, 11, 8), zone, "day")
    assert spans(plan) == [
        ("2018-11-01T03:00", "2018-11-05T02:00"),
        ("2018-11-05T02:00", "2018-11-08T02:00"),
    ]


def test_a_skipped_day_cuts_nothing():
    """Apia went from 29 to 31 December 2011: each day has 24 hours, and one has none."""
    zone = ZoneInfo("Pacific/Apia")
    plan = plan_series(date(2011, 12, 28), date(2012, 1, 2), zone, "day")
    assert spans(plan) == [("2011-12-28T10:00", "2012-01-01T10:00")]
    assert plan_series(date(2011, 12, 30), date(2011, 12, 31), zone, "day").windows == ()


def test_months_are_cut_where_a_count_in_utc_leaves_them():
    """1 December begins on 30 November UTC in Kolkata: a month later that is the 30th, not the
    31st; from the 31st on every month fits."""
    plan = plan_series(date(2023, 12, 1), date(2024, 6, 1), ZoneInfo("Asia/Kolkata"), "month")
    assert spans(plan) == [
        ("2023-11-30T18:30", "2023-12-31T18:30"),
        ("2023-12-31T18:30", "2024-05-31T18:30"),
    ]
    assert plan.cuts == (
        Cut(seconds("2023-12-31T18:30"), seconds("2023-11-30T18:30"), seconds("2023-12-30T18:30")),
    )


def test_a_younger_meter_begins_on_its_first_day():
    """Created 5 January, 23:30 in Denver: from the 5th; days before are not asked."""
    zone = ZoneInfo("America/Denver")
    created = utc("2023-01-06T06:30")
    plan = plan_series(date(2023, 1, 1), date(2023, 2, 1), zone, "hour", created_utc=created)
    assert spans(plan) == [("2023-01-05T07:00", "2023-02-01T07:00")]
    older = plan_series(
        date(2023, 1, 1), date(2023, 2, 1), zone, "hour", created_utc=created - 99 * DAY
    )
    assert spans(older) == [("2023-01-01T07:00", "2023-02-01T07:00")]


def test_a_younger_meter_has_the_same_months_as_the_others():
    """Created 13 January: a window to 1 February, then months of the 1st."""
    plan = plan_series(
        date(2023, 1, 1),
        date(2023, 5, 1),
        ZoneInfo("America/Phoenix"),
        "month",
        created_utc=utc("2023-01-13T12:00"),
    )
    assert spans(plan) == [
        ("2023-01-13T07:00", "2023-02-01T07:00"),
        ("2023-02-01T07:00", "2023-05-01T07:00"),
    ]


@pytest.mark.parametrize("created", ["2023-02-01T07:00", "2023-02-05T00:00", "2024-01-01T00:00"])
def test_a_meter_created_after_the_end_is_not_asked(created):
    """Nor one created on END's own day: nothing of it lies before END's midnight."""
    plan = plan_series(
        date(2023, 1, 1),
        date(2023, 2, 1),
        ZoneInfo("America/Denver"),
        "hour",
        created_utc=utc(created),
    )
    assert (plan.windows, plan.cuts) == ((), ())


def test_steps_lie_at_local_midnights():
    """`--step 2` over the change: 49, 48, 24 hours."""
    zone = ZoneInfo("America/Denver")
    plan = plan_series(date(2023, 11, 4), date(2023, 11, 9), zone, "hour", step_days=2)
    lengths = [(w.end_utc - w.start_utc) / timedelta(hours=1) for w in plan.windows]
    assert lengths == [49, 48, 24]


def test_steps_do_not_cut_months():
    """A month counted from each week's start would be no month."""
    zone = ZoneInfo("America/Phoenix")
    plan = plan_series(date(2023, 1, 1), date(2023, 4, 1), zone, "month", step_days=7)
    assert spans(plan) == [("2023-01-01T07:00", "2023-04-01T07:00")]


@given(
    zone_name=st.sampled_from(ZONE_NAMES),
    start=st.dates(date(1990, 1, 1), date(2037, 1, 1)),
    days=st.integers(1, 800),
    granularity=st.sampled_from(GRANULARITIES),
    step_days=st.none() | st.integers(1, 400),
)
def test_windows_everywhere(zone_name, start, days, granularity, step_days):
    """In any zone: windows ascend and meet, from START's first instant to END's; every cut is
    the first instant of a local day; the odd bucket before it is shorter or longer than others."""
    zone = ZoneInfo(zone_name)
    end = start + days * DAY
    plan = plan_series(start, end, zone, granularity, step_days=step_days)
    first, last = local_midnight(start, zone), local_midnight(end, zone)
    assume(first < last)
    for window in plan.windows:
        assert window.start_utc < window.end_utc
        for instant in (window.start_utc, window.end_utc):
            day = instant.astimezone(zone).date()
            just_before = (instant - timedelta(seconds=1)).astimezone(zone)
            assert just_before.date() < day or just_before.hour == 0  # midnight comes twice
    assert all(a.end_utc == b.start_utc for a, b in pairwise(plan.windows))
    assert (plan.windows[0].start_utc, plan.windows[-1].end_utc) == (first, last)
    assert (plan.start_s, plan.end_s) == (first.timestamp(), last.timestamp())
    ends = {int(window.end_utc.timestamp()) for window in plan.windows}
    for cut in plan.cuts:
        assert cut.at_s in ends
        assert plan.start_s <= cut.previous_s < cut.at_s <= plan.end_s
        if granularity in STEPS_S:
            assert cut.at_s - cut.previous_s != STEPS_S[granularity]


@given(
    zone_name=st.sampled_from(ZONE_NAMES),
    start=st.dates(date(1990, 1, 1), date(2037, 1, 1)),
    days=st.integers(1, 400),
    granularity=st.sampled_from(sorted(STEPS_S)),
)
def test_no_window_holds_a_bucket_that_does_not_fit(zone_name, start, days, granularity):
    """Between cuts each local day is filled by whole buckets counted from the window's start:
    the day of a change is the last of its window."""
    zone, step = ZoneInfo(zone_name), STEPS_S[granularity]
    plan = plan_series(start, start + days * DAY, zone, granularity)
    midnights = [
        int(local_midnight(start + offset * DAY, zone).timestamp()) for offset in range(days + 1)
    ]
    for window in plan.windows:
        first, last = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        inside = [m for m in midnights if first < m < last]
        assert all((m - first) % step == 0 for m in inside)
        if granularity == "day":
            counted = range(first + step, last, step)
            before_last = inside[-1] if inside else first
            assert [m for m in counted if m <= before_last] == sorted(set(inside))


def test_a_months_length_is_an_order_of_size():
    """30 days."""
    assert bucket_s("month") == 30 * 86400


def test_meters_alike_share_a_plan():
    """Of ten thousand meters in one zone that began long ago there is one plan, not as many."""
    zone = ZoneInfo("America/Denver")
    start, end = date(2021, 3, 1), date(2021, 4, 1)
    born = [utc("2020-01-01T12:00"), utc("2021-03-01T08:00"), None]
    plans = [plan_series(start, end, zone, "hour", created_utc=at) for at in born]
    assert plans[0] is plans[1] is plans[2]
    later = plan_series(start, end, zone, "hour", created_utc=utc("2021-03-02T08:00"))
    assert later.windows[0].start_utc == utc("2021-03-02T07:00")
