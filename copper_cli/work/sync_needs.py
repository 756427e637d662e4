"""What a sync has to ask of each meter: by the list, by the archive, by what was asked before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from copper_cli.archive import SeriesKey, Span
from copper_cli.archive.keys import join_spans
from copper_cli.buckets import BUCKET_S, DAY_S
from copper_cli.filling import ASK_AGES_S, FINAL_S
from copper_cli.plan import SeriesPlan, local_day, local_midnight, plan_series
from copper_cli.records import Meter, SeriesKind, Window
from copper_cli.work.context import Asking, Context
from copper_cli.work.fetch_rows import count_calls, measure_of
from copper_cli.work.held_rows import series_keys
from copper_cli.work.meter_series import Planned, SeriesRequest, fetch_meter
from copper_cli.work.readings_answers import MEASURE as READINGS
from copper_cli.work.readings_answers import MeterReadings
from copper_cli.work.sync_order import Progressed, SyncOrder
from copper_cli.work.sync_plan import ROUND_S, Need, Turn
from copper_cli.work.window_parts import Measure

_DAY = timedelta(days=1)
_FIRST_S = 31 * DAY_S
"""While nothing is known of what the cloud grants, a call asks for so much."""
_STRIDE = 4
"""And then for so many times what was granted before."""


@dataclass(frozen=True, slots=True)
class SyncMeter:
    """One meter of a sync."""

    meter: Meter
    """As the list has it now."""
    zone: ZoneInfo
    """Where its days begin."""
    order: SyncOrder
    """What is to be kept of it."""
    progressed: Progressed
    """How far it is."""

    @property
    def heard_s(self) -> float | None:
        """When its last reading was sent, as the list has it now."""
        last = self.meter.last_reading
        return last.time_utc.timestamp() if last is not None and last.time_utc else None


def find_need(context: Context, target: SyncMeter) -> Need:
    """What there is to ask of one meter; no call is made."""
    return _Finder(context, target).find()


def take_turn(context: Context, target: SyncMeter, turn: Turn) -> tuple[int, int]:
    """Have the archive hold a turn: the rows that have changed, and those that were withdrawn.

    Raises what the cloud raises; what was answered before that stays.
    """
    order, zone, meter = target.order, target.zone, target.meter
    changed = withdrawn = 0
    if order.granularity is not None:
        request = SeriesRequest(
            "usage",
            order.since,
            order.since,
            order.granularity,
            baseline="baseline" in order.extras,
        )
        planned = Planned(meter, zone, _plan(target, turn.start_s, turn.end_s))
        fetched = fetch_meter(context, request, planned, Asking(fresh=turn.fresh))
        changed, withdrawn = fetched.changed, fetched.withdrawn
    if "readings" in order.extras:
        asking = Asking(fresh=turn.fresh and turn.work == "again")
        window = Window(_utc(turn.start_s), _utc(turn.end_s))
        landed = MeterReadings(context, meter.id, window, asking).fetch()
        changed, withdrawn = changed + landed.changed, withdrawn + landed.withdrawn
    return changed, withdrawn


def _plan(target: SyncMeter, start_s: int, end_s: int) -> SeriesPlan:
    """The windows of whole local days between two midnights."""
    return plan_series(
        local_day(_utc(start_s), target.zone),
        local_day(_utc(end_s), target.zone),
        target.zone,
        target.order.granularity or "hour",
        created_utc=target.meter.created_utc,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of what is asked of a meter."""

    key: SeriesKey
    measure: Measure
    never: Sequence[Span]
    """What was never asked for."""
    failed: Sequence[Span]
    """What was asked for in vain."""
    open_s: int
    """From here on its hours may still change."""


