"""Rows read back: readings, pieces, edges, what waits and what is remembered beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from archive_models import (
    KEY,
    READINGS,
    T0,
    FakeMonths,
    H,
    Row,
    end_of,
    land,
    new_archive,
    read_rows,
    series_of,
    span_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copper_cli.archive import Archive, Change, Instants, SeriesKey, Stamp
from copper_cli.archive.columns import Block
from copper_cli.archive.rows import PIECE_ROWS, Layer, Source, over, pieces, read
from copper_cli.buckets import DAY_S, Grid
from copper_cli.records import Series

US = 10**6
LATE = T0 + 10**7


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with closing(new_archive(tmp_path, temporary=True)) as found:
        yield found


def full(place: int, energy: Any = 1.5) -> Row:
    return energy, 2.0 if energy is not None else None, 100.0 + place, 1000 + place


# Readings


READING_ROWS = st.lists(
    st.tuples(
        st.sampled_from([T0 * US, T0 * US + 1, (T0 + 5) * US, (T0 + 9) * US + 999_999]),
        st.sampled_from([None, 1, 1.0, 2]),
        st.sampled_from([None, 0.5, 1.5]),
    ),
    max_size=6,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


def by_instant(rows: list[Any]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for time_us, *numbers in rows:
        found.setdefault(time_us, []).append(tuple(numbers))
    return found


def join_readings(fresh: list[Row], held: list[Row]) -> list[Row]:
    """As files of readings were renewed: equal ones are one, others are paired in their order."""
    earlier = [row for row in held if row != (None, None)]
    if not fresh:
        return held
    others = [row for row in earlier if row not in fresh]
    found = []
    for row in fresh:
        if row in earlier or not others:
            found.append(row)
        else:
            old = others.pop(0)
            found.append(tuple(b if a is None else a for a, b in zip(row, old, strict=True)))
    return [*found, *others]


def read_instants(archive: Archive, first_s: int, last_s: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for piece in archive.instants(READINGS, first_s, last_s):
        found += zip(piece.times_us, piece.first, piece.second, strict=True)
    return found


def instants(rows: list[Any]) -> Instants:
    return Instants(*(zip(*rows, strict=True) if rows else ((), (), ())))  # type: ignore[arg-type]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(READING_ROWS, st.integers(0, 10), st.booleans()), max_size=5))
def test_readings_after_any_answers(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    with closing(new_archive(folder, temporary=True)) as archive:
        months = FakeMonths(archive)
        held: dict[int, list[Row]] = {}
        for number, (rows, until, publish) in enumerate(steps):
            span = T0, T0 + until
            archive.land_readings(READINGS, span, instants(rows), asked_s=LATE + number)
            fresh = by_instant([row for row in rows if row[0] < span[1] * US])
            for time_us, new in fresh.items():
                held[time_us] = join_readings(new, held.get(time_us, []))
            if publish:
                months.publish()
        expected = [(time_us, *row) for time_us in sorted(held) for row in held[time_us]]
        assert repr(read_instants(archive, T0 - 5, T0 + 20)) == repr(expected)
        inside = [row for row in expected if (T0 + 5) * US <= row[0] < (T0 + 9) * US]
        assert repr(read_instants(archive, T0 + 5, T0 + 9)) == repr(inside)


def test_readings_asked_again(archive: Archive) -> None:
    span = T0, T0 + DAY_S
    rows = [(T0 * US, 1, 0.1), (T0 * US, 2, 0.2), (T0 * US + 5, 3, None)]
    first = archive.land_readings(READINGS, span, instants(rows), asked_s=LATE)
    assert (first.changed, first.withdrawn) == (0, 0)
    state = archive.state(READINGS, span)
    again = archive.land_readings(READINGS, span, instants(rows), asked_s=LATE + 9)
    assert (again.changed, again.withdrawn) == (0, 0)
    assert archive.is_at(state, READINGS, span)
    other = [(T0 * US, 1, 0.1), (T0 * US, 4, None)]
    changed = archive.land_readings(READINGS, span, instants(other), asked_s=LATE + 99)
    assert (changed.changed, changed.withdrawn) == (1, 1)
    assert not archive.is_at(state, READINGS, span)
    assert read_instants(archive, *span) == [rows[0], (T0 * US, 4, 0.2), rows[2]]
    assert archive.changes(READINGS, span) == [
        Change(T0, (2, 0.2), (4, 0.2), LATE, LATE + 99),
        Change(T0, (3, None), None, LATE, LATE + 99),
    ]
    assert archive.changes(READINGS, (T0 + 1, T0 + DAY_S)) == []


def test_what_is_known_of_readings(archive: Archive) -> None:
    key = SeriesKey("gw", "grid")
    span, asked_s = (T0, T0 + 10 * DAY_S), T0 + 10 * DAY_S
    none = Instants((), (), ())
    archive.land_grid(key, span, none, asked_s=asked_s)
    young = asked_s - 2 * DAY_S, asked_s
    assert archive.lacking(key, span, now_s=asked_s) == [young]
    assert archive.lacking(key, span, now_s=asked_s + 2 * DAY_S) == [span]
    one = Instants([T0 * US], [230.0], [50.0])
    archive.land_grid(key, span, one, asked_s=asked_s)
    states = [(found.state, found.end_s) for found in archive.coverage(key, span)]
    assert states == [("known", asked_s - 2 * DAY_S), ("absent", asked_s)]
    assert archive.lacking(key, span, now_s=asked_s) == [young]
    assert archive.lacking(key, span, now_s=asked_s, recheck=True) == [span]
    archive.land_grid(key, (T0 + 11 * DAY_S, T0 + 12 * DAY_S), one, asked_s=asked_s, unread=2)
    (unread,) = archive.coverage(key, (T0 + 11 * DAY_S, T0 + 12 * DAY_S))
    assert (unread.state, unread.unread) == ("null", 2)
    archive.fail(key, (T0, T0 + 20 * DAY_S), asked_s=asked_s)
    assert [found.state for found in archive.coverage(key, (T0, T0 + 20 * DAY_S))] == [
        "known",
        "failed",
    ]
    archive.retract(key, (T0 - 5, T0 + 1))
    assert list(archive.instants(key, T0 - 9, T0 + DAY_S)) == []


# Reading


def test_no_piece_is_larger_than_promised(archive: Archive) -> None:
    key, count = SeriesKey("m", "usage", "minute", "0"), 70_000
    times = [T0 + 60 * n for n in range(1, count + 1)]
    energy = [0.5] * count
    none = [None] * count
    span = T0, times[-1]
    series = Series(times, energy, none, none, none, None)
    archive.land(key, span, series, buckets=Grid(span, "minute"), asked_s=LATE)
    found = list(archive.rows(key, *span))
    assert [len(piece.times_s) for piece in found] == [PIECE_ROWS, count - PIECE_ROWS]
    assert [time for piece in found for time in piece.times_s] == times
    assert [piece.meter_type for piece in found] == [None, None]


def test_small_answers_are_read_as_one_piece(archive: Archive) -> None:
    for place in reversed(range(30)):
        land(archive, place, place + 1, {place: full(place), place + 1: full(place + 1)})
    (piece,) = archive.rows(KEY, *span_of(0, 30))
    assert list(piece.times_s) == [end_of(place) for place in range(31)]
    assert piece.meter_type == "power"


def test_the_row_before_a_span(archive: Archive) -> None:
    """Kept for who asks from there on, and for nobody else; a row of its own takes its place."""
    land(archive, 5, 6, {5: full(5, 9.0), 6: full(6)})
    assert [row[0] for row in read_rows(archive, KEY, span_of(5, 6))] == [end_of(5), end_of(6)]
    assert [row[0] for row in read_rows(archive, KEY, span_of(4, 6))] == [end_of(6)]
    assert read_rows(archive, KEY, span_of(5, 5)) == [(end_of(5), full(5, 9.0))]
    assert archive.coverage(KEY, span_of(4, 5)) == []
    land(archive, 4, 5, {4: full(4), 5: full(5, 8.0)})
    assert read_rows(archive, KEY, span_of(5, 5)) == [(end_of(5), full(5, 8.0))]
    assert archive.changes(KEY, span_of(0, 9)) == []


def block(times: list[int], mark: int = 0) -> Block:
    return Block(times, ([mark] * len(times),))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(0, 6), min_size=1)), max_size=8),
    st.sets(st.integers(0, 40)),
    st.integers(1, 9),
    st.tuples(st.integers(-2, 20), st.integers(10, 42)),
)
def test_layers_over_months(
    answers: list[Any], below: set[int], size: int, bounds: tuple[int, int]
) -> None:
    first, last = bounds
    expected = dict.fromkeys(below, -1)
    layers, bodies = [], {}
    for number, (start, offsets) in enumerate(answers):
        times = sorted(start + offset for offset in offsets)
        layers.append(Layer(number, times[0], times[-1]))
        bodies[number] = block(times, number)
        expected.update(dict.fromkeys(times, number))

    def under(low: int, high: int) -> Iterator[Block]:
        times = sorted(time for time in below if low <= time <= high)
        for start in range(0, len(times), size):
            yield block(times[start : start + size], -1)
            yield block([])

    source = Source(
        lambda low, high: [one for one in layers if one.first <= high and one.last >= low],
        lambda layer: bodies[layer.id],
        under,
    )
    found = [
        pair
        for one in read(source, first, last)
        for pair in zip(one.times, one.columns[0], strict=True)
    ]
    assert found == sorted(pair for pair in expected.items() if first <= pair[0] <= last)


def test_one_over_the_other() -> None:
    assert over(block([]), block([1])) == over(block([1]), block([])) == block([1])
    assert over(block([1]), block([2])) == over(block([2]), block([1])) == block([1, 2])
    assert over(block([1, 2], 0), block([0, 1, 2, 3], 1)) == block([0, 1, 2, 3], 1)
    assert over(block([1, 2, 2, 3], 0), block([2, 4], 1)) == Block([1, 2, 3, 4], ([0, 1, 0, 1],))


def test_small_blocks_are_put_together() -> None:
    blocks = [block([place]) for place in range(25_000)]
    assert [len(one.times) for one in pieces(blocks)] == [10_000, 10_000, 5_000]
    assert list(pieces([])) == []


def test_an_answer_that_is_published_while_it_is_read(archive: Archive) -> None:
    """Who reads then has the rows all the same, each once."""
    months = FakeMonths(archive)
    for place in range(20):
        land(archive, place, place + 1, {place + 1: full(place + 1)})
    source = archive._source(KEY)
    first, last = end_of(1), end_of(20)
    found: list[int] = []
    for one in read(source, first, last):
        found += one.times
        if len(found) == 7:
            months.publish()
    assert found == [end_of(place) for place in range(1, 21)]


def test_readings_are_published_while_they_are_read(archive: Archive) -> None:
    months = FakeMonths(archive)
    rows = [[((T0 + n) * US, n, 1.0), ((T0 + n) * US, n, 2.0)] for n in range(9)]
    for n, one in enumerate(rows):
        archive.land_readings(READINGS, (T0 + n, T0 + n + 1), instants(one), asked_s=LATE)
    found: list[Any] = []
    for one_block in read(archive._source(READINGS), T0 * US, (T0 + 9) * US):
        found += zip(one_block.times, *one_block.columns, strict=True)
        months.publish()
    assert found == [row for one in rows for row in one]


def test_months_are_asked_only_where_one_may_hold_rows(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a small download never loads what reads them."""
    months = FakeMonths(archive)
    asked = []
    monkeypatch.setattr(months, "rows", lambda *about: asked.append(about) or iter(()))
    land(archive, 0, 2, {1: full(1), 2: full(2)})
    read_rows(archive, KEY, span_of(0, 2))
    land(archive, 0, 2, {1: full(1), 2: full(2, 8.0)})
    archive.expect([KEY])
    assert asked == months.expected == []
    months.publish()
    archive.expect([KEY, READINGS])
    assert months.expected == [KEY]
    read_rows(archive, SeriesKey("07:1", "usage", "day", "UTC"), span_of(0, 2))
    a_year_later = T0 + 365 * DAY_S
    read_rows(archive, KEY, (a_year_later, a_year_later + H))
    land(archive, 30, 31, {31: full(31)})  # of what was never asked for months hold nothing
    assert asked == []
    read_rows(archive, KEY, span_of(0, 2))
    read_rows(archive, KEY, (-(1 << 60), 1 << 60))
    assert len(asked) == 2


