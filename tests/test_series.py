"""Answers put together: nothing lost, nothing doubled, nothing made up."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.plan import plan_series
from copper_cli.records import Series
from copper_cli.series import (
    EMPTY,
    clip_series,
    has_values,
    join_windows,
    merge_series,
    sum_rows,
    survey_series,
)

DENVER = ZoneInfo("America/Denver")
H = 3600


def survey(series, plan, created_utc_s=None):
    """What one answer holds."""
    return survey_series([series], plan, created_utc_s, series.sum_energy)


def make(rows, total=None, meter_type=None):
    """A series of (time, energy) or (time, energy, register) rows; power is the energy an hour."""
    full = [(*row, None)[:3] for row in rows]
    return Series(
        [time_s for time_s, _, _ in full],
        [energy for _, energy, _ in full],
        [energy for _, energy, _ in full],
        [value for _, _, value in full],
        [None if value is None else round(value * 100) for _, _, value in full],
        total,
        meter_type,
    )


def rows_of(series):
    return list(zip(series.times_s, series.energy, series.value, strict=True))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


# Merging


def test_windows_meet_in_one_row():
    """Both answers hold the instant where they meet; the series holds it once."""
    merged = merge_series([make([(0, 1.0), (1, 2.0)], 2.0), make([(1, 2.0), (2, 3.0)], 3.0)])
    assert rows_of(merged) == [(0, 1.0, None), (1, 2.0, None), (2, 3.0, None)]
    assert merged.sum_energy == 5.0


def test_a_null_first_row_hides_no_known_one():
    """Whichever of the two answers knows the row where they meet, it stays whole."""
    known, null = make([(0, 1.0, 5.0), (1, 2.0, 7.0)], 2.0), make([(1, None), (2, 3.0, 10.0)], 3.0)
    assert rows_of(merge_series([known, null]))[1] == (1, 2.0, 7.0)
    first, second = make([(0, 1.0, 5.0), (1, None)], None), make([(1, 2.0, 7.0), (2, 3.0)], 3.0)
    assert rows_of(merge_series([first, second]))[1] == (1, 2.0, 7.0)


def test_a_register_is_kept_though_the_amount_is_not_known():
    """The first row of an answer may say the register only; it fills a row that says nothing,
    and one that says the amount only, whose power stays its own."""
    nothing, register = make([(0, 1.0), (1, None)]), make([(1, None, 7.0), (2, 3.0, 10.0)])
    assert rows_of(merge_series([nothing, register]))[1] == (1, None, 7.0)
    amount = make([(0, 1.0), (1, 2.0)])
    merged = merge_series([amount, register])
    assert rows_of(merged)[1] == (1, 2.0, 7.0)
    assert merged.power[1] == 2.0
    assert merged.actual[1] == 700


def test_a_row_missing_in_the_first_answer_is_put_in_its_place():
    """The second answer begins before the first ends."""
    merged = merge_series([make([(0, 1.0), (3, 4.0)]), make([(1, 2.0), (2, 3.0), (4, 5.0)])])
    assert [row[:2] for row in rows_of(merged)] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(1, 9)), max_size=12),
        min_size=1,
        max_size=5,
    )
)
def test_merging_keeps_every_instant_once_and_every_known_amount(answers):
    """In any order and overlap: ascending, no instant twice, no amount lost or made up."""
    given_ = [make(sorted(dict(rows).items())) for rows in answers]
    merged = merge_series(given_)
    assert list(merged.times_s) == sorted({t for a in given_ for t in a.times_s})
    for time_s, energy in zip(merged.times_s, merged.energy, strict=True):
        offered = [
            e for a in given_ for t, e in zip(a.times_s, a.energy, strict=True) if t == time_s
        ]
        known = [e for e in offered if e is not None]
        assert energy == (known[0] if known else None)


def test_one_answer_is_the_series():
    """Nothing is copied."""
    answer = make([(0, 1.0)], 1.0)
    assert merge_series([answer]) is answer


def test_a_part_of_the_sum_is_no_sum():
    """An answer with amounts but without a sum leaves the whole unknown; one that holds nothing,
    or only the row at its start, adds nothing."""
    some = make([(0, 1.0), (1, 2.0)], 2.0)
    assert merge_series([some, make([(1, 2.0), (2, 3.0)])]).sum_energy is None
    assert merge_series([some, make([(1, 2.0), (2, None)])]).sum_energy == 2.0
    assert merge_series([some, EMPTY]).sum_energy == 2.0
    assert merge_series([EMPTY, EMPTY]).sum_energy is None


def test_sums_are_added_as_decimals_read():
    """0.1 and 0.2 and 0.3 are 0.6, not 0.6000000000000001."""
    answers = [make([(n, 1.0)], total) for n, total in enumerate((0.1, 0.2, 0.3))]
    assert merge_series(answers).sum_energy == 0.6
    assert merge_series([make([(0, 1.0)], 0.1), make([(1, 1.0)], 0.2)]).sum_energy == 0.3


def test_the_type_is_the_first_that_is_said():
    """Answers may leave it out."""
    merged = merge_series([make([(0, 1)]), make([(1, 1)], None, "gas"), make([(2, 1)], None, "x")])
    assert merged.meter_type == "gas"


# Looking at a series


def test_clipping_keeps_both_ends_and_the_sum():
    """From 1 to 2: two rows of four."""
    series = make([(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)], 9.0)
    clipped = clip_series(series, 1, 2)
    assert [row[0] for row in rows_of(clipped)] == [1, 2]
    assert clipped.sum_energy == 9.0
    assert clip_series(series, 0, 3) is series


def test_a_sum_alone_is_no_value():
    """A meter that reports has a row with an amount or a register."""
    assert not has_values(make([(0, None)], 0.0))
    assert not has_values(EMPTY)
    assert has_values(make([(0, 0.0)]))
    assert has_values(make([(0, None, 3.0)]))


HOURS = plan_series(date(2022, 1, 1), date(2022, 1, 2), DENVER, "hour")
"""24 buckets, the first of which ends an hour after its start."""


def hours(*energy, first=0):
    """A row an hour from START on; `...` leaves one out."""
    rows = [(HOURS.start_s + (first + n) * H, e) for n, e in enumerate(energy) if e is not ...]
    return make(rows)


def gaps_of(series, **how):
    found = survey(series, HOURS, **how)
    return [
        ((gap.after_s - HOURS.start_s) // H, (gap.until_s - HOURS.start_s) // H, gap.count)
        for gap in found.gaps
    ]


def test_buckets_without_an_amount_are_found():
    """Null or absent, at the start, between and at the end; the row at START is none of them."""
    whole = [1.0] * 25
    assert gaps_of(hours(*whole)) == []
    assert gaps_of(hours(None, *whole[1:])) == []
    assert gaps_of(hours(..., *whole[1:])) == []
    assert gaps_of(hours(1.0, None, ..., *whole[3:])) == [(0, 2, 2)]
    assert gaps_of(hours(*whole[:3], *[...] * 8, *whole[11:])) == [(2, 10, 8)]
    assert gaps_of(hours(*whole[:20], None, None)) == [(19, 24, 5)]
    assert gaps_of(EMPTY) == [(0, 24, 24)]
    assert gaps_of(hours(*[None] * 25)) == [(0, 24, 24)]


def test_nothing_is_missing_from_before_a_meter():
    """The bucket in which it was created is waited for; in the end it is no loss, since the meter
    may have been there for a minute of it."""
    created_s = HOURS.start_s + 10 * H + 60
    series = hours(*[...] * 12, *[1.0] * 13)
    assert gaps_of(series) == [(0, 11, 11)]
    assert gaps_of(series, created_utc_s=created_s) == [(10, 11, 1)]
    found = survey(series, HOURS, created_s)
    young, old = HOURS.end_s, HOURS.end_s + 40 * 24 * H
    assert [gap.told for gap in found.gaps_at(young)] == [True]
    assert [gap.told for gap in found.gaps_at(old)] == [False]
    found = survey(hours(*[...] * 14, *[1.0] * 11), HOURS, created_s)
    assert [(gap.count, gap.told) for gap in found.gaps_at(old)] == [(1, False), (2, True)]
    whole = hours(*[...] * 11, *[1.0] * 14)
    assert survey(whole, HOURS, created_s).gaps_at(old) == []


@pytest.mark.parametrize("granularity", ["day", "month"])
def test_a_long_bucket_of_a_young_meter_is_waited_for(granularity):
    """Created on the only day, or in the only month, that is asked for."""
    end = date(2021, 5, 2) if granularity == "day" else date(2021, 6, 1)
    plan = plan_series(date(2021, 5, 1), end, DENVER, granularity)
    created_s = at("2021-05-01T20:00:00")
    (gap,) = survey(EMPTY, plan, created_s).gaps_at(plan.end_s)
    assert (gap.until_s, gap.count, gap.told) == (plan.end_s, 1, True)


SPRING = (date(2022, 3, 12), date(2022, 3, 15), DENVER)
AUTUMN = (date(2021, 11, 6), date(2021, 11, 9), DENVER)
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


@pytest.mark.parametrize(
    ("start", "end", "zone", "granularity"),
    [
        (*SPRING, "day"),
        (*SPRING, "bihour"),
        (*SPRING, "hour"),
        (*AUTUMN, "day"),
        (*AUTUMN, "bihour"),
        (date(2021, 4, 3), date(2021, 4, 6), LORD_HOWE, "hour"),
        (date(2021, 4, 3), date(2021, 4, 6), LORD_HOWE, "bihour"),
        (date(2021, 10, 2), date(2021, 10, 5), LORD_HOWE, "hour"),
        (date(2021, 1, 1), date(2022, 1, 1), DENVER, "month"),
        (date(2021, 1, 1), date(2022, 1, 1), ZoneInfo("Asia/Tokyo"), "month"),
    ],
)
def test_every_bucket_counts_and_none_besides(start, end, zone, granularity):
    """Of odd length or not, one that is left out is a gap of one, and the whole is without."""
    plan = plan_series(start, end, zone, granularity)
    ends = bucket_ends(plan, zone)
    whole = make([(t, 1.0) for t in ends])
    assert survey(whole, plan).gaps == []
    for left_out in ends[1:]:
        rows = [(t, 1.0) for t in ends if t != left_out]
        (gap,) = survey(make(rows), plan).gaps
        assert (gap.until_s, gap.count) == (left_out, 1)
        nulls = [(t, None if t == left_out else 1.0) for t in ends]
        assert survey(make(nulls), plan).gaps == [gap]
    (gap,) = survey(EMPTY, plan).gaps
    assert gap.count == len(ends) - 1


def bucket_ends(plan, zone):
    """By the calendar: each local midnight (for months each first), and whole steps in between."""
    midnights = [int(plan.windows[0].start_utc.timestamp())]
    day = plan.windows[0].start_utc.astimezone(zone).date()
    while midnights[-1] < plan.end_s:
        day = date.fromordinal(day.toordinal() + 1)
        if plan.granularity != "month" or day.day == 1:
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            midnights.append(int(midnight.timestamp()))
    step = {"hour": 3600, "bihour": 7200}.get(plan.granularity)
    if step is None:
        return midnights
    found = {midnights[-1]}
    for before, after in pairwise(midnights):
        found |= set(range(before, after, step))
    return sorted(found)


def test_a_sum_that_is_not_that_of_the_rows_is_seen():
    """18 where the cloud says 36; a hundredth and what four decimals round off are let pass."""
    rows = [(HOURS.start_s + n * H, 0.75) for n in range(25)]
    short = survey(make(rows, 36.0), HOURS)
    assert (short.sum_rows, short.disagrees(), short.falls_short()) == (18.0, True, True)
    over = survey(make(rows, 12.0), HOURS)
    assert (over.disagrees(), over.falls_short()) == (True, False)
    for total in (18.0, 18.18, 17.82, None):
        assert not survey(make(rows, total), HOURS).disagrees()
    holes = survey(make(rows[:13], 18.0), HOURS)
    assert (holes.disagrees(), holes.falls_short()) == (True, False)


def test_a_survey_sees_over_the_seams():
    """A gap may begin in one piece and go on in the next."""
    pieces = [hours(*[1.0] * 10, None, None), hours(None, None, *[1.0] * 11, first=12)]
    found = survey_series(pieces, HOURS)
    assert (found.rows, found.has_values, found.sum_rows) == (25, True, 20.0)
    start_s = HOURS.start_s
    assert [(gap.after_s - start_s, gap.count) for gap in found.gaps] == [(9 * H, 4)]
    assert survey_series([], HOURS).gaps[0].count == 24


def test_rows_add_up_without_the_one_at_the_start():
    """And not at all where one of them is unknown."""
    series = make([(0, 100.0), (1, 2.0), (2, 3.0)])
    assert sum_rows(series, 0) == 5.0
    assert sum_rows(make([(0, None), (1, 2.0)]), 0) == 2.0
    assert sum_rows(make([(0, 1.0), (1, None), (2, 3.0)]), 0) is None
    assert sum_rows(make([(0, 1.0)]), 0) is None


# The day of 23 hours in Denver, 12 March 2023, by the registers 0, 24, 47, 71: a unit an hour

MIDNIGHTS = [at("2023-03-11T07:00"), at("2023-03-12T07:00"), at("2023-03-13T06:00")]
LATER = at("2023-03-14T06:00")
SPRING = plan_series(date(2023, 3, 11), date(2023, 3, 14), DENVER, "day")


def test_the_odd_day_is_its_registers_difference():
    """The cloud says 24 for the bucket counted back from the new midnight; the day had 23."""
    before = make([(MIDNIGHTS[0], 24.0, 0.0), (MIDNIGHTS[1], 24.0, 24.0)], 47.0)
    after = make([(MIDNIGHTS[2], 24.0, 47.0), (LATER, 24.0, 71.0)], 24.0)
    series = join_windows(SPRING, [before, after])
    assert [row[1] for row in rows_of(series)] == [24.0, 24.0, 23.0, 24.0]
    assert series.power[2] == 1.0
    assert series.sum_energy == 71.0


def test_a_register_set_back_leaves_it_to_the_sum():
    """A new meter counts from 0: what the window's sum leaves is the odd day."""
    before = make([(MIDNIGHTS[0], 24.0, 900.0), (MIDNIGHTS[1], 24.0, 924.0)], 47.0)
    after = make([(MIDNIGHTS[2], 24.0, 3.0), (LATER, 24.0, 27.0)], 24.0)
    assert join_windows(SPRING, [before, after]).energy[2] == 23.0


