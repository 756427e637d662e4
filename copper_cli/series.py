"""Interval rows put together: answers to several windows become one series. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import fsum, inf

from copper_cli.buckets import BUCKET_S, MEAN_MONTH_S
from copper_cli.filling import FINAL_S, Gap, GapFinder, over_by
from copper_cli.plan import Cut, SeriesPlan
from copper_cli.records import Series, Window

EMPTY = Series((), (), (), (), (), None)
_REGISTER_STEP = 0.02
"""Two registers of two decimals differ from a finer amount by at most this."""
_PLACES = 4
"""Decimals of the cloud's own amounts."""
SUM_PLACES = 9
"""Beyond these lie only the traces of adding binary fractions."""


@dataclass(slots=True)
class _Rows:
    """Columns that grow."""

    times_s: list[int] = field(default_factory=list)
    energy: list[float | None] = field(default_factory=list)
    power: list[float | None] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    actual: list[int | float | None] = field(default_factory=list)

    def columns(self) -> tuple[list[float | None], ...]:
        return (self.energy, self.power, self.value, self.actual)

    def extend(self, other: Series, first: int) -> None:
        """Append the rows of `other` from index `first` on."""
        self.times_s.extend(other.times_s[first:])
        for mine, theirs in zip(self.columns(), _columns(other), strict=True):
            mine.extend(theirs[first:])

    def put(self, other: Series, index: int) -> None:
        """Insert one row, or let it fill what is not known of the one for the same instant."""
        time_s = other.times_s[index]
        at = bisect_left(self.times_s, time_s)
        theirs = [column[index] for column in _columns(other)]
        if at == len(self.times_s) or self.times_s[at] != time_s:
            self.times_s.insert(at, time_s)
            for mine, cell in zip(self.columns(), theirs, strict=True):
                mine.insert(at, cell)
            return
        if self.energy[at] is None:  # a row's power belongs to its own energy
            self.energy[at], self.power[at] = theirs[:2]
        for register, cell in zip((self.value, self.actual), theirs[2:], strict=True):
            register[at] = cell if register[at] is None else register[at]

    def remove(self, index: int) -> None:
        del self.times_s[index]
        for column in self.columns():
            del column[index]

    def insert_unknown(self, time_s: int) -> int:
        """Insert a row of which only the instant is known; its index."""
        index = bisect_left(self.times_s, time_s)
        self.times_s.insert(index, time_s)
        for column in self.columns():
            column.insert(index, None)
        return index

    def find(self, time_s: int) -> int | None:
        """The index of the row at this instant."""
        at = bisect_left(self.times_s, time_s)
        return at if at < len(self.times_s) and self.times_s[at] == time_s else None

    def series(self, sum_energy: float | None, meter_type: str | None) -> Series:
        return Series(
            self.times_s,
            self.energy,
            self.power,
            self.value,
            self.actual,
            sum_energy,
            meter_type,
        )


def merge_series(answers: Sequence[Series]) -> Series:
    """One series of all rows, ascending, each instant once: the row with values stays.

    `sum_energy` is the sum of the answers' own sums; None where one that holds amounts gave
    none, since a part would pass for the whole.
    """
    if len(answers) == 1:
        return answers[0]
    rows = _Rows()
    for answer in answers:
        known = rows.times_s[-1] if rows.times_s else None
        first = 0 if known is None else bisect_right(answer.times_s, known)
        for index in range(first):
            rows.put(answer, index)
        rows.extend(answer, first)
    total = _add_sums([(a.sum_energy, _is_filled(a)) for a in answers])
    return rows.series(total, _first_type(answers))


def is_plain(plan: SeriesPlan) -> bool:
    """True where the answers to a plan's windows need nothing but to be put in a row."""
    return not plan.cuts and plan.granularity != "month"


def join_windows(plan: SeriesPlan, answers: Sequence[Series], beyond: Series = EMPTY) -> Series:
    """The series of a whole plan from one answer a window, in the plan's order.

    Rows outside the plan are left out. The odd bucket at each clock change holds what was
    used in it: the cloud's own where it counts along the local day, else from the registers
    at its two ends, else what the window's sum leaves. A month is put right the same way
    where the cloud's differs from its registers. `beyond` is an answer from the plan's end on,
    which brings the register there where the last window's own rows miss it.
    """
    answers = [_clip_to(window, a) for window, a in zip(plan.windows, answers, strict=True)]
    merged = merge_series(answers)
    if beyond.times_s:
        merged = replace(merge_series([merged, beyond]), sum_energy=merged.sum_energy)
    merged = clip_series(merged, plan.start_s, plan.end_s)
    if is_plain(plan):
        return merged
    rows = _Rows()
    rows.extend(merged, 0)
    ends = {int(w.end_utc.timestamp()): (w, a) for w, a in zip(plan.windows, answers, strict=True)}
    for cut in plan.cuts:
        stray = rows.find(cut.stray_s)
        if stray is not None and cut.previous_s < cut.stray_s < cut.at_s:
            rows.remove(stray)
        _mend_cut(rows, cut, plan.granularity, *ends[cut.at_s])
    if plan.granularity == "month":
        _mend_months(rows, plan.start_s, merged.sum_energy)
    return rows.series(merged.sum_energy, merged.meter_type)


