"""Fixtures: little clouds, a clock that does not wait, sessions that close themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from copper_cli.cloud.session import CloudSession
from copper_cli.config import Settings

from .mini_cloud import FakeClock, MiniCloud, make_settings, serve


@pytest.fixture
def cloud() -> Iterator[MiniCloud]:
    yield from serve(MiniCloud())


@pytest.fixture
def other_cloud() -> Iterator[MiniCloud]:
    yield from serve(MiniCloud())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def settings(cloud: MiniCloud, tmp_path: Path) -> Settings:
    return make_settings(cloud.url, tmp_path)


@pytest.fixture
def open_session(
    cloud: MiniCloud, tmp_path: Path, clock: FakeClock
) -> Iterator[Callable[..., CloudSession]]:
    """Opens sessions on the little cloud; their events go to `session.events`."""
    sessions = []

    def opened(*, grant: Any = "enterprise", clock: Any = clock, **changes: Any) -> CloudSession:
        events: list[Any] = []
        session = CloudSession(
            make_settings(cloud.url, tmp_path, **changes),
            grant=grant,
            clock=clock,
            on_event=events.append,
        )
        session.events = events  # type: ignore[attr-defined]
        sessions.append(session)
        return session

    yield opened
    for session in sessions:
        session.close()
