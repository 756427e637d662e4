"""Registers in closed form: what a meter shows at any instant, and what it used in between."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sin
from typing import NamedTuple, Protocol

from copper_cli.sandbox.instants import DAY_S

YEAR_S = 365.25 * DAY_S
_DAILY = 0.6 * 24 / (2 * pi)
_YEARLY = 0.3 * 8766 / (2 * pi)


class Measures(NamedTuple):
    """What a meter reports at the end of each of a row of buckets."""

    actual: list[int]
    """The register as the meter reports it, whole ticks."""
    value: list[float]
    """`actual` in the standard unit."""
    usage: list[float]
    """What was used in the bucket, in the standard unit."""


class Register(Protocol):
    """A meter's register; instants are UTC seconds, amounts the standard unit."""

    @property
    def first_s(self) -> float:
        """The instant from which there are readings."""

    @property
    def last_s(self) -> float:
        """The instant after which there are none (infinity: it goes on)."""

    @property
    def usage_places(self) -> int:
        """How many decimal places `usage` and what is made from it have at most."""

    def at(self, epoch_s: float) -> float:
        """The register at an instant: flat before the first reading and after the last."""

    def total(self, start_s: float, end_s: float) -> float:
        """What was used from one instant to another, unrounded."""

    def measure(self, edges_s: Sequence[int]) -> Measures:
        """Register and usage at the end of each bucket; n + 1 ascending edges, n values."""


@dataclass(frozen=True)
class CurveRegister:
    """A generated register: strictly increasing, with a daily and a yearly wave.

    With h the hours since creation, and T the UTC seconds of an instant at or after it,

        register(T) = initial + rate · (h + w(T) − w(created))
        w(T) = 0.6 · 24 / 2π · sin(2π · (T mod 86400) / 86400 + phase)
             + 0.3 · 8766 / 2π · sin(2π · T / 31557600 + phase)

    so that the amount used in an hour swings around `rate` by 60 % over a day and by 30 % over
    a year, and is never less than a tenth of it. Before creation: `initial`.
    """

    initial: float
    """The register at creation and before."""
    rate: float
    """What is used in an hour on average."""
    phase: float
    """Where in its waves the meter is, radians."""
    created_s: float
    """When it begins, UTC seconds."""

    last_s = float("inf")
    usage_places = 4

    @property
    def first_s(self) -> float:
        """The instant of creation."""
        return self.created_s

    def at(self, epoch_s: float) -> float:
        """The register at an instant, unrounded."""
        if epoch_s <= self.created_s:
            return self.initial
        hours = (epoch_s - self.created_s) / 3600
        return self.initial + self.rate * (hours + self._wave(epoch_s) - self._wave(self.created_s))

    def total(self, start_s: float, end_s: float) -> float:
        """register(end) − register(start), unrounded."""
        return self.at(end_s) - self.at(start_s)

    def measure(self, edges_s: Sequence[int]) -> Measures:
        """`actual` floor(register · 100), `value` a hundredth of it, `usage` to 4 places."""
        amounts = self._list_amounts(edges_s)
        actual = [int(amount * 100) for amount in amounts[1:]]
        value = [ticks / 100 for ticks in actual]
        usage = [round(after - before, 4) for before, after in pairwise(amounts)]
        return Measures(actual, value, usage)

    def _list_amounts(self, edges_s: Sequence[int]) -> list[float]:
        """`at` of each edge, to the last bit, with what repeats computed once.

        The daily wave has as many values as there are times of day, and an answer may have
        100,000 rows: this takes a third of the time.
        """
        wave_created = self._wave(self.created_s)
        daily: dict[int, float] = {}
        amounts = []
        for edge in edges_s:
            if edge <= self.created_s:
                amounts.append(self.initial)
                continue
            second = edge % DAY_S
            if second not in daily:
                daily[second] = _DAILY * sin(2 * pi * second / DAY_S + self.phase)
            wave = daily[second] + _YEARLY * sin(2 * pi * edge / YEAR_S + self.phase)
            hours = (edge - self.created_s) / 3600
            amounts.append(self.initial + self.rate * (hours + wave - wave_created))
        return amounts

    def _wave(self, epoch_s: float) -> float:
        daily = _DAILY * sin(2 * pi * (epoch_s % DAY_S) / DAY_S + self.phase)
        return daily + _YEARLY * sin(2 * pi * epoch_s / YEAR_S + self.phase)


@dataclass(frozen=True)
class ReplayedRegister:
    """A register that replays a series of amounts, exactly: whole ticks, linear in between.

    It stands at 0 at the first start. `usage` has four places more than the series, cut off,
    so that the usages of adjoining buckets add up to their sum to the last digit.
    """

    starts_s: tuple[int, ...]
    """When each amount begins to be used, UTC seconds, ascending; the last closes the series."""
    ticks: tuple[int, ...]
    """The register at each of these instants, in 10^-places of the standard unit."""
    places: int
    """Decimal places of the series."""

    @property
    def first_s(self) -> float:
        """The first start."""
        return self.starts_s[0]

    @property
    def last_s(self) -> float:
        """The last start."""
        return self.starts_s[-1]

    @property
    def usage_places(self) -> int:
        """Four more than the series has: a bucket may end within one of its spans."""
        return self.places + 4

    def at(self, epoch_s: float) -> float:
        """The register at an instant, to `usage_places`, cut off."""
        return float(self._fine_at(epoch_s) / 10**self.usage_places)

    def total(self, start_s: float, end_s: float) -> float:
        """What was used from one instant to another, to `usage_places`."""
        fine = self._fine_at(end_s) - self._fine_at(start_s)
        return float(fine / 10**self.usage_places)

    def measure(self, edges_s: Sequence[int]) -> Measures:
        """`actual` in ticks of the series' last place, `value` and `usage` exact decimals."""
        fine = [self._fine_at(edge) for edge in edges_s]
        actual = [amount // 10**4 for amount in fine[1:]]
        value = [ticks / 10**self.places for ticks in actual]
        usage = [(after - before) / 10**self.usage_places for before, after in pairwise(fine)]
        return Measures(actual, value, usage)

    def _fine_at(self, epoch_s: float) -> int:
        """The register in 10^-usage_places: whole numbers, since floats would not add up."""
        if epoch_s <= self.starts_s[0]:
            return 0
        if epoch_s >= self.starts_s[-1]:
            return self.ticks[-1] * 10**4
        index = bisect_right(self.starts_s, epoch_s) - 1
        begin, end = self.starts_s[index], self.starts_s[index + 1]
        used = (self.ticks[index + 1] - self.ticks[index]) * 10**4
        return self.ticks[index] * 10**4 + used * int(epoch_s - begin) // (end - begin)
