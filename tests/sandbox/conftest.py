"""A local cloud for a test, and a client so small that it can hide nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from copper_cli.sandbox import Sandbox, SandboxConfig

AUDIENCE = "https://api.copperlabs.com"
NOW = datetime(2021, 2, 1, 7, 0, tzinfo=UTC)


class Caller:
    """Asks a cloud with a token of its enterprise client."""

    def __init__(self, cloud: Sandbox) -> None:
        self.cloud = cloud
        self.session = requests.Session()
        self.session.trust_env = False

    def login(self) -> Caller:
        answer = self.session.post(
            self.cloud.url + "/oauth/token",
            json={
                "grant_type": "client_credentials",
                "client_id": self.cloud.config.client_id,
                "client_secret": self.cloud.config.client_secret,
                "audience": AUDIENCE,
            },
            timeout=10,
        )
        assert answer.status_code == 200
        self.session.headers["Authorization"] = "Bearer " + answer.json()["access_token"]
        return self

    def get(
        self, path: str, headers: dict[str, str] | None = None, **query: Any
    ) -> requests.Response:
        """The answer of a partner path, or of any path that starts with a slash."""
        root = f"/api/v2/partner/{self.cloud.config.enterprise_id}/"
        url = self.cloud.url + (path if path.startswith("/") else root + path)
        return self.session.get(
            url, params=query, headers=headers, timeout=10, allow_redirects=False
        )

    def usage(self, meter: Any, granularity: str, start: str, end: str) -> dict[str, Any]:
        answer = self.get(f"meter/{meter.id}/usage", granularity=granularity, start=start, end=end)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def serve() -> Iterator[Callable[..., Caller]]:
    """Starts a cloud with the settings given, without quota and at 2021-02-01 07:00 UTC
    unless they say otherwise, and gives a caller with a token."""
    with ExitStack() as stack:

        def start(clock: Any = None, quota_clock: Any = None, **settings: Any) -> Caller:
            config = SandboxConfig(**{"quota": None, "now": NOW, **settings})
            cloud = stack.enter_context(Sandbox(config, clock, quota_clock))
            caller = Caller(cloud)
            stack.callback(caller.session.close)
            return caller.login()

        yield start
