"""Rows as they stand: answers one over the other, in the order in which they came, over months.

An answer holds only rows that say something new, each as it is to be read: so of two that hold
the same instant the later one counts, whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any, Protocol

from copper_cli.archive.columns import Block
from copper_cli.archive.keys import Instants, SeriesKey
from copper_cli.records import Series

INTERVAL_WIDTH, INSTANTS_WIDTH = 4, 2
"""Numbers of a row."""
PIECE_ROWS = 50_000
"""No piece has more."""
_NOTHING = Block((), ())
_LEAST_ROWS = 10_000
"""Smaller blocks are put together."""


class Months(Protocol):
    """The published part of an archive."""

    def rows(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Series]:
        """Interval rows from one instant to another, both included, in ascending pieces."""

    def instants(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Instants]:
        """Readings from one instant up to another, in ascending pieces."""

    def expect(self, keys: Sequence[SeriesKey]) -> None:
        """The rows of these will be asked for, in this order."""


@dataclass(frozen=True, slots=True)
class Layer:
    """An answer in the landing; those of a higher number came later."""

    id: int
    """Its number."""
    first: int
    """No row of it is earlier, in the unit of its times."""
    last: int
    """Nor later."""


class GoneError(Exception):
    """An answer was published, or taken back, since it was looked up."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of a series come from."""

    layers: Callable[[int, int], list[Layer]]
    """The answers that may hold rows between two times, both included."""
    load: Callable[[Layer], Block]
    """The rows of one. Raises GoneError."""
    under: Callable[[int, int], Iterator[Block]]
    """What months hold between two times, both included."""


def read(source: Source, first: int, last: int) -> Iterator[Block]:
    """All rows between two times, both included, in ascending blocks.

    No more is held at once than the answers that overlap at one time, and a piece of a month.
    """
    while True:
        try:
            for block in _read(source, first, last):
                first = block.times[-1] + 1
                yield block
        except GoneError:
            continue
        return


def pieces(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows, in pieces neither small nor large."""
    waiting: list[Block] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block.times)
        if count >= _LEAST_ROWS:
            yield from _split(join(waiting))
            waiting, count = [], 0
    if waiting:
        yield from _split(join(waiting))


def join(blocks: Sequence[Block]) -> Block:
    """Blocks that follow one another as one."""
    if len(blocks) == 1:
        return blocks[0]
    columns = zip(*(block.columns for block in blocks), strict=True)
    return Block(_chain([block.times for block in blocks]), tuple(map(_chain, columns)))


def _chain(parts: Iterable[Sequence[Any]]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        found.extend(part)  # copied at once, not one by one
    return found


def over(lower: Block, upper: Block) -> Block:
    """Both together; of an instant that both have the upper one's rows."""
    if not lower.times or not upper.times:
        return upper if upper.times else lower
    if lower.times[-1] < upper.times[0]:
        return join([lower, upper])
    if upper.times[-1] < lower.times[0]:
        return join([upper, lower])
    own = set(upper.times)
    keeps = [time not in own for time in lower.times]
    if not any(keeps):
        return upper
    times = [*compress(lower.times, keeps), *upper.times]
    order = sorted(range(len(times)), key=times.__getitem__)  # of equal ones as they came
    columns = []
    for below, above in zip(lower.columns, upper.columns, strict=True):
        column = [*compress(below, keeps), *above]
        columns.append([column[place] for place in order])
    return Block([times[place] for place in order], tuple(columns))


def block_of_series(series: Series) -> Block:
    """Interval rows as a block."""
    columns = series.energy, series.power, series.value, series.actual
    return Block(series.times_s, columns)


def series_of(
    block: Block, sum_energy: float | None = None, meter_type: str | None = None
) -> Series:
    """The same again."""
    energy, power, value, actual = block.columns
    return Series(block.times, energy, power, value, actual, sum_energy, meter_type)


def block_of_instants(found: Instants) -> Block:
    """Readings as a block."""
    return Block(found.times_us, (found.first, found.second))


def instants_of(block: Block) -> Instants:
    """The same again."""
    return Instants(block.times, *block.columns)


def _read(source: Source, first: int, last: int) -> Iterator[Block]:
    layers = source.layers(first, last)
    under = _Under(source.under(first, last))
    loaded: dict[int, Block] = {}
    for start, stop, active in _stretches(layers, first, last):
        for number in loaded.keys() - {layer.id for layer in active}:
            del loaded[number]
        at = start
        while at <= stop:
            block, until = under.take(stop)
            for layer in active:
                if layer.id not in loaded:
                    loaded[layer.id] = source.load(layer)
                block = over(block, loaded[layer.id].between(at, until))
            if block.times:
                yield block
            at = until + 1


def _stretches(
    layers: Sequence[Layer], first: int, last: int
) -> Iterator[tuple[int, int, list[Layer]]]:
    """The times between two, cut where an answer begins or ends, each with the answers there."""
    starts = sorted(layers, key=lambda layer: layer.first)
    cuts = {first, *(layer.first for layer in layers), *(layer.last + 1 for layer in layers)}
    bounds = [*sorted(cut for cut in cuts if first <= cut <= last), last + 1]
    active: list[Layer] = []
    at = 0
    for start, until in pairwise(bounds):
        while at < len(starts) and starts[at].first <= start:
            active.append(starts[at])
            at += 1
        active = [layer for layer in active if layer.last >= start]
        yield start, until - 1, sorted(active, key=lambda layer: layer.id)


class _Under:
    """What months hold, taken stretch by stretch."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = _whole_instants(blocks)
        self._block = _NOTHING
        self._at = 0

    def take(self, last: int) -> tuple[Block, int]:
        """The next rows up to a time, and up to when they are all: that time or earlier."""
        if self._at == len(self._block.times):
            self._block, self._at = next(self._blocks, _NOTHING), 0
        start = self._at
        self._at = bisect_right(self._block.times, last, start)
        if self._at == start:
            return _NOTHING, last
        is_all = self._at < len(self._block.times)
        return self._block.cut(start, self._at), last if is_all else self._block.times[-1]


def _whole_instants(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same rows, and none of an instant in two blocks."""
    held = _NOTHING
    for block in blocks:
        if not block.times:
            continue
        if held.times and held.times[-1] == block.times[0]:
            held = join([held, block])
            continue
        if held.times:
            yield held
        held = block
    if held.times:
        yield held


def _split(block: Block) -> Iterator[Block]:
    for start in range(0, len(block.times), PIECE_ROWS):
        yield block if len(block.times) <= PIECE_ROWS else block.cut(start, start + PIECE_ROWS)
