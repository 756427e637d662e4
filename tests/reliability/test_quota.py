"""The quota over hours, nights and processes: never broken in any window, and all arrives."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.cloud import session
from copper_cli.cloud.quota import ledger_path, open_ledger
from copper_cli.config import Limit
from copper_cli.errors import QuotaSpentError
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.meter_series import SeriesRequest

from .runs import NOW, PLENTY, Clock, Machine, break_limits, in_process, meter_ids, read_folder

REQUEST = replace(PLENTY, baseline=False)
DENVER = ZoneInfo("America/Denver")
REAL = (Limit(100, 3600), Limit(1000, 86400))
TEN = (Limit(10, 3600),)


def call_instants(cloud: Sandbox) -> list[float]:
    """When each call reached the cloud, by the cloud's own log."""
    return [
        datetime.fromisoformat(record.time).timestamp()
        for record in cloud.log
        if record.path.startswith("/api/")
    ]


def count_refused(cloud: Sandbox) -> int:
    """Calls that the cloud answered with 429."""
    return sum(record.status == 429 for record in cloud.log)


@pytest.fixture
def cloud(clock: Clock) -> Iterator[Sandbox]:
    config = SandboxConfig(premises=12, quota="10/h", now=NOW, max_age=0)
    with Sandbox(config, quota_clock=clock.now) as found:
        yield found


@pytest.mark.parametrize("jobs", [1, 4])
def test_without_waiting_what_was_fetched_is_written(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path, jobs: int
) -> None:
    """--no-wait: ten calls an hour are two lists and eight meters, which are safe on disk when
    the run ends with the time to go on; the same command hour after hour completes the folder."""
    user = machine(cloud)
    folder = tmp_path / "out"
    done = 0
    while True:
        try:
            table = user.download(folder, REQUEST, jobs=jobs, quota=TEN, wait=False)
        except QuotaSpentError as error:
            done += 8
            entries = json.loads((folder / "manifest.json").read_text())["files"].values()
            states = Counter(entry["state"] for entry in entries)
            # The one that began later is known to be empty without a call.
            assert states == {"fetched": done, "empty": 1}
            assert len(list(folder.glob("*.csv"))) == done
            free_s = error.resume_at_utc.timestamp() - user.clock.now_s
            assert 3599 <= free_s <= 3610
            user.clock.set(error.resume_at_utc)
            continue
        break
    assert table.facts["complete"]
    assert (table.facts["done"], table.facts["empty"]) == (24, 1)
    assert count_refused(cloud) == 0
    assert break_limits(call_instants(cloud), [(10, 3600)]) == []


