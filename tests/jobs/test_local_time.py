"""Rows lie on the local clock, whichever way the cloud counts its buckets.

Expected numbers are differences of the register in closed form; expected instants come from
a walk through UTC that looks at the local date.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from held import fetch_series

from copper_cli.plan import plan_series
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.fetch_rows import count_calls

CHANGES = [
    ("America/Denver", date(2023, 3, 12)),
    ("America/Denver", date(2023, 11, 5)),
    ("America/St_Johns", date(2023, 3, 12)),
    ("America/St_Johns", date(2023, 11, 5)),
    ("Australia/Lord_Howe", date(2023, 4, 2)),
    ("Australia/Lord_Howe", date(2023, 10, 1)),
    ("Europe/London", date(2023, 3, 26)),
    ("Europe/London", date(2023, 10, 29)),
    ("Africa/Casablanca", date(2023, 3, 19)),
    ("Africa/Casablanca", date(2023, 4, 23)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2018, 2, 17)),
    ("Asia/Beirut", date(2022, 3, 27)),
    ("Asia/Beirut", date(2022, 10, 29)),
    ("America/Havana", date(2023, 3, 12)),
    ("America/Havana", date(2023, 11, 5)),
    ("Pacific/Apia", date(2020, 4, 5)),
    ("Pacific/Apia", date(2020, 9, 27)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Asia/Kolkata", date(2023, 3, 12)),
    ("Asia/Kathmandu", date(2023, 3, 12)),
]
"""Days of 23, 23.5, 24.5 and 25 hours, one that was skipped, and two zones without any."""
ZONES = tuple(dict.fromkeys(zone for zone, _ in CHANGES))
HOURS = {"hour": 1, "bihour": 2, "day": 24}
DAY = timedelta(days=1)


@pytest.fixture(scope="module", params=["from-start", "aligned"])
def cloud(request):
    """A cloud whose meters are older than any change above; both ways of counting."""
    quirks = frozenset({"aligned-buckets"} if request.param == "aligned" else ())
    config = SandboxConfig(
        premises=2 * len(ZONES),
        zones=ZONES,
        now=datetime(2025, 1, 1, tzinfo=UTC),
        quota=None,
        quirks=quirks,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copper_cli.sandbox.fleet._OPENED", datetime(2009, 1, 1, tzinfo=UTC))
        box = Sandbox(config)
        with box:
            yield box


@pytest.fixture
def context(cloud, make_context):
    return make_context(cloud)


def meter_in(cloud, zone):
    return next(
        meter
        for meter in cloud.fleet.meters()
        if meter.zone == zone and meter.created_utc.year < 2011
    )


@cache
def first_instant(zone_name: str, day: date) -> int:
    """The first quarter of an hour at which it is `day` there, or later."""
    zone = ZoneInfo(zone_name)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=16)
    while at.astimezone(zone).date() < day:
        at += timedelta(minutes=15)
    return int(at.timestamp())


def midnights(zone: str, start: date, end: date) -> list[int]:
    days = (start + DAY * i for i in range((end - start).days + 1))
    return sorted({first_instant(zone, day) for day in days})


def boundaries(zone: str, start: date, end: date, hours: int) -> list[int]:
    """Each local day in buckets from its midnight on, the last of them as long as is left."""
    edges = midnights(zone, start, end)
    if hours == 24:
        return edges
    inner = [t for a, b in pairwise(edges) for t in range(a, b, hours * 3600)]
    return [*inner, edges[-1]]


def register(cloud, meter, time_s: int) -> float:
    return cloud.fleet.register_at(meter.id, datetime.fromtimestamp(time_s, UTC))


def check_rows(cloud, meter, series, times, factor=1.0, tolerance=0.011):
    """Instants as given; each row after the first holds its own bucket; the sum is theirs."""
    assert list(series.times_s) == times
    at = [register(cloud, meter, time_s) for time_s in times]
    for index, (a, b) in enumerate(pairwise(times), start=1):
        used = (at[index] - at[index - 1]) * factor
        assert series.energy[index] == pytest.approx(used, abs=tolerance), index
        hours = (b - a) / 3600
        assert series.power[index] == pytest.approx(series.energy[index] / hours, abs=1e-4)
    assert series.sum_energy == pytest.approx((at[-1] - at[0]) * factor, abs=1e-6)
    assert sum(series.energy[1:]) == pytest.approx(series.sum_energy, abs=0.02 + 1e-4 * len(times))
    return at


def check_usage(cloud, meter, series, times):
    """As above; and each register is the meter's at the row's instant, two places, cut off."""
    at = check_rows(cloud, meter, series, times)
    assert list(series.value) == [math.floor(amount * 100) / 100 for amount in at]
    assert list(series.actual) == [math.floor(amount * 100) for amount in at]


def fetch(context, meter, start, end, granularity, kind="usage", **options):
    plan = plan_series(start, end, ZoneInfo(meter.zone), granularity, **options)
    return fetch_series(context, meter.id, kind, plan)


@pytest.mark.parametrize("granularity", HOURS)
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_change_within_the_range(cloud, context, zone, change, granularity):
    """Three days before and after it: no row is lost, doubled or shifted, the odd one is right."""
    meter = meter_in(cloud, zone)
    start, end = change - 3 * DAY, change + 4 * DAY
    series = fetch(context, meter, start, end, granularity)
    check_usage(cloud, meter, series, boundaries(zone, start, end, HOURS[granularity]))


@pytest.mark.parametrize("granularity", HOURS)
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_change_on_the_last_day(cloud, context, zone, change, granularity):
    """END is the midnight after it: its row is there and holds the odd day, at a call more."""
    meter = meter_in(cloud, zone)
    start, end = change - 2 * DAY, change + DAY
    before = cloud.calls
    series = fetch(context, meter, start, end, granularity)
    assert cloud.calls - before <= 2
    check_usage(cloud, meter, series, boundaries(zone, start, end, HOURS[granularity]))


@pytest.mark.parametrize("granularity", HOURS)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_a_change_on_the_first_day_or_just_before(
    cloud, context, zone, change, offset, granularity
):
    """START is the midnight before it, or the one after it, which may not be 00:00."""
    meter = meter_in(cloud, zone)
    start, end = change + offset * DAY, change + 3 * DAY
    series = fetch(context, meter, start, end, granularity)
    check_usage(cloud, meter, series, boundaries(zone, start, end, HOURS[granularity]))


@pytest.mark.parametrize("kind", ["baseline-series", "average-series"])
@pytest.mark.parametrize("granularity", [*HOURS, "month"])
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_series_without_registers(cloud, context, zone, change, granularity, kind):
    """What is odd comes from the window's sum, also where the change is on the last day."""
    meter = meter_in(cloud, zone)
    factor = cloud.fleet.series_factor(meter.id, kind.partition("-")[0])
    if granularity == "month":
        start, ends = date(change.year, 1, 1), [date(change.year + 1, 1, 1)]
    else:
        start, ends = change - 2 * DAY, [change + DAY, change + 3 * DAY]
    for end in ends:
        series = fetch(context, meter, start, end, granularity, kind)
        if granularity == "month":
            times = [first_instant(zone, day) for day in firsts(start, 13)]
        else:
            times = boundaries(zone, start, end, HOURS[granularity])
        check_rows(cloud, meter, series, times, factor)
        assert set(series.value) == {None}


