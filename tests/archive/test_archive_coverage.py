"""What is known of which span, against a table of every bucket."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.archive import Covered, SeriesKey, Span
from copper_cli.archive import coverage as ranges
from copper_cli.archive.landing import covered_near, replace_coverage
from copper_cli.archive.schema import MIGRATIONS
from copper_cli.buckets import DAY_S, Grid
from copper_cli.filling import ASK_AGES_S, FINAL_S, TO_COME_S, Gap, is_due

H = 3600
T0 = 1_700_006_400
"""A whole hour."""
BUCKETS = 40
ZONE = "Europe/Berlin"


def even_grid(phase_s: int) -> list[int]:
    return [T0 + phase_s + place * H for place in range(BUCKETS + 1)]


def local_days() -> list[int]:
    """Midnights over the end of summer time: one day has 25 hours."""
    zone = ZoneInfo(ZONE)
    days = [datetime(2024, 10, 10, tzinfo=zone).toordinal() + place for place in range(BUCKETS + 1)]
    return [int(datetime.fromordinal(day).replace(tzinfo=zone).timestamp()) for day in days]


KINDS = {
    "hour": (SeriesKey("m", "usage", "hour", "0"), even_grid(0)),
    "half": (SeriesKey("m", "usage", "hour", "1800"), even_grid(1800)),
    "day": (SeriesKey("m", "usage", "day", ZONE), local_days()),
}


def grid_of(key: SeriesKey, ends: list[int], first: int, last: int) -> Grid:
    """Of a span, with an edge at each odd bucket, as plans have them."""
    if key.granularity != "day":
        return Grid((ends[first], ends[last]), key.granularity)
    odd = [place for place in range(first, last) if ends[place + 1] - ends[place] != DAY_S]
    edges = {first, last, *odd, *(place + 1 for place in odd)}
    return Grid(
        tuple(ends[place] for place in sorted(edges)),
        key.granularity,
        tuple(ends[place] for place in odd),
    )


@dataclass
class Table:
    """State and when asked for of each bucket, by the place of its end; none: never asked."""

    of: dict[int, tuple[str, int]] = field(default_factory=dict)

    def land(self, first: int, last: int, cells: dict[int, float | None], asked_s: int) -> None:
        for place in range(first + 1, last + 1):
            before = self.of.get(place)
            if cells.get(place) is not None:
                self.of[place] = "known", ranges.coarse(asked_s)
            elif before is None or before[0] != "known":
                self.of[place] = ("null" if place in cells else "absent"), asked_s

    def fail(self, first: int, last: int, asked_s: int) -> None:
        for place in range(first + 1, last + 1):
            if self.of.get(place, ("",))[0] != "known":
                self.of[place] = "failed", asked_s

    def drop(self, first: int, last: int) -> None:
        for place in range(first + 1, last + 1):
            self.of.pop(place, None)


SPANS = st.tuples(st.integers(0, BUCKETS - 1), st.integers(1, 12)).map(
    lambda found: (found[0], min(found[0] + found[1], BUCKETS))
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["land", "land", "land", "fail", "drop"]),
        SPANS,
        st.lists(st.sampled_from(["value", "value", "null", "none"]), min_size=12, max_size=12),
        st.integers(0, 70 * DAY_S),
    ),
    max_size=12,
)


def spread(covered: list[Covered], ends: list[int]) -> dict[int, tuple[str, int]]:
    """The ranges bucket by bucket; checks that they are in order, whole and joined."""
    found: dict[int, tuple[str, int]] = {}
    for before, after in pairwise(covered):
        assert before.end_s <= after.start_s
        if before.end_s == after.start_s:
            assert (before.state, before.asked_s) != (after.state, after.asked_s)
    for one in covered:
        first, last = ends.index(one.start_s), ends.index(one.end_s)
        assert one.buckets == last - first
        for place in range(first + 1, last + 1):
            found[place] = one.state, one.asked_s
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(steps=STEPS)
def test_ranges_tell_of_every_bucket_what_a_table_does(kind: str, steps: list) -> None:
    key, ends = KINDS[kind]
    table, covered = Table(), []
    for what, (first, last), cells, after_s in steps:
        span, asked_s = (ends[first], ends[last]), T0 + after_s
        if what == "fail":
            ruler = ranges.ruler_of(key)
            failed = Covered(*span, "failed", asked_s, last - first)
            covered = ranges.put(covered, [failed], ruler)
            table.fail(first, last, asked_s)
        elif what == "drop":
            covered = ranges.join(ranges.without(covered, span, ranges.ruler_of(key)))
            table.drop(first, last)
        else:
            places = range(first + 1, last + 1)
            row_of = dict(zip(places, cells, strict=False))
            rows = {p: 1.0 if c == "value" else None for p, c in row_of.items() if c != "none"}
            grid = grid_of(key, ends, first, last)
            fresh = ranges.survey([ends[p] for p in rows], list(rows.values()), grid, span, asked_s)
            assert (fresh[0].start_s, fresh[-1].end_s) == span
            covered = ranges.put(covered, fresh, ranges.ruler_of(key, grid))
            table.land(first, last, rows, asked_s)
        assert spread(covered, ends) == table.of
    for first, last in [(0, BUCKETS), (3, 17), (20, 21)]:
        span = ends[first], ends[last]
        clipped = ranges.clip(covered, span, ranges.ruler_of(key))
        inside = {p: one for p, one in table.of.items() if first < p <= last}
        assert spread(clipped, ends) == inside


@pytest.mark.parametrize("kind", KINDS)
@given(steps=STEPS, now_after_s=st.integers(0, 140 * DAY_S), recheck=st.booleans())
def test_what_is_lacking(kind: str, steps: list, now_after_s: int, recheck: bool) -> None:
    """Holes, what failed, and each bucket that is due by itself; nothing known, and nothing that
    no bucket of its range asks for."""
    key, ends = KINDS[kind]
    table, covered = Table(), []
    for what, (first, last), cells, after_s in steps:
        span, asked_s = (ends[first], ends[last]), T0 + after_s
        if what == "fail":
            failed = Covered(*span, "failed", asked_s, last - first)
            covered = ranges.put(covered, [failed], ranges.ruler_of(key))
            table.fail(first, last, asked_s)
            continue
        row_of = dict(zip(range(first + 1, last + 1), cells, strict=False))
        rows = {p: 1.0 if c == "value" else None for p, c in row_of.items() if c != "none"}
        grid = grid_of(key, ends, first, last)
        fresh = ranges.survey([ends[p] for p in rows], list(rows.values()), grid, span, asked_s)
        covered = ranges.put(covered, fresh, ranges.ruler_of(key, grid))
        table.land(first, last, rows, asked_s)
    now_s = T0 + now_after_s
    span = ends[2], ends[35]
    found = ranges.lacking(covered, span, ranges.ruler_of(key), now_s=now_s, recheck=recheck)
    assert all(before[1] < after[0] for before, after in pairwise(found))
    asked = set()
    for start_s, end_s in found:
        asked |= set(range(ends.index(start_s) + 1, ends.index(end_s) + 1))
    for place in range(3, 36):
        state, asked_s = table.of.get(place, ("never asked", 0))
        if state in ("never asked", "failed") or (recheck and state != "known"):
            assert place in asked
        elif state == "known":
            assert place not in asked
        elif is_due([Gap(ends[place - 1], ends[place], 1)], asked_s, now_s):
            assert place in asked
        elif place in asked:
            (one,) = [c for c in covered if c.start_s < ends[place] <= c.end_s]
            start_s, end_s = max(one.start_s, span[0]), min(one.end_s, span[1])
            places = range(ends.index(start_s) + 1, ends.index(end_s) + 1)
            assert any(is_due([Gap(ends[p - 1], ends[p], 1)], asked_s, now_s) for p in places)


def hours(key: SeriesKey, start_s: int, count: int, asked_s: int) -> list[Covered]:
    span = start_s, start_s + count * H
    return ranges.survey([], [], Grid(span, "hour"), span, asked_s)


def test_what_was_final_when_asked_for_is_not_asked_for_again() -> None:
    """A year that a meter never sent, with hours at its end that may still come: these, and at
    most two months before them."""
    key = SeriesKey("m", "usage", "hour", "0")
    now_s = T0 + 366 * DAY_S
    covered = hours(key, T0, 365 * 24, T0 + 365 * DAY_S)
    span = covered[0].start_s, covered[0].end_s
    ((start_s, end_s),) = ranges.lacking(covered, span, ranges.ruler_of(key), now_s=now_s)
    assert end_s == span[1]
    assert FINAL_S <= span[1] - start_s <= FINAL_S + ranges.KNOWN_ASKED_S + H
    assert start_s % H == 0
    recheck = ranges.lacking(covered, span, ranges.ruler_of(key), now_s=now_s, recheck=True)
    assert recheck == [span]


def test_each_day_asked_anew_leaves_no_range_of_its_own() -> None:
    key = SeriesKey("m", "usage", "hour", "0")
    ruler = ranges.ruler_of(key)
    covered: list[Covered] = []
    for day in range(1, 400):
        now_s = T0 + day * DAY_S
        span = T0, now_s
        for start_s, end_s in ranges.lacking(covered, span, ruler, now_s=now_s):
            grid = Grid((start_s, end_s), "hour")
            fresh = ranges.survey([], [], grid, (start_s, end_s), now_s)
            covered = ranges.put(covered, fresh, ruler)
    assert len(covered) <= 400 / 28 + 2
    assert sum(one.buckets for one in covered) == 399 * 24


@pytest.mark.parametrize("age_s", ASK_AGES_S)
def test_what_is_late_is_due_once_an_age(age_s: int) -> None:
    key = SeriesKey("m", "usage", "hour", "0")
    covered = hours(key, T0, 1, T0 + age_s)
    span = covered[0].start_s, covered[0].end_s
    ruler = ranges.ruler_of(key)
    due_s = span[1] + age_s
    assert ranges.lacking(covered, span, ruler, now_s=due_s) == [span]
    again = hours(key, T0, 1, due_s)
    expected = [] if age_s >= TO_COME_S else [span]
    assert ranges.lacking(again, span, ruler, now_s=due_s + H) == expected


def test_readings_reach_the_cloud_within_two_days() -> None:
    asked_s, span = T0 + 10 * DAY_S, (T0, T0 + 10 * DAY_S)
    known, absent = ranges.survey_instants(True, span, asked_s, 0)
    assert (known.state, known.end_s) == ("known", asked_s - TO_COME_S)
    assert (absent.state, absent.end_s, absent.asked_s) == ("absent", span[1], asked_s)
    (old,) = ranges.survey_instants(True, span, asked_s + 2 * DAY_S, 0)
    assert (old.state, old.end_s) == ("known", span[1])
    (none,) = ranges.survey_instants(False, span, asked_s, 0)
    assert (none.state, none.end_s) == ("absent", span[1])
    (unread,) = ranges.survey_instants(True, span, asked_s, 3)
    assert (unread.state, unread.unread) == ("null", 3)


def test_buckets_before_the_meter_are_known() -> None:
    span = T0, T0 + 10 * H
    grid = Grid(span, "hour")
    found = ranges.survey([T0 + 6 * H], [1.0], grid, span, T0 + DAY_S, T0 + 4 * H + 1800)
    assert [(one.state, one.buckets) for one in found] == [
        ("known", 4),
        ("absent", 1),
        ("known", 1),
        ("absent", 4),
    ]
    (all_known,) = ranges.survey([], [], grid, span, T0 + DAY_S, T0 + 11 * H)
    assert (all_known.state, all_known.end_s) == ("known", span[1])
    (none,) = ranges.survey([], [], grid, span, T0 + DAY_S, T0 - H)
    assert none.state == "absent"


def test_rows_beside_the_grid_leave_no_part_of_a_span_out() -> None:
    span = T0, T0 + 4 * H
    for times in ([T0 + 1800], [T0 + H, T0 + H + 420, T0 + 2 * H], [T0 + 5, T0 + 3 * H + 7]):
        for energy in (1.0, None):
            grid = Grid(span, "hour")
            found = ranges.survey(times, [energy] * len(times), grid, span, T0 + DAY_S)
            assert (found[0].start_s, found[-1].end_s) == span
            assert all(a.end_s == b.start_s for a, b in pairwise(found))
    part = T0 + H, T0 + H + 600  # no bucket ends in it
    (found_one,) = ranges.survey([], [], Grid(part, "hour"), part, T0 + DAY_S)
    assert (found_one.start_s, found_one.end_s) == part


@pytest.mark.parametrize("granularity", ["hour", "month"])
@given(
    cells=st.lists(st.sampled_from(["value", "null", "none"]), min_size=24, max_size=24),
    odd=st.integers(0, 23),
)
def test_both_ways_to_look_at_an_answer_agree(granularity: str, cells: list[str], odd: int) -> None:
    """Buckets of one length are looked at without counting each: the same comes out."""
    ends = [T0 + place * H for place in range(25)]
    rows = {ends[p + 1]: 1.0 if c == "value" else None for p, c in enumerate(cells) if c != "none"}
    span = ends[0], ends[-1]
    even = Grid(span, "hour")
    slow = Grid(tuple(ends[:1] + ends[odd : odd + 2] + ends[-1:]), "hour", (ends[odd],))
    slow = Grid(tuple(sorted(set(slow.edges))), "hour", slow.odd)
    answers = [
        ranges.survey(list(rows), list(rows.values()), grid, span, T0 + DAY_S)
        for grid in (even, slow)
    ]
    assert answers[0] == answers[1]


def test_only_ranges_near_a_span_are_read() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        MIGRATIONS[0](db)
        covered = [Covered(place * 10, place * 10 + 8, "null", place, 1) for place in range(100)]
        replace_coverage(db, 1, [], covered)
        found: Span = (205, 221)
        assert covered_near(db, 1, found) == covered[20:23]
        assert covered_near(db, 1, (208, 210)) == covered[20:22]
        assert covered_near(db, 1, (209, 209)) == []
        assert covered_near(db, 1, (-5, -1)) == []
        assert covered_near(db, 1, (2000, 2001)) == []
