from __future__ import annotations

from datetime import UTC, datetime

import pytest


def walk_offsets(caller, path, limit, **query):
    """Every page of an offset list, until one is shorter than the limit."""
    pages = []
    while not pages or len(pages[-1]) == limit:
        offset = limit * len(pages)
        pages.append(caller.get(path, limit=limit, offset=offset, **query).json())
    return pages


def walk_next(caller, path):
    """Every page of a next list, following `next` as given."""
    pages = []
    while path:
        page = caller.get(path).json()
        pages.append(page["results"])
        path = page["next"]
    return pages


@pytest.mark.parametrize("path", ["premise", "meter", "gateway", "gateway/history"])
def test_offset_pages_make_up_the_whole_list(serve, path):
    """Pages of 5, the last one shorter, are the list which comes without a limit."""
    caller = serve()
    whole = caller.get(path).json()
    pages = walk_offsets(caller, path, 5)
    assert [len(page) for page in pages[:-1]] == [5] * (len(pages) - 1)
    assert [entry for page in pages for entry in page] == whole
    assert len({entry["id"] for entry in whole}) == len(whole)


@pytest.mark.parametrize("path", ["premise", "meter", "gateway", "gateway/history"])
def test_pages_can_be_capped(serve, path):
    """Whatever `limit` asks for, or none; offsets lead through the whole list all the same."""
    caller = serve(max_page=5)
    whole = serve().get(path).json()
    assert caller.get(path).json() == caller.get(path, limit=1000).json() == whole[:5]
    assert caller.get(path, limit=3, offset=4).json() == whole[4:7]
    pages = [caller.get(path, limit=1000, offset=at).json() for at in range(0, len(whole) + 5, 5)]
    assert [entry for page in pages for entry in page] == whole
    assert caller.get(path, limit=10_001).status_code == 400


def test_a_full_last_page_is_followed_by_an_empty_one(serve):
    """Twelve premises by sixes: the third page is empty."""
    caller = serve()
    assert [len(page) for page in walk_offsets(caller, "premise", 6)] == [6, 6, 0]


def test_the_default_page_has_a_thousand(serve):
    """1001 premises: a page of 1000, then one."""
    caller = serve(premises=1001)
    assert len(caller.get("premise").json()) == 1000
    assert len(caller.get("premise", offset=1000).json()) == 1


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"offset": -1}, {"limit": 10**9}])
def test_wrong_pages_are_bad_requests(serve, query):
    """limit and offset are whole numbers; a page is never longer than 10,000."""
    assert serve().get("meter", **query).status_code == 400


@pytest.mark.parametrize("path", ["bulk", "grid/latest"])
def test_next_pages_make_up_the_whole_list(serve, path):
    """`next` leads through the list on this host and is null at its end."""
    caller = serve(next_page=4)
    pages = walk_next(caller, path)
    entries = [entry for page in pages for entry in page]
    assert all(len(page) == 4 for page in pages[:-1])
    assert len(pages) > 2
    assert len({entry.get("meter_id", entry.get("gateway_id")) for entry in entries}) == len(
        entries
    )
    assert caller.get(path).json()["next"].startswith("/api/v2/partner/sandbox-enterprise/" + path)
    assert caller.get(path, cursor="zz").status_code == 400


def test_bulk_has_meters_heard_within_a_day(serve):
    """Not those silent for three days or for ever; the value is the register's, to two places."""
    caller = serve()
    fleet = caller.cloud.fleet
    expected = {m.id for m in fleet.meters() if m.silence_s is not None and m.silence_s <= 86400}
    entries = caller.get("bulk").json()["results"]
    assert {entry["meter_id"] for entry in entries} == expected
    assert len(expected) < fleet.meter_count
    for entry in entries:
        at = datetime.fromisoformat(entry["timestamp"])
        assert entry["value"] == int(fleet.register_at(entry["meter_id"], at) * 100) / 100
        assert entry["meter_type"] == fleet.find_meter(entry["meter_id"]).type


def test_bulk_before_the_meters_begin_is_empty(serve):
    """A meter that does not exist yet was not heard."""
    caller = serve(now=datetime(2019, 1, 1, tzinfo=UTC))
    assert caller.get("bulk").json() == {"results": [], "next": None}
    assert caller.get("grid/latest").json() == {"results": [], "next": None}
    assert {meter["last_reading"] for meter in caller.get("meter").json()} == {None}


