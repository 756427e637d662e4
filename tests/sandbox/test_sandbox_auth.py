from __future__ import annotations

import hashlib
import json
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

AUDIENCE = "https://api.copperlabs.com"
NOW = datetime(2021, 2, 1, 7, 0, tzinfo=UTC)
APP_CLIENT = "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA"
REDIRECT = "https://api.copperlabs.com/api/v2/app"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""The example of RFC 7636, appendix B."""

SECRET = {
    "grant_type": "client_credentials",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
    "audience": AUDIENCE,
}
LOGIN = {
    "response_type": "code",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "client_id": APP_CLIENT,
    "scope": "app offline_access",
    "audience": AUDIENCE,
    "redirect_uri": REDIRECT,
}


def post(cloud, **kwargs):
    return requests.post(cloud.url + "/oauth/token", timeout=10, **kwargs)


def authorize(cloud, **changes):
    query = {name: value for name, value in {**LOGIN, **changes}.items() if value is not None}
    return requests.get(cloud.url + "/authorize", params=query, timeout=10, allow_redirects=False)


def get_code(cloud, **changes):
    answer = authorize(cloud, **changes)
    assert answer.status_code == 302
    return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]


def exchange(cloud, code, **changes):
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": VERIFIER,
        "client_id": APP_CLIENT,
        "redirect_uri": REDIRECT,
        **changes,
    }
    return post(cloud, json=fields)


def refresh(cloud, token, client_id=APP_CLIENT):
    fields = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id}
    return post(cloud, data=fields)


def ask_state(cloud, token):
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(cloud.url + "/api/v2/app/state", headers=headers, timeout=10)


def test_the_example_of_the_standard_holds():
    """The challenge above is the S256 of the verifier above."""
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    assert urlsafe_b64encode(digest).rstrip(b"=").decode() == CHALLENGE


@pytest.mark.parametrize("how", ["json", "form", "basic"])
def test_a_secret_gets_a_token(serve, how):
    """As JSON, as a form, or with the secret in HTTP Basic."""
    cloud = serve().cloud
    if how == "basic":
        fields = {"grant_type": "client_credentials", "audience": AUDIENCE}
        answer = post(cloud, data=fields, auth=("sandbox-client", "sandbox-secret"))
    else:
        answer = post(cloud, **{"json" if how == "json" else "data": SECRET})
    content = answer.json()
    assert content["token_type"] == "Bearer"
    assert content["expires_in"] == 86400
    assert "refresh_token" not in content
    headers = {"Authorization": "Bearer " + content["access_token"]}
    url = cloud.url + "/api/v2/partner/sandbox-enterprise/premise"
    assert requests.get(url, headers=headers, timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"client_secret": "wrong"}, 401),
        ({"client_id": "wrong"}, 401),
        ({"audience": "https://other.example"}, 403),
        ({"grant_type": "password"}, 403),
    ],
)
def test_wrong_credentials_get_none(serve, change, status):
    """Client, secret, audience and grant are all looked at."""
    answer = post(serve().cloud, json={**SECRET, **change})
    assert answer.status_code == status
    assert "access_token" not in answer.text
    assert answer.json()["error"]


def test_a_token_request_must_be_an_object(serve):
    """400 for JSON that is none, 405 for another method; without fields it is no known grant."""
    cloud = serve().cloud
    headers = {"Content-Type": "application/json"}
    assert post(cloud, data="[]", headers=headers).status_code == 400
    assert post(cloud, data="{", headers=headers).status_code == 400
    assert post(cloud).status_code == 403
    assert requests.get(cloud.url + "/oauth/token", timeout=10).status_code == 405
    assert requests.post(cloud.url + "/authorize", timeout=10).status_code == 405


def test_calls_without_a_good_token_are_refused(serve):
    """401 without a token, with an unknown one, and with the secret in its place."""
    cloud = serve().cloud
    url = cloud.url + "/api/v2/partner/sandbox-enterprise/premise"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": "Bearer x"}, timeout=10).status_code == 401
    assert (
        requests.get(url, auth=("sandbox-client", "sandbox-secret"), timeout=10).status_code == 401
    )


def test_a_token_expires_by_the_clouds_clock(serve):
    """Good for token_ttl seconds and not one more."""
    now = [NOW]
    caller = serve(clock=lambda: now[0], token_ttl=60)
    now[0] += timedelta(seconds=59)
    assert caller.get("premise").status_code == 200
    now[0] += timedelta(seconds=1)
    assert caller.get("premise").status_code == 401


def test_a_login_lands_on_a_page_with_its_code(serve):
    """The browser is sent to this server's own page, whose address and text hold the code."""
    cloud = serve().cloud
    answer = authorize(cloud, state="xyz")
    location = answer.headers["Location"]
    assert location.startswith(cloud.url + "/api/v2/app?code=")
    query = parse_qs(urlsplit(location).query)
    assert query["state"] == ["xyz"]
    page = requests.get(location, timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert query["code"][0] in page.text
    assert "no code" in requests.get(cloud.url + "/api/v2/app", timeout=10).text
    assert "<script>" not in requests.get(cloud.url + "/api/v2/app?code=<script>", timeout=10).text


def test_a_code_gets_tokens_once(serve):
    """With the right verifier; a second time the code is worth nothing."""
    cloud = serve().cloud
    code = get_code(cloud)
    content = exchange(cloud, code).json()
    assert content["refresh_token"]
    assert ask_state(cloud, content["access_token"]).status_code == 200
    assert exchange(cloud, code).status_code == 403


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"code_verifier": VERIFIER[::-1]}, 403),
        ({"code_verifier": CHALLENGE}, 403),
        ({"redirect_uri": "https://other.example"}, 403),
        ({"client_id": "sandbox-client"}, 401),
        ({"code": "x"}, 403),
    ],
)
def test_a_code_needs_its_verifier(serve, change, status):
    """PKCE is really checked, and so are the client and the redirect_uri."""
    cloud = serve().cloud
    assert exchange(cloud, **{"code": get_code(cloud), **change}).status_code == status


