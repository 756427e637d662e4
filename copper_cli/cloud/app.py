"""The app endpoints of an individual's account, and its login."""

from __future__ import annotations

from typing import Any

from copper_cli.cloud import parse
from copper_cli.cloud.client import quote_segment
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.token import (
    INDIVIDUAL_CLIENT_ID,
    build_authorize_url,
    exchange_code,
    is_logged_in,
    logout,
)
from copper_cli.records import Instant, Meter, Premise

__all__ = [
    "INDIVIDUAL_CLIENT_ID",
    "AppClient",
    "build_authorize_url",
    "exchange_code",
    "is_logged_in",
    "logout",
]

ROOT = "/api/v2/app"


class AppClient:
    """What the app shows its user. The session must have grant="individual".

    Every method raises what CloudSession.get_json raises.
    """

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    def fetch_state(self) -> Any:
        """The account as the cloud wrote it: `user`, `premise_list` and so on."""
        return self._session.get_json(f"{ROOT}/state")

    def fetch_premises(self) -> list[Premise]:
        """The account's premises, in the cloud's order."""
        return parse.parse_app_premises(self.fetch_state())

    def fetch_meters(self) -> list[Meter]:
        """The account's meters, premise by premise."""
        return parse.parse_app_meters(self.fetch_state())

    def fetch_instants(self, premise_id: str) -> list[Instant]:
        """What each meter of a premise shows right now, in the cloud's order."""
        body = self._fetch_raw_instants(premise_id)
        return parse.parse_instants(body, f"instant of premise {premise_id}")

    def fetch_everything(self) -> dict[str, Any]:
        """The account's state and each premise's instant readings, as the cloud wrote them."""
        state = self.fetch_state()
        premises = [premise.id for premise in parse.parse_app_premises(state)]
        return {"state": state, "instant": {p: self._fetch_raw_instants(p) for p in premises}}

    def _fetch_raw_instants(self, premise_id: str) -> Any:
        return self._session.get_json(f"{ROOT}/instant/{quote_segment(premise_id, 'premise')}")
