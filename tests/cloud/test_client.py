"""The partner endpoints: what is asked, both kinds of paging, ids that would like to be paths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.pages import next_path
from copper_cli.errors import BadRequestError, CloudError, CredentialsError, NotFoundError
from copper_cli.records import Aggregate, Window

from .mini_cloud import START_S, Said

ROOT = "/api/v2/partner/ent"
WINDOW = Window(datetime(2020, 12, 22, 7, tzinfo=UTC), datetime(2020, 12, 23, 7, tzinfo=UTC))
SPAN = {"start": "2020-12-22T07:00:00Z", "end": "2020-12-23T07:00:00Z"}


@pytest.fixture
def client(open_session):
    return CloudClient(open_session(), "ent")


def ids(count: int, start: int = 0) -> list[dict]:
    return [{"id": str(n)} for n in range(start, start + count)]


def test_defaults_are_left_out_of_the_question(cloud, client):
    """The first page with the cloud's own limit has no parameters at all."""
    cloud.say(f"{ROOT}/premise", ids(2))
    assert [premise.id for premise in client.fetch_premises()] == ["0", "1"]
    assert cloud.asked[0].target == f"{ROOT}/premise"


def test_lists_are_asked_as_the_cloud_expects(cloud, client):
    """`with_users=True` and `with_history=false`, to the letter."""
    for name in ("premise", "meter", "gateway", "gateway/history"):
        cloud.say(f"{ROOT}/{name}", default=[])
    client.fetch_premises(with_users=True)
    client.fetch_meters()
    client.fetch_meters(with_history=False, premise_id="p 1")
    client.fetch_gateways()
    client.fetch_gateways(with_history=True)
    client.fetch_gateway_histories()
    assert [asked.target.removeprefix(ROOT) for asked in cloud.asked] == [
        "/premise?with_users=True",
        "/meter",
        "/meter?with_history=false&premise_id=p+1",
        "/gateway?with_history=false",
        "/gateway",
        "/gateway/history",
    ]


def test_offset_lists_go_on_until_a_short_page(cloud, open_session):
    """Pages of 2: 0-1, 2-3, 4; each row once."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", ids(2), ids(2, 2), ids(1, 4))
    assert [meter.id for meter in client.fetch_meters()] == ["0", "1", "2", "3", "4"]
    assert [asked.query for asked in cloud.asked] == [
        {"limit": "2"},
        {"limit": "2", "offset": "2"},
        {"limit": "2", "offset": "4"},
    ]


def test_a_last_page_as_long_as_the_limit_is_followed_by_an_empty_one(cloud, open_session):
    """Exactly 2 of 2, then none."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", ids(2), [])
    assert len(client.fetch_meters()) == 2
    assert len(cloud.asked) == 2


def test_a_row_that_moved_to_the_next_page_comes_once(cloud, open_session):
    """The list grew meanwhile."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", ids(2), ids(2, 1), ids(1, 3))
    assert [meter.id for meter in client.fetch_meters()] == ["0", "1", "2", "3"]


def test_rows_without_an_id_count_for_the_length_of_a_page(cloud, open_session):
    """A dropped row does not end the list early."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", [{"id": "0"}, {}], ids(1, 2))
    assert [meter.id for meter in client.fetch_meters()] == ["0", "2"]


