"""What one meter used over a span, when its rows are not wanted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from copper_cli.buckets import BUCKET_S
from copper_cli.errors import CloudError
from copper_cli.plan import SeriesPlan
from copper_cli.records import Meter, SeriesKind, SumSource
from copper_cli.series import SUM_PLACES, sum_rows
from copper_cli.work.context import Asking, Context
from copper_cli.work.fetch_rows import count_calls, fetch_rows, find_lacks, hold_rows
from copper_cli.work.outcome import Cost

KIND: SeriesKind = "usage"
_FINER = ("hour", "fifteenminute", "minute")
"""Of which rows a sum may be made, the fewest first."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a meter used."""

    total: float | None
    """In the standard unit of its type; None where there is no amount at all."""
    source: SumSource
    """Where that is from."""


def fetch_sum(context: Context, meter: Meter, plan: SeriesPlan) -> Used:
    """What a meter used over a plan.

    The cloud's own sum for exactly this span where the archive has one, at whatever granularity;
    else that of finer rows which are held whole; else the cloud is asked. Raises CloudError where
    the cloud gives rows of which one is unknown, and no sum; and what the cloud raises.
    """
    held = find_held_sum(context, meter, plan)
    if held is not None:
        return held
    # All of it at once: a sum of parts may be had of none of them.
    fetch_rows(context, meter, KIND, plan, Asking(fresh=True))
    rows = hold_rows(context, meter.id, KIND, plan)
    total, source = rows.sum(plan.start_s, plan.end_s)
    if total is not None and source is not None:
        return Used(total, source)
    series = rows.clip(plan.start_s, plan.end_s)
    first = bisect_right(series.times_s, plan.start_s)
    if all(energy is None for energy in series.energy[first:]):
        return Used(None, "rows")
    total = sum_rows(series, plan.start_s)
    if total is None:
        raise CloudError(f"usage of meter {meter.id}: the cloud gives no sum, and not every row.")
    return Used(total, "rows")


def fetch_meter_sum(context: Context, asked: tuple[Meter, SeriesPlan]) -> Used:
    """The same for a meter with its plan."""
    return fetch_sum(context, *asked)


def find_held_sum(context: Context, meter: Meter, plan: SeriesPlan) -> Used | None:
    """The sum as far as it needs no call; None where it does."""
    if not plan.windows:
        return None
    archive, span = context.archive, (plan.start_s, plan.end_s)
    found = archive.find_sum(meter.id, KIND, span, now_s=context.now())
    if found is not None and found[1] is not None:
        return Used(found[1], "cloud")
    if not find_lacks(context, meter.id, KIND, plan):
        total, source = hold_rows(context, meter.id, KIND, plan).sum(*span)
        if total is not None and source is not None:
            return Used(total, source)
    for granularity in _FINER:
        step_s = BUCKET_S[granularity]
        for key in archive.keys_of(meter.id, KIND, granularity):
            if not key.grid.isdecimal() or any((at - int(key.grid)) % step_s for at in span):
                continue
            if archive.is_whole(key, span):
                amounts = [
                    energy
                    for piece in archive.rows(key, plan.start_s + 1, plan.end_s)
                    for energy in piece.energy
                    if energy is not None
                ]
                return Used(round(fsum(amounts), SUM_PLACES), "rows")
    return None


def tell_added_up(context: Context, found: Iterable[Used]) -> None:
    """Say how many sums are not the cloud's own."""
    sources = [one.source for one in found if one.total is not None]
    added = sources.count("rows")
    if added:
        context.progress.say(
            f"{added} of {len(sources)} sums are added up from rows that are held."
        )


def count_sum_calls(context: Context, meter: Meter, plan: SeriesPlan) -> Cost:
    """What fetch_sum would cost; no call is made."""
    cost = count_calls(context, meter.id, KIND, plan, Asking(fresh=True))
    if find_held_sum(context, meter, plan) is not None:
        return Cost(cost.calls, held=cost.calls)
    return cost
