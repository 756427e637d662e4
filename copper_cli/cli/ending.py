"""How a run ended, in words: what a table's facts say to a person. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from copper_cli.filling import Unfilled

Facts = Mapping[str, Any]


def describe_end(facts: Facts, left_out: Mapping[str, int]) -> Iterator[str]:
    """The lines on stderr: what failed, what is done, and last what is late or missing.

    `left_out`: rows that lay outside the span asked for, by what was asked.
    """
    for one in facts.get("failed") or ():
        yield f"{one['id']} failed: {one['reason']}"
    if "done" in facts:
        yield from _describe_done(facts)
    if left_out:
        yield _describe_left_out(left_out)
    if facts.get("changed"):
        yield f"{count(facts['changed'], 'row')} changed in the cloud since."
    if facts.get("withdrawn"):
        rows = count(facts["withdrawn"], "row")
        yield f"{rows} withdrawn by the cloud, which now has no value there; the earlier ones stay."
    if silent := [one["id"] for one in facts.get("empties") or () if not one["reason"]]:
        yield f"Without any data in this range: {_name(silent)}."
    if facts.get("unfilled"):
        yield _describe_unfilled(facts)


def advise(failed: Sequence[Facts], noun: str) -> str:
    """What to do about parts that failed, as the error that ends the run."""
    lasting = sum(1 for one in failed if one.get("lasting"))
    if not lasting:
        advice = "Run the same command again to fetch what is missing."
    elif lasting == len(failed):
        advice = "The same command again would not bring it: see above why."
    else:
        advice = f"Run the same command again to fetch all but {lasting} of them: see above why."
    return f"{count(len(failed), noun)} missing. {advice}"


def count(number: int, noun: str) -> str:
    """`1 meter`, `2 meters`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_done(facts: Facts) -> Iterator[str]:
    kept = f" ({facts['kept']} kept from before)" if facts["kept"] else ""
    waiting = f", {facts['waiting']} still without data" if facts["waiting"] else ""
    come = Unfilled(facts["to_come"]).text()
    left = ", ".join(f"{left} of {limit}" for limit, left in facts["quota_left"].items())
    yield (
        f"{count(facts['done'], facts['noun'])} done{kept}{waiting}, {facts['empty']} empty, "
        f"{len(facts['failed'])} failed{come and f', {come}'}. "
        f"{count(facts['calls'], 'call')} used; quota left: {left}."
    )
    if facts["files"]:
        yield f"Files: {facts['files']} CSV and manifest.json in {facts['folder']}/"
    if facts.get("bundle"):
        yield f"Bundle: {facts['bundle']}"


def _describe_left_out(left_out: Mapping[str, int]) -> str:
    what, *others = left_out
    rows = count(sum(left_out.values()), "row")
    more = f" and {count(len(others), 'other answer')}" if others else ""
    return f"{rows} left out that lay outside the span asked for: {what}{more}."


def _describe_unfilled(facts: Facts) -> str:
    """`8 buckets missing at 07:1: …`, the worst three by name."""
    names = _name([one["id"] for one in facts["unfilled"]])
    text = Unfilled(0, facts["late"], facts["missing"]).text()
    if facts["missing"]:
        why = "the cloud sent no readable amount for them"
        return f"{text} at {names}: {why}. --recheck asks again."
    return f"{text} at {names}: asked for again as they age, or at once with --recheck."


def _name(ids: Sequence[str]) -> str:
    """The first three by name, the others counted."""
    more = f" and {count(len(ids) - 3, 'other')}" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more
