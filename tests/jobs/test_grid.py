"""Grid readings: each gateway's own local days, one call for all, failures shared."""

from __future__ import annotations

import csv
import gc
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.errors import UsageError
from copper_cli.jobs.grid import (
    GridRequest,
    download_grid_readings,
    estimate_grid_readings,
    list_grid_latest,
)
from copper_cli.records import GridSeries, Window
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Context, Output

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
ZONES = ("America/Denver", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
DAY = date(2022, 1, 20)


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    config = SandboxConfig(quota=None, now=NOW, premises=4, zones=ZONES)
    with Sandbox(config) as found:
        yield found


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copper_cli.cloud.transport.backoff_s", lambda *a, **k: 0.0)


def expected(cloud: Sandbox, gateway_id: str, zone: str, days: int) -> list[list[str]]:
    """Every quarter of an hour from local midnight to the last before END's following one."""
    own = ZoneInfo(zone)
    moment = datetime(2022, 1, 20, tzinfo=own).astimezone(UTC)
    end = (datetime(2022, 1, 20, tzinfo=own) + timedelta(days=days)).astimezone(UTC)
    rows = []
    while moment < end:
        voltage, frequency = cloud.fleet.grid_at(gateway_id, int(moment.timestamp()))
        local = moment.astimezone(own).replace(tzinfo=None)
        rows.append([gateway_id, str(local), str(voltage), str(frequency)])
        moment += timedelta(minutes=15)
    return rows


def test_each_file_holds_its_premises_own_days(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """The reference cut days in the first premise's zone: gateways elsewhere lost hours.

    Two lists and, for 2 local days from Auckland's to Denver's, one call.
    """
    request = GridRequest(DAY, DAY + timedelta(days=1))
    table = download_grid_readings(make_context(cloud), request, Output(tmp_path / "o"))
    assert table.title == "Grid readings download 2022-01-20 through 2022-01-21"
    gateways = [g for g in cloud.fleet.gateways() if g.zone]
    assert [row[4] for row in table.rows] == [g.id for g in gateways]
    for gateway in gateways:
        assert gateway.zone is not None
        text = (tmp_path / "o" / f"{gateway.id}.csv").read_bytes().decode()
        head, *rows = csv.reader(text.splitlines())
        assert head == ["Gateway ID", "Timestamp", "Voltage", "Frequency"]
        assert len(rows) == 192
        assert rows == expected(cloud, gateway.id, gateway.zone, 2)
    assert (table.facts["calls"], table.facts["done"], table.facts["empty"]) == (3, 4, 1)


def test_one_gateway_and_one_premise(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Only its file; the cloud is asked for that one only."""
    gateway = cloud.fleet.gateway_at(2)
    for request in (
        GridRequest(DAY, DAY, gateway_id=gateway.id),
        GridRequest(DAY, DAY, premise_id=gateway.premise_id),
    ):
        output = Output(tmp_path / ("g" if request.gateway_id else "p"))
        table = download_grid_readings(make_context(cloud, apart=True), request, output)
        assert [row[4] for row in table.rows] == [gateway.id]
        assert [p.stem for p in output.folder.glob("*.csv")] == [gateway.id]
        query = next(r.query for r in reversed(cloud.log) if r.path.endswith("readings"))
        assert f"_id={request.gateway_id or request.premise_id}" in query


def test_unknown_ids(cloud: Sandbox, make_context: Callable[..., Context]) -> None:
    """Both in one question: the gateway must stand at the premise."""
    first, second = cloud.fleet.gateway_at(0), cloud.fleet.gateway_at(1)
    for request, told in (
        (GridRequest(DAY, DAY, gateway_id="zz"), "no gateway zz"),
        (GridRequest(DAY, DAY, premise_id="zz"), "no premise zz"),
        (GridRequest(DAY, DAY, first.premise_id, second.id), "has no such gateway"),
    ):
        with pytest.raises(UsageError, match=told):
            download_grid_readings(make_context(cloud), request, Output(Path("nowhere")))
    assert not Path("nowhere").exists()


def test_a_call_that_fails_is_every_gateways_failure(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """They share the call, so it is tried five times, not five times a gateway."""
    cloud.faults.add(Fault(path="grid/readings", times=None))
    context = make_context(cloud, jobs=4)
    table = download_grid_readings(context, GridRequest(DAY, DAY), Output(tmp_path / "o"))
    assert len(table.facts["failed"]) == 5
    assert table.facts["calls"] == 2 + 5
    assert table.rows == []


def test_a_long_range_takes_several_calls(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """5 gateways × 1440 rows a day against 100,000 rows a call: 13 days a call.

    30 days, and the 18 hours and a half between Auckland's and Denver's midnights: 3 calls,
    counted rightly beforehand; rows at the seams stand once.
    """
    request = GridRequest(DAY, DAY + timedelta(days=29))
    output = Output(tmp_path / "o")
    estimate = estimate_grid_readings(make_context(cloud), request, output)
    assert (estimate.facts["calls"], estimate.facts["to_ask"]) == (3, 3)
    table = download_grid_readings(make_context(cloud), request, output)
    assert table.facts["calls"] == 2 + 3
    for gateway in (cloud.fleet.gateway_at(0), cloud.fleet.gateway_at(3)):
        text = (output.folder / f"{gateway.id}.csv").read_text()
        assert len(text.splitlines()) == 1 + 30 * 96
    again = estimate_grid_readings(make_context(cloud), request, output)
    assert (again.facts["kept"], again.facts["to_ask"]) == (3, 0)


MONTH = GridRequest(DAY, DAY + timedelta(days=29))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def asked(cloud: Sandbox) -> list[str]:
    return [r.query for r in cloud.log if r.path.endswith("grid/readings") and r.status == 200]


def test_a_range_that_fails_half_way_is_taken_up_there(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """The second of three calls is refused: the next run makes the last two, as --dry-run says,
    and the folder ends as if nothing had happened."""
    whole = Output(tmp_path / "whole")
    download_grid_readings(make_context(cloud, apart=True), MONTH, whole)
    output = Output(tmp_path / "o")
    cloud.faults.add(Fault.parse("status=418,path=grid/readings,skip=1,times=1"))
    first = download_grid_readings(make_context(cloud), MONTH, output)
    assert len(first.facts["failed"]) == 5
    assert files(output.folder) == {}
    facts = estimate_grid_readings(make_context(cloud), MONTH, output).facts
    assert (facts["calls"], facts["kept"], facts["to_ask"]) == (3, 1, 2)
    before = len(asked(cloud))
    second = download_grid_readings(make_context(cloud), MONTH, output)
    assert second.facts["failed"] == []
    assert len(asked(cloud)) - before == 2
    assert files(output.folder) == files(whole.folder)


def test_what_may_still_come_in_is_asked_again(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Of a range up to today the last call may lack what gateways send late."""
    now = datetime(2022, 2, 19, 12, tzinfo=UTC)  # within the third call's days
    with Sandbox(SandboxConfig(quota=None, now=now, premises=4, zones=ZONES)) as cloud:
        output = Output(tmp_path / "o")
        cloud.faults.add(Fault.parse("status=418,path=grid/readings,skip=2,times=1"))
        assert download_grid_readings(make_context(cloud), MONTH, output).facts["failed"]
        before = len(asked(cloud))
        assert not download_grid_readings(make_context(cloud), MONTH, output).facts["failed"]
        assert len(asked(cloud)) - before == 1
        before = len(asked(cloud))
        download_grid_readings(make_context(cloud), MONTH, output)
        assert len(asked(cloud)) - before == 1


@pytest.mark.parametrize("days", [1, 5, 12])
def test_a_long_span_that_is_refused_is_asked_in_parts(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, days: int
) -> None:
    """The same files; the next run knows the limit well enough, and --dry-run promises no less
    than it needs."""
    download_grid_readings(make_context(cloud, apart=True), MONTH, Output(tmp_path / "whole"))
    config = SandboxConfig(
        quota=None, now=NOW, premises=4, zones=ZONES, max_span={"grid": f"{days}d"}
    )
    with Sandbox(config) as strict:
        output = Output(tmp_path / "first")
        table = download_grid_readings(make_context(strict), MONTH, output)
        assert table.facts["failed"] == []
        assert files(output.folder) == files(tmp_path / "whole")
        fewest = -(-31 // days)  # 30 days, and most of one more between the zones' midnights
        again = Output(tmp_path / "second")
        estimate = estimate_grid_readings(make_context(strict, apart=True), MONTH, again)
        table = download_grid_readings(make_context(strict, apart=True), MONTH, again)
        used = table.facts["calls"] - 2
        assert fewest <= used <= fewest * 2
        assert used <= estimate.facts["calls"] + 1  # one try for more
        assert files(again.folder) == files(tmp_path / "whole")


def test_no_answer_is_held_while_the_next_is_asked(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A day of a large fleet is large: memory must not grow with the days."""
    context = make_context(cloud)
    ask, held = context.client.fetch_grid_readings, []

    def watch(window: Window, **filters: str | None) -> dict[str, GridSeries]:
        alive = [one for one in gc.get_objects() if type(one) is GridSeries]
        held.append(sum(len(one.times_us) > 9 for one in alive))
        return ask(window, **filters)

    monkeypatch.setattr(context.client, "fetch_grid_readings", watch)
    gc.collect()
    download_grid_readings(context, MONTH, Output(tmp_path))
    assert held == [0, 0, 0]


def test_ctrl_c_ends_between_two_calls(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call in flight is answered and kept, and no other is made: they may be an hour's quota.
    The next run makes the last one."""
    context = make_context(cloud)
    ask = context.client.fetch_grid_readings

    def press(window: Window, **filters: str | None) -> dict[str, GridSeries]:
        found = ask(window, **filters)
        if len(asked(cloud)) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(context.client, "fetch_grid_readings", press)
    with pytest.raises(KeyboardInterrupt):
        download_grid_readings(context, MONTH, Output(tmp_path))
    assert len(asked(cloud)) == 2
    download_grid_readings(make_context(cloud), MONTH, Output(tmp_path))
    assert len(asked(cloud)) == 3


def test_one_gateway_of_a_range_that_failed_half_way(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """What the fleet's calls brought serves the one, and is not lost to the others."""
    output = Output(tmp_path / "o")
    cloud.faults.add(Fault.parse("status=418,path=grid/readings,skip=1,times=1"))
    assert download_grid_readings(make_context(cloud), MONTH, output).facts["failed"]
    one = replace(MONTH, gateway_id=cloud.fleet.gateway_at(0).id)
    before = len(asked(cloud))
    download_grid_readings(make_context(cloud), one, output)
    assert len(asked(cloud)) - before == 1  # of one gateway a call brings many more days
    before = len(asked(cloud))
    download_grid_readings(make_context(cloud), MONTH, output)
    assert len(asked(cloud)) - before == 2


def test_latest_of_mixed_zones(cloud: Sandbox, make_context: Callable[..., Context]) -> None:
    """18:00 UTC: noon in Denver, 14:00 in New York, 23:30 in Kolkata, the next day in Auckland."""
    table = list_grid_latest(make_context(cloud))
    place = [c.key for c in table.columns].index("timestamp")
    text = table.columns[place].text
    assert text is not None
    assert [str(text(row[place])) for row in table.rows] == [
        "2022-03-28 12:00:00",
        "2022-03-28 14:00:00",
        "2022-03-28 23:30:00",
        "2022-03-29 07:00:00",
    ]
