"""The account of an individual: what its answers must hold."""

from __future__ import annotations

import pytest

from copper_cli.cloud.app import AppClient
from copper_cli.errors import CloudError
from copper_cli.jobs.account import dump_account

from .mini_cloud import Said

STATE = "/api/v2/app/state"
INSTANT = "/api/v2/app/instant/p1"
FOR_EVER = {"Cache-Control": "max-age=31536000"}
GOOD_STATE = {"user": {}, "premise_list": [{"id": "p1", "name": "Home"}]}
GOOD_INSTANT = {"results": [{"id": "07:1", "type": "power", "instant_power": "1.5"}]}


@pytest.fixture
def session(open_session):
    return open_session()


@pytest.fixture
def app(session):
    return AppClient(session)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "upstream timed out", "code": 504}, "upstream timed out"),
        ({"user": {}}, "nothing in the place of its rows"),
        ({"premise_list": None}, "null in the place of its rows"),
        ({"premise_list": "p1"}, "a text in the place of its rows"),
        ({"premise_list": {"id": "p1"}}, "an object in the place of its rows"),
        ({"premise_list": ["p1", None]}, "none can be read"),
        ({"premise_list": [{"name": "Home"}]}, "none can be read"),
        ([GOOD_STATE], "a list instead of an object"),
        (None, "null instead of an object"),
    ],
)
def test_a_state_without_premises_to_read_fails(cloud, app, body, said):
    """In every form in which it is asked for; it is not kept, and asked again next time."""
    for fetch in (
        app.fetch_premises,
        lambda: dump_account(app),
        app.fetch_account,
    ):
        cloud.say(STATE, Said(body=body, headers=FOR_EVER))
        with pytest.raises(CloudError, match=said) as caught:
            fetch()
        assert "\n" not in str(caught.value)
    cloud.say(STATE, GOOD_STATE)
    assert [premise.id for premise in app.fetch_premises()] == ["p1"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "down"}, "200 with an error: down"),
        ({"results": None}, "null in the place of its rows"),
        ({"results": [7]}, "none can be read"),
        (
            {"results": [], "error": "down"},
            "instant of premise p1: the cloud answered 200 with an error: down",
        ),
        ([], "a list instead of an object"),
    ],
)
def test_instants_without_a_row_to_read_fail(cloud, app, body, said):
    """The same rule; also where everything is wanted as the cloud wrote it."""
    cloud.say(STATE, default=GOOD_STATE)
    for fetch in (lambda: app.fetch_instants("p1"), lambda: dump_account(app)):
        cloud.say(INSTANT, Said(body=body, headers=FOR_EVER))
        with pytest.raises(CloudError, match=said):
            fetch()
    cloud.say(INSTANT, GOOD_INSTANT)
    assert [instant.power for instant in app.fetch_instants("p1")] == [1.5]


def test_an_account_without_premises_is_one(cloud, app):
    """As is a premise without a meter that shows anything."""
    cloud.say(STATE, {"premise_list": []}, GOOD_STATE)
    cloud.say(INSTANT, {"results": []})
    assert app.fetch_premises() == []
    assert dump_account(app)[0] == {"state": GOOD_STATE, "instant": {"p1": {"results": []}}}


def test_single_rows_that_cannot_be_read_are_counted(cloud, session, app):
    """The others are there."""
    cloud.say(STATE, {"premise_list": [{"id": "p1"}, None]})
    cloud.say(INSTANT, {"results": [{"id": "07:1"}, {}, 5]})
    assert [premise.id for premise in app.fetch_premises()] == ["p1"]
    assert [instant.meter_id for instant in app.fetch_instants("p1")] == ["07:1"]
    assert session.unread_rows == 3
