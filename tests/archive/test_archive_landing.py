"""Answers set down and read back, against a model of every bucket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from archive_models import (
    KEY,
    T0,
    FakeMonths,
    Model,
    end_of,
    land,
    new_archive,
    read_rows,
    span_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from copper_cli.archive import Archive
from copper_cli.archive import coverage as ranges

PLACES = 16


class Months(Protocol):
    """What publishes."""

    def publish(self) -> None: ...


SPANS = st.tuples(st.integers(0, PLACES - 1), st.integers(1, 6)).map(
    lambda found: (found[0], min(found[0] + found[1], PLACES))
)
ENERGY = st.sampled_from([None, None, 0, 0.0, 1.5, 2.5])
ROWS = st.one_of(
    st.none(),  # no row
    st.tuples(
        ENERGY,
        st.sampled_from([None, 7.5]),
        st.sampled_from([None, 10, 10.5]),
        st.sampled_from([None, 1, 1.0]),
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("land"),
            SPANS,
            st.lists(ROWS, min_size=9, max_size=9),
            st.sampled_from([None, 3.0, 4.5]),
        ),
        st.tuples(st.sampled_from(["fail", "retract", "publish", "sum"]), SPANS),
    ),
    max_size=10,
)


@contextmanager
def fresh_archive() -> Iterator[Archive]:
    folder = Path(tempfile.mkdtemp())
    try:
        with closing(new_archive(folder, temporary=True)) as archive:
            yield archive
    finally:
        shutil.rmtree(folder)


def carry_out(archive: Archive, months: Months, model: Model, step: Any, number: int) -> None:
    """One step on both; what they say of it agrees."""
    what, (first, last), *more = step
    asked_s = T0 + 10**6 + number * 10**5
    if what == "land":
        cells, total = more
        # A row more on each side: that before the span is its edge, that after it is dropped.
        near = range(first, last + 2)
        rows = {place: row for place, row in zip(near, cells, strict=False) if row is not None}
        changed, withdrawn, _ = model.land(first, last, rows, total, asked_s)
        assert land(archive, first, last, rows, total, asked_s=asked_s) == (changed, withdrawn)
    elif what == "fail":
        archive.fail(KEY, span_of(first, last), asked_s=asked_s)
        model.table.fail(first, last, asked_s)
    elif what == "retract":
        archive.retract(KEY, span_of(first, last))
        model.retract(first, last)
    elif what == "publish":
        months.publish()
        model.publish()
    else:
        archive.note_sum(KEY, span_of(first, last), 8.5, asked_s=asked_s)
        model.sums[first, last] = 8.5


def check(archive: Archive, model: Model) -> None:
    for first, last in [(0, PLACES), (3, 9), (5, 6)]:
        span = span_of(first, last)
        assert repr(read_rows(archive, KEY, span)) == repr(model.rows(first, last))
        covered = {}
        for one in archive.coverage(KEY, span):
            for place in range(first + 1, last + 1):
                if one.start_s < end_of(place) <= one.end_s:
                    covered[place] = one.state, one.asked_s
        inside = {p: one for p, one in model.table.of.items() if first < p <= last}
        assert covered == inside
        check_sum(archive, model, first, last)
    with archive.reading() as db:
        bodies = db.execute("SELECT sum(rows) FROM answers WHERE pending = 0").fetchone()[0] or 0
    assert archive.unpublished() == bodies >= len(model.landing)


def check_sum(archive: Archive, model: Model, first: int, last: int) -> None:
    found = archive.sum_of(KEY, span_of(first, last))
    if (first, last) in model.sums:
        assert found == (model.sums[first, last], "cloud")
        return
    tiles = [
        (a, b, total)
        for (a, b), total in model.sums.items()
        if total is not None
        or all(model.table.of.get(p, ("",))[0] != "known" for p in range(a + 1, b + 1))
    ]

    def totals(at: int) -> Iterator[tuple[float | None, ...]]:
        if at == last:
            yield ()
        for a, b, total in tiles:
            if a == at and b <= last:
                for rest in totals(b):
                    yield (total, *rest)

    sums = [
        sum(known) if (known := [one for one in path if one is not None]) else None
        for path in totals(first)
    ]
    if found is None:
        assert sums == []
    else:
        assert found[1] == "tiles"
        assert found[0] in sums


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_rows_states_and_sums_after_any_answers(steps: list[Any]) -> None:
    """Null or no row never replaces a number, digits stay, months lie under the landing."""
    with fresh_archive() as archive:
        months, model = FakeMonths(archive), Model()
        for number, step in enumerate(steps):
            carry_out(archive, months, model, step, number)
        check(archive, model)


class RealMonths:
    """Parquet."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def publish(self) -> None:
        self.archive.publish(force=True)


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_the_same_where_months_are_parquet(steps: list[Any]) -> None:
    with fresh_archive() as archive:
        months, model = RealMonths(archive), Model()
        for number, step in enumerate([*steps, ("publish", (0, 1))]):
            carry_out(archive, months, model, step, number)
        check(archive, model)


VIEWS = [(0, PLACES), (0, 5), (5, 10), (6, 7)]


def show(archive: Archive, model: Model, first: int, last: int) -> object:
    """What a file of a span shows."""
    span = span_of(first, last)
    states = ranges.states(archive.coverage(KEY, span))
    return repr((model.rows(first, last), states, archive.sum_of(KEY, span)))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_state_tells_when_a_span_shows_something_else(steps: list[Any]) -> None:
    """Whatever a view of a span shows, it is at its state just as long as it shows that: what
    happens elsewhere in the series is nothing to it."""
    with fresh_archive() as archive:
        months, model = FakeMonths(archive), Model()
        for number, step in enumerate(steps):
            before = [(archive.state(KEY, span_of(*v)), show(archive, model, *v)) for v in VIEWS]
            edges = set(model.edges)
            carry_out(archive, months, model, step, number)
            # One that becomes a row, or is sent again, may be told of, though it is the same.
            edges |= set(model.edges)
            for view, (state, shown) in zip(VIEWS, before, strict=True):
                if not archive.coverage(KEY, span_of(view[0], view[0] + 1)):
                    continue  # of what was never asked for there is no file
                is_same = show(archive, model, *view) == shown
                is_at = archive.is_at(state, KEY, span_of(*view))
                if is_at:
                    assert is_same, step
                    assert archive.is_at(archive.state(KEY, span_of(*view)), KEY, span_of(*view))
                elif step[0] != "retract" and view[0] not in edges:
                    assert not is_same, (view, step, shown)
