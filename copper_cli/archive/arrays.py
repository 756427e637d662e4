"""Rows as numpy arrays: bodies of the landing read in bulk, laid over one another, told apart.

Whoever needs it imports it within a function: numpy takes a tenth of a second.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from copper_cli.archive.columns import IS_FLOAT, IS_INT, BodyError, Kind, Scanned, scan
from copper_cli.archive.keys import Number
from copper_cli.archive.months import find_start

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]
_LENGTH = struct.Struct("<I")

NO_INTEGER = -(1 << 63)
"""Stands in arrays of integers for none."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a row of one kind, in the order in which bodies hold them."""

    names: tuple[str, ...]
    """Of all. `actual` is one that is an integer as a rule, the others are doubles."""
    groups: tuple[tuple[str, ...], ...]
    """Those that stay together, the first of them says whether anything is there."""
    bits: Mapping[str, int]
    """Which bit of `integers` tells that the number was one in the cloud's answer."""


INTERVAL = Shape(
    ("energy", "power", "value", "actual"),
    (("energy", "power"), ("value",), ("actual",)),
    {"energy": 1, "power": 2, "value": 4},
)
READINGS = Shape(("actual", "value"), (("actual",), ("value",)), {"value": 4})
GRID = Shape(
    ("voltage", "frequency"), (("voltage",), ("frequency",)), {"voltage": 1, "frequency": 2}
)
SHAPES = {"readings": READINGS, "grid": GRID}
"""Of the kinds that are no intervals."""


def shape_of(kind: str) -> Shape:
    """The shape of a kind of rows."""
    return SHAPES.get(kind, INTERVAL)


@dataclass(slots=True)
class Rows:
    """Rows as arrays of equal length; None stands for an array of nothing but nulls or noughts."""

    times: Ints
    """Ends in seconds, or instants in microseconds."""
    numbers: dict[str, Floats | None]
    """NaN where there is none. `actual` holds only what was no integer there."""
    actual: Ints | None = None
    """The integers of `actual`, NO_INTEGER where there is none."""
    integers: Bits | None = None
    """Which numbers were integers: see Shape."""
    codes: Ints | None = None
    """Which series each is of, None where all are of one."""
    starts: Ints | None = None
    """Where buckets start whose lengths differ."""

    def __len__(self) -> int:
        return len(self.times)

    def pick(self, places: Places | slice) -> Rows:
        """The rows at these places."""

        def pick(found: Any) -> Any:
            return None if found is None else found[places]

        return Rows(
            self.times[places],
            {name: pick(one) for name, one in self.numbers.items()},
            *(pick(one) for one in (self.actual, self.integers, self.codes, self.starts)),
        )

    def cut(self, start: int, stop: int) -> Rows:
        """The rows from one place up to another, apart from the others in memory."""
        found = self.pick(slice(start, stop))
        if start == 0 and stop == len(self):
            return found
        found.times = found.times.copy()
        for name, column in found.numbers.items():
            found.numbers[name] = None if column is None else column.copy()
        for name in ("actual", "integers", "codes", "starts"):
            column = getattr(found, name)
            setattr(found, name, None if column is None else column.copy())
        return found