# Changes


def test_a_change_keeps_both_values_and_both_instants(archive: Archive) -> None:
    land(archive, 0, 3, {p: full(p) for p in (1, 2, 3)}, asked_s=LATE)
    assert land(archive, 0, 3, {1: full(1, 7.0), 2: full(2, None)}, asked_s=LATE + 5) == (1, 2)
    assert land(archive, 0, 3, {1: full(1, 7.0), 2: full(2, None)}, asked_s=LATE + 9) == (0, 2)
    changed, null, gone = archive.changes(KEY, span_of(0, 3))
    assert changed == Change(end_of(1), full(1), full(1, 7.0), LATE, LATE + 5)
    assert null == Change(end_of(2), full(2), None, LATE, LATE + 5)
    assert gone == Change(end_of(3), full(3), None, LATE, LATE + 5)
    assert archive.changes(KEY, span_of(1, 2)) == [null]
    assert archive.changes(READINGS, span_of(0, 3)) == []


def test_other_digits_are_no_change_and_yet_they_land(archive: Archive) -> None:
    land(archive, 0, 1, {1: (0, 0, 1, 1)})
    state = archive.state(KEY, span_of(0, 1))
    assert land(archive, 0, 1, {1: (0.0, 0, 1, 1.0)}) == (0, 0)
    assert repr(read_rows(archive, KEY, span_of(0, 1))) == repr([(end_of(1), (0.0, 0, 1, 1.0))])
    assert not archive.is_at(state, KEY, span_of(0, 1))


