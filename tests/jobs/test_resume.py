"""A download taken up again: what was to come, what is already there."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from held import assert_alike, new_archive

from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.events import CallDone, Event
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.spans import SpanBook
from copper_cli.config import Limit, Secret, Settings
from copper_cli.jobs.interval import download_series
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import CallCounter, Context, Output, Silent
from copper_cli.work.meter_series import SeriesRequest

NOON = datetime(2022, 3, 10, 19, 30, tzinfo=UTC)
LATER = datetime(2022, 3, 16, 7, 0, tzinfo=UTC)


class Now:
    """A clock that stands still until it is set."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> float:
        return self.instant.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@pytest.fixture
def clock() -> Now:
    return Now(NOON)


@pytest.fixture
def cloud(clock: Now) -> Iterator[Sandbox]:
    config = SandboxConfig(premises=2, quota=None, max_age=0)
    with Sandbox(config, clock=lambda: clock.instant) as found:
        yield found


@pytest.fixture
def connect(cloud: Sandbox, clock: Now, tmp_path: Path) -> Iterator[Callable[[], Context]]:
    env = cloud.environment()
    settings = Settings(
        api_url=env["COPPER_API_URL"],
        auth_url=env["COPPER_AUTH_URL"],
        client_id=env["COPPER_CLIENT_ID"],
        client_secret=Secret(env["COPPER_CLIENT_SECRET"]),
        enterprise_id=env["COPPER_ENTERPRISE_ID"],
        cache_dir=tmp_path / "cache",
        quota=(Limit(100_000, 3600),),
    )
    with ExitStack() as stack:
        shared = new_archive()
        stack.callback(shared.close)

        def make(*, apart: bool = False) -> Context:
            counter = CallCounter()

            def note(event: Event) -> None:
                if isinstance(event, CallDone) and not event.from_cache:
                    counter.add()

            session = stack.enter_context(CloudSession(settings, clock=clock, on_event=note))
            client = CloudClient(session, settings.enterprise_id)
            return Context(
                client=client,
                session=session,
                spans=SpanBook(None, clock.now),
                now=clock.now,
                sleep=clock.sleep,
                progress=Silent(),
                archive=new_archive() if apart else shared,
                counter=counter,
            )

        yield make


@pytest.mark.parametrize("layout", ["rows", "columns", "plain"])
@pytest.mark.parametrize("granularity", ["hour", "day"])
def test_rows_to_come_are_asked_from_the_last_one_known(
    connect: Callable[[], Context],
    cloud: Sandbox,
    clock: Now,
    tmp_path: Path,
    layout: str,
    granularity: str,
) -> None:
    """A later run asks for what was to come, over a clock change too; rows and file are as if they
    had been asked for only then, but for what the rows' four places leave out of a sum."""
    request = SeriesRequest(
        "usage", date(2022, 3, 8), date(2022, 3, 15), granularity, layout=layout, baseline=True
    )
    if layout == "plain":
        request = replace(request, baseline=False)
    first = download_series(connect(), request, Output(tmp_path / "out"))
    assert first.facts["to_come"] > 0
    clock.instant = LATER
    second = download_series(connect(), request, Output(tmp_path / "out"))
    assert second.facts["to_come"] == 0
    whole = download_series(connect(apart=True), request, Output(tmp_path / "whole"))
    assert second.facts["calls"] == whole.facts["calls"]
    assert [row[:2] for row in second.rows] == [row[:2] for row in whole.rows]
    assert_alike(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize("layout", ["rows", "columns", "plain"])
def test_what_takes_several_calls_is_asked_from_the_last_row_known(
    connect: Callable[[], Context], cloud: Sandbox, clock: Now, tmp_path: Path, layout: str
) -> None:
    """By days, a call each: only those that were not full are asked for again. A sum is then that
    of known rows and of the cloud's, alike but for what the rows' four places leave out."""
    request = SeriesRequest(
        "usage", date(2022, 3, 8), date(2022, 3, 15), "hour", layout=layout, step_days=1
    )
    download_series(connect(), request, Output(tmp_path / "out"))
    clock.instant = LATER
    asked_before = len(cloud.log)
    second = download_series(connect(), request, Output(tmp_path / "out"))
    starts = [
        parse_qs(r.query)["start"][0] for r in list(cloud.log)[asked_before:] if "/usage" in r.path
    ]
    assert min(starts) == "2022-03-10T19:00:00Z"
    assert len(starts) == len(second.rows) * 5
    whole = download_series(connect(apart=True), request, Output(tmp_path / "whole"))
    for row, expected in zip(second.rows, whole.rows, strict=True):
        assert row[2] == pytest.approx(expected[2], abs=0.01)
    for path in (tmp_path / "whole").glob("*.csv"):
        skip = 4 if layout == "columns" else 0  # the summary's cells
        mine, theirs = (
            [line[skip:] for line in _cells(found) if "usage_summary__" not in line[:1]]
            for found in (tmp_path / "out" / path.name, path)
        )
        assert len(mine) > 160
        assert mine == theirs


def test_nothing_is_asked_before_the_next_bucket_is_filled(
    connect: Callable[[], Context], cloud: Sandbox, tmp_path: Path
) -> None:
    """While the first bucket to come cannot be filled yet, the same command costs only lists."""
    request = SeriesRequest("usage", date(2022, 3, 8), date(2022, 3, 15), "hour")
    download_series(connect(), request, Output(tmp_path))
    calls = cloud.calls
    again = download_series(connect(), request, Output(tmp_path))
    assert cloud.calls - calls == 2
    assert again.facts["kept"] == again.facts["done"]


def _cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_a_meter_that_could_not_be_finished_is_taken_up_where_it_stopped(
    connect: Callable[[], Context], cloud: Sandbox, clock: Now, tmp_path: Path
) -> None:
    """Eight windows, the sixth refused for want of permission: the next run asks only for the
    last three, and the folder ends as if nothing had happened."""
    clock.instant = datetime(2022, 3, 30, tzinfo=UTC)
    meter = next(iter(cloud.fleet.meters())).id
    request = SeriesRequest(
        "usage", date(2022, 3, 1), date(2022, 3, 9), "hour", meter_ids=(meter,), step_days=1
    )
    cloud.faults.add(Fault.parse("status=418,path=/usage,skip=5,times=1"))
    first = download_series(connect(), request, Output(tmp_path / "out"))
    assert [one["id"] for one in first.facts["failed"]] == [meter]
    assert not list((tmp_path / "out").glob("*.usage.csv"))
    asked = len(_asked(cloud))
    second = download_series(connect(), request, Output(tmp_path / "out"))
    assert second.facts["complete"]
    assert len(_asked(cloud)) - asked == 3
    download_series(connect(apart=True), request, Output(tmp_path / "whole"))
    name = f"{meter.replace(':', '_')}.usage.csv"
    whole = (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "out" / name).read_bytes() == whole


def _asked(cloud: Sandbox) -> list[str]:
    return [r.query for r in cloud.log if "/usage" in r.path]
