"""Interval rows of one meter, in as few calls as the cloud allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from copper_cli.errors import BadRequestError
from copper_cli.jobs.context import Context
from copper_cli.jobs.outcome import Cost
from copper_cli.plan import DAY_S, MAX_ROWS, SeriesPlan, bucket_s, rows_in, split_window
from copper_cli.records import LATE_S, Series, SeriesKind, Window
from copper_cli.series import (
    EMPTY,
    clip_series,
    has_values,
    join_windows,
    merge_series,
    sum_rows,
)
from copper_cli.write.draft import Draft


@dataclass(frozen=True, slots=True)
class _Question:
    """What stays the same over the windows of one meter."""

    meter_id: str
    kind: SeriesKind
    granularity: str
    draft: Draft | None

    def recall(self, rest: Window) -> tuple[Window, Series] | None:
        """What an earlier run was answered to a call from the same instant on."""
        found = self.draft.find(self.kind, _seconds(rest.start_utc)) if self.draft else None
        if found is None or found[0] > _seconds(rest.end_utc):
            return None
        return Window(rest.start_utc, datetime.fromtimestamp(found[0], UTC)), found[1]

    def note(self, part: Window, answer: Series, now_s: float) -> None:
        """Have an answer kept for the next run, where nothing in it can still change."""
        is_old = part.end_utc.timestamp() <= now_s - LATE_S
        if self.draft and (is_old or None not in answer.energy[1:]):
            self.draft.add(self.kind, _seconds(part.start_utc), _seconds(part.end_utc), answer)


def fetch_series(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    known: Series | None = None,
    draft: Draft | None = None,
) -> Series:
    """The rows of a whole plan, whatever span the cloud allows a call.

    A window refused with 400 is asked in smaller parts; an answer that ends before its window
    (and before now) is continued until a call brings no later row. Rows `known` from an earlier
    run are not asked for again: it goes on from the last of them; nor are the answers in `draft`,
    to which those of this run are added. Raises what the cloud raises.
    """
    question = _Question(meter_id, kind, plan.granularity, draft)
    if known is None or not known.times_s or plan.granularity == "month":
        # Months counted from a later start may end on other days: see plan._month_cuts.
        answers = [_fetch_window(context, question, window) for window in plan.windows]
    else:
        answers = [_fetch_rest(context, question, window, known) for window in plan.windows]
    if not answers:
        return EMPTY
    return join_windows(plan, answers, _fetch_beyond(context, question, plan, answers[-1]))


def _fetch_rest(context: Context, question: _Question, window: Window, known: Series) -> Series:
    """One window's rows: those known, then what the cloud has after them."""
    start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
    last_s = known.times_s[-1]
    have = clip_series(known, start_s, end_s)
    have = replace(have, sum_energy=sum_rows(have, start_s))
    if last_s <= start_s or have.sum_energy is None:
        return _fetch_window(context, question, window)
    if last_s >= end_s:
        return have
    start = datetime.fromtimestamp(last_s, UTC)
    return merge_series([have, _fetch_window(context, question, Window(start, window.end_utc))])


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


def _fetch_window(context: Context, question: _Question, window: Window) -> Series:
    granularity, spans = question.granularity, context.spans
    answers: list[Series] = []
    rest, refused = window, 0
    while rest.start_utc < window.end_utc:
        if recalled := question.recall(rest):
            part, answer = recalled
            answers.append(answer)
            rest = Window(part.end_utc, window.end_utc)
            continue
        allowed = spans.after_refusal(granularity, refused) if refused else spans.limit(granularity)
        part = split_window(rest, granularity, min(MAX_ROWS, allowed or MAX_ROWS))[0]
        rows = rows_in(part, granularity)
        try:
            answer = _ask(context, question, part)
        except BadRequestError:
            if rows <= 2 or granularity == "month":
                raise
            refused = rows
            continue
        if refused:  # learned only now: a meter refused at any length says nothing of lengths
            spans.refused(granularity, refused)
            refused = 0
        answers.append(_continue(context, question, part, answer))
        question.note(part, answers[-1], context.now())
        rest = Window(part.end_utc, window.end_utc)
    return merge_series(answers)


def _continue(context: Context, question: _Question, part: Window, answer: Series) -> Series:
    """The answer, with what is asked for after it where it ends too early."""
    answers = [answer]
    rest = _unanswered(context, question, part, answer)
    while rest is not None:
        more = _ask(context, question, rest)
        if not more.times_s or more.times_s[-1] <= answers[-1].times_s[-1]:
            break  # no later row: that is the cloud's end
        answers.append(more)
        rest = _unanswered(context, question, rest, more)
    if len(answers) == 1:
        context.spans.accepted(question.granularity, rows_in(part, question.granularity))
        return answer
    # Twice the same length is a limit; once may be a row that has just come in.
    length = len(answer.times_s)
    if len(answers) > 2 and length == len(answers[1].times_s):
        context.spans.cut(question.granularity, length)
    merged = merge_series(answers)
    return replace(merged, sum_energy=_sum_of_cut(merged, answers, part, question.granularity))


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


def _sum_of_cut(
    merged: Series, answers: list[Series], part: Window, granularity: str
) -> float | None:
    """The sum over answers that each start where the one before was cut short.

    A cut answer's own sum may stand for the rows it brought or for all of what it was asked:
    then the first answer's is the whole. Which of the two is seen from the rows.
    """
    sums = [answer.sum_energy for answer in answers]
    whole, total = sums[0], merged.sum_energy
    if whole is None or total is None:
        return None
    brought = _brought(merged, int(part.start_utc.timestamp()), bucket_s(granularity))
    return whole if abs(whole - brought) < abs(total - brought) else total


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
    if (beyond := _plan_beyond(context, plan)) is not None:
        calls += 1
        cached += context.client.is_series_cached(meter_id, kind, beyond, plan.granularity)
    return Cost(calls, cached)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
