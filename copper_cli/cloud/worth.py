"""What an answer is worth: whether its rows are those that were asked for. Pure.

parse sees to it that an answer can be read; here it is held against the question. What
contradicts it fails the call: an answer that is believed wrongly is worse than none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from math import fsum, inf
from operator import sub

from copper_cli.buckets import BUCKET_S, DAY_S, bucket_s
from copper_cli.errors import CloudError
from copper_cli.records import GridAnswer, GridSeries, Readings, Series, Window

_FROM_ROWS = 3
"""Fewer rows say nothing of their spacing."""
_FINER, _COARSER = 0.75, 1.5
"""Shares of a bucket between which rows may be apart: months, and days at a clock change, vary."""
_MARGIN_S = 3600
"""How far readings may lie outside the window that was asked for without a word."""
_US = 1_000_000


_LEAST_MONTH_S = 27 * DAY_S
_LONGEST_MONTH_S = 31 * DAY_S
_MOST_OFFSET_S = 15 * 3600
"""No zone's time is further from UTC."""


@dataclass(frozen=True, slots=True)
class Held:
    """An answer held against its question."""

    series: Series
    """The rows that lie in the window, or within a bucket of it."""
    left_out: int
    """How many lay further off."""


def hold_series(series: Series, window: Window, granularity: str, what: str) -> Held:
    """The rows of an answer that belong to the window it was asked for.

    Clouds send a row at either end or at both, so a bucket more is taken without a word; rows
    further off are left out and counted. Where some were, the sum stays only if it is that of
    the rows that remain. Raises CloudError where all rows lie elsewhere, where some do and the
    others do not show that the answer is of this window (none is inside, or none holds an
    amount), or where they are coarser or finer than was asked for (by their median distance).
    """
    step_s = BUCKET_S.get(granularity, _LONGEST_MONTH_S)
    start_s, end_s = _seconds(window)
    first = bisect_left(series.times_s, start_s - step_s)
    last = bisect_right(series.times_s, end_s + step_s)
    left_out = len(series.times_s) - (last - first)
    if left_out:
        is_long = end_s - start_s > step_s
        inside = bisect_left(series.times_s, end_s) - bisect_right(series.times_s, start_s)
        if first == last or (is_long and inside == 0):
            raise CloudError(_elsewhere(series.times_s[0], left_out, "rows", what))
        series = _cut(series, first, last, window)
        if not has_amounts(series, *((start_s, end_s) if is_long else ())):
            raise CloudError(
                f"{what}: {left_out} rows that the cloud sent lie outside the span it was asked "
                "for, and the others hold no value."
            )
    check_spacing(series.times_s, granularity, what)
    return Held(series, left_out)


def check_local_times(
    series: Series, window: Window, granularity: str, what: str, *, is_over: bool
) -> None:
    """Raises CloudError where times without an offset, read as UTC, do not fit the window.

    The first must be that of the window's start or of its first bucket. The last must be at its
    end if that `is_over` (its rows are there), or so far from it that no zone's offset explains
    it: then the cloud has cut its answer short. Hours that are absent at an end are not told from
    those that another zone moves: such an answer is not believed either.
    """
    if not series.times_s:
        return
    step_s = BUCKET_S.get(granularity, _LONGEST_MONTH_S)
    least_s = BUCKET_S.get(granularity, _LEAST_MONTH_S)
    slack_s = min(step_s / 2, 3600)  # a bucket at a clock change is an hour longer or shorter
    start_s, end_s = _seconds(window)
    late_s, early_s = series.times_s[0] - start_s, end_s - series.times_s[-1]
    begins = 0 <= late_s <= slack_s or least_s - slack_s <= late_s <= step_s + slack_s
    is_open = not is_over or early_s > _MOST_OFFSET_S
    if not (begins and (abs(early_s) <= slack_s or (is_open and early_s >= 0))):
        raise CloudError(
            f"{what}: its times have no offset and do not fit: read as UTC they go from "
            f"{_text(series.times_s[0])} to {_text(series.times_s[-1])}."
        )