def test_a_register_that_jumps_leaves_it_to_the_sum():
    """A new meter stands higher than the old one did."""
    before = make([(MIDNIGHTS[0], 24.0, 900.0), (MIDNIGHTS[1], 24.0, 924.0)], 47.0)
    after = make([(MIDNIGHTS[2], 24.0, 40947.0), (LATER, 24.0, 40971.0)], 24.0)
    assert join_windows(SPRING, [before, after]).energy[2] == 23.0


def test_the_sum_leaves_nothing_where_a_row_is_unknown():
    """The remainder would hold that row too: the odd day is unknown, not wrong."""
    plan = plan_series(date(2023, 3, 10), date(2023, 3, 14), DENVER, "day")
    start = make([(at("2023-03-10T07:00"), 24.0), (MIDNIGHTS[0], None), (MIDNIGHTS[1], 24.0)], 71.0)
    after = make([(MIDNIGHTS[2], 24.0), (LATER, 24.0)], 24.0)
    series = join_windows(plan, [start, after])
    assert (series.energy[3], series.power[3]) == (None, None)
    missing = make([(at("2023-03-10T07:00"), 24.0), (MIDNIGHTS[1], 24.0)], 71.0)
    assert join_windows(plan, [missing, after]).energy[2] is None
    short = make([(at("2023-03-10T07:00"), 24.0), (MIDNIGHTS[0], 24.0)], 71.0)
    assert join_windows(plan, [short, after]).energy[2] is None


