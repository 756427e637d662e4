"""What of a span holds no amount yet, what that is called, and when asking again may help. Pure.

The one rule on whether an answer may still change: everybody asks it here. Utilities fill days
after weeks, so a bucket without an amount is

- `to come` until it is two days old: each run asks for it again. So is one that is not over, even
  if it has an amount already: that of a part;
- `late` until it is thirty: asked for again when it has become 1, 2, 4, 8, 16 or 30 days old
  since it was asked for last;
- `missing` from then on: the cloud is believed not to have it, unless one asks explicitly.

Age counts from the bucket's end. ASSUMED: nothing comes after thirty days (150 were seen
elsewhere). To check: ask again for what is missing, and see how much has come.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from copper_cli.buckets import BUCKET_S, DAY_S, Grid, count_buckets

TO_COME_S = 2 * DAY_S
"""Younger than this and without an amount: to come."""
FINAL_S = 30 * DAY_S
"""Older than this and without an amount: missing. An answer without gaps younger than this may
be kept for good."""
RUNNING_S = 3600
"""A longer bucket that is not over yet, as today among days, is asked for again after so long: its
amount grows."""
ASK_AGES_S = tuple(days * DAY_S for days in (1, 2, 4, 8, 16, 30))
"""Ages at which what is late is asked for again."""

Shown = Literal["known", "to come", "late", "missing", "failed", "never asked"]
"""What a bucket is called on every screen."""

_MOST_GAPS = 64
"""Of one file: a manifest of ten thousand files must stay readable."""


def name_state(
    stored: str | None, end_s: float, now_s: float, *, is_accepted: bool = False
) -> Shown:
    """What a bucket that ends at an instant is called, by what the archive has of it.

    That is `known`, `null`, `absent`, `failed`, or None where nobody ever asked for it. What a
    person has accepted is missing however young it is; what was never asked for is to come as
    long as no answer would have to have it.
    """
    if stored == "known":
        return "known"
    if stored == "failed":
        return "failed"
    if stored is not None and is_accepted:
        return "missing"
    if end_s > now_s - TO_COME_S:
        return "to come"
    if stored is None:
        return "never asked"
    return "late" if end_s > now_s - FINAL_S else "missing"


@dataclass(frozen=True, slots=True)
class Gap:
    """Buckets in a row that hold no amount, whether the cloud sent null for them or no row."""

    after_s: int
    """End of the bucket before the first of them, seconds since 1970 UTC."""
    until_s: int
    """End of the last of them."""
    count: int
    """How many; their ends lie evenly in between. 0: a span without buckets (readings), of which
    nobody knows how much is to be had."""
    told: bool = True
    """They count among what a person is told of; else they are only asked for again."""

    def count_after(self, instant_s: float) -> int:
        """How many of them end later than an instant."""
        if self.count == 0:
            return 0
        step = (self.until_s - self.after_s) / self.count
        before = math.floor((instant_s - self.after_s) / step + 1e-9)
        return self.count - min(max(before, 0), self.count)


@dataclass(frozen=True, slots=True)
class Unfilled:
    """Buckets without an amount by what they are called."""

    to_come: int = 0
    """Younger than two days, or not over yet."""
    late: int = 0
    """Two to thirty days old."""
    missing: int = 0
    """Older."""

    def __add__(self, other: Unfilled) -> Unfilled:
        """Both together."""
        return Unfilled(
            self.to_come + other.to_come, self.late + other.late, self.missing + other.missing
        )

    def text(self, noun: str = "bucket") -> str:
        """`3 buckets to come, 8 late, 24 missing`; empty where there are none."""
        found = [
            (count, word)
            for count, word in (
                (self.to_come, "to come"),
                (self.late, "late"),
                (self.missing, "missing"),
            )
            if count
        ]
        if not found:
            return ""
        count, word = found[0]
        first = f"{count} {noun}{'' if count == 1 else 's'} {word}"
        return ", ".join([first, *(f"{count} {word}" for count, word in found[1:])])


def count_unfilled(gaps: Iterable[Gap], now_s: float) -> Unfilled:
    """The buckets of these gaps by what they are called now."""
    to_come = late = missing = 0
    for gap in gaps:
        if not gap.told:
            continue
        young, not_old = gap.count_after(now_s - TO_COME_S), gap.count_after(now_s - FINAL_S)
        to_come += young
        late += not_old - young
        missing += gap.count - not_old
    return Unfilled(to_come, late, missing)


def span_gaps(start_s: int, end_s: int, *, is_empty: bool, now_s: float) -> list[Gap]:
    """What may still come of a span without buckets (readings): all or nothing of it.

    Readings reach the cloud within two days; where there is none at all, as late as amounts.
    """
    closed_s = now_s - (FINAL_S if is_empty else TO_COME_S)
    return [Gap(start_s, end_s, 0)] if end_s > closed_s else []


def may_change(gaps: Iterable[Gap], now_s: float) -> bool:
    """True where the cloud may still fill one of them."""
    return any(gap.until_s > now_s - FINAL_S for gap in gaps)


def is_due(gaps: Iterable[Gap], asked_s: float | None, now_s: float) -> bool:
    """True where one of them should be asked for again, had it been asked for last at `asked_s`.

    None: nobody knows when; then each that is over and may still be filled is due.
    """
    return any(_is_due(gap, asked_s, now_s) for gap in gaps)


def _is_due(gap: Gap, asked_s: float | None, now_s: float) -> bool:
    if gap.count == 0:
        if gap.after_s < now_s <= gap.until_s + TO_COME_S:
            return True
        gap = Gap(gap.until_s - 1, gap.until_s, 1)
    if asked_s is None:
        return _ends_between(gap, now_s - FINAL_S, now_s)
    if _is_running(gap, now_s) and now_s - asked_s >= RUNNING_S:
        return True
    if _ends_between(gap, now_s - TO_COME_S, now_s):
        return True
    return any(_ends_between(gap, asked_s - age_s, now_s - age_s) for age_s in ASK_AGES_S)


def _is_running(gap: Gap, now_s: float) -> bool:
    """True where one of the buckets has begun, is not over, and is longer than an hour."""
    length_s = (gap.until_s - gap.after_s) / gap.count
    return length_s > RUNNING_S and gap.after_s < now_s < gap.until_s


def find_next_ask(gap: Gap, asked_s: float, now_s: float) -> float | None:
    """When one of these buckets is to be asked for again after `asked_s`; None: never by itself.

    Not later than now where that is due. What is younger than two days is asked for by each run.
    """
    found = []
    if gap.count_after(now_s - TO_COME_S):
        found.append(now_s)
    step = (gap.until_s - gap.after_s) / gap.count
    for age_s in ASK_AGES_S:
        after = gap.count - gap.count_after(asked_s - age_s)
        if after < gap.count:
            found.append(gap.after_s + (after + 1) * step + age_s)
    return min(found, default=None)


def _ends_between(gap: Gap, after_s: float, until_s: float) -> bool:
    """True where one of the buckets ends after an instant, and not after another."""
    return gap.count_after(after_s) > gap.count_after(until_s)


def open_gaps(gaps: Sequence[Gap], now_s: float) -> list[Gap]:
    """Those that the cloud may still fill, no more than some hundreds.

    Neighbours are put together where there are more: their number stays, their places blur.
    """
    found = [gap for gap in gaps if gap.until_s > now_s - FINAL_S]
    while len(found) > _MOST_GAPS:
        found = [_join(found[at : at + 2]) for at in range(0, len(found), 2)]
    return found


def _join(gaps: Sequence[Gap]) -> Gap:
    told = any(gap.told for gap in gaps)
    return Gap(gaps[0].after_s, gaps[-1].until_s, sum(gap.count for gap in gaps), told)


class GapFinder:
    """Finds the gaps of a series that is read in pieces, ascending.

    `start_s` is the end of the last bucket before those that are looked for: its own row counts
    for nothing.
    """

    def __init__(self, grid: Grid, start_s: int) -> None:
        self.gaps: list[Gap] = []
        self._grid = grid
        self._step = BUCKET_S.get(grid.granularity)
        self._last_s = start_s

    def feed(self, times_s: Sequence[int], energy: Sequence[float | None]) -> None:
        """Rows in order: bucket ends, and amounts or None."""
        if self._is_whole(times_s, energy):
            self._take(times_s[0])
            self._last_s = max(self._last_s, times_s[-1])
            return
        for time_s, amount in zip(times_s, energy, strict=True):
            if amount is not None:
                self._take(time_s)

    def end(self, end_s: int) -> list[Gap]:
        """All gaps up to the end of the last bucket."""
        if end_s > self._last_s:
            self._note(end_s, self._count(end_s))
            self._last_s = end_s
        return self.gaps

    def _is_whole(self, times_s: Sequence[int], energy: Sequence[float | None]) -> bool:
        """Each row holds an amount and none is left out: told without looking at each."""
        if self._step is None or not times_s or None in energy:
            return False
        return times_s[-1] - times_s[0] == (len(times_s) - 1) * self._step

    def _take(self, time_s: int) -> None:
        """A row with an amount."""
        if time_s <= self._last_s:
            return
        count = self._count(time_s) - 1
        if count > 0:
            self._note(self._grid.floor(time_s - 1), count)
        self._last_s = time_s

    def _count(self, until_s: int) -> int:
        """Buckets from the last row on. Clouds may send rows beside the grid: by their distance."""
        if self._grid.holds(self._last_s) and self._grid.holds(until_s):
            return self._grid.count(self._last_s, until_s)
        return count_buckets(until_s - self._last_s, self._grid.granularity)

    def _note(self, until_s: int, count: int) -> None:
        if count > 0:
            self.gaps.append(Gap(self._last_s, max(until_s, self._last_s + 1), count))


def may_still_change(
    times_s: Sequence[int],
    energy: Sequence[float | None],
    span: tuple[int, int],
    granularity: str,
    now_s: float,
) -> bool:
    """True where the cloud may still fill a bucket of an answer to one question, from and until."""
    finder = GapFinder(Grid(span, granularity), span[0])
    finder.feed(times_s, energy)
    return may_change(finder.end(span[1]), now_s)


def over_by(
    now_s: float, times_s: Sequence[int], energy: Sequence[float | None]
) -> Sequence[float | None]:
    """The amounts of buckets that are over at an instant; None for the others."""
    over = bisect_right(times_s, now_s)
    return energy if over == len(times_s) else [*energy[:over], *[None] * (len(times_s) - over)]
