"""Keep an archive up to date: everybody's newest hours, then history, then all of it again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from copper_cli.buckets import DAY_S
from copper_cli.errors import (
    CloudError,
    CopperError,
    CredentialsError,
    QuotaSpentError,
    UnreachableError,
)
from copper_cli.table import Column, Table
from copper_cli.work.context import FINISHING, Context
from copper_cli.work.download import publish_rows
from copper_cli.work.fleet import Zoneless
from copper_cli.work.interrupt import Interruption, catch_interrupt
from copper_cli.work.outcome import quota_left, tell_failure
from copper_cli.work.parallel import run_parallel
from copper_cli.work.sync_fleet import GridBook, fetch_targets
from copper_cli.work.sync_needs import SyncMeter, find_need, take_turn
from copper_cli.work.sync_order import Progressed, SyncOrder, keep_progress
from copper_cli.work.sync_plan import (
    WORKS,
    Need,
    SyncPlan,
    Turn,
    Work,
    days_between,
    mean_age_days,
    plan_sync,
)

_REFUSALS_IN_A_ROW = 3
"""So many meters refused for want of permission, or without a connection: the run is hopeless."""
_BULK_PAGE = 1000
"""ASSUMED: so many meters a page of registers. To check: count the rows of one."""
_MOST_REPLANS = 12
_GRID_DAYS = 4
_GRID_CHUNK_DAYS = 30
_ADJECTIVES = {
    "minute": "by minute",
    "fifteenminute": "by quarter hour",
    "hour": "hourly",
    "bihour": "by two hours",
    "day": "daily",
}


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What is brought up to date, and how far at most."""

    order: SyncOrder
    """What is kept."""
    is_typed: bool = True
    """It was given for this run, so that meters which are not there are a mistake."""
    calls: int | None = None
    """No more calls than this in this run, lists included."""
    until_s: float | None = None
    """No call after this instant, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A plan, and what is needed to walk it."""

    plan: SyncPlan
    """What is to be done."""
    may_grow: bool
    """Turns are as short as they are only because longer ones were not tried yet."""
    targets: Mapping[str, SyncMeter]
    """The meters by id."""
    failed: list[dict[str, Any]]
    """Meters that cannot be asked at all."""
    grid: GridBook | None
    lists: int
    """Calls that the lists took."""
    until_s: float
    """No call is made after this."""
    every_days: float
    """Every how many days each meter is asked."""
    granularity: str | None
    """Of its rows; None where there are none."""
    has_registers: bool
    """Registers are fetched too."""


def sync(context: Context, request: SyncRequest) -> Table:
    """Bring the archive up to date within the quota; what was done, a row a kind of work.

    Raises UsageError for what is not in the fleet, CredentialsError and UnreachableError where
    one meter after the other is refused, KeyboardInterrupt at Ctrl-C: what was answered is in the
    archive, and the same again goes on. A meter that fails stops no other.
    """
    before = context.session.calls_used
    prepared = _prepare(context, request, before)
    for line in _tell_plan(context, prepared):
        context.progress.say(line)
    run = _Run(context, prepared)
    run.walk()
    publish_rows(context, force=True)
    run.end()
    return _done_table(context, prepared, run, before)


def estimate_sync(context: Context, request: SyncRequest) -> Table:
    """The plan that sync would walk now; beyond the lists no call is made."""
    prepared = _prepare(context, request, context.session.calls_used)
    plan = prepared.plan
    rows = []
    for part in plan.parts():
        done_at = None if not part.calls else _at(context, part.until)
        rows.append((WORKS[part.work], part.subjects or None, part.calls, part.left, done_at))
    facts = {
        "lists": prepared.lists,
        "to_ask": plan.calls,
        "left": plan.calls_left,
        "meters": len(prepared.targets),
        "unmoved": _count_unmoved(prepared),
        "every_days": _finite(prepared.every_days),
        "mean_age_days": _finite(mean_age_days(prepared.every_days)),
        "done_by": _at(context, plan.calls),
        "quota_left": quota_left(context),
        "failed": prepared.failed,
    }
    for line in _tell_plan(context, prepared):
        context.progress.say(line)
    return Table(f"Plan: sync {request.order.options()}", _COLUMNS, rows, facts)