def test_the_sum_is_read_alike_without_the_row_at_the_start():
    """A cloud may leave the row at a window's start out: the first row is then the first day's,
    and the row at the change is made from the sum."""
    before = make([(MIDNIGHTS[1], 24.0)], 47.0)
    after = make([(LATER, 24.0)], 24.0)
    series = join_windows(SPRING, [before, after])
    assert [row[:2] for row in rows_of(series)] == [
        (MIDNIGHTS[1], 24.0),
        (MIDNIGHTS[2], 23.0),
        (LATER, 24.0),
    ]


def test_without_a_sum_the_odd_day_is_unknown():
    """Neither registers nor sum: the cloud's 24 hours are not the day's 23."""
    before = make([(MIDNIGHTS[0], 24.0), (MIDNIGHTS[1], 24.0)])
    after = make([(MIDNIGHTS[2], 24.0), (LATER, 24.0)])
    assert join_windows(SPRING, [before, after]).energy[2] is None


def test_the_clouds_own_odd_day_stays():
    """Where the window before the change reaches it, the cloud follows the local day; rows that
    lie outside a window are not its own."""
    before = make(
        [(MIDNIGHTS[0], 24.0, 0.0), (MIDNIGHTS[1], 24.0, 24.0), (MIDNIGHTS[2], 22.9, 47.0)]
    )
    after = make([(MIDNIGHTS[2], 22.9, 47.0), (LATER, 24.0, 71.0)])
    assert join_windows(SPRING, [before, after]).energy[2] == 22.9
    outside = make(
        [(MIDNIGHTS[0], 24.0, 0.0), (MIDNIGHTS[1], 24.0, 24.0), (MIDNIGHTS[2] + H, 24.0, 48.0)]
    )
    counted = make([(MIDNIGHTS[2], 24.0, 47.0), (LATER, 24.0, 71.0)])
    series = join_windows(SPRING, [outside, counted])
    assert list(series.times_s) == [*MIDNIGHTS, LATER]
    assert series.energy[2] == 23.0


