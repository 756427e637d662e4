"""Rows as bytes and back: the same digits, and no torn byte passes for a number."""

from __future__ import annotations

import json
import math
import time
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.archive.columns import Block, BodyError, Kind, decode, encode, scan

NUMBERS = st.one_of(
    st.none(),
    st.floats(allow_nan=False),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(-9, 9),
    st.sampled_from([0, 0.0, -0.0, 1, 1.0, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**63, math.inf]),
)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    count = draw(st.integers(0, 30))
    if draw(st.booleans()):
        first, step = draw(st.integers(-(2**40), 2**40)), draw(st.integers(1, 10**6))
        times = list(range(first, first + step * count, step))
    else:
        numbers = st.integers(-(2**62), 2**62)
        times = sorted(draw(st.lists(numbers, min_size=count, max_size=count)))
    kinds = st.sampled_from(
        [st.none(), st.floats(allow_nan=False), st.integers(-(2**63), 2**63 - 1), NUMBERS]
    )
    columns = [
        draw(st.lists(draw(kinds), min_size=count, max_size=count))
        for _ in range(draw(st.integers(0, 4)))
    ]
    return Block(times, tuple(columns))


def digits(block: Block) -> object:
    return list(block.times), [[repr(one) for one in column] for column in block.columns]


@given(blocks())
def test_every_number_comes_back_as_the_same_one(block: Block) -> None:
    assert digits(decode(encode(block))) == digits(block)


@given(blocks(), st.data())
def test_a_body_that_is_torn_or_rotten_is_noticed(block: Block, data: st.DataObject) -> None:
    body = encode(block)
    with pytest.raises(BodyError):
        decode(body[: data.draw(st.integers(0, len(body) - 1))])
    place, bit = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 7))
    rotten = bytearray(body)
    rotten[place] ^= 1 << bit
    with pytest.raises(BodyError):
        decode(bytes(rotten))


@given(st.binary(max_size=200))
def test_strange_bytes_are_no_rows(body: bytes) -> None:
    with pytest.raises(BodyError):
        decode(body)


@pytest.mark.parametrize(
    ("place", "byte"),
    [(0, ord("x")), (2, 2), (3, 1), (4, 9), (24, 9), (25, 3), (24, Kind.TEXT), (24, Kind.MIXED)],
)
def test_a_body_that_says_what_cannot_be_is_none(place: int, byte: int) -> None:
    """Though its checksum holds."""
    body = bytearray(encode(Block([0, 60], ([1.5, 2.5],)))[:-4])
    body[place] = byte
    with pytest.raises(BodyError):
        decode(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([None, None], Kind.NOTHING),
        ([1.5, 2.5], Kind.FLOATS),
        ([1, 2], Kind.INTS),
        ([1, 2**40], Kind.LONGS),
        ([1, 2.0], Kind.MIXED),
        ([None, 2.0], Kind.MIXED),
        ([1, 2**64], Kind.TEXT),
        ([None, 2**64], Kind.TEXT),
    ],
)
def test_a_column_takes_the_least_room(column: list[float | None], kind: Kind) -> None:
    found = scan(encode(Block([0, 60], (column,))))
    assert (found.count, found.first, found.step) == (2, 0, 60)
    assert [one.kind for one in found.columns] == [kind]


def test_rows_are_cut_by_their_times() -> None:
    block = Block([1, 2, 2, 5], ([1, 2, 3, 4],))
    assert block.between(0, 9) is block
    assert block.between(2, 4) == Block([2, 2], ([2, 3],))
    assert block.between(3, 4) == Block([], ([],))
    assert block.rows() == [(1,), (2,), (3,), (4,)]
    assert block.row(3) == (4,)


def test_a_month_of_minutes_takes_milliseconds() -> None:
    """Some 5 ms to write and 3 to read, on a machine on which JSON takes 80: a quarter is let pass."""
    random = Random(1)
    energy = [round(random.random(), 4) for _ in range(44_640)]
    block = Block(
        list(range(0, 60 * 44_640, 60)),
        (energy, [e * 60 for e in energy], [100 + e for e in energy], list(range(44_640))),
    )

    def best(work: object, *args: object) -> float:
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            work(*args)  # type: ignore[operator]
            times.append(time.perf_counter() - begun)
        return min(times)

    body = encode(block)
    assert len(body) < 29 * 44_640
    floor = best(json.dumps, block.columns)
    assert best(encode, block) < floor / 4
    assert best(decode, body) < floor / 4
