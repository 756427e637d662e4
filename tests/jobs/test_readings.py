"""Register readings over long ranges: in as few calls as the cloud grants, none twice or lost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from held import fetch_readings, new_archive

from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.jobs.readings import (
    ReadingsRequest,
    download_readings,
    estimate_readings,
)
from copper_cli.records import Reading, Readings, Window
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Asking, Context, Output, Silent

DENVER = ZoneInfo("America/Denver")
NOW = datetime(2022, 6, 1, tzinfo=UTC)
START = datetime(2022, 1, 1, 7, tzinfo=UTC)
DAY = timedelta(days=1)
WINDOW = Window(START, START + 28 * DAY)
METER = SimpleNamespace(id="m", created_utc=None)


class PlainCloud:
    """A reading each half hour, at each third hour two that differ; counts what it is asked."""

    def __init__(self, *, longest=7 * DAY, has_start=True, has_end=True) -> None:
        self.longest, self.has_start, self.has_end = longest, has_start, has_end
        self.asked: list[Window] = []
        every = [(START - DAY + timedelta(minutes=30 * n), n) for n in range(30 * 48)]
        self.every = [
            Reading(time_utc, n, n + more / 2)
            for time_utc, n in every
            for more in range(2 if n % 6 == 0 else 1)
        ]

    def fetch_readings(self, meter_id, window, *, anew=False):
        self.asked.append(window)
        if window.end_utc - window.start_utc > self.longest:
            raise BadRequestError("too long")
        found = [
            r
            for r in self.every
            if window.start_utc <= r.time_utc <= window.end_utc
            and (self.has_start or r.time_utc > window.start_utc)
            and (self.has_end or r.time_utc < window.end_utc)
        ]
        return Readings(found)


def on(cloud, book=None) -> Context:
    book = book or SpanBook(None, NOW.timestamp)
    return Context(cloud, None, book, NOW.timestamp, lambda s: None, Silent(), new_archive())


@pytest.mark.parametrize("longest_h", [7 * 24, 100, 24, 5])
@pytest.mark.parametrize(("has_start", "has_end"), [(True, True), (True, False), (False, True)])
def test_parts_bring_each_reading_once(longest_h, has_start, has_end):
    """Whichever ends of a part an answer holds; where two readings have one instant, both."""
    longest = timedelta(hours=longest_h)
    cloud = PlainCloud(longest=longest, has_start=has_start, has_end=has_end)
    found = fetch_readings(on(cloud), METER, WINDOW)
    expected = [r for r in cloud.every if START <= r.time_utc < WINDOW.end_utc]
    if not has_start:  # those at the window's own start are in no answer
        expected = [r for r in expected if r.time_utc > START]
    assert found == expected


def test_a_range_that_is_granted_is_one_call():
    """Four weeks, one question."""
    cloud = PlainCloud(longest=28 * DAY)
    assert len(fetch_readings(on(cloud), METER, WINDOW)) == 28 * 48 + 28 * 8
    assert cloud.asked == [WINDOW]


def test_the_limit_is_found_out_once():
    """Four weeks by weeks: ten calls the first time, then four of a week each."""
    cloud = PlainCloud()
    context = on(cloud)
    fetch_readings(context, METER, WINDOW)
    assert len(cloud.asked) <= 10
    for _ in range(3):
        cloud.asked.clear()
        fetch_readings(context, METER, WINDOW, Asking(fresh=True))
    assert [w.end_utc - w.start_utc for w in cloud.asked] == [7 * DAY] * 4


def test_a_refused_meter_says_nothing_of_lengths():
    """Down to an hour in eight calls; where a week was granted to others, two calls tell."""
    sick = PlainCloud(longest=timedelta())
    book = SpanBook(None, NOW.timestamp)
    with pytest.raises(BadRequestError):
        fetch_readings(on(sick, book), METER, WINDOW)
    assert len(sick.asked) <= 8
    assert book.expect("readings", 28 * 24) == 28 * 24
    for _ in range(2):
        book.cut("readings", 7 * 24)
    sick.asked.clear()
    with pytest.raises(BadRequestError):
        fetch_readings(on(sick, book), METER, WINDOW)
    assert len(sick.asked) == 2
    assert book.expect("readings", 28 * 24) == 7 * 24


# Against the local cloud


def test_files_and_estimate_where_a_week_is_granted(make_context, tmp_path):
    """30 days with the day of 23 hours: the files are those of a cloud without limit; a call for
    the month, some to find out, then five a meter; the dry run tells as many."""
    request = ReadingsRequest(date(2022, 3, 1), date(2022, 3, 30), DENVER)

    def files(cloud, name) -> dict[str, bytes]:
        download_readings(make_context(cloud, apart=True), request, Output(tmp_path / name))
        return {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.csv")}

    options = {"premises": 12, "quota": None, "now": NOW}
    with Sandbox(SandboxConfig(**options)) as free:
        expected = files(free, "free")
        meters = free.fleet.meter_count
        lists = free.calls - meters
    assert len(expected) == meters
    with Sandbox(SandboxConfig(**options, max_span={"readings": "7d"})) as cloud:
        assert files(cloud, "first") == expected
        assert cloud.calls <= lists + 5 * meters + 12
        estimate = estimate_readings(make_context(cloud), request, Output(tmp_path / "next"))
        assert estimate.facts["calls"] == 5 * meters
        before = cloud.calls
        assert files(cloud, "next") == expected
        assert cloud.calls == before + lists + 5 * meters


def test_one_sick_meter_costs_the_others_nothing(make_context, tmp_path):
    """The first is refused whatever is asked: it is told as failed, the rest are there."""
    request = ReadingsRequest(date(2022, 3, 1), date(2022, 3, 30), DENVER)
    with Sandbox(SandboxConfig(premises=12, quota=None, now=NOW)) as cloud:
        meters = list(cloud.fleet.meters())
        path = f"{meters[0].id.replace(':', '%3A')}/readings"
        cloud.faults.add(Fault(path=path, kind="status", status=400, times=None))
        table = download_readings(make_context(cloud), request, Output(tmp_path / "out"))
        assert [failed["id"] for failed in table.facts["failed"]] == [meters[0].id]
        asked = [r.path for r in cloud.log if r.path.endswith("/readings")]
        assert len(asked) <= 8 + len(meters) - 1
