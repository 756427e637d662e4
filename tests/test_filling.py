"""What an unfilled bucket is called, and when it is asked for again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.buckets import Grid
from copper_cli.filling import (
    ASK_AGES_S,
    Gap,
    GapFinder,
    Unfilled,
    count_unfilled,
    find_next_ask,
    is_due,
    may_change,
    name_state,
    open_gaps,
    span_gaps,
)

H, D = 3600, 86400
NOW = 1_700_000_000


def day_ago(days: float, buckets: int = 1) -> Gap:
    """Hours of which the last ended so many days before now."""
    until_s = NOW - round(days * D)
    return Gap(until_s - buckets * H, until_s, buckets)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (-1, Unfilled(to_come=1)),
        (0, Unfilled(to_come=1)),
        (1.99, Unfilled(to_come=1)),
        (2, Unfilled(late=1)),
        (29.99, Unfilled(late=1)),
        (30, Unfilled(missing=1)),
        (400, Unfilled(missing=1)),
    ],
)
def test_words_by_age(days, expected):
    """To come below two days, late below thirty, missing from then on; by the bucket's end."""
    assert count_unfilled([day_ago(days)], NOW) == expected


def test_a_gap_over_a_border_is_counted_on_both_sides():
    """48 hours that end a day and a half ago: the last 12 are to come, the others late."""
    assert count_unfilled([day_ago(1.5, 48)], NOW) == Unfilled(to_come=12, late=36)
    assert count_unfilled([day_ago(29, 48)], NOW) == Unfilled(late=24, missing=24)


def test_words_in_a_sentence():
    """Only what there is, the noun once."""
    assert Unfilled().text() == ""
    assert Unfilled(1).text() == "1 bucket to come"
    assert Unfilled(3, 8, 24).text() == "3 buckets to come, 8 late, 24 missing"
    assert Unfilled(missing=2).text("hour") == "2 hours missing"


def test_what_is_to_come_is_due_once_it_is_over():
    """Each time, until it is two days old."""
    for asked_s in (NOW - H, NOW - 60, NOW):
        assert is_due([day_ago(0.5)], asked_s, NOW)
        assert is_due([day_ago(1.9)], asked_s, NOW)
        assert not is_due([day_ago(-0.1)], asked_s, NOW)
    assert not is_due([], NOW - D, NOW)


@pytest.mark.parametrize("age_s", ASK_AGES_S)
def test_what_is_late_is_due_when_an_age_has_passed(age_s):
    """An age of 1, 2, 4, 8, 16 or 30 days must lie between the last ask and now."""
    ended_s = NOW - age_s - 10
    gap = Gap(ended_s - H, ended_s, 1)
    assert is_due([gap], NOW - 20, NOW)
    if age_s >= 2 * D:
        assert not is_due([gap], NOW - 5, NOW)


@given(
    count=st.integers(1, 60),
    ended_h=st.integers(0, 40 * 24),
    asked_h=st.integers(0, 40 * 24),
)
def test_due_by_brute_force(count, ended_h, asked_h):
    """As if each bucket were looked at by itself."""
    gap = Gap(NOW - ended_h * H - count * H, NOW - ended_h * H, count)
    asked_s = NOW - asked_h * H
    ends = [gap.until_s - n * H for n in range(count)]
    expected = any(
        NOW - end_s < 2 * D or any(asked_s < end_s + age_s <= NOW for age_s in ASK_AGES_S)
        for end_s in ends
    )
    assert is_due([gap], asked_s, NOW) == expected


def test_without_an_instant_what_is_over_is_due():
    """Of a manifest that does not say when it was asked."""
    assert is_due([day_ago(29)], None, NOW)
    assert not is_due([day_ago(-1)], None, NOW)
    assert not is_due([day_ago(31)], None, NOW)  # the cloud is believed not to have it


def test_a_gap_older_than_thirty_days_changes_no_more():
    """Then an answer may be kept for good."""
    assert may_change([day_ago(29.9)], NOW)
    assert may_change([day_ago(-3)], NOW)
    assert not may_change([day_ago(30.1)], NOW)


