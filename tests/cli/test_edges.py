"""What programs hand over instead of texts, and the ends of the process."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import click
import pytest

from copper_cli import cli
from copper_cli.cli.dates import LAST_DAY, START
from copper_cli.cli.types import MONTH, ZONE

from .conftest import Copper


def test_values_that_are_read_already_stay() -> None:
    """Defaults and callers from Python may give a date or a zone itself."""
    day = date(2021, 9, 1)
    assert START.convert(day, None, None) is day
    assert LAST_DAY.convert(day, None, None) is day
    assert MONTH.convert(day, None, None) is day
    zone = ZoneInfo("UTC")
    assert ZONE.convert(zone, None, None) is zone


def test_after_ctrl_c_threads_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends at once where others still wait for an answer, else in the usual way."""
    ends: list[tuple[str, Any]] = []

    def end_at_once(code: int) -> None:
        ends.append(("at once", code))
        raise SystemExit(99)

    monkeypatch.setattr(cli.os, "_exit", end_at_once)
    monkeypatch.setattr(cli, "run", lambda command, words: 130)
    monkeypatch.setattr(cli.threading, "active_count", lambda: 2)
    with pytest.raises(SystemExit):
        cli.main([])
    assert ends == [("at once", 130)]
    monkeypatch.setattr(cli.threading, "active_count", lambda: 1)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert (ended.value.code, len(ends)) == (130, 1)


def test_the_function_run_is_not_hidden_by_a_module(copper: Copper) -> None:
    """`from copper_cli.cli import run` works after a command has been imported too."""
    copper("cache", "info")
    from copper_cli.cli import root, run

    assert callable(run)
    assert isinstance(root, click.Group)
    assert run(root, ["--version"]) == 0
