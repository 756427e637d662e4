"""The partner bundle: premises with users and a week's health, zipped, and the counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from copper_cli.files.bundle import write_bundle
from copper_cli.files.names import check_name
from copper_cli.jobs.health import report_health
from copper_cli.jobs.listing import HYDRATE_TRIES, list_premises
from copper_cli.render.tables import render_csv
from copper_cli.table import Column, Table
from copper_cli.work.context import Context

MOBILE_TAG = "has_mobile_app"
_FAMILIES = (("electric", "power"), ("gas", "gas"), ("water", "water"))
_COLUMNS = (Column("Statistic", "statistic"), Column("Count", "count"))


def report_partner(
    context: Context, handle: str, folder: Path, *, raw_cells: bool = False
) -> Table:
    """The counts; `facts["bundle"]` is the path of the ZIP.

    It is `folder`/HANDLE.reports.DATE.zip and holds premises.HANDLE.DATE.csv and
    health_history.HANDLE.DATE.csv.

    Asks for the premises until no email is missing, ten times at most.
    """
    today = f"{context.today():%Y%m%d}"
    bundle = folder / bundle_name(context, handle)
    premises = list_premises(context, with_users=True, tries=HYDRATE_TRIES)
    health = report_health(context)
    context.progress.start("files", 2, "zipping")
    write_bundle(
        bundle,
        {
            f"premises.{handle}.{today}.csv": render_csv(premises, raw_cells=raw_cells),
            f"health_history.{handle}.{today}.csv": render_csv(health, raw_cells=raw_cells),
        },
        context.progress.advance,
    )
    context.progress.start("", 0, "reading lists")
    facts = {"bundle": str(bundle), "missing_emails": premises.facts["missing_emails"]}
    return Table(f"Partner report {handle}", _COLUMNS, list(_counts(context, premises)), facts)


def bundle_name(context: Context, handle: str) -> str:
    """What the ZIP of today is called. Raises UsageError for a handle that can name no file."""
    check_name(handle, "HANDLE")
    return f"{handle}.reports.{context.today():%Y%m%d}.zip"


def _counts(context: Context, premises: Table) -> Iterable[Sequence[Any]]:
    """Counted from the lists' states themselves: `inactive` is not `active`."""
    tags = [column.key for column in premises.columns].index("tags")
    gateways = [g.state for g in context.client.fetch_gateways()]
    meters = context.client.fetch_meters(with_history=True)
    yield "prems created", len(premises.rows)
    yield "mobile users", sum(MOBILE_TAG in row[tags] for row in premises.rows)
    yield "total gateways", len(gateways)
    yield "active gateways", gateways.count("active")
    yield "disconnected gateways", gateways.count("down")
    families = (("", ""), *((f"{name} ", prefix) for name, prefix in _FAMILIES))
    for name, prefix in families:
        states = [m.state for m in meters if m.type.startswith(prefix)]
        yield f"total {name}meters", len(states)
        yield f"connected {name}meters", states.count("connected")
        yield f"other {name}meters", len(states) - states.count("connected")
