"""The session: what is retried, what it costs, who waits, and what nobody must see."""

from __future__ import annotations

import logging
import socket
import sqlite3
import struct
import tempfile
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import responses

from copper_cli.cloud import transport
from copper_cli.cloud.events import CallDone, QuotaWait, Retrying, SystemClock, Warned
from copper_cli.cloud.quota import open_ledger
from copper_cli.cloud.session import CloudSession, describe
from copper_cli.config import Limit
from copper_cli.errors import (
    BadRequestError,
    CloudError,
    CredentialsError,
    LocalError,
    NotFoundError,
    QuotaSpentError,
)

from .mini_cloud import START_S, FakeClock, Said, make_settings

PATH = "/api/v2/partner/ent/premise"
USAGE = "/api/v2/partner/ent/meter/07%3A1/usage"


def used(session) -> int:
    return session._ledger.usage().limits[0].used


def reset(handler) -> None:
    """The connection is broken, not closed."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def http(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CHUNKED = "Transfer-Encoding: chunked"

PASSING = {
    "500": Said(500, {"message": "oops"}),
    "502 html": Said(502, b"<html>bad gateway</html>"),
    "503": Said(503, b""),
    "429": Said(429, b"slow down"),
    "reset": Said(raw=b"", after=reset),
    "hang up": Said(raw=b""),
    "cut length": Said(raw=http(b'[{"id"', length=100)),
    "cut chunk": Said(raw=http(b"10\r\n[{", CHUNKED)),
    "no last chunk": Said(raw=http(b"2\r\n[]\r\n", CHUNKED)),
    "cut json": Said(raw=http(b'[{"id": 1}, {"i', "Connection: close")),
    "cut json of full length": Said(body=b'[{"id": 1}, {"i'),
    "html": Said(body=b"<!DOCTYPE html><html>login</html>"),
    "empty": Said(body=b""),
    "text": Said(body=b"all fine"),
    "not utf-8": Said(body=b"[\xff\xfe\xfa]"),
    "too deep": Said(body=b"[" * 100_000),
    "broken gzip": Said(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    "no http": Said(raw=b"SSH-2.0-OpenSSH_9\r\n"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(cloud, open_session, fault):
    """Two faults, then the answer: three calls, each paid."""
    session = open_session()
    cloud.say(PATH, PASSING[fault], PASSING[fault], [{"id": "p"}])
    assert session.get_json(PATH) == [{"id": "p"}]
    assert session.calls_used == len(cloud.asked) == 3
    assert used(session) == 3
    assert len([event for event in session.events if isinstance(event, Retrying)]) == 2


def test_a_quota_spent_by_others_is_waited_for(cloud, open_session):
    """Twenty 429s in a row pass, since the quota does within its shortest window."""
    session = open_session()
    cloud.say(PATH, *[Said(429, b"") for _ in range(20)], [{"id": "p"}])
    assert session.get_json(PATH) == [{"id": "p"}]
    assert session.calls_used == 21


def test_a_quota_that_never_comes_back_is_given_up(cloud, open_session):
    """After about an hour of waiting: thirty tries."""
    session = open_session()
    cloud.say(PATH, default=PASSING["429"])
    with pytest.raises(CloudError, match=r"^premise: .*tried 30 times\)\.$"):
        session.get_json(PATH)


@pytest.mark.parametrize("fault", [name for name in PASSING if not name.startswith("429")])
def test_what_does_not_pass_is_given_up_after_five_tries(cloud, open_session, fault):
    """One line that says what was asked and how often; nothing of it is kept."""
    session = open_session()
    cloud.say(PATH, default=PASSING[fault])
    with pytest.raises(CloudError, match=r"^premise: .*tried 5 times\)\.$") as caught:
        session.get_json(PATH)
    assert len(cloud.asked) == session.calls_used == 5
    assert cloud.url.removeprefix("http://") not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not session.is_cached(PATH)


def test_a_server_that_hangs_is_tried_again(cloud, open_session):
    """Silence for longer than the timeout."""
    release = threading.Event()
    session = open_session(timeout_s=0.2)
    session._tokens.current()
    cloud.say(PATH, Said(raw=b"", after=lambda _: release.wait(10)), [])
    cloud.say(PATH + "2", Said(raw=http(b"[", length=9), after=lambda _: release.wait(10)), [])
    # The handler keeps the connection open while it waits.
    assert session.get_json(PATH) == []
    assert session.get_json(PATH + "2") == []
    release.set()
    reasons = [event.reason for event in session.events if isinstance(event, Retrying)]
    assert reasons[0] == "cannot reach 127.0.0.1: it did not answer in time"
    assert "fell silent" in reasons[1]


def test_a_body_that_trickles_is_cut_off(cloud, open_session, monkeypatch):
    """Byte by byte, each in time, the whole too late: tried again."""
    monkeypatch.setattr(transport, "DEADLINE_TIMEOUTS", 0.05)
    stop = threading.Event()

    def trickle(handler) -> None:
        while not stop.wait(0.01):
            handler.wfile.write(b" ")

    session = open_session()
    session._tokens.current()
    cloud.say(PATH, Said(raw=http(b"[", length=10**6), after=trickle), [])
    assert session.get_json(PATH) == []
    stop.set()
    assert "too slowly" in next(e.reason for e in session.events if isinstance(e, Retrying))


def test_nobody_there(open_session, tmp_path, clock):
    """The host that fails is named, no more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with (
        CloudSession(make_settings(url, tmp_path), clock=clock) as session,
        pytest.raises(CloudError, match=r"cannot reach 127\.0\.0\.1: it refuses connections"),
    ):
        session.get_json(PATH)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("NameResolutionError(...)", "its name is not known here (no network?)"),
        ("ProxyError('x')", "the proxy failed"),
        ("whatever", "the connection failed"),
    ],
)
def test_causes_in_plain_words(text, cause):
    """No class names, no addresses."""
    failure = transport.connection_failure(
        transport.requests.ConnectionError(text), "https://api.copperlabs.com/secret"
    )
    assert str(failure) == f"cannot reach api.copperlabs.com: {cause}"


