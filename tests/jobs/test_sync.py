"""A fleet kept up to date, night after night, by the local cloud's clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from copper_cli.archive import Archive, SeriesKey
from copper_cli.archive.lists import ListBook
from copper_cli.cloud.client import CloudClient
from copper_cli.config import Limit
from copper_cli.errors import CredentialsError, UsageError
from copper_cli.jobs.sync import SyncRequest, estimate_sync, sync
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Context
from copper_cli.work.sync_order import (
    SyncOrder,
    forget_order,
    keep_order,
    read_order,
)

DAY_S, HOUR_S = 86400, 3600
START = datetime(2022, 3, 20, 8, 0, tzinfo=UTC)
ORDER = SyncOrder(date(2022, 3, 1), "hour")
SYNC = SyncRequest(ORDER)


class MovingClock:
    """The cloud's clock and ours: whoever sleeps, or sets it, moves both."""

    def __init__(self) -> None:
        self.now_s = START.timestamp()

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)


class Nights:
    """One cloud, one archive, a session for each run."""

    def __init__(
        self, cloud: Sandbox, clock: MovingClock, make_context: Callable[..., Context]
    ) -> None:
        self.cloud = cloud
        self.clock = clock
        self.said: list[str] = []
        self._make = make_context

    def context(self, **settings: Any) -> Context:
        context = self._make(self.cloud, clock=self.clock, progress=self, **settings)
        client = CloudClient(
            context.session,
            context.session.settings.enterprise_id,
            on_list=ListBook(context.archive).take,
        )
        return replace(context, client=client)

    def run(self, request: SyncRequest = SYNC, **settings: Any) -> tuple[Any, list[str]]:
        """The table's facts, and the paths that the cloud was asked for."""
        before = len(self.cloud.log)
        table = sync(self.context(**settings), request)
        return table.facts, self.paths(before)

    def paths(self, since: int) -> list[str]:
        return [one.path for one in list(self.cloud.log)[since:] if "/partner/" in one.path]

    def sleep_a_day(self) -> None:
        self.clock.now_s += DAY_S

    def start(self, noun: str, total: int, phase: str = "") -> None:
        pass

    def advance(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def make_nights(make_context: Callable[..., Context]) -> Iterator[Callable[..., Nights]]:
    """`make_nights(premises, **config)`: a cloud that stands at START until its clock is moved."""
    clouds: list[Sandbox] = []

    def make(premises: int = 3, **config: Any) -> Nights:
        clock = MovingClock()
        chosen = {"premises": premises, "quota": None, "max_age": 0} | config
        cloud = Sandbox(SandboxConfig(**chosen), clock=clock.utc, quota_clock=clock.now)
        clouds.append(cloud.__enter__())
        return Nights(cloud, clock, make_context)

    yield make
    for cloud in clouds:
        cloud.__exit__(None, None, None)


def asked(paths: list[str]) -> Counter[str]:
    """Calls for rows by meter."""
    return Counter(path.split("/meter/")[1].split("/")[0] for path in paths if "/usage" in path)


def rows_of(archive: Archive, cloud: Sandbox, order: SyncOrder = ORDER) -> dict[str, list[Any]]:
    """All rows with an amount by meter."""
    found = {}
    for meter in cloud.fleet.meters():
        key = SeriesKey(meter.id, "usage", order.granularity or "", "0")
        found[meter.id] = [
            row
            for piece in archive.rows(key, 0, 2_000_000_000)
            for row in zip(piece.times_s, piece.energy, piece.value, piece.actual, strict=True)
            if row[1] is not None
        ]
    return found


def kill_after(context: Context, calls: int) -> None:
    """Have the run end at once when it wants another call for rows than these."""
    ask, count = context.client.fetch_series, 0

    def killed(*question: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return ask(*question)

    context.client.fetch_series = killed  # type: ignore[assignment, method-assign]


def moved(cloud: Sandbox, before_s: float, now_s: float) -> set[str]:
    """The meters that sent something in between, by the fleet's own word."""
    fleet = cloud.fleet
    return {
        meter.id
        for meter in fleet.meters()
        if fleet.last_reading_s(meter, int(now_s)) != fleet.last_reading_s(meter, int(before_s))
    }


def test_ten_nights_cost_the_list_and_a_call_for_each_meter_that_moved(
    make_nights: Callable[..., Nights],
) -> None:
    """The premises once a week; what was never heard is asked at the ages alone."""
    nights = make_nights(12)
    nights.run()
    for night in range(1, 11):
        before_s = nights.clock.now_s
        nights.sleep_a_day()
        facts, paths = nights.run()
        sent = moved(nights.cloud, before_s, nights.clock.now_s)
        calls = asked(paths)
        silent = set(calls) - sent
        assert all(count == 1 for count in calls.values())
        assert sent <= set(calls)
        # Ages of 1, 2, 4 and 8 days since the first night.
        assert (len(silent) > 0) == (night in (1, 2, 4, 8))
        lists = [path for path in paths if "/usage" not in path]
        assert [path.rpartition("/")[2] for path in lists] == ["meter"] + ["premise"] * (night == 7)
        assert facts["calls"] == len(lists) + len(calls)
        assert facts["failed"] == []


def test_nothing_is_asked_where_nothing_moved(make_nights: Callable[..., Nights]) -> None:
    """The same instant again: the list, and no meter."""
    nights = make_nights()
    nights.run()
    facts, paths = nights.run()
    assert [path.rpartition("/")[2] for path in paths] == ["meter"]
    assert facts["unmoved"] == facts["meters"] == 7


def test_nights_come_to_the_rows_of_one_download(
    make_nights: Callable[..., Nights], make_context: Callable[..., Context]
) -> None:
    """Data four days late: each night brings what has come since, and nothing else is missing."""
    nights = make_nights(3, late=("4",))
    for _ in range(8):
        nights.run()
        nights.sleep_a_day()
    nights.run()
    archive = nights.context().archive
    fresh = nights.context(apart=True)
    sync(fresh, SYNC)
    held = rows_of(archive, nights.cloud)
    assert held == rows_of(fresh.archive, nights.cloud)
    until_s = nights.clock.now_s - 4 * DAY_S
    ends = [rows[-1][0] for rows in held.values() if rows]
    assert ends
    assert all(until_s - HOUR_S < end_s <= until_s for end_s in ends)


@pytest.mark.parametrize("seed", [1, 2])
def test_bad_nights_come_to_the_rows_of_one_download(
    make_nights: Callable[..., Nights], seed: int
) -> None:
    """Twelve nights, some missed, with data one to six days late, faults, few calls and kills;
    then two good ones a month later, when the slow round is due. Four calls in flight at once.
    """
    draw = Random(seed)
    nights = make_nights(3, late=("6", "07:3597166776=1"), max_span={"hour": "7d"})
    for _ in range(12):
        if draw.random() < 0.4:
            status = draw.choice([418, 500, 503])
            times = draw.randint(1, 6)
            nights.cloud.faults.add(Fault(path="/usage", status=status, times=times))
        calls = draw.choice([3, 6, 12, None])
        context = nights.context(jobs=draw.choice([1, 4]))
        if draw.random() < 0.3:
            kill_after(context, draw.randint(1, 6))
        with suppress(KeyboardInterrupt):
            sync(context, SyncRequest(ORDER, calls=calls))
        nights.clock.now_s += draw.choice([1, 1, 2]) * DAY_S
    nights.cloud.faults.clear()
    for days in (31, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1):
        nights.clock.now_s += days * DAY_S
        nights.run()
    fresh = nights.context(apart=True)
    sync(fresh, SYNC)
    held = rows_of(nights.context().archive, nights.cloud)
    found = rows_of(fresh.archive, nights.cloud)
    # A call brings a week here; hours that come as late wait for their age of eight days.
    old_s = nights.clock.now_s - 9 * DAY_S
    for meter_id, rows in found.items():
        assert [row for row in held[meter_id] if row[0] <= old_s] == [
            row for row in rows if row[0] <= old_s
        ], meter_id
        assert set(held[meter_id]) <= set(rows)


def test_a_silent_meter_is_asked_at_the_ages_for_what_it_sent_before(
    make_nights: Callable[..., Nights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went silent after the first night, when three days of its data were still to come."""
    nights = make_nights(1, late=("3",))
    fleet = nights.cloud.fleet
    heard = {
        meter.id: fleet.last_reading_s(meter, int(START.timestamp())) or 0
        for meter in fleet.meters()
    }
    nights.run()
    monkeypatch.setattr(
        type(fleet), "last_reading_s", lambda self, meter, now_s: heard[meter.id], raising=True
    )
    counts = []
    for _ in range(12):
        nights.sleep_a_day()
        counts.append(len(asked(nights.run()[1])))
    assert counts[0] > 0
    assert sum(counts[-3:]) == 0
    archive = nights.context().archive
    for meter_id, rows in rows_of(archive, nights.cloud).items():
        assert rows[-1][0] >= heard[meter_id] - HOUR_S


def test_corrections_come_with_the_slow_round(
    make_nights: Callable[..., Nights], make_context: Callable[..., Context]
) -> None:
    """A month after the first night all that is held is asked for again, once."""
    nights = make_nights(2)
    archive = nights.context().archive
    nights.run()
    # What the cloud says now is another amount for an old hour.
    fetch = CloudClient.fetch_series
    third = date(2022, 3, 3)
    hour_s = int(datetime(third.year, third.month, third.day, 18, tzinfo=UTC).timestamp())

    def corrected(self: CloudClient, *question: Any) -> Any:
        found = fetch(self, *question)
        if hour_s not in found.times_s:
            return found
        at = found.times_s.index(hour_s)
        energy = [*found.energy]
        energy[at] = (energy[at] or 0) + 1
        return replace(found, energy=energy, sum_energy=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CloudClient, "fetch_series", corrected)
        changed = []
        for _ in range(33):
            nights.sleep_a_day()
            changed.append(nights.run()[0]["changed"])
    assert sum(changed) == 4
    assert changed.index(4) == 29
    for rows in rows_of(archive, nights.cloud).values():
        assert any(row[0] == hour_s for row in rows)


def test_the_run_does_what_the_dry_run_says(make_nights: Callable[..., Nights]) -> None:
    """Call by call of each kind of work, with history left over as well."""
    nights = make_nights(3, max_span={"hour": "7d"})
    nights.run(SyncRequest(replace(ORDER, since=date(2022, 3, 13))))  # what a call grants is known
    order = replace(ORDER, since=date(2022, 1, 1), extras=("readings", "baseline", "registers"))
    for budget in (30, None):
        request = SyncRequest(order, calls=budget)
        plan = estimate_sync(nights.context(), request)
        before = nights.cloud.calls
        table = sync(nights.context(), request)
        assert nights.cloud.calls - before == plan.facts["to_ask"] + plan.facts["lists"]
        assert [row[:4] for row in table.rows] == [tuple(row[:4]) for row in plan.rows]
        assert table.facts["left"] == plan.facts["left"]
        if budget:
            assert nights.cloud.calls - before == budget


def test_first_the_newest_hours_of_all_then_history(make_nights: Callable[..., Nights]) -> None:
    """A cloud that grants a week a call: nobody's second call before everybody's first, and each
    meter's calls go back in time."""
    nights = make_nights(3, max_span={"hour": "7d"})
    nights.run(SyncRequest(replace(ORDER, since=date(2022, 3, 5))))
    nights.sleep_a_day()
    before = len(nights.cloud.log)
    nights.run(SyncRequest(replace(ORDER, since=date(2022, 2, 1))))
    usage = [one for one in list(nights.cloud.log)[before:] if "/usage" in one.path]
    meters = [one.path for one in usage]
    first = meters[: len(set(meters))]
    assert len(set(first)) == len(first)
    for path in set(meters):
        starts = [one.query.partition("start=")[2] for one in usage if one.path == path]
        assert starts == sorted(starts, reverse=True)
        assert len(starts) > 5


def test_no_more_calls_than_asked_for_and_the_rest_next_time(
    make_nights: Callable[..., Nights],
) -> None:
    """With three calls a run, lists included, each of seven meters is asked once before any is
    asked again."""
    nights = make_nights(3)
    total: Counter[str] = Counter()
    for _ in range(4):
        before = nights.cloud.calls
        _, paths = nights.run(SyncRequest(ORDER, calls=4))
        assert nights.cloud.calls - before <= 4
        total += asked(paths)
    assert len(total) == 7
    assert set(total.values()) == {1}


def test_retries_count_among_the_calls(make_nights: Callable[..., Nights]) -> None:
    """A cloud that stumbles: six calls are six calls."""
    nights = make_nights(3)
    nights.cloud.faults.add(Fault.parse("status=500,path=/usage,times=3"))
    before = nights.cloud.calls
    facts, _ = nights.run(SyncRequest(ORDER, calls=6))
    assert nights.cloud.calls - before == 6
    assert facts["left"] > 0


def test_no_limit_is_ever_passed_and_the_day_is_spent(make_nights: Callable[..., Nights]) -> None:
    """Ten calls an hour and thirty a day, five in reserve: the run waits hour by hour, and ends
    with the day's calls. The cloud counts too, and refuses none."""
    nights = make_nights(12, quota="10/h,30/d", max_span={"hour": "7d"})
    quota = (Limit(10, HOUR_S), Limit(30, DAY_S))
    for _ in range(3):
        begun_s = nights.clock.now_s
        before = nights.cloud.calls
        nights.run(quota=quota, reserve=5)
        assert nights.cloud.calls - before == 25
        assert nights.clock.now_s > begun_s + 4 * HOUR_S
        nights.clock.now_s = begun_s + DAY_S + 60
    assert not [one for one in nights.cloud.log if one.status == 429]


def test_it_stops_at_the_time_that_was_given(make_nights: Callable[..., Nights]) -> None:
    """Ten calls an hour, two and a half hours: three times ten, and no wait beyond the end."""
    nights = make_nights(12, quota="10/h", max_span={"hour": "7d"})
    until_s = nights.clock.now_s + 2.5 * HOUR_S
    facts, paths = nights.run(SyncRequest(ORDER, until_s=until_s), quota=(Limit(10, HOUR_S),))
    assert len(paths) == 30
    assert facts["left"] > 0
    assert nights.clock.now_s < until_s


def test_without_waiting_it_does_what_is_free(make_nights: Callable[..., Nights]) -> None:
    nights = make_nights(12, quota="10/h")
    facts, paths = nights.run(quota=(Limit(10, HOUR_S),), wait=False)
    assert len(paths) == 10
    assert facts["left"] == 25 - 8


def test_a_meter_that_fails_stops_no_other(make_nights: Callable[..., Nights]) -> None:
    """It is named, comes last the next night, and is then made good."""
    nights = make_nights(3)
    bad = next(iter(nights.cloud.fleet.meters())).id
    path = f"/meter/{bad}/usage"
    nights.cloud.faults.add(Fault.parse(f"status=418,path={path},times=1"))
    facts, paths = nights.run()
    assert [one["id"] for one in facts["failed"]] == [bad]
    assert len(asked(paths)) == 7
    nights.sleep_a_day()
    facts, paths = nights.run()
    assert facts["failed"] == []
    assert [one for one in paths if "/usage" in one][-1].endswith(path)
    fresh = nights.context(apart=True)
    sync(fresh, SYNC)
    held = rows_of(nights.context().archive, nights.cloud)
    assert held == rows_of(fresh.archive, nights.cloud)


def test_refusals_in_a_row_end_it(make_nights: Callable[..., Nights]) -> None:
    nights = make_nights(12)
    nights.cloud.faults.add(Fault(path="/usage", status=403, times=None))
    before = nights.cloud.calls
    with pytest.raises(CredentialsError):
        nights.run()
    assert len(asked(nights.paths(before))) <= 3


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_run_that_was_killed_goes_on(make_nights: Callable[..., Nights], after: int) -> None:
    """Whatever was answered is not asked for again, and the rows are those of a run that ended."""
    nights = make_nights(3)
    context = nights.context()
    kill_after(context, after)
    with pytest.raises(KeyboardInterrupt):
        sync(context, SYNC)
    _, paths = nights.run()
    assert len(asked(paths)) == 7 - after
    fresh = nights.context(apart=True)
    sync(fresh, SYNC)
    held = rows_of(nights.context().archive, nights.cloud)
    assert held == rows_of(fresh.archive, nights.cloud)


def test_a_quota_that_is_too_small_is_told_before(make_nights: Callable[..., Nights]) -> None:
    """Seven meters, five calls a run of which two are lists: every 2.3 days, 1.7 old."""
    nights = make_nights(3)
    nights.run(SyncRequest(ORDER, calls=5))
    assert any(
        "7 meters hourly: each is asked every 2.3 days (mean age 1.7 days)" in one
        for one in nights.said
    )
    assert any("--with registers" in one for one in nights.said)


def test_registers_are_a_call_for_all(make_nights: Callable[..., Nights]) -> None:
    """Without a granularity nobody is asked for rows; the snapshots are kept."""
    nights = make_nights(3)
    order = SyncOrder(date(2022, 3, 1), extras=("registers",))
    _, paths = nights.run(SyncRequest(order))
    assert [path.rpartition("/")[2] for path in paths] == ["meter", "premise", "bulk"]
    with nights.context().archive.reading() as db:
        assert db.execute("SELECT count(*) FROM snapshots").fetchone()[0] > 0


def test_grid_and_readings_are_kept_too(make_nights: Callable[..., Nights]) -> None:
    """They are there after the first night, and the second asks for the last days alone."""
    nights = make_nights(2)
    order = replace(ORDER, extras=("readings", "grid"))
    nights.run(SyncRequest(order))
    archive = nights.context().archive
    assert {one.key.kind for one in archive.held()} == {"usage", "readings", "grid"}
    nights.sleep_a_day()
    before = len(nights.cloud.log)
    nights.run(SyncRequest(order))
    log = [one for one in list(nights.cloud.log)[before:] if "start=" in one.query]
    assert {one.path.rpartition("/")[2] for one in log} == {"usage", "readings"}
    assert len([one for one in log if "/grid/" in one.path]) == 1
    assert all("start=2022-03-1" in one.query or "start=2022-03-2" in one.query for one in log)


def test_the_lists_are_asked_for_anew(make_nights: Callable[..., Nights], tmp_path: Path) -> None:
    """Also while an answer that is kept would do: what it says of who moved is old."""
    nights = make_nights(1, max_age=3600)
    nights.run(use_cache=True)
    nights.clock.now_s += 1800
    _, paths = nights.run(use_cache=True)
    assert "meter" in [path.rpartition("/")[2] for path in paths]


def test_a_type_or_a_meter_that_is_not_there(make_nights: Callable[..., Nights]) -> None:
    """Typed it is a mistake; of a standing order the others are still asked for."""
    nights = make_nights(1)
    with pytest.raises(UsageError, match="no meter is of type steam; there are gas, power"):
        nights.run(SyncRequest(replace(ORDER, types=("steam",))))
    gone = replace(ORDER, meter_ids=("07:0", next(iter(nights.cloud.fleet.meters())).id))
    with pytest.raises(UsageError, match="no meter 07:0"):
        nights.run(SyncRequest(gone))
    facts, paths = nights.run(SyncRequest(gone, is_typed=False))
    assert [one["id"] for one in facts["failed"]] == ["07:0"]
    assert len(asked(paths)) == 1


def test_the_order_is_remembered(make_nights: Callable[..., Nights]) -> None:
    """Meters stand in names of notes, where `archive forget` looks; without the last of them the
    order means no meter, not all."""
    archive = make_nights(1).context().archive
    assert read_order(archive) is None
    order = SyncOrder(date(2024, 1, 1), "hour", ("grid",), ("gas",), ("07:1", "07:2"))
    keep_order(archive, order)
    assert read_order(archive) == order
    archive.set_note("sync-order meter 07:1", None)
    archive.set_note("sync-order meter 07:2", None)
    assert read_order(archive) == replace(order, meter_ids=())
    keep_order(archive, ORDER)
    assert read_order(archive) == ORDER
    assert forget_order(archive)
    assert not forget_order(archive)
    assert read_order(archive) is None
