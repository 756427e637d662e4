"""What the ledger and the cache of this machine hold; no call is made."""

from __future__ import annotations

from copper_cli.cloud.quota import LimitUsage, open_ledger
from copper_cli.config import Settings, limit_text
from copper_cli.table import Column, Table


def show_quota(settings: Settings) -> Table:
    """A row a limit: calls used and left, when the next come free, and who made them.

    While the cloud's own word holds all calls back (429), until when; whatever is left.
    """
    ledger = open_ledger(settings)
    try:
        usage = ledger.usage()
    finally:
        ledger.close()
    columns = (
        Column("Limit", "limit"),
        Column("Used", "used"),
        Column("Left", "left"),
        Column("Next Free", "next_free"),
        Column("All Free", "all_free"),
        Column("Used By", "used_by", _by_command),
        Column("Held Until", "held_until"),
    )
    held = usage.held_until_utc.astimezone() if usage.held_until_utc else None
    until = held and held.replace(microsecond=0)
    rows = [(*_row(limit), until) for limit in usage.limits]
    facts = {"held_until": held}
    return Table("Quota", columns, rows, facts)


def show_cache(settings: Settings) -> Table:
    """One row: where the answers lie, how many, how many still fresh, how large."""
    from copper_cli.cloud.cache import cache_info

    info = cache_info(settings)
    columns = (
        Column("File", "file"),
        Column("Answers", "answers"),
        Column("Fresh", "fresh"),
        Column("Bytes", "bytes"),
    )
    return Table("Cache", columns, [(str(info.path), info.entries, info.fresh, info.size_bytes)])


def _row(usage: LimitUsage) -> tuple[object, ...]:
    free = [instant.astimezone().replace(microsecond=0) for instant in usage.next_free_utc]
    first, last = (free[0], free[-1]) if free else (None, None)
    return limit_text(usage.limit), usage.used, usage.left, first, last, dict(usage.by_command)


def _by_command(counts: dict[str, int]) -> str:
    return ", ".join(f"{command} {count}" for command, count in counts.items())
