"""copper account: summary, dump, login, logout; `copper-client` is the same."""

from __future__ import annotations

import copy
from datetime import datetime

import click

from copper_cli.cli.groups import PROGRAM_SETTINGS, ProgramGroup, version_option
from copper_cli.cli.help import make_help
from copper_cli.cli.running import Run, pass_run


@click.group(cls=ProgramGroup, invoke_without_command=True)
@click.pass_context
def account(ctx: click.Context) -> None:
    """Show what the meters of your own home measure now. Logs in where needed.

    \b
    Examples:
      copper account login
      copper account
      copper account dump > account.json
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(summary)


@account.command()
@pass_run
def summary(run: Run) -> None:
    """Show each meter's present value: the same as `copper account` alone.

    \b
    Example:
      copper account summary --format json
    """
    from copper_cli.jobs.account import show_account

    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    table = show_account(run.app(), now)
    run.screen.show(table)
    run.screen.finish(table)


@account.command()
@pass_run
def dump(run: Run) -> None:
    """Print everything the cloud holds of the account, as raw JSON.

    \b
    Example:
      copper account dump > account.json
    """
    from copper_cli.jobs.account import dump_account

    run.refuse_table_file()
    everything, failed = dump_account(run.app())
    run.screen.print_json(everything)
    run.screen.end(failed, "premise")


@account.command()
@pass_run
def login(run: Run) -> None:
    """Log in with a browser: open the address, then paste the code it ends at.

    \b
    Example:
      copper account login
    """
    run.log_in()
    run.say("Logged in.")


@account.command()
@pass_run
def logout(run: Run) -> None:
    """Forget the login kept on this machine.

    \b
    Example:
      copper account logout
    """
    from copper_cli.cloud.app import logout as forget

    run.say("Logged out." if forget(run.settings(individual=True)) else "Nobody was logged in.")


def _as_client(command: click.Command) -> click.Command:
    """The same command, told of under the other program's name."""
    found = copy.copy(command)
    found.help = (command.help or "").replace("copper account", "copper-client")
    return found


def _make_client() -> ProgramGroup:
    commands = [*map(_as_client, account.commands.values()), make_help("copper-client", "login")]
    return ProgramGroup(
        name="copper-client",
        commands=commands,
        callback=account.callback,
        help=_as_client(account).help,
        invoke_without_command=True,
        context_settings=PROGRAM_SETTINGS,
    )


copper_client = version_option()(_make_client())
