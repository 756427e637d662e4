"""An account's premises, asked one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from copper_cli.cloud.parse import parse_premises
from copper_cli.errors import CloudError, UnreachableError
from copper_cli.jobs.account import dump_account, show_account
from copper_cli.records import Instant, Premise


class App:
    """Three premises, of which the second cannot be asked."""

    def __init__(self, error: CloudError) -> None:
        self.error = error
        self.asked: list[str] = []

    def fetch_premises(self) -> list[Premise]:
        return parse_premises([{"id": name} for name in "abc"], with_users=False)

    def fetch_account(self) -> tuple[dict[str, Any], list[Premise]]:
        return {}, self.fetch_premises()

    def fetch_instants(self, premise_id: str) -> list[Instant]:
        self.asked.append(premise_id)
        if premise_id == "b":
            raise self.error
        return []

    fetch_raw_instants = fetch_instants


@pytest.mark.parametrize("ask", [lambda app: show_account(app, "now"), dump_account])
def test_without_a_cloud_no_other_premise_is_asked(ask: Any) -> None:
    """A summary of what came before would look like all there is."""
    app = App(UnreachableError("cannot reach x"))
    with pytest.raises(UnreachableError):
        ask(app)
    assert app.asked == ["a", "b"]


def test_a_premise_that_fails_stops_no_other() -> None:
    app = App(CloudError("b is worn out"))
    found = show_account(app, "now")
    assert app.asked == ["a", "b", "c"]
    assert [one["id"] for one in found.facts["failed"]] == ["b"]
