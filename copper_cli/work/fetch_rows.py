"""Interval rows of one meter: what the archive lacks is asked for, in as few calls as can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from copper_cli.buckets import BUCKET_S, DAY_S, bucket_s
from copper_cli.cloud.spans import Attempt
from copper_cli.cloud.worth import check_spacing
from copper_cli.errors import CloudError, CopperError
from copper_cli.filling import TO_COME_S, may_still_change
from copper_cli.plan import MAX_ROWS, SeriesPlan
from copper_cli.records import Meter, Series, SeriesKind, Window
from copper_cli.series import (
    EMPTY,
    clip_series,
    has_values,
    is_plain,
    join_windows,
    merge_series,
    sum_rows,
)
from copper_cli.text import one_line
from copper_cli.work.context import Asking, Context
from copper_cli.work.held_rows import HeldRows, series_keys
from copper_cli.work.outcome import Cost
from copper_cli.work.window_parts import Measure, ask_part


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking."""

    asked: bool = False
    """Anything was asked."""
    changed: int = 0
    """Rows that hold other values than before."""
    withdrawn: int = 0
    """Rows of which the cloud now has nothing, so that the earlier values stand."""

    def __add__(self, other: Fetched) -> Fetched:
        """Both together."""
        return Fetched(
            self.asked or other.asked,
            self.changed + other.changed,
            self.withdrawn + other.withdrawn,
        )


def find_lacks(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    asking: Asking | None = None,
) -> list[Window]:
    """What of a plan is to be asked of the cloud: the one value that a dry run and a run walk.

    What the archive lacks, or what may have come since it was asked for; ascending, each to be
    asked in one call if the cloud grants its span.
    """
    spans = list(_lacking_spans(context, meter_id, kind, plan, asking or Asking()))
    found: list[Window] = []
    for window in plan.windows:
        start_s, end_s = _span_of(window)
        inside = [
            (max(start_s, first), min(end_s, last))
            for first, last in spans
            if first < end_s and last > start_s
        ]
        if inside and not is_plain(plan):
            # Buckets of odd length are put right from the whole window, at no more calls.
            found.append(window)
        else:
            found += [Window(_utc(first), _utc(last)) for first, last in inside]
    return found


def _lacking_spans(
    context: Context, meter_id: str, kind: SeriesKind, plan: SeriesPlan, asking: Asking
) -> Iterator[tuple[int, int]]:
    if not plan.windows:
        return
    for key, span in series_keys(meter_id, kind, plan):
        yield from context.archive.lacking(
            key, span, now_s=context.now(), recheck=asking.recheck, fresh=asking.fresh
        )


def fetch_rows(
    context: Context,
    meter: Meter,
    kind: SeriesKind,
    plan: SeriesPlan,
    asking: Asking | None = None,
) -> Fetched:
    """Have the archive hold a whole plan, whatever span the cloud allows a call.

    A window refused with 400 is asked in smaller parts; an answer that ends before its window
    (and before now) is continued until a call brings no later row. Each answer is set down
    before the next call is made. What fails is noted as failed. Raises what the cloud raises.
    """
    lacks = find_lacks(context, meter.id, kind, plan, asking)
    if not lacks:
        return Fetched()
    question = _Question(context, meter, kind, plan)
    try:
        return question.fetch(lacks)
    except CloudError:
        question.fail(lacks)
        raise


def hold_rows(context: Context, meter_id: str, kind: SeriesKind, plan: SeriesPlan) -> HeldRows:
    """What the archive holds of a plan."""
    return HeldRows(context.archive, meter_id, kind, plan)


def count_calls(
    context: Context,
    meter_id: str,
    kind: SeriesKind,
    plan: SeriesPlan,
    asking: Asking | None = None,
    *,
    is_held: bool = False,
) -> Cost:
    """What fetch_rows would cost, by what is known of the cloud's spans; no call is made.

    `is_held`: the archive is known to lack nothing.
    """
    every = _count_parts(context, plan.windows, plan.granularity, meter_id)
    if is_held:
        return Cost(every, held=every)
    lacks = find_lacks(context, meter_id, kind, plan, asking)
    if not lacks:
        return Cost(every, held=every)
    to_ask = _count_parts(context, lacks, plan.granularity, meter_id)
    if lacks[-1] == plan.windows[-1] and _plan_beyond(context, plan) is not None:
        every, to_ask = every + 1, to_ask + 1
    return Cost(max(every, to_ask), held=max(0, every - to_ask))


def _count_parts(
    context: Context, windows: Iterable[Window], granularity: str, meter_id: str
) -> int:
    return sum(
        1
        for window in windows
        for _ in measure_of(granularity, window).plan(context.spans, window, meter_id)
    )