@responses.activate
def test_a_certificate_nobody_trusts_is_not_tried_again(tmp_path, clock):
    """Trying again would not mend it."""
    url = "https://api.example.com"
    error = transport.requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self signed")
    responses.add(responses.GET, url + PATH, body=error)
    responses.add(responses.POST, url + "/oauth/token", json={"access_token": "t1"})
    with (
        CloudSession(make_settings(url, tmp_path), clock=clock) as session,
        pytest.raises(CloudError, match=r"Cannot reach api\.example\.com: its certificate"),
    ):
        session.get_json(PATH)
    assert session.calls_used == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (404, NotFoundError),
        (405, CloudError),
        (422, CloudError),
        (201, CloudError),
        (202, CloudError),
        (203, CloudError),
        (204, CloudError),
        (206, CloudError),
        (304, CloudError),
    ],
)
def test_what_cannot_pass_is_not_tried_again(cloud, open_session, status, kind):
    """One call, the status in the error; only 200 is success."""
    session = open_session()
    cloud.say(PATH, default=Said(status, [] if status < 400 else {"message": "no"}))
    with pytest.raises(kind, match=str(status)) as caught:
        session.get_json(PATH)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert session.calls_used == 1


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (Said(203, []), "answered 203, an answer that something on the way has changed."),
        (Said(raw=b"HTTP/1.1 204 No Content\r\n\r\n"), "answered 204, no content."),
        (Said(206, [{"id": "p"}]), "answered 206, a part of the answer only."),
        (Said(202, {"job": 1}), "answered 202, which is no answer to a question."),
    ],
)
def test_what_is_wrong_with_another_success_is_said(cloud, open_session, said, line):
    """In one line that does not quote the data."""
    cloud.say(PATH, default=said)
    session = open_session()
    with pytest.raises(CloudError) as caught:
        session.get_json(PATH)
    assert str(caught.value) == f"premise: 127.0.0.1 {line}"
    assert not session.is_cached(PATH)


def test_an_empty_answer_is_said_to_be_empty(cloud, open_session):
    """Not that it is no JSON."""
    cloud.say(PATH, default=Said(body=b" \r\n"))
    with pytest.raises(CloudError, match=r"answered with an empty body \(200\) \(tried 5 times\)"):
        open_session().get_json(PATH)


def test_messages_say_which_meter_and_window(cloud, open_session):
    """And what the cloud said, on one line, without control characters."""
    session = open_session()
    cloud.say(USAGE, Said(400, b"too\x1b[31m much\r\n\x00 asked \xe2\x80\xae for " + b"x" * 300))
    with pytest.raises(BadRequestError) as caught:
        session.get_json(USAGE, {"start": "2020-12-22T07:00:00Z", "end": "2020-12-23T07:00:00Z"})
    text = str(caught.value)
    assert text.startswith(
        "usage of meter 07:1 from 2020-12-22T07:00:00Z to 2020-12-23T07:00:00Z: "
        "the cloud refuses the question (400: too [31m much asked for xxx"
    )
    assert len(text) < 400
    assert text.isprintable()