def test_meters_say_what_the_wire_says(serve):
    """Every field of the list, with standard units and the last reading of the register."""
    caller = serve()
    fleet = caller.cloud.fleet
    for content in caller.get("meter").json():
        meter = fleet.find_meter(content["id"])
        assert content["type"] == meter.type
        assert content["state"] == meter.state
        assert content["premise_id"] == meter.premise_id
        assert content["uom"] in ("kwh", "ccf", "gal")
        assert datetime.fromisoformat(content["created_at"]) == meter.created_utc
        assert datetime.fromisoformat(content["premise_created_at"]) <= meter.created_utc
        reading = content["last_reading"]
        if meter.silence_s is None:
            assert reading is content["seven_day_history"] is None
        elif reading:
            at = datetime.fromisoformat(reading["hw_timestamp"])
            assert reading["value"] == int(fleet.register_at(meter.id, at) * 100) / 100


def test_histories_end_in_the_present_state(serve):
    """The last change of a week, if any, led to the state told; meters and gateways alike."""
    caller = serve()
    week = datetime(2021, 1, 25, 7, tzinfo=UTC)
    meters = caller.get("meter").json()
    for meter in meters:
        for change in (meter["seven_day_history"] or [])[-1:]:
            assert change["to"] == meter["state"]
            assert datetime.fromisoformat(change["timestamp"]) >= week
    assert any(meter["seven_day_history"] for meter in meters if meter["state"] == "connected")
    assert any(meter["seven_day_history"] == [] for meter in meters)
    gateways = {one["id"]: one for one in caller.get("gateway").json()}
    for one in caller.get("gateway/history").json():
        assert one["history"] == gateways[one["id"]]["history"]
        if one["history"]:
            assert one["history"][-1]["to"] == gateways[one["id"]]["state"]
        else:
            assert gateways[one["id"]]["state"] == "virgin"


def test_history_can_be_left_out(serve):
    """`with_history=false` leaves the field out, not empty."""
    caller = serve()
    assert all(
        "seven_day_history" not in m for m in caller.get("meter", with_history="false").json()
    )
    assert all("history" not in g for g in caller.get("gateway", with_history="false").json())


def test_meters_of_a_premise(serve):
    """`premise_id` leaves that premise's meters; an unknown one leaves none."""
    caller = serve()
    fleet = caller.cloud.fleet
    premise = list(fleet.premises())[2]
    found = caller.get("meter", premise_id=premise.id).json()
    assert [meter["id"] for meter in found] == [meter.id for meter in fleet.meters_of(premise)]
    assert caller.get("meter", premise_id="nobody").json() == []
    assert len(caller.get("meter", premise_id=premise.id, limit=1, offset=1).json()) == 1


def test_raw_last_readings_are_a_hundredfold(serve):
    """With the quirk `meter` tells the raw register, `bulk` still the standard unit."""
    plain, raw = serve(), serve(quirks=frozenset({"raw-last-reading"}))
    bulk = {entry["meter_id"]: entry["value"] for entry in raw.get("bulk").json()["results"]}
    for one, other in zip(plain.get("meter").json(), raw.get("meter").json(), strict=True):
        if one["last_reading"]:
            value = other["last_reading"]["value"]
            assert value == round(one["last_reading"]["value"] * 100)
            assert value == round(bulk.get(one["id"], value / 100) * 100)


def test_virgin_gateways_are_mostly_null(serve):
    """A gateway in its box has no premise, was never heard and never tested."""
    virgin = [g for g in serve().get("gateway").json() if g["state"] == "virgin"]
    assert virgin
    for gateway in virgin:
        for name in ("premise", "premise_id", "last_heard", "test_results", "firmware_version"):
            assert gateway[name] is None


def test_emails_come_after_some_requests(serve):
    """Two requests miss some emails, the third has them all; without users nothing is said."""
    caller = serve(missing_emails=2)
    assert "user_list" not in caller.get("premise").json()[0]

    def count_missing():
        premises = caller.get("premise", with_users="True").json()
        return sum("email" not in user for premise in premises for user in premise["user_list"])

    assert [count_missing() > 0 for _ in range(4)] == [True, True, False, False]


def test_grid_readings_cover_the_quarters_of_the_window(serve):
    """Both ends, each quarter of an hour, each gateway that is installed; not sorted."""
    caller = serve()
    fleet = caller.cloud.fleet
    window = {"start": "2020-12-22T07:00:00Z", "end": "2020-12-22T08:00:00Z"}
    readings = caller.get("grid/readings", **window).json()
    installed = [gateway for gateway in fleet.gateways() if gateway.premise_id]
    times = [f"2020-12-22T{t}:00.000Z" for t in ("07:00", "07:15", "07:30", "07:45", "08:00")]
    keys = [(reading["gateway_id"], reading["hw_timestamp"]) for reading in readings]
    assert sorted(keys) == sorted((g.id, t) for g in installed for t in times)
    assert keys != sorted(keys)
    for reading in readings:
        at = int(datetime.fromisoformat(reading["hw_timestamp"]).timestamp())
        assert fleet.grid_at(reading["gateway_id"], at) == (
            reading["voltage"],
            reading["frequency"],
        )
        assert 118 <= reading["voltage"] <= 122
        assert 59.95 <= reading["frequency"] <= 60.05