def clip_series(series: Series, start_s: int, end_s: int) -> Series:
    """The rows from `start_s` to `end_s`, both included; the sum stays the cloud's."""
    first, last = bisect_left(series.times_s, start_s), bisect_right(series.times_s, end_s)
    if first == 0 and last == len(series.times_s):
        return series
    return _slice(series, first, last)


def has_values(series: Series) -> bool:
    """True where any row says anything; a sum alone is no evidence of a meter that reports."""
    return any(v is not None for v in series.energy) or any(v is not None for v in series.value)


@dataclass(slots=True)
class Survey:
    """What a series holds, seen in one reading."""

    rows: int = 0
    """All of them."""
    has_values: bool = False
    """Any row says anything."""
    gaps: Sequence[Gap] = ()
    """Buckets of the span without an amount, null or absent."""
    first_s: int | None = None
    """End of the bucket in which the meter was created, where that lies inside."""
    amounts: int = 0
    """Rows of the span that hold one; that at its start is of the bucket before."""
    sum_rows: float = 0.0
    """The amounts of the span that are known, added up."""
    sum_gross: float = 0.0
    """The same without their signs."""
    sum_cloud: float | None = None
    """The cloud's own sum."""

    def disagrees(self) -> bool:
        """True where the cloud's sum is not that of the rows.

        Rows are rounded, and clouds take the sum from registers of two decimals: a hundredth of
        what moved is let pass, and the step of a register.
        """
        if self.sum_cloud is None or not self.has_values:
            return False
        slack = self.rows * 0.00005 + _REGISTER_STEP + 0.01 * self.sum_gross
        return abs(self.sum_cloud - self.sum_rows) > slack + 1e-9

    def falls_short(self) -> bool:
        """True where no bucket is seen to be unfilled, and yet the rows lack much of the sum."""
        if self.gaps or not self.disagrees() or self.sum_gross > abs(self.sum_rows) + 1e-9:
            return False
        lack = abs(self.sum_cloud or 0) - abs(self.sum_rows)
        return lack > max(0.1 * abs(self.sum_cloud or 0), 10 * _REGISTER_STEP)

    def gaps_at(self, now_s: float) -> list[Gap]:
        """The gaps as they count now.

        The bucket in which a meter was created is waited for like others; that it never got an
        amount is no loss, since the meter was not there for all of it.
        """
        if not self.gaps or self.first_s is None or self.gaps[0].until_s < self.first_s:
            return list(self.gaps)
        head, *rest = self.gaps
        if head.after_s >= self.first_s:
            return list(self.gaps)
        is_final = self.first_s <= now_s - FINAL_S
        found = [Gap(head.after_s, self.first_s, 1, told=not is_final)]
        if head.count > 1:
            found.append(Gap(self.first_s, head.until_s, head.count - 1))
        return [*found, *rest]


def survey_series(
    pieces: Iterable[Series],
    plan: SeriesPlan,
    created_utc_s: float | None = None,
    sum_cloud: float | None = None,
    now_s: float = inf,
) -> Survey:
    """What of a plan's buckets is there; none are looked for from before a meter was created.

    The pieces ascend; `sum_cloud` is the cloud's own sum over the plan. A bucket that ends after
    `now_s` is not over: its amount is that of a part, so that it is still to come.
    """
    found = Survey(sum_cloud=sum_cloud)
    grid, start_s = plan.buckets(), plan.start_s
    if created_utc_s is not None and created_utc_s > start_s:
        start_s = grid.floor(created_utc_s)
        found.first_s = grid.after(start_s)
    finder = GapFinder(grid, start_s)
    net, gross = [], []
    for piece in pieces:
        finder.feed(piece.times_s, over_by(now_s, piece.times_s, piece.energy))
        first = bisect_right(piece.times_s, plan.start_s)
        amounts = [e for e in islice(piece.energy, first, None) if e is not None]
        found.amounts += len(amounts)
        net.append(fsum(amounts))
        gross.append(fsum(map(abs, amounts)))
        found.rows += len(piece.times_s)
        found.has_values = found.has_values or has_values(piece)
    found.gaps = finder.end(plan.end_s)
    found.sum_rows, found.sum_gross = fsum(net), fsum(gross)
    return found


