"""What is known of which span: ranges that never overlap, ascending. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from operator import is_not, sub

from copper_cli.archive.keys import Covered, SeriesKey, Span, State
from copper_cli.buckets import BUCKET_S, DAY_S, Grid, count_buckets
from copper_cli.filling import FINAL_S, TO_COME_S, Gap, GapFinder, is_due

KNOWN_ASKED_S = 28 * DAY_S
"""When what is known was asked for is kept in steps of this, so that neighbours join."""


def coarse(asked_s: int) -> int:
    """When what is known was asked for, as it is kept."""
    return asked_s - asked_s % KNOWN_ASKED_S


# What an answer says


def survey(
    times_s: Sequence[int],
    energy: Sequence[float | None],
    grid: Grid,
    span: Span,
    asked_s: int,
    since_s: int | None = None,
) -> list[Covered]:
    """The ranges of a span after an answer with these rows, all of which lie in it.

    Nothing is looked for in buckets that end up to `since_s`: they count as known.
    """
    begin_s = span[0]
    if since_s is not None and since_s > begin_s:
        begin_s = max(begin_s, min(grid.floor(since_s), span[1]))
    step = BUCKET_S.get(grid.granularity)
    runs = list(_runs(times_s, energy, step))
    if step is not None and _is_even(grid, span, step):
        phase_s = grid.edges[0] % step
        if all(times_s[start] % step == phase_s for start, _, _ in runs):
            bounds = [(times_s[start] - step, times_s[stop - 1], one) for start, stop, one in runs]
            return _survey_even(bounds, begin_s, span, asked_s, Ruler(step, phase_s))
    finder = GapFinder(grid, begin_s)
    nulls: list[Span] = []
    for start, stop, is_filled in runs:
        if is_filled:
            finder.feed(times_s[start:stop], energy[start:stop])
        else:
            nulls.append((grid.floor(times_s[start] - 1), times_s[stop - 1]))
    return _survey_gaps(finder.end(span[1]), nulls, span, asked_s, grid)


def _is_even(grid: Grid, span: Span, step: int) -> bool:
    """True where all buckets of a span are of one length."""
    edges = grid.edges
    return (
        edges[0] <= span[0] <= span[1] <= edges[-1]
        and not grid.odd
        and all((edge - edges[0]) % step == 0 for edge in edges)
    )


def _survey_even(
    runs: Iterable[tuple[int, int, bool]], begin_s: int, span: Span, asked_s: int, ruler: Ruler
) -> list[Covered]:
    """The same as of gaps, fast: a day may be null here and there in hundreds of places."""
    found: list[Covered] = []

    def add(start_s: int, end_s: int, state: State) -> None:
        if start_s < end_s:
            at_s = coarse(asked_s) if state == "known" else asked_s
            found.append(Covered(start_s, end_s, state, at_s, ruler.count((start_s, end_s))))

    add(span[0], begin_s, "known")
    at_s = begin_s
    for start_s, end_s, is_filled in runs:
        if end_s > at_s:
            add(at_s, start_s, "absent")
            add(max(at_s, start_s), end_s, "known" if is_filled else "null")
            at_s = end_s
    add(at_s, span[1], "absent" if ruler.count((at_s, span[1])) else "known")
    return join(found)


def _survey_gaps(
    gaps: Iterable[Gap], nulls: Sequence[Span], span: Span, asked_s: int, grid: Grid
) -> list[Covered]:
    found: list[Covered] = []
    null_ends = [until_s for _, until_s in nulls]
    at_s, known_s = span[0], coarse(asked_s)
    for gap in gaps:
        after_s, until_s = max(gap.after_s, at_s), min(gap.until_s, span[1])
        if after_s > at_s:
            found.append(Covered(at_s, after_s, "known", known_s, _count(grid, at_s, after_s)))
        inside = islice(nulls, bisect_right(null_ends, after_s), None)
        found += _split_gap(grid, (after_s, until_s), inside, asked_s)
        at_s = until_s
    if at_s < span[1]:
        found.append(Covered(at_s, span[1], "known", known_s, _count(grid, at_s, span[1])))
    return join(found)


def survey_instants(
    has_rows: bool, span: Span, asked_s: int, unread: int, *, is_doubtful: bool = False
) -> list[Covered]:
    """The ranges of a span after an answer of readings: they reach the cloud within two days."""
    start_s, end_s = span
    if unread or is_doubtful:
        return [Covered(start_s, end_s, "null", asked_s, 0, unread)]
    closed_s = min(end_s, max(start_s, asked_s - TO_COME_S)) if has_rows else start_s
    found = [
        Covered(start_s, closed_s, "known", coarse(asked_s), 0),
        Covered(closed_s, end_s, "absent", asked_s, 0),
    ]
    return [one for one in found if one.start_s < one.end_s]


def _runs(
    times_s: Sequence[int], energy: Sequence[float | None], step: int | None
) -> Iterator[tuple[int, int, bool]]:
    """Rows that follow one another on the grid, all with an amount or all without."""
    marks = bytes(map(is_not, energy, repeat(None)))
    for start, stop in _stretches(times_s, step):
        at = start
        while at < stop:
            is_filled = marks[at] == 1
            until = marks.find(0 if is_filled else 1, at, stop)
            until = stop if until < 0 else until
            yield at, until, is_filled
            at = until


def _stretches(times_s: Sequence[int], step: int | None) -> Iterator[tuple[int, int]]:
    """Rows that are a step apart."""
    start = 0
    if step is None:
        yield from ((at, at + 1) for at in range(len(times_s)))
        return
    first, last = (times_s[0], times_s[-1]) if times_s else (0, 0)
    if times_s and list(times_s) != list(range(first, last + 1, step)):
        steps = list(map(sub, times_s[1:], times_s))
        for at, distance in enumerate(steps, 1):
            if distance != step:
                yield start, at
                start = at
    if times_s:
        yield start, len(times_s)


def _split_gap(grid: Grid, gap: Span, nulls: Iterable[Span], asked_s: int) -> Iterator[Covered]:
    """What of a gap the cloud sent null for, and what it sent no row for."""
    at_s, end_s = gap
    for span in nulls:
        if span[0] >= end_s:
            break
        start_s, until_s = max(span[0], at_s), min(span[1], end_s)
        if until_s <= start_s or not _count(grid, start_s, until_s):
            continue
        if start_s > at_s:
            yield Covered(at_s, start_s, "absent", asked_s, _count(grid, at_s, start_s))
        yield Covered(start_s, until_s, "null", asked_s, _count(grid, start_s, until_s))
        at_s = until_s
    if at_s < end_s:
        yield Covered(at_s, end_s, "absent", asked_s, _count(grid, at_s, end_s))


def _count(grid: Grid, after_s: int, until_s: int) -> int:
    """Buckets between; of rows beside the grid by their distance, as filling counts them."""
    if grid.holds(after_s) and grid.holds(until_s):
        return grid.count(after_s, until_s)
    return count_buckets(until_s - after_s, grid.granularity)


# Ranges cut and put together


@dataclass(frozen=True, slots=True)
class Ruler:
    """Counts the buckets of a part of a range."""

    step_s: int | None
    """The length of all buckets, None where they differ."""
    phase_s: int = 0
    """Where they end after a whole bucket since 1970 UTC."""
    grid: Grid | None = None
    """Where they end, as far as it goes."""

    def clip(self, found: Covered, start_s: int, end_s: int) -> Covered:
        """What of a range lies between two instants that are in it."""
        if (start_s, end_s) == (found.start_s, found.end_s):
            return found
        count = self._rank(found, end_s) - self._rank(found, start_s)
        return replace(found, start_s=start_s, end_s=end_s, buckets=max(0, count))

    def count(self, span: Span, length_s: int = DAY_S) -> int:
        """How many buckets end in a span; of about a length where they differ."""
        if self.step_s is None:
            return max(1, round((span[1] - span[0]) / length_s))
        start_s, end_s = span
        return (end_s - self.phase_s) // self.step_s - (start_s - self.phase_s) // self.step_s

    def _rank(self, found: Covered, at_s: int) -> int:
        """How many buckets of a range end up to an instant."""
        if not found.buckets or at_s == found.start_s:
            return 0
        if at_s == found.end_s:
            return found.buckets
        if self.step_s is not None:
            count = self.count((found.start_s, at_s))
        elif self.grid and self._holds(found.start_s) and self._holds(at_s):
            count = self.grid.count(found.start_s, at_s)
        elif self.grid and self._holds(at_s) and self._holds(found.end_s):
            count = found.buckets - self.grid.count(at_s, found.end_s)
        else:
            share = (at_s - found.start_s) / (found.end_s - found.start_s)
            count = round(found.buckets * share)
        return min(max(count, 0), found.buckets)

    def _holds(self, at_s: int) -> bool:
        assert self.grid is not None
        return self.grid.edges[0] <= at_s <= self.grid.edges[-1]


def ruler_of(key: SeriesKey, grid: Grid | None = None) -> Ruler:
    """How the buckets of a series are counted; `grid` helps where their lengths differ."""
    step_s = BUCKET_S.get(key.granularity)
    if step_s is None or not (key.grid == "" or key.grid.isdecimal()):
        return Ruler(None, grid=grid)
    return Ruler(step_s, int(key.grid or 0))


def clip(covered: Iterable[Covered], span: Span, ruler: Ruler) -> list[Covered]:
    """The ranges within a span."""
    found = []
    for one in covered:
        start_s, end_s = max(one.start_s, span[0]), min(one.end_s, span[1])
        if start_s < end_s:
            found.append(ruler.clip(one, start_s, end_s))
    return found


def without(covered: Iterable[Covered], span: Span, ruler: Ruler) -> list[Covered]:
    """The ranges outside a span."""
    found = []
    for one in covered:
        if one.end_s <= span[0] or one.start_s >= span[1]:
            found.append(one)
            continue
        if one.start_s < span[0]:
            found.append(ruler.clip(one, one.start_s, span[0]))
        if one.end_s > span[1]:
            found.append(ruler.clip(one, span[1], one.end_s))
    return found


def put(covered: Sequence[Covered], fresh: Sequence[Covered], ruler: Ruler) -> list[Covered]:
    """The fresh ranges, which fill a span, over others; what was known stays known."""
    span = fresh[0].start_s, fresh[-1].end_s
    known = [one for one in clip(covered, span, ruler) if one.state == "known"]
    found = without(covered, span, ruler)
    for one in fresh:
        if one.state == "known":
            found.append(one)
            continue
        kept = clip(known, (one.start_s, one.end_s), ruler)
        at_s = one.start_s
        for other in kept:
            if at_s < other.start_s:
                found.append(ruler.clip(one, at_s, other.start_s))
            found.append(other)
            at_s = other.end_s
        if at_s < one.end_s:
            found.append(ruler.clip(one, at_s, one.end_s))
    return join(found)


def join(covered: Iterable[Covered]) -> list[Covered]:
    """The same, ascending, neighbours that tell the same as one."""
    found: list[Covered] = []
    for one in sorted(covered, key=lambda one: one.start_s):
        if found and found[-1].end_s == one.start_s and _tell(found[-1]) == _tell(one):
            buckets = found[-1].buckets + one.buckets
            found[-1] = replace(found[-1], end_s=one.end_s, buckets=buckets)
        else:
            found.append(one)
    return found


def states(covered: Iterable[Covered]) -> list[tuple[int, int, State]]:
    """Who is in which state, whenever it was asked for."""
    found: list[tuple[int, int, State]] = []
    for one in covered:
        if found and found[-1][1:] == (one.start_s, one.state):
            found[-1] = found[-1][0], one.end_s, one.state
        else:
            found.append((one.start_s, one.end_s, one.state))
    return found


def newly_known(before: Iterable[Covered], now: Sequence[Covered]) -> list[Span]:
    """Where the cloud once had nothing and now has amounts."""
    found = []
    for one in before:
        if one.state not in ("null", "absent"):
            continue
        for other in now:
            start_s, end_s = max(one.start_s, other.start_s), min(one.end_s, other.end_s)
            if other.state == "known" and start_s < end_s:
                found.append((start_s, end_s))
    return found


def _tell(one: Covered) -> tuple[object, ...]:
    # What could not be read of a span is counted once: such a range joins no other.
    return one.state, one.asked_s, one.unread and one.start_s


# What to ask for


def lacking(
    covered: Sequence[Covered],
    span: Span,
    ruler: Ruler,
    *,
    now_s: float,
    recheck: bool = False,
) -> list[Span]:
    """What of a span the cloud is to be asked for."""
    found: list[Span] = []
    at_s = span[0]
    for one in clip(covered, span, ruler):
        _add(found, at_s, one.start_s)
        since_s = _asks_from(one, ruler, now_s, recheck)
        if since_s is not None:
            _add(found, since_s, one.end_s)
        at_s = one.end_s
    _add(found, at_s, span[1])
    return found


def _asks_from(one: Covered, ruler: Ruler, now_s: float, recheck: bool) -> int | None:
    """From when on a range is to be asked for, None where it is not."""
    if one.state == "known":
        return None
    if one.state == "failed" or recheck:
        return one.start_s
    if not one.buckets:
        return _asks_instants_from(one, now_s)
    gap = Gap(one.start_s, one.end_s, one.buckets)
    if not is_due([gap], one.asked_s, now_s):
        return None
    if ruler.step_s is None:
        return one.start_s
    # What had become final when it was last asked for is not due. In steps, else each day would
    # leave a range of its own behind.
    since_s = coarse(int(min(one.asked_s, now_s)) - FINAL_S)
    since_s -= (since_s - ruler.phase_s) % ruler.step_s
    return max(one.start_s, since_s)


def _asks_instants_from(one: Covered, now_s: float) -> int | None:
    """The same for readings: what was young when it was asked for is asked by each run."""
    closed_s = min(one.end_s, max(one.start_s, int(one.asked_s) - TO_COME_S))
    old, young = Gap(closed_s - 1, closed_s, 1), Gap(closed_s, one.end_s, 0)
    if one.start_s < closed_s and is_due([old], one.asked_s, now_s):
        return one.start_s
    if closed_s < one.end_s and is_due([young], one.asked_s, now_s):
        return closed_s
    return None


def _add(found: list[Span], start_s: int, end_s: int) -> None:
    if start_s >= end_s:
        return
    if found and found[-1][1] == start_s:
        found[-1] = found[-1][0], end_s
    else:
        found.append((start_s, end_s))
