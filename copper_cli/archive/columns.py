"""Rows as bytes, by column: every number comes back as the same number, an integer as an integer.

    head        magic, number of columns, how times are told, number of rows, first time, step
    times       only where they are not evenly apart: 8 bytes each
    column      what it holds, its length in bytes, its numbers; once for each
    checksum    CRC-32 of all before it

All little-endian. No pickle and no marshal: a body may come from anybody's disk.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress, repeat
from typing import Any

from copper_cli.archive.keys import Number

_MAGIC = b"c1"
_HEAD = struct.Struct("<2sBBIqq")
_COLUMN = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
_EVEN, _LISTED = 0, 1
IS_NONE, IS_FLOAT, IS_INT = 0, 1, 2
"""Marks of a mixed column."""
_ONLY_FLOATS, _ONLY_INTS = (
    bytes(int(mark == one) for mark in range(256)) for one in (IS_FLOAT, IS_INT)
)
_MARKS: dict[type, int] = {type(None): IS_NONE, float: IS_FLOAT, int: IS_INT}


class Kind(IntEnum):
    """What a column holds."""

    NOTHING = 0
    """None in every row; no bytes."""
    FLOATS = 1
    """8 bytes each."""
    INTS = 2
    """4 bytes each."""
    LONGS = 3
    """Integers of 8 bytes each."""
    MIXED = 4
    """A length of 4 bytes; so many of marks, one a row, packed by zlib; the floats, then the
    integers, 8 bytes each."""
    TEXT = 5
    """A JSON list: integers beyond 64 bits."""


_ARRAYS = {Kind.FLOATS: "d", Kind.INTS: "i", Kind.LONGS: "q"}


_TORN = (struct.error, ValueError, IndexError, zlib.error, StopIteration)


class BodyError(ValueError):
    """The bytes are not what was once written."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as columns of equal length, ascending by time."""

    times: Sequence[int]
    """Of each row, in whatever unit."""
    columns: tuple[Sequence[Number], ...]
    """The numbers."""

    def between(self, first: int, last: int) -> Block:
        """The rows from one time to another, both included."""
        start, stop = bisect_left(self.times, first), bisect_right(self.times, last)
        return self if stop - start == len(self.times) else self.cut(start, stop)

    def cut(self, start: int, stop: int) -> Block:
        """The rows from one place up to another."""
        return Block(self.times[start:stop], tuple(column[start:stop] for column in self.columns))

    def row(self, place: int) -> tuple[Number, ...]:
        """The numbers of one row."""
        return tuple(column[place] for column in self.columns)

    def rows(self) -> list[tuple[Number, ...]]:
        """The numbers of each row."""
        return list(zip(*self.columns, strict=True))


def block_of(times: Sequence[int], rows: Sequence[tuple[Number, ...]], width: int) -> Block:
    """Rows put into columns."""
    return Block(times, tuple(zip(*rows, strict=True)) if rows else ((),) * width)


