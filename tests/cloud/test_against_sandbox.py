"""The client against the local cloud, which knows nothing of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.session import CloudSession
from copper_cli.config import Limit, Secret
from copper_cli.errors import CloudError, CredentialsError
from copper_cli.records import Window
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig

from .mini_cloud import FakeClock, make_settings

DAY = Window(datetime(2024, 3, 1, 7, tzinfo=UTC), datetime(2024, 3, 2, 7, tzinfo=UTC))


@pytest.fixture
def box():
    with Sandbox(SandboxConfig(missing_emails=0, quota="10000/h", next_page=5)) as cloud:
        yield cloud


@pytest.fixture
def session(box, tmp_path):
    env = box.environment()
    settings = make_settings(
        box.url,
        tmp_path,
        client_id=env["COPPER_CLIENT_ID"],
        client_secret=Secret(env["COPPER_CLIENT_SECRET"]),
        enterprise_id=env["COPPER_ENTERPRISE_ID"],
        quota=(Limit(10_000, 3600),),
        timeout_s=1.0,
    )
    with CloudSession(settings, clock=FakeClock(time.time())) as session:
        yield session


@pytest.fixture
def client(session):
    return CloudClient(session, session.settings.enterprise_id, query_limit=5)


def power_meter(client) -> str:
    return next(meter.id for meter in client.fetch_meters() if meter.type == "power")


def test_lists_of_every_kind_are_read_to_their_end(client):
    """Twelve premises in pages of five; everything belongs to one of them."""
    premises = {premise.id for premise in client.fetch_premises(with_users=True)}
    assert len(premises) == 12
    meters = client.fetch_meters()
    assert {meter.premise_id for meter in meters} <= premises
    assert client.fetch_meters(with_history=False, premise_id=meters[0].premise_id)
    gateways = {gateway.id for gateway in client.fetch_gateways()}
    assert set(client.fetch_gateway_histories()) <= gateways
    assert {reading.meter_id for reading in client.fetch_bulk()} <= {meter.id for meter in meters}
    assert {reading.gateway_id for reading in client.fetch_grid_latest()} <= gateways


def test_a_day_of_hours(client):
    """25 rows, both ends included; ascending, an hour apart."""
    series = client.fetch_series(power_meter(client), "usage", DAY, "hour")
    start_s = int(DAY.start_utc.timestamp())
    assert list(series.times_s) == [start_s + 3600 * n for n in range(25)]
    baseline = client.fetch_series(power_meter(client), "baseline-series", DAY, "hour")
    assert baseline.times_s == series.times_s
    window = Window(DAY.start_utc, DAY.start_utc + timedelta(hours=6))
    times = [
        reading.time_utc for reading in client.fetch_readings(power_meter(client), window).rows
    ]
    assert times == sorted(times)


@pytest.mark.parametrize(
    "fault",
    [
        "status=500,path=/usage,times=2",
        "status=429,path=/usage,times=2",
        "kind=reset,path=/usage,times=2",
        "kind=cut,path=/usage,times=2",
        "kind=cut-json,path=/usage,times=2",
        "kind=cut-chunked,path=/usage,times=2",
        "kind=html,path=/usage,times=2",
        "kind=hang,path=/usage,times=1,seconds=3",
        "kind=revoke,path=/usage,times=1",
    ],
)
def test_every_fault_that_passes_is_got_over(box, session, client, fault):
    """The same series as without; each try is a call on both sides."""
    meter_id = power_meter(client)
    plain = client.fetch_series(meter_id, "usage", DAY, "hour")
    session._cache._enabled = False
    box.faults.add(Fault.parse(fault))
    before = session.calls_used
    assert client.fetch_series(meter_id, "usage", DAY, "hour") == plain
    assert session.calls_used - before in (2, 3)


def test_a_redirect_is_an_error(box, client):
    """Nobody follows it."""
    meter_id = power_meter(client)
    box.faults.add(Fault.parse("kind=redirect,path=/usage,times=9"))
    with pytest.raises(CloudError, match="never followed"):
        client.fetch_series(meter_id, "usage", DAY, "hour")


def test_a_wrong_secret(box, tmp_path):
    """Exit code 3, naming the variables."""
    settings = make_settings(box.url, tmp_path, client_id="sandbox-client")
    with (
        CloudSession(settings, clock=FakeClock(time.time())) as session,
        pytest.raises(CredentialsError, match="COPPER_CLIENT_SECRET"),
    ):
        session.get_json("/api/v2/partner/x/premise")


def test_eight_threads_and_a_quota(box, session, client):
    """Every meter's day at once: calls here are calls there."""
    meters = client.fetch_meters()
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda meter: client.fetch_series(meter.id, "usage", DAY, "hour"), meters)
        )
    assert len(found) == len(meters)
    assert session.calls_used == box.calls
    assert box.token_calls == 1
