"""`copper sync` as it is typed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from copper_cli.cli.progress import Watcher
from copper_cli.cli.sync import _find_end
from copper_cli.cloud.client import CloudClient
from copper_cli.sandbox import Fault, Sandbox

from .conftest import Copper

SINCE = f"{datetime.now(UTC) - timedelta(days=20):%Y-%m-%d}"
SYNC = ("sync", "--since", SINCE, "--granularity", "hour")


@pytest.fixture
def cloud(serve: Callable[..., Sandbox]) -> Sandbox:
    """A local cloud of four meters that goes by this machine's clock, as the program does."""
    return serve(now=None)


def test_without_an_order_it_says_how_one_is_given(copper: Copper, cloud: Sandbox) -> None:
    ended = copper("sync")
    assert ended.code == 2
    assert "copper sync --since 2024-01-01 --granularity hour --keep" in ended.err
    assert cloud.calls == 0


def test_what_is_not_kept_holds_for_this_run(copper: Copper, cloud: Sandbox) -> None:
    assert copper(*SYNC).code == 0
    assert copper("sync").code == 2
    assert copper("sync", "--show").out.startswith("No standing order.")


def test_an_order_is_kept_shown_and_dropped(copper: Copper, cloud: Sandbox) -> None:
    """What is shown can be typed; what is typed beside it holds for one run."""
    meter = next(iter(cloud.fleet.meters())).id
    words = ("--with", "registers,readings", "--type", "power", "--meter-id", meter)
    ended = copper(*SYNC, *words, "--keep")
    assert ended.code == 0
    assert ended.lines[-1] == "complete!"
    typed = f"copper sync --since {SINCE} --granularity hour --with readings,registers --type power --meter-id {meter}"
    calls = cloud.calls
    assert copper("sync", "--show").lines == [typed]
    assert cloud.calls == calls
    assert copper("sync").code == 0
    assert copper("sync", "--with", "grid").code == 0
    assert copper("sync", "--show").lines == [typed]
    ended = copper("sync", "--forget-order")
    assert (ended.code, ended.err) == (0, "The standing order is dropped.\n")
    assert copper("sync").code == 2


def test_a_forgotten_meter_leaves_the_order(copper: Copper, cloud: Sandbox) -> None:
    """The order names it no more, and does not mean all meters then."""
    meter = next(iter(cloud.fleet.meters())).id
    assert copper(*SYNC, "--meter-id", meter, "--keep").code == 0
    assert copper("archive", "forget", "--meter-id", meter, "--yes").code == 0
    assert meter not in copper("sync", "--show").out
    calls = len([one for one in cloud.log if "/usage" in one.path])
    assert copper("sync").code == 0
    assert len([one for one in cloud.log if "/usage" in one.path]) == calls


def test_a_dry_run_makes_the_list_calls_alone(copper: Copper, cloud: Sandbox) -> None:
    """Four meters: four calls are planned, and made by the run."""
    ended = copper(*SYNC, "--dry-run", "--format", "json")
    assert ended.code == 0
    assert [one.path.rpartition("/")[2] for one in cloud.log if "/partner/" in one.path] == [
        "meter",
        "premise",
    ]
    facts = ended.json
    assert (facts["lists"], facts["to_ask"], facts["left"], facts["meters"]) == (2, 4, 0, 4)
    calls = cloud.calls
    assert copper(*SYNC).code == 0
    assert cloud.calls - calls == 1 + 4  # the premises are known now


