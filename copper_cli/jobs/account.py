"""An individual's own account: what each meter shows now, and all that the cloud holds of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from copper_cli.cloud.app import AppClient
from copper_cli.errors import CloudError, UnreachableError
from copper_cli.records import Premise
from copper_cli.table import Column, Table
from copper_cli.work.outcome import tell_failure

T = TypeVar("T")

_COLUMNS = (
    Column("Premise Name", "premise_name"),
    Column("Meter ID", "meter_id"),
    Column("Meter Type", "meter_type"),
    Column("Current Value", "current_value"),
    Column("Time Received", "time_received"),
)


def show_account(app: AppClient, now_text: str) -> Table:
    """A row a meter of each premise, with its present power.

    A premise that cannot be asked stops no other: `facts["failed"]` says so.
    """
    found, failed = _ask_each(app.fetch_premises(), app.fetch_instants)
    rows = [
        (premise.name, instant.meter_id, instant.meter_type, instant.power, instant.updated_at)
        for premise, instants in found
        for instant in instants
    ]
    facts = {"failed": failed, "noun": "premise"} if failed else {}
    return Table(f"Summary Table as of {now_text}", _COLUMNS, rows, facts)


def dump_account(app: AppClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The account's state and each premise's instant readings, as the cloud wrote them.

    Beside it the premises that could not be asked; their readings are left out.
    """
    state, premises = app.fetch_account()
    found, failed = _ask_each(premises, app.fetch_raw_instants)
    return {"state": state, "instant": {p.id: answer for p, answer in found}}, failed


def _ask_each(
    premises: Sequence[Premise], ask: Callable[[str], T]
) -> tuple[list[tuple[Premise, T]], list[dict[str, Any]]]:
    """What each answers, and those that failed; CloudError where all did, or none can be asked."""
    found: list[tuple[Premise, T]] = []
    errors: list[tuple[Premise, CloudError]] = []
    for premise in premises:
        try:
            found.append((premise, ask(premise.id)))
        except UnreachableError:
            raise  # the next premise would find no cloud either
        except CloudError as error:
            errors.append((premise, error))
    if errors and not found:
        raise errors[0][1]
    return found, [tell_failure(p.id, str(error), error.lasting) for p, error in errors]
