from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

AUDIENCE = "https://api.copperlabs.com"
NOW = datetime(2021, 2, 1, 7, 0, tzinfo=UTC)
CLIENT = "l8aJ85JrIRq44CWDEcAlHLqR5wUl8Hjh"
BROWSER_CLIENT = "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA"
SCOPE = "openid profile email offline_access"
REDIRECT = "com.copperlabs.copper.rn://auth.copperlabs.com/ios/com.copperlabs.copper.rn/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""The example of RFC 7636, appendix B."""

START = {"client_id": CLIENT, "connection": "email", "email": "ann@example.com", "send": "code"}
VERIFY = {
    "client_id": CLIENT,
    "connection": "email",
    "email": "ann@example.com",
    "verification_code": "123456",
}
LOGIN = {
    **VERIFY,
    "response_type": "code",
    "redirect_uri": REDIRECT,
    "scope": SCOPE,
    "state": "a b&c",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


def change(fields, changes):
    """The fields with some changed; None takes one out."""
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def start(cloud, how="json", **changes):
    body = {how: change(START, changes)}
    return requests.post(cloud.url + "/passwordless/start", timeout=10, **body)


def verify(cloud, how="json", **changes):
    body = {how: change(VERIFY, changes)}
    return requests.post(cloud.url + "/passwordless/verify", timeout=10, **body)


def redirect(cloud, **changes):
    url = cloud.url + "/passwordless/verify_redirect"
    query = change(LOGIN, changes)
    return requests.get(url, params=query, timeout=10, allow_redirects=False)


def get_code(cloud, **changes):
    start(cloud)
    return read_query(redirect(cloud, **changes))["code"]


def read_query(answer):
    assert answer.status_code == 302, answer.text
    address, _, query = answer.headers["Location"].partition("?")
    assert address == REDIRECT
    return {name: values[0] for name, values in parse_qs(query).items()}


def exchange(cloud, code, **changes):
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": VERIFIER,
        "client_id": CLIENT,
        "redirect_uri": REDIRECT,
    }
    return requests.post(cloud.url + "/oauth/token", json=change(fields, changes), timeout=10)


def ask_state(cloud, token):
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(cloud.url + "/api/v2/app/state", headers=headers, timeout=10)


@pytest.mark.parametrize("how", ["json", "data"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_emailed_code_logs_in_without_a_browser(serve, capsys, how, slash):
    """start, verify, verify_redirect, token, refresh: bodies as JSON or as forms."""
    cloud = serve().cloud
    root = cloud.url + "/passwordless/"
    answer = requests.post(root + "start" + slash, timeout=10, **{how: START})
    assert answer.status_code == 200
    assert answer.json()["email"] == "ann@example.com"
    assert capsys.readouterr().err == "The code for ann@example.com is 123456.\n"
    assert "123456" not in answer.text
    answer = requests.post(root + "verify" + slash, timeout=10, **{how: VERIFY})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    answer = requests.get(
        root + "verify_redirect" + slash, params=LOGIN, timeout=10, allow_redirects=False
    )
    query = read_query(answer)
    assert query["state"] == "a b&c"
    content = exchange(cloud, query["code"]).json()
    assert (content["scope"], content["token_type"]) == (SCOPE, "Bearer")
    assert len(content["access_token"].split(".")) == len(content["id_token"].split(".")) == 3
    assert ask_state(cloud, content["access_token"]).status_code == 200
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": content["refresh_token"],
        "client_id": CLIENT,
    }
    again = requests.post(cloud.url + "/oauth/token", timeout=10, **{how: fields}).json()
    assert ask_state(cloud, again["access_token"]).status_code == 200
    assert "id_token" in again


def test_the_one_call_grant_is_refused(serve):
    """403 `unauthorized_client`, though the code be right; the long way then still works."""
    cloud = serve().cloud
    start(cloud)
    fields = {
        "grant_type": "http://auth0.com/oauth/grant-type/passwordless/otp",
        "client_id": CLIENT,
        "username": "ann@example.com",
        "otp": "123456",
        "realm": "email",
        "scope": SCOPE,
        "audience": AUDIENCE,
    }
    answer = requests.post(cloud.url + "/oauth/token", json=fields, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (403, "unauthorized_client")
    assert "code" in read_query(redirect(cloud))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_id": BROWSER_CLIENT}, 403),
        ({"client_id": "sandbox-client"}, 403),
        ({"client_id": None}, 403),
        ({"connection": "sms"}, 400),
        ({"connection": None}, 400),
        ({"send": "link"}, 400),
        ({"send": None}, 400),
        ({"email": None}, 400),
        ({"email": "ann"}, 400),
        ({"email": "ann@example.com\nThe code for bob@example.com is 1"}, 400),
    ],
)
def test_wrong_starts_send_nothing(serve, capsys, changes, status):
    """Client, connection, kind and address are looked at; no line on stderr."""
    answer = start(serve().cloud, **changes)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"verification_code": "654321"}, 403),
        ({"verification_code": None}, 403),
        ({"email": "bob@example.com"}, 403),
        ({"connection": "sms"}, 400),
        ({"client_id": BROWSER_CLIENT}, 403),
    ],
)
def test_wrong_codes_are_not_verified(serve, changes, status):
    """Nor those of an address to which none was sent."""
    cloud = serve().cloud
    start(cloud)
    assert verify(cloud, **changes).status_code == status
    assert verify(cloud, client_id=None, verification_code=123456).status_code == 200