def test_a_log_has_a_line_an_hour(
    copper: Copper, cloud: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    begin = Watcher.start

    def start(self: Watcher, *words: Any) -> None:
        made.append(self)
        begin(self, *words)

    monkeypatch.setattr(Watcher, "start", start)
    copper(*SYNC, "--dry-run")
    assert made[0].line_every_s == 3600


def test_months_are_published(copper: Copper, cloud: Sandbox) -> None:
    copper(*SYNC)
    info = copper("archive", "info", "--format", "json").json
    assert info["rows"][0]["not_published"] == 0
    assert info["kinds"][0]["rows_published"] > 4 * 19 * 24 - 100


def test_a_spent_quota_that_is_not_waited_for_is_5(
    copper: Copper, serve: Callable[..., Sandbox]
) -> None:
    """Four calls of which two are lists: two of four meters. Nothing is said to be wrong where
    nothing is left."""
    serve(now=None)
    ended = copper(*SYNC, "--quota", "4/h", "--no-wait")
    assert ended.code == 5
    assert "2 calls of what is due are left" in ended.err
    assert copper(*SYNC, "--quota", "100/h", "--no-wait").code == 0


def test_the_calls_of_a_run_are_all_that_was_planned(copper: Copper, cloud: Sandbox) -> None:
    """--calls ends with 0: what is left was never meant for this run."""
    calls = cloud.calls
    ended = copper(*SYNC, "--calls", "4")
    assert ended.code == 0
    assert cloud.calls - calls == 4
    assert "each is asked every 2.0 days (mean age 1.5 days)" in ended.err


def test_a_meter_that_fails_is_6_and_named(copper: Copper, cloud: Sandbox) -> None:
    meter = next(iter(cloud.fleet.meters())).id
    cloud.faults.add(Fault.parse(f"status=418,path=/meter/{meter}/usage,times=1"))
    ended = copper(*SYNC)
    assert ended.code == 6
    assert f"{meter} failed:" in ended.err
    assert "1 meter missing. Run the same command again" in ended.err
    assert copper(*SYNC).code == 0


def test_ctrl_c_keeps_what_was_answered(
    copper: Copper, cloud: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pressed while the second meter is asked: its answer is kept too, and two meters are left."""
    ask, count = CloudClient.fetch_series, 0

    def press(self: CloudClient, *question: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return ask(self, *question)

    monkeypatch.setattr(CloudClient, "fetch_series", press)
    ended = copper(*SYNC, "--jobs", "1")
    assert ended.code == 130
    assert "all answers are in the archive" in ended.err
    before = len([one for one in cloud.log if "/usage" in one.path])
    assert copper(*SYNC).code == 0
    after = len([one for one in cloud.log if "/usage" in one.path])
    # What the first Ctrl-C let through was paid for.
    assert after <= 4 + 1
    assert after - before <= 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday", "--granularity", "hour"), "another day tomorrow"),
        (("--since", "2022-03-01"), "--granularity is missing"),
        (("--since", "2022-03-01", "--with", "baseline"), "--granularity is missing"),
        (("--since", "2022-03-01", "--with", "weather"), "none of readings, baseline"),
        (("--since", "2022-03-01", "--granularity", "month"), "month"),
        ((*SYNC[1:], "--for", "soon"), "no length of time like 8h"),
        ((*SYNC[1:], "--stop-at", "25:00"), "no time of day like 06:00"),
        ((*SYNC[1:], "--type", "steam"), "no meter is of type steam"),
    ],
)
def test_mistakes_are_told(
    copper: Copper, cloud: Sandbox, words: tuple[str, ...], said: str
) -> None:
    ended = copper("sync", *words)
    assert ended.code == 2
    assert said in re.sub(r"\s+", " ", ended.err)


DENVER = ZoneInfo("America/Denver")


@pytest.mark.parametrize(
    ("now", "length", "stop_at", "end"),
    [
        ("2022-03-10T22:00", None, (6, 0), "2022-03-11T06:00"),
        ("2022-03-10T05:00", None, (6, 0), "2022-03-10T06:00"),
        ("2022-03-10T06:00", None, (6, 0), "2022-03-11T06:00"),
        ("2022-03-12T22:00", None, (6, 0), "2022-03-13T06:00"),  # an hour less lies between
        ("2022-03-10T22:00", 2, (6, 0), "2022-03-11T00:00"),
        ("2022-03-10T22:00", 12, (6, 0), "2022-03-11T06:00"),
    ],
)
def test_when_it_ends(
    clean_machine: None, now: str, length: int | None, stop_at: tuple[int, int], end: str
) -> None:
    """The next time that the machine's clock shows it; the earlier of both."""
    begun = datetime.fromisoformat(now).astimezone()
    hours = None if length is None else timedelta(hours=length)
    expected = datetime.fromisoformat(end).replace(tzinfo=DENVER).timestamp()
    assert _find_end(begun, hours, stop_at) == expected
