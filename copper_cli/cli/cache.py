"""copper cache: info, clear."""

from __future__ import annotations

import click

from copper_cli.cli.options import ProgramGroup
from copper_cli.cli.running import Run, pass_run


@click.group(cls=ProgramGroup)
def cache() -> None:
    """Answers that this machine keeps as long as the cloud allows."""


@cache.command()
@pass_run
def info(run: Run) -> None:
    """Show where the answers are kept, how many and how large.

    \b
    Example:
      copper cache info
    """
    from copper_cli.jobs.quota import show_cache

    run.show(show_cache(run.settings()))
    run.complete()


@cache.command()
@pass_run
def clear(run: Run) -> None:
    """Forget all kept answers of this client id.

    \b
    Example:
      copper cache clear
    """
    from copper_cli.cloud.cache import clear_cache

    run.say("Cleared." if clear_cache(run.settings()) else "Nothing was kept.")
    run.complete()
