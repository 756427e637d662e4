"""How complete a fleet is, in words: what the facts of `status` and `gaps` say to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

Facts = Mapping[str, Any]

RHYTHMS = {
    "minute": "by minute",
    "fifteenminute": "by quarter of an hour",
    "hour": "hourly",
    "bihour": "by two hours",
    "day": "daily",
    "month": "monthly",
}
_NOUNS = {"fifteenminute": "quarters of an hour", "bihour": "double hours"}


def noun(granularity: str) -> str:
    """What buckets are called, several of them."""
    return _NOUNS.get(granularity, f"{granularity}s")


def count(number: int, what: str) -> str:
    """`1 meter`, `12,000 meters`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def describe_status(facts: Facts) -> Iterator[str]:
    """Two lines: what is held, until when it is whole, and how much is known."""
    if not facts["is_held"]:
        yield describe_nothing(facts)
        return
    total = facts["total"]
    whole = day_text(facts["whole_until"], facts["now"])
    some = (
        ""
        if facts["whole_meters"] == total["meters"]
        else (f" for {facts['whole_meters']:,} of {total['meters']:,}")
    )
    yield (
        f"Archive {facts['archive']}: {count(total['meters'], 'meter')}, "
        f"{RHYTHMS[facts['granularity']]} since {facts['since']:%Y-%m-%d}. "
        f"Whole until {whole}{some}."
    )
    buckets = f"{total['expected']:,} {noun(facts['granularity'])}"
    yield f"{_share(total)} of {buckets} known{_rest(total)}."


def describe_nothing(facts: Facts) -> str:
    """One line: that nothing is held of this granularity, and what to do."""
    rhythm, held = RHYTHMS[facts["granularity"]], facts["held"]
    text = f"Archive {facts['archive']}: nothing is held {rhythm}. "
    if held:
        return text + f"It holds {', '.join(held)}: --granularity {held[0]} shows that."
    return text + (f"Fetch some: copper meter usage -7d today --granularity {facts['granularity']}")


def describe_trouble(facts: Facts) -> Iterator[str]:
    """The lines under the table where something should be there and is not."""
    for place, one in enumerate(facts["worst"]):
        kind = f" ({one['type']})" if one["type"] else ""
        yield (
            f"{'Worst:' if place == 0 else '      '} {one['meter_id']}{kind}: {one['lacking']:,} "
            f"{noun(facts['granularity'])} since {day_text(one['since'], facts['now'])}"
        )
    yield from describe_quota(facts)
    yield "Each gap, why it is there and when it is asked for again: copper gaps"


def describe_quota(facts: Facts) -> Iterator[str]:
    """What was spent of the quota and what is left, where the ledger is known."""
    if facts["quota"]:
        spent = ", ".join(f"{one['used']} of {one['limit']}" for one in facts["quota"])
        left = ", ".join(f"{one['left']} of {one['limit']}" for one in facts["quota"])
        yield f"Calls spent: {spent}; left: {left}."


def describe_lack(facts: Facts) -> str:
    """Why `status --check` fails."""
    if not facts["is_held"]:
        return describe_nothing(facts)
    total = facts["total"]
    found = [
        (total["failed"], "failed"),
        (total["never_asked"], "never asked"),
        (total["overdue"], "late"),
        (total["missing"] - total["accepted"], "missing"),
    ]
    parts = ", ".join(f"{number:,} {word}" for number, word in found if number)
    return (
        f"{total['bad']:,} {noun(facts['granularity'])} should be there and are not, at "
        f"{count(total['bad_meters'], 'meter')}: {parts}. copper gaps names them."
    )


def day_text(instant: datetime | None, now: datetime) -> str:
    """`today 05:00`, `Fri 20 Nov 14:00`, with the year where it is another."""
    if instant is None:
        return "never"
    days = (now.date() - instant.date()).days
    time = f"{instant:%H:%M}"
    if days == 0:
        return f"today {time}"
    if days == 1:
        return f"yesterday {time}"
    if timedelta(0) < now - instant < timedelta(days=300):
        return f"{instant:%a} {instant.day} {instant:%b} {time}"
    return f"{instant:%Y-%m-%d} {time}"


def _share(total: Facts) -> str:
    from copper_cli.jobs.status import show_share

    return show_share(total["known_share"]) or "Nothing"


def _rest(total: Facts) -> str:
    accepted = total["accepted"]
    words = [
        (total["to_come"], "to come"),
        (total["late"], "late"),
        (total["missing"] - accepted, "missing"),
        (accepted, "missing and accepted"),
        (total["failed"], "failed"),
        (total["never_asked"], "never asked"),
    ]
    found = ", ".join(f"{number:,} {word}" for number, word in words if number)
    return f"; {found}" if found else ""


def describe_gaps(facts: Facts) -> str:
    """One line under the gaps: how many hours there are of each kind, and of how many."""
    total = facts["total"]
    buckets = f"{total['expected']:,} {noun(facts['granularity'])}"
    more = " There are more gaps than these: --format csv has all." if facts["more"] else ""
    return (
        f"{total['known']:,} of {buckets} of {count(total['meters'], 'meter')} known"
        f"{_rest(total)}.{more}"
    )
