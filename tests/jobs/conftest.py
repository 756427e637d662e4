"""A context on a local cloud, made as a command makes it, and closed when the test ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from held import new_archive

from copper_cli.archive import Archive
from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.events import CallDone, Event
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.spans import SpanBook
from copper_cli.config import Limit, Secret, Settings
from copper_cli.sandbox import Sandbox
from copper_cli.work.context import CallCounter, Context, Progress, Silent


class StillClock:
    """Stands at an instant; whoever sleeps moves it and does not wait."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def clock_of(cloud: Sandbox) -> StillClock:
    """A clock that stands where the cloud's does; where that one goes, at this moment."""
    frozen = cloud.config.now or cloud.fleet.default_now
    return StillClock(frozen.timestamp() if frozen else time.time())


@pytest.fixture
def make_context(tmp_path: Path) -> Iterator[Callable[..., Context]]:
    """`make_context(cloud, **settings)`: fields of Settings as keywords.

    Without other words: no quota worth the name, no cache of answers, files under `tmp_path`,
    the cloud's frozen clock, one call at a time. `clock`, `jobs` and `progress` may be told.
    Contexts of one test share the archive and the folder of tokens and spans, as runs of one
    user do; one that is `apart` has an archive of its own, so that it asks for everything.
    """
    with ExitStack() as stack:
        archives: list[Archive] = []

        def open_archive() -> Archive:
            if not archives:
                archives.append(Archive(tmp_path / "archive", archive_id="a"))
                stack.callback(archives[0].close)
            return archives[0]

        def make(
            cloud: Sandbox,
            *,
            clock: Any = None,
            jobs: int = 1,
            progress: Progress | None = None,
            apart: bool = False,
            **settings: Any,
        ) -> Context:
            clock = clock or clock_of(cloud)
            query_limit = settings.get("query_limit", 1000)
            chosen = Settings(
                **{
                    "api_url": cloud.url,
                    "auth_url": cloud.url,
                    "client_id": cloud.config.client_id,
                    "client_secret": Secret(cloud.config.client_secret),
                    "enterprise_id": cloud.config.enterprise_id,
                    "cache_dir": tmp_path / "cache",
                    "quota": (Limit(1_000_000, 3600),),
                    "timeout_s": 10.0,
                    "use_cache": False,
                }
                | settings
            )
            counter = CallCounter()

            def note(event: Event) -> None:
                if isinstance(event, CallDone) and not event.from_cache:
                    counter.add()

            session = stack.enter_context(CloudSession(chosen, clock=clock, on_event=note))
            return Context(
                client=CloudClient(session, chosen.enterprise_id, query_limit),
                session=session,
                spans=SpanBook(chosen.cache_dir / "spans.json", clock.now),
                now=clock.now,
                sleep=clock.sleep,
                progress=progress or Silent(),
                archive=new_archive() if apart else open_archive(),
                jobs=jobs,
                counter=counter,
            )

        yield make
