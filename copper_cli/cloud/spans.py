"""How long a span the cloud grants a call: found out by asking, and kept between runs.

What counts is how many calls a window needs, so only lengths that change that number are tried,
as `choose_probe` says. A span is a whole number of units: buckets of a granularity (a row less
than the answer holds, both ends counted), hours for `readings`, minutes for `grid`.

What is known under a name holds for every meter of a partner at one API host. A meter that gets
less than others were granted has an oddity of its own, which is kept for it alone. What few
meters have shown is doubted by the others as far as it costs them calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil, log
from pathlib import Path
from types import TracebackType

from copper_cli.cloud.host import host_of
from copper_cli.cloud.span_lengths import choose_probe, make_even, round_up
from copper_cli.cloud.span_notes import WITNESSES, Span, merge_spans, read_spans, write_spans
from copper_cli.config import Settings
from copper_cli.errors import LocalError
from copper_cli.files.names import short_digest

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
_BELIEVED = 6
"""Once so many meters have met a limit, only a single window may still save enough to try it."""


@dataclass(frozen=True, slots=True)
class SpanLimit:
    """A limit that was learned, for whoever wants to look at it."""

    name: str
    """Granularity, `readings` or `grid`."""
    meter: str
    """Whose oddity it is; empty: everybody's."""
    granted: int
    """The longest span that was answered, in units of the name."""
    refused: int
    """The shortest that was refused or answered in part."""
    learned_s: float
    """When, in seconds since 1970."""
    seen: int
    """Meters that have met it."""


