"""Interval rows of one meter, in as few calls as the cloud allows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from copper_cli.errors import BadRequestError
from copper_cli.jobs.context import Context
from copper_cli.jobs.outcome import Cost
from copper_cli.plan import MAX_ROWS, SeriesPlan, bucket_s, rows_in, split_window
from copper_cli.records import Series, SeriesKind, Window
from copper_cli.series import EMPTY, clip_series, join_windows, merge_series, sum_rows


@dataclass(frozen=True, slots=True)
class _Question:
    """What stays the same over the windows of one meter."""

    meter_id: str
    kind: SeriesKind
    granularity: str


def fetch_series(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    known: Series | None = None,
) -> Series:
    """The rows of a whole plan, whatever span the cloud allows a call.

    A window refused with 400 is halved; an answer that ends before its window (and before
    now) is continued until a call brings no later row. Rows `known` from an earlier run are not
    asked for again: it goes on from the last of them. Raises what the cloud raises.
    """
    question = _Question(meter_id, kind, plan.granularity)
    if known is None or not known.times_s:
        answers = [_fetch_window(context, question, window) for window in plan.windows]
    else:
        answers = [_fetch_rest(context, question, window, known) for window in plan.windows]
    return join_windows(plan, answers) if answers else EMPTY


def _fetch_rest(context: Context, question: _Question, window: Window, known: Series) -> Series:
    """One window's rows: those known, then what the cloud has after them."""
    start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
    last_s = known.times_s[-1]
    if last_s <= start_s:
        return _fetch_window(context, question, window)
    have = clip_series(known, start_s, end_s)
    have = replace(have, sum_energy=sum_rows(have, start_s))
    if last_s >= end_s:
        return have
    start = datetime.fromtimestamp(last_s, UTC)
    return merge_series([have, _fetch_window(context, question, Window(start, window.end_utc))])


def _fetch_window(context: Context, question: _Question, window: Window) -> Series:
    granularity = question.granularity
    allowed = min(MAX_ROWS, context.spans.limit(granularity) or MAX_ROWS)
    pending = deque(split_window(window, granularity, allowed))
    answers: list[Series] = []
    while pending:
        part = pending.popleft()
        rows = rows_in(part, granularity)
        try:
            answer = _ask(context, question, part)
        except BadRequestError:
            smaller = (rows + 1) // 2
            if smaller < 2 or granularity == "month":
                raise
            context.spans.refused(granularity, rows)
            halves = [h for w in (part, *pending) for h in split_window(w, granularity, smaller)]
            pending = deque(halves)
            continue
        context.spans.accepted(granularity, rows)
        answers.append(_continue(context, question, part, answer))
    return merge_series(answers)


def _continue(context: Context, question: _Question, part: Window, answer: Series) -> Series:
    """The answer, with what is asked for after it where it ends too early."""
    answers = [answer]
    while (rest := _unanswered(context, question, part, answers[-1])) is not None:
        more = _ask(context, question, rest)
        if not more.times_s or more.times_s[-1] <= answers[-1].times_s[-1]:
            break  # no later row: that is the cloud's end
        context.spans.cut(question.granularity, len(answers[-1].times_s))
        answers.append(more)
    if len(answers) == 1:
        return answer
    return replace(merge_series(answers), sum_energy=_sum_of_cut(answers))


def _unanswered(
    context: Context, question: _Question, part: Window, answer: Series
) -> Window | None:
    """From the answer's last row to the window's end, where whole buckets lie between."""
    if not answer.times_s:
        return None
    last = answer.times_s[-1]
    step = bucket_s(question.granularity)
    step += 2 * 86400 if question.granularity == "month" else 0
    reach = min(part.end_utc.timestamp(), context.now())
    if last + step > reach:
        return None
    start = type(part.start_utc).fromtimestamp(last, part.start_utc.tzinfo)
    return Window(start, part.end_utc)


def _sum_of_cut(answers: list[Series]) -> float | None:
    """The sum over answers that each start where the one before was cut short.

    A cut answer's own sum may stand for the rows it brought or for the window it was asked;
    which of the two is seen from its rows.
    """
    total = answers[-1].sum_energy
    for answer in reversed(answers[:-1]):
        if answer.sum_energy is None or total is None:
            total = answer.sum_energy if total is None else total
            continue
        brought = sum(e for e in answer.energy[1:] if e is not None)
        own = answer.sum_energy
        of_rows = abs(own - brought) <= abs(own - (brought + total))
        total = own + total if of_rows else own
    return total


def _ask(context: Context, question: _Question, window: Window) -> Series:
    return context.client.fetch_series(
        question.meter_id, question.kind, window, question.granularity
    )


def count_calls(context: Context, meter_id: str, kind: SeriesKind, plan: SeriesPlan) -> Cost:
    """What fetch_series would cost, by what is known of the cloud's spans; no call is made."""
    allowed = context.spans.allowed_rows(plan.granularity) or context.spans.limit(plan.granularity)
    calls = cached = 0
    for window in plan.windows:
        parts = split_window(window, plan.granularity, min(MAX_ROWS, allowed or MAX_ROWS))
        calls += len(parts)
        cached += sum(
            context.client.is_series_cached(meter_id, kind, part, plan.granularity)
            for part in parts
        )
    return Cost(calls, cached)
