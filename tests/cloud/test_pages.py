"""Lists on clouds that cap, repeat, shift and babble: never fewer rows than there are."""

from __future__ import annotations

import pytest

from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.events import Warned
from copper_cli.cloud.pages import next_path
from copper_cli.errors import CloudError

from .mini_cloud import Said

ROOT = "/api/v2/partner/ent"


class CappedList:
    """An offset list of so many rows on a cloud that gives no more than `cap` a page."""

    def __init__(self, cloud, count, cap, *, beyond=None, name="meter"):
        self.count, self.cap, self.beyond = count, cap, beyond
        self.offsets: list[int] = []
        cloud.say(f"{ROOT}/{name}", default=self.answer)

    def answer(self, asked):
        offset = int(asked.query.get("offset", 0))
        length = min(int(asked.query.get("limit", 1000)), self.cap)
        self.offsets.append(offset)
        if self.beyond is not None and offset >= self.count:
            return self.beyond
        rows = range(offset, min(offset + length, self.count))
        return Said(body=[{"id": str(n)} for n in rows])


def warnings(session):
    return [event.text for event in session.events if isinstance(event, Warned)]


@pytest.mark.parametrize(
    ("count", "cap", "limit", "offsets"),
    [
        (250, 100, 1000, [0, 100, 200]),
        (200, 100, 1000, [0, 100, 200]),
        (51, 50, 1000, [0, 50]),
        (130, 50, 1000, [0, 50, 100]),
        (900, 850, 1000, [0, 850]),
        (1500, 1000, 5000, [0, 1000]),
        (2500, 1234, 5000, [0, 1234, 2468]),
        (250, 100, 120, [0, 100, 200]),
    ],
)
def test_a_capped_list_is_read_to_its_end(cloud, open_session, count, cap, limit, offsets):
    """Whatever the cap, if it is a multiple of 50 or a thousand and more."""
    listed = CappedList(cloud, count, cap)
    client = CloudClient(open_session(), "ent", query_limit=limit)
    assert [meter.id for meter in client.fetch_meters()] == [str(n) for n in range(count)]
    assert listed.offsets == offsets


@pytest.mark.parametrize("count", [0, 1, 49, 51, 130, 999])
def test_a_short_list_costs_one_call(cloud, open_session, count):
    """Its length is none that a cap has."""
    listed = CappedList(cloud, count, 10_000)
    assert len(CloudClient(open_session(), "ent").fetch_meters()) == count
    assert listed.offsets == [0]


def test_a_page_shorter_than_another_of_its_list_was_not_capped(cloud, open_session):
    """1000 rows, then 250: a cap of 250 would have cut the first one too."""
    listed = CappedList(cloud, 1250, 10_000)
    assert len(CloudClient(open_session(), "ent").fetch_meters()) == 1250
    assert listed.offsets == [0, 1000]


@pytest.mark.parametrize(
    "beyond", [None, Said(400, {"error": "offset too large"}), Said(404, {"error": "no such page"})]
)
def test_a_list_as_long_as_a_cap_costs_one_call_more_once(cloud, open_session, beyond):
    """In one run, whether the cloud says nothing or no behind the end."""
    listed = CappedList(cloud, 250, 10_000, beyond=beyond)
    session = open_session(use_cache=False)
    client = CloudClient(session, "ent")
    for _ in range(3):
        assert len(client.fetch_meters()) == 250
    assert listed.offsets == [0, 250, 0, 0]
    assert warnings(session) == []


def test_what_was_seen_to_be_no_cap_is_known_in_the_next_runs_of_a_day(cloud, open_session, clock):
    """Although the cloud lets nothing be kept; after a day, or at another length, it is asked."""
    listed = CappedList(cloud, 250, 10_000)

    def run():
        listed.offsets.clear()
        assert len(CloudClient(open_session(), "ent").fetch_meters()) == listed.count
        return listed.offsets

    assert run() == [0, 250]
    assert run() == [0]
    listed.count = 300
    assert run() == [0, 300]
    assert run() == [0]
    clock.now_s += 86401
    assert run() == [0, 300]