def _plan_beyond(context: Context, plan: SeriesPlan) -> Window | None:
    """The bucket after the plan, where only its first row tells the register at the plan's end.

    A cloud that counts from a call's start has no row there when the clocks changed on the
    plan's last day.
    """
    if not plan.cuts or plan.cuts[-1].at_s != plan.end_s or plan.end_s > context.now():
        return None
    end_utc = plan.windows[-1].end_utc
    return Window(end_utc, end_utc + timedelta(seconds=bucket_s(plan.granularity)))


class _Question:
    """What stays the same over the calls for one meter."""

    def __init__(self, context: Context, meter: Meter, kind: SeriesKind, plan: SeriesPlan) -> None:
        self._context = context
        self._meter = meter
        self._kind = kind
        self._plan = plan
        self._buckets = plan.buckets()
        self._keys = series_keys(meter.id, kind, plan)
        created_utc = meter.created_utc
        self._since_s = None if created_utc is None else self._buckets.floor(_seconds(created_utc))
        self._done = Fetched(asked=True)
        self._is_type_told = False
        self._landed_s = plan.start_s
        """Up to here windows are ascending, and all of them were answered."""

    def fetch(self, windows: Sequence[Window]) -> Fetched:
        if is_plain(self._plan):
            for window in windows:
                brought = _Brought()
                for part, answer in self._ask_window(window):
                    self._land(part, answer)
                    self._landed_s = _seconds(part.end_utc)
                    brought.note(answer)
                    del answer  # nothing is held while the next is asked for
                self._check_spacing(window, brought)
        else:
            self._fetch_joined(windows)
        return self._done

    def fail(self, windows: Iterable[Window]) -> None:
        """Note what is still lacking as failed."""
        asked_s = self._context.now()
        for key, span in self._keys:
            for window in windows:
                start_s, end_s = _span_of(window)
                # What was answered before the call that failed is not in doubt.
                first, last = _intersect(span, (max(start_s, self._landed_s), end_s))
                if first < last:
                    self._context.archive.fail(key, (first, last), asked_s=asked_s)

    # Windows that meet at clock changes, and months

    def _fetch_joined(self, windows: Sequence[Window]) -> None:
        """Put the windows together with what is held of the others, and set them down."""
        archive, plan = self._context.archive, self._plan
        key, _ = self._keys[0]
        held = HeldRows(archive, self._meter.id, self._kind, plan)
        answers = []
        for window in plan.windows:
            if window not in windows:
                answers.append(held.clip(*_span_of(window)))
                continue
            parts = []
            for part, answer in self._ask_window(window):
                archive.land_pending(key, _span_of(part), answer, asked_s=self._context.now())
                parts.append(answer)
            answers.append(merge_series(parts))
        joined = join_windows(plan, answers, self._fetch_beyond(windows, answers[-1]))
        check_spacing(joined.times_s, plan.granularity, self._what())
        for window, answer in zip(plan.windows, answers, strict=True):
            if window in windows:
                rows = replace(joined, sum_energy=answer.sum_energy, meter_type=answer.meter_type)
                self._land(window, clip_series(rows, *_span_of(window)))
                archive.drop_pending(key, _span_of(window))

    def _fetch_beyond(self, windows: Sequence[Window], last: Series) -> Series:
        plan = self._plan
        window = _plan_beyond(self._context, plan)
        if window is None or plan.windows[-1] not in windows or plan.end_s in last.times_s[-1:]:
            return EMPTY
        if not has_values(last) and not last.sum_energy:
            return EMPTY
        return self._ask(window)

    # One window

    def _ask_window(self, window: Window) -> Iterator[tuple[Window, Series]]:
        """The answers that make up a window, ascending, each from where the one before ends."""
        rest = window
        pending = self._recall(window)
        while rest.start_utc < window.end_utc:
            known = pending.get(_seconds(rest.start_utc))
            for found in [known] if known else self._ask_part(rest):
                rest = Window(found[0].end_utc, window.end_utc)
                yield found
                del found

    def _recall(self, window: Window) -> dict[int, tuple[Window, Series]]:
        """Answers of an earlier run that could not go on to where they are put together.

        Only those that nothing can be added to: whether more of the others has come nobody knows.
        """
        if is_plain(self._plan):
            return {}
        key, _ = self._keys[0]
        start_s, end_s = _span_of(window)
        now_s, found = self._context.now(), {}
        for one in self._context.archive.pending(key):
            if not start_s <= one.start_s < one.end_s <= end_s:
                continue
            rows = one.series.times_s, one.series.energy
            span = one.start_s, one.end_s
            if not may_still_change(*rows, span, self._plan.granularity, now_s):
                found[one.start_s] = Window(_utc(one.start_s), _utc(one.end_s)), one.series
        return found

    def _ask_part(self, rest: Window) -> Iterator[tuple[Window, Series]]:
        """The answers to a call for as much from the start of `rest` on as the cloud grants.

        Several where it brings less than it was asked for.
        """
        context = self._context
        measure = measure_of(self._plan.granularity, rest)
        with measure.attempt(context.spans, rest, self._meter.id) as attempt:
            part, answer = ask_part(measure, attempt, rest, self._ask)
            yield from self._continue(attempt, part, answer)

    def _continue(
        self, attempt: Attempt, part: Window, answer: Series
    ) -> Iterator[tuple[Window, Series]]:
        """The answer, and what is asked for after it where it ends too early."""
        context, granularity = self._context, self._plan.granularity
        asked, rest = part, self._unanswered(part, answer)
        lengths: list[int] = []
        while rest is not None:
            last_s = answer.times_s[-1]
            is_young = last_s > context.now() - TO_COME_S
            if is_young and not lengths and context.ends.reach(granularity, last_s):
                break
            more = self._ask(rest)
            if not more.times_s or more.times_s[-1] <= last_s:
                if is_young:
                    context.ends.note(granularity, last_s)
                break  # no later row: that is the cloud's end
            if _is_cut(answer, lengths, context.now()):
                attempt.cut(_count_steps(answer, asked))
            lengths.append(len(answer.times_s))
            own = _own_sum(answer, more, _seconds(asked.start_utc), bucket_s(granularity))
            yield Window(asked.start_utc, rest.start_utc), replace(answer, sum_energy=own)
            answer, asked = more, rest
            rest = self._unanswered(rest, more)
        if not lengths:
            attempt.grant(whole=rest is None and len(answer.times_s) > 1)
        yield Window(asked.start_utc, part.end_utc), answer

    def _unanswered(self, part: Window, answer: Series) -> Window | None:
        """From the answer's last row to the window's end, where whole buckets lie between."""
        if not answer.times_s or answer.times_s[-1] <= part.start_utc.timestamp():
            return None
        last = answer.times_s[-1]
        step = bucket_s(self._plan.granularity)
        step += 2 * DAY_S if self._plan.granularity == "month" else 0
        if last + step > min(part.end_utc.timestamp(), self._context.now()):
            return None
        return Window(_utc(last), part.end_utc)

    def _ask(self, window: Window) -> Series:
        return self._context.client.fetch_series(
            self._meter.id, self._kind, window, self._plan.granularity
        )

    def _land(self, part: Window, answer: Series) -> None:
        """Set an answer down."""
        archive, asked_s = self._context.archive, self._context.now()
        self._check_type(answer)
        span = _span_of(part)
        stretches = [(key, _intersect(one, span)) for key, one in self._keys]
        inside = [(key, one) for key, one in stretches if one[0] < one[1]]
        for key, one in inside:
            # A sum over two grids stands for neither of them.
            rows = answer if len(inside) == 1 else replace(answer, sum_energy=None)
            landed = archive.land(
                key, one, rows, buckets=self._buckets, asked_s=asked_s, since_s=self._since_s
            )
            self._done += Fetched(True, landed.changed, landed.withdrawn)
        if len(inside) > 1:
            archive.note_sum(inside[0][0], span, answer.sum_energy, asked_s=asked_s)

    def _check_spacing(self, window: Window, brought: _Brought) -> None:
        """Refuse rows that together lie closer than what was asked for.

        Answers of a row or two each say nothing of their distance.
        """
        if brought.answers < 2 or brought.rows > 3 * brought.answers:
            return
        key, _ = self._keys[0]
        span = _span_of(window)
        try:
            for piece in self._context.archive.rows(key, *span):
                check_spacing(piece.times_s, self._plan.granularity, self._what())
        except CopperError:
            self._context.archive.retract(key, span)
            raise

    def _check_type(self, answer: Series) -> None:
        """Say where an answer's type is another than the list's: it may yet be right."""
        said, listed = answer.meter_type, self._meter.type
        if said and listed and said != listed and not self._is_type_told:
            self._is_type_told = True
            self._context.progress.say(
                f"{self._meter.id}: its rows are said to be of type {one_line(said, 40)}, the "
                f"meter list says {listed}."
            )

    def _what(self) -> str:
        return f"{self._kind} of meter {self._meter.id}"


@dataclass(slots=True)
class _Brought:
    """How much a window's answers brought."""

    answers: int = 0
    rows: int = 0

    def note(self, answer: Series) -> None:
        self.answers += 1
        self.rows += len(answer.times_s)


def measure_of(granularity: str, window: Window) -> Measure:
    """Spans count in buckets. Months are few and never split: the window is the unit."""
    step_s = BUCKET_S.get(granularity)
    if step_s is None:
        return Measure(granularity, _seconds(window.end_utc) - _seconds(window.start_utc))
    return Measure(granularity, step_s, MAX_ROWS - 1)


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


def _intersect(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])


def _span_of(window: Window) -> tuple[int, int]:
    return _seconds(window.start_utc), _seconds(window.end_utc)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