def join(parts: Sequence[Rows]) -> Rows:
    """All rows, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    lengths = [len(part) for part in parts]

    def put(found: list[Any], nothing: Any) -> Any:
        if all(one is None for one in found):
            return None
        kind = next(one.dtype for one in found if one is not None)
        pairs = zip(found, lengths, strict=True)
        return np.concatenate(
            [np.full(length, nothing, kind) if one is None else one for one, length in pairs]
        )

    names = parts[0].numbers
    return Rows(
        np.concatenate([part.times for part in parts]),
        {name: put([part.numbers[name] for part in parts], np.nan) for name in names},
        put([part.actual for part in parts], NO_INTEGER),
        put([part.integers for part in parts], 0),
        put([part.codes for part in parts], 0),
        put([part.starts for part in parts], 0),
    )


def empty_rows(shape: Shape) -> Rows:
    """None."""
    nothing = np.zeros(0, np.int64)
    return Rows(nothing, dict.fromkeys(shape.names), codes=nothing)


# Bodies of the landing


def decode(body: bytes, shape: Shape) -> Rows:
    """The rows of an answer. Raises BodyError."""
    found = scan(body)
    try:
        return _decode(found, shape)
    except (struct.error, ValueError, IndexError, zlib.error) as error:
        raise BodyError("the bytes are torn or have changed") from error


def _decode(found: Scanned, shape: Shape) -> Rows:
    if found.step:
        times: Ints = np.arange(found.count, dtype=np.int64) * found.step + found.first
    else:
        times = np.frombuffer(found.listed, "<i8")
    rows = Rows(times, {})
    for name, column in zip(shape.names, found.columns, strict=True):
        numbers = _DECODERS[column.kind](column.data, found.count)
        _put_column(rows, name, shape.bits.get(name, 0), *numbers)
    if any(len(one) != found.count for one in (times, *_arrays(rows))):
        raise ValueError("length")
    return rows


def _arrays(rows: Rows) -> list[npt.NDArray[Any]]:
    return [one for one in (*rows.numbers.values(), rows.actual) if one is not None]


def _put_column(
    rows: Rows, name: str, bit: int, floats: Floats | None, integers: Ints | None
) -> None:
    """Take a column, given as its doubles and its integers: None where there are none of these."""
    if name == "actual":
        rows.numbers[name], rows.actual = floats, integers
        return
    if integers is None:
        rows.numbers[name] = floats
        return
    is_integer = integers != NO_INTEGER
    found = np.full(len(integers), np.nan) if floats is None else floats
    found[is_integer] = integers[is_integer]
    rows.numbers[name] = found
    marks = is_integer * np.uint8(bit)
    rows.integers = marks if rows.integers is None else rows.integers | marks


_Column = tuple[Floats | None, Ints | None]


def _decode_mixed(data: memoryview, count: int) -> _Column:
    (length,) = _LENGTH.unpack_from(data)
    at = _LENGTH.size + length
    marks = np.frombuffer(zlib.decompress(data[_LENGTH.size : at]), np.uint8)
    is_float, is_integer = marks == IS_FLOAT, marks == IS_INT
    until = at + 8 * int(is_float.sum())
    floats = integers = None
    if until > at:
        floats = np.full(count, np.nan)
        floats[is_float] = np.frombuffer(data[at:until], "<f8")
    if until < len(data):
        integers = np.full(count, NO_INTEGER, np.int64)
        integers[is_integer] = np.frombuffer(data[until:], "<i8")
    return floats, integers


def _decode_text(data: memoryview, count: int) -> _Column:
    """Integers of more than 64 bits are among them: a double is the nearest that a file holds."""
    found = json.loads(bytes(data))
    whole = [isinstance(one, int) and abs(one) < -NO_INTEGER for one in found]
    pairs = list(zip(found, whole, strict=True))
    floats = [np.nan if one is None or is_whole else float(one) for one, is_whole in pairs]
    integers = [one if is_whole else NO_INTEGER for one, is_whole in pairs]
    return np.array(floats, np.float64), np.array(integers, np.int64)


_DECODERS: Mapping[int, Callable[[memoryview, int], _Column]] = {
    Kind.NOTHING: lambda data, count: (None, None),
    Kind.FLOATS: lambda data, count: (np.frombuffer(data, "<f8"), None),
    Kind.INTS: lambda data, count: (None, np.frombuffer(data, "<i4").astype(np.int64)),
    Kind.LONGS: lambda data, count: (None, np.frombuffer(data, "<i8")),
    Kind.MIXED: _decode_mixed,
    Kind.TEXT: _decode_text,
}


# One over the other


def lay_over(layers: Sequence[Rows], *, is_instants: bool) -> Rows:
    """All rows by series and time, each once; of two the later layer's. Each is in order in itself.

    What is no number there does not replace one. Of readings all rows of an instant are the later
    layer's: it knows how many there are. The arrays of the first layer may be written to.
    """
    if all(map(_is_before, layers, layers[1:])):
        return join(layers)
    first, *others = layers
    if not is_instants and len(first) > _MANY * sum(map(len, others)):
        return _put_into(first, lay_over(others, is_instants=False))
    rows = join(layers)
    codes = rows.codes
    assert codes is not None
    if is_instants:
        numbers = np.repeat(np.arange(len(layers)), [len(layer) for layer in layers])
    order = _sort(codes, rows.times)
    codes, times = codes[order], rows.times[order]
    is_first = np.empty(len(order), np.bool_)
    is_first[:1] = True
    is_first[1:] = (codes[1:] != codes[:-1]) | (times[1:] != times[:-1])
    if is_first.all():
        return rows.pick(order)
    firsts = np.flatnonzero(is_first)
    lasts = np.append(firsts[1:], len(order)) - 1
    if is_instants:
        uppermost = np.repeat(numbers[order[lasts]], lasts - firsts + 1)
        return rows.pick(order[numbers[order] == uppermost])
    return _fill(rows, order, firsts, lasts)


_MANY = 4
"""A layer so many times longer than the others is not sorted anew for their sake."""


def _put_into(base: Rows, upper: Rows) -> Rows:
    """The same of two layers, in time for what is new: a night's rows in those of a month.

    What is written anew is written into the first one's arrays.
    """
    keys, wanted = _keys(base, upper)
    places = keys.searchsorted(wanted)
    is_there = places < len(keys)
    is_there[is_there] = keys[places[is_there]] == wanted[is_there]
    _replace(base, upper, places, is_there)
    if is_there.all():
        return base
    new = upper.pick(np.flatnonzero(~is_there))
    return join([base, new]).pick(_merge(len(base), places[~is_there]))


def _keys(base: Rows, upper: Rows) -> tuple[Ints, Ints]:
    """Codes and times of both as one number each that is in their order."""
    assert base.codes is not None
    assert upper.codes is not None
    low = int(min(base.times.min(), upper.times.min()))
    width = int(max(base.times.max(), upper.times.max())) - low + 1
    return base.codes * width + (base.times - low), upper.codes * width + (upper.times - low)


def _merge(count: int, before: Places) -> Places:
    """Places of rows and of those that are put before some of them, and that come last now."""
    total = count + len(before)
    is_new = np.zeros(total, np.bool_)
    is_new[before + np.arange(len(before))] = True
    found = np.empty(total, np.intp)
    found[is_new] = np.arange(count, total)
    found[~is_new] = np.arange(count)
    return found


def _replace(found: Rows, upper: Rows, places: Places, is_there: npt.NDArray[np.bool_]) -> None:
    """Put the numbers of rows that are there in the place of others, unless only these are some."""
    for group in INTERVAL.groups:
        is_mine = is_there.copy()
        is_number, is_held = _is_number(upper, group[0]), _is_number(found, group[0])
        if is_held is not None:
            is_free = ~is_held[places[is_there]]
            is_mine[is_there] = is_free if is_number is None else is_free | is_number[is_there]
        spots = places[is_mine]
        for name in group:
            column = upper.numbers[name]
            mine = np.nan if column is None else column[is_mine]
            found.numbers[name] = _put(found.numbers[name], spots, mine, len(found), np.nan)
        if group[0] == "actual":
            whole = NO_INTEGER if upper.actual is None else upper.actual[is_mine]
            found.actual = _put(found.actual, spots, whole, len(found), NO_INTEGER)
        elif found.integers is not None or upper.integers is not None:
            bits = np.uint8(sum(INTERVAL.bits[name] for name in group))
            marks = 0 if upper.integers is None else upper.integers[is_mine] & bits
            was = 0 if found.integers is None else found.integers[spots] & ~bits
            found.integers = _put(found.integers, spots, was | marks, len(found), 0)


def _put(column: Any, spots: Places, numbers: Any, count: int, nothing: Any) -> Any:
    """Write numbers into a column, which is made where it is none and they are some."""
    if column is None:
        if not isinstance(numbers, np.ndarray):
            return None
        column = np.full(count, nothing, numbers.dtype)
    elif not column.flags.writeable:
        column = column.copy()
    column[spots] = numbers
    return column


def _is_before(one: Rows, other: Rows) -> bool:
    """True where all rows of one come before those of another; each is in order in itself."""
    assert one.codes is not None
    assert other.codes is not None
    return bool((one.codes[-1], one.times[-1]) < (other.codes[0], other.times[0]))


def _is_ascending(codes: Ints, times: Ints) -> bool:
    steps = np.diff(codes)
    return bool(((steps > 0) | ((steps == 0) & (np.diff(times) > 0))).all())


def _sort(codes: Ints, times: Ints) -> Places:
    """Places by code and time, equal ones as they are: a sort of runs, which they mostly are."""
    low, high = int(times.min()), int(times.max())
    width = high - low + 1
    if (int(codes.max()) + 1) * width >= 1 << 63:
        return np.lexsort((times, codes))
    return np.argsort(codes * width + (times - low), kind="stable")


def _fill(rows: Rows, order: Places, firsts: Places, lasts: Places) -> Rows:
    """Of each instant the last row, and where that has no number the last one that there is."""
    found = rows.pick(order[lasts])
    spot = np.arange(len(order))
    marks: Bits | None = None
    for group in INTERVAL.groups:
        is_number = _is_number(rows, group[0])
        if is_number is None:
            continue
        best = np.maximum.reduceat(np.where(is_number[order], spot, -1), firsts)
        places = order[np.where(best < 0, lasts, best)]
        for name in group:
            column = rows.numbers[name]
            found.numbers[name] = None if column is None else column[places]
        if group[0] == "actual":
            found.actual = None if rows.actual is None else rows.actual[places]
        elif rows.integers is not None:
            bits = np.uint8(sum(INTERVAL.bits[name] for name in group))
            own = rows.integers[places] & bits
            marks = own if marks is None else marks | own
    found.integers = marks
    return found


def _is_number(rows: Rows, name: str) -> npt.NDArray[np.bool_] | None:
    floats = rows.numbers[name]
    found = None if floats is None else ~np.isnan(floats)
    if name == "actual" and rows.actual is not None:
        whole = rows.actual != NO_INTEGER
        found = whole if found is None else found | whole
    return found


def put_in_order(rows: Rows, within: Ints | None) -> Rows:
    """The same rows by series and time; `within` tells their order at the same instant."""
    codes = rows.codes
    assert codes is not None
    if not len(rows) or (within is None and _is_ascending(codes, rows.times)):
        return rows
    if within is not None:
        return rows.pick(np.lexsort((within, rows.times, codes)))
    return rows.pick(_sort(codes, rows.times))


def count_within(rows: Rows) -> Ints:
    """Of each row how many come before it at the same instant of the same series."""
    assert rows.codes is not None
    spot = np.arange(len(rows), dtype=np.int64)
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (np.diff(rows.codes) != 0) | (np.diff(rows.times) != 0)
    return spot - np.maximum.accumulate(np.where(is_first, spot, 0))


# Where buckets start


def find_starts(granularity: str, grid: str, ends: Ints) -> Ints:
    """Where the buckets start that end then, of days, months and pairs of hours."""
    unique, places = np.unique(ends, return_inverse=True)
    starts = [find_start(granularity, grid, end_s) for end_s in unique.tolist()]
    return np.array(starts, np.int64)[places]


# Back to plain values


def plain_columns(rows: Rows, shape: Shape) -> tuple[list[Number], ...]:
    """The numbers as the cloud sent them, column by column."""
    return tuple(
        _plain_actual(rows) if name == "actual" else _plain(rows, name, shape.bits[name])
        for name in shape.names
    )


def _plain(rows: Rows, name: str, bit: int) -> list[Number]:
    column = rows.numbers[name]
    if column is None:
        return [None] * len(rows)
    is_null = np.isnan(column)
    marks = None if rows.integers is None else (rows.integers & bit).astype(np.bool_)
    has_integers = marks is not None and bool(marks.any())
    if not has_integers and not is_null.any():
        return list(column.tolist())
    cells = column.astype(object)
    cells[is_null] = None
    if marks is not None and has_integers:
        is_whole = marks & ~is_null
        cells[is_whole] = [int(number) for number in column[is_whole].tolist()]
    return list(cells.tolist())


def _plain_actual(rows: Rows) -> list[Number]:
    floats, whole = rows.numbers["actual"], rows.actual
    if whole is None:
        return _plain(replace(rows, integers=None), "actual", 0)
    is_whole = whole != NO_INTEGER
    if is_whole.all():
        return list(whole.tolist())
    cells = np.full(len(rows), None, object)
    if floats is not None:
        is_float = ~np.isnan(floats)
        cells[is_float] = floats[is_float]
    cells[is_whole] = whole[is_whole]
    return list(cells.tolist())
