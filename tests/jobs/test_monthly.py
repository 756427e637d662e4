"""The monthly report: what is counted, what is added up, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.errors import QuotaSpentError
from copper_cli.jobs.interval import download_series
from copper_cli.jobs.monthly import report_monthly
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Context, Output
from copper_cli.work.meter_series import SeriesRequest

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
SEPTEMBER = date(2021, 9, 1)


@pytest.fixture
def serve() -> Iterator[Callable[..., Sandbox]]:
    clouds = []

    def start(**settings: object) -> Sandbox:
        cloud = Sandbox(SandboxConfig(**{"quota": None, "now": NOW, "premises": 12, **settings}))  # type: ignore[arg-type]
        clouds.append(cloud.start())
        return cloud

    yield start
    for cloud in clouds:
        cloud.stop()


def local(year: int, month: int, zone: str) -> datetime:
    return datetime(year, month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copper_cli.cloud.transport.backoff_s", lambda *a, **k: 0.0)


def test_rows_values_units_and_notes(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """Counts (note 1), own sums (2) and aggregates (4) of each type, types sorted."""
    cloud = serve()
    found = report_monthly(make_context(cloud), SEPTEMBER, include_per_meter_sum=True)
    table = found.table
    assert table.title == "Monthly report for 2021-09"
    assert [c.header for c in table.columns] == ["Statistic", "Value", "Units", "Note"]
    rows = {row[0]: tuple(row[1:]) for row in table.rows}
    meters = list(cloud.fleet.meters())
    kinds = sorted({m.type for m in meters})
    expected = ["total homes", "total meters"]
    for kind in kinds:
        expected += [
            f"{kind} {what}" for what in ("meters", "cumulative per-meter usage", "aggregate usage")
        ]
    assert [row[0] for row in table.rows] == expected
    assert rows["total homes"] == (12, None, 1)
    assert rows["total meters"] == (25, None, 1)
    oldest = min(cloud.fleet.premises(), key=lambda p: p.created_utc).zone
    for kind in kinds:
        own = [m for m in meters if m.type == kind]
        unit = {"p": "kwh", "g": "ccf", "w": "gal"}[kind[0]]
        assert rows[f"{kind} meters"] == (len(own), None, 1)
        each = sum(
            cloud.fleet.register_at(m.id, local(2021, 10, m.zone))
            - cloud.fleet.register_at(m.id, local(2021, 9, m.zone))
            for m in own
        )
        value, *rest = rows[f"{kind} cumulative per-meter usage"]
        assert value == pytest.approx(each, abs=0.006)
        assert rest == [unit, 2]
        whole = sum(
            cloud.fleet.register_at(m.id, local(2021, 10, oldest))
            - cloud.fleet.register_at(m.id, local(2021, 9, oldest))
            for m in own
        )
        value, *rest = rows[f"{kind} aggregate usage"]
        assert value == pytest.approx(whole, abs=0.006)
        assert rest == [unit, 4]
        assert value == round(value, 2)
    assert [row[0] for row in found.legend.rows] == [1, 2, 3, 4]
    assert table.facts["failed"] == []


def test_without_the_flag_no_meter_is_asked(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """Two lists and an aggregate a type."""
    cloud = serve()
    table = report_monthly(make_context(cloud), SEPTEMBER).table
    assert not [row for row in table.rows if "per-meter" in row[0]]
    kinds = {m.type for m in cloud.fleet.meters()}
    assert table.facts["calls"] == cloud.calls == 2 + len(kinds)


def test_meters_and_homes_made_after_the_month_are_not_counted(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """The month ends at the local midnight of the oldest premise's zone."""
    cloud = serve()
    zone = min(cloud.fleet.premises(), key=lambda p: p.created_utc).zone
    end = local(2020, 1, zone)
    table = report_monthly(make_context(cloud), date(2019, 12, 1)).table
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["total homes"] == sum(p.created_utc < end for p in cloud.fleet.premises())
    there = [m for m in cloud.fleet.meters() if m.created_utc < end]
    assert 0 < rows["total meters"] == len(there) < 25
    assert {name for name in rows if name.endswith(" meters")} == {
        "total meters",
        *(f"{m.type} meters" for m in there),
    }