@pytest.mark.parametrize(
    ("path", "params", "kind", "what"),
    [
        (PATH, {}, "premise", "premise"),
        (PATH, {"offset": 1000}, "premise", "premise (rows from 1000 on)"),
        ("/api/v2/partner/e/meter/a%2Fb/location", {}, "meter/location", "location of meter a/b"),
        ("/api/v2/partner/e/grid/latest?x=1", {}, "grid/latest", "grid/latest"),
        ("/api/v2/app/state", {}, "state", "state"),
        ("/api/v2/app/instant/p1", {}, "instant", "instant of p1"),
        ("/elsewhere", {}, "elsewhere", "elsewhere"),
    ],
)
def test_questions_in_words(path, params, kind, what):
    """The kind has no ids in it."""
    assert describe(path, params) == (kind, what)


@pytest.mark.parametrize("path", ["premise", "@evil.example/x", "https://evil.example/x", ""])
def test_only_paths_are_asked(cloud, open_session, path):
    """Nothing that could change the host."""
    with pytest.raises(CloudError, match="is no path"):
        open_session().get_json(path)
    assert cloud.asked == cloud.token_asked == []


# Redirects, proxies, netrc, logs


def test_a_redirect_is_not_followed(cloud, other_cloud, open_session):
    """The token never reaches another host."""
    session = open_session()
    cloud.say(PATH, Said(302, b"", {"Location": f"{other_cloud.url}/x"}))
    with pytest.raises(CloudError, match="redirect, which is never followed"):
        session.get_json(PATH)
    assert other_cloud.asked == []


def test_a_netrc_does_not_replace_the_token(cloud, open_session, tmp_path, monkeypatch):
    """Neither for the API nor for the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login joe password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    cloud.say(PATH, [])
    open_session().get_json(PATH)
    assert cloud.asked[0].headers["Authorization"] == "Bearer t1"
    assert "Authorization" not in cloud.token_asked[0].headers


PROXIES = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]


@pytest.mark.parametrize("name", PROXIES)
def test_no_proxy_stands_before_this_machine(
    cloud, other_cloud, open_session, monkeypatch, name, tmp_path
):
    """Neither for the token, whose secret it would read, nor for the API; whatever the variable,
    and though ~/.netrc knows the proxy."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login joe password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    _set_proxy(monkeypatch, name, other_cloud.url)
    cloud.say(PATH, [])
    assert open_session().get_json(PATH) == []
    assert other_cloud.asked == other_cloud.token_asked == []
    assert len(cloud.asked) == len(cloud.token_asked) == 1
    assert "Proxy-Authorization" not in cloud.asked[0].headers


def test_a_dead_proxy_is_not_in_the_way_of_this_machine(cloud, open_session, monkeypatch):
    """Nothing is sent there, so nothing fails."""
    _set_proxy(monkeypatch, "http_proxy", f"http://127.0.0.1:{_free_port()}")
    cloud.say(PATH, [])
    assert open_session().get_json(PATH) == []


def test_a_system_proxy_is_not_in_the_way_of_this_machine(cloud, open_session, monkeypatch):
    """macOS and Windows keep proxies elsewhere than in the environment."""
    dead = f"http://127.0.0.1:{_free_port()}"
    monkeypatch.setattr(transport.requests.utils, "getproxies", lambda: {"http": dead})
    monkeypatch.setattr(transport.requests.utils, "should_bypass_proxies", lambda *a, **k: False)
    cloud.say(PATH, [])
    assert open_session().get_json(PATH) == []


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_dead_proxy_is_named(tmp_path, clock, monkeypatch, name):
    """For a host elsewhere it is used; that it fails is said of it, without its password."""
    port = _free_port()
    _set_proxy(monkeypatch, name, f"http://joe:hunter2@127.0.0.1:{port}")
    with (
        CloudSession(make_settings("https://api.example.com", tmp_path), clock=clock) as session,
        pytest.raises(CloudError) as caught,
    ):
        session.get_json(PATH)
    assert str(caught.value) == (
        "No token: cannot reach api.example.com: "
        f"the proxy 127.0.0.1:{port}: it refuses connections (tried 5 times)."
    )