def test_a_code_grows_old(serve):
    """Ten minutes, and it is worth nothing."""
    now = [NOW]
    cloud = serve(clock=lambda: now[0]).cloud
    code = get_code(cloud)
    now[0] += timedelta(seconds=600)
    assert exchange(cloud, code).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
        {"code_challenge": None},
        {"client_id": "sandbox-client"},
        {"redirect_uri": "https://other.example"},
        {"audience": None},
        {"scope": "offline_access"},
    ],
)
def test_wrong_logins_are_bad_requests(serve, change):
    """No redirect for a login that could not be exchanged."""
    assert authorize(serve().cloud, **change).status_code == 400


def test_no_refresh_without_offline_access(serve):
    """The refresh token is given for the scope offline_access only."""
    cloud = serve().cloud
    assert "refresh_token" not in exchange(cloud, get_code(cloud, scope="app")).json()


def test_a_refresh_token_stays_good(serve):
    """It can be used again, and the answer carries no new one."""
    cloud = serve().cloud
    token = exchange(cloud, get_code(cloud)).json()["refresh_token"]
    for _ in range(2):
        content = refresh(cloud, token).json()
        assert "refresh_token" not in content
        assert ask_state(cloud, content["access_token"]).status_code == 200
    assert refresh(cloud, "x").status_code == 403
    assert refresh(cloud, token, "sandbox-client").status_code == 401


def test_a_rotated_refresh_token_is_good_once(serve):
    """With the quirk each refresh gives the next token and kills the one before."""
    cloud = serve(quirks=frozenset({"rotate-refresh-token"})).cloud
    first = exchange(cloud, get_code(cloud)).json()["refresh_token"]
    second = refresh(cloud, first).json()["refresh_token"]
    third = refresh(cloud, second).json()["refresh_token"]
    assert len({first, second, third}) == 3
    assert refresh(cloud, third).status_code == 200


@pytest.mark.parametrize("replayed", [0, 1])
def test_a_replayed_refresh_token_revokes_the_login(serve, replayed):
    """A token that was replaced comes again: no refresh token of that login is good any more.

    Access tokens live out their time, and other logins are untouched.
    """
    cloud = serve(quirks=frozenset({"rotate-refresh-token"})).cloud
    other = exchange(cloud, get_code(cloud)).json()["refresh_token"]
    tokens = [exchange(cloud, get_code(cloud)).json()["refresh_token"]]
    for _ in range(2):
        answer = refresh(cloud, tokens[-1]).json()
        tokens.append(answer["refresh_token"])
    refused = refresh(cloud, tokens[replayed])
    assert (refused.status_code, refused.json()["error"]) == (403, "invalid_grant")
    assert [refresh(cloud, token).status_code for token in tokens] == [403] * 3
    assert ask_state(cloud, answer["access_token"]).status_code == 200
    assert refresh(cloud, other).status_code == 200


