from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests

from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.sandbox.quota import Quota

NOW = datetime(2021, 2, 1, 7, 0, tzinfo=UTC)
DAY = {"granularity": "hour", "start": "2020-12-22T07:00:00Z", "end": "2020-12-23T07:00:00Z"}


def path_of_usage(caller):
    return f"meter/{next(caller.cloud.fleet.meters()).id}/usage"


# ---- caching, compression, connections


def test_answers_say_how_long_they_keep(serve):
    """60 s for partner answers unless told; 0 and None turn it off, for the app too."""
    assert serve().get("premise").headers["Cache-Control"] == "max-age=60"
    assert serve(max_age=7).get("premise").headers["Cache-Control"] == "max-age=7"
    for off in (0, None):
        assert "Cache-Control" not in serve(max_age=off).get("premise").headers
        assert SandboxConfig(max_age=off).caching_seconds(app=True) is None
        assert SandboxConfig(max_age=off, app_max_age=5).caching_seconds(app=True) == 5
    assert SandboxConfig().caching_seconds(app=True) == 900


def test_an_unchanged_answer_is_a_304_and_a_call(serve):
    """`If-None-Match` with the ETag: no body, the same headers, one call more."""
    caller = serve(quota="3/h")
    first = caller.get("premise")
    known = {"If-None-Match": first.headers["ETag"]}
    second = caller.get("premise", headers=known)
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["ETag"] == first.headers["ETag"]
    assert second.headers["Cache-Control"] == "max-age=60"
    assert caller.get("premise", headers={"If-None-Match": '"other"'}).status_code == 200
    assert caller.get("premise", headers=known).status_code == 429
    assert caller.cloud.calls == 4


