"""copper premise, bulk, gateway."""

from __future__ import annotations

import click

from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ID


@click.command(cls=ProgramCommand)
@option("--with-users", is_flag=True, help="Add the users' email addresses.")
@option(
    "--incomplete", is_flag=True, help="Only premises without any meter; adds the users' emails."
)
@option(
    "--hydrate",
    is_flag=True,
    help="Ask again, ten times at most, until no email is missing; adds the users' emails.",
)
@option("--with-ids", is_flag=True, help="Add the ids of the meters: one call more, their list.")
@pass_run
def premise(run: Run, with_users: bool, incomplete: bool, hydrate: bool, with_ids: bool) -> None:
    """List premises, oldest first.

    \b
    Examples:
      copper premise --csv-output-file premises.csv
      copper premise --with-users --format json
    """
    from copper_cli.jobs.listing import HYDRATE_TRIES, list_premises

    table = list_premises(
        run.context(),
        with_users=with_users or hydrate,
        incomplete=incomplete,
        with_ids=with_ids,
        tries=HYDRATE_TRIES if hydrate else 1,
    )
    run.screen.show(table, "premises")
    if hydrate and table.facts["missing_emails"]:
        run.screen.fail(
            f"{table.facts['missing_emails']} emails are still missing; try again later."
        )
    run.screen.complete()


@click.command(cls=ProgramCommand)
@option("--detailed", is_flag=True, help="Add address, city and postal code: two lists more.")
@option(
    "--with-ids",
    is_flag=True,
    help="Add the premise's id: one call more, the meter list, unless --detailed asks for it.",
)
@pass_run
def bulk(run: Run, detailed: bool, with_ids: bool) -> None:
    """Show the newest reading of every meter heard recently, in standard units.

    \b
    Examples:
      copper bulk --csv-output-file generated/output.csv
      copper bulk --detailed
    """
    from copper_cli.jobs.listing import list_bulk

    run.screen.show(list_bulk(run.context(), detailed=detailed, with_ids=with_ids), "meters")
    run.screen.complete()


@click.command(cls=ProgramCommand)
@click.argument("gateway_id", metavar="[ID]", type=ID, required=False)
@pass_run
def gateway(run: Run, gateway_id: str | None) -> None:
    """List gateways; with ID, show one with every field it has.

    \b
    Examples:
      copper gateway --csv-output-file gateways.csv
      copper gateway 84cca8322ae4
    """
    from copper_cli.jobs.listing import list_gateways, show_gateway

    if gateway_id is None:
        run.screen.show(list_gateways(run.context()), "gateways")
    else:
        run.screen.show(show_gateway(run.context(), gateway_id))
    run.screen.complete()