def test_open_gaps_are_bounded():
    """Their number stays, their places blur."""
    some = [Gap(NOW - n * 2 * H - H, NOW - n * 2 * H, 1) for n in range(60, 0, -1)]
    assert open_gaps(some, NOW) == some
    more = [Gap(NOW - n * 60 - 30, NOW - n * 60, 1) for n in range(20_000, 0, -1)]
    found = open_gaps(more, NOW)
    assert len(found) <= 64
    assert sum(gap.count for gap in found) == 20_000
    counted = count_unfilled(found, NOW)
    assert counted.to_come == pytest.approx(2880, abs=400)  # as many as are put together
    assert counted.late == 20_000 - counted.to_come


def test_spans_without_buckets():
    """Readings may come for two days; where there is none at all, for thirty."""
    assert span_gaps(NOW - 4 * D, NOW - 3 * D, is_empty=False, now_s=NOW) == []
    (gap,) = span_gaps(NOW - 4 * D, NOW - 3 * D, is_empty=True, now_s=NOW)
    assert count_unfilled([gap], NOW) == Unfilled()
    assert not is_due([gap], NOW - H, NOW)
    assert is_due([gap], NOW - 2 * D, NOW)
    (gap,) = span_gaps(NOW - 2 * D, NOW - D, is_empty=False, now_s=NOW)
    assert is_due([gap], NOW - 1, NOW)
    assert not is_due([Gap(NOW, NOW + D, 0)], NOW, NOW)


def test_a_finder_skips_what_lies_before_its_start():
    """Rows up to there count for nothing."""
    finder = GapFinder(Grid((8 * H, 12 * H), "hour"), 10 * H)
    finder.feed([8 * H, 9 * H, 10 * H, 11 * H], [None, 1.0, None, 1.0])
    assert finder.end(12 * H) == [Gap(11 * H, 12 * H, 1)]


@pytest.mark.parametrize(
    ("stored", "days", "word"),
    [
        ("known", 1, "known"),
        ("known", 90, "known"),
        ("null", 1.99, "to come"),
        ("absent", 2, "late"),
        ("null", 29.99, "late"),
        ("absent", 30, "missing"),
        ("failed", 1, "failed"),
        ("failed", 90, "failed"),
        (None, 1.99, "to come"),
        (None, 2, "never asked"),
        (None, 90, "never asked"),
    ],
)
def test_what_a_bucket_is_called(stored: str | None, days: float, word: str) -> None:
    """What was accepted is missing, but nothing can be accepted that was not asked for."""
    end_s = NOW - round(days * D)
    assert name_state(stored, end_s, NOW) == word
    accepted = "missing" if stored in ("null", "absent") else word
    assert name_state(stored, end_s, NOW, is_accepted=True) == accepted


@given(st.integers(0, 40 * D), st.integers(1, 900))
def test_names_agree_with_counts(ago_s: int, buckets: int) -> None:
    """Each bucket of a gap is called what it is counted as."""
    until_s = NOW - ago_s
    words = [name_state("null", until_s - place * H, NOW) for place in range(buckets)]
    found = count_unfilled([Gap(until_s - buckets * H, until_s, buckets)], NOW)
    assert found == Unfilled(words.count("to come"), words.count("late"), words.count("missing"))


@given(st.integers(0, 40 * D), st.integers(1, 900), st.integers(0, 40 * D))
def test_asked_again_when_it_is_due(ago_s: int, buckets: int, asked_ago_s: int) -> None:
    """Not a moment before; where no moment is told it is due at none of all that are to come."""
    until_s = NOW - ago_s
    gap, asked_s = Gap(until_s - buckets * H, until_s, buckets), NOW - asked_ago_s
    next_s = find_next_ask(gap, asked_s, NOW)
    if next_s is not None and next_s > NOW:
        assert not is_due([gap], asked_s, next_s - 1)
        assert is_due([gap], asked_s, next_s)
    assert is_due([gap], asked_s, NOW) == (next_s is not None and next_s <= NOW)
    if next_s is None:
        assert not any(is_due([gap], asked_s, NOW + day * D) for day in range(40))
