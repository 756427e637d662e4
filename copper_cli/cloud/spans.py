"""How many rows the cloud grants a call, found out by asking and kept between runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_FORGET_S = 7 * 86400
"""After this long a limit is tried again: the cloud may have become more generous."""
_NEAR = 1.05
"""Allowed and refused this close to each other need no further search."""


@dataclass(slots=True)
class _Span:
    """What is known for one granularity."""

    allowed: int = 0
    """The most rows that a call has brought."""
    refused: int = 0
    """The fewest rows that a call was refused or cut for; 0: never."""
    learned_s: float = 0.0
    """When `refused` was last learned."""


class SpanBook:
    """What was learned of the longest span, by granularity. Threads may share one.

    Without a path nothing is kept; a file that cannot be read or written is ignored, since
    what it holds can be learned again.
    """

    def __init__(self, path: Path | None, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._spans = _read(path) if path else {}

    def limit(self, granularity: str) -> int | None:
        """The most rows worth asking for in one call; None where no limit was ever met.

        Between what was allowed and what was refused it searches by halves.
        """
        with self._lock:
            span = self._spans.get(granularity)
            if span is None or not span.refused:
                return None
            if not 0 <= self._now() - span.learned_s <= _FORGET_S:
                return None
            if not span.allowed:
                return max(2, (span.refused + 1) // 2)
            if span.refused <= span.allowed * _NEAR + 1:
                return span.allowed
            return (span.allowed + span.refused) // 2

    def allowed_rows(self, granularity: str) -> int | None:
        """The most rows known to be granted; None where no limit was ever met."""
        with self._lock:
            span = self._spans.get(granularity)
            return span.allowed if span and span.refused and span.allowed else None

    def after_refusal(self, granularity: str, rows: int) -> int:
        """How many rows to try where a call for `rows` was refused; less than `rows`.

        The most that is known to be granted, else half: what lies between is searched once a
        call has shown that the length was what the cloud minded.
        """
        with self._lock:
            span = self._spans.get(granularity)
            if span is not None and 1 < span.allowed < rows:
                return span.allowed
            return max(2, (rows + 1) // 2)

    def accepted(self, granularity: str, rows: int) -> None:
        """A call for this many rows was answered."""
        with self._lock:
            span = self._spans.setdefault(granularity, _Span())
            if span.refused and rows >= span.refused:  # the cloud has become more generous
                span.refused = 0
            if rows > span.allowed:
                span.allowed = rows
                self._keep()

    def refused(self, granularity: str, rows: int) -> None:
        """A call for this many rows was refused."""
        with self._lock:
            span = self._spans.setdefault(granularity, _Span())
            if span.allowed >= rows:  # the cloud has become stricter
                span.allowed = 0
            span.refused = min(rows, span.refused or rows)
            span.learned_s = self._now()
            self._keep()

    def cut(self, granularity: str, rows: int) -> None:
        """A call brought just this many rows, though later ones exist."""
        with self._lock:
            span = self._spans.setdefault(granularity, _Span())
            span.allowed, span.refused = rows, rows + 1
            span.learned_s = self._now()
            self._keep()

    def _keep(self) -> None:
        if self._path is None:
            return
        text = json.dumps({name: asdict(span) for name, span in self._spans.items()})
        partial = self._path.with_suffix(f".{threading.get_ident()}.tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._path)
        except OSError:
            return


def _read(path: Path) -> dict[str, _Span]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _check(_Span(**span)) for name, span in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _check(span: _Span) -> _Span:
    if type(span.allowed) is not int or type(span.refused) is not int:
        raise TypeError(span)
    span.learned_s = float(span.learned_s)
    return span