def test_the_stray_row_of_a_long_day_goes():
    """24 of 25 hours end an hour before midnight: no day ends there."""
    plan = plan_series(date(2023, 11, 5), date(2023, 11, 7), DENVER, "day")
    start, stray, cut, end = (
        at(text)
        for text in ("2023-11-05T06:00", "2023-11-06T06:00", "2023-11-06T07:00", "2023-11-07T07:00")
    )
    before = make([(start, 24.0, 0.0), (stray, 24.0, 24.0)], 25.0)
    after = make([(cut, 24.0, 25.0), (end, 24.0, 49.0)], 24.0)
    assert rows_of(join_windows(plan, [before, after])) == [
        (start, 24.0, 0.0),
        (cut, 25.0, 25.0),
        (end, 24.0, 49.0),
    ]


def test_buckets_to_come_stay_unknown():
    """Null rows are not mended from a sum that stops at this moment, wherever now is."""
    before = make([(MIDNIGHTS[0], 24.0, 0.0), (MIDNIGHTS[1], 24.0, 24.0)], 30.0)
    after = make([(MIDNIGHTS[2], None), (LATER, None)], 0.0)
    assert [row[1:] for row in rows_of(join_windows(SPRING, [before, after]))] == [
        (24.0, 0.0),
        (24.0, 24.0),
        (None, None),
        (None, None),
    ]
    nothing = make([(MIDNIGHTS[0], None), (MIDNIGHTS[1], None)], 0.0)
    assert not has_values(join_windows(SPRING, [nothing, after]))
    empty = join_windows(SPRING, [make([(MIDNIGHTS[0], 24.0, 0.0)], 6.0), EMPTY])
    assert rows_of(empty) == [(MIDNIGHTS[0], 24.0, 0.0)]


