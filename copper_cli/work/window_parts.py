"""A window asked in as few parts as the cloud grants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from copper_cli.buckets import DAY_S
from copper_cli.cloud.spans import Attempt, SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.records import Window

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Measure:
    """How the spans of one kind of call are counted."""

    name: str
    """Under which the span book keeps them."""
    step_s: int
    """Their unit in seconds; parts begin and end whole units after their window's start."""
    most: int | None = None
    """The longest span that one call may ask for, in units; None: any."""

    def attempt(self, spans: SpanBook, rest: Window, meter_id: str = "") -> Attempt:
        """A call from the start of `rest` on, as far as the cloud grants a meter, or anybody."""
        left = self._left(rest)
        return spans.attempt(self.name, left, most=self.most, even=self._day(), meter=meter_id)

    def part(self, rest: Window, length: int) -> Window:
        """The first units of what is left of a window."""
        end_utc = rest.start_utc + timedelta(seconds=length * self.step_s)
        return Window(rest.start_utc, min(end_utc, rest.end_utc))

    def plan(self, spans: SpanBook, window: Window, meter_id: str = "") -> Iterator[Window]:
        """The parts in which a window would be asked by what is known; they meet."""
        rest = window
        while rest.start_utc < window.end_utc:
            left = self._left(rest)
            length = spans.expect(self.name, left, most=self.most, even=self._day(), meter=meter_id)
            part = self.part(rest, length)
            yield part
            rest = Window(part.end_utc, window.end_utc)

    def _left(self, rest: Window) -> float:
        return (rest.end_utc - rest.start_utc).total_seconds() / self.step_s

    def _day(self) -> int:
        return max(1, DAY_S // self.step_s)  # whole days read better in a log and a manifest


def ask_part(
    measure: Measure, attempt: Attempt, rest: Window, ask: Callable[[Window], T]
) -> tuple[Window, T]:
    """What the cloud was asked for, and its answer: shorter and shorter while it refuses.

    Raises BadRequestError where it refuses the shortest; the attempt is to be ended by the caller.
    """
    while True:
        part = measure.part(rest, attempt.length)
        try:
            return part, ask(part)
        except BadRequestError:
            if not attempt.refuse():
                raise
