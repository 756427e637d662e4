"""The rows of a plan as the archive holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import fsum

from copper_cli.archive import Archive, SeriesKey
from copper_cli.plan import SeriesPlan
from copper_cli.records import Series, SeriesKind, SumSource
from copper_cli.series import EMPTY, clip_series, merge_series
from copper_cli.work.context import Asking

Span = tuple[int, int]
"""First and last instant, seconds since 1970 UTC."""


_SOURCES: Mapping[str, SumSource] = {"cloud": "cloud", "tiles": "cloud, added up"}


def series_keys(meter_id: str, kind: SeriesKind, plan: SeriesPlan) -> list[tuple[SeriesKey, Span]]:
    """Under which keys the archive holds a plan, and from when to when each; they meet."""
    return [
        (SeriesKey(meter_id, kind, plan.granularity, grid), (start_s, end_s))
        for grid, start_s, end_s in plan.stretches()
    ]


class View:
    """What a file shows of an archive: spans of some series."""

    def __init__(self, archive: Archive, spans: Sequence[tuple[SeriesKey, Span]]) -> None:
        self._archive = archive
        self._spans = spans
        self._fixed: str | None = None

    def series(self) -> list[SeriesKey]:
        """Whose spans these are."""
        return [key for key, _ in self._spans]

    def fix(self) -> None:
        """Have `state` tell of what is held now: for who reads the rows before asking it."""
        self._fixed = self._state()

    def state(self) -> str:
        """What is held of it, in a text that `is_at` understands."""
        return self._state() if self._fixed is None else self._fixed

    def _state(self) -> str:
        return ",".join(self._archive.state(key, span) for key, span in self._spans)

    def is_at(self, state: str) -> bool:
        """True where what is held of it is still what it was."""
        found = state.split(",")
        return len(found) == len(self._spans) and all(
            self._archive.is_at(one, key, span)
            for one, (key, span) in zip(found, self._spans, strict=True)
        )

    def is_of(self, state: str) -> bool:
        """True where a state is one of this archive."""
        return bool(self._spans) and state.startswith(f"{self._archive.id}:")

    def lacks(self, asking: Asking, now_s: float) -> bool:
        """True where the cloud is to be asked for some of it, or nobody knows of what."""
        return not self._spans or any(
            self._archive.lacking(
                key, span, now_s=now_s, recheck=asking.recheck, fresh=asking.fresh
            )
            for key, span in self._spans
        )

    def asked_s(self) -> float | None:
        """When what may still come was asked for last; the earliest; None where nothing may."""
        found = (
            one.asked_s
            for key, span in self._spans
            for one in self._archive.coverage(key, span)
            if one.state != "known"
        )
        return min(found, default=None)


_KEPT_ROWS = 50_000
"""Of a plan with more rows none are kept: they are read anew each time."""


class HeldRows:
    """The rows of one meter over a plan, ascending; read as often as need be.

    Where they are few they are read once: what lands later is not seen.
    """

    def __init__(self, archive: Archive, meter_id: str, kind: SeriesKind, plan: SeriesPlan) -> None:
        self._archive = archive
        self._keys = series_keys(meter_id, kind, plan) if plan.windows else []
        self._span = plan.start_s, plan.end_s
        self._kept: list[Series] | None = None

    def pieces(self) -> Iterator[Series]:
        """The rows of the plan and that at its start, in pieces without sums."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, rows = list[Series](), 0
        for piece in self._read(*self._span):
            rows += len(piece.times_s)
            if rows <= _KEPT_ROWS:
                kept.append(piece)
            else:
                kept.clear()
            yield piece
        if rows <= _KEPT_ROWS:
            self._kept = kept

    def clip(self, start_s: int, end_s: int) -> Series:
        """The rows between two instants, both included, in one series without a sum."""
        if self._kept is not None:
            pieces = [clip_series(piece, start_s, end_s) for piece in self._kept]
            found = [piece for piece in pieces if piece.times_s]
            if found and found[0].times_s[0] == start_s:
                return merge_series([EMPTY, *found])
        # What was asked from there on may have another row at its very start.
        return merge_series([EMPTY, *self._read(start_s, end_s)])

    def sum(self, start_s: int, end_s: int) -> tuple[float | None, SumSource | None]:
        """The cloud's own sum between two instants, and where it is from; None: no such sum."""
        if not self._keys:
            return None, None
        whole = self._archive.sum_of(self._keys[0][0], (start_s, end_s))
        if whole is not None:
            return whole[0], _SOURCES[whole[1]]
        parts = []
        for key, (first, last) in self._keys:
            span = max(first, start_s), min(last, end_s)
            if span[0] < span[1]:
                parts.append(self._archive.sum_of(key, span))
        known = [one[0] for one in parts if one is not None and one[0] is not None]
        if not known or len(known) < len(parts):
            return None, None
        return round(fsum(known), 9), "cloud, added up"

    def _read(self, start_s: int, end_s: int) -> Iterator[Series]:
        after_s: int | None = None
        for key, (first, last) in self._keys:
            low, high = max(first, start_s), min(last, end_s)
            if low > high or (after_s is not None and low == high):
                continue
            if after_s is not None:
                low = after_s + 1  # where two grids meet the row is that of the first
            yield from self._archive.rows(key, low, high)
            after_s = high
