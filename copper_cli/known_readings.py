"""Readings known from a file before, under what the cloud says now. Pure.

Files hold local times without offset: of an hour that came twice only the order of their rows,
and what the cloud says now, tell which is which.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate, groupby, pairwise
from math import inf
from operator import itemgetter

from copper_cli.records import Window
from copper_cli.render.local_time import offset_spans
from copper_cli.render.reread import LocalRow

Number = int | float | None
Row = tuple[int, Number, Number]
"""Microseconds since 1970 UTC, and two numbers."""
Read = Callable[[], Iterator[Row]]
"""Brings rows in the order of their instants, as often as need be."""
ReadLocal = Callable[[], Iterator[LocalRow]]
"""Brings the rows of a file in the order of their instants, as often as need be."""

_US = 1_000_000
_EQUAL, _OTHER, _NONE = (1, 0), (0, 1), (0, 0)
"""What speaks for an instant: that the cloud has the same numbers there, or others, or nothing."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """Readings asked for again, with what was known of them before."""

    read: Read
    """The cloud's numbers; those known before where it has none now."""
    changed: int
    """Rows that hold other numbers than before."""
    kept: int
    """Rows of which the cloud now has nothing, or less, so that earlier numbers stand."""


def renew_readings(new: Read, known: ReadLocal, timezone: str, window: Window) -> Renewed:
    """The readings of a window over those known: nothing never replaces a number.

    Rows of the same instant are paired, equal ones first. Some microseconds a row; held in
    memory are only the rows of hours that come twice.
    """
    clock = _Clock(timezone, window)
    doubled = clock.find_doubled(new)

    def join() -> Iterator[tuple[Row, int, int]]:
        return _join(new(), clock.to_instants(known(), doubled))

    changed = kept = 0
    for _, more_changed, more_kept in join():
        changed, kept = changed + more_changed, kept + more_kept
    return Renewed((lambda: (row for row, _, _ in join())) if kept else new, changed, kept)


# Local times to instants

_Doubled = Mapping[int, Sequence[tuple[Number, Number]]]
"""What the cloud says now at the instants of hours that come twice."""


class _Clock:
    """A zone's offsets around a window."""

    def __init__(self, timezone: str, window: Window) -> None:
        start_s, end_s = (int(t.timestamp()) for t in (window.start_utc, window.end_utc))
        spans = [
            (until * _US, shift * _US) for _, until, shift in offset_spans(timezone, start_s, end_s)
        ]
        self._doubled: list[tuple[int, int]] = []
        """Instants between which local times come twice."""
        self._until: list[float] = []
        self._shifts: list[tuple[int, ...]] = []
        """Until each local time, what may be its offset; of two the earlier one first."""
        for (at, before), (_, after) in pairwise(spans):
            self._add(at + after, before)
            if after < before:
                self._add(at + before, before, after)
                self._doubled.append((at - (before - after), at + (before - after)))
        self._add(inf, spans[-1][1])

    def _add(self, until: float, *shifts: int) -> None:
        self._until.append(until)
        self._shifts.append(shifts)

    def find_doubled(self, read: Read) -> _Doubled:
        """The rows of hours that come twice; none where no clock goes back."""
        found: dict[int, list[tuple[Number, Number]]] = {}
        if self._doubled:
            for time_us, first, second in read():
                if any(start <= time_us < end for start, end in self._doubled):
                    found.setdefault(time_us, []).append((first, second))
        return found

    def to_instants(self, rows: Iterator[LocalRow], doubled: _Doubled) -> Iterator[Row]:
        """The rows of a file by their instants."""
        for place, run in groupby(rows, lambda row: bisect_right(self._until, row[0])):
            shift, *others = self._shifts[place]
            if not others:
                yield from ((local - shift, first, second) for local, first, second in run)
                continue
            twice = list(run)
            at = _split(twice, shift, others[0], doubled)
            for n, (local, first, second) in enumerate(twice):
                yield local - (shift if n < at else others[0]), first, second


def _split(rows: Sequence[LocalRow], early: int, late: int, doubled: _Doubled) -> int:
    """How many rows of an hour that comes twice are of its first time.

    Where the clock is seen to go back, that many. Else as most rows equal those of the cloud,
    then where a time of day comes again, then as most meet one of the cloud: where only a number
    has changed no row must be doubled.
    """
    for place, (before, after) in enumerate(pairwise(rows), 1):
        if after[0] < before[0]:
            return place
    early_fits = _add_up(_fit(row, early, doubled) for row in rows)
    late_fits = _add_up(_fit(row, late, doubled) for row in rows)

    def rank(at: int) -> tuple[int, bool, int, int]:
        is_again = 0 < at < len(rows) and rows[at][0] == rows[at - 1][0]
        equal, other = (
            first - second for first, second in zip(early_fits[at], late_fits[at], strict=True)
        )
        return equal, is_again, other, at

    return max(range(len(rows) + 1), key=rank)


def _add_up(fits: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sums of the first none, one, two … of them."""
    return list(accumulate(fits, lambda a, b: (a[0] + b[0], a[1] + b[1]), initial=_NONE))


def _fit(row: LocalRow, shift: int, doubled: _Doubled) -> tuple[int, int]:
    there = doubled.get(row[0] - shift)
    if there is None:
        return _NONE
    return _EQUAL if (row[1], row[2]) in there else _OTHER


# One over the other


def _join(new: Iterator[Row], known: Iterator[Row]) -> Iterator[tuple[Row, int, int]]:
    """Both in order, each row with how many changed and how many were kept: 0 or 1."""
    tagged = merge(
        ((time_us, first, second, True) for time_us, first, second in new),
        ((time_us, first, second, False) for time_us, first, second in known),
        key=itemgetter(0),
    )
    for time_us, group in groupby(tagged, itemgetter(0)):
        fresh: list[tuple[Number, Number]] = []
        earlier: list[tuple[Number, Number]] = []
        for _, first, second, is_new in group:
            if is_new:
                fresh.append((first, second))
            elif first is not None or second is not None:
                earlier.append((first, second))
        if earlier:
            for numbers, changed, kept in _put_over(fresh, earlier):
                yield (time_us, *numbers), changed, kept
        else:
            yield from (((time_us, *numbers), 0, 0) for numbers in fresh)


def _put_over(
    fresh: Sequence[tuple[Number, Number]], earlier: Sequence[tuple[Number, Number]]
) -> Iterator[tuple[tuple[Number, Number], int, int]]:
    """The rows of one instant. An earlier one that equals one of now is no row of its own."""
    others = [numbers for numbers in earlier if numbers not in fresh]
    for numbers in fresh:
        if numbers in earlier or not others:
            yield numbers, 0, 0
            continue
        before = others.pop(0)
        pairs = list(zip(numbers, before, strict=True))
        first, second = (old if now is None else now for now, old in pairs)
        changed = any(None not in pair and pair[0] != pair[1] for pair in pairs)
        kept = (first, second) != numbers
        yield (first, second), int(changed), int(kept)
    yield from ((numbers, 0, 1) for numbers in others)
