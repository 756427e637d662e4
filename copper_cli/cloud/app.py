"""The app endpoints of an individual's account, and its login."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from copper_cli.cloud import parse
from copper_cli.cloud.client import quote_segment
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.token import (
    build_authorize_url,
    exchange_code,
    is_logged_in,
    logout,
)
from copper_cli.records import Instant, Premise

__all__ = [
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

    def fetch_account(self) -> tuple[Any, list[Premise]]:
        """The account as the cloud wrote it (`user`, `premise_list` …), and its premises."""
        state, rows = self._fetch_state()
        return state, parse.parse_premises(rows, with_users=False)

    def fetch_premises(self) -> list[Premise]:
        """The account's premises, in the cloud's order."""
        return self.fetch_account()[1]

    def fetch_instants(self, premise_id: str) -> list[Instant]:
        """What each meter of a premise shows right now, in the cloud's order."""
        return parse.parse_instants(self._fetch_instants(premise_id)[1])

    def fetch_raw_instants(self, premise_id: str) -> Any:
        """The same as the cloud wrote it."""
        return self._fetch_instants(premise_id)[0]

    def _fetch_state(self) -> tuple[Any, list[parse.Row]]:
        return self._fetch_rows(f"{ROOT}/state", "the account", parse.parse_app_page)

    def _fetch_instants(self, premise_id: str) -> tuple[Any, list[parse.Row]]:
        what = f"instant of premise {premise_id}"
        path = f"{ROOT}/instant/{quote_segment(premise_id, 'premise')}"
        return self._fetch_rows(path, what, partial(parse.parse_instant_page, what=what))

    def _fetch_rows(
        self, path: str, what: str, read_page: Callable[[Any], parse.Page]
    ) -> tuple[Any, list[parse.Row]]:
        """The answer as the cloud wrote it, and its rows that can be read."""
        body, page = self._session.get_json(
            path,
            read=lambda body: (body, read_page(body)),
            reuse=lambda found: found[1].unread == 0,
        )
        self._session.note_unread(what, page.unread, page.length)
        return body, page.rows