class _Finder:
    """Looks for what is needed of one meter."""

    def __init__(self, context: Context, target: SyncMeter) -> None:
        self._context = context
        self._target = target
        self._now_s = context.now()
        self._may_grow = False
        today = local_day(context.now_utc(), target.zone)
        self._whole = plan_series(
            target.order.since,
            today + _DAY,
            target.zone,
            target.order.granularity or "hour",
            created_utc=target.meter.created_utc,
        )

    def find(self) -> Need:
        target, progressed = self._target, self._target.progressed
        need = Need(target.meter.id, progressed.tried_s, progressed.has_failed)
        if not self._whole.windows or not target.order.kinds:
            return need
        kinds = list(self._kinds())
        is_due = self._is_newest_due()
        newest = self._newest(kinds) if is_due else None
        end_s = newest.start_s if newest else min(progressed.until_s, self._whole.end_s)
        never = [self._lacking(one, end_s) if newest else one.never for one in kinds]
        history = self._chunks(kinds, never, end_s)
        failed = self._chunks(kinds, [one.failed for one in kinds], end_s)
        again = None
        if newest is None and not history and not failed:
            again = self._late(kinds) or self._round(kinds)
        elif not history and not failed:
            again = self._round(kinds)
        return Need(
            target.meter.id,
            progressed.tried_s,
            progressed.has_failed,
            newest,
            history,
            failed,
            again,
            progressed.round_s,
            self._may_grow,
        )

    # What is known

    def _kinds(self) -> Iterator[_Kind]:
        order, meter_id = self._target.order, self._target.meter.id
        rows: list[SeriesKind] = []
        if order.granularity is not None:
            rows = ["usage", "baseline-series"] if "baseline" in order.extras else ["usage"]
        for kind in rows:
            key, _ = series_keys(meter_id, kind, self._whole)[0]
            yield self._look(key, measure_of(self._whole.granularity, self._whole.windows[0]))
        if "readings" in order.extras:
            yield self._look(SeriesKey(meter_id, "readings"), READINGS)

    def _look(self, key: SeriesKey, measure: Measure) -> _Kind:
        start_s, end_s = self._whole.start_s, self._whole.end_s
        final_s = max(start_s, int(self._now_s - FINAL_S))
        never, failed, open_s, at_s = [], [], end_s, start_s
        for one in self._context.archive.coverage(key, (start_s, end_s)):
            if one.start_s > at_s:
                never.append((at_s, one.start_s))
            if one.state == "failed":
                failed.append((one.start_s, one.end_s))
            if one.state != "known" and one.end_s > final_s:
                open_s = min(open_s, max(final_s, one.start_s))
            at_s = one.end_s
        if at_s < end_s:
            never.append((at_s, end_s))
        young = [max(final_s, first) for first, last in never if last > final_s]
        return _Kind(key, measure, never, failed, min([open_s, *young]))

    def _is_newest_due(self) -> bool:
        target, progressed = self._target, self._target.progressed
        heard_s, asked_s = target.heard_s, progressed.asked_s
        if asked_s is None or progressed.has_failed or progressed.what != target.order.what:
            return True
        if heard_s is not None:
            return progressed.heard_s is None or heard_s > progressed.heard_s
        if progressed.heard_s is not None:
            return False
        # Never heard: at the ages since it was first asked for.
        return any(asked_s < progressed.first_s + age_s <= self._now_s for age_s in ASK_AGES_S)

    # Turns

    def _newest(self, kinds: Sequence[_Kind]) -> Turn:
        """From the first hour that may still change; from earlier where that costs no call."""
        end_s = self._whole.end_s
        open_s = min(int(self._now_s), *(one.open_s for one in kinds))
        start_s = self._midnight_before(open_s)
        never_s = min((one.never[0][0] for one in kinds if one.never), default=start_s)
        # A failure of long ago must not make tonight's call fail.
        held_off = (last for one in kinds for _, last in one.failed if last <= start_s)
        wanted_s = max(never_s, *held_off, self._whole.start_s)
        if wanted_s < start_s:
            start_s = min(start_s, self._within_one_call(kinds, wanted_s, end_s))
        # What else may change is asked for with history: everybody's newest hours come first.
        start_s = max(start_s, self._within_one_call(kinds, start_s, end_s))
        calls = self._count(kinds, start_s, end_s)
        return Turn("newest", self._target.meter.id, start_s, end_s, calls, fresh=True)

    def _lacking(self, kind: _Kind, end_s: int) -> list[Span]:
        """What was never asked for before an instant, or may have come since, without failures."""
        span = self._whole.start_s, end_s
        found = self._context.archive.lacking(kind.key, span, now_s=self._now_s)
        for failed in kind.failed:
            parts = [((a, min(b, failed[0])), (max(a, failed[1]), b)) for a, b in found]
            found = [one for both in parts for one in both if one[0] < one[1]]
        return found

    def _chunks(
        self, kinds: Sequence[_Kind], spans: Sequence[Sequence[Span]], end_s: int
    ) -> list[Turn]:
        """What lies before an instant of these spans, in pieces of about a call, newest first."""
        found: list[Turn] = []
        for first_s, last_s in reversed(join_spans(one for each in spans for one in each)):
            at_s = min(last_s, end_s)
            while at_s > first_s:
                at_s = self._midnight_after(at_s)
                start_s = self._within_one_call(kinds, self._midnight_before(first_s), at_s)
                calls = max(1, self._count_lacking(kinds, start_s, at_s))
                found.append(Turn("history", self._target.meter.id, start_s, at_s, calls))
                at_s = start_s
        return found

    def _late(self, kinds: Sequence[_Kind]) -> Turn | None:
        """What is late of a meter that is not heard any more, at the ages."""
        heard_s = self._target.heard_s
        if heard_s is None:
            return None
        end_s = min(int(heard_s), self._target.progressed.until_s, self._whole.end_s)
        spans = [
            span
            for one in kinds
            if not one.key.is_instants
            for span in self._context.archive.lacking(
                one.key, (self._whole.start_s, end_s), now_s=self._now_s
            )
            if span[1] - span[0] >= BUCKET_S.get(one.key.granularity, 1)
        ]
        if not spans:
            return None
        start_s = self._midnight_before(min(first for first, _ in spans))
        last_s = self._midnight_after(max(last for _, last in spans))
        return self._again(kinds, start_s, last_s)

    def _round(self, kinds: Sequence[_Kind]) -> Turn | None:
        """The next piece of a slow round through all that is held, newest first."""
        progressed = self._target.progressed
        if progressed.asked_s is None:
            return None
        back_s = progressed.back_s
        if back_s is None:
            if self._now_s < progressed.round_s + ROUND_S:
                return None
            back_s = self._midnight_after(min(progressed.until_s, self._whole.end_s))
        back_s = max(back_s, self._midnight_after(self._whole.start_s + 1))
        start_s = self._within_one_call(kinds, self._whole.start_s, back_s)
        found = self._again(kinds, start_s, back_s)
        return replace(found, round="ends" if start_s <= self._whole.start_s else "goes on")

    def _again(self, kinds: Sequence[_Kind], start_s: int, end_s: int) -> Turn:
        calls = self._count(kinds, start_s, end_s)
        return Turn("again", self._target.meter.id, start_s, end_s, calls, fresh=True)

    # Calls

    def _within_one_call(self, kinds: Sequence[_Kind], start_s: int, end_s: int) -> int:
        """From which midnight on a span is answered by one call a kind, at least a day of it."""
        found_s = start_s
        for one in kinds:
            length_s, is_known = self._length_s(one.measure)
            if end_s - length_s > start_s:
                found_s = max(found_s, self._midnight_after(end_s - length_s))
                self._may_grow |= not is_known
        return min(found_s, self._midnight_before(end_s - 1))

    def _length_s(self, measure: Measure) -> tuple[int, bool]:
        """How long a span one call is asked for, and whether no longer one can be had.

        What nobody has tried yet is tried step by step: a meter whose call is refused has it
        answered in parts, the oldest first, while others wait for their newest hours.
        """
        granted, refused = self._context.spans.known(measure.name, self._target.meter.id)
        if refused:
            length = granted or refused - 1
        else:
            length = max(_STRIDE * granted, _FIRST_S // measure.step_s)
        is_known = bool(refused) or (measure.most is not None and length >= measure.most)
        return max(DAY_S, min(length, measure.most or length) * measure.step_s), is_known

    def _count(self, kinds: Sequence[_Kind], start_s: int, end_s: int) -> int:
        """The calls for all of a span."""
        return sum(self._count_kind(one, start_s, end_s, Asking(fresh=True)) for one in kinds)

    def _count_lacking(self, kinds: Sequence[_Kind], start_s: int, end_s: int) -> int:
        return sum(self._count_kind(one, start_s, end_s, Asking()) for one in kinds)

    def _count_kind(self, kind: _Kind, start_s: int, end_s: int, asking: Asking) -> int:
        meter_id = self._target.meter.id
        if kind.key.is_instants:
            window = Window(_utc(start_s), _utc(end_s))
            cost = MeterReadings(self._context, meter_id, window, asking).cost()
        else:
            plan = _plan(self._target, start_s, end_s)
            name: SeriesKind = "usage" if kind.key.kind == "usage" else "baseline-series"
            cost = count_calls(self._context, meter_id, name, plan, asking)
        return cost.calls - cost.held

    # Midnights

    def _midnight_before(self, at_s: int) -> int:
        """The local midnight at an instant or the last before it, not before the meter's first."""
        return max(self._whole.start_s, self._midnight(local_day(_utc(at_s), self._target.zone)))

    def _midnight_after(self, at_s: int) -> int:
        """The local midnight at an instant or the next one."""
        day = local_day(_utc(at_s), self._target.zone)
        midnight_s = self._midnight(day)
        return midnight_s if midnight_s >= at_s else self._midnight(day + _DAY)

    def _midnight(self, day: date) -> int:
        return int(local_midnight(day, self._target.zone).timestamp())


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
