"""What a download would cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from copper_cli.cloud.spans import SpanLimit
from copper_cli.folders.manifest import Folder
from copper_cli.table import Column, Table
from copper_cli.work.context import Context, Output
from copper_cli.work.download import FileJob, judge_part, start_check
from copper_cli.work.outcome import Cost, quota_left

_COLUMNS = (
    Column("Calls", "what"),
    Column("Count", "count"),
    Column("Note", "note"),
)
_FREE = Cost(0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The calls of a download beyond its lists."""

    total: Cost
    """All of it, were nothing held yet; what is held of it."""
    done: int
    """Meters or gateways whose files are all there."""
    open: int
    """Those whose files are to be written."""
    dear: int = 0
    """Calls of the total that are due to what was learned of limits alone."""


def estimate_files(
    context: Context, output: Output, jobs: Sequence[FileJob[Any]], zones: Cost = _FREE
) -> Estimate:
    """What download_files would spend, and finding the `zones`; nothing is written, no call made.

    Raises UsageError where download_files would.
    """
    start_check(context, output, jobs)
    folder = Folder.look(output.folder, stamps=context.archive)
    asked = [job for job in jobs if job.known is None]
    total, done = zones, 0
    with context.archive.glance():
        for job in asked:
            entries = []
            for part in job.parts:
                _, entry = judge_part(context, folder, job, part, output)
                entries.append(entry)
                context.progress.advance()
            if all(entry is not None for entry in entries):
                done += 1
                cost = (job.held_cost or job.cost)()
                total += replace(cost, held=cost.calls)
            else:
                total += job.cost()
    dear = _count_dear(context, asked, total.calls - zones.calls)
    return Estimate(total, done, len(asked) - done, dear)


def _count_dear(context: Context, jobs: Sequence[FileJob[Any]], calls: int) -> int:
    """The calls fewer that it would be, were no limit known."""
    if not context.spans.limits():
        return 0
    with context.spans.ignored():
        return max(0, calls - sum(job.cost().calls for job in jobs))


def estimate_table(context: Context, title: str, noun: str, estimate: Estimate) -> Table:
    """The estimate as people read it; `facts` as programs do."""
    left = quota_left(context)
    total = estimate.total
    to_ask = total.calls - total.held - total.cached
    done_at = datetime.fromtimestamp(context.session.free_at(to_ask)).astimezone()
    done_text = f"{done_at:%a %d %b %H:%M}, if nothing else runs"
    lefts = " and ".join(f"{count} of {limit}" for limit, count in left.items())
    rows: list[tuple[Any, ...]] = [
        ("needed in all", total.calls, _count(estimate.done + estimate.open, noun)),
        ("answered by the cache", total.cached, None),
        ("held already", total.held, f"{_count(estimate.done, noun)} complete"),
        ("to ask", to_ask, f"quota left: {lefts}"),
        ("done by", None, done_text),
    ]
    if estimate.dear:
        note = f"{_describe_limits(context.spans.limits())}; see copper cache info"
        rows.insert(1, ("of them for short answers", estimate.dear, note))
    facts = {
        "calls": total.calls,
        "dear": estimate.dear,
        "cached": total.cached,
        "kept": total.held,
        "to_ask": to_ask,
        "quota_left": left,
        "done_by": done_at,
    }
    return Table(f"Plan: {title}", _COLUMNS, rows, facts)


def _count(number: int, nouns: str) -> str:
    return f"{number} {nouns.removesuffix('s') if number == 1 else nouns}"


def _describe_limits(limits: Sequence[SpanLimit], most: int = 3) -> str:
    """The limits in a few words: `hour: 744 a call; 07:1: 5`."""
    words = [
        f"{one.name}{f' of {one.meter}' if one.meter else ''}: {one.granted} a call"
        for one in limits[:most]
    ]
    return "; ".join(words) + (f" and {len(limits) - most} more" if len(limits) > most else "")
