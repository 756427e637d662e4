"""What is known from before, under what the cloud says now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from copper_cli.records import AnySeries, LongSeries, Series
from copper_cli.series import EMPTY, clip_series, merge_series

_NEVER_S, _EVER_S = -(1 << 62), 1 << 62

ReadKnown = Callable[[], Iterator[Series]]
"""Brings the earlier rows, ascending, in pieces; as often as need be."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A series asked for again, with what was known of it before."""

    series: AnySeries
    """The cloud's values; those known before where it has none now."""
    changed: int
    """Rows that hold other values than before."""
    kept: int
    """Rows of which the cloud now has nothing, so that the earlier values stand."""


def renew_series(series: AnySeries, read_known: ReadKnown) -> Renewed:
    """The series over what was known: null or no row never replaces a value.

    Its sum stays the cloud's.
    """
    changed = kept = 0
    for _, more_changed, more_kept in _renew(series, read_known):
        changed, kept = changed + more_changed, kept + more_kept
    if not kept:
        return Renewed(series, changed, 0)
    if isinstance(series, Series):
        rows = merge_series([EMPTY, *(piece for piece, _, _ in _renew(series, read_known))])
        whole = replace(rows, sum_energy=series.sum_energy, meter_type=series.meter_type)
        return Renewed(whole, changed, kept)

    def read(first_s: int, last_s: int) -> Iterator[Series]:
        for piece, _, _ in _renew(series, read_known):
            found = clip_series(piece, first_s, last_s)
            if found.times_s:
                yield found

    return Renewed(LongSeries(read, series.sum_energy, series.meter_type), changed, kept)


def _renew(series: AnySeries, read_known: ReadKnown) -> Iterator[tuple[Series, int, int]]:
    """Both together in ascending pieces, with how many rows changed and how many were kept."""
    earlier, held, after_s = read_known(), EMPTY, _NEVER_S
    for piece in series.pieces():
        if not piece.times_s:
            continue
        last_s = piece.times_s[-1]
        parts = [EMPTY, held]
        while not parts[-1].times_s or parts[-1].times_s[-1] < last_s:
            more = next(earlier, None)
            if more is None:
                break
            parts.append(more)
        held = merge_series(parts)
        yield _put_over(piece, _filled(clip_series(held, after_s + 1, last_s)))
        held, after_s = clip_series(held, last_s + 1, _EVER_S), last_s
    for rest in (held, *earlier):
        late = _filled(clip_series(rest, after_s + 1, _EVER_S))
        if late.times_s:
            yield late, 0, len(late.times_s)


def _put_over(new: Series, old: Series) -> tuple[Series, int, int]:
    """One walk along both: old rows stand where the new ones have no amount."""
    changed = kept = at = 0
    rows: list[tuple[Any, ...]] = []
    mine = _rows_of(new)
    for theirs in _rows_of(old):
        while at < len(mine) and mine[at][0] < theirs[0]:
            rows.append(mine[at])
            at += 1
        if at == len(mine) or mine[at][0] > theirs[0]:
            rows.append(theirs)
            kept += 1
            continue
        if mine[at][1] is None:
            rows.append(_fill(mine[at], theirs))
            kept += 1
        else:
            rows.append(mine[at])
            changed += _differ(mine[at], theirs)
        at += 1
    if not kept:
        return new, changed, 0
    rows += mine[at:]
    times, energy, power, value, actual = zip(*rows, strict=True)
    return (
        Series(times, energy, power, value, actual, new.sum_energy, new.meter_type),
        changed,
        kept,
    )


def _rows_of(series: Series) -> list[tuple[Any, ...]]:
    columns = series.times_s, series.energy, series.power, series.value, series.actual
    return list(zip(*columns, strict=True))


def _fill(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The old amount and power, which belong together; registers as far as they are known now."""
    registers = (b if a is None else a for a, b in zip(mine[3:], theirs[3:], strict=True))
    return (*theirs[:3], *registers)


def _differ(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    pairs = zip(mine, theirs, strict=True)
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _filled(series: Series) -> Series:
    """The rows that hold an amount."""
    if None not in series.energy:
        return series
    places = [place for place, energy in enumerate(series.energy) if energy is not None]
    return replace(
        series,
        times_s=[series.times_s[place] for place in places],
        energy=[series.energy[place] for place in places],
        power=[series.power[place] for place in places],
        value=[series.value[place] for place in places],
        actual=[series.actual[place] for place in places],
    )