def sum_rows(series: Series, start_s: int) -> float | None:
    """The energy of all rows after `start_s`; None where one of them is not known."""
    rows = zip(series.times_s, series.energy, strict=True)
    known = [energy for time_s, energy in rows if time_s > start_s]
    if not known or any(energy is None for energy in known):
        return None
    return round(fsum(energy for energy in known if energy is not None), SUM_PLACES)


def _columns(series: Series) -> tuple[Sequence[float | None], ...]:
    return (series.energy, series.power, series.value, series.actual)


def _slice(series: Series, first: int, last: int | None) -> Series:
    return replace(
        series,
        times_s=series.times_s[first:last],
        energy=series.energy[first:last],
        power=series.power[first:last],
        value=series.value[first:last],
        actual=series.actual[first:last],
    )


def _first_type(answers: Sequence[Series]) -> str | None:
    return next((answer.meter_type for answer in answers if answer.meter_type), None)


def _is_filled(answer: Series) -> bool:
    """True where a row holds an amount of the answer's own window.

    A first row alone is that of the bucket before the window: no sum holds it.
    """
    return any(energy is not None for energy in answer.energy[1:])


def _add_sums(answers: Sequence[tuple[float | None, bool]]) -> float | None:
    """The sum of all, each with whether it is filled."""
    sums = [total for total, _ in answers if total is not None]
    if not sums or any(total is None and filled for total, filled in answers):
        return None
    return round(fsum(sums), SUM_PLACES)


def _clip_to(window: Window, answer: Series) -> Series:
    return clip_series(answer, int(window.start_utc.timestamp()), int(window.end_utc.timestamp()))


def _mend_cut(rows: _Rows, cut: Cut, granularity: str, window: Window, answer: Series) -> None:
    """Put the bucket that ends at a cut right, where the cloud's own does not fit it."""
    if answer.times_s and answer.times_s[-1] == cut.at_s and answer.energy[-1] is not None:
        return  # the window before the cut reached it: the cloud follows the local day
    at, before = rows.find(cut.at_s), rows.find(cut.previous_s)
    if at is None:
        if before is None:
            return
        at = rows.insert_unknown(cut.at_s)
    energy = rest = None
    if before is not None:
        energy = _register_difference(rows, before, at)
    if any(later is not None for later in rows.energy[at:]):
        # a later value shows that the bucket is filled
        rest = _remainder(answer, int(window.start_utc.timestamp()), cut, granularity)
    if rest is not None and (energy is None or _has_jumped(energy, rest)):
        energy = rest
    if energy is None and rows.energy[at] is None:
        return
    _set_energy(rows, at, energy, cut.at_s - cut.previous_s)


def _mend_months(rows: _Rows, start_s: int, own_sum: float | None) -> None:
    """A cloud may take every month for 30 days; its registers tell.

    Not where the months add up to the cloud's own sum: then it is the register that counts
    otherwise.
    """
    known = rows.energy[bisect_right(rows.times_s, start_s) :]
    total = fsum(energy for energy in known if energy is not None)
    if known and own_sum is not None and abs(total - own_sum) <= 0.0001 * len(known) + 1e-9:
        return
    for at in range(1, len(rows.times_s)):
        by_register = _register_difference(rows, at - 1, at)
        own = rows.energy[at]
        if by_register is None or own is None or _has_jumped(by_register, own):
            continue
        if abs(by_register - own) > _REGISTER_STEP:
            _set_energy(rows, at, by_register, rows.times_s[at] - rows.times_s[at - 1])


def _has_jumped(by_register: float, told: float) -> bool:
    """True where what a register moved cannot be what the cloud tells otherwise of a bucket.

    A meter is replaced by one that stands higher, or its register counts in another unit. What
    is told may itself be of a bucket a little too long or short, or of a rounded sum.
    """
    return abs(by_register - told) > 0.25 * max(by_register, abs(told)) + 1


def _register_difference(rows: _Rows, before: int, at: int) -> float | None:
    """What the register moved; None where one is not known or it was set back."""
    a, b = rows.value[before], rows.value[at]
    if a is None or b is None or b < a:
        return None
    return round(b - a, _PLACES)


def _remainder(answer: Series, start_s: int, cut: Cut, granularity: str) -> float | None:
    """What the window's own sum leaves after its rows up to the odd bucket, if all are there."""
    if answer.sum_energy is None:
        return None
    first = bisect_right(answer.times_s, start_s)
    last = bisect_right(answer.times_s, cut.previous_s)
    part = [energy for energy in answer.energy[first:last] if energy is not None]
    if len(part) != round((cut.previous_s - start_s) / BUCKET_S.get(granularity, MEAN_MONTH_S)):
        return None
    return round(answer.sum_energy - sum(part), _PLACES)


def _set_energy(rows: _Rows, at: int, energy: float | None, seconds: int) -> None:
    rows.energy[at] = energy
    rows.power[at] = None if energy is None else round(energy / (seconds / 3600), _PLACES)