def test_a_change_at_the_end_is_known_by_the_bucket_beyond():
    """The last window misses END's row; the first row of what lies beyond has its register, and
    nothing after END is kept. Its sum does not count."""
    plan = plan_series(date(2023, 3, 11), date(2023, 3, 13), DENVER, "day")
    before = make([(MIDNIGHTS[0], 24.0, 0.0), (MIDNIGHTS[1], 24.0, 24.0)], 47.0)
    beyond = make([(MIDNIGHTS[2], 24.0, 47.0), (MIDNIGHTS[2] + 24 * H, 24.0, 71.0)], 24.0)
    series = join_windows(plan, [before], beyond)
    assert rows_of(series)[-1] == (MIDNIGHTS[2], 23.0, 47.0)
    assert series.sum_energy == 47.0
    to_come = join_windows(plan, [before])
    assert rows_of(to_come)[-1] == (MIDNIGHTS[2], None, None)


# Months


MONTHS = [at(f"2023-{month:02}-01T07:00") for month in (1, 2, 3, 4)]
QUARTER = plan_series(date(2023, 1, 1), date(2023, 4, 1), ZoneInfo("America/Phoenix"), "month")


@pytest.mark.parametrize(
    ("february", "register", "expected"),
    [
        (700.0, 671.99, 671.99),  # the cloud took 30 days; the register tells
        (672.0, 671.99, 672.0),  # the same but for the register's second place
        (672.0, None, 672.0),
        (None, 671.99, None),  # to come, or a gap: not made up
    ],
)
def test_a_month_is_what_the_register_moved(february, register, expected):
    """Where the cloud's month differs from its registers by more than they can differ."""
    value = None if register is None else 744.0 + register
    rows = [(MONTHS[0], 1.0, 0.0), (MONTHS[1], 744.0, 744.0), (MONTHS[2], february, value)]
    series = join_windows(QUARTER, [make(rows, 1416.0)])
    assert series.energy[2] == expected
    if expected == 671.99:
        assert series.power[2] == 1.0  # 28 days: 672 hours