def test_the_end_behind_a_known_cap_is_asked_for_every_time(cloud, open_session):
    """200 rows, 100 a page: the list may grow behind the second page any day."""
    listed = CappedList(cloud, 200, 100)
    client = CloudClient(open_session(), "ent")
    assert len(client.fetch_meters()) == 200
    listed.count = 201
    assert len(CloudClient(open_session(), "ent").fetch_meters()) == 201
    listed.count = 230
    assert len(client.fetch_meters()) == 230


def test_the_ends_of_different_lists_are_told_apart(cloud, open_session):
    """That 50 premises are all says nothing of 50 gateways."""
    CappedList(cloud, 50, 1000, name="premise")
    CappedList(cloud, 80, 50, name="gateway")
    client = CloudClient(open_session(), "ent")
    assert len(client.fetch_premises()) == 50
    assert len(client.fetch_gateways()) == 80


def test_a_short_page_that_is_repeated_is_all_and_told(cloud, open_session):
    """A cloud that heeds no offset: no row twice, no endless loop, and not in silence."""
    cloud.say(f"{ROOT}/meter", default=[{"id": str(n)} for n in range(100)])
    session = open_session()
    assert len(CloudClient(session, "ent").fetch_meters()) == 100
    assert len(cloud.asked) == 2
    (told,) = warnings(session)
    assert "the cloud repeats the first 100" in told


def test_a_page_behind_a_cap_that_is_repeated_is_an_error(cloud, open_session):
    """Once a second page brought rows, more of them are known to be missing."""
    pages = [[{"id": str(n)} for n in range(start, start + 50)] for start in (0, 50, 0)]
    cloud.say(f"{ROOT}/meter", *pages)
    with pytest.raises(CloudError, match="cannot be read to its end"):
        CloudClient(open_session(), "ent").fetch_meters()


def test_a_list_that_shifts_while_it_is_read_gives_each_row_once(cloud, open_session):
    """Three rows came in front after the first page."""
    first = [{"id": str(n)} for n in range(50)]
    second = [{"id": str(n)} for n in range(47, 60)]
    cloud.say(f"{ROOT}/meter", first, second)
    found = CloudClient(open_session(), "ent").fetch_meters()
    assert [meter.id for meter in found] == [str(n) for n in range(60)]


@pytest.mark.parametrize("status", [400, 404])
def test_a_full_page_whose_next_one_is_refused_is_no_whole_list(cloud, open_session, status):
    """There the cloud has more, or has to say that it has not."""
    client = CloudClient(open_session(), "ent", query_limit=2)
    cloud.say(f"{ROOT}/meter", [{"id": "1"}, {"id": "2"}], Said(status, {}))
    with pytest.raises(CloudError):
        client.fetch_meters()


# What cannot be read


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "upstream timed out", "code": 504}, "200 with an error: upstream timed out"),
        ({"results": [{"id": "1"}]}, "an object"),
        (None, "null"),
        ([None, None], "the first of 2 is null"),
        (["07:1"], "the first of 1 is a text: 07:1"),
        ([{"error": "down"}], "an object without id or time: down"),
    ],
)
def test_an_answer_without_a_readable_row_fails_and_is_asked_again(cloud, open_session, body, said):
    """One line that says what was wrong; nothing of it is kept, however long it may be."""
    cloud.say(f"{ROOT}/meter", Said(body=body, headers={"Cache-Control": "max-age=31536000"}))
    cloud.say(f"{ROOT}/meter", default=[{"id": "07:1"}])
    client = CloudClient(open_session(), "ent")
    with pytest.raises(CloudError, match=said) as caught:
        client.fetch_meters()
    assert "\n" not in str(caught.value)
    assert [meter.id for meter in client.fetch_meters()] == ["07:1"]


def test_an_empty_list_is_an_answer(cloud, open_session):
    """A partner may have no gateway."""
    cloud.say(f"{ROOT}/gateway", default=[])
    cloud.say(f"{ROOT}/bulk", {"results": [], "next": None})
    session = open_session()
    client = CloudClient(session, "ent")
    assert client.fetch_gateways() == []
    assert client.fetch_bulk() == []
    assert (warnings(session), session.unread_rows) == ([], 0)