def test_a_cloud_that_ignores_offset_is_found_out(cloud, open_session):
    """The same page again and again is an error after the second, not an endless loop."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", default=ids(2))
    with pytest.raises(CloudError, match="repeats a page"):
        client.fetch_meters()
    assert len(cloud.asked) == 2


def test_next_lists_are_followed_as_given(cloud, client):
    """A path with its query, a whole address of the same host, then null."""
    cloud.say(
        f"{ROOT}/bulk",
        {"results": [{"meter_id": "a"}], "next": f"{ROOT}/bulk?cursor=x%2Fy&n=1"},
        {"results": [{"meter_id": "b"}], "next": f"{cloud.url}{ROOT}/bulk?cursor=2"},
        {"results": [{"meter_id": "c"}], "next": None},
    )
    assert [reading.meter_id for reading in client.fetch_bulk()] == ["a", "b", "c"]
    assert [asked.target for asked in cloud.asked] == [
        f"{ROOT}/bulk",
        f"{ROOT}/bulk?cursor=x%2Fy&n=1",
        f"{ROOT}/bulk?cursor=2",
    ]


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/x", "//evil.example/x", "http://127.0.0.1:1/x", "ftp:x", "https://[x"],
)
def test_next_never_leads_to_another_host(cloud, client, following):
    """The token stays home."""
    cloud.say(f"{ROOT}/bulk", {"results": [], "next": following})
    with pytest.raises(CloudError, match="next page"):
        client.fetch_bulk()
    assert len(cloud.asked) == 1


def test_next_in_a_ring_is_found_out(cloud, client):
    """Two pages that name each other."""
    cloud.say(
        f"{ROOT}/grid/latest",
        {"results": [], "next": f"{ROOT}/grid/latest?page=2"},
        default={"results": [], "next": f"{ROOT}/grid/latest"},
    )
    with pytest.raises(CloudError, match="ring"):
        client.fetch_grid_latest()


def test_next_on_a_host_with_a_path_prefix():
    """The prefix of a proxy is not doubled; a path without a slash is relative to the page."""
    assert next_path("https://p.example/copper", "/a/b", "/copper/a/c?x=1", "y") == "/a/c?x=1"
    assert next_path("https://p.example", "/a/b", "c?x=1#f", "y") == "/a/c?x=1"
    assert next_path("https://p.example", "/a/b", "https://p.example", "y") == "/"


@pytest.mark.parametrize(
    ("meter_id", "segment"),
    [
        ("07:1552395084", "07%3A1552395084"),
        ("../../x", "..%2F..%2Fx"),
        ("a/b?c", "a%2Fb%3Fc"),
        ("a#b", "a%23b"),
        ("%2e%2e", "%252e%252e"),
        ("é ", "%C3%A9%20"),
        ("\ud800", "%3F"),
    ],
)
def test_no_id_names_another_path(cloud, client, meter_id, segment):
    """Every id is one segment of the path, whatever is in it."""
    with pytest.raises(NotFoundError):
        client.fetch_series(meter_id, "usage", WINDOW, "hour")
    assert cloud.asked[0].target.partition("?")[0] == f"{ROOT}/meter/{segment}/usage"


@pytest.mark.parametrize("meter_id", ["", ".", ".."])
def test_what_cannot_be_a_segment_is_not_asked(cloud, client, meter_id):
    """Dots would be resolved on the way, whatever their encoding."""
    with pytest.raises(NotFoundError, match="There is no meter"):
        client.fetch_series(meter_id, "usage", WINDOW, "hour")
    assert cloud.asked == []


def test_an_enterprise_id_is_needed(open_session):
    """Without one nothing can be asked."""
    with pytest.raises(CredentialsError, match="COPPER_ENTERPRISE_ID"):
        CloudClient(open_session(), "")


def test_series_question_and_answer(cloud, client):
    """One call, dates in UTC with a Z."""
    local = timezone(timedelta(hours=-7))
    window = Window(
        datetime(2020, 12, 22, 0, 0, 0, 999, tzinfo=local), datetime(2020, 12, 23, tzinfo=local)
    )
    cloud.say(
        f"{ROOT}/meter/07%3A1/baseline-series",
        {"series": [{"time": "2020-12-22T08:00:00.000Z", "energy": 1, "power": 1}]},
    )
    series = client.fetch_series("07:1", "baseline-series", window, "hour")
    assert series.energy == [1]
    assert cloud.asked[0].query == {"granularity": "hour"} | SPAN


def test_rows_are_not_kept_in_the_cache(cloud, client):
    """However long the cloud lets them be kept: the archive has them."""
    end_utc = datetime.fromtimestamp(START_S - 3600, UTC)
    window = Window(end_utc - timedelta(hours=1), end_utc)
    recent = end_utc.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    headers = {"Cache-Control": "max-age=900"}
    cloud.say(
        f"{ROOT}/meter/07%3A1/usage",
        *(Said(body={"results": [{"time": recent, "usage": n}]}, headers=headers) for n in (4, 5)),
    )
    answers = [client.fetch_series("07:1", "usage", window, "hour").energy for _ in range(2)]
    assert answers == [[4], [5]]


def test_a_list_with_an_email_to_come_is_asked_again(cloud, client):
    """Until every user has one."""
    headers = {"Cache-Control": "max-age=900"}
    cloud.say(
        f"{ROOT}/premise",
        Said(body=[{"id": "p", "user_list": [{}]}], headers=headers),
        Said(body=[{"id": "p", "user_list": [{"email": "a@b.c"}]}], headers=headers),
    )
    emails = [client.fetch_premises(with_users=True)[0].emails for _ in range(3)]
    assert emails == [(None,), ("a@b.c",), ("a@b.c",)]
    assert len(cloud.asked) == 2


def test_grid_readings_come_sorted(cloud, client):
    """By gateway, then time; filters only where given."""
    at = "2020-12-22T0{}:00:00.000Z".format
    rows = [("b", 8), ("a", 9), ("a", 8)]
    cloud.say(
        f"{ROOT}/grid/readings",
        default=[{"gateway_id": g, "hw_timestamp": at(h), "voltage": h} for g, h in rows],
    )
    found = client.fetch_grid_readings(WINDOW)
    assert {gateway: one.voltage for gateway, one in found.series.items()} == {
        "a": [8, 9],
        "b": [8],
    }
    client.fetch_grid_readings(WINDOW, premise_id="p", gateway_id="b")
    assert cloud.asked[0].query == SPAN
    assert cloud.asked[1].query == SPAN | {"premise_id": "p", "gateway_id": "b"}


def test_readings_question(cloud, client):
    """Only the span."""
    cloud.say(
        f"{ROOT}/meter/07%3A1/readings",
        {"results": [{"time": "2020-12-22T08:00:00Z", "actual": 5, "value": 0.05}]},
    )
    assert [reading.actual for reading in client.fetch_readings("07:1", WINDOW).rows] == [5]
    assert cloud.asked[0].query == SPAN


def test_an_aggregate_of_nobody_is_none(cloud, client):
    """400 and 404 mean that no meter of the type reports; other failures are raised."""
    cloud.say(
        f"{ROOT}/aggregate/usage",
        {"meter_count": 2, "sum_energy": 3.5},
        Said(400, {"message": "no meters"}),
        Said(404, {}),
        Said(405, {}),
    )
    assert client.fetch_aggregate("gas", WINDOW) == Aggregate(2, 3.5)
    assert cloud.asked[0].query == {"granularity": "month", "meter_type": "gas"} | SPAN
    assert client.fetch_aggregate("gas", WINDOW, granularity="day") is None
    assert client.fetch_aggregate("gas", WINDOW, granularity="hour") is None
    with pytest.raises(CloudError) as caught:
        client.fetch_aggregate("water", WINDOW)
    assert caught.value.status == 405
    assert not isinstance(caught.value, BadRequestError)


def test_the_zone_of_a_meter(cloud, client):
    """None where the cloud does not say."""
    cloud.say(f"{ROOT}/meter/07%3A1/location", {"timezone": "America/Denver"}, {"timezone": 5})
    assert client.fetch_timezone("07:1") == "America/Denver"
    assert client.fetch_timezone("07:1") is None


@pytest.mark.parametrize("body", [{"timezone": None}, {}, [], None])
def test_a_location_without_a_zone_is_not_kept(cloud, client, body):
    """However long the cloud lets it be kept: it may know the zone tomorrow."""
    headers = {"Cache-Control": "max-age=31536000"}
    zone = {"timezone": "America/Denver"}
    cloud.say(
        f"{ROOT}/meter/07%3A1/location",
        Said(body=body, headers=headers),
        Said(body=zone, headers=headers),
    )
    assert client.fetch_timezone("07:1") is None
    assert not client.is_timezone_cached("07:1")
    assert client.fetch_timezone("07:1") == "America/Denver"
    assert client.is_timezone_cached("07:1")


def test_a_location_that_is_an_error(cloud, client):
    """It does not say that there is no zone; not kept either."""
    headers = {"Cache-Control": "max-age=31536000"}
    for body in ({"error": "down"}, {"timezone": None, "statusCode": 500, "message": "down"}):
        cloud.say(f"{ROOT}/meter/07%3A1/location", Said(body=body, headers=headers))
        with pytest.raises(CloudError, match="^location of meter 07:1: .* an error: down"):
            client.fetch_timezone("07:1")
    cloud.say(f"{ROOT}/meter/07%3A1/location", {"timezone": "America/Denver"})
    assert client.fetch_timezone("07:1") == "America/Denver"
