"""What the ledger and the cache of this machine hold; no call is made."""

from __future__ import annotations

import time
from datetime import datetime

from copper_cli.cloud.quota import LimitUsage, open_ledger
from copper_cli.cloud.spans import forget_spans, look_at_spans
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
    """One row: where the answers lie, how many, how many still fresh, how large.

    The facts hold what was learned of spans, as `show_spans` has it.
    """
    from copper_cli.cloud.cache import cache_info

    info = cache_info(settings)
    columns = (
        Column("File", "file"),
        Column("Answers", "answers"),
        Column("Fresh", "fresh"),
        Column("Bytes", "bytes"),
    )
    spans = show_spans(settings)
    keys = [column.key for column in spans.columns]
    facts = {"spans": [dict(zip(keys, row, strict=True)) for row in spans.rows]}
    row = (str(info.path), info.entries, info.fresh, info.size_bytes)
    return Table("Cache", columns, [row], facts)


def show_spans(settings: Settings) -> Table:
    """A row a limit: what the host grants a partner in one call, and which meter less than that."""
    book = look_at_spans(settings, time.time)
    columns = (
        Column("Host", "host"),
        Column("Partner", "partner"),
        Column("Spans Of", "name"),
        Column("Meter", "meter", lambda meter: meter or "all"),
        Column("Granted", "granted"),
        Column("Refused", "refused"),
        Column("Learned", "learned"),
        Column("Meters Seen", "seen"),
    )
    rows = [
        (
            book.host,
            book.partner,
            one.name,
            one.meter or None,
            one.granted,
            one.refused,
            datetime.fromtimestamp(one.learned_s).astimezone().replace(microsecond=0),
            one.seen or None,
        )
        for one in book.limits()
    ]
    return Table("Longest Spans", columns, rows)


def clear_all(settings: Settings) -> bool:
    """Forgets answers and spans; True where there was something. Raises LocalError."""
    from copper_cli.cloud.cache import clear_cache

    return any([clear_cache(settings), forget_spans(settings)])


def _row(usage: LimitUsage) -> tuple[object, ...]:
    free = [instant.astimezone().replace(microsecond=0) for instant in usage.next_free_utc]
    first, last = (free[0], free[-1]) if free else (None, None)
    return limit_text(usage.limit), usage.used, usage.left, first, last, dict(usage.by_command)


def _by_command(counts: dict[str, int]) -> str:
    return ", ".join(f"{command} {count}" for command, count in counts.items())
