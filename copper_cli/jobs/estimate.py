"""What a download would cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.folder import FileJob, judge_part, start_check
from copper_cli.jobs.outcome import Cost, quota_left
from copper_cli.table import Column, Table
from copper_cli.write.manifest import Folder

_COLUMNS = (
    Column("Calls", "what"),
    Column("Count", "count"),
    Column("Note", "note"),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The calls of a download beyond its lists."""

    total: Cost
    """All of it, were nothing there yet."""
    kept: int
    """Calls saved by files that are already there, and by what unfinished ones have so far."""
    done: int
    """Meters or gateways whose files are all there."""
    open: int
    """Those that have to be asked."""


def estimate_files(context: Context, output: Output, jobs: Sequence[FileJob]) -> Estimate:
    """What download_files would spend; nothing is written, no call is made.

    Raises UsageError where download_files would.
    """
    start_check(context, output, jobs)
    folder = Folder.look(output.folder)
    total, kept, done = Cost(0, 0), 0, 0
    for job in jobs:
        is_done = True
        for part in job.parts:
            _, entry = judge_part(context, folder, part, overwrite=output.overwrite)
            is_done = is_done and entry is not None
            context.progress.advance()
        # To look for ten thousand answers takes 3 s; what is done needs none.
        cost = job.cost(not is_done)
        kept += cost.calls if is_done else cost.drafted
        done += is_done
        total += cost
    return Estimate(total, kept, done, len(jobs) - done)


def estimate_table(context: Context, title: str, noun: str, estimate: Estimate) -> Table:
    """The estimate as people read it; `facts` as programs do."""
    left = quota_left(context)
    to_ask = estimate.total.calls - estimate.kept - estimate.total.cached
    done_at = datetime.fromtimestamp(context.session.free_at(to_ask)).astimezone()
    done_text = f"{done_at:%a %d %b %H:%M}, if nothing else runs"
    lefts = " and ".join(f"{count} of {limit}" for limit, count in left.items())
    rows: list[tuple[Any, ...]] = [
        ("needed in all", estimate.total.calls, f"{estimate.done + estimate.open} {noun}"),
        ("answered by the cache", estimate.total.cached, None),
        ("already on disk", estimate.kept, f"{estimate.done} {noun} complete"),
        ("to ask", to_ask, f"quota left: {lefts}"),
        ("done by", None, done_text),
    ]
    facts = {
        "calls": estimate.total.calls,
        "cached": estimate.total.cached,
        "kept": estimate.kept,
        "to_ask": to_ask,
        "quota_left": left,
        "done_by": done_at,
    }
    return Table(f"Plan: {title}", _COLUMNS, rows, facts)