def test_a_state_is_of_one_archive_and_one_series(tmp_path: Path, archive: Archive) -> None:
    land(archive, 0, 1, {1: full(1)})
    state = archive.state(KEY, span_of(0, 1))
    assert archive.is_at(state, KEY, span_of(0, 1))
    other_key = SeriesKey("07:2", "usage", "hour", "0")
    land(archive, 0, 1, {1: full(1)}, key=other_key)
    assert not archive.is_at(state, other_key, span_of(0, 1))
    assert not archive.is_at("", KEY, span_of(0, 1))
    with closing(Archive(tmp_path / "other", archive_id="b")) as other:
        land(other, 0, 1, {1: full(1)})
        assert not other.is_at(state, KEY, span_of(0, 1))
    with archive.transaction() as db:  # forgotten, and let in again
        for table in ("answers", "coverage", "sums", "moves"):
            db.execute(f"DELETE FROM {table} WHERE series = 1")
        db.execute("DELETE FROM series WHERE id = 1")
    land(archive, 0, 1, {1: full(1, 9.0)})
    assert not archive.is_at(state, KEY, span_of(0, 1))


def test_the_states_of_many_at_a_glance(tmp_path: Path) -> None:
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(100)]
    with closing(new_archive(tmp_path)) as archive, closing(new_archive(tmp_path)) as other:
        for key in keys[:-1]:
            land(archive, 0, 1, {1: full(1)}, key=key)
        states = [archive.state(key, span_of(0, 1)) for key in keys]
        for _ in range(2):
            land(other, 1, 2, {2: full(2)}, key=keys[50])  # beyond what is looked at
            with archive.glance():
                found = [
                    archive.is_at(state, key, span_of(0, 1))
                    for key, state in zip(keys, states, strict=True)
                ]
            assert all(found)
        land(other, 0, 1, {1: full(1, 9.0)}, key=keys[60])
        with archive.glance():
            found = [
                archive.is_at(state, key, span_of(0, 1))
                for key, state in zip(keys, states, strict=True)
            ]
        assert [n for n, is_so in enumerate(found) if not is_so] == [60]


