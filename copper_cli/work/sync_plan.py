"""What a sync does, in which order, and how much of it the quota allows. Pure.

Registers of the whole fleet first, then everybody's newest hours, then history, then what is held
is asked for again. Within each nobody has a second turn before all others had one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from copper_cli.buckets import DAY_S

Work = Literal["registers", "grid", "newest", "history", "again"]

WORKS: Mapping[Work, str] = {
    "registers": "registers",
    "grid": "grid readings",
    "newest": "newest hours",
    "history": "history",
    "again": "asked again",
}
"""In the order in which they are done, and how they are called."""
ROUND_S = 30 * DAY_S
"""So long after all of a meter was asked for it is asked for again."""
_PENALTY_S = DAY_S
"""So much later comes the turn of a meter that failed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked in one go: of one meter, or of the whole fleet."""

    work: Work
    """Which kind of work."""
    subject: str
    """Meter id; empty for the whole fleet."""
    start_s: int
    """From when, seconds since 1970 UTC."""
    end_s: int
    """Until when."""
    calls: int = 1
    """How many it takes by what is known of the cloud."""
    fresh: bool = False
    """All of the span is asked for, else what is lacking of it."""
    round: Literal["goes on", "ends"] | None = None
    """It is a part of a round through all that is held of a meter, the last one where that ends."""


@dataclass(frozen=True, slots=True)
class Need:
    """What there is to ask of one meter."""

    meter_id: str
    """Which one."""
    tried_s: float | None = None
    """When its newest hours were last asked for, seconds since 1970; None: never."""
    has_failed: bool = False
    """That was in vain."""
    newest: Turn | None = None
    """From its first hour that may still change until now."""
    history: Sequence[Turn] = ()
    """What was never asked for before that, newest first."""
    failed: Sequence[Turn] = ()
    """What of it failed, newest first."""
    again: Turn | None = None
    """A part of what is held, where its turn has come."""
    again_s: float = 0.0
    """Since when it waits for that."""
    may_grow: bool = False
    """Its turns are as short as they are only because longer ones were not tried yet."""

    def stale_s(self) -> float:
        """What it is sorted by, the stalest first.

        One that failed is not asked before all others each night, but does not starve either.
        """
        if self.tried_s is None:
            return float("-inf")
        return self.tried_s + (_PENALTY_S if self.has_failed else 0)


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of work as people see it."""

    work: Work
    """Which."""
    subjects: int
    """Meters that have a turn in it now."""
    calls: int
    """Calls now."""
    until: int
    """Calls of the whole run up to its end."""
    left: int
    """Calls that are left for other times."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The turns in their order. A dry run prints it, a run walks it."""

    turns: Sequence[Turn]
    """What is begun in this run."""
    left: Sequence[Turn]
    """What is not."""
    budget: int | None
    """Calls that this run may make; None: any number. The last turn may need more of them than are
    left: what was answered of it stays, and it goes on next time."""

    @property
    def calls(self) -> int:
        """Calls of this run."""
        wanted = sum(turn.calls for turn in self.turns)
        return wanted if self.budget is None else min(wanted, self.budget)

    @property
    def calls_left(self) -> int:
        """Calls of what is due and left for other times."""
        return sum(turn.calls for turn in (*self.turns, *self.left)) - self.calls

    def parts(self) -> Iterator[Part]:
        """Each kind of work of which there is any, in order."""
        spent = 0
        for work in WORKS:
            now = [turn for turn in self.turns if turn.work == work]
            later = [turn for turn in self.left if turn.work == work]
            if not now and not later:
                continue
            wanted = sum(turn.calls for turn in now)
            calls = min(wanted, self.calls - spent)
            spent += calls
            subjects = len({turn.subject for turn in now} - {""})
            left = wanted - calls + sum(turn.calls for turn in later)
            yield Part(work, subjects, calls, spent, left)

    def groups(self) -> Iterator[tuple[Work, list[Turn]]]:
        """The turns of this run by their kind of work: one is ended before the next begins."""
        for work, turns in groupby(self.turns, lambda turn: turn.work):
            yield work, list(turns)


def plan_sync(needs: Sequence[Need], fleet: Sequence[Turn], budget: int | None) -> SyncPlan:
    """What is done now of what is needed, as far as the calls go.

    `fleet`: turns for all meters together. Turns are begun as long as calls are left, in one
    order for everybody: a meter whose turn is dear is not passed by.
    """
    ordered = sorted([*fleet, *_order_meters(needs)], key=lambda turn: list(WORKS).index(turn.work))
    if budget is None:
        return SyncPlan(tuple(ordered), (), None)
    spent = count = 0
    for turn in ordered:
        if spent >= budget:
            break
        spent += turn.calls
        count += 1
    return SyncPlan(tuple(ordered[:count]), tuple(ordered[count:]), budget)


def _order_meters(needs: Sequence[Need]) -> Iterator[Turn]:
    stalest = sorted(needs, key=Need.stale_s)
    yield from (need.newest for need in stalest if need.newest is not None)
    yield from _in_rounds(need.history for need in stalest)
    yield from _in_rounds(need.failed for need in stalest)
    waiting = sorted((need for need in needs if need.again), key=lambda need: need.again_s)
    yield from (need.again for need in waiting if need.again is not None)


def _in_rounds(turns: Iterable[Sequence[Turn]]) -> Iterator[Turn]:
    """The first of each, then the second of each; in each round the newest first."""
    rest = [list(one) for one in turns]
    number = 0
    while found := [one[number] for one in rest if number < len(one)]:
        yield from sorted(found, key=lambda turn: -turn.end_s)
        number += 1


def days_between(calls: int, calls_a_day: float | None) -> float:
    """Every how many days each meter is asked, where all of them take so many calls.

    `calls_a_day`: those that are left for them; None: any number. Infinite where there are none.
    """
    if calls_a_day is None or not calls:
        return 0.0
    return calls / calls_a_day if calls_a_day > 0 else float("inf")


def mean_age_days(every_days: float) -> float:
    """How old the newest rows are on average, where each meter is asked every so many days.

    Those of one that was just asked are half a day old on average, and grow older until its
    next turn.
    """
    return max(every_days, 1.0) / 2 + 0.5
