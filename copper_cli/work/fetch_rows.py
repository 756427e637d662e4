"""Interval rows of one meter, in as few calls as the cloud allows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice

from copper_cli.buckets import BUCKET_S, DAY_S, bucket_s
from copper_cli.cloud.spans import Attempt
from copper_cli.errors import CloudError
from copper_cli.filling import TO_COME_S, may_still_change
from copper_cli.folders.draft import Draft
from copper_cli.plan import MAX_ROWS, SeriesPlan
from copper_cli.records import AnySeries, Kept, Meter, Series, SeriesKind, Window
from copper_cli.series import (
    EMPTY,
    clip_series,
    has_values,
    is_plain,
    join_windows,
    merge_series,
    stitch_series,
    sum_rows,
)
from copper_cli.work.context import Context
from copper_cli.work.outcome import Cost
from copper_cli.work.window_parts import Measure, ask_part


@dataclass(frozen=True, slots=True)
class _Question:
    """What stays the same over the windows of one meter."""

    meter_id: str
    kind: SeriesKind
    granularity: str
    draft: Draft
    anew: bool = False

    def recall(self, rest: Window) -> Kept | None:
        """What is known from before of an answer to a call from the same instant on."""
        found = self.draft.find(self.kind, _seconds(rest.start_utc))
        return None if found is None or found.end_s > _seconds(rest.end_utc) else found

    def note(self, part: Window, answer: Series, now_s: float) -> Kept:
        """Have an answer kept; for a later run too, where nothing in it can still change."""
        start_s, end_s = _seconds(part.start_utc), _seconds(part.end_utc)
        span = start_s, end_s
        rows = answer.times_s, answer.energy
        settled = not may_still_change(*rows, span, self.granularity, now_s)
        return self.draft.add(self.kind, start_s, end_s, answer, settled=settled)


def fetch_series(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    draft: Draft | None = None,
    *,
    anew: bool = False,
) -> AnySeries:
    """The rows of a whole plan, whatever span the cloud allows a call.

    A window refused with 400 is asked in smaller parts; an answer that ends before its window
    (and before now) is continued until a call brings no later row. Answers in `draft` are not
    asked for again, and those of this run are added to it. More rows than one call may bring
    are read from there when they are wanted. `anew`: whatever the cache holds. Raises what the
    cloud raises.
    """
    question = _Question(meter_id, kind, plan.granularity, draft or Draft(), anew)
    windows = [_fetch_window(context, question, window) for window in plan.windows]
    if not windows:
        return EMPTY
    parts = [part for found in windows for part in found]
    if sum(part.rows for part in parts) > MAX_ROWS and is_plain(plan):
        return stitch_series(parts, plan.start_s, plan.end_s)
    answers = [merge_series([part.load() for part in found]) for found in windows]
    return join_windows(plan, answers, _fetch_beyond(context, question, plan, answers[-1]))


def fetch_sum(context: Context, meter_id: str, plan: SeriesPlan) -> float | None:
    """What a meter used over a plan: the cloud's own sum, else that of its rows; None without any.

    Raises CloudError where the cloud gives rows of which one is unknown, and no sum; and what
    the cloud raises.
    """
    series = clip_series(fetch_series(context, meter_id, "usage", plan), plan.start_s, plan.end_s)
    if series.sum_energy is not None:
        return series.sum_energy
    first = bisect_right(series.times_s, plan.start_s)
    if all(energy is None for energy in series.energy[first:]):
        return None
    total = sum_rows(series, plan.start_s)
    if total is None:
        raise CloudError(f"usage of meter {meter_id}: the cloud gives no sum, and not every row.")
    return total


def fetch_meter_sum(context: Context, item: tuple[Meter, SeriesPlan]) -> float | None:
    """The same for a meter with its plan."""
    meter, plan = item
    return fetch_sum(context, meter.id, plan)


def recall_rows(
    context: Context,
    draft: Draft,
    kind: SeriesKind,
    plan: SeriesPlan,
    pieces: Iterable[Series],
    until_s: int,
) -> None:
    """Have rows of an earlier run, ascending, not asked for again up to an instant.

    From the first on that is not known all is asked anew. So is a window that takes one call in
    any case: then its sum is the cloud's own, to the last digit. And so are months, for those
    counted from a later start may end on other days (see plan._month_cuts).
    """
    if plan.granularity == "month":
        return
    measure = _measure(plan.granularity, plan.windows[0])
    windows = [
        window
        for window in plan.windows
        if until_s >= _seconds(window.end_utc)
        or len(list(islice(measure.plan(context.spans, window), 2))) > 1
    ]
    if not windows:
        return
    known_s = [_known_until(draft, kind, window) for window in windows]
    for piece in pieces:
        draft.save()  # no more than one piece is held
        for index, window in enumerate(windows):
            start_s, end_s = known_s[index], _seconds(window.end_utc)
            last_s = min(until_s, end_s, piece.times_s[-1])
            if last_s <= start_s:
                continue
            is_first = start_s == _seconds(window.start_utc)
            rows = clip_series(piece, start_s if is_first else start_s + 1, last_s)
            total = sum_rows(rows, start_s)
            if total is None:
                return
            last_s = end_s if last_s == end_s else rows.times_s[-1]
            draft.add(kind, start_s, last_s, replace(rows, sum_energy=total), known=True)
            known_s[index] = last_s


def _known_until(draft: Draft, kind: SeriesKind, window: Window) -> int:
    """How far a draft's answers go without a gap from a window's start."""
    at_s = _seconds(window.start_utc)
    while (known := draft.find(kind, at_s)) and at_s < known.end_s <= _seconds(window.end_utc):
        at_s = known.end_s
    return at_s


def _fetch_beyond(context: Context, question: _Question, plan: SeriesPlan, last: Series) -> Series:
    """The bucket after the plan, where only its first row tells the register at the plan's end.

    A cloud that counts from a call's start has no row there when the clocks changed on the
    plan's last day.
    """
    window = _plan_beyond(context, plan)
    if window is None or plan.end_s in last.times_s[-1:]:
        return EMPTY
    if not has_values(last) and not last.sum_energy:
        return EMPTY
    return _ask(context, question, window)


def _plan_beyond(context: Context, plan: SeriesPlan) -> Window | None:
    if not plan.cuts or plan.cuts[-1].at_s != plan.end_s or plan.end_s > context.now():
        return None
    end_utc = plan.windows[-1].end_utc
    return Window(end_utc, end_utc + timedelta(seconds=bucket_s(plan.granularity)))


def _fetch_window(context: Context, question: _Question, window: Window) -> list[Kept]:
    """The answers that make up a window, ascending, each from where the one before ends."""
    answers: list[Kept] = []
    rest = window
    while rest.start_utc < window.end_utc:
        known = question.recall(rest)
        answers += [known] if known else _fetch_part(context, question, rest)
        rest = Window(datetime.fromtimestamp(answers[-1].end_s, UTC), window.end_utc)
    return answers


def _fetch_part(context: Context, question: _Question, rest: Window) -> list[Kept]:
    """The answers to a call for as much from the start of `rest` on as the cloud grants.

    Several where it brings less than it was asked for.
    """
    measure = _measure(question.granularity, rest)
    with measure.attempt(context.spans, rest, question.meter_id) as attempt:
        part, answer = ask_part(measure, attempt, rest, partial(_ask, context, question))
        return _continue(context, question, attempt, part, answer)


def _measure(granularity: str, window: Window) -> Measure:
    """Spans count in buckets. Months are few and never split: the window is the unit."""
    step_s = BUCKET_S.get(granularity)
    if step_s is None:
        return Measure(granularity, _seconds(window.end_utc) - _seconds(window.start_utc))
    return Measure(granularity, step_s, MAX_ROWS - 1)


def _continue(
    context: Context, question: _Question, attempt: Attempt, part: Window, answer: Series
) -> list[Kept]:
    """The answer kept, and what is asked for after it where it ends too early."""
    kept: list[Kept] = []
    asked, rest = part, _unanswered(context, question, part, answer)
    lengths: list[int] = []
    granularity = question.granularity
    while rest is not None:
        last_s = answer.times_s[-1]
        is_young = last_s > context.now() - TO_COME_S
        if is_young and not kept and context.ends.reach(granularity, last_s):
            break
        more = _ask(context, question, rest)
        if not more.times_s or more.times_s[-1] <= last_s:
            if is_young:
                context.ends.note(granularity, last_s)
            break  # no later row: that is the cloud's end
        if _is_cut(answer, lengths, context.now()):
            attempt.cut(_count_steps(answer, asked))
        lengths.append(len(answer.times_s))
        own = _own_sum(answer, more, _seconds(asked.start_utc), bucket_s(granularity))
        brought = Window(asked.start_utc, rest.start_utc)
        kept.append(question.note(brought, replace(answer, sum_energy=own), context.now()))
        answer, asked = more, rest
        rest = _unanswered(context, question, rest, more)
    if not kept:
        attempt.grant(whole=rest is None and len(answer.times_s) > 1)
    last = Window(asked.start_utc, part.end_utc)
    return [*kept, question.note(last, answer, context.now())]


def _is_cut(answer: Series, lengths: list[int], now_s: float) -> bool:
    """True where an answer ended too early, though a later one was to be had.

    Not where its next row may just have come in; but that does not happen at the same length
    as before again and again.
    """
    is_old = answer.times_s[-1] < now_s - TO_COME_S
    return is_old or lengths[-1:] == [len(answer.times_s)]


def _count_steps(answer: Series, asked: Window) -> int:
    """How many buckets from where it was asked an answer goes, were there no gap in it."""
    has_first = answer.times_s[0] == _seconds(asked.start_utc)
    return len(answer.times_s) - has_first


def _unanswered(
    context: Context, question: _Question, part: Window, answer: Series
) -> Window | None:
    """From the answer's last row to the window's end, where whole buckets lie between."""
    if not answer.times_s or answer.times_s[-1] <= part.start_utc.timestamp():
        return None
    last = answer.times_s[-1]
    step = bucket_s(question.granularity)
    step += 2 * DAY_S if question.granularity == "month" else 0
    if last + step > min(part.end_utc.timestamp(), context.now()):
        return None
    return Window(datetime.fromtimestamp(last, UTC), part.end_utc)


def _own_sum(answer: Series, after: Series, start_s: int, step: int) -> float | None:
    """The sum of the rows that a cut answer brought, before the one that goes on from its end.

    Its own sum may stand for these rows or for all it was asked for: then what the next one
    gives is to be taken off. Which of the two is seen from the rows.
    """
    own, rest = answer.sum_energy, after.sum_energy
    if own is None or rest is None:
        return None
    brought = _brought(answer, start_s, step)
    return own if abs(own - brought) <= abs(own - rest - brought) else own - rest


def _brought(series: Series, start_s: int, step: int) -> float:
    """What rows after `start_s` say was used: by the register where one of them is missing."""
    known = sum_rows(series, start_s)
    if known is not None and len(series.times_s) > (series.times_s[-1] - start_s) // step:
        return known
    registers = [value for value in series.value if value is not None]
    if len(registers) > 1 and registers[-1] >= registers[0]:
        return registers[-1] - registers[0]
    rows = zip(series.times_s, series.energy, strict=True)
    return sum(energy for time_s, energy in rows if time_s > start_s and energy is not None)


def _ask(context: Context, question: _Question, window: Window) -> Series:
    # A second call: what the first brought must not be lost, nor held beside what now comes.
    question.draft.save()
    return context.client.fetch_series(
        question.meter_id, question.kind, window, question.granularity, anew=question.anew
    )


def count_calls(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    draft: Draft | None = None,
    *,
    look: bool = True,
) -> Cost:
    """What fetch_series would cost, by what is known of the cloud's spans; no call is made.

    Where it is not to `look` into the cache, none counts as cached.
    """
    question = _Question(meter_id, kind, plan.granularity, draft or Draft())
    parts: list[Window] = []
    drafted = 0
    for window in plan.windows:
        rest = window
        while rest.start_utc < window.end_utc:
            if known := question.recall(rest):
                drafted += 1
                end_utc = datetime.fromtimestamp(known.end_s, UTC)
            else:
                measure = _measure(plan.granularity, rest)
                parts.append(next(measure.plan(context.spans, rest, meter_id)))
                end_utc = parts[-1].end_utc
            rest = Window(end_utc, window.end_utc)
    if (beyond := _plan_beyond(context, plan)) is not None:
        parts.append(beyond)
    is_cached = partial(context.client.is_series_cached, meter_id, kind)
    cached = sum(is_cached(part, plan.granularity) for part in parts) if look else 0
    return Cost(drafted + len(parts), cached, drafted)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