def test_long_bodies_are_zipped_when_accepted(serve):
    """gzip for those who accept it, plain for the others, and the same content."""
    caller = serve()
    zipped = caller.get("meter")
    plain = caller.get("meter", headers={"Accept-Encoding": "identity"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert zipped.json() == plain.json()
    assert int(zipped.headers["Content-Length"]) < int(plain.headers["Content-Length"])
    assert zipped.headers["Vary"] == "Accept-Encoding"


def test_a_connection_is_kept_open(serve):
    """HTTP/1.1: many requests on one connection; HEAD has no body; a stop ends it."""
    caller = serve()
    host, port = caller.cloud.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    headers = {"Authorization": caller.session.headers["Authorization"]}
    for method, body in (("GET", True), ("HEAD", False), ("GET", True)):
        connection.request(method, "/api/v2/partner/sandbox-enterprise/premise", headers=headers)
        answer = connection.getresponse()
        assert answer.version == 11
        assert bool(answer.read()) is body
        assert connection.sock is not None
    caller.cloud.stop()
    assert connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: x", 411),
        ("Content-Length: 9999999", 413),
    ],
)
def test_bodies_of_no_known_length_are_refused(serve, header, status):
    """And the connection with them: what follows could not be told apart."""
    host, port = serve().cloud.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"POST /oauth/token HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_client_that_goes_away_does_no_harm(serve):
    """A connection reset in the middle of a request: the next one is served."""
    caller = serve()
    host, port = caller.cloud.url.removeprefix("http://").split(":")
    for _ in range(3):
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(b"GET /api/v2/app HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert caller.get("premise").status_code == 200


def test_it_listens_on_the_loopback_address_only(serve):
    """Nobody else's machine can reach it."""
    assert serve().cloud.url.startswith("http://127.0.0.1:")


def test_the_application_works_without_a_socket():
    """A WSGI call in process: the same answers."""
    from werkzeug.test import Client

    cloud = Sandbox(SandboxConfig(now=NOW, latency_ms=0.01))
    client = Client(cloud.application)
    fields = {
        "grant_type": "client_credentials",
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "audience": "https://api.copperlabs.com",
    }
    token = client.post("/oauth/token", json=fields).get_json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    cloud.faults.add("kind=reset,path=premise\\?limit=3$")
    answer = client.get("/api/v2/partner/sandbox-enterprise/premise?limit=2", headers=headers)
    assert len(answer.get_json()) == 2
    with pytest.raises(ConnectionResetError):
        client.get("/api/v2/partner/sandbox-enterprise/premise?limit=3", headers=headers)
    assert (cloud.calls, cloud.token_calls) == (2, 1)


# ---- quota


def test_the_quota_slides(serve):
    """3 an hour: the fourth is refused until the first is an hour old; refusals do not count."""
    now = [1000.0]
    caller = serve(quota="3/h,5/d", quota_clock=lambda: now[0])
    statuses = []
    for second in (0, 600, 1200, 1800, 1900):
        now[0] = 1000.0 + second
        statuses.append(caller.get("premise").status_code)
    assert statuses == [200, 200, 200, 429, 429]
    assert caller.get("premise").headers["Retry-After"] == "1700"
    now[0] = 1000.0 + 3600
    assert caller.get("premise").status_code == 200
    now[0] = 1000.0 + 3 * 3600
    assert caller.get("premise").status_code == 200
    assert caller.get("premise").headers["Retry-After"] == str(21 * 3600)


def test_retry_after_can_be_left_out(serve):
    """Then a 429 says nothing of when."""
    caller = serve(quota="1/h", retry_after=False)
    caller.get("premise")
    answer = caller.get("premise")
    assert answer.status_code == 429
    assert "Retry-After" not in answer.headers


def test_the_quota_is_each_client_ids_own():
    """One client's calls do not count for another; what is given back can be used again."""
    quota = Quota(((1, 60),))
    assert quota.admit("a", 0) is None
    assert quota.admit("b", 0) is None
    assert quota.admit("a", 59.5) == 1
    assert quota.used(30) == {"a": {"1/60s": 1}, "b": {"1/60s": 1}}
    quota.release("a", 0)
    quota.release("a", 0)
    quota.release("nobody", 0)
    assert quota.admit("a", 59.5) is None
    quota.clear()
    assert quota.used(30) == {}
    assert all(Quota(()).admit("a", 0) is None for _ in range(5))


def test_token_requests_are_not_calls(serve):
    """Neither counted nor limited."""
    caller = serve(quota="1/h")
    for _ in range(3):
        caller.login()
    assert caller.get("premise").status_code == 200
    assert (caller.cloud.calls, caller.cloud.token_calls) == (1, 4)


# ---- faults


def test_a_fault_of_the_status_kind(serve):
    """It lets `skip` requests through, befalls `times`, and is over."""
    caller = serve(faults=("status=503,path=/premise,times=2,skip=1,retry_after=7",))
    answers = [caller.get("premise") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert caller.get("meter").status_code == 200


@pytest.mark.parametrize(("body", "length"), [("json", True), ("text", True), ("empty", False)])
def test_a_faults_body_is_chosen(serve, body, length):
    """JSON, text or nothing."""
    caller = serve(faults=(Fault(body=body),))
    answer = caller.get("premise")
    assert answer.status_code == 500
    assert bool(answer.content) is length
    if body == "json":
        assert answer.json()["statusCode"] == 500


def test_retry_after_may_be_a_date(serve):
    """An HTTP date, so many seconds after the quota's clock."""
    caller = serve(quota_clock=lambda: 1_600_000_000.0)
    caller.cloud.faults.add("status=429,retry_after=date:90")
    text = caller.get("premise").headers["Retry-After"]
    assert parsedate_to_datetime(text).timestamp() == 1_600_000_090


def test_a_429_by_fault_is_not_counted(serve):
    """As any call refused with 429."""
    caller = serve(quota="1/h")
    caller.cloud.faults.add("status=429")
    assert [caller.get("premise").status_code for _ in range(3)] == [429, 200, 429]


def test_a_reset_breaks_the_connection(serve):
    """No answer at all, then as before."""
    caller = serve()
    caller.cloud.faults.add("kind=reset,path=premise")
    with pytest.raises(requests.ConnectionError):
        caller.get("premise")
    assert caller.get("premise").status_code == 200
    assert [record.status for record in caller.cloud.log[1:]] == [None, 200]
    assert caller.cloud.log[1].fault == "reset"


@pytest.mark.parametrize("kind", ["cut", "cut-chunked"])
def test_a_cut_body_ends_too_early(serve, kind):
    """The client is promised more than comes, by length or by chunks."""
    caller = serve()
    caller.cloud.faults.add(f"kind={kind}")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        caller.get("meter")
    caller.cloud.faults.add(f"kind={kind}")
    answer = caller.session.get(
        caller.cloud.url + "/api/v2/partner/sandbox-enterprise/meter", stream=True, timeout=10
    )
    assert ("Content-Length" in answer.headers) is (kind == "cut")
    assert ("Transfer-Encoding" in answer.headers) is (kind == "cut-chunked")
    answer.close()
    assert caller.get("meter").status_code == 200


def test_a_hang_outlasts_the_clients_patience(serve):
    """Nothing comes; stopping the cloud does not wait for it."""
    caller = serve()
    caller.cloud.faults.add("kind=hang,seconds=60")
    with pytest.raises(requests.ReadTimeout):
        caller.session.get(
            caller.cloud.url + "/api/v2/partner/sandbox-enterprise/meter", timeout=0.05
        )
    caller.cloud.faults.add(Fault(kind="hang", seconds=0))
    assert caller.get("meter").status_code == 200


def test_a_revoked_token_never_works_again(serve):
    """401 now and later, until a new token is fetched."""
    caller = serve()
    caller.cloud.faults.add("kind=revoke,path=meter")
    assert [caller.get("meter").status_code for _ in range(2)] == [401, 401]
    assert caller.login().get("meter").status_code == 200
    caller.cloud.faults.add("kind=revoke,path=authorize")
    assert requests.get(caller.cloud.url + "/authorize", timeout=10).status_code == 401


def test_a_page_instead_of_json(serve):
    """Status 200, and yet no answer."""
    caller = serve()
    caller.cloud.faults.add("kind=html")
    answer = caller.get("meter")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<h1>" in answer.text


def test_cut_json_of_the_right_length(serve):
    """Only reading it to the end shows that something is missing; it has no validator."""
    caller = serve()
    whole = caller.get("meter").text
    caller.cloud.faults.add("kind=cut-json")
    answer = caller.get("meter")
    assert answer.text == whole[: len(whole) // 2]
    assert "ETag" not in answer.headers
    caller.cloud.faults.add("kind=cut-json,path=nothing")
    assert caller.get("nothing").status_code == 404


def test_fewer_rows_than_asked(serve):
    """The first rows of a list, of results or of a series; other answers stay as they are."""
    caller = serve()
    path = path_of_usage(caller)
    whole = caller.get(path, **DAY).json()
    caller.cloud.faults.add("kind=fewer-rows,rows=5,times=4")
    cut = caller.get(path, **DAY).json()
    assert cut == {**whole, "results": whole["results"][:5]}
    assert len(caller.get("premise").json()) == 5
    assert len(caller.get(path.replace("usage", "average-series"), **DAY).json()["series"]) == 5
    assert caller.get(path.replace("usage", "location")).json()["timezone"]


def test_a_redirect_to_another_host(serve):
    """302, and where to."""
    caller = serve()
    caller.cloud.faults.add("kind=redirect,location=https://evil.example/x")
    answer = caller.get("premise")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "https://evil.example/x"


def test_token_requests_have_faults_too(serve):
    """A path can be that of the token."""
    caller = serve()
    caller.cloud.faults.add("status=500,path=/oauth/token")
    with pytest.raises(AssertionError):
        caller.login()
    assert caller.login()


def test_faults_take_their_turn(serve):
    """The first that matches and is not used up; skipping ones leave it to those behind."""
    caller = serve()
    for text in ("status=500,skip=1", "status=502,path=premise", "status=503,times=always"):
        caller.cloud.faults.add(text)
    assert [caller.get("premise").status_code for _ in range(4)] == [502, 500, 503, 503]
    assert [fault.status for fault in caller.cloud.faults.left()] == [503]
    caller.cloud.faults.clear()
    assert caller.get("premise").status_code == 200


def test_a_pattern_is_searched_in_path_and_query(serve):
    """As they came: with the query, percent-encoded; commas and repeats are part of it."""
    caller = serve()
    caller.cloud.faults.add("path=limit=1{1,1}&,status=500")
    assert caller.get("premise", limit=1, offset=0).status_code == 500


@pytest.mark.parametrize("sent", ["07:1", "07%3A1", "07%3a1"])
@pytest.mark.parametrize("path", ["07:1/usage", "07%3A1/usage", "07%3a1/usage", "/07[:]1/usage"])
def test_a_pattern_matches_however_the_id_is_written(serve, sent, path):
    """Raw or percent-encoded, in the request and in the fault's own text."""
    caller = serve(faults=(f"status=502,path={path}",))
    url = f"{caller.cloud.url}/api/v2/partner/sandbox-enterprise/meter/{sent}/usage"
    prepared = requests.Request("GET", url, headers=caller.session.headers).prepare()
    prepared.url = url
    assert caller.session.send(prepared, timeout=10).status_code == 502


def test_what_is_decoded_is_no_pattern(serve):
    """An encoded dot is a dot, and a dot of the pattern still any character."""
    caller = serve()
    caller.cloud.faults.add("status=502,path=cursor=a%2Eb$")
    assert caller.get("premise", cursor="axb").status_code == 200
    assert caller.get("premise", cursor="a.b").status_code == 502
    caller.cloud.faults.add("status=503,path=cursor=a.b$")
    assert caller.get("premise", cursor="axb").status_code == 503


def test_times_in_a_query_match_as_they_are_read(serve):
    """`start=2020-12-22T07:00` finds what clients send as `07%3A00`."""
    caller = serve(faults=("status=502,path=start=2020-12-22T07:00",))
    assert caller.get(path_of_usage(caller), **DAY).status_code == 502


def test_an_address_in_a_query_is_no_path(serve):
    """A fault for every call does not befall a login whose redirect_uri holds `/api/v2/`."""
    cloud = serve(faults=("status=502",)).cloud
    query = {"redirect_uri": "https://api.copperlabs.com/api/v2/app"}
    answer = requests.get(cloud.url + "/authorize", params=query, timeout=10)
    assert answer.status_code == 400
    assert len(cloud.faults.left()) == 1


def test_faults_that_never_fired_are_told(serve):
    """One line each, with the fault as it would be typed; those that fired once are not told."""
    caller = serve()
    for text in (
        "status=503,path=premise,times=5",
        "kind=cut,path=bulk,times=always,skip=1",
        "kind=reset,path=/nowhere",
        "status=429,path=meter$,retry_after=date:7,skip=3",
    ):
        caller.cloud.faults.add(text)
    for path in ("premise", "bulk", "meter", "meter"):
        caller.get(path)
    lines = caller.cloud.faults.tell_unfired()
    assert lines == [
        "The fault kind=cut,path=bulk,times=always,skip=1 never fired: "
        "it let the one request that met it through (skip=1).",
        "The fault kind=reset,path=/nowhere never fired: no request met it.",
        "The fault kind=status,path=meter$,skip=3,status=429,retry_after=date:7 never fired: "
        "it let the 2 requests that met it through (skip=3).",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "kind=status,path=/api/v2/",
        "kind=hang,path=a{1,2},times=3,seconds=0.5",
        "kind=status,path=/usage,times=always,status=503,body=json,retry_after=date:0",
        "kind=redirect,path=x,location=https://elsewhere.example/y",
    ],
)
def test_a_fault_is_written_as_it_is_read(text):
    """Its text and itself are one."""
    assert str(Fault.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "500",
        "statu=500",
        "status=x",
        "status=99",
        "status=600",
        "kind=flood",
        "times=0",
        "skip=-1",
        "rows=-1",
        "seconds=-1",
        "body=xml",
        "path=(",
        "path=[$-%20]",
        "retry_after=-1",
        "retry_after=updated:3",
        "retry_after=xdate:3",
    ],
)
def test_wrong_faults_are_one_line(text):
    """What is wrong, and never a traceback's worth."""
    with pytest.raises(ValueError, match="fault") as caught:
        Fault.parse(text)
    assert "\n" not in str(caught.value)


def test_every_setting_of_a_fault_has_a_text():
    """The text names each field."""
    fault = Fault.parse(
        "kind=hang,path=a,times=3,skip=2,seconds=0.5,retry-after=4,body=json,rows=2,status=501,location=x"
    )
    assert fault == Fault(
        kind="hang",
        path="a",
        times=3,
        skip=2,
        seconds=0.5,
        retry_after=4,
        body="json",
        rows=2,
        status=501,
        location="x",
    )


# ---- the log and the control plane


def test_the_log_tells_everything_but_secrets(serve, tmp_path):
    """A record a request, in memory and in the file; no token, secret or code in either."""
    caller = serve(log_file=tmp_path / "log.jsonl", quota_clock=lambda: 1_600_000_000.0)
    caller.cloud.faults.add("status=500,path=meter")
    caller.get("premise", limit=2)
    caller.get("meter")
    code = "abcdefgh"
    requests.get(caller.cloud.url + f"/api/v2/app?code={code}&x=1", timeout=10)
    requests.get(caller.cloud.url + "/api/v2/partner/e/premise", timeout=10)
    token = caller.session.headers["Authorization"].split()[1]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [
        (r["method"], r["path"], r["query"], r["status"], r["client_id"], r["fault"])
        for r in records
    ] == [
        ("POST", "/oauth/token", "", 200, "sandbox-client", None),
        (
            "GET",
            "/api/v2/partner/sandbox-enterprise/premise",
            "limit=2",
            200,
            "sandbox-client",
            None,
        ),
        ("GET", "/api/v2/partner/sandbox-enterprise/meter", "", 500, "sandbox-client", "status"),
        ("GET", "/api/v2/app", "code=***&x=1", 200, None, None),
        ("GET", "/api/v2/partner/e/premise", "", 401, None, None),
    ]
    assert [r["time"] for r in records] == ["2020-09-13T12:26:40+00:00"] * 5
    assert records[1]["bytes"] > 100
    assert records == requests.get(caller.cloud.url + "/__sandbox__/log", timeout=10).json()
    assert not [line for line in lines if token in line or "sandbox-secret" in line or code in line]
    assert (caller.cloud.calls, caller.cloud.token_calls) == (3, 2)


def test_the_control_plane_needs_no_token(serve):
    """Counts, faults and a fresh start for tests in other processes; none of it is a call."""
    caller = serve(quota="2/h", missing_emails=1)
    control = caller.cloud.url + "/__sandbox__"
    caller.get("premise", with_users="True")
    stats = requests.get(control + "/stats", timeout=10).json()
    assert (stats["calls"], stats["token_calls"], stats["premises"]) == (1, 1, 12)
    assert stats["quota"] == {"sandbox-client": {"2/3600s": 1}}
    assert stats["now"] == "2021-02-01T07:00:00+00:00"
    faults = {"faults": ["status=500", "status=501"]}
    stats = requests.post(control + "/faults", json=faults, timeout=10).json()
    assert [fault["status"] for fault in stats["faults"]] == [500, 501]
    assert caller.get("premise").status_code == 500
    stats = requests.post(control + "/reset", timeout=10).json()
    assert (stats["calls"], stats["faults"], stats["quota"]) == (0, [], {})
    users = caller.get("premise", with_users="True").json()[0]["user_list"]
    assert users == [{}]
    assert requests.get(control + "/reset", timeout=10).status_code == 404


@pytest.mark.parametrize(
    "body", ["", "[]", '{"faults": ["x"]}', '{"faults": 1}', '{"faults": [1]}']
)
def test_wrong_faults_of_other_processes_are_refused(serve, body):
    """400 and one line; none of them is added."""
    cloud = serve().cloud
    answer = requests.post(cloud.url + "/__sandbox__/faults", data=body, timeout=10)
    assert answer.status_code == 400
    assert "\n" not in answer.text
    assert cloud.faults.left() == []


def test_a_log_that_cannot_be_written_starts_nothing(tmp_path):
    """The port is given back, too."""
    with pytest.raises(FileNotFoundError):
        Sandbox(SandboxConfig(log_file=tmp_path / "none" / "log")).start()


def test_the_clock_may_be_the_machines():
    """Without `now` the cloud lives today."""
    with Sandbox() as cloud:
        stats = requests.get(cloud.url + "/__sandbox__/stats", timeout=10).json()
    assert abs(datetime.fromisoformat(stats["now"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_importing_the_sandbox_is_cheap_and_takes_nothing_of_the_client():
    """werkzeug waits until a cloud is served; no module of the client comes with it."""
    code = (
        "import sys, copper_cli.sandbox;"
        "ours = {m for m in sys.modules if m.startswith('copper_cli.')};"
        "assert all(m.startswith('copper_cli.sandbox') for m in ours), ours;"
        "assert not {'werkzeug', 'requests', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_gzip_is_the_same_each_time(serve):
    """No time of compression in the body, so that copies compare equal."""
    caller = serve()
    url = caller.cloud.url + "/api/v2/partner/sandbox-enterprise/meter"
    raw = []
    for _ in range(2):
        answer = caller.session.get(url, stream=True, timeout=10)
        raw.append(answer.raw.read(decode_content=False))
        answer.close()
    assert raw[0] == raw[1]
    assert json.loads(gzip.decompress(raw[0]))