def check_sum(series: Series, window: Window, granularity: str, what: str) -> None:
    """Raises CloudError where there is no row, and the sum is of something: of a span long over.

    A row at the window's start is of the bucket before it; where it is alone, its amount may be
    what the sum is of. In a window shorter than a bucket (before a clock change) there may be none.
    """
    start_s, end_s = _seconds(window)
    is_whole = end_s - start_s >= BUCKET_S.get(granularity, _LEAST_MONTH_S)
    is_bare = not _rows_after(series, start_s) and not has_amounts(series)
    if is_whole and series.sum_energy and is_bare:
        raise CloudError(
            f"{what}: the cloud sent no row, though its own sum says {series.sum_energy}."
        )


def check_filled(series: Series, window: Window, granularity: str, what: str) -> None:
    """Raises CloudError where rows hold no amount, and the sum does: of a span long over.

    A row at the window's start is of the bucket before it, one behind its end tells nothing while
    there are others. Registers are no amounts.
    """
    start_s, end_s = _seconds(window)
    is_whole = end_s - start_s >= BUCKET_S.get(granularity, _LEAST_MONTH_S)
    rows = bisect_right(series.times_s, end_s) - bisect_right(series.times_s, start_s)
    if not rows and is_whole:  # months that are counted from elsewhere may end an hour later
        rows, end_s = _rows_after(series, start_s), series.times_s[-1] if series.times_s else end_s
    if rows and series.sum_energy and not has_amounts(series, start_s, end_s):
        raise CloudError(
            f"{what}: none of the {rows} rows that the cloud sent holds a value, though its own "
            f"sum says {series.sum_energy}."
        )


def has_amounts(series: Series, after_s: float = -inf, until_s: float = inf) -> bool:
    """True where any row, later than an instant and up to another, holds an amount."""
    first, last = (bisect_right(series.times_s, edge_s) for edge_s in (after_s, until_s))
    return any(amount is not None for amount in islice(series.energy, first, last))


def _rows_after(series: Series, instant_s: int) -> int:
    return len(series.times_s) - bisect_right(series.times_s, instant_s)


def hold_readings(
    found: Readings, window: Window, what: str, *, is_local: bool = False
) -> tuple[Readings, int]:
    """The readings within an hour of the window, and how many lay further off.

    Raises CloudError where there are some and they are not of this window: none lies inside, or
    most lie beyond one end and the others at that end. Also where their times `is_local`, without
    an offset, and any lies outside.
    """
    times_s = [reading.time_utc.timestamp() for reading in found.rows]
    _check_place([times_s], _seconds(window), what, is_local=is_local)
    start_s, end_s = _seconds(window)
    first = bisect_left(times_s, start_s - _MARGIN_S)
    last = bisect_right(times_s, end_s + _MARGIN_S)
    return replace(found, rows=found.rows[first:last]), len(times_s) - (last - first)


def hold_grid(
    answer: GridAnswer, window: Window, what: str, *, is_local: bool = False
) -> tuple[GridAnswer, int]:
    """The readings within an hour of the window, and how many lay further off.

    Raises CloudError as hold_readings does, of all gateways together.
    """
    start_us, end_us = (seconds * _US for seconds in _seconds(window))
    columns = [found.times_us for found in answer.series.values()]
    _check_place(columns, (start_us, end_us), what, is_local=is_local, per_s=_US)
    start_us, end_us = start_us - _MARGIN_S * _US, end_us + _MARGIN_S * _US
    held = {name: _cut_grid(found, start_us, end_us) for name, found in answer.series.items()}
    kept = sum(len(found.times_us) for found in held.values())
    return replace(answer, series=held), sum(map(len, columns)) - kept