def test_few_rows_are_not_published(archive: Archive) -> None:
    land(archive, 0, 1, {1: full(1)})
    archive.publish(force=False)
    assert archive.unpublished() == 1


# Sums


def test_sums_of_any_granularity_fall_with_a_changed_row(archive: Archive) -> None:
    day = SeriesKey("07:1", "usage", "day", "UTC")
    other = SeriesKey("07:2", "usage", "day", "UTC")
    baseline = SeriesKey("07:1", "baseline-series", "day", "UTC")
    whole, early = span_of(0, 24), span_of(0, 2)
    for key in (day, other, baseline):
        archive.note_sum(key, whole, 5.0, asked_s=LATE)
        archive.note_sum(key, early, 4.0, asked_s=LATE)
    land(archive, 0, 24, {p: full(p) for p in range(1, 25)}, 36.0)
    assert archive.sum_of(day, whole) == (5.0, "cloud")  # these rows are new, no other ones
    state = archive.state(day, whole), archive.state(day, early)
    land(archive, 9, 10, {10: full(10, 9.0)}, 9.0)
    assert archive.sum_of(day, whole) is None
    assert archive.sum_of(KEY, whole) is None
    assert archive.sum_of(KEY, span_of(9, 10)) == (9.0, "cloud")
    assert archive.sum_of(day, early) == (4.0, "cloud")
    assert archive.sum_of(other, whole) == archive.sum_of(baseline, whole) == (5.0, "cloud")
    assert not archive.is_at(state[0], day, whole)
    assert archive.is_at(state[1], day, early)


