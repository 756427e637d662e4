"""How long a span the cloud grants a call: found out by asking, and kept between runs.

What counts is how many calls a window needs, so only lengths that change that number are tried,
as `choose_probe` says. A span is a whole number of units: buckets of a granularity (a row less
than the answer holds, both ends counted), hours for `readings`, minutes for `grid`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil, log, sqrt
from pathlib import Path
from types import TracebackType

from copper_cli.cloud.files import write_private

_STRIDE = 3
"""While nothing is known to be granted, each refusal is followed by a length about so many times
shorter. Halving is refused more often, and a length granted too short is soon mended: for a year
of hours and limits of 1 to 52 weeks a single meter needs 4.0 calls more than the fewest, a month
under limits of 1 to 31 days 3.6; by halving 4.2 and 3.9, by sixths 4.2 and 3.9."""
_LEAST_CHANCE = 1 / 8
"""So that what is unlikely is tried after some windows too: were it granted, all would gain."""
_PATIENCE_S = 10.0
"""So long a thread waits for what another one finds out."""
_FORGET_S = 7 * 86400
"""After this long a limit is tried again: the cloud may have become more generous."""


@dataclass(slots=True)
class _Span:
    """What is known under one name."""

    granted: int = 0
    """The longest span that was answered."""
    refused: int = 0
    """The shortest that was refused or answered in part; 0: never."""
    before: tuple[int, int] | None = None
    """`granted` and `refused` as they were until less than `granted` was refused: to be tried
    once more, since one meter may be refused for reasons of its own."""
    learned_s: float = 0.0
    """When `refused` was last learned, or found to hold no longer."""
    hope: float = 0.0
    """Calls that a length between the two would have saved so far, weighed by its chance."""


class SpanBook:
    """What was learned of the longest span, by name. Threads and processes may share one.

    Without a path nothing is kept; a file that cannot be read or written is ignored, since
    what it holds can be learned again.
    """

    def __init__(self, path: Path | None, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._changed = threading.Condition()
        self._spans = _read(path)
        self._probing: dict[str, Attempt] = {}
        self._hoping: dict[str, int] = {}
        self._doubting: dict[str, int] = {}
        self._cuts: dict[str, int] = {}

    def attempt(self, name: str, left: float, *, most: int | None = None, even: int = 1) -> Attempt:
        """A call for as much as the cloud grants of what is `left` to be asked.

        `most` is the longest span that is ever wanted; multiples of `even` are preferred where
        that costs no call. To be used as a context manager.
        """
        return Attempt(self, name, left, most, even)

    def expect(self, name: str, left: float, *, most: int | None = None, even: int = 1) -> int:
        """The span that the next call would be granted, by what is known; nothing is tried."""
        left = ceil(left)
        longest = min(left, most or left)
        with self._changed:
            span = self._spans.get(name, _Span())
        if span.refused and not span.granted:
            return choose_probe(left, 1, min(span.refused, longest + 1), even)
        return _make_even(left, min(longest, span.granted) if span.refused else longest, even)

    def granted(self, name: str, length: int, *, whole: bool = True) -> None:
        """A call for a span of this length was answered.

        Without the `whole` of its rows it lifts no limit: it may be one that cuts.
        """
        with self._changed:
            span = self._spans.setdefault(name, _Span())
            known = replace(span)
            if span.before and length >= span.before[0]:
                span.granted, span.refused = span.before
                span.before = None
            if whole and 0 < span.refused <= length:
                span.refused, span.learned_s = 0, self._now()  # the cloud is more generous now
            if not span.refused or length < span.refused:
                span.granted = max(length, span.granted)
            if span != known:
                self._keep(name)

    def refused(self, name: str, length: int, left: int = 0) -> None:
        """A call for a span of this length was refused, though a shorter one was granted.

        `left` was to be asked: where others were granted this length, the same window (less of
        which is left with each call) is not to decide whether it was its own fault.
        """
        with self._changed:
            span = self._spans.setdefault(name, _Span())
            if span.before and length <= span.before[0]:
                if left >= self._doubting.get(name, 0):
                    span.before = None  # for the second time: the cloud is stricter now
            elif length <= span.granted:
                span.before = (span.granted, span.refused)
                self._doubting[name] = left
            if length <= span.granted:
                span.granted = 0
            span.refused = min(length, span.refused or length)
            span.learned_s = self._now()
            self._keep(name)

    def cut(self, name: str, length: int) -> None:
        """An answer held the rows of a span of this length only, though later ones exist.

        Once may be chance; the second time the same length is a limit.
        """
        with self._changed:
            if self._cuts.get(name) != length:
                self._cuts[name] = length
                return
            span = self._spans.get(name)
            if span is None or (span.granted, span.refused) != (length, length + 1):
                self._spans[name] = _Span(length, length + 1, learned_s=self._now())
                self._keep(name)

    # What an attempt asks of the book

    def begin(self, attempt: Attempt) -> int:
        """The span to try first. Of several threads one at a time tries what may be refused.

        Others that could gain by it wait for the answer: it saves each of them a call. Where it
        does not come soon they use what is known to be granted.
        """
        name = attempt.name
        is_fresh = False
        with self._changed:
            while True:
                span = self._spans.get(name, _Span())
                known, length = self._choose(attempt, span)
                if length <= span.granted:
                    return length
                if name in self._probing:
                    if not self._changed.wait(_PATIENCE_S):
                        return known or length
                elif is_fresh:
                    self._probing[name] = attempt
                    self._spans.setdefault(name, span).hope = 0.0
                    return length
                else:
                    self._look_up(name)  # another process may have found out meanwhile
                    is_fresh = True

    def shorten(self, attempt: Attempt) -> int:
        """The span to try where one was refused; less than that."""
        with self._changed:
            granted = self._spans.get(attempt.name, _Span()).granted
        if granted >= attempt.length:  # this meter's own fault, or a stricter cloud: least tells
            return 1
        if granted:
            return _make_even(attempt.left, granted, attempt.even)
        least = max(1, attempt.length // _STRIDE**2)  # its middle with what was refused is a stride
        return choose_probe(attempt.left, least, attempt.length, attempt.even)

    def end(self, attempt: Attempt) -> None:
        """Let others try."""
        with self._changed:
            if self._probing.get(attempt.name) is attempt:
                del self._probing[attempt.name]
                self._changed.notify_all()

    def _choose(self, attempt: Attempt, span: _Span) -> tuple[int, int]:
        """The length that is known to be granted (0: none), and the one to ask for.

        A length between granted and refused is tried where that saves calls on average, by
        `_weigh`.
        """
        left, longest, even = attempt.left, attempt.longest, attempt.even
        known = _make_even(left, min(longest, span.granted), even)
        if longest <= span.granted:
            return known, known
        if not span.refused or not span.granted:
            return known, _make_even(left, longest, even)
        if span.before and longest >= span.refused and left >= self._doubting.get(attempt.name, 0):
            return known, min(longest, span.before[0])
        length = choose_probe(left, span.granted, min(span.refused, longest + 1), even)
        if not 0 <= self._now() - span.learned_s <= _FORGET_S:
            # Or the least that would save a call: it is refused if nothing has changed.
            least = ceil(left / max(1, ceil(left / span.granted) - 1))
            length = max(length, _round_up(least, even))
            return known, min(longest, length)
        if length > span.granted and not self._weigh(attempt, length, span):
            return known, known
        return known, length

    def _weigh(self, attempt: Attempt, length: int, span: _Span) -> bool:
        """True where trying this length saves calls on average.

        Granted it saves some, refused it costs one. Limits are taken to lie anywhere between
        granted and refused, as likely from 10 to 20 as from 100 to 200. What a window might have
        saved and did not is hoped for from the next ones: so a single meter tries what pays for
        itself, and a thousand meters soon try whatever could save any of them a call.
        """
        name, left = attempt.name, attempt.left
        chance = log(span.refused / length) / log(span.refused / span.granted)
        saved = ceil(left / span.granted) - ceil(left / length)
        if left >= self._hoping.get(name, 0):  # another window begins
            span.hope += max(chance, _LEAST_CHANCE) * saved
            self._keep(name)
        self._hoping[name] = left
        return max(span.hope, chance * saved) >= 1 - chance

    # The file

    def _keep(self, name: str) -> None:
        """Write what is known under a name beside what others have written."""
        if self._path is None:
            return
        self._look_up(name)
        spans = _read(self._path) | {name: self._spans[name]}
        try:
            write_private(self._path, json.dumps({n: asdict(span) for n, span in spans.items()}))
        except OSError:
            return

    def _look_up(self, name: str) -> None:
        """Take over what another process has learned."""
        theirs = _read(self._path).get(name)
        if theirs is not None:
            mine = self._spans.get(name)
            self._spans[name] = theirs if mine is None else _merge(mine, theirs)


class Attempt:
    """One call for as long a span as the cloud grants, of what is left to be asked.

        with book.attempt("hour", 8760) as attempt:
            ...ask for attempt.length; on a 400 attempt.refuse(); in the end attempt.grant()

    A refusal is believed once a shorter call of the same attempt was granted: a meter that is
    refused at any length says nothing of lengths.
    """

    def __init__(self, book: SpanBook, name: str, left: float, most: int | None, even: int) -> None:
        self.name = name
        self.left = ceil(left)
        self.longest = min(self.left, most or self.left)
        self.even = even
        self.length = self.longest
        """The span to ask for now."""
        self._book = book
        self._refused = 0

    def __enter__(self) -> Attempt:
        self.length = self._book.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._book.end(self)

    def refuse(self) -> bool:
        """The call was refused: a shorter length is to be asked for; False: there is none."""
        if self.length <= 1:
            return False
        self._refused = self.length
        self.length = self._book.shorten(self)
        return True

    def grant(self, *, whole: bool = True) -> None:
        """The call was answered; `whole`: with all its rows, as far as one can see."""
        self._believe_refusal()
        self._book.granted(self.name, self.length, whole=whole)
        self._book.end(self)

    def cut(self, length: int) -> None:
        """The call was answered with the rows of so long a span, though later ones exist."""
        self._believe_refusal()
        self._book.cut(self.name, max(1, length))
        self._book.end(self)

    def _believe_refusal(self) -> None:
        if self._refused:
            self._book.refused(self.name, self._refused, self.left)
            self._refused = 0


def choose_probe(left: int, granted: int, refused: int, even: int = 1) -> int:
    """The length worth trying between one that is granted and one that is refused.

    It is the least that brings the calls for `left` half way, by ratio, from those needed at
    `granted` to the fewest that are possible below `refused`; rounded up to a multiple of
    `even` where that is not known to be refused. Where no length changes the number of calls
    it is `granted`.
    """
    many, few = ceil(left / granted), ceil(left / max(granted, refused - 1))
    if many == few:
        return _make_even(left, granted, even)
    length = ceil(left / min(many - 1, max(few, round(sqrt(few * many)))))
    rounded = _round_up(length, even)
    return rounded if rounded < refused else length


def _make_even(left: int, length: int, even: int) -> int:
    """The length, cut down to a multiple of `even` where that costs no call; `left` at most."""
    if length >= left:
        return left
    rounded = length - length % even
    return rounded if rounded and ceil(left / rounded) == ceil(left / length) else length


def _round_up(length: int, even: int) -> int:
    """The next multiple of `even`; below that there is nothing to round to."""
    return length if length < even else ceil(length / even) * even


def _merge(mine: _Span, theirs: _Span) -> _Span:
    """What both say; the later of the two where they contradict each other."""
    later = mine if mine.learned_s >= theirs.learned_s else theirs
    granted = max(mine.granted, theirs.granted)
    refused = min(mine.refused or theirs.refused, theirs.refused or mine.refused)
    if refused and granted >= refused:
        return later
    return replace(later, granted=granted, refused=refused)


def _read(path: Path | None) -> dict[str, _Span]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _check(_Span(**span)) for name, span in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _check(span: _Span) -> _Span:
    """The span as it was written. Raises TypeError or ValueError for odd values."""
    before = (0, 0) if span.before is None else tuple(span.before)
    numbers = (span.granted, span.refused, *before)
    if len(numbers) != 4 or any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError(span)
    if span.refused and span.granted >= span.refused:
        raise ValueError(span)
    span.before = before if span.before is not None else None  # type: ignore[assignment]
    span.learned_s, span.hope = float(span.learned_s), float(span.hope)
    return span