def test_a_month_before_anything_was(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """Two zeros."""
    found = report_monthly(make_context(serve()), date(2018, 1, 1), include_per_meter_sum=True)
    assert [row[:2] for row in found.table.rows] == [("total homes", 0), ("total meters", 0)]


def test_a_type_that_does_not_report_has_no_aggregate(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """The cloud answers an error (404 or 400) then: no row, and nothing is missing."""
    for status in (404, 400):
        cloud = serve()
        cloud.faults.add(Fault(status=status, path="meter_type=gas"))
        table = report_monthly(make_context(cloud), SEPTEMBER).table
        names = [row[0] for row in table.rows]
        assert "gas meters" in names
        assert "gas aggregate usage" not in names
        assert table.facts["failed"] == []


def test_an_aggregate_that_fails_is_left_out_and_told(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """The other types are there."""
    cloud = serve()
    cloud.faults.add(Fault(path="meter_type=gas", times=None))
    table = report_monthly(make_context(cloud), SEPTEMBER).table
    names = [row[0] for row in table.rows]
    assert "gas aggregate usage" not in names
    assert "power aggregate usage" in names
    (failed,) = table.facts["failed"]
    assert failed["id"] == "gas aggregate usage"
    assert "answered 500" in failed["reason"]


@pytest.mark.parametrize("jobs", [1, 8])
def test_a_sum_that_lacks_a_meter_is_left_out(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context], jobs: int
) -> None:
    """A total of a type of which one meter failed would be too small: no row, it is told."""
    cloud = serve()
    gas = next(m for m in cloud.fleet.meters() if m.type == "gas")
    cloud.faults.add(Fault(path=f"{gas.id[3:]}/usage", times=None))
    context = make_context(cloud, jobs=jobs)
    table = report_monthly(context, SEPTEMBER, include_per_meter_sum=True).table
    names = [row[0] for row in table.rows]
    assert "gas cumulative per-meter usage" not in names
    assert "gas aggregate usage" in names
    assert "power cumulative per-meter usage" in names
    assert [one["id"] for one in table.facts["failed"]] == [gas.id]


def test_a_spent_quota_ends_it(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """Rather than a report with holes."""
    from copper_cli.config import Limit

    for calls, sums in ((5, True), (4, False)):
        context = make_context(serve(), quota=(Limit(calls, 3600),), wait=False)
        with pytest.raises(QuotaSpentError):
            report_monthly(context, SEPTEMBER, include_per_meter_sum=sums)


def test_december_ends_with_the_year(
    serve: Callable[..., Sandbox], make_context: Callable[..., Context]
) -> None:
    """The window asked runs to the first of January."""
    cloud = serve()
    report_monthly(make_context(cloud), date(2021, 12, 1))
    query = next(r.query for r in cloud.log if r.path.endswith("aggregate/usage"))
    zone = min(cloud.fleet.premises(), key=lambda p: p.created_utc).zone
    for year, month, name in ((2021, 12, "start"), (2022, 1, "end")):
        text = f"{local(year, month, zone):%Y-%m-%dT%H}%3A00%3A00Z"
        assert f"{name}={text}" in query
    assert timedelta(days=31) == local(2022, 1, zone) - local(2021, 12, zone)


def test_a_month_whose_hours_are_held_costs_no_call_a_meter(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """Its sums are added up from them, which is said; they are the cloud's but for what four
    decimals leave out."""
    lines: list[str] = []
    now = datetime(2022, 3, 28, tzinfo=UTC)
    with Sandbox(SandboxConfig(premises=2, quota=None, max_age=0, now=now)) as cloud:
        hours = SeriesRequest("usage", date(2021, 12, 20), date(2022, 2, 10), "hour")
        download_series(make_context(cloud), hours, Output(tmp_path))
        month, calls = date(2022, 1, 1), cloud.calls
        context = make_context(cloud)
        context.progress.say = lines.append  # type: ignore[method-assign]
        held = report_monthly(context, month, include_per_meter_sum=True).table
        kinds = {meter.type for meter in cloud.fleet.meters()}
        assert cloud.calls - calls == 2 + len(kinds)
        assert lines == ["4 of 4 sums are added up from rows that are held."]
        asked = report_monthly(
            make_context(cloud, apart=True), month, include_per_meter_sum=True
        ).table
    for mine, theirs in zip(held.rows, asked.rows, strict=True):
        assert mine[0] == theirs[0]
        assert mine[1] == pytest.approx(theirs[1], abs=0.05)


def test_a_month_of_half_hour_clock_changes_is_asked_for_once(
    make_context: Callable[..., Context],
) -> None:
    """Lord Howe's October takes two windows: their sums tile it, and the cloud's own they are."""
    lines: list[str] = []
    now = datetime(2022, 3, 28, tzinfo=UTC)
    config = SandboxConfig(
        premises=1, quota=None, max_age=0, now=now, zones=("Australia/Lord_Howe",)
    )
    with Sandbox(config) as cloud:
        month = date(2021, 10, 1)
        first = report_monthly(make_context(cloud), month, include_per_meter_sum=True).table
        calls, context = cloud.calls, make_context(cloud)
        context.progress.say = lines.append  # type: ignore[method-assign]
        again = report_monthly(context, month, include_per_meter_sum=True).table
        kinds = {meter.type for meter in cloud.fleet.meters()}
        assert cloud.calls - calls == 2 + len(kinds)
    assert again.rows == first.rows
    assert lines == []