def test_a_refresh_token_is_its_own_clients(serve):
    """Another public client cannot use it."""
    cloud = serve().cloud
    token = exchange(cloud, get_code(cloud)).json()["refresh_token"]
    assert refresh(cloud, token, "l8aJ85JrIRq44CWDEcAlHLqR5wUl8Hjh").status_code == 403
    assert refresh(cloud, token).status_code == 200


def read_claims(token):
    """The header and the payload of a JWT, read by hand; three parts, base64url, no padding."""
    parts = token.split(".")
    assert len(parts) == 3
    assert not set(token) - set(string.ascii_letters + string.digits + "-_.")
    return [json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]]


def test_access_tokens_are_jwts(serve):
    """Header, payload, signature; times by the cloud's clock; no two tokens are alike."""
    cloud = serve(token_ttl=600).cloud
    tokens = [post(cloud, json=SECRET).json()["access_token"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    assert tokens[0].split(".")[2] != tokens[1].split(".")[2]
    header, claims = read_claims(tokens[0])
    assert header["typ"] == "JWT"
    assert claims["aud"] == AUDIENCE
    assert claims["iss"] == cloud.url + "/"
    assert claims["sub"] == "sandbox-client@clients"
    assert claims["scope"] == post(cloud, json=SECRET).json()["scope"]
    assert claims["exp"] - claims["iat"] == 600
    assert 0 <= claims["iat"] - NOW.timestamp() < 60
    fields = exchange(cloud, get_code(cloud)).json()
    _, claims = read_claims(fields["access_token"])
    assert (claims["scope"], claims["azp"]) == ("app offline_access", APP_CLIENT)


def test_a_tampered_token_is_refused(serve):
    """The payload cannot be changed under the signature, nor the signature left out."""
    caller = serve()
    token = caller.session.headers["Authorization"].split()[1]
    header, payload, signature = token.split(".")
    for wrong in (
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}A.{signature}",
    ):
        assert ask_state(caller.cloud, wrong).status_code == 401


def test_a_token_grows_old_where_the_clock_stands_still(serve):
    """With a frozen `now` tokens begin by it, and expire after token_ttl seconds all the same."""
    seconds = [5000.0]
    caller = serve(quota_clock=lambda: seconds[0], token_ttl=60)
    token = caller.session.headers["Authorization"].split()[1]
    assert read_claims(token)[1]["exp"] == NOW.timestamp() + 60
    seconds[0] += 59
    assert caller.get("premise").status_code == 200
    seconds[0] += 1
    assert caller.get("premise").status_code == 401
    token = caller.login().session.headers["Authorization"].split()[1]
    assert read_claims(token)[1]["exp"] == NOW.timestamp() + 120
    usage = caller.usage(
        next(caller.cloud.fleet.meters()), "hour", "2021-02-01T06:00:00Z", "2021-02-01T08:00:00Z"
    )
    assert [row["usage"] is None for row in usage["results"]] == [False, False, True]


def test_a_slash_at_the_end_makes_no_difference(serve):
    """`/authorize/?…` as the vendor's scripts call it, and every other path."""
    caller = serve()
    cloud = caller.cloud
    answer = requests.get(
        cloud.url + "/authorize/", params=LOGIN, timeout=10, allow_redirects=False
    )
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": VERIFIER,
        "client_id": APP_CLIENT,
        "redirect_uri": REDIRECT,
    }
    assert requests.post(cloud.url + "/oauth/token/", json=fields, timeout=10).status_code == 200
    assert requests.get(cloud.url + "/api/v2/app/?code=x", timeout=10).status_code == 200
    assert requests.get(cloud.url + "/__sandbox__/stats/", timeout=10).json()["calls"] == 0
    meter = next(cloud.fleet.meters())
    for path in ("premise", "bulk", "grid/latest", f"meter/{meter.id}/location"):
        assert caller.get(path + "/").json() == caller.get(path).json()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/authorize", "GET"),
        ("OPTIONS", "/authorize/", "GET"),
        ("HEAD", "/passwordless/verify_redirect", "GET"),
        ("GET", "/passwordless/start", "POST"),
        ("PUT", "/passwordless/verify/", "POST"),
        ("OPTIONS", "/oauth/token", "POST"),
        ("POST", "/api/v2/app", "GET, HEAD"),
    ],
)
def test_other_methods_are_refused_with_those_there_are(serve, method, path, allowed):
    """405 and Allow; no code is used up by it."""
    answer = requests.request(method, serve().cloud.url + path, timeout=10)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


