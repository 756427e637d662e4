"""Windows in parts: on unit boundaries, without a gap, in whole days where that costs nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.buckets import BUCKET_S
from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.records import Window
from copper_cli.work.window_parts import Measure, ask_part

START = datetime(2023, 1, 1, 18, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def book_of(name: str, granted: int) -> SpanBook:
    """A book that knows just how long a span may be."""
    book = SpanBook(None, lambda: 0.0)
    book.granted(name, granted)
    book.refused(name, granted + 1)
    return book


@given(
    granularity=st.sampled_from(sorted(BUCKET_S)),
    units=st.integers(1, 5000),
    odd_s=st.sampled_from([0, 1800]),
    granted=st.integers(25, 5000),
    most=st.sampled_from([None, 100]),
)
def test_parts_lie_on_unit_boundaries(granularity, units, odd_s, granted, most):
    """Each begins whole units after the window's start, is no longer than granted, and meets the
    next; together they are as few as can be."""
    step_s = BUCKET_S[granularity]
    window = Window(START, START + timedelta(seconds=units * step_s + odd_s % step_s))
    measure = Measure(granularity, step_s, most)
    parts = list(measure.plan(book_of(granularity, granted), window))
    assert (parts[0].start_utc, parts[-1].end_utc) == (window.start_utc, window.end_utc)
    assert all(a.end_utc == b.start_utc for a, b in pairwise(parts))
    assert all((part.start_utc - START).total_seconds() % step_s == 0 for part in parts)
    longest_s = min(granted, most or granted) * step_s
    assert all(0 < (p.end_utc - p.start_utc).total_seconds() <= longest_s for p in parts)
    whole_s = (window.end_utc - window.start_utc).total_seconds()
    assert len(parts) == -(-whole_s // longest_s)


@pytest.mark.parametrize(
    ("days", "granted", "lengths"),
    [
        (62, 744, [31 * DAY, 31 * DAY]),
        (62, 750, [31 * DAY, 31 * DAY]),  # six hours more would save nothing
        (8, 100, [4 * DAY, 4 * DAY]),
        (25, 305, [305 * DAY / 24, 295 * DAY / 24]),  # twelve whole days would need three calls
        (1, 9, [DAY * 3 / 8, DAY * 3 / 8, DAY / 4]),
    ],
)
def test_parts_are_whole_days_where_that_costs_no_call(days, granted, lengths):
    """By hand."""
    window = Window(START, START + days * DAY)
    parts = Measure("hour", 3600).plan(book_of("hour", granted), window)
    assert [part.end_utc - part.start_utc for part in parts] == lengths


def test_a_part_is_asked_shorter_until_it_is_granted():
    """At most nine hours: what was asked last is what is answered."""
    book, measure = SpanBook(None, lambda: 0.0), Measure("hour", 3600)
    window = Window(START, START + DAY)
    asked = []

    def ask(part: Window) -> str:
        asked.append(part)
        if part.end_utc - part.start_utc > timedelta(hours=9):
            raise BadRequestError("too long")
        return "rows"

    with measure.attempt(book, window) as attempt:
        part, answer = ask_part(measure, attempt, window, ask)
        attempt.grant()
    assert (answer, part, asked[0]) == ("rows", asked[-1], window)
    assert all(a.end_utc > b.end_utc for a, b in pairwise(asked))


def test_what_is_refused_at_any_length_is_an_error():
    """The last question is for one unit; nothing is learned."""
    book, measure = SpanBook(None, lambda: 0.0), Measure("hour", 3600)
    window = Window(START, START + DAY)
    asked = []

    def ask(part: Window) -> None:
        asked.append(part)
        raise BadRequestError("never")

    with measure.attempt(book, window) as attempt, pytest.raises(BadRequestError):
        ask_part(measure, attempt, window, ask)
    assert asked[-1] == Window(START, START + timedelta(hours=1))
    assert list(measure.plan(book, window)) == [window]