def test_no_sum_is_kept_that_lacks_what_was_withdrawn(archive: Archive) -> None:
    land(archive, 0, 2, {1: full(1), 2: full(2)}, 3.0)
    land(archive, 0, 2, {1: full(1), 2: full(2, None)}, 1.5)
    land(archive, 0, 3, {1: full(1), 3: full(3)}, 3.0)
    assert archive.sum_of(KEY, span_of(0, 2)) == (3.0, "cloud")
    assert archive.sum_of(KEY, span_of(0, 3)) is None


def test_sums_that_tile_a_span(archive: Archive) -> None:
    for first, last, total in [(0, 2, 0.1), (2, 5, 0.2), (5, 6, None), (2, 6, 0.7), (0, 9, 9.0)]:
        archive.note_sum(KEY, span_of(first, last), total, asked_s=LATE)
    assert archive.sum_of(KEY, span_of(0, 2)) == (0.1, "cloud")
    assert archive.sum_of(KEY, span_of(5, 6)) == (None, "cloud")
    assert archive.sum_of(KEY, span_of(0, 5)) == (0.3, "tiles")  # and not 0.30000000000000004
    assert archive.sum_of(KEY, span_of(0, 6)) == (0.8, "tiles")
    assert archive.sum_of(KEY, span_of(1, 6)) is None
    assert archive.sum_of(READINGS, span_of(0, 2)) is None
    archive.note_sum(KEY, span_of(9, 10), None, asked_s=LATE)
    archive.note_sum(KEY, span_of(10, 11), None, asked_s=LATE)
    assert archive.sum_of(KEY, span_of(9, 11)) == (None, "tiles")
    land(archive, 9, 10, {10: full(10)})
    assert archive.sum_of(KEY, span_of(9, 11)) is None  # it would be short by an amount
    archive.note_sum(KEY, span_of(0, 2), None, asked_s=LATE)
    assert archive.sum_of(KEY, span_of(0, 2)) == (0.1, "cloud")


def test_a_sum_found_in_any_granularity(archive: Archive) -> None:
    span = span_of(0, 2)
    assert archive.find_sum("07:1", "usage", span) is None
    archive.note_sum(SeriesKey("07:1", "usage", "day", "UTC"), span, 5.0, asked_s=LATE)
    assert archive.find_sum("07:1", "usage", span) is None  # its rows were never asked for
    land(archive, 0, 2, {1: full(1), 2: full(2, None)}, 3.0, asked_s=LATE)
    assert archive.find_sum("07:1", "usage", span) is None
    assert archive.find_sum("07:1", "usage", span, now_s=LATE + 1) == (KEY, 3.0)
    land(archive, 1, 2, {2: full(2, 1.5)}, 1.5, asked_s=LATE)
    assert archive.find_sum("07:1", "usage", span) is None  # it fell
    archive.note_sum(KEY, span, 3.5, asked_s=LATE)
    assert archive.find_sum("07:1", "usage", span) == (KEY, 3.5)
    assert archive.is_whole(KEY, span)
    assert not archive.is_whole(KEY, span_of(0, 3))