PROXY_ANSWERS = {
    b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": "it answered 407 Proxy Authentication",
    b"HTTP/1.1 503 Service \x1b[31mUnavailable\r\n\r\n": "it answered 503 Service",
    b"": "it hung up without an answer",
}


@pytest.mark.parametrize("answer", PROXY_ANSWERS)
def test_a_proxy_that_refuses_is_named(tmp_path, clock, monkeypatch, answer):
    """It is asked for the host by name, and gets neither secret nor token."""
    heard = []

    def serve(listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        _set_proxy(monkeypatch, "https_proxy", f"127.0.0.1:{port}")
        with (
            CloudSession(
                make_settings("https://api.example.com", tmp_path), clock=clock
            ) as session,
            pytest.raises(CloudError) as caught,
        ):
            session.get_json(PATH)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    text = str(caught.value)
    assert f"the proxy 127.0.0.1:{port}: {PROXY_ANSWERS[answer]}" in text
    assert text.isprintable()
    assert len(heard) == 5
    assert all(one.startswith(b"CONNECT api.example.com:443 ") for one in heard)
    assert b"s3cret" not in b"".join(heard)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://[::1", "http://a:99999"])
def test_a_proxy_that_cannot_be_used_is_named(tmp_path, clock, monkeypatch, proxy):
    """One line, not a traceback."""
    _set_proxy(monkeypatch, "https_proxy", proxy)
    with (
        CloudSession(make_settings("https://api.example.com", tmp_path), clock=clock) as session,
        pytest.raises(CloudError, match="the proxy ") as caught,
    ):
        session.get_json(PATH)
    assert str(caught.value).isprintable()


def _set_proxy(monkeypatch, name: str, url: str) -> None:
    for other in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.upper(), raising=False)
    monkeypatch.setenv(name, url)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_logs_at_debug_hold_no_secret(cloud, open_session, caplog):
    """Whoever turns on debug logs for everything sees neither secret nor token."""
    caplog.set_level(logging.DEBUG)
    cloud.say(PATH, Said(body=[], headers={"Cache-Control": "max-age=60"}))
    session = open_session()
    session.get_json(PATH)
    session.get_json(PATH)
    text = caplog.text + repr(session.events) + repr(session._tokens.current())
    assert "s3cret" not in text
    assert "Bearer t1" not in text
    assert "'t1'" not in text
    assert cloud.url not in text


def test_messages_hold_no_secret(cloud, open_session):
    """Not even where the cloud repeats it."""
    session = open_session()
    cloud.say(PATH, Said(400, b"token t1 and secret s3cret are odd"))
    with pytest.raises(BadRequestError, match=r"token \*\*\* and secret \*\*\* are odd"):
        session.get_json(PATH)


# Tokens in use


def test_a_revoked_token_costs_one_call(cloud, open_session):
    """401, a new token, the answer; the next call uses it at once."""
    cloud.say(PATH, default=[])
    session = open_session()
    session.get_json(PATH)
    cloud.accepted = {"t2"}
    session.get_json(PATH)
    session.get_json(PATH)
    assert session.calls_used == 4
    assert len(cloud.token_asked) == 2


def test_a_new_token_refused_too_is_a_credentials_error(cloud, open_session):
    """401 twice: believe it."""
    cloud.accepted = set()
    session = open_session()
    with pytest.raises(CredentialsError, match="even a new token"):
        session.get_json(PATH)
    assert session.calls_used == 2
    assert len(cloud.token_asked) == 2


def test_threads_with_a_revoked_token_fetch_one_new_one(cloud, open_session):
    """Eight threads see 401; one asks for a token, the others use it."""
    cloud.say(PATH, default=[])
    session = open_session()
    session.get_json(PATH)
    cloud.accepted = {"t2"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: session.get_json(PATH), range(8)))
    assert answers == [[]] * 8
    assert len(cloud.token_asked) == 2
    assert session.calls_used <= 1 + 16


def test_403_is_believed_when_the_token_is_new(cloud, open_session):
    """No permission: one call, no second token."""
    cloud.say(PATH, default=Said(403, {"message": "forbidden"}))
    session = open_session()
    with pytest.raises(CredentialsError, match=r"no permission \(403: forbidden\)"):
        session.get_json(PATH)
    assert session.calls_used == len(cloud.token_asked) == 1


