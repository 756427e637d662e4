"""Register readings of one meter: what the archive lacks is asked for, and what it then holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from copper_cli.archive import Instants, Landed, SeriesKey
from copper_cli.errors import CloudError
from copper_cli.records import Reading, Readings, Window
from copper_cli.work.context import Asking, Context
from copper_cli.work.held_rows import View
from copper_cli.work.outcome import Cost
from copper_cli.work.window_parts import Measure, ask_part

MEASURE = Measure("readings", 3600)
"""Spans of readings count in hours: nobody knows how many readings a meter sends in one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class MeterReadings:
    """The readings of one meter from the start of a window up to, not including, its end."""

    def __init__(self, context: Context, meter_id: str, window: Window, asking: Asking) -> None:
        self._context = context
        self._meter_id = meter_id
        self._window = window
        self._asking = asking
        self._key = SeriesKey(meter_id, "readings")
        self._span = _span_of(window)
        self.view = View(context.archive, [(self._key, self._span)])
        """What of the archive it shows."""

    def lacks(self) -> list[Window]:
        """What the archive lacks, or what may have come since it was asked for."""
        spans = self._context.archive.lacking(
            self._key,
            self._span,
            now_s=self._context.now(),
            recheck=self._asking.recheck,
            fresh=self._asking.fresh,
        )
        return [Window(_utc(first), _utc(last)) for first, last in spans]

    def cost(self) -> Cost:
        """What fetch would cost; no call is made."""
        every, to_ask = (
            sum(
                1 for one in windows for _ in MEASURE.plan(self._context.spans, one, self._meter_id)
            )
            for windows in ([self._window], self.lacks())
        )
        return Cost(max(every, to_ask), held=max(0, every - to_ask))

    def fetch(self) -> Landed:
        """Have the archive hold all of it.

        A window refused with 400 is asked in parts, as long as the cloud grants them; each answer
        is set down before the next call is made. What fails is noted as failed.
        """
        archive, lacks = self._context.archive, self.lacks()
        changed = withdrawn = 0
        landed_s = self._span[0]
        try:
            for window in lacks:
                for part, answer in self._ask(window):
                    unread = self._check(answer)
                    rows = _columns(answer.rows)
                    landed = archive.land_readings(
                        self._key, _span_of(part), rows, asked_s=self._context.now(), unread=unread
                    )
                    changed, withdrawn = changed + landed.changed, withdrawn + landed.withdrawn
                    landed_s = _span_of(part)[1]
        except CloudError:
            for window in lacks:
                start_s, end_s = _span_of(window)
                if landed_s < end_s:
                    rest = max(start_s, landed_s), end_s
                    archive.fail(self._key, rest, asked_s=self._context.now())
            raise
        return Landed(changed, withdrawn)

    def rows(self) -> Iterator[Reading]:
        """What the archive holds of it, ascending."""
        for piece in self._context.archive.instants(self._key, *self._span):
            columns = zip(piece.times_us, piece.first, piece.second, strict=True)
            for time_us, actual, value in columns:
                yield Reading(_EPOCH + time_us * _US, actual, value)

    def unread(self) -> int:
        """Readings of it that came and could not be read, or not whole."""
        return sum(one.unread for one in self._context.archive.coverage(self._key, self._span))

    def _ask(self, window: Window) -> Iterator[tuple[Window, Readings]]:
        """The parts in which the cloud grants a window, each with what lies from its start on.

        Both ends of a part may be in its answer, or one of them only: neither is relied on.
        """
        context, rest = self._context, window
        at_seam: list[Reading] = []
        while rest.start_utc < window.end_utc:
            with MEASURE.attempt(context.spans, rest, self._meter_id) as attempt:
                part, answer = ask_part(MEASURE, attempt, rest, self._ask_cloud)
                attempt.grant()
            lost_at_seam = [one for one in at_seam if one not in answer.rows]
            rows = [one for one in answer.rows if part.start_utc <= one.time_utc < part.end_utc]
            yield part, Readings([*lost_at_seam, *rows], answer.lost)
            at_seam = [one for one in answer.rows if one.time_utc == part.end_utc]
            rest = Window(part.end_utc, window.end_utc)

    def _ask_cloud(self, window: Window) -> Readings:
        return self._context.client.fetch_readings(self._meter_id, window)

    def _check(self, answer: Readings) -> int:
        """How many could not be read; what could not is told.

        Raises CloudError where there was something, and no number of it can be read.
        """
        unread = answer.lost + sum(not reading.is_whole for reading in answer.rows)
        if unread:
            of = f"{unread} of {len(answer.rows) + answer.lost} readings"
            if all(one.actual is None and one.value is None for one in answer.rows):
                raise CloudError(
                    f"readings of meter {self._meter_id}: {of} cannot be read, none has a number."
                )
            self._context.progress.say(f"{self._meter_id}: {of} cannot be read, or not whole.")
        return unread


def _columns(rows: Sequence[Reading]) -> Instants:
    return Instants(
        [(one.time_utc - _EPOCH) // _US for one in rows],
        [one.actual for one in rows],
        [one.value for one in rows],
    )


def _span_of(window: Window) -> tuple[int, int]:
    return int(window.start_utc.timestamp()), int(window.end_utc.timestamp())


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