class SpanBook:
    """What was learned of the longest span, by name. Threads and processes may share one.

    Without a path nothing is kept; a file that cannot be read or written is ignored, since
    what it holds can be learned again.
    """

    def __init__(
        self, path: Path | None, now: Callable[[], float], *, host: str = "", partner: str = ""
    ) -> None:
        self.host, self.partner = host, partner
        self._path = path
        self._now = now
        self._changed = threading.Condition()
        # Under a name what holds for all, under `name meter` what holds for one.
        self._spans = read_spans(path)
        self._ignored = False
        self._met: set[str] = set()
        self._doubters: set[str] = set()
        self._dissent: dict[str, set[str]] = {}
        self._probing: dict[str, Attempt] = {}
        self._hoping: dict[str, int] = {}
        self._doubting: dict[str, int] = {}
        self._cuts: dict[str, int] = {}
        self._last_cut: dict[str, tuple[int, str]] = {}

    def attempt(
        self, name: str, left: float, *, most: int | None = None, even: int = 1, meter: str = ""
    ) -> Attempt:
        """A call for as much as the cloud grants of what is `left` to be asked.

        `most` is the longest span that is ever wanted; multiples of `even` are preferred where
        that costs no call. `meter` is who is asked about, where it is one. To be used as a
        context manager.
        """
        return Attempt(self, name, left, most, even, meter)

    def expect(
        self, name: str, left: float, *, most: int | None = None, even: int = 1, meter: str = ""
    ) -> int:
        """The span that the next call would be granted, by what is known; nothing is tried."""
        left = ceil(left)
        longest = min(left, most or left)
        with self._changed:
            span = Span() if self._ignored else self._find(self._key(name, meter))
        if span.refused and not span.granted:
            return choose_probe(left, 1, min(span.refused, longest + 1), even)
        return make_even(left, min(longest, span.granted) if span.refused else longest, even)

    def known(self, name: str, meter: str = "") -> tuple[int, int]:
        """The longest span that was answered, and the shortest that was refused; 0: none was."""
        with self._changed:
            span = self._find(self._key(name, meter))
            return span.granted, span.refused

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """While inside, `expect` answers as if no limit were known."""
        self._ignored = True
        try:
            yield
        finally:
            self._ignored = False

    def limits(self) -> list[SpanLimit]:
        """What is known of limits; by name, those of all meters first."""
        with self._changed:
            found = [(*key.partition(" ")[::2], span) for key, span in self._spans.items()]
        return [
            SpanLimit(name, meter, span.granted, span.refused, span.learned_s, span.seen)
            for name, meter, span in sorted(found, key=lambda one: one[:2])
            if span.refused
        ]

    def granted(self, name: str, length: int, *, whole: bool = True, meter: str = "") -> None:
        """A call for a span of this length was answered.

        Without the `whole` of its rows it lifts no limit: it may be one that cuts.
        """
        with self._changed:
            key = self._key(name, meter)
            span = self._spans.setdefault(key, Span())
            known = replace(span)
            if span.before and length >= span.before[0]:
                span.granted, span.refused = span.before
                span.before = None
            if whole and 0 < span.refused <= length:
                self._lift(name, key, span, meter)
            if not span.refused or length < span.refused:
                span.granted = max(length, span.granted)
            if whole and length >= span.granted and key == name:
                self._dissent.pop(name, None)
            if key != name and not span.refused:
                self._drop(key)  # no oddity any more
            elif span != known:
                self._keep(key)

    def refused(self, name: str, length: int, left: int = 0, *, meter: str = "") -> None:
        """A call for a span of this length was refused, though a shorter one was granted.

        `left` was to be asked: where others were granted this length, the same window (less of
        which is left with each call) is not to decide whether it was its own fault. Of a `meter`
        it is then its own.
        """
        with self._changed:
            key = self._key(name, meter)
            span = self._spans.setdefault(key, Span())
            if meter and key == name and length <= span.granted:
                self._set_apart(name, meter, Span(0, length, learned_s=self._now()))
                return
            if span.before and length <= span.before[0]:
                if left >= self._doubting.get(key, 0):
                    span.before = None  # for the second time: the cloud is stricter now
            elif length <= span.granted:
                span.before = (span.granted, span.refused)
                self._doubting[key] = left
            if length <= span.granted:
                span.granted = 0
            span.refused = min(length, span.refused or length)
            span.learned_s = self._now()
            self._count_in(span, key, name, meter)
            self._keep(key)

    def cut(self, name: str, length: int, *, meter: str = "") -> None:
        """An answer held the rows of a span of this length only, though later ones exist.

        Once may be chance; the second time the same length is a limit, and so is one that others
        have met.
        """
        with self._changed:
            key = self._key(name, meter)
            span = self._find(key)
            if (span.granted, span.refused) == (length, length + 1):
                if self._count_in(span, key, name, meter):
                    self._keep(key)
                return
            met = self._count_cut(name, length, meter)
            if not met:
                return
            limit = Span(length, length + 1, learned_s=self._now())
            if meter and key == name and length < span.granted:
                if len(met) == 1:
                    self._set_apart(name, meter, limit)
                return
            self._spans[key] = limit
            for one in met:
                self._count_in(limit, key, name, one)
            self._keep(key)

    def _count_cut(self, name: str, length: int, meter: str) -> list[str]:
        """The meters whose answers were cut at this length twice, or once each; or none yet."""
        whose = _own_key(name, meter)
        last, self._last_cut[name] = self._last_cut.get(name), (length, meter)
        if self._cuts.get(whose) == length:
            return [meter]
        self._cuts[whose] = length
        is_other = last is not None and last[0] == length and last[1] != meter
        return [last[1], meter] if last is not None and is_other else []

    # Whose limit it is

    def _key(self, name: str, meter: str) -> str:
        """Where a meter's spans are found: apart, where it has an oddity of its own."""
        own = _own_key(name, meter)
        return own if own in self._spans else name

    def _find(self, key: str) -> Span:
        return self._spans.get(key, Span())

    def _count_in(self, span: Span, key: str, name: str, meter: str) -> bool:
        """One more meter has met the limit of all; True where it had not been counted."""
        whose = _own_key(name, meter)
        if not meter or key != name or meter in span.meters or whose in self._met:
            return False
        if len(span.meters) < WITNESSES:
            span.meters.append(meter)
        else:
            self._met.add(whose)
        span.seen += 1
        return True

    def _set_apart(self, name: str, meter: str, limit: Span) -> None:
        """A meter gets less than others were granted: its own oddity, until others get no more.

        Two meters in turn are believed: the cloud is stricter now.
        """
        own = _own_key(name, meter)
        others = self._dissent.setdefault(name, set()) - {meter}
        if others:
            other = _own_key(name, others.pop())
            found = self._spans.pop(other, limit)
            self._dissent.pop(name)
            self._spans[name] = replace(
                found, seen=2, meters=[other.partition(" ")[2], meter], learned_s=self._now()
            )
            self._drop(other)
            self._keep(name)
            return
        self._dissent[name].add(meter)
        self._spans[own] = limit
        self._keep(own)

    def _lift(self, name: str, key: str, span: Span, meter: str) -> None:
        """The limit does not hold for this meter, so it is the oddity of those who have met it."""
        for other in span.meters if key == name and meter else ():
            own = _own_key(name, other)
            if other != meter and own not in self._spans:
                self._spans[own] = Span(span.granted, span.refused, learned_s=span.learned_s)
                self._keep(own)
        span.refused, span.learned_s = 0, self._now()  # or the cloud is more generous now
        span.seen, span.meters, span.doubt = 0, [], 0.0

    def _doubts(self, attempt: Attempt, key: str, span: Span) -> bool:
        """True where it pays on average that this meter tries whether the limit is its own too.

        Each meter that has met it makes it half as likely that it was their oddity.
        """
        whose = _own_key(attempt.name, attempt.meter)
        if not attempt.meter or key != attempt.name or not span.seen or whose in self._met:
            return False
        if attempt.meter in span.meters:
            return False
        saved = (ceil(attempt.left / span.granted) - 1) * 0.5 ** min(span.seen, 64)
        if whose not in self._doubters and span.seen < _BELIEVED:
            self._doubters.add(whose)
            span.doubt += saved
        return max(saved, span.doubt) >= 1

    # What an attempt asks of the book

    def begin(self, attempt: Attempt) -> int:
        """The span to try first. Of several threads one at a time tries what may be refused.

        Others that could gain by it wait for the answer: it saves each of them a call. Where it
        does not come soon they use what is known to be granted.
        """
        is_fresh = False
        with self._changed:
            while True:
                key = self._key(attempt.name, attempt.meter)
                span = self._find(key)
                known, length = self._choose(attempt, key, span)
                if length <= span.granted:
                    return length
                if key in self._probing:
                    if not self._changed.wait(_PATIENCE_S):
                        return known or length
                elif is_fresh:
                    self._probing[key] = attempt
                    span = self._spans.setdefault(key, span)
                    span.hope = span.doubt = 0.0
                    return length
                else:
                    self._look_up(key)  # another process may have found out meanwhile
                    is_fresh = True

    def shorten(self, attempt: Attempt) -> int:
        """The span to try where one was refused; less than that."""
        with self._changed:
            granted = self._find(self._key(attempt.name, attempt.meter)).granted
        if granted >= attempt.length:  # this meter's own fault, or a stricter cloud: least tells
            return 1
        if granted:
            return make_even(attempt.left, granted, attempt.even)
        least = max(1, attempt.length // _STRIDE**2)  # its middle with what was refused is a stride
        return choose_probe(attempt.left, least, attempt.length, attempt.even)

    def end(self, attempt: Attempt) -> None:
        """Let others try."""
        with self._changed:
            mine = [key for key, one in self._probing.items() if one is attempt]
            for key in mine:
                del self._probing[key]
                self._changed.notify_all()

    def _choose(self, attempt: Attempt, key: str, span: Span) -> tuple[int, int]:
        """The length that is known to be granted (0: none), and the one to ask for.

        A length between granted and refused is tried where that saves calls on average, by
        `_weigh`.
        """
        left, longest, even = attempt.left, attempt.longest, attempt.even
        known = make_even(left, min(longest, span.granted), even)
        if longest <= span.granted:
            return known, known
        if not span.refused or not span.granted:
            return known, make_even(left, longest, even)
        if span.before and longest >= span.refused and left >= self._doubting.get(key, 0):
            return known, min(longest, span.before[0])
        length = choose_probe(left, span.granted, min(span.refused, longest + 1), even)
        is_old = not 0 <= self._now() - span.learned_s <= _FORGET_S
        doubts = longest >= span.refused and self._doubts(attempt, key, span)
        if is_old or doubts:
            # Or the least that would save a call: it is refused if nothing has changed.
            least = ceil(left / max(1, ceil(left / span.granted) - 1))
            least = max(least, span.refused) if doubts else least
            length = max(length, round_up(least, even))
            return known, min(longest, length)
        if length > span.granted and not self._weigh(attempt, key, length, span):
            return known, known
        return known, length

    def _weigh(self, attempt: Attempt, key: str, length: int, span: Span) -> bool:
        """True where trying this length saves calls on average.

        Granted it saves some, refused it costs one. Limits are taken to lie anywhere between
        granted and refused, as likely from 10 to 20 as from 100 to 200. What a window might have
        saved and did not is hoped for from the next ones: so a single meter tries what pays for
        itself, and a thousand meters soon try whatever could save any of them a call.
        """
        left = attempt.left
        chance = log(span.refused / length) / log(span.refused / span.granted)
        saved = ceil(left / span.granted) - ceil(left / length)
        if left >= self._hoping.get(key, 0):  # another window begins
            span.hope += max(chance, _LEAST_CHANCE) * saved
            self._keep(key)
        self._hoping[key] = left
        return max(span.hope, chance * saved) >= 1 - chance

    # The file

    def _keep(self, key: str) -> None:
        """Write what is known under a key beside what others have written."""
        if self._path is None:
            return
        self._look_up(key)
        self._write(read_spans(self._path) | {key: self._spans[key]})

    def _drop(self, key: str) -> None:
        """Nothing is known under a key any more."""
        self._spans.pop(key, None)
        if self._path is not None:
            self._write(
                {other: span for other, span in read_spans(self._path).items() if other != key}
            )

    def _write(self, spans: dict[str, Span]) -> None:
        assert self._path is not None
        with suppress(OSError):
            write_spans(self._path, spans, host=self.host, partner=self.partner)

    def _look_up(self, key: str) -> None:
        """Take over what another process has learned."""
        theirs = read_spans(self._path).get(key)
        if theirs is not None:
            mine = self._spans.get(key)
            self._spans[key] = theirs if mine is None else merge_spans(mine, theirs)


def spans_path(settings: Settings) -> Path:
    """The file of what was learned at an API host for a partner (of an individual: for the app)."""
    name = short_digest(host_of(settings.api_url), settings.enterprise_id or settings.client_id)
    return settings.cache_dir / f"spans.{name}.json"


def open_spans(settings: Settings, now: Callable[[], float]) -> SpanBook:
    """The book that runs with these settings share.

    An older version kept one for all hosts and partners: it goes on for the first that asks.
    """
    path = spans_path(settings)
    if not path.exists():
        with suppress(OSError):
            _older_path(settings).rename(path)
    return _book(settings, path, now)


def look_at_spans(settings: Settings, now: Callable[[], float]) -> SpanBook:
    """The same book for whoever only wants to know what it holds."""
    path = spans_path(settings)
    return _book(settings, path if path.exists() else _older_path(settings), now)


def forget_spans(settings: Settings) -> bool:
    """Removes what was learned; True if there was something. Raises LocalError."""
    found = [path for path in (spans_path(settings), _older_path(settings)) if path.exists()]
    try:
        for path in found:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(f"{path} cannot be removed: {error.strerror}.") from None
    return bool(found)


def _older_path(settings: Settings) -> Path:
    return settings.cache_dir / "spans.json"


def _book(settings: Settings, path: Path, now: Callable[[], float]) -> SpanBook:
    partner = settings.enterprise_id or settings.client_id
    return SpanBook(path, now, host=host_of(settings.api_url), partner=partner)


class Attempt:
    """One call for as long a span as the cloud grants, of what is left to be asked.

        with book.attempt("hour", 8760) as attempt:
            ...ask for attempt.length; on a 400 attempt.refuse(); in the end attempt.grant()

    A refusal is believed once a shorter call of the same attempt was granted: a meter that is
    refused at any length says nothing of lengths.
    """

    def __init__(
        self,
        book: SpanBook,
        name: str,
        left: float,
        most: int | None,
        even: int,
        meter: str = "",
    ) -> None:
        self.name = name
        self.meter = meter
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
        self._book.granted(self.name, self.length, whole=whole, meter=self.meter)
        self._book.end(self)

    def cut(self, length: int) -> None:
        """The call was answered with the rows of so long a span, though later ones exist."""
        self._believe_refusal()
        self._book.cut(self.name, max(1, length), meter=self.meter)
        self._book.end(self)

    def _believe_refusal(self) -> None:
        if self._refused:
            self._book.refused(self.name, self._refused, self.left, meter=self.meter)
            self._refused = 0


def _own_key(name: str, meter: str) -> str:
    """No name has a blank in it."""
    return f"{name} {meter}" if meter else name
