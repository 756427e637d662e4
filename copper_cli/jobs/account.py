"""An individual's own account: what each meter shows now."""

from __future__ import annotations

from copper_cli.cloud.app import AppClient
from copper_cli.table import Column, Table

_COLUMNS = (
    Column("Premise Name", "premise_name"),
    Column("Meter ID", "meter_id"),
    Column("Meter Type", "meter_type"),
    Column("Current Value", "current_value"),
    Column("Time Received", "time_received"),
)


def show_account(app: AppClient, now_text: str) -> Table:
    """A row a meter of each premise, with its present power."""
    rows = [
        (premise.name, instant.meter_id, instant.meter_type, instant.power, instant.updated_at)
        for premise in app.fetch_premises()
        for instant in app.fetch_instants(premise.id)
    ]
    return Table(f"Summary Table as of {now_text}", _COLUMNS, rows)