# What waits, what is held, what is remembered


def test_answers_that_wait_are_in_no_rows(archive: Archive) -> None:
    later, sooner = {2: full(2), 3: full(3), 4: full(4)}, {0: full(0), 1: full(1)}
    archive.land_pending(KEY, span_of(2, 4), series_of({9: full(9)}), asked_s=LATE)
    archive.land_pending(KEY, span_of(2, 4), series_of(later, 3.0), asked_s=LATE)
    archive.land_pending(KEY, span_of(0, 1), series_of(sooner), asked_s=LATE + 0.5)
    archive.land_pending(KEY, span_of(5, 6), series_of({}), asked_s=LATE)
    first, second, empty = archive.pending(KEY)
    assert (first.start_s, first.end_s, first.asked_s) == (*span_of(0, 1), LATE)
    assert columns_of(first.series) == columns_of(series_of(sooner))
    assert first.series.meter_type == "power"
    assert second.series.sum_energy == 3.0
    assert list(empty.series.times_s) == []
    assert read_rows(archive, KEY, span_of(0, 9)) == archive.coverage(KEY, span_of(0, 9)) == []
    assert archive.unpublished() == 0
    archive.drop_pending(KEY, span_of(1, 4))
    assert archive.pending(KEY) == [first, empty]
    archive.drop_pending(KEY, span_of(0, 9))
    assert archive.pending(KEY) == archive.pending(READINGS) == []


def columns_of(series: Series) -> list[list[Any]]:
    columns = series.times_s, series.energy, series.power, series.value, series.actual
    return [list(column) for column in columns]


def test_what_is_held(archive: Archive) -> None:
    assert list(archive.held()) == []
    land(archive, 0, 4, {1: full(1), 2: full(2, None), 3: full(3)}, asked_s=LATE)
    archive.fail(KEY, span_of(6, 8), asked_s=LATE)
    archive.land_readings(READINGS, span_of(0, 1), Instants((), (), ()), asked_s=LATE)
    rows, usage = sorted(archive.held(), key=lambda one: one.key.kind)
    assert usage.key == KEY
    assert (usage.start_s, usage.end_s) == span_of(0, 8)
    assert (usage.known, usage.null, usage.absent, usage.failed) == (2, 1, 1, 2)
    assert list(archive.held("readings")) == [rows]
    half = SeriesKey("07:1", "usage", "hour", "1800")
    archive.fail(half, span_of(0, 1), asked_s=LATE)
    assert archive.keys_of("07:1", "usage", "hour") == [KEY, half]


def test_small_things_are_remembered(tmp_path: Path) -> None:
    stamp = Stamp(1, 2, 3, "ab")
    with closing(new_archive(tmp_path)) as archive:
        assert archive.note("n") is None
        archive.set_note("n", "1")
        archive.set_note("m", "1")
        archive.set_note("n", "2")
        archive.set_note("m", None)
        assert archive.stamp_get("/a") is None
        archive.stamp_put("/a", (9, 9, 9, "x"))
        archive.stamp_put("/a", stamp)
        assert archive.stamp_get("/a") == stamp
    with closing(new_archive(tmp_path)) as archive:
        assert (archive.note("n"), archive.note("m")) == ("2", None)
        assert archive.stamp_get("/a") == stamp
        for number in range(2500):
            archive.stamp_put(f"/{number}", stamp)
        with closing(new_archive(tmp_path)) as other:
            assert other.stamp_get("/1999") == stamp
            assert other.stamp_get("/2400") is None
        archive.stamp_put("/b/c", stamp)
        assert archive.stamp_get("/b/c") == stamp
        archive.stamp_put("/b/c", (9, 9, 9, "x"))
        assert archive.stamp_get("/b/c") == (9, 9, 9, "x")