def test_the_page_of_a_code_can_be_asked_for_its_head(serve):
    """As any page: no body, and the length of it."""
    url = serve().cloud.url + "/api/v2/app?code=x"
    answer = requests.head(url, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(requests.get(url, timeout=10).content)


def test_hostile_bodies_are_bad_requests(serve):
    """Nesting without end and half a surrogate are answered, not dropped."""
    cloud = serve().cloud
    headers = {"Content-Type": "application/json; charset=utf-8"}
    deep = post(cloud, data="[" * 200_000, headers=headers)
    assert deep.status_code == 400
    half = json.dumps({**SECRET, "client_secret": "\ud800"})
    assert post(cloud, data=half, headers=headers).status_code == 401
    null = json.dumps({**SECRET, "client_secret": None})
    assert post(cloud, data=null, headers=headers).status_code == 401


def test_each_token_opens_its_own_half(serve):
    """An enterprise token does not open the app API, nor an app token the partner's."""
    caller = serve()
    assert caller.get("/api/v2/app/state").status_code == 403
    token = exchange(caller.cloud, get_code(caller.cloud)).json()["access_token"]
    caller.session.headers["Authorization"] = "Bearer " + token
    assert caller.get("premise").status_code == 403


@pytest.fixture
def user(serve):
    caller = serve()
    token = exchange(caller.cloud, get_code(caller.cloud)).json()["access_token"]
    caller.session.headers["Authorization"] = "Bearer " + token
    return caller


def test_the_user_has_the_first_premises(user):
    """Three premises with their meters, and their gateways."""
    fleet = user.cloud.fleet
    state = user.get("/api/v2/app/state").json()
    premises = list(fleet.premises())[:3]
    assert [one["id"] for one in state["premise_list"]] == [premise.id for premise in premises]
    for content, premise in zip(state["premise_list"], premises, strict=True):
        ids = [meter["id"] for meter in content["meter_list"]]
        assert ids == [meter.id for meter in fleet.meters_of(premise)]
        assert content["timezone"] == premise.zone
    assert [one["premise_id"] for one in state["gateway_list"]] == [p.id for p in premises]
    assert state["user"]["email"]


def test_instant_power_is_that_of_five_minutes(user):
    """What was used in the five minutes before the reading, times twelve."""
    fleet = user.cloud.fleet
    premise = next(fleet.premises())
    results = user.get(f"/api/v2/app/instant/{premise.id}").json()["results"]
    for result, meter in zip(results, fleet.meters_of(premise), strict=True):
        at = datetime.fromisoformat(result["updated_at"])
        before = fleet.register_at(meter.id, at - timedelta(minutes=5))
        assert result["id"] == meter.id
        assert result["type"] == meter.type
        used = fleet.register_at(meter.id, at) - before
        assert result["instant_power"] == round(used * 12, 4)
    fourth = list(fleet.premises())[3]
    assert user.get(f"/api/v2/app/instant/{fourth.id}").status_code == 404


def test_a_meter_without_readings_has_no_instant_power(serve):
    """Before its creation a meter has no reading to speak of."""
    caller = serve(now=NOW.replace(year=2019, month=1))
    token = exchange(caller.cloud, get_code(caller.cloud)).json()["access_token"]
    caller.session.headers["Authorization"] = "Bearer " + token
    premise = next(caller.cloud.fleet.premises())
    assert caller.get(f"/api/v2/app/instant/{premise.id}").json() == {"results": []}


def test_the_user_sees_own_meters_as_the_partner_does(user, serve):
    """The same rows under the app's paths; other meters are not found."""
    partner = serve()
    meters = list(user.cloud.fleet.meters())
    query = {"granularity": "hour", "start": "2020-12-22T07:00:00Z", "end": "2020-12-22T10:00:00Z"}
    for name in ("usage", "baseline-series", "average-series"):
        own = user.get(f"/api/v2/app/{name}/{meters[0].id}", **query)
        assert own.json() == partner.get(f"meter/{meters[0].id}/{name}", **query).json()
        assert user.get(f"/api/v2/app/{name}/{meters[-1].id}", **query).status_code == 404
        assert own.headers["Cache-Control"] == "max-age=900"