_COLUMNS = (
    Column("Work", "work"),
    Column("Meters", "meters"),
    Column("Calls", "calls"),
    Column("Left for next time", "left"),
    Column("Done by", "done_by", lambda at: at and f"{at:%a %d %b %H:%M}"),
)


# Before


def _prepare(context: Context, request: SyncRequest, before: int) -> _Prepared:
    order = request.order
    found, gone = fetch_targets(context, order, is_typed=request.is_typed)
    grid = GridBook(context, order) if "grid" in order.extras else None
    lists = context.session.calls_used - before
    targets = {one.meter.id: one for one in found if isinstance(one, SyncMeter)}
    failed = [
        tell_failure(one.meter.id, str(one.error), one.error.lasting)
        for one in found
        if isinstance(one, Zoneless)
    ]
    failed += [tell_failure(one, "the cloud does not list it any more", True) for one in gone]
    context.progress.start("meters", len(targets), "planning")
    needs = []
    for target in targets.values():
        needs.append(find_need(context, target))
        context.progress.advance()
    fleet = [*_plan_registers(order, len(found)), *_plan_grid(context, grid)]
    now_s = context.now()
    until_s = min(now_s + DAY_S, request.until_s if request.until_s is not None else math.inf)
    budget = _find_budget(context, request, needs, fleet, lists, until_s)
    bulk = sum(turn.calls for turn in fleet if turn.work == "registers")
    calls_a_day = _calls_a_day(context, request)
    left = None if calls_a_day is None else calls_a_day - lists - bulk
    every_days = days_between(len(targets) * order.kinds, left)
    plan = plan_sync(needs, fleet, budget)
    return _Prepared(
        plan,
        any(need.may_grow for need in needs),
        targets,
        failed,
        grid,
        lists,
        until_s,
        every_days,
        order.granularity,
        "registers" in order.extras,
    )


def _plan_registers(order: SyncOrder, meters: int) -> list[Turn]:
    if "registers" not in order.extras:
        return []
    return [Turn("registers", "", 0, 0, max(1, math.ceil(meters / _BULK_PAGE)))]


def _plan_grid(context: Context, grid: GridBook | None) -> list[Turn]:
    """The last days first, then what lies before."""
    span = grid.span() if grid is not None else None
    if grid is None or span is None:
        return []
    turns: list[Turn] = []
    last_s, days = span[1], _GRID_DAYS
    while last_s > span[0]:
        first_s = max(span[0], last_s - days * DAY_S)
        work: Work = "history" if turns or last_s < span[1] else "grid"
        if calls := grid.calls(first_s, last_s):
            turns.append(Turn(work, "", first_s, last_s, calls))
        last_s, days = first_s, _GRID_CHUNK_DAYS
    return turns


def _find_budget(
    context: Context,
    request: SyncRequest,
    needs: Iterable[Need],
    fleet: Iterable[Turn],
    lists: int,
    until_s: float,
) -> int | None:
    """The calls that this run may make after its lists; None where nothing bounds them."""
    settings, session = context.session.settings, context.session
    most = [
        limit.calls - settings.reserve - lists
        for limit in settings.quota
        if limit.period_s >= DAY_S
    ]
    if request.calls is not None:
        most.append(request.calls - lists)
    wanted = _count_wanted(needs, fleet)
    cap = max(0, min([wanted, *most]))
    if not settings.wait:
        until_s = context.now() + 1  # the ledger looks at the clock after us
    if session.free_at(cap) <= until_s:
        return max(0, min(most)) if most else None
    low, high = 0, cap  # so many are free by then, so many are not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if session.free_at(middle) <= until_s else (low, middle)
    return low