def test_403_with_a_token_from_the_file_renews_it_once(cloud, open_session):
    """The vendor's script does so too; after that it is believed."""
    cloud.say("/ok", default=[])
    open_session().get_json("/ok")
    cloud.say(PATH, Said(403, {}), [])
    assert open_session().get_json(PATH) == []
    assert len(cloud.token_asked) == 2
    cloud.say(PATH, default=Said(403, {}))
    session = open_session()
    for calls in (2, 3):
        with pytest.raises(CredentialsError, match="no permission"):
            session.get_json(PATH)
        assert session.calls_used == calls
    assert len(cloud.token_asked) == 3


# Quota


def test_a_429_holds_everybody_for_as_long_as_it_says(cloud, open_session, clock):
    """Another session of the client waits too; the hour is not marked as spent."""
    cloud.say(PATH, Said(429, b"", {"Retry-After": "30"}), default=[])
    session, other = open_session(), open_session(wait=False)
    cloud.say("/x", default=[])
    assert session.get_json(PATH) == []
    assert clock.now_s >= START_S + 30
    assert used(session) == 2
    session._ledger.hold(20)
    with pytest.raises(QuotaSpentError) as caught:
        other.get_json("/x")
    assert caught.value.resume_at_utc == datetime.fromtimestamp(clock.now_s + 20, UTC)


def test_retry_after_may_be_a_date(cloud, open_session, clock):
    """An HTTP date, two minutes from now."""
    date = format_datetime(datetime.fromtimestamp(START_S, UTC) + timedelta(minutes=2), usegmt=True)
    cloud.say(PATH, Said(429, b"", {"Retry-After": date}), [])
    open_session().get_json(PATH)
    assert clock.now_s == pytest.approx(START_S + 120, abs=2)


@pytest.mark.parametrize("after", ["0", "-5", "0.001", "Sat, 01 Jan 2000 00:00:00 GMT"])
def test_a_retry_after_of_nothing_is_none(cloud, open_session, clock, monkeypatch, after):
    """A cloud that refuses and says to come at once is left alone for a while, and a while more
    each time: its thirty refusals are not spent in a second."""
    monkeypatch.setattr(transport, "backoff_s", lambda tries, most_s=64.0: float(tries))
    cloud.say(PATH, *[Said(429, b"", {"Retry-After": after})] * 5, default=[])
    session = open_session()
    assert session.get_json(PATH) == []
    assert session.calls_used == 6
    assert clock.now_s >= START_S + 1 + 2 + 3 + 4 + 5


@pytest.mark.parametrize("after", ["1000000000", "7200", "Fri, 14 Nov 2053 22:13:20 GMT"])
def test_a_retry_after_of_years_holds_for_an_hour(cloud, open_session, clock, after):
    """Then a call tries again; what it costs is two calls and an hour, not a day."""
    cloud.say(PATH, Said(429, b"", {"Retry-After": after}), [{"id": "p"}])
    session = open_session()
    assert session.get_json(PATH) == [{"id": "p"}]
    assert START_S + 3600 <= clock.now_s <= START_S + 3602
    assert session.calls_used == 2
    waits = [event for event in session.events if isinstance(event, QuotaWait)]
    assert all(wait.held for wait in waits)
    assert [event.wait_s for event in session.events if isinstance(event, Retrying)] == [3600]


def test_after_such_an_hour_one_call_tries_for_all(cloud, open_session, clock):
    """Of eight threads one finds out that the cloud has not changed its mind: a call an hour."""
    cloud.say(PATH, default=Said(429, b"", {"Retry-After": "1000000000"}))
    session = open_session(jobs=8)
    with pytest.raises(CloudError):
        session.get_json(PATH)
    first = session.calls_used
    assert first == 30
    assert clock.now_s >= START_S + 29 * 3600
    with ThreadPoolExecutor(8) as pool:
        cloud.defaults[PATH] = Said(body=[])
        assert list(pool.map(lambda _: session.get_json(PATH), range(8))) == [[]] * 8
    assert session.calls_used == first + 8


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Tue, 14 Nov 2023 22:13:25 GMT", 5.0),
        ("Tue, 14 Nov 2022 22:13:25 GMT", 0.0),
        ("Tue, 99 Nov 2023 22:13:25 GMT", None),
    ],
)
def test_reading_retry_after(text, seconds):
    """START_S is 2023-11-14T22:13:20Z; what cannot be read counts as absent."""
    assert transport.parse_retry_after({"Retry-After": text}, START_S) == seconds