def encode(block: Block) -> bytes:
    """The rows as bytes."""
    times = block.times if isinstance(block.times, list) else list(block.times)
    count = len(times)
    step = times[1] - times[0] if count > 1 else 1
    is_even = step > 0 and (
        count < 2 or times == list(range(times[0], times[0] + step * count, step))
    )
    first = times[0] if times else 0
    kind = _EVEN if is_even else _LISTED
    parts = [_HEAD.pack(_MAGIC, len(block.columns), kind, count, first, step if is_even else 0)]
    if not is_even:
        parts.append(_pack("q", times))
    for column in block.columns:
        code, data = _encode_column(column)
        parts += (_COLUMN.pack(code, len(data)), data)
    body = b"".join(parts)
    return body + _LENGTH.pack(zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class Column:
    """The bytes of one column."""

    kind: Kind
    """What they are."""
    data: memoryview
    """They."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A body taken apart, its numbers still bytes."""

    count: int
    """Rows."""
    first: int
    """The time of the first row."""
    step: int
    """From each to the next; 0 where they are listed."""
    listed: memoryview
    """The times where they are, 8 bytes each."""
    columns: Sequence[Column]
    """The numbers."""


def decode(body: bytes) -> Block:
    """The rows of such bytes. Raises BodyError."""
    found = scan(body)
    try:
        if found.step:
            times = list(range(found.first, found.first + found.step * found.count, found.step))
        else:
            times = _unpack("q", found.listed)
        columns = tuple(_decode_column(one, found.count) for one in found.columns)
    except _TORN as error:
        raise BodyError("the bytes are torn or have changed") from error
    if any(len(column) != found.count for column in (times, *columns)):
        raise BodyError("its columns differ in length")
    return Block(times, columns)


def scan(body: bytes) -> Scanned:
    """The parts of such bytes, once their checksum holds. Raises BodyError."""
    try:
        return _scan(memoryview(body))
    except _TORN as error:
        raise BodyError("the bytes are torn or have changed") from error


def _encode_column(column: Sequence[Number]) -> tuple[Kind, bytes]:
    kinds = set(map(type, column))
    if kinds <= {type(None)}:
        return Kind.NOTHING, b""
    try:
        if kinds == {float}:
            return Kind.FLOATS, _pack("d", column)
        if kinds == {int}:
            return _encode_integers(column)
        if kinds <= _MARKS.keys():
            return Kind.MIXED, _encode_mixed(column)
    except OverflowError:  # an integer of more than 64 bits
        pass
    return Kind.TEXT, json.dumps(list(column)).encode()


def _encode_integers(column: Sequence[Number]) -> tuple[Kind, bytes]:
    try:
        return Kind.INTS, _pack("i", column)
    except OverflowError:
        return Kind.LONGS, _pack("q", column)


def _encode_mixed(column: Sequence[Number]) -> bytes:
    marks = bytes(map(_MARKS.__getitem__, map(type, column)))
    packed = zlib.compress(marks, 1)
    floats = list(compress(column, marks.translate(_ONLY_FLOATS)))
    integers = list(compress(column, marks.translate(_ONLY_INTS)))
    return b"".join([_LENGTH.pack(len(packed)), packed, _pack("d", floats), _pack("q", integers)])


def _scan(body: memoryview) -> Scanned:
    end = len(body) - _LENGTH.size
    (check,) = _LENGTH.unpack_from(body, end)
    if zlib.crc32(body[:end]) != check:
        raise ValueError("checksum")
    magic, width, kind, count, first, step = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise ValueError("magic")
    at = _HEAD.size + (0 if kind == _EVEN else 8 * count)
    listed = body[_HEAD.size : at]
    columns = []
    for _ in range(width):
        code, length = _COLUMN.unpack_from(body, at)
        at += _COLUMN.size
        columns.append(Column(Kind(code), body[at : at + length]))
        at += length
    if at != end:
        raise ValueError("length")
    return Scanned(count, first, step, listed, columns)


def _decode_column(column: Column, count: int) -> list[Any]:
    if column.kind == Kind.NOTHING:
        return [None] * count
    if column.kind == Kind.MIXED:
        return _decode_mixed(column.data)
    if column.kind == Kind.TEXT:
        found: list[Any] = json.loads(bytes(column.data))
        return found
    return _unpack(_ARRAYS[column.kind], column.data)


def _decode_mixed(data: memoryview) -> list[Any]:
    (length,) = _LENGTH.unpack_from(data)
    at = _LENGTH.size + length
    marks = zlib.decompress(data[_LENGTH.size : at])
    until = at + 8 * marks.count(IS_FLOAT)
    floats, integers = iter(_unpack("d", data[at:until])), iter(_unpack("q", data[until:]))
    sources = (repeat(None), floats, integers)
    return [next(sources[mark]) for mark in marks]


def _pack(code: str, numbers: Sequence[Any]) -> bytes:
    packed = array(code, numbers)
    if sys.byteorder == "big":  # pragma: no cover
        packed.byteswap()
    return packed.tobytes()


def _unpack(code: str, data: memoryview) -> list[Any]:
    packed = array(code)
    packed.frombytes(data)
    if sys.byteorder == "big":  # pragma: no cover
        packed.byteswap()
    return packed.tolist()