def firsts(start: date, count: int) -> list[date]:
    """The first of each month from `start` on."""
    months = (start.year * 12 + start.month - 1 + i for i in range(count))
    return [date(month // 12, month % 12 + 1, 1) for month in months]


@pytest.mark.parametrize(
    "first", [date(2023, 1, 1), date(2023, 12, 1), date(2011, 11, 1), date(2018, 3, 1)]
)
@pytest.mark.parametrize("zone", ZONES)
def test_months_lie_on_the_local_first(cloud, context, zone, first):
    """Twelve months from January, December (short February ahead), or over a change of either
    kind: each row is at the local midnight of the 1st and holds that month."""
    meter = meter_in(cloud, zone)
    days = firsts(first, 13)
    series = fetch(context, meter, days[0], days[-1], "month")
    check_usage(cloud, meter, series, [first_instant(zone, day) for day in days])


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("zone", ["America/Denver", "Asia/Kolkata", "Europe/London"])
def test_one_month_alone(cloud, context, zone, month):
    """March is there though the clocks change in it; so is any other month, in two calls."""
    meter = meter_in(cloud, zone)
    start, end = firsts(date(2023, month, 1), 2)
    before = cloud.calls
    series = fetch(context, meter, start, end, "month")
    assert cloud.calls - before <= 2
    check_usage(cloud, meter, series, [first_instant(zone, start), first_instant(zone, end)])


@pytest.mark.parametrize("day", [5, 15, 28, 31])
@pytest.mark.parametrize("zone", ["America/Denver", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_months_from_another_day_of_the_month(cloud, context, zone, day):
    """From 15 January rows lie at the local midnight of the 15th; from the 31st on the last.

    A cloud that follows the local calendar has no such months: its own, of the 1st, stay.
    """
    meter = meter_in(cloud, zone)
    months = range(1, 13)
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    days = [date(2023, m, min(day, lengths[m - 1])) for m in months]
    series = fetch(context, meter, days[0], days[-1], "month")
    if cloud.config.quirks:
        local = ZoneInfo(zone)
        assert {datetime.fromtimestamp(t, local).day for t in series.times_s[1:]} <= {1, day}
    else:
        check_usage(cloud, meter, series, [first_instant(zone, d) for d in days])


@pytest.mark.parametrize("step_days", [1, 2, 7])
@pytest.mark.parametrize("granularity", [*HOURS, "month"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [CHANGES[0], CHANGES[1], CHANGES[4], CHANGES[10], CHANGES[15], CHANGES[18]],
)
def test_steps_change_no_row(cloud, context, zone, change, granularity, step_days):
    """`--step` gives the rows of one window: instants, amounts, registers; and the same sum."""
    meter = meter_in(cloud, zone)
    start, end = change - 5 * DAY, change + 4 * DAY
    if granularity == "month":
        start, end = date(change.year, 1, 1), date(change.year + 1, 1, 1)
        times = [first_instant(zone, day) for day in firsts(start, 13)]
    else:
        times = boundaries(zone, start, end, HOURS[granularity])
    series = fetch(context, meter, start, end, granularity, step_days=step_days)
    check_usage(cloud, meter, series, times)


@pytest.mark.parametrize("granularity", ["minute", "fifteenminute"])
@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_short_buckets_need_one_call(cloud, context, zone, change, granularity):
    """No change moves a quarter of an hour: one window, every bucket."""
    meter = meter_in(cloud, zone)
    step = {"minute": 60, "fifteenminute": 900}[granularity]
    before = cloud.calls
    series = fetch(context, meter, change - DAY, change + DAY, granularity)
    assert cloud.calls - before == 1
    first, last = first_instant(zone, change - DAY), first_instant(zone, change + DAY)
    check_usage(cloud, meter, series, list(range(first, last + 1, step)))


@pytest.mark.parametrize(
    ("granularity", "calls"), [("hour", 1), ("bihour", 3), ("day", 3), ("month", 3)]
)
def test_a_year_costs_a_call_a_change(cloud, context, granularity, calls):
    """Denver's year has two changes: three windows, and for hours one; estimated the same."""
    meter = meter_in(cloud, "America/Denver")
    plan = plan_series(date(2023, 1, 1), date(2024, 1, 1), ZoneInfo(meter.zone), granularity)
    assert count_calls(context, meter.id, "usage", plan).calls == calls
    before = cloud.calls
    fetch_series(context, meter.id, "usage", plan)
    assert cloud.calls - before == calls


def test_a_change_on_the_last_day_is_estimated(cloud, context):
    """The call for the register at END counts; where END is still to come it does not."""
    meter = meter_in(cloud, "America/Denver")
    zone = ZoneInfo(meter.zone)
    plan = plan_series(date(2023, 3, 1), date(2023, 3, 13), zone, "day")
    assert count_calls(context, meter.id, "usage", plan).calls == 2
    plan = plan_series(date(2025, 3, 1), date(2025, 3, 10), zone, "day")
    assert count_calls(context, meter.id, "usage", plan).calls == 1