def test_retry_after_of_a_503_is_heeded_up_to_two_minutes(cloud, open_session, clock):
    """An hour of 503 is not waited for."""
    cloud.say(
        PATH, Said(503, b"", {"Retry-After": "7"}), Said(503, b"", {"Retry-After": "9999"}), []
    )
    session = open_session()
    session.get_json(PATH)
    assert [event.wait_s for event in session.events if isinstance(event, Retrying)] == [7, 120]
    assert clock.now_s == START_S + 127


def test_backoff_is_full_jitter_and_bounded():
    """Anything between nothing and 1, 2, 4, 8 … s, never over 64."""
    for tries in range(1, 12):
        waits = [transport.backoff_s(tries) for _ in range(200)]
        top = min(2.0 ** (tries - 1), 64)
        assert 0 <= min(waits) < top / 4
        assert top * 3 / 4 < max(waits) <= top


def test_a_spent_quota_is_waited_for_with_a_countdown(cloud, open_session, clock):
    """The third of 2 in 10 s waits for 10.25 s; events come once a second."""
    cloud.say(PATH, default=[])
    session = open_session(quota=(Limit(2, 10),))
    for _ in range(3):
        session.get_json(PATH)
    waits = [event for event in session.events if isinstance(event, QuotaWait)]
    assert 10 <= len(waits) <= 11
    assert {(wait.used, wait.limit) for wait in waits} == {(2, Limit(2, 10))}
    assert {wait.resume_at_utc for wait in waits} == {datetime.fromtimestamp(START_S + 10.25, UTC)}
    assert clock.now_s >= START_S + 10.25
    assert max(clock.slept) <= 1.0


def test_a_spent_quota_is_an_error_where_waiting_is_ruled_out(cloud, open_session):
    """Exit code 5 with the time in local time, and no call more."""
    cloud.say(PATH, default=[])
    session = open_session(quota=(Limit(2, 10),), wait=False)
    session.get_json(PATH)
    session.get_json(PATH)
    resume = datetime.fromtimestamp(START_S + 11).astimezone().isoformat()
    with pytest.raises(QuotaSpentError) as caught:
        session.get_json(PATH)
    assert f"resume at {resume}." in str(caught.value)
    assert caught.value.resume_at_utc == datetime.fromtimestamp(START_S + 10.25, UTC)
    assert session.calls_used == len(cloud.asked) == 2


def test_a_reserve_is_left(cloud, open_session):
    """One of two is for others."""
    cloud.say(PATH, default=[])
    session = open_session(quota=(Limit(2, 10),), wait=False, reserve=1)
    session.get_json(PATH)
    with pytest.raises(QuotaSpentError):
        session.get_json(PATH)


def test_threads_share_the_quota_and_all_get_through(cloud, open_session):
    """Twelve calls at 5 in 10 s on eight threads: never more than five in any ten seconds."""
    cloud.say(PATH, default=[])
    session = open_session(quota=(Limit(5, 10),))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: session.get_json(PATH), range(12))) == [[]] * 12
    assert session.calls_used == 12


def test_calls_are_written_down_under_the_command(cloud, open_session, settings):
    """`copper quota` can say who spent them."""
    cloud.say(PATH, default=[])
    session = open_session(command="meter usage")
    session.get_json(PATH)
    assert session._ledger.usage().limits[0].by_command == {"meter usage": 1}


def test_a_clock_set_back_during_a_wait_does_not_lengthen_it(cloud, open_session):
    """What was slept counts, whatever the clock says."""

    class Jumping(FakeClock):
        def sleep(self, seconds):
            super().sleep(seconds)
            if len(self.slept) == 3:
                self.now_s -= 7200

    clock = Jumping()
    cloud.say(PATH, default=[])
    session = open_session(clock=clock, quota=(Limit(1, 10),))
    session.get_json(PATH)
    session.get_json(PATH)
    assert sum(clock.slept) <= 2 * 10.25 + 0.1


def test_cancelling_ends_waits_in_threads(cloud, open_session):
    """Ctrl-C in the main thread: the caller cancels, and nobody waits out the hour."""
    cloud.say(PATH, default=[])
    asleep = threading.Event()

    class Real(SystemClock):
        def sleep(self, seconds):
            asleep.set()
            time.sleep(0.001)

    session = open_session(clock=Real(), quota=(Limit(1, 3600),))
    session.get_json(PATH)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(session.get_json, PATH) for _ in range(4)]
        assert asleep.wait(5)
        session.cancel()
    assert all(isinstance(future.exception(), CancelledError) for future in futures)