def _count_wanted(needs: Iterable[Need], fleet: Iterable[Turn]) -> int:
    turns = [*fleet]
    for need in needs:
        turns += [*need.history, *need.failed]
        turns += [one for one in (need.newest, need.again) if one is not None]
    return sum(turn.calls for turn in turns)


def _calls_a_day(context: Context, request: SyncRequest) -> float | None:
    """The calls that a day grants beyond the reserve; None: any number."""
    settings = context.session.settings
    rates = [(limit.calls - settings.reserve) * DAY_S / limit.period_s for limit in settings.quota]
    if request.calls is not None:
        rates.append(request.calls)
    return min(rates, default=None)


# While it goes on


@dataclass(slots=True)
class _Done:
    """What came of one kind of work."""

    meters: set[str] = field(default_factory=set)
    calls: int = 0


class _Run:
    """A plan as it is walked."""

    def __init__(self, context: Context, prepared: _Prepared) -> None:
        self.failed: dict[str, dict[str, Any]] = {one["id"]: one for one in prepared.failed}
        self.changed = self.withdrawn = 0
        self.done: dict[Work, _Done] = {}
        self.plan = prepared.plan
        self.is_spent = False
        self._may_grow = prepared.may_grow
        self._granted = self._look_granted(context, prepared)
        self._replans = 0
        self._taken: set[int] = set()
        self._first_call = context.session.calls_used
        self._context = context
        self._prepared = prepared
        self._ending: CopperError | None = None
        self._refused = 0
        self._interruption: Interruption | None = None
        self._progressed: dict[str, Progressed] = {}
        self._past: list[SyncPlan] = []
        self._spent = Counter[int]()
        """Calls of turns that were cut short."""

    def walk(self) -> None:
        """Take one turn after the other, until all are taken or something ends it."""
        context, prepared = self._context, self._prepared
        context.session.bound(calls=prepared.plan.budget, until_s=prepared.until_s)
        with catch_interrupt(
            context.session.cancel, partial(context.progress.say, FINISHING)
        ) as interruption:
            self._interruption = interruption
            self._walk_plan()
            while self._is_outdated():
                self._plan_anew()
                self._walk_plan()
        if interruption.requested:
            self._tell_safe()
            raise KeyboardInterrupt

    def left(self) -> Counter[Work]:
        """Calls of what is due and was not done, by kind of work."""
        found = Counter[Work]()
        for turn in (*self.plan.turns, *self.plan.left):
            if id(turn) not in self._taken:
                found[turn.work] += max(1, turn.calls - self._spent[id(turn)])
        return found

    def _walk_plan(self) -> None:
        for work, turns in self.plan.groups():
            if not self._is_stopping():
                self._walk_group(work, turns)

    # What is learned on the way

    @staticmethod
    def _look_granted(context: Context, prepared: _Prepared) -> list[tuple[int, int]]:
        """The longest spans that were granted, and the shortest that were refused."""
        return [context.spans.known(name) for name in (prepared.granularity or "", "readings")]

    def _is_outdated(self) -> bool:
        """True where calls may be longer than planned, or must be shorter."""
        if self._must_end() or self._replans >= _MOST_REPLANS:
            return False
        now = self._look_granted(self._context, self._prepared)
        is_refused = [refused for _, refused in now] != [refused for _, refused in self._granted]
        return is_refused or (self._may_grow and now != self._granted)

    def _plan_anew(self) -> None:
        """Plan what is left by what is known now."""
        context, prepared, plan = self._context, self._prepared, self.plan
        self._granted = self._look_granted(context, prepared)
        self._replans += 1
        fleet = [
            turn
            for turn in (*plan.turns, *plan.left)
            if not turn.subject and id(turn) not in self._taken
        ]
        needs = [
            find_need(context, replace(one, progressed=self._progressed.get(i, one.progressed)))
            for i, one in prepared.targets.items()
            if i not in self.failed
        ]
        self._may_grow = any(need.may_grow for need in needs)
        budget = prepared.plan.budget
        if budget is not None:
            budget = max(0, budget - (context.session.calls_used - self._first_call))
        self._past.append(plan)  # its turns are known by their identity
        self.plan = plan_sync(needs, fleet, budget)

    def end(self) -> None:
        """Raise what ended it early."""
        if self._ending is not None:
            for one in self.failed.values():
                self._context.progress.say(f"{one['id']} failed: {one['reason']}")
            self._tell_safe()
            raise self._ending

    def _tell_safe(self) -> None:
        asked = len({one for done in self.done.values() for one in done.meters})
        self._context.progress.say(
            f"{asked} meters were asked; all answers are in the archive. The same command goes on "
            "from here."
        )

    def _walk_group(self, work: Work, turns: Sequence[Turn]) -> None:
        context = self._context
        before = context.session.calls_used
        context.progress.start("meters", len(turns), WORKS[work])
        done = self.done.setdefault(work, _Done())
        results = run_parallel(turns, self._take, context.jobs, self._is_stopping)
        try:
            for turn, result in results:
                if self._settle(turn, result):
                    self._taken.add(id(turn))
                if id(turn) in self._taken or self._spent[id(turn)]:
                    done.meters.add(turn.subject)
                context.progress.advance()
        except KeyboardInterrupt:
            raise  # the second Ctrl-C waits for nothing
        except BaseException:
            # Calls that wait for the quota would hold up what ended the run, perhaps for hours.
            context.session.cancel()
            results.close()
            raise
        done.calls += context.session.calls_used - before

    def _settle(self, turn: Turn, result: Callable[[], tuple[int, int] | CopperError]) -> bool:
        """Note what came of a turn; False where it is left for next time."""
        try:
            found = result()
        except CancelledError:
            return False  # it was waiting when the run was ended
        except QuotaSpentError:
            self.is_spent = True
            return False
        if isinstance(found, CopperError):
            self._note_failure(turn, found)
            return True
        self._refused = 0
        self.changed += found[0]
        self.withdrawn += found[1]
        return True

    def _note_failure(self, turn: Turn, error: CopperError) -> None:
        name = turn.subject or WORKS[turn.work]
        self.failed[name] = tell_failure(name, str(error), error.lasting)
        if not isinstance(error, (CredentialsError, UnreachableError)):
            self._refused = 0
            return
        self._refused += 1
        if self._refused == _REFUSALS_IN_A_ROW and self._ending is None:
            self._ending = error
            # Those that wait for the quota would only be refused too.
            self._context.session.cancel()

    def _is_stopping(self) -> bool:
        return self._must_end() or self._is_outdated()

    def _must_end(self) -> bool:
        is_interrupted = self._interruption is not None and self._interruption.requested
        return is_interrupted or self.is_spent or self._ending is not None

    def _take(self, turn: Turn) -> tuple[int, int] | CopperError:
        """Ask for a turn and remember that it was; in any thread. Why it failed comes back."""
        if turn.subject in self.failed:
            return 0, 0  # its newest hours failed: what would be asked now would too
        before = self._context.counter.calls()
        try:
            if not turn.subject:
                return self._take_fleet(turn)
            return self._take_meter(turn, self._prepared.targets[turn.subject])
        except QuotaSpentError:
            self._spent[id(turn)] = self._context.counter.calls() - before
            raise
        except (CredentialsError, CloudError) as error:
            return error

    def _take_fleet(self, turn: Turn) -> tuple[int, int]:
        if turn.work == "registers":
            self._context.client.fetch_bulk(anew=True)
        else:
            assert self._prepared.grid is not None
            self._prepared.grid.fetch(turn.start_s, turn.end_s)
        return 0, 0

    def _take_meter(self, turn: Turn, target: SyncMeter) -> tuple[int, int]:
        context = self._context
        progressed = self._progressed.get(turn.subject, target.progressed)
        try:
            found = take_turn(context, target, turn)
        except (CredentialsError, CloudError):
            if turn.work == "newest":
                self._keep(turn.subject, progressed.failed(context.now()))
            raise
        if turn.work == "newest":
            progressed = progressed.answered(
                target.order.what, target.heard_s, turn.end_s, context.now()
            )
            self._keep(turn.subject, progressed)
        elif turn.round is not None:
            is_over = turn.round == "ends"
            progressed = progressed.asked_again(turn.start_s, context.now(), is_round_over=is_over)
            self._keep(turn.subject, progressed)
        return found

    def _keep(self, meter_id: str, progressed: Progressed) -> None:
        """On the disk at once: a kill must not have a meter asked for twice."""
        self._progressed[meter_id] = progressed
        keep_progress(self._context.archive, meter_id, progressed)