def test_a_meter_too_big_for_the_quota(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """One meter needs 19 calls and an hour has ten: --no-wait hour after hour asks no window
    twice, shows no half file meanwhile, and ends with the file of a run without a quota."""
    user = machine(cloud)
    first = meter_ids(cloud)[0]
    request = replace(
        REQUEST, start=date(2021, 1, 1), end=date(2021, 1, 20), step_days=1, meter_ids=(first,)
    )
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(QuotaSpentError) as spent:
            user.download(out, request, quota=TEN, wait=False, use_cache=False)
        assert list(out.glob("*.csv")) == []
        user.clock.set(spent.value.resume_at_utc)
    assert user.download(out, request, quota=TEN, wait=False, use_cache=False).facts["complete"]
    windows = [record.query for record in cloud.log if record.path.endswith("/usage")]
    assert len(windows) == len(set(windows)) == 19
    plain = replace(user, cache_dir=tmp_path / "other cache")
    user.clock.sleep(2 * 3600)
    plain.download(tmp_path / "whole", request, quota=TEN, apart=True)
    assert read_folder(out) == read_folder(tmp_path / "whole")


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_spent_quota_is_waited_for(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path, jobs: int
) -> None:
    """One run waits as often as it must, breaks no window, and ends complete.

    With calls in flight at once this clock may run on for an hour while one of them is under
    way, which no other clock does: what the ledger granted counts, not when it arrived.
    """
    user = machine(cloud)
    table = user.download(tmp_path, REQUEST, jobs=jobs, quota=TEN)
    assert table.facts["complete"]
    assert len(list(tmp_path.glob("*.csv"))) == 24
    assert user.clock.slept_s >= 2 * 3600
    assert break_limits(_granted_by_ledger(user), [(10, 3600)]) == []
    if jobs == 1:
        assert count_refused(cloud) == 0
        assert break_limits(call_instants(cloud), [(10, 3600)]) == []


def _granted_by_ledger(user: Machine) -> list[float]:
    with closing(sqlite3.connect(ledger_path(user.settings()))) as db:
        return [at_us / 1e6 for (at_us,) in db.execute("SELECT at_us FROM calls")]


def test_a_reserve_is_left_to_others(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """--reserve 3 of 10 an hour: seven calls are used, three are free for others at once."""
    user = machine(cloud)
    with pytest.raises(QuotaSpentError):
        user.download(tmp_path, REQUEST, quota=TEN, wait=False, reserve=3)
    assert cloud.calls == 7
    ledger = open_ledger(user.settings(quota=TEN), clock=user.clock.now)
    granted = [ledger.take("other") for _ in range(4)]
    ledger.close()
    assert granted[:3] == [0.0, 0.0, 0.0]
    assert granted[3] > 0


def test_a_quota_that_another_machine_spends_too_is_waited_for(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """Two machines share a client id and not the ledger: the cloud's 429 holds the second back
    until calls are free; it loses nothing and gives no meter up."""
    user = machine(cloud)
    other = replace(user, cache_dir=tmp_path / "other cache")
    with pytest.raises(QuotaSpentError):
        other.download(tmp_path / "other", REQUEST, quota=TEN, wait=False)
    table = user.download(tmp_path / "out", REQUEST, quota=TEN)
    assert table.facts["complete"]
    assert count_refused(cloud) >= 1
    assert break_limits(_granted(cloud), [(10, 3600)]) == []


def _granted(cloud: Sandbox) -> list[float]:
    return [
        datetime.fromisoformat(record.time).timestamp()
        for record in cloud.log
        if record.path.startswith("/api/") and record.status != 429
    ]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a month of nights need not do: look at the clock each second of a wait, and wait for
    the disk after each of its files."""
    monkeypatch.setattr(session, "SLICE_S", 900.0)
    monkeypatch.setattr("os.fsync", lambda handle: None)


def test_a_month_of_nights(
    fast: None,
    machine: Callable[[Sandbox], Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: Clock,
) -> None:
    """900 meters every night under 100 calls an hour and 1000 a day: no window of the month is
    broken, and no night lasts into the next. Two nights, one after a clock change, download
    yesterday's hours whole, complete and right; on the others the calls alone are taken."""
    first = datetime(2021, 3, 1, 2, tzinfo=DENVER)
    clock.now_s = first.timestamp()
    config = SandboxConfig(premises=432, quota="100/h,1000/d", max_age=0)
    cloud = Sandbox(config, clock=clock.instant, quota_clock=clock.now)
    in_process(monkeypatch, cloud)
    user = machine(cloud)
    assert len(meter_ids(cloud)) == 900
    taken: list[float] = []
    for night in range(30):
        begin = first + timedelta(days=night)  # the same time of each local day
        clock.set(begin)
        assert clock.now_s == begin.timestamp(), "the night before took too long"
        today = begin.date()
        if today.day not in (15, 30):
            taken += _take_calls(user, 902)
            continue
        request = SeriesRequest("usage", today - timedelta(days=1), today, "hour")
        folder = tmp_path / today.isoformat()
        table = user.download(folder, request, quota=REAL, use_cache=False)
        assert table.facts["complete"]
        assert table.facts["to_come"] == 0
        assert 850 <= table.facts["done"] == len(list(folder.glob("*.csv")))
        for row in table.rows[::97]:
            _check_sum(cloud, folder, request, row)
    assert count_refused(cloud) == 0
    instants = taken + call_instants(cloud)
    assert len(instants) >= 30 * 850
    assert break_limits(instants, [(100, 3600), (1000, 86400)]) == []


def _take_calls(user: Machine, calls: int) -> list[float]:
    """When so many calls are granted, each waited for as a session does."""
    ledger = open_ledger(user.settings(quota=REAL), clock=user.clock.now)
    instants = []
    for _ in range(calls):
        while (wait_s := ledger.take("meter usage")) > 0:
            user.clock.sleep(wait_s)
        instants.append(user.clock.now())
    ledger.close()
    return instants


def test_a_job_too_big_for_a_day(
    fast: None,
    machine: Callable[[Sandbox], Machine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: Clock,
) -> None:
    """Over 2,000 meters by an hourly cron job with --no-wait: every run but the last ends for want
    of calls (exit 5) with its files safe, the third day completes, no call was refused."""
    config = SandboxConfig(premises=1060, quota="100/h,1000/d", now=NOW, max_age=60)
    cloud = Sandbox(config, quota_clock=clock.now)
    in_process(monkeypatch, cloud)
    user = machine(cloud)
    request = replace(REQUEST, granularity="day")
    begin = clock.instant()
    folder = tmp_path / "out"
    counts = [0]
    for hour in range(72):
        # Cron is never quite in time.
        clock.set(begin + timedelta(hours=hour, seconds=5 * hour))
        try:
            table = user.download(folder, request, quota=REAL, wait=False, use_cache=False)
        except QuotaSpentError:
            counts.append(len(list(folder.glob("*.csv"))) if folder.exists() else 0)
            assert counts[-1] >= counts[-2]
            continue
        break
    assert table.facts["complete"]
    assert QuotaSpentError.exit_code == 5
    assert 48 <= hour < 72
    assert table.facts["done"] == len(list(folder.glob("*.csv"))) >= 2000
    for row in table.rows[::97]:
        _check_sum(cloud, folder, request, row)
    assert count_refused(cloud) == 0
    assert break_limits(call_instants(cloud), [(100, 3600), (1000, 86400)]) == []


def _check_sum(cloud: Sandbox, folder: Path, request: SeriesRequest, row: object) -> None:
    """A file's sum and rows are those of the register at the two local midnights."""
    meter_id, _, total, *_ = row  # type: ignore[misc]
    meter = cloud.fleet.find_meter(meter_id)
    assert meter is not None
    zone = ZoneInfo(meter.zone)
    ends = [datetime(d.year, d.month, d.day, tzinfo=zone) for d in (request.start, request.end)]
    if meter.created_utc > ends[0]:
        return
    at = [cloud.fleet.register_at(meter_id, end) for end in ends]
    assert total == pytest.approx(at[1] - at[0], abs=1e-6)
    lines = (folder / request.file_name(meter_id)).read_text().splitlines()
    bucket = timedelta(hours=1 if request.granularity == "hour" else 24)
    buckets = (ends[1].astimezone(UTC) - ends[0].astimezone(UTC)) / bucket
    # A header, the summary, and the row at START too.
    assert len(lines) == 2 + buckets + 1
