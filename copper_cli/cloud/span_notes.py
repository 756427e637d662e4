"""What is known of the longest span under one name, and the file that several runs add it to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from copper_cli.files.private import write_private

WITNESSES = 8
"""So many meters that have met a limit are known by their ids; more are counted."""


@dataclass(slots=True)
class Span:
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
    seen: int = 0
    """Meters that have met the limit; 0: nobody's in particular (grid), or one meter's own."""
    meters: list[str] = field(default_factory=list)
    """The first of them."""
    doubt: float = 0.0
    """Calls that others would have saved so far were it the oddity of those meters, weighed by the
    chance of that: a half for one meter, a quarter for two."""


def merge_spans(mine: Span, theirs: Span) -> Span:
    """What both say; the later of the two where they contradict each other."""
    later = mine if mine.learned_s >= theirs.learned_s else theirs
    if mine.refused and theirs.refused:
        seen = max(mine.seen, theirs.seen, len({*mine.meters, *theirs.meters}))
        meters = sorted({*mine.meters, *theirs.meters})[:WITNESSES]
        later = replace(later, seen=seen, meters=meters)
    granted = max(mine.granted, theirs.granted)
    refused = min(mine.refused or theirs.refused, theirs.refused or mine.refused)
    if refused and granted >= refused:
        return later
    return replace(later, granted=granted, refused=refused)


def read_spans(path: Path | None) -> dict[str, Span]:
    """What a file holds; of an older version's nobody knows how many meters have met a limit."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if "spans" not in found:
            found = {name: span | {"seen": min(span["refused"], 1)} for name, span in found.items()}
        else:
            found = found["spans"]
        return {str(key): _check(Span(**span)) for key, span in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def write_spans(path: Path, spans: Mapping[str, Span], *, host: str, partner: str) -> None:
    """Set down what is known at a host for a partner. Raises OSError."""
    head = {"host": host, "partner": partner}
    body = {"spans": {key: asdict(span) for key, span in spans.items()}}
    write_private(path, json.dumps(head | body))


def _check(span: Span) -> Span:
    """The span as it was written. Raises TypeError or ValueError for odd values."""
    before = (0, 0) if span.before is None else tuple(span.before)
    numbers = (span.granted, span.refused, span.seen, *before)
    if len(numbers) != 5 or any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError(span)
    if not isinstance(span.meters, list) or not all(isinstance(one, str) for one in span.meters):
        raise TypeError(span)
    if span.refused and span.granted >= span.refused:
        raise ValueError(span)
    span.before = before if span.before is not None else None  # type: ignore[assignment]
    span.learned_s, span.hope = float(span.learned_s), float(span.hope)
    span.doubt = float(span.doubt)
    return span
