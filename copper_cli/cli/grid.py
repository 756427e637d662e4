"""copper grid: latest, readings."""

from __future__ import annotations

import click

from copper_cli.cli.dates import LAST_DAY, START, Day, settle_range
from copper_cli.cli.groups import ProgramGroup
from copper_cli.cli.options import download_options, option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ID


@click.group(cls=ProgramGroup)
def grid() -> None:
    """Voltage and frequency as the gateways measure them."""


@grid.command()
@pass_run
def latest(run: Run) -> None:
    """Show the newest voltage and frequency of every gateway.

    \b
    Example:
      copper grid latest --csv-output-file grid.csv
    """
    from copper_cli.jobs.grid import list_grid_latest

    run.screen.show(list_grid_latest(run.context()))
    run.screen.complete()


@grid.command()
@click.argument("start", type=START)
@click.argument("end", type=LAST_DAY)
@option("--premise-id", metavar="ID", type=ID, help="Only the gateways of this premise.")
@option("--gateway-id", metavar="ID", type=ID, help="Only this gateway.")
@download_options
@pass_run
def readings(
    run: Run,
    start: Day,
    end: Day,
    premise_id: str | None,
    gateway_id: str | None,
    **how: bool,
) -> None:
    """Download voltage and frequency of START through END's whole day, one CSV file a gateway.

    \b
    Example:
      copper grid readings 2022-01-20 2022-01-21 --gateway-id 84cca8322ae4
    """
    from copper_cli.jobs.grid import (
        GridRequest,
        download_grid_readings,
        estimate_grid_readings,
    )

    first, last = settle_range(
        run, start, end, one_day=True, premise_id=premise_id, gateway_id=gateway_id
    )
    request = GridRequest(first, last, premise_id, gateway_id)
    run.download(download_grid_readings, estimate_grid_readings, request, **how)
