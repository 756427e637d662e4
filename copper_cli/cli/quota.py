"""copper quota."""

from __future__ import annotations

import click

from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.running import Run, pass_run


@click.command(cls=ProgramCommand)
@pass_run
def quota(run: Run) -> None:
    """Show the calls used and left, by which command, and when the next come free.

    \b
    Examples:
      copper quota
      copper quota --format json
    """
    from copper_cli.jobs.quota import show_quota

    run.screen.show(show_quota(run.settings()))
    run.screen.complete()
