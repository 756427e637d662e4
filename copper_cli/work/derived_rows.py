"""Longer buckets added up from shorter ones that the archive holds whole."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from math import fsum

from copper_cli.archive import Archive, SeriesKey
from copper_cli.buckets import BUCKET_S
from copper_cli.plan import SeriesPlan
from copper_cli.records import Series, SeriesKind
from copper_cli.series import SUM_PLACES

DERIVABLE = ("bihour", "day", "month")
"""Granularities whose buckets hold whole hours wherever clocks change by hours."""
_SOURCES = ("hour", "fifteenminute", "minute")
"""Of what they are added up, the fewest rows first."""
_POWER_PLACES = 4


def find_source(
    archive: Archive, meter_id: str, kind: SeriesKind, plan: SeriesPlan
) -> SeriesKey | None:
    """Shorter buckets that are held whole over a plan and end where its do; None without."""
    if not plan.windows or plan.granularity not in DERIVABLE:
        return None
    ends = [plan.start_s, *_ends(plan)]
    for granularity in _SOURCES:
        step_s = BUCKET_S[granularity]
        for key in archive.keys_of(meter_id, kind, granularity):
            if not key.grid.isdecimal() or any((at - int(key.grid)) % step_s for at in ends):
                continue
            if archive.is_whole(key, (plan.start_s, plan.end_s)):
                return key
    return None


def derive_rows(archive: Archive, source: SeriesKey, plan: SeriesPlan) -> Series:
    """The rows of a plan, each the sum of the source's rows in its bucket; the sum is theirs.

    A local day has the 23 or 25 hours that it has. Registers are those at the bucket's end. The
    bucket before the plan is not in it.
    """
    ends = list(_ends(plan))
    parts: list[list[float]] = [[] for _ in ends]
    registers: dict[int, tuple[float | None, int | float | None]] = {}
    wanted = set(ends)
    for piece in archive.rows(source, plan.start_s + 1, plan.end_s):
        columns = zip(piece.times_s, piece.energy, piece.value, piece.actual, strict=True)
        for time_s, energy, value, actual in columns:
            if energy is not None:
                parts[bisect_left(ends, time_s)].append(energy)
            if time_s in wanted:
                registers[time_s] = value, actual
    starts = [plan.start_s, *ends[:-1]]
    step_s = BUCKET_S[source.granularity]
    energies = [
        # Rows that are not there, whatever is told of them, are no use of nothing.
        round(fsum(part), SUM_PLACES) if len(part) == (end - start) // step_s else None
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]
    hours = [(end - start) / 3600 for start, end in zip(starts, ends, strict=True)]
    power = [
        None if energy is None else round(energy / hour, _POWER_PLACES)
        for energy, hour in zip(energies, hours, strict=True)
    ]
    known = [energy for energy in energies if energy is not None]
    nothing = (None, None)
    return Series(
        ends,
        energies,
        power,
        [registers.get(end, nothing)[0] for end in ends],
        [registers.get(end, nothing)[1] for end in ends],
        round(fsum(known), SUM_PLACES) if len(known) == len(energies) else None,
    )


def _ends(plan: SeriesPlan) -> Iterator[int]:
    """Where the buckets of a plan end."""
    grid, at_s = plan.buckets(), plan.start_s
    while at_s < plan.end_s:
        at_s = grid.after(at_s)
        yield at_s
