"""Which length of a span is worth asking for: pure arithmetic on how many calls it needs."""

from __future__ import annotations

from math import ceil, sqrt


def choose_probe(left: int, granted: int, refused: int, even: int = 1) -> int:
    """The length worth trying between one that is granted and one that is refused.

    It is the least that brings the calls for `left` half way, by ratio, from those needed at
    `granted` to the fewest that are possible below `refused`; rounded up to a multiple of
    `even` where that is not known to be refused. Where no length changes the number of calls
    it is `granted`.
    """
    many, few = ceil(left / granted), ceil(left / max(granted, refused - 1))
    if many == few:
        return make_even(left, granted, even)
    length = ceil(left / min(many - 1, max(few, round(sqrt(few * many)))))
    rounded = round_up(length, even)
    return rounded if rounded < refused else length


def make_even(left: int, length: int, even: int) -> int:
    """The length, cut down to a multiple of `even` where that costs no call; `left` at most."""
    if length >= left:
        return left
    rounded = length - length % even
    return rounded if rounded and ceil(left / rounded) == ceil(left / length) else length


def round_up(length: int, even: int) -> int:
    """The next multiple of `even`; below that there is nothing to round to."""
    return length if length < even else ceil(length / even) * even
