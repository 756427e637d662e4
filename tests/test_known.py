"""What was known under what is told now: nothing never replaces a value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from copper_cli.known import renew_series
from copper_cli.records import LongSeries, Series


def make(rows, total=None):
    """A series of (time, energy) rows; power is the energy."""
    times, energy = [t for t, _ in rows], [e for _, e in rows]
    nothing = [None] * len(rows)
    return Series(times, energy, list(energy), nothing, nothing, total)


def long(*pieces, total=None) -> LongSeries:
    """A series that is read in pieces."""

    def read(first_s: int, last_s: int) -> Iterator[Series]:
        yield from pieces

    return LongSeries(read, total)


def rows_of(series):
    return [
        row for piece in series.pieces() for row in zip(piece.times_s, piece.energy, strict=True)
    ]


NEW = [(0, 1.0), (1, None), (3, 9.0), (4, 5.0), (6, None)]
OLD = [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (5, None), (7, 8.0)]
BOTH = [(0, 1.0), (1, 2.0), (2, 3.0), (3, 9.0), (4, 5.0), (6, None), (7, 8.0)]


@pytest.mark.parametrize("cut_new", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("cut_old", [None, 1, 3, 5])
def test_values_stay_where_the_cloud_has_none_now(cut_new, cut_old):
    """Null, absent or behind the end; what differs is taken over and counted. In one piece or in
    several, wherever they are cut."""
    new = make(NEW, 7.0)
    if cut_new:
        new = long(make(NEW[:cut_new]), make(NEW[cut_new:]), total=7.0)
    old = [make(OLD)] if cut_old is None else [make(OLD[:cut_old]), make(OLD[cut_old:])]
    found = renew_series(new, lambda: iter(old))
    assert (found.changed, found.kept) == (1, 3)
    for _ in range(2):
        assert rows_of(found.series) == BOTH
    assert found.series.sum_energy == 7.0


def test_the_same_again_is_the_series_itself():
    """Nothing is put together where nothing was lost."""
    new = make([(0, 1.0), (1, 2.0)], 3.0)
    found = renew_series(new, lambda: iter([make([(0, 1.0), (1, None)])]))
    assert found.series is new
    assert (found.changed, found.kept) == (0, 0)
    assert renew_series(new, lambda: iter([])).series is new


def test_an_answer_without_rows_loses_nothing():
    """All earlier values stand."""
    found = renew_series(make([], 0.0), lambda: iter([make([(0, 1.0), (1, 2.0)])]))
    assert rows_of(found.series) == [(0, 1.0), (1, 2.0)]
    assert (found.changed, found.kept) == (0, 2)