def _check_place(
    columns: Sequence[Sequence[float]],
    span: tuple[int, int],
    what: str,
    *,
    is_local: bool,
    per_s: int = 1,
) -> None:
    """Raises CloudError where readings, ascending, are of another span; see hold_readings.

    A clock that is wrong by less than half the span leaves most of them inside: that is not told
    from a meter that was silent for a while.
    """
    columns = [times for times in columns if times]
    if not columns:
        return
    start, end = span
    margin = _MARGIN_S * per_s

    def count(first: float, last: float) -> int:
        return sum(bisect_right(times, last) - bisect_left(times, first) for times in columns)

    total, inside = count(-inf, inf), count(start, end)
    early, late = count(start, (start + end) / 2), count((start + end) / 2, end)
    before = total - count(start - margin, inf)
    after = total - count(-inf, end + margin)
    is_beside = (not early and not before and after > late) or (
        not late and not after and before > early
    )
    if not inside or is_beside:
        first_s = min(times[0] for times in columns) / per_s
        raise CloudError(_elsewhere(first_s, total - inside, "readings", what))
    if is_local and inside < total:
        raise CloudError(
            f"{what}: its times have no offset and do not fit: read as UTC, {total - inside} of "
            f"{total} lie outside the span it was asked for."
        )


def _cut_grid(found: GridSeries, start_us: int, end_us: int) -> GridSeries:
    times_us = found.times_us
    rows = slice(bisect_left(times_us, start_us), bisect_right(times_us, end_us))
    if rows == slice(0, len(times_us)):
        return found
    return replace(
        found,
        times_us=times_us[rows],
        voltage=found.voltage[rows],
        frequency=found.frequency[rows],
        unread_us=[time_us for time_us in found.unread_us if start_us <= time_us <= end_us],
    )


def _cut(series: Series, first: int, last: int, window: Window) -> Series:
    """Rows `first` to `last`; without the sum where that is not of those in the window.

    A row at the window's start is of the bucket before it, one behind its end of another window.
    """
    rows = slice(first, last)
    kept = replace(
        series,
        times_s=series.times_s[rows],
        energy=series.energy[rows],
        power=series.power[rows],
        value=series.value[rows],
        actual=series.actual[rows],
    )
    own = series.sum_energy
    inside = slice(*(bisect_right(kept.times_s, edge_s) for edge_s in _seconds(window)))
    rest = fsum(energy for energy in kept.energy[inside] if energy is not None)
    if own is not None and abs(own - rest) > 0.01 * abs(own) + 0.00005 * len(kept.times_s):
        return replace(kept, sum_energy=None)
    return kept


def check_spacing(times_s: Sequence[int], granularity: str, what: str) -> None:
    """Raises CloudError where rows, ascending, are coarser or finer than was asked for.

    By their median distance, from three rows up.
    """
    step_s = bucket_s(granularity)
    count = len(times_s) - 1
    if count + 1 < _FROM_ROWS:
        return
    apart = sorted(map(sub, islice(times_s, 1, None), times_s))
    median_s = apart[(count - 1) // 2]
    if not _FINER * step_s <= median_s <= _COARSER * step_s:
        kind = "finer" if median_s < step_s else "coarser"
        raise CloudError(
            f"{what}: the cloud's rows are {kind} than was asked for: {_duration(median_s)} "
            f"apart, not {_duration(step_s)}."
        )


def _elsewhere(first_s: float, count: int, noun: str, what: str) -> str:
    return (
        f"{what}: the {count} {noun} that the cloud sent lie outside the span it was asked for "
        f"(the first is of {_text(first_s)})."
    )


def _seconds(window: Window) -> tuple[int, int]:
    return int(window.start_utc.timestamp()), int(window.end_utc.timestamp())


def _text(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "no date that there is"


def _duration(seconds: float) -> str:
    for unit_s, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{round(seconds / unit_s)} {unit}"
    return f"{round(seconds)} s"