def test_rows_that_cannot_be_read_are_counted_and_told_and_asked_again(cloud, open_session):
    """The others are there; the answer is not kept, since the next may be whole."""
    headers = {"Cache-Control": "max-age=900"}
    rows = [{"id": "07:1"}, None, {"type": "power"}, {"id": "07:2"}]
    cloud.say(f"{ROOT}/meter", Said(body=rows, headers=headers))
    cloud.say(f"{ROOT}/meter", default=Said(body=[{"id": "07:1"}], headers=headers))
    session = open_session()
    client = CloudClient(session, "ent")
    assert [meter.id for meter in client.fetch_meters()] == ["07:1", "07:2"]
    assert session.unread_rows == 2
    assert warnings(session) == ["meter: 2 of 4 rows cannot be read; left out."]
    client.fetch_meters()
    assert session.unread_rows == 0
    client.fetch_meters()
    assert len(cloud.asked) == 2


def test_rows_of_next_lists_that_cannot_be_read_are_counted_and_told(cloud, open_session):
    """Over all pages; a gateway that has sent nothing yet is no such row."""
    good = {"gateway_id": "a", "hw_timestamp": "2022-03-02T04:30:00Z"}
    cloud.say(
        f"{ROOT}/grid/latest",
        {"results": [good, {"gateway_id": "b", "hw_timestamp": None}, 5], "next": "?page=2"},
        {"results": [good | {"gateway_id": "c"}, good | {"hw_timestamp": "soon"}]},
    )
    session = open_session()
    found = CloudClient(session, "ent").fetch_grid_latest()
    assert [reading.gateway_id for reading in found] == ["a", "c"]
    assert session.unread_rows == 2
    assert len(warnings(session)) == 1


def test_what_an_answer_says_is_told_without_secrets_and_in_short(cloud, open_session):
    """A gateway may echo the request it could not handle."""
    secret = "Bearer t1 for s3cret"
    cloud.say(f"{ROOT}/meter", {"error": f"\x1b[2J{secret}\r\n" + "x" * 5000})
    with pytest.raises(CloudError) as caught:
        CloudClient(open_session(), "ent").fetch_meters()
    text = str(caught.value)
    assert "t1" not in text
    assert "s3cret" not in text
    assert "\x1b" not in text
    assert len(text) <= 300


def test_what_an_older_version_kept_unread_is_asked_again(cloud, open_session):
    """An error that stands in the cache for a year must not be believed for a year."""
    path = f"{ROOT}/meter"
    cloud.say(path, Said(body={"error": "x"}, headers={"Cache-Control": "max-age=31536000"}))
    cloud.say(path, default=[{"id": "07:1"}])
    session = open_session()
    session.get_json(path)
    assert session.is_cached(path)
    assert len(CloudClient(session, "ent").fetch_meters()) == 1


# Pages by `next`


def page(*ids, following=None):
    return {"results": [{"meter_id": i, "value": 1.0} for i in ids], "next": following}


@pytest.mark.parametrize(
    "following",
    [
        "{root}/bulk?cursor=x%2Fy&n=1",
        "{url}{root}/bulk?cursor=x%2Fy&n=1",
        "/partner/ent/bulk?cursor=x%2Fy&n=1",
        "{url}/partner/ent/bulk?cursor=x%2Fy&n=1",
        "partner/ent/bulk?cursor=x%2Fy&n=1",
        "api/v2/partner/ent/bulk?cursor=x%2Fy&n=1",
        "?cursor=x%2Fy&n=1",
        "bulk?cursor=x%2Fy&n=1",
    ],
)
def test_all_forms_of_next_lead_to_the_same_page(cloud, open_session, following):
    """A path with or without /api/v2, a whole address, a query: as it is written there."""
    following = following.format(root=ROOT, url=cloud.url)
    cloud.say(f"{ROOT}/bulk", page("a", following=following), page("b"))
    found = CloudClient(open_session(), "ent").fetch_bulk()
    assert [reading.meter_id for reading in found] == ["a", "b"]
    assert cloud.asked[1].target == f"{ROOT}/bulk?cursor=x%2Fy&n=1"


