"""copper archive: info, check, compact, forget, remember, move."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from copper_cli.cli.groups import ProgramGroup
from copper_cli.cli.options import option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ID, PathType
from copper_cli.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=ProgramGroup)
def archive() -> None:
    """What the cloud has answered so far, kept on this machine: look at it, check it, mend it.

    None of these makes a call. The archive is that of --archive, else the default one of the
    enterprise that is exported or in the profile.
    """


def _ids(command: F) -> F:
    """Which meters and premises: `meter_id` and `premise_id`, several each."""
    for name, help_text in (
        ("--premise-id", "This premise and what stands there; may be given several times."),
        ("--meter-id", "This meter; may be given several times."),
    ):
        command = option(name, metavar="ID", type=ID, multiple=True, help=help_text)(command)
    return command


@archive.command()
@pass_run
def info(run: Run) -> None:
    """Show where the archive is, whose, since when, what it holds and how much is not published.

    Other programs see what is published: the Parquet files. This one reads both.

    \b
    Examples:
      copper archive info
      copper archive info --format json
    """
    from copper_cli.jobs.archive import show_archive

    table, kinds = show_archive(*run.archive_place())
    run.screen.show(table)
    run.screen.show_more(kinds)
    run.screen.complete()


@archive.command()
@option("--repair", is_flag=True, help="Mend what can be; what cannot is fetched by the next run.")
@pass_run
def check(run: Run, repair: bool) -> None:
    """Check every file against what is known of it: digests, rows, what they cover, sums.

    Ends with exit code 6 where something is wrong and not mended.

    \b
    Examples:
      copper archive check
      copper archive check --repair
    """
    from copper_cli.jobs.archive import check_archive

    table = check_archive(*run.archive_place(), repair=repair)
    run.screen.show(table)
    if left := table.facts["wrong"]:
        more = "" if repair else " `copper archive check --repair` mends what can be."
        run.screen.fail(f"{left} of these {'is' if left == 1 else 'are'} wrong.{more}")
    run.screen.complete()


@archive.command()
@pass_run
def compact(run: Run) -> None:
    """Publish all that waits as Parquet, and give the room that nothing needs back to the disk.

    \b
    Example:
      copper archive compact
    """
    from copper_cli.jobs.archive import compact_archive

    lines, is_all = compact_archive(*run.archive_place())
    for line in lines:
        run.say(line)
    if not is_all:
        run.screen.fail("Not all could be published; `copper archive check` says why.")
    run.screen.complete()


@archive.command()
@_ids
@option("--yes", is_flag=True, help="Do not ask; needed where nobody is there to be asked.")
@pass_run
def forget(run: Run, meter_id: Sequence[str], premise_id: Sequence[str], yes: bool) -> None:
    """Forget a home that left: gone from every file, and no list brings it back.

    With a premise go the meters and gateways that stand there. Folders of downloads that name it
    are told and not touched. `copper archive remember` lets lists name it again.

    \b
    Examples:
      copper archive forget --premise-id 6c4cb3a4-9d2a-4f10-a2d1-0a8d9e5a3f61
      copper archive forget --meter-id 07:57277300 --yes
    """
    from copper_cli.jobs.archive import forget_home

    _check_named(meter_id, premise_id)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked whether to forget it; add --yes.")

    def confirm(told: Sequence[str]) -> bool:
        for line in told:
            run.say(line)
        return yes or click.confirm("Forget this for good?", err=True)

    lines = forget_home(
        *run.archive_place(),
        run.cache_folder(),
        meter_ids=meter_id,
        premise_ids=premise_id,
        confirm=confirm,
    )
    for line in lines or ["Nothing was forgotten."]:
        run.say(line)
    if lines:
        run.screen.complete()


@archive.command()
@_ids
@pass_run
def remember(run: Run, meter_id: Sequence[str], premise_id: Sequence[str]) -> None:
    """Let lists name again what was forgotten; its rows are fetched when they are asked for.

    \b
    Example:
      copper archive remember --meter-id 07:57277300
    """
    from copper_cli.jobs.archive import remember_home

    _check_named(meter_id, premise_id)
    count = remember_home(*run.archive_place(), meter_ids=meter_id, premise_ids=premise_id)
    if not count:
        raise UsageError("none of these was forgotten here.")
    run.say(f"{count} {'id' if count == 1 else 'ids'} may be named again.")
    run.screen.complete()


@archive.command()
@click.argument("folder", metavar="DIR", type=PathType(file_okay=False, path_type=Path))
@pass_run
def move(run: Run, folder: Path) -> None:
    """Move the archive to DIR, whole or not at all.

    \b
    Example:
      copper archive move /data/acme
    """
    from copper_cli.jobs.archive import move as move_it

    path, owner = run.archive_place()
    move_it(path, owner, folder, run.say)
    run.say(
        f"The archive is in {folder} now. Name it from here on: COPPER_ARCHIVE, --archive, or "
        "`archive` in the profile."
    )
    run.screen.complete()


def _check_named(meter_ids: Sequence[str], premise_ids: Sequence[str]) -> None:
    if not meter_ids and not premise_ids:
        raise UsageError("name what is meant with --meter-id or --premise-id.")