def test_nothing_is_set_down_of_what_is_forgotten(archive: Archive) -> None:
    archive.is_forgotten = lambda subject: subject == "07:1"
    assert land(archive, 0, 1, {1: full(1)}) == (0, 0)
    archive.land_pending(KEY, span_of(0, 1), series_of({1: full(1)}), asked_s=LATE)
    archive.note_sum(KEY, span_of(0, 1), 1.0, asked_s=LATE)
    archive.fail(KEY, span_of(0, 1), asked_s=LATE)
    archive.retract(KEY, span_of(0, 1))
    with archive.reading() as db:
        for table in ("series", "answers", "coverage", "sums", "edges"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    land(archive, 0, 1, {1: full(1)}, key=SeriesKey("07:2", "usage", "hour", "0"))
    assert archive.unpublished() == 1


def test_all_that_lands_together_or_nothing(archive: Archive) -> None:
    with archive.together():
        for place in range(3):
            land(archive, place, place + 1, {place + 1: full(place + 1)})
    state = archive.state(KEY, span_of(0, 9))

    def land_two_and_fail() -> None:
        with archive.together():
            land(archive, 0, 1, {1: full(1, 9.0)})
            land(archive, 5, 6, {6: full(6)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        land_two_and_fail()
    assert archive.is_at(state, KEY, span_of(0, 9))
    assert [row[1] for row in read_rows(archive, KEY, span_of(0, 9))] == [full(1), full(2), full(3)]


def test_ids_that_no_utf_8_can_hold(archive: Archive) -> None:
    """Clouds send what they like."""
    key = SeriesKey("07:\ud800ü", "usage", "hour", "0")
    assert key == SeriesKey("07:\ud800ü", "usage", "hour", "0") != SeriesKey("07:ü", "usage")
    land(archive, 0, 1, {1: full(1)}, key=key)
    odd = series_of({1: full(1)})
    odd = Series(*columns_of(odd), 1.0, "po\udfffwer")  # type: ignore[arg-type]
    archive.land_pending(key, span_of(0, 1), odd, asked_s=LATE)
    archive.land(key, span_of(0, 1), odd, buckets=Grid(span_of(0, 1), "hour"), asked_s=LATE)
    assert len(read_rows(archive, key, span_of(0, 1))) == 1
    assert archive.keys_of("07:\ud800ü", "usage", "hour") == [key]
    archive.note_sum(key, span_of(0, 1), 3.0, asked_s=LATE)
    assert archive.find_sum("07:\ud800ü", "usage", span_of(0, 1)) == (key, 3.0)
    assert [one.key for one in archive.held()] == [key]
    archive.stamp_put("/\udc80", Stamp(1, 2, 3, "ab"))
    archive.set_note("\udc80", "\udc81")
    assert archive.note("\udc80") == "\\udc81"
    archive.publish(force=True)
    assert len(read_rows(archive, key, span_of(0, 1))) == 1
    archive.close()


def test_threads_take_turns(archive: Archive) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for place in range(10):
                key = SeriesKey("m", "usage", "hour", str(number % 2 * 1800))
                land(archive, place, place + 1, {place + 1: full(place + 1)}, key=key)
                read_rows(archive, key, span_of(0, 10))
        except BaseException as failure:  # told by the test
            failures.append(failure)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for grid in ("0", "1800"):
        rows = read_rows(archive, SeriesKey("m", "usage", "hour", grid), span_of(0, 10))
        assert [row[1] for row in rows] == [full(place) for place in range(1, 11)]
    assert archive.unpublished() == 20  # what says nothing new is not written again


def test_fresh_and_recheck(archive: Archive) -> None:
    land(archive, 0, 3, {1: full(1), 2: full(2, None), 3: full(3)}, asked_s=LATE)
    span = span_of(0, 4)
    assert archive.lacking(KEY, span, now_s=LATE) == [span_of(3, 4)]
    assert archive.lacking(KEY, span, now_s=LATE, recheck=True) == [span_of(1, 2), span_of(3, 4)]
    assert archive.lacking(KEY, span, now_s=LATE, fresh=True) == [span]
    assert archive.lacking(KEY, (span[0], span[0]), now_s=LATE, fresh=True) == []
    assert archive.lacking(READINGS, span, now_s=LATE) == [span]
