"""copper status."""

from __future__ import annotations

from typing import Any

import click

from copper_cli.buckets import GRANULARITIES
from copper_cli.cli.completeness import describe_lack, describe_status, describe_trouble
from copper_cli.cli.dates import END_MIDNIGHT, START, Day, settle_span
from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import DURATION, ID


def span_options(command: Any) -> Any:
    """Of which meters, from when to when, of which rows."""
    for name, attrs in (
        (
            "--granularity",
            {
                "type": click.Choice(GRANULARITIES),
                "default": "hour",
                "help": "Of the rows that are looked at.  [default: hour]",
            },
        ),
        (
            "--meter-id",
            {
                "type": ID,
                "metavar": "ID",
                "multiple": True,
                "help": "Only this meter; may be given several times.",
            },
        ),
        (
            "--until",
            {"type": END_MIDNIGHT, "metavar": "DAY", "help": "Up to this day.  [default: now]"},
        ),
        (
            "--since",
            {
                "type": START,
                "metavar": "DAY",
                "help": "From this day on.  [default: the first that is held of any meter]",
            },
        ),
    ):
        command = option(name, **attrs)(command)
    return command


@click.command(cls=ProgramCommand)
@span_options
@option(
    "--by",
    type=click.Choice(("type", "premise", "meter", "day")),
    help="A row each; shown in any case.  [default: type, where something is not as it should be]",
)
@option("--check", is_flag=True, help="End with exit code 6 where something should be there.")
@option(
    "--allow-late",
    metavar="AGE",
    type=DURATION,
    default="2d",
    help="What is late and no older than this is as it should be.  [default: 2d]",
)
@pass_run
def status(
    run: Run,
    since: Day | None,
    until: Day | None,
    meter_id: tuple[str, ...],
    granularity: str,
    by: Any,
    check: bool,
    allow_late: int,
) -> None:
    """Show whether what is held of the fleet is whole, until when, and what of it is not there.

    Two lines where all is well. No call is made: the fleet is what the archive has seen, from the
    first hour that is held of any meter until now.

    \b
    Examples:
      copper status
      copper status --check --allow-late 7d
      copper status --by day --since -30d --format json
    """
    from copper_cli.jobs.status import Question, show_status

    span = settle_span(since, until)
    table = show_status(
        *run.archive_place(),
        Question(granularity, *span, meter_id),
        by=by or "type",
        allow_late_s=allow_late,
        ledger=run.ledger_settings(),
    )
    is_well = table.facts["is_well"]
    run.screen.show_lines(describe_status(table.facts))
    is_shown = table.facts["is_held"] and (by or not is_well)
    if is_shown or run.screen.output_format != "table":
        run.screen.show(table)
    else:
        run.screen.write_table_file(table)
    if table.facts["is_held"] and not is_well:
        run.screen.show_lines(describe_trouble(table.facts))
    if check and not is_well:
        run.screen.fail(describe_lack(table.facts))