def test_grid_readings_of_one_gateway_or_premise(serve):
    """The filters leave one gateway; both together leave it only if they agree."""
    caller = serve()
    premises, gateways = list(caller.cloud.fleet.premises()), list(caller.cloud.fleet.gateways())
    window = {"start": "2020-12-22T07:00:00Z", "end": "2020-12-22T08:00:00Z"}

    def count(**filters):
        readings = caller.get("grid/readings", **window, **filters).json()
        assert len({reading["gateway_id"] for reading in readings}) <= 1
        return len(readings)

    assert count(premise_id=premises[1].id) == 5
    assert count(gateway_id=gateways[1].id) == 5
    assert count(gateway_id=gateways[1].id, premise_id=premises[1].id) == 5
    assert count(gateway_id=gateways[1].id, premise_id=premises[2].id) == 0
    assert count(gateway_id=gateways[-1].id) == 0
    assert count(gateway_id="x") == count(premise_id="x") == 0


def test_grid_readings_end_where_a_gateway_fell_silent(serve):
    """Nothing after now, nothing in the last three days of the gateway that is down."""
    caller = serve()
    window = {"start": "2021-01-28T00:00:00Z", "end": "2021-02-03T00:00:00Z"}
    down = next(g for g in caller.cloud.fleet.gateways() if g.state == "down")
    last = max(
        r["hw_timestamp"] for r in caller.get("grid/readings", gateway_id=down.id, **window).json()
    )
    assert last == "2021-01-29T07:00:00.000Z"
    up = next(g for g in caller.cloud.fleet.gateways() if g.state == "active")
    last = max(
        r["hw_timestamp"] for r in caller.get("grid/readings", gateway_id=up.id, **window).json()
    )
    assert last == "2021-02-01T07:00:00.000Z"
    early = {"start": "2018-01-28T00:00:00Z", "end": "2018-02-03T00:00:00Z"}
    assert caller.get("grid/readings", **early).json() == []


def test_grid_latest_is_the_last_quarter(serve):
    """One entry for each active gateway, at 07:00 sharp."""
    caller = serve()
    entries = caller.get("grid/latest").json()["results"]
    active = [g for g in caller.cloud.fleet.gateways() if g.state == "active"]
    assert [(e["gateway_id"], e["premise_id"]) for e in entries] == [
        (g.id, g.premise_id) for g in active
    ]
    assert {entry["hw_timestamp"] for entry in entries} == {"2021-02-01T07:00:00.000Z"}


def test_a_gateway_not_installed_yet_reads_no_grid(serve):
    """Before its creation there is no reading, even while others have some."""
    caller = serve(now=datetime(2019, 12, 1, tzinfo=UTC))
    at = datetime(2019, 12, 1, tzinfo=UTC)
    there = [g for g in caller.cloud.fleet.gateways() if g.state == "active" and g.created_utc < at]
    assert len(caller.get("grid/latest").json()["results"]) == len(there)
    assert 0 < len(there) < 11
    window = {"start": "2019-11-30T23:45:00Z", "end": "2019-12-01T00:00:00Z"}
    heard = {reading["gateway_id"] for reading in caller.get("grid/readings", **window).json()}
    assert heard == {gateway.id for gateway in there}


def test_a_location_is_the_premises_address(serve):
    """The zone of the premise, its address, and none of its ids."""
    caller = serve(zones=("Asia/Kathmandu",))
    meter = next(caller.cloud.fleet.meters())
    location = caller.get(f"meter/{meter.id}/location").json()
    assert location["timezone"] == "Asia/Kathmandu"
    assert location["street_address"]
    assert "id" not in location


def test_unknown_things_are_not_found(serve):
    """404 for unknown meters and endpoints, 403 for another enterprise, 405 for other methods."""
    caller = serve()
    window = {"granularity": "day", "start": "2020-12-22T07:00:00Z", "end": "2020-12-23T07:00:00Z"}
    for name in ("usage", "baseline-series", "average-series", "readings", "location"):
        assert caller.get(f"meter/07:0000000000/{name}", **window).status_code == 404
    assert caller.get("nothing").status_code == 404
    assert caller.get("/api/v2/partner/other/premise").status_code == 403
    url = caller.cloud.url + "/api/v2/partner/sandbox-enterprise/premise"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = caller.session.request(method, url, timeout=10)
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]


def test_error_bodies_are_json_text_or_empty(serve):
    """A client cannot count on any of the three."""
    caller = serve()
    url = caller.cloud.url + "/api/v2/partner/sandbox-enterprise/premise"
    assert caller.get("meter/x/location").json()["statusCode"] == 404
    assert caller.get("nothing").headers["Content-Type"].startswith("text/plain")
    assert caller.session.post(url, timeout=10).content == b""