# After


def _done_table(context: Context, prepared: _Prepared, run: _Run, before: int) -> Table:
    later, rows = run.left(), []
    for work, name in WORKS.items():
        done = run.done.get(work, _Done())
        if done.calls or done.meters or later[work]:
            rows.append((name, len(done.meters - {""}) or None, done.calls, later[work]))
    facts = {
        "noun": "meter",
        "complete": not run.failed,
        "lists": prepared.lists,
        "meters": len(prepared.targets),
        "asked": len({one for done in run.done.values() for one in done.meters} - {""}),
        "unmoved": _count_unmoved(prepared),
        "left": sum(later.values()),
        "changed": run.changed,
        "withdrawn": run.withdrawn,
        "failed": list(run.failed.values()),
        "every_days": _finite(prepared.every_days),
        "calls": context.session.calls_used - before,
        "quota_left": quota_left(context),
    }
    return Table("Sync", _COLUMNS[:-1], rows, facts)


def _count_unmoved(prepared: _Prepared) -> int:
    turns = (*prepared.plan.turns, *prepared.plan.left)
    return len(prepared.targets) - len({one.subject for one in turns if one.work == "newest"})


def _finite(number: float) -> float | None:
    return round(number, 3) if math.isfinite(number) else None


# In words


def _tell_plan(context: Context, prepared: _Prepared) -> Iterator[str]:
    """What is to be done, and where the quota cannot keep the fleet up to date, by how much."""
    plan, meters = prepared.plan, len(prepared.targets)
    limits = " and ".join(f"{left} of {limit}" for limit, left in quota_left(context).items())
    done_at = _at(context, plan.calls)
    later = f", {plan.calls_left:,} left for other times" if plan.calls_left else ""
    yield (
        f"{_count(meters, 'meter')}, {_count_unmoved(prepared):,} of them not moved: "
        f"{_count(prepared.lists, 'call')} for lists, {plan.calls:,} to make{later}; "
        f"done by {done_at:%a %d %b %H:%M}. Quota left: {limits}."
    )
    every = prepared.every_days
    if round(every, 1) <= 1.0:
        return
    if math.isinf(every):
        yield (
            "The quota leaves no call for rows after lists and registers: none of the "
            f"{_count(meters, 'meter')} can be kept up to date."
        )
    else:
        yield (
            f"The quota cannot keep them all current: {_count(meters, 'meter')} "
            f"{_adjective(prepared)}: each is asked every {every:.1f} days "
            f"(mean age {mean_age_days(every):.1f} days)."
        )
    if not prepared.has_registers:
        calls = math.ceil(meters / _BULK_PAGE)
        yield f"What it can: --with registers has all of them daily for {_count(calls, 'call')}."


def _adjective(prepared: _Prepared) -> str:
    return _ADJECTIVES.get(prepared.granularity or "", "by readings")


def _at(context: Context, calls: int) -> datetime:
    """When so many more calls could have been made."""
    return datetime.fromtimestamp(context.session.free_at(calls)).astimezone()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
