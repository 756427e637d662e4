"""copper cache: info, clear."""

from __future__ import annotations

import click

from copper_cli.cli.groups import ProgramGroup
from copper_cli.cli.running import Run, pass_run


@click.group(cls=ProgramGroup)
def cache() -> None:
    """Answers that this machine keeps as long as the cloud allows."""


@cache.command()
@pass_run
def info(run: Run) -> None:
    """Show where the answers are kept, how many and how large, and what was learned of spans.

    Spans are how much the cloud grants a call: by granularity (in buckets; readings in hours,
    grid in minutes), for all meters of the partner or for one that gets less.

    \b
    Example:
      copper cache info
    """
    from copper_cli.jobs.quota import show_cache, show_spans

    settings = run.settings()
    run.screen.show(show_cache(settings))
    run.screen.show_more(show_spans(settings))
    run.screen.complete()


@cache.command()
@pass_run
def clear(run: Run) -> None:
    """Forget all kept answers of this client id, and what was learned of spans.

    \b
    Example:
      copper cache clear
    """
    from copper_cli.jobs.quota import clear_all

    run.say("Cleared." if clear_all(run.settings()) else "Nothing was kept.")
    run.screen.complete()
