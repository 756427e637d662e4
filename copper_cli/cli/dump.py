"""copper dump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from copper_cli.buckets import BUCKET_S
from copper_cli.cli.dates import LAST_DAY, START, Day, settle_range
from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import download_options, option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ZONE
from copper_cli.layouts import LAYOUTS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


@click.command(cls=ProgramCommand)
@click.argument("name")
@click.argument("start", type=START)
@click.argument("finish", type=LAST_DAY)
@click.argument("granularity", type=click.Choice(tuple(BUCKET_S)))
@option("--timezone", type=ZONE, metavar="ZONE", help="Cut days here, not in each meter's zone.")
@option("--layout", type=click.Choice(LAYOUTS), default="rows", show_default=True)
@download_options
@pass_run
def dump(
    run: Run,
    name: str,
    start: Day,
    finish: Day,
    granularity: str,
    timezone: ZoneInfo | None,
    layout: Any,
    **how: bool,
) -> None:
    """Download START through FINISH as one folder a day under generated/NAME, and zip it.

    \b
    Example:
      copper dump foo 2020-10-01 2020-10-31 minute
    """
    from copper_cli.jobs.dump import DumpRequest, dump_days, estimate_dump

    first, last = settle_range(run, start, finish, one_day=True, zone=timezone)
    request = DumpRequest(name, first, last, granularity, timezone, layout)
    run.download(dump_days, estimate_dump, request, **how)