@pytest.mark.parametrize(
    ("jump", "own_sum"),
    [
        (40000.0, 1416.0),  # a new meter, which stands higher
        (40000.0, None),
        (25.0, 1416.0),  # the months add up: the register counts otherwise
    ],
)
def test_a_month_is_the_clouds_where_its_register_counts_otherwise(jump, own_sum):
    rows = [(MONTHS[0], 1.0, 0.0), (MONTHS[1], 744.0, 744.0), (MONTHS[2], 672.0, 1416.0 + jump)]
    assert join_windows(QUARTER, [make(rows, own_sum)]).energy[2] == 672.0


def test_a_month_of_no_register_over_a_change_is_what_the_sum_leaves():
    """January to May in Denver: March ends an hour early; its row comes with the next window."""
    plan = plan_series(date(2023, 1, 1), date(2023, 5, 1), DENVER, "month")
    april, may = at("2023-04-01T06:00"), at("2023-05-01T06:00")
    before = make([(MONTHS[0], 1.0), (MONTHS[1], 744.0), (MONTHS[2], 672.0)], 2159.0)
    after = make([(april, 744.0), (may, 720.0)], 720.0)
    assert [row[1] for row in rows_of(join_windows(plan, [before, after]))] == [
        1.0,
        744.0,
        672.0,
        743.0,
        720.0,
    ]