@pytest.mark.parametrize(
    ("following", "path"),
    [
        ("https://api.copperlabs.com/api/v2/a?n=2", "/api/v2/a?n=2"),
        ("https://API.copperlabs.com:443/api/v2/a", "/api/v2/a"),
        ("http://api.copperlabs.com/api/v2/a", "/api/v2/a"),
        ("https://api.copperlabs.com/a", "/api/v2/a"),
        ("/api/v20/a", "/api/v2/api/v20/a"),
    ],
)
def test_an_address_on_the_api_host_is_a_path(following, path):
    """The API's own scheme and port are used, however the address is written."""
    assert next_path("https://api.copperlabs.com", "/api/v2/partner/e/bulk", following, "x") == path


@pytest.mark.parametrize(
    "following",
    [
        "https://api.copperlabs.com:8443/api/v2/a",
        "https://api.copperlabs.com.evil.example/api/v2/a",
        "https://api.copperlabs.com@evil.example/api/v2/a",
        "https://user@api.copperlabs.com/api/v2/a",
        "//evil.example/api/v2/a",
        "file:///etc/passwd",
        "https://api.copperlabs.com:port/a",
    ],
)
def test_an_address_elsewhere_is_refused(following):
    """Another host, another port, a name or a scheme that is not the API's."""
    with pytest.raises(CloudError, match="next page"):
        next_path("https://api.copperlabs.com", "/api/v2/partner/e/bulk", following, "x")


@pytest.mark.parametrize("following", [5, True, ["/x"], {"href": "/x"}])
def test_next_must_be_a_text(cloud, open_session, following):
    """What cannot be followed is no end of the list."""
    cloud.say(f"{ROOT}/bulk", page("a", following=following))
    with pytest.raises(CloudError, match="bulk: the cloud answered .* as its next page"):
        CloudClient(open_session(), "ent").fetch_bulk()


def test_an_empty_next_ends_the_list(cloud, open_session):
    """As null does."""
    cloud.say(f"{ROOT}/bulk", page("a", following=""))
    assert len(CloudClient(open_session(), "ent").fetch_bulk()) == 1


@pytest.mark.parametrize("ids", [["a"], []])
def test_pages_that_go_on_without_anything_new_end_with_an_error(cloud, open_session, ids):
    """A cursor that is another one each time, and leads nowhere."""
    numbers = iter(range(1000))
    cloud.say(
        f"{ROOT}/bulk", default=lambda asked: Said(body=page(*ids, following=f"?n={next(numbers)}"))
    )
    with pytest.raises(CloudError, match="no end"):
        CloudClient(open_session(), "ent").fetch_bulk()
    assert len(cloud.asked) < 25


def test_an_empty_page_in_between_is_followed(cloud, open_session):
    """A cloud that leaves out silent meters after it cut its pages."""
    pages = [page(following=f"?n={n}") for n in range(10)]
    cloud.say(f"{ROOT}/bulk", page("a", following="?n=x"), *pages, page("b"))
    found = CloudClient(open_session(), "ent").fetch_bulk()
    assert [reading.meter_id for reading in found] == ["a", "b"]


def test_of_a_meter_that_moved_to_the_next_page_the_newest_reading_stays(cloud, open_session):
    """Once, in the place where it was first."""

    def row(meter_id, value, minute):
        at = None if minute is None else f"2022-03-02T04:{minute:02}:00Z"
        return {"meter_id": meter_id, "value": value, "timestamp": at}

    first = [row("a", 1, 10), row("b", 1, 10), row("c", 1, None)]
    second = [row("a", 2, 20), row("b", 2, 5), row("c", 2, 5), row("d", 2, 5)]
    cloud.say(f"{ROOT}/bulk", {"results": first, "next": "?n=2"}, {"results": second})
    found = CloudClient(open_session(), "ent").fetch_bulk()
    assert [(r.meter_id, r.value) for r in found] == [("a", 2), ("b", 1), ("c", 2), ("d", 2)]
