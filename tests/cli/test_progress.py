"""What is shown on stderr while a job runs, by a clock that is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from copper_cli.cli import progress
from copper_cli.cli.progress import Watcher
from copper_cli.cloud.events import CallDone, QuotaWait, Retrying, Warned
from copper_cli.config import Limit

from .conftest import NOW, Copper

CALL = CallDone("meter/usage", 200, 0.125, False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def test_without_a_terminal_a_line_a_minute(capsys: Any, clock: list[float]) -> None:
    """In cron nothing moves: one line with time, command, state and calls each minute."""
    with time_machine.travel(NOW.timestamp(), tick=False):
        watcher = Watcher("meter usage")
        watcher.start("meters", 1200)
        for _ in range(412):
            watcher.note(CALL)
            watcher.advance()
        assert shown(capsys) == ""
        clock[0] += 60
        watcher.advance()
        watcher.advance()
        assert shown(capsys) == (
            "2022-03-28T12:00:00-06:00 copper meter usage: 413/1200 meters  412 calls\n"
        )
        clock[0] += 59
        watcher.advance()
        watcher.stop()
        assert shown(capsys) == ""


def test_a_long_list_is_not_read_in_silence(capsys: Any, clock: list[float]) -> None:
    """Nobody knows its length: the calls are counted after two seconds, and wiped at the end."""
    watcher = Watcher("premise", color=True)
    watcher.note(CALL)
    assert shown(capsys) == ""
    clock[0] += 2.5
    watcher.note(CALL)
    assert shown(capsys) == "\r2 calls  0:00:02\x1b[K"
    watcher.stop()
    assert shown(capsys) == "\r\x1b[K"


def test_on_a_terminal_a_bar_that_goes_away(capsys: Any, clock: list[float]) -> None:
    """After half a second; told lines stay above it; at the end the line is wiped."""
    watcher = Watcher("meter usage", color=True)
    watcher.start("meters", 12)
    watcher.advance()
    assert shown(capsys) == ""
    clock[0] += 3
    watcher.note(CALL)
    assert shown(capsys) == f"\r━━{' ' * 28} 1/12 meters  1 calls  0:00:33 left\x1b[K"
    watcher.say("told\x1b[2J")
    assert shown(capsys) == "\r\x1b[Ktold\\x1b[2J\n"
    watcher.advance()
    assert "2/12 meters" in shown(capsys)
    watcher.stop()
    assert shown(capsys) == "\r\x1b[K"
    watcher.note(CALL)
    watcher.stop()
    assert shown(capsys) == ""


def test_no_estimate_before_anything_is_done(capsys: Any, clock: list[float]) -> None:
    """Until then it shows the time gone by."""
    watcher = Watcher("x", color=True)
    watcher.start("meters", 12)
    clock[0] += 3725
    watcher.note(CallDone("meter/usage", None, 60.0, True))
    assert "0/12 meters  0 calls  1:02:05 left" in shown(capsys)


def wait(now: datetime, seconds: int, limit: Limit) -> QuotaWait:
    return QuotaWait(now + timedelta(seconds=seconds), limit.calls, limit)


def test_a_wait_for_the_quota_is_told_in_words(capsys: Any, clock: list[float]) -> None:
    """Sent each second by the session: off a terminal one line a minute, with what is left."""
    with time_machine.travel(NOW.timestamp(), tick=False):
        watcher = Watcher("meter usage")
        for second in range(61):
            clock[0] = 100.0 + second
            watcher.note(wait(NOW, 1087 - second, Limit(100, 3600)))
        first, second_line = shown(capsys).splitlines()
    assert first == (
        "Quota spent: 100 of 100 calls this hour. Waiting until 12:18 (0:18:07 to go) for the "
        "next call. Ctrl-C is safe: the same command goes on from here."
    )
    assert "(0:17:07 to go)" in second_line


def test_a_wait_on_a_terminal_counts_down_in_place(capsys: Any, clock: list[float]) -> None:
    """On one line, which what comes next wipes; other windows have their words."""
    with time_machine.travel(NOW.timestamp(), tick=False):
        watcher = Watcher("x", color=True)
        watcher.note(wait(NOW, 10, Limit(1000, 86400)))
        watcher.note(wait(NOW, 9, Limit(20, 10)))
        text = shown(capsys)
    assert text.count("\r") == 2
    assert "\n" not in text
    assert "1000 of 1000 calls today. " in text
    assert "20 of 20 calls in 10 s. " in text
    watcher.stop()
    assert shown(capsys) == "\r\x1b[K"


def test_warnings_are_for_everybody(capsys: Any) -> None:
    """As the sentence that they are."""
    watcher = Watcher("x")
    for event in (CALL, Retrying("the cloud answered 500", 0.5), Warned("The token is not kept.")):
        watcher.note(event)
    assert shown(capsys) == "The token is not kept.\n"


def test_debug_tells_each_call(capsys: Any) -> None:
    """What, how it ended, how long it took; from the cache; a retry and its wait."""
    watcher = Watcher("x", debug=True)
    watcher.note(CALL)
    watcher.note(CallDone("premise", 200, 0.0, True))
    watcher.note(CallDone("premise", None, 60.0, False))
    watcher.note(Retrying("the cloud answered 500", 0.5))
    watcher.note(Warned("Careful."))
    assert shown(capsys).splitlines() == [
        "meter/usage: 200 after 0.12 s",
        "premise: from the cache",
        "premise: no answer after 60.00 s",
        "the cloud answered 500; trying again in 0.5 s",
        "Careful.",
    ]


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR keeps a terminal still; --color goes before it."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Watcher("x")._moving
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Watcher("x")._moving
    assert Watcher("x", color=True)._moving
    assert not Watcher("x", color=False)._moving


def test_debug_shows_no_secret(cloud: Any, copper: Copper) -> None:
    """Each call on stderr, neither the token nor the client secret (the reference showed both)."""
    ended = copper("premise", "--debug", "--format", "json")
    assert ended.json["listed"] == 2
    assert [line.split(" after ")[0] for line in ended.err.splitlines()] == [
        "token: 200",
        "premise: 200",
    ]
    assert "sandbox-secret" not in ended.err
    assert datetime.now(UTC) > NOW
