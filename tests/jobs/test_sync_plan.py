"""The order of a sync's work, and how much of it is done now."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from copper_cli.work.sync_plan import (
    Need,
    SyncPlan,
    Turn,
    days_between,
    mean_age_days,
    plan_sync,
)

DAY_S = 86400
NOW_S = 1_700_000_000


def newest(meter_id: str, calls: int = 1) -> Turn:
    return Turn("newest", meter_id, NOW_S - DAY_S, NOW_S, calls)


def history(meter_id: str, *ends: int) -> list[Turn]:
    return [Turn("history", meter_id, end - 1, end) for end in ends]


def told(plan: SyncPlan) -> list[str]:
    return [f"{turn.work} {turn.subject} {turn.end_s}" for turn in plan.turns]


def ids(turns: Sequence[Turn]) -> str:
    return "".join(turn.subject for turn in turns)


def test_the_stalest_is_asked_first() -> None:
    """One that was never asked before all; one that failed a day later than it was tried, so that
    it neither comes first each night nor never."""
    needs = [
        Need("a", NOW_S - 1 * DAY_S, newest=newest("a")),
        Need("b", NOW_S - 3 * DAY_S, newest=newest("b")),
        Need("c", None, newest=newest("c")),
        Need("d", NOW_S - 3 * DAY_S, has_failed=True, newest=newest("d")),
        Need("e", NOW_S - 2 * DAY_S + 1, newest=newest("e")),
    ]
    assert ids(plan_sync(needs, [], None).turns) == "cbdea"


def test_kinds_of_work_follow_one_another() -> None:
    """Whatever the order in which they are named."""
    again = Turn("again", "a", 0, 1)
    needs = [
        Need("a", 1, again=again),
        Need("b", 2, newest=newest("b"), history=history("b", 9)),
    ]
    fleet = [Turn("grid", "", 0, 1), Turn("registers", "", 0, 0)]
    works = [turn.work for turn in plan_sync(needs, fleet, None).turns]
    assert works == ["registers", "grid", "newest", "history", "again"]


def test_history_is_newest_first_and_fair() -> None:
    """Nobody has a second turn before all had one; in each round the newest comes first."""
    needs = [
        Need("a", 1, history=history("a", 50, 40, 30)),
        Need("b", 2, history=history("b", 70)),
        Need("c", 3, history=history("c", 60, 45)),
    ]
    assert told(plan_sync(needs, [], None)) == [
        "history b 70",
        "history c 60",
        "history a 50",
        "history c 45",
        "history a 40",
        "history a 30",
    ]


def test_what_failed_comes_after_all_other_history() -> None:
    """Else it would be tried first each night."""
    needs = [
        Need("a", 1, failed=history("a", 90)),
        Need("b", 2, history=history("b", 20, 10)),
    ]
    assert ids(plan_sync(needs, [], None).turns) == "bba"


def test_who_waits_longest_is_asked_again_first() -> None:
    """That is by the last round, not by the newest hours."""
    needs = [
        Need("a", 1, again=Turn("again", "a", 0, 1), again_s=20),
        Need("b", 2, again=Turn("again", "b", 0, 1), again_s=10),
    ]
    assert ids(plan_sync(needs, [], None).turns) == "ba"


@pytest.mark.parametrize(
    ("budget", "now", "left", "calls"),
    [
        (None, "abc", "", 9),
        (9, "abc", "", 9),
        (6, "abc", "", 6),
        (5, "ab", "c", 5),
        (0, "", "abc", 0),
    ],
)
def test_turns_are_begun_while_calls_are_left(
    budget: int | None, now: str, left: str, calls: int
) -> None:
    """In one order for all: a dear one is begun and goes on next time, none is passed by."""
    needs = [
        Need(one, at, newest=newest(one, cost))
        for at, (one, cost) in enumerate([("a", 2), ("b", 3), ("c", 4)])
    ]
    plan = plan_sync(needs, [], budget)
    assert (ids(plan.turns), ids(plan.left), plan.calls) == (now, left, calls)
    assert plan.calls_left == 9 - calls


def test_parts_tell_calls_now_and_left() -> None:
    """Three newest turns of two calls, two of history; seven calls: one of history is left."""
    needs = [
        Need(one, at, newest=newest(one, 2), history=history(one, 5) if at else [])
        for at, one in enumerate("abc")
    ]
    parts = list(plan_sync(needs, [], 7).parts())
    assert [(p.work, p.subjects, p.calls, p.until, p.left) for p in parts] == [
        ("newest", 3, 6, 6, 0),
        ("history", 1, 1, 7, 1),
    ]


@pytest.mark.parametrize(
    ("meters", "sweeps", "every", "mean"),
    [
        (900, 1, 1.0, 1.0),
        (10_000, 1, 11.4, 6.2),
        (10_000, 24, 15.4, 8.2),
        (100_000, 1, 142.9, 71.9),
    ],
)
def test_how_often_a_quota_asks_each_meter(
    meters: int, sweeps: int, every: float, mean: float
) -> None:
    """Of 1000 calls a day 100 are reserved, the list and each sweep take one a thousand meters."""
    left = 1000 - 100 - meters // 1000 * (1 + sweeps) - (meters < 1000) * (1 + sweeps)
    days = days_between(meters, left)
    assert round(days, 1) == every
    assert round(mean_age_days(days), 1) == mean


def test_no_call_is_left_for_rows() -> None:
    assert days_between(100_000, -1600) == float("inf")
    assert days_between(100_000, None) == 0
