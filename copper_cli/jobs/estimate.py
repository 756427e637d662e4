"""What a download would cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from copper_cli.errors import UsageError
from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.folder import FileJob, is_kept
from copper_cli.jobs.outcome import Cost, quota_left
from copper_cli.records import Column, Table
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
    """Calls saved by files that are already there."""
    done: int
    """Meters or gateways whose files are all there."""
    open: int
    """Those that have to be asked."""


def estimate_files(context: Context, output: Output, jobs: Sequence[FileJob]) -> Estimate:
    """What download_files would spend; nothing is written, no call is made.

    Raises UsageError where download_files would.
    """
    folder = Folder.look(output.folder)
    total, kept, done = Cost(0, 0), 0, 0
    for job in jobs:
        for part in job.parts:
            verdict = folder.check(part.name, part.question)
            if verdict in ("other question", "stranger") and not output.overwrite:
                raise UsageError(folder.refuse_message(part.name, part.question))
        cost = job.cost()
        if all(is_kept(context, folder, part) for part in job.parts):
            kept += cost.calls
            done += 1
            cost = Cost(cost.calls, 0)
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