def test_an_interrupt_passes_through(cloud, open_session):
    """KeyboardInterrupt in a sleep is no failure that may pass."""

    class Impatient(FakeClock):
        def sleep(self, seconds):
            raise KeyboardInterrupt

    cloud.say(PATH, default=Said(503, b""))
    session = open_session(clock=Impatient())
    with pytest.raises(KeyboardInterrupt):
        session.get_json(PATH)
    assert len(cloud.asked) == 1


def test_a_folder_that_takes_no_writing_is_done_without(cloud, tmp_path, clock):
    """Quota, token and cache live for this run only, and the user is told of each."""
    (tmp_path / "cache").write_text("a file, where the folder should be")
    cloud.say(PATH, default=Said(body=[], headers={"Cache-Control": "max-age=60"}))
    events = []
    settings = make_settings(cloud.url, tmp_path, quota=(Limit(2, 10),), wait=False)
    with CloudSession(settings, clock=clock, on_event=events.append) as session:
        session.get_json(PATH)
        session.get_json(PATH)
        with pytest.raises(QuotaSpentError):
            session.get_json(PATH)
        folder = session._ledger.path.parent
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert len(warnings) == 3
    assert len(cloud.token_asked) == 1
    assert not folder.exists()


def test_a_full_disk_is_done_without(cloud, tmp_path, clock, monkeypatch):
    """Where the cache folder takes no more bytes: one warning each for ledger, token and answers,
    and the calls of earlier runs still count."""
    cloud.say(PATH, default=Said(body=[], headers={"Cache-Control": "max-age=60"}))
    settings = make_settings(cloud.url, tmp_path, quota=(Limit(3, 10),), wait=False)
    ledger = open_ledger(settings, clock=clock.now)
    ledger.take("before")
    ledger.close()
    _fill_disk(monkeypatch, settings.cache_dir)
    events = []
    with CloudSession(settings, clock=clock, on_event=events.append) as session:
        for _ in range(2):
            session.get_json(PATH)
        with pytest.raises(QuotaSpentError):
            session.get_json(PATH)
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert len(warnings) == 3
    assert all("full" in text or "No space left" in text for text in warnings)


def _fill_disk(monkeypatch, folder) -> None:
    """From now on nothing can be written to the folder's files, old or new."""
    connect, mkstemp = sqlite3.connect, tempfile.mkstemp

    class Full(sqlite3.Connection):
        def execute(self, sql, *rest):
            if sql.startswith(("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE TABLE responses")):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(sql, *rest)

    def connect_full(path, *rest, **options):
        is_full = Path(path).parent == folder
        return connect(path, *rest, **options, **({"factory": Full} if is_full else {}))

    def no_room(*rest, **options):
        if Path(options.get("dir") or "") == folder:
            raise OSError(28, "No space left on device")
        return mkstemp(*rest, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_full)
    monkeypatch.setattr(tempfile, "mkstemp", no_room)


def test_a_private_ledger_that_fails_too_is_a_local_error(cloud, tmp_path, clock, monkeypatch):
    """Without any ledger nothing is asked."""
    (tmp_path / "cache").write_text("a file")
    with CloudSession(make_settings(cloud.url, tmp_path), clock=clock) as session:
        session._use_ledger(lambda ledger: None)
        cloud.say(PATH, default=[])
        session.get_json(PATH)
        session._ledger.close()
        session._ledger.path.unlink()
        folder = session._ledger.path.parent
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.write_text("now this is a file as well")
        with pytest.raises(LocalError):
            session.get_json(PATH)
        folder.unlink()
        folder.mkdir()


# Events


def test_events_say_what_happened(cloud, open_session):
    """Token, failure, answer, and then the answer from the cache."""
    cloud.say(
        PATH, Said(500, {"message": "oops"}), Said(body=[], headers={"Cache-Control": "max-age=9"})
    )
    session = open_session()
    session.get_json(PATH)
    session.get_json(PATH)
    kinds = [
        (event.kind, event.status, event.from_cache)
        for event in session.events
        if isinstance(event, CallDone)
    ]
    assert kinds == [
        ("token", 200, False),
        ("premise", 500, False),
        ("premise", 200, False),
        ("premise", 200, True),
    ]
    retry = next(event for event in session.events if isinstance(event, Retrying))
    assert retry.reason == "127.0.0.1 answered 500: oops"


