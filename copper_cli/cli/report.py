"""copper report: monthly, health, partner."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from copper_cli.cli.groups import ProgramGroup
from copper_cli.cli.options import DRY_RUN, option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import MONTH

_NOTES = "readme.txt"


@click.group(cls=ProgramGroup)
def report() -> None:
    """Reports for partners: a month's use, a week's health, the bundle of both lists."""


@report.command()
@click.argument("month", type=MONTH, metavar="YYYY-MM")
@option("--include-per-meter-sum", is_flag=True, help="Add up each meter too: one call a meter.")
@DRY_RUN
@pass_run
def monthly(run: Run, month: date, include_per_meter_sum: bool, dry_run: bool) -> None:
    """Count homes and meters of a month, and what they used; the notes go to readme.txt.

    \b
    Examples:
      copper report monthly 2021-09
      copper report monthly 2021-09 --include-per-meter-sum --csv-output-file september.csv
    """
    from copper_cli.jobs.monthly import estimate_monthly, report_monthly

    run.output().refuse_table([_NOTES])
    if dry_run:
        run.screen.show_estimate(
            estimate_monthly(run.context(), month, include_per_meter_sum=include_per_meter_sum)
        )
        return
    found = report_monthly(run.context(), month, include_per_meter_sum=include_per_meter_sum)
    run.screen.write_legend(found.legend, _NOTES)
    run.screen.show(found.table)
    run.screen.show_legend(found.legend)
    run.screen.finish(found.table)


@report.command()
@pass_run
def health(run: Run) -> None:
    """Show seven days of every meter and gateway: . up, / degraded, X down, ? changed.

    \b
    Example:
      copper report health --csv-output-file health.csv
    """
    from copper_cli.jobs.health import report_health

    run.screen.show(report_health(run.context()))
    run.screen.complete()


@report.command()
@click.argument("handle")
@pass_run
def partner(run: Run, handle: str) -> None:
    """Bundle premises and health of the partner HANDLE into a ZIP, and print the counts.

    HANDLE is used as --profile, where there is such a profile.

    \b
    Example:
      copper report partner acme
    """
    from copper_cli.jobs.partner import bundle_name, report_partner

    context = run.context(profile=handle)
    run.output().refuse_table([bundle_name(context, handle)])
    table = report_partner(context, handle, run.screen.folder)
    run.screen.show(table)
    run.say(f"Bundle: {Path(table.facts['bundle'])}")
    if table.facts["missing_emails"]:
        run.screen.fail(
            f"{table.facts['missing_emails']} emails are still missing; try again later."
        )
    run.screen.complete()
