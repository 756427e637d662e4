"""copper gaps."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click

from copper_cli.cli.completeness import count, describe_gaps, describe_nothing, noun
from copper_cli.cli.dates import Day, settle_span
from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.status import span_options
from copper_cli.cli.types import DURATION
from copper_cli.errors import UsageError

_TABLE_ROWS = 500
"""A person reads no more; the other forms have all."""
_PICTURE_AROUND = 6
"""Lines that the picture leaves to what stands around it."""
_WORDS = ("to come", "late", "missing", "failed", "never asked")


@click.command(cls=ProgramCommand)
@span_options
@option(
    "--min",
    "least",
    metavar="LENGTH",
    type=DURATION,
    default="0h",
    help="Gaps of this length (2h) or more.",
)
@option(
    "--why",
    type=click.Choice(_WORDS),
    multiple=True,
    help="Only these; may be given several times.",
)
@option("--accept", is_flag=True, help="Wait no more for what is missing (with --why late: late).")
@option("--accepted", is_flag=True, help="Show what was accepted.")
@option("--reopen", is_flag=True, help="Take back what was accepted.")
@pass_run
def gaps(
    run: Run,
    since: Day | None,
    until: Day | None,
    meter_id: tuple[str, ...],
    granularity: str,
    least: int,
    why: Any,
    accept: bool,
    accepted: bool,
    reopen: bool,
) -> None:
    """Show each gap: of which meter, from when to when, why, last asked, and asked again at.

    The worst meter first. To come is what is younger than two days, late up to thirty, missing
    beyond, failed where the call failed. No call is made. What is accepted as missing no longer
    fails `copper status --check`; the next answer that holds it counts all the same.

    \b
    Examples:
      copper gaps --min 2h --why late --why missing
      copper gaps --meter-id 07:57277300 --since 2026-03-01 --accept
      copper gaps --accepted
      copper gaps --format csv > gaps.csv
    """
    from copper_cli.jobs.gaps import accept_gaps, reopen_gaps, show_gaps
    from copper_cli.jobs.status import Question

    if accept + accepted + reopen > 1:
        raise UsageError("--accept, --accepted and --reopen exclude each other.")
    question = Question(granularity, *settle_span(since, until), meter_id)
    place = run.archive_place()
    if accept:
        number, meters = accept_gaps(*place, question, why=why, min_s=least)
        run.say(
            f"{number:,} {noun(granularity)} at {count(meters, 'meter')} accepted as missing; "
            "copper gaps --reopen takes that back."
        )
        return
    if reopen:
        meters = reopen_gaps(*place, question)
        run.say(f"What was accepted at {count(meters, 'meter')} is waited for again.")
        return
    table = show_gaps(
        *place,
        question,
        why=why,
        min_s=least,
        accepted=accepted,
        limit=_TABLE_ROWS
        if run.screen.output_format == "table" and not run.screen.csv_output_file
        else None,
        picture=_picture_size(run),
    )
    is_held = table.facts["is_held"]
    if is_held or run.screen.output_format != "table":
        run.screen.show(table)
    run.screen.show_lines(table.facts.get("picture", ()))
    run.say(describe_gaps(table.facts) if is_held else describe_nothing(table.facts))


def _picture_size(run: Run) -> tuple[int, int] | None:
    """How many meters fit on the terminal, and how wide it is; None where stdout is none."""
    if run.screen.output_format != "table" or not sys.stdout.isatty():
        return None
    columns, lines = shutil.get_terminal_size()
    return max(1, min(lines - _PICTURE_AROUND, 50)), columns