@responses.activate
def test_the_answer_is_read_through_responses_too(tmp_path, clock):
    """The same code serves tests without sockets; https, compressed or not."""
    url = "https://api.example.com"
    responses.add(responses.POST, url + "/oauth/token", json={"access_token": "t1"})
    responses.add(responses.GET, url + PATH, json=[{"id": "p"}])
    with CloudSession(make_settings(url, tmp_path), clock=clock) as session:
        assert session.get_json(PATH) == [{"id": "p"}]
    assert responses.calls[1].request.headers["Authorization"] == "Bearer t1"


def test_compressed_answers_are_read(cloud, open_session):
    """gzip, as any server may send."""
    import gzip

    body = gzip.compress(b'[{"id": "p"}]')
    cloud.say(PATH, Said(body=body, headers={"Content-Encoding": "gzip"}))
    assert open_session().get_json(PATH) == [{"id": "p"}]


def test_not_a_number_is_no_null(cloud, open_session):
    """NaN and Infinity are no JSON and no numbers: texts, so that nobody takes them for null."""
    cloud.say(PATH, Said(body=b'[{"a": NaN, "b": -Infinity}]'))
    assert open_session().get_json(PATH) == [{"a": "NaN", "b": "-Infinity"}]


def test_connections_are_kept(cloud, open_session):
    """Twenty calls in turn use one connection."""
    seen = set()

    def note(asked):
        return Said(body=[], after=lambda handler: seen.add(handler.client_address))

    cloud.say(PATH, default=note)
    session = open_session()
    for _ in range(20):
        session.get_json(PATH)
    assert len(seen) == 1


def test_the_ledger_of_the_session_is_the_one_of_the_settings(cloud, open_session, settings, clock):
    """Another process with the same settings sees the calls."""
    cloud.say(PATH, default=[])
    open_session().get_json(PATH)
    ledger = open_ledger(settings, clock=clock.now)
    assert ledger.usage().limits[0].used == 1
    ledger.close()


def test_no_more_calls_in_flight_than_jobs(cloud, open_session):
    """However many threads ask; as many as there may be, though, on that many connections."""
    lock, full = threading.Lock(), threading.Barrier(3, timeout=10)
    now, most, connections = [0], [0], set()

    def answer(asked):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        full.wait()  # 12 calls by threes: with fewer in flight it would break
        with lock:
            now[0] -= 1
        return Said(body=[], after=lambda handler: connections.add(handler.client_address))

    cloud.defaults = {f"/api/v2/{n}": answer for n in range(12)}
    cloud.answer = _unlocked(cloud)
    session = open_session(jobs=3)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: session.get_json(f"/api/v2/{n}"), range(12)))
    assert most == [3]
    assert len(connections) == 3


def test_after_a_cancel_no_other_call_is_made(cloud, open_session):
    """The one in flight is answered; those that stand behind it end without one."""
    arrived, go_on = threading.Event(), threading.Event()

    def answer(asked):
        arrived.set()
        assert go_on.wait(10)
        return Said(body=[])

    cloud.defaults = {"/api/v2/1": answer, "/api/v2/2": lambda asked: Said(body=[])}
    cloud.answer = _unlocked(cloud)
    session = open_session(jobs=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(session.get_json, "/api/v2/1")
        assert arrived.wait(10)
        behind = [pool.submit(session.get_json, "/api/v2/2") for _ in range(2)]
        session.cancel()
        go_on.set()
        assert first.result(10) == []
        for one in behind:
            with pytest.raises(CancelledError):
                one.result(10)
    assert session.calls_used == 1


def _unlocked(cloud):
    """Answers that may wait for each other."""
    locked = cloud.answer

    def answer(asked):
        found = cloud.defaults.get(asked.path)
        return locked(asked) if found is None else found(asked)

    return answer


def test_a_call_is_counted_when_it_leaves(cloud, open_session, clock):
    """Not while it waits for others in flight: the window of the quota would end too early."""
    second = threading.Event()

    def slow(asked):
        second.wait(10)
        clock.now_s += 100  # the first call takes so long
        return Said(body=[])

    cloud.defaults = {"/api/v2/1": slow, "/api/v2/2": lambda asked: Said(body=[])}
    cloud.answer = _unlocked(cloud)
    session = open_session(jobs=1, quota=(Limit(10, 3600),))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(session.get_json, "/api/v2/1")
        while session.calls_used < 1:
            time.sleep(0.001)
        then = pool.submit(session.get_json, "/api/v2/2")
        second.set()
        assert (first.result(10), then.result(10)) == ([], [])
    seen = [at.timestamp() for at in session.quota_usage().limits[0].next_free_utc]
    assert seen[1] - seen[0] == pytest.approx(100, abs=1e-3)
