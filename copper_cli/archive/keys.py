"""What the archive is asked by, and what it answers with, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from copper_cli.records import Series

State = Literal["known", "null", "absent", "failed"]
"""Of a bucket: it holds an amount; the cloud sent null; it sent no row; the call for it failed. A
bucket with none of these was never asked for."""
Span = tuple[int, int]
"""Two instants in whole seconds since 1970 UTC. Of interval rows it holds the buckets that end
after the first and not after the second, of readings what was measured from the first up to, not
including, the second."""
Number = int | float | None

US = 1_000_000
"""Microseconds of a second: readings keep theirs."""


def storable(text: str) -> str:
    r"""A text as databases can hold it: halves of surrogate pairs are written out, `\ud800`."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Rows that belong to one another: of one meter or gateway, one kind, on one grid."""

    subject: str
    """The id of a meter; for `grid` of a gateway."""
    kind: str
    """`usage`, `baseline-series`, `average-series`, `readings` or `grid`."""
    granularity: str = ""
    """One of buckets.GRANULARITIES; empty for readings and grid readings."""
    grid: str = ""
    """Where buckets end. The seconds after a whole bucket since 1970 UTC for minutes to hours
    (`0`, `1800`), the zone for `bihour` and `day`, zone and day for `month`, else empty."""

    def __post_init__(self) -> None:
        """Have the id as it can be kept."""
        if not self.subject.isascii():
            object.__setattr__(self, "subject", storable(self.subject))

    @property
    def is_instants(self) -> bool:
        """True for what is measured at instants: readings and grid readings."""
        return not self.granularity


@dataclass(frozen=True, slots=True)
class Instants:
    """What was measured at instants, as columns of equal length, ascending by time.

    Two rows may have the same instant.
    """

    times_us: Sequence[int]
    """When, microseconds since 1970 UTC."""
    first: Sequence[Number]
    """The register as the meter reports it; a gateway's volts."""
    second: Sequence[Number]
    """The register in the standard unit; a gateway's hertz."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What is known of a span without looking at its rows. Nothing is told where none lies."""

    start_s: int
    """From when."""
    end_s: int
    """Until when."""
    state: State
    """Of all its buckets."""
    asked_s: int
    """When it was last asked for, seconds since 1970; of what is known a little earlier, so that
    neighbours can be told as one."""
    buckets: int
    """How many end in it; 0 for readings."""
    unread: int = 0
    """Readings that came and could not be read."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What an answer did to what was held."""

    changed: int = 0
    """Rows that now have other values than before."""
    withdrawn: int = 0
    """Rows of which the cloud now has nothing, so that the earlier values stand."""


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """An answer that waits for others, with which it is to be put together."""

    start_s: int
    """From when it was asked for."""
    end_s: int
    """Until when."""
    asked_s: int
    """When."""
    series: Series
    """All of it, as it came."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that had other values before."""

    end_s: int
    """The row's own time."""
    old: tuple[Number, ...]
    """Energy, power, register in the standard unit and as reported; for readings both numbers."""
    new: tuple[Number, ...] | None
    """The same now; None where the cloud has nothing any more, so that the old ones stand."""
    old_asked_s: int
    """When the old values were last asked for, as far as that is kept."""
    new_asked_s: int
    """When the new ones were."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much is known of a series."""

    key: SeriesKey
    """Which."""
    start_s: int
    """The first instant that was ever asked for."""
    end_s: int
    """The last."""
    known: int
    """Buckets with an amount."""
    null: int
    """Buckets for which the cloud sent null."""
    absent: int
    """Buckets for which it sent no row."""
    failed: int
    """Buckets of calls that failed."""


class Stamp(NamedTuple):
    """What a file looked like when it was last read whole."""

    size: int
    """In bytes."""
    mtime_ns: int
    """When its content was last changed."""
    ctime_ns: int
    """When anything of it was."""
    sha256: str
    """Of its content, hex."""


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """The same instants, ascending: spans that meet or overlap as one."""
    found: list[Span] = []
    for start_s, end_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((start_s, end_s))
    return found
