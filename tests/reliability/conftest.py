"""Fixtures: machines that ask local clouds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloud.mini_cloud import MiniCloud, serve

from copper_cli.archive import Archive
from copper_cli.sandbox import Sandbox

from .runs import Clock, Machine
from .town import Town


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the user's reaches a run."""
    for name in set(os.environ) - {"COPPER_ARCHIVE"}:
        if name.startswith("COPPER_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def machine(tmp_path: Path, clock: Clock) -> Iterator[Callable[[Sandbox], Machine]]:
    """Makes a machine that asks the cloud given; its sessions end with the test."""
    with ExitStack() as stack:
        archive = stack.enter_context(closing(Archive(tmp_path / "archive", archive_id="a")))
        yield lambda cloud: Machine(cloud, tmp_path / "cache", clock, stack, archive)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """One meter `07:1` in Denver, in May 2021."""
    with ExitStack() as stack:
        for cloud in serve(MiniCloud()):
            archive = stack.enter_context(closing(Archive(tmp_path / "archive", archive_id="a")))
            clock = Clock(datetime(2021, 5, 3, 15, tzinfo=UTC))
            found = Town(cloud, tmp_path, clock, stack, archive)
            found.settle("07:1")
            yield found