def test_an_address_is_the_same_in_capitals(serve):
    """As people type it, with blanks around it."""
    cloud = serve().cloud
    start(cloud, email=" Ann@Example.com ")
    assert verify(cloud).status_code == 200


def test_three_wrong_codes_are_enough(serve):
    """Then the right one is refused too, until another is sent; verifying does not use it up."""
    cloud = serve().cloud
    start(cloud)
    for _ in range(3):
        assert verify(cloud).status_code == 200
    for _ in range(2):
        assert verify(cloud, verification_code="0").status_code == 403
    assert verify(cloud).status_code == 200
    assert read_query(redirect(cloud, verification_code="0"))["error"] == "unauthorized"
    assert verify(cloud).status_code == 403
    start(cloud)
    assert verify(cloud).status_code == 200


def test_an_emailed_code_is_good_for_three_minutes(serve):
    """By the cloud's clock, for verify and for the redirect."""
    now = [NOW]
    cloud = serve(clock=lambda: now[0]).cloud
    start(cloud)
    now[0] += timedelta(seconds=179)
    assert verify(cloud).status_code == 200
    now[0] += timedelta(seconds=1)
    assert verify(cloud).status_code == 403
    assert read_query(redirect(cloud))["error"] == "unauthorized"


def test_an_emailed_code_logs_in_once(serve):
    """The redirect uses it up; an error comes back with the state."""
    cloud = serve().cloud
    start(cloud)
    assert "code" in read_query(redirect(cloud))
    refused = read_query(redirect(cloud))
    assert (refused["error"], refused["state"]) == ("unauthorized", "a b&c")
    assert "code" not in refused


def test_a_login_without_state_comes_back_without_one(serve):
    """The state is the client's own affair."""
    cloud = serve().cloud
    start(cloud)
    assert set(read_query(redirect(cloud, state=None))) == {"code"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_id": BROWSER_CLIENT}, 403),
        ({"client_id": None}, 403),
        ({"redirect_uri": "https://api.copperlabs.com/api/v2/app"}, 400),
        ({"redirect_uri": "https://elsewhere.example/"}, 400),
        ({"redirect_uri": None}, 400),
        ({"response_type": "token"}, 400),
        ({"code_challenge": None}, 400),
        ({"code_challenge": CHALLENGE[1:]}, 400),
        ({"code_challenge_method": "plain"}, 400),
        ({"code_challenge_method": None}, 400),
        ({"scope": "app offline_access"}, 400),
        ({"scope": None}, 400),
        ({"audience": "https://other.example"}, 400),
    ],
)
def test_wrong_redirects_go_nowhere(serve, changes, status):
    """No redirect for what could not be exchanged; the emailed code is not used up by it."""
    cloud = serve().cloud
    start(cloud)
    answer = redirect(cloud, **changes)
    assert answer.status_code == status
    assert "Location" not in answer.headers
    assert "code" in read_query(redirect(cloud, audience=AUDIENCE))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"code_verifier": VERIFIER[::-1]}, 403),
        ({"code_verifier": None}, 403),
        ({"redirect_uri": "https://api.copperlabs.com/api/v2/app"}, 403),
        ({"client_id": BROWSER_CLIENT}, 403),
        ({"client_id": "sandbox-client"}, 401),
    ],
)
def test_a_code_is_its_own_logins(serve, changes, status):
    """Verifier, redirect and client must be those of the login."""
    cloud = serve().cloud
    assert exchange(cloud, get_code(cloud), **changes).status_code == status


def test_a_code_is_exchanged_once(serve):
    """A second time it is worth nothing, and so it is after ten minutes."""
    now = [NOW]
    cloud = serve(clock=lambda: now[0]).cloud
    code = get_code(cloud)
    assert exchange(cloud, code).status_code == 200
    assert exchange(cloud, code).status_code == 403
    code = get_code(cloud)
    now[0] += timedelta(seconds=600)
    assert exchange(cloud, code).status_code == 403


def test_this_client_may_use_authorize_too(serve):
    """With its own scope and redirect, to which the answer goes."""
    cloud = serve().cloud
    query = change(LOGIN, {"verification_code": None, "email": None, "connection": None})
    answer = requests.get(cloud.url + "/authorize", params=query, timeout=10, allow_redirects=False)
    content = exchange(cloud, read_query(answer)["code"]).json()
    assert ask_state(cloud, content["access_token"]).status_code == 200


def test_no_code_stands_in_the_log(serve, tmp_path):
    """Neither the emailed one nor that of the login; these requests are no calls."""
    caller = serve(log_file=tmp_path / "log.jsonl")
    code = get_code(caller.cloud)
    exchange(caller.cloud, code)
    text = (tmp_path / "log.jsonl").read_text()
    assert "123456" not in text
    assert code not in text
    assert (caller.cloud.calls, caller.cloud.token_calls) == (0, 4)
    paths = [urlsplit(record.path).path for record in caller.cloud.log]
    assert paths[1:3] == ["/passwordless/start", "/passwordless/verify_redirect"]


def test_a_fault_can_befall_each_step(serve):
    """Their paths are as good as any other."""
    cloud = serve(faults=("status=503,path=passwordless/verify$",)).cloud
    start(cloud)
    assert verify(cloud).status_code == 503
    assert verify(cloud).status_code == 200
