"""Tokens: asked for rightly, kept privately, renewed in time, one fetch at a time."""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from copper_cli.cloud import app, token, transport
from copper_cli.cloud.events import Retrying, Warned
from copper_cli.cloud.token import (
    Token,
    TokenFile,
    TokenSource,
    build_authorize_url,
    exchange_code,
    logout,
    parse_code,
)
from copper_cli.config import INDIVIDUAL_CLIENT_ID, Secret, Settings
from copper_cli.errors import CloudError, CredentialsError, LocalError, UsageError
from copper_cli.jobs.account import dump_account

from .mini_cloud import START_S, FakeClock, Said, make_settings

PATH = "/api/v2/app/state"


@pytest.fixture
def person(cloud, tmp_path) -> Settings:
    return make_settings(
        cloud.url,
        tmp_path,
        client_id=INDIVIDUAL_CLIENT_ID,
        client_secret=None,
        enterprise_id="",
    )


@pytest.fixture
def source(settings, clock) -> TokenSource:
    return TokenSource(settings, "enterprise", clock)


def form(asked) -> dict[str, str]:
    return dict(parse_qsl(asked.body))


def test_client_credentials_as_the_cloud_wants_them(cloud, source):
    """The audience is always the same; id and secret in the body, never in a header."""
    assert source.current().value == "t1"
    assert form(cloud.token_asked[0]) == {
        "grant_type": "client_credentials",
        "client_id": "client-1",
        "client_secret": "s3cret",
        "audience": "https://api.copperlabs.com",
    }
    assert "Authorization" not in cloud.token_asked[0].headers


def test_oauthlib_may_use_http_only_meanwhile(source, monkeypatch):
    """The permission for plain http does not outlast the call; a given one stays."""
    source.current()
    assert "OAUTHLIB_INSECURE_TRANSPORT" not in os.environ
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "yes")
    source.renew(source.current())
    assert os.environ["OAUTHLIB_INSECURE_TRANSPORT"] == "yes"


def test_a_token_never_goes_over_http_to_another_machine(settings, clock):
    """Even if the settings were made by hand."""
    source = TokenSource(replace(settings, auth_url="http://auth.example"), "enterprise", clock)
    with pytest.raises(UsageError, match="https only"):
        source.current()


def test_the_file_is_private_and_shared(cloud, settings, source, clock):
    """0600 in a 0700 folder; a second run needs no call; the secret is not in it."""
    source.current()
    (path,) = settings.cache_dir.glob("token.*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "s3cret" not in path.read_text()
    again = TokenSource(settings, "enterprise", clock).current()
    assert (again.value, again.from_file) == ("t1", True)
    assert len(cloud.token_asked) == 1


def test_the_file_is_never_readable_by_others(settings, source, monkeypatch):
    """Not even between its making and its renaming, whatever the umask."""
    modes = []
    original = Path.replace

    def watch(self, target):
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    before = os.umask(0)
    try:
        source.current()
    finally:
        os.umask(before)
    assert modes == [0o600]


@pytest.mark.parametrize(
    "change",
    [
        {"auth_url": "http://127.0.0.1:1"},
        {"api_url": "http://127.0.0.1:1"},
        {"client_id": "client-2"},
        {"client_secret": Secret("other")},
    ],
)
def test_another_cloud_client_or_secret_does_not_get_the_token(settings, source, change):
    """Nor where the file of one lies in the place of the other."""
    source.current()
    other = TokenFile(replace(settings, **change))
    assert other.read() is None
    other.path.write_bytes(TokenFile(settings).path.read_bytes())
    assert other.read() is None


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "null", "{}", "[" * 100_000, '{"client_id": 1}', "\ud800"],
)
def test_a_broken_file_is_a_miss(cloud, settings, source, text):
    """It is fetched anew and the file replaced."""
    file = TokenFile(settings)
    file.path.parent.mkdir()
    file.path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert source.current().value == "t1"
    assert file.read() is not None


@pytest.mark.parametrize(
    "change",
    [{"access_token": 5}, {"refresh_token": 5}, {"renew_at_s": "soon"}, {"renew_at_s": None}],
)
def test_a_file_with_wrong_types_is_a_miss(settings, source, change):
    """Field by field."""
    source.current()
    file = TokenFile(settings)
    file.path.write_text(json.dumps(json.loads(file.path.read_text()) | change))
    assert file.read() is None


def test_renewed_a_minute_before_its_end(cloud, source, clock):
    """86400 s: still good at 86339 s, renewed at 86340 s."""
    source.current()
    clock.now_s += 86339
    assert source.current().value == "t1"
    clock.now_s += 1
    assert source.current().value == "t2"
    assert len(cloud.token_asked) == 2


def test_a_short_lived_token_is_used_for_most_of_its_life(cloud, source, clock):
    """30 s: not fetched for every call."""
    cloud.expires_in = 30
    source.current()
    clock.now_s += 26
    assert source.current().value == "t1"
    clock.now_s += 1
    assert source.current().value == "t2"


def test_a_token_without_a_lifetime_is_taken_for_an_hour(cloud, source, clock):
    """ASSUMED; too long would only cost one call."""
    cloud.token_queue = [Said(body={"access_token": "x"})]
    assert source.current() == Token("x", START_S + 3540)


def test_one_fetch_for_many_threads(cloud, source):
    """Eight threads, one token."""
    with ThreadPoolExecutor(8) as pool:
        values = {one.value for one in pool.map(lambda _: source.current(), range(32))}
    assert values == {"t1"}
    assert len(cloud.token_asked) == 1


def _fetch_in_process(settings: Settings, out) -> None:
    out.put(TokenSource(settings, "enterprise", FakeClock()).current().value)


def test_one_fetch_for_many_processes(cloud, settings):
    """Four processes started together, one token."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [context.Process(target=_fetch_in_process, args=(settings, out)) for _ in range(4)]
    for process in processes:
        process.start()
    values = {out.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert values == {"t1"}
    assert len(cloud.token_asked) == 1


def test_a_renewed_token_of_a_sibling_is_used(cloud, settings, clock):
    """Two processes see the same token refused; the second takes what the first fetched."""
    one = TokenSource(settings, "enterprise", clock)
    other = TokenSource(settings, "enterprise", clock)
    stale = one.current()
    other.current()
    assert one.renew(stale).value == "t2"
    assert one.renew(stale).value == "t2"
    assert other.renew(stale).value == "t2"
    assert len(cloud.token_asked) == 2


def test_a_failure_is_told_to_every_thread_and_asked_once(cloud, settings, clock):
    """A wrong secret is not tried sixteen times."""
    import threading

    cloud.token_queue = [Said(401, {})] * 50
    started = threading.Barrier(8)
    source = TokenSource(settings, "enterprise", clock)

    def ask(_):
        started.wait()
        with pytest.raises(CredentialsError):
            source.current()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(cloud.token_asked) < 8


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_wrong_secret_names_the_variables(cloud, source, status):
    """No retry, no secret in the message."""
    cloud.token_queue = [Said(status, {"error_description": "s3cret is\nwrong"})]
    with pytest.raises(CredentialsError) as caught:
        source.current()
    text = str(caught.value)
    assert "COPPER_CLIENT_ID and COPPER_CLIENT_SECRET" in text
    assert f"answered {status}: *** is wrong" in text
    assert len(cloud.token_asked) == 1


@pytest.mark.parametrize("change", [{"client_id": ""}, {"client_secret": None}])
def test_missing_credentials_name_the_variables(cloud, settings, clock, change):
    """Before any call."""
    source = TokenSource(replace(settings, **change), "enterprise", clock)
    with pytest.raises(CredentialsError, match="COPPER_CLIENT_SECRET"):
        source.current()
    assert cloud.token_asked == []


@pytest.mark.parametrize(
    "fault",
    [
        Said(500, b""),
        Said(429, b""),
        Said(raw=b""),
        Said(body=b"<html>"),
        Said(body=b"{"),
        Said(body={}),
        Said(body={"error": "x"}),
        Said(body={"access_token": "a\nb"}),
    ],
)
def test_token_calls_are_retried(cloud, source, fault):
    """Twice a fault, then the token; for ever a fault: five tries."""
    cloud.token_queue = [fault, fault]
    assert source.current().value == "t3"
    cloud.token_queue = [fault] * 9
    with pytest.raises(CloudError, match=r"^No token: .*\(tried 5 times\)\.$"):
        source.renew(source.current())
    assert len(cloud.token_asked) == 8


def test_retry_after_of_the_token_host_is_heeded(cloud, settings, clock):
    """requests-oauthlib alone would hide it."""
    events = []
    cloud.token_queue = [
        Said(503, b"", {"Retry-After": "9"}),
        Said(503, b"", {"Retry-After": "999"}),
    ]
    TokenSource(settings, "enterprise", clock, on_event=events.append).current()
    assert [event.wait_s for event in events if isinstance(event, Retrying)] == [9, 120]
    assert clock.now_s == START_S + 129


def test_other_answers_of_the_token_host(cloud, source):
    """Not retried, and not the credentials' fault."""
    cloud.token_queue = [Said(404, b"nothing here")]
    with pytest.raises(CloudError, match="answered 404: nothing here") as caught:
        source.current()
    assert caught.value.status == 404


def test_a_redirect_of_the_token_host_is_not_followed(cloud, other_cloud, source):
    """The secret never reaches another host."""
    for status in (302, 307, 308):
        cloud.token_queue = [Said(status, b"", {"Location": other_cloud.url + "/oauth/token"})]
        with pytest.raises(CloudError, match="never followed"):
            source.current()
    assert other_cloud.token_asked == []


def test_a_token_host_nobody_reaches(settings, clock):
    """Five tries, the host named."""
    source = TokenSource(replace(settings, auth_url="http://127.0.0.1:1"), "enterprise", clock)
    with pytest.raises(CloudError, match=r"No token: cannot reach 127\.0\.0\.1"):
        source.current()


def test_a_folder_that_takes_no_file_is_done_without(cloud, tmp_path, clock):
    """The token lives in memory; one warning."""
    (tmp_path / "cache").write_text("a file")
    events = []
    source = TokenSource(
        make_settings(cloud.url, tmp_path), "enterprise", clock, on_event=events.append
    )
    assert [source.current().value, source.current().value] == ["t1", "t1"]
    warnings = [event for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "log in again" not in warnings[0].text


def test_a_lock_that_never_comes_free_is_gone_without(cloud, settings, source, monkeypatch):
    """Two fetches are better than none."""
    from filelock import FileLock

    monkeypatch.setattr(token, "LOCK_TIMEOUT_S", 0.01)
    settings.cache_dir.mkdir()
    with FileLock(TokenFile(settings).path.with_suffix(".lock")):
        assert source.current().value == "t1"


def test_a_token_shows_itself_to_nobody():
    """In logs and tracebacks."""
    assert "abc" not in repr(Token("abc", 5.0, "def"))
    assert "def" not in repr(Token("abc", 5.0, "def"))


# Individuals


def test_the_login_address(person):
    """PKCE with S256, and what the vendor's app asks for."""
    url, verifier = build_authorize_url(person)
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode()
    assert parts.path == "/authorize"
    assert query == {
        "response_type": "code",
        "code_challenge": challenge.rstrip("="),
        "code_challenge_method": "S256",
        "client_id": "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA",
        "scope": "app offline_access",
        "audience": "https://api.copperlabs.com",
        "redirect_uri": "https://api.copperlabs.com/api/v2/app",
    }
    assert 43 <= len(verifier) <= 128
    assert build_authorize_url(person)[1] != verifier


@pytest.mark.parametrize(
    "pasted",
    [
        "abc-_1",
        " abc-_1\n",
        "'abc-_1'",
        "code=abc-_1",
        "code=abc-_1&state=x",
        "?code=abc-_1",
        "https://api.copperlabs.com/api/v2/app?code=abc-_1",
        "https://api.copperlabs.com/api/v2/app?state=x&code=abc-_1#_=_",
    ],
)
def test_what_may_be_pasted(pasted):
    """The code alone, `code=…` or the whole address."""
    assert parse_code(pasted) == "abc-_1"


def test_a_code_may_hold_an_equals_sign():
    """It is no query then."""
    assert parse_code("abc==") == "abc=="


@pytest.mark.parametrize(
    "pasted", ["", "  ", "https://api.copperlabs.com/", "code=", "a b", "a\x00b", "é", "x" * 5000]
)
def test_what_holds_no_code(pasted):
    """Says what to copy."""
    with pytest.raises(UsageError, match="address bar"):
        parse_code(pasted)


def test_a_refused_login_says_why():
    """The address tells."""
    with pytest.raises(CredentialsError, match="The login failed: not you"):
        parse_code("https://x/?error=access_denied&error_description=not%0Ayou")
    with pytest.raises(CredentialsError, match="access_denied"):
        parse_code("error=access_denied")


def test_a_code_is_exchanged_and_the_login_kept(cloud, person, clock):
    """Then the app API answers with its token."""
    cloud.token_queue = [Said(body={"access_token": "a1", "expires_in": 60, "refresh_token": "r1"})]
    exchange_code(person, "code=abc", "verifier", clock=clock)
    assert form(cloud.token_asked[0]) == {
        "grant_type": "authorization_code",
        "code": "abc",
        "code_verifier": "verifier",
        "client_id": "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA",
        "redirect_uri": "https://api.copperlabs.com/api/v2/app",
    }
    assert TokenSource(person, "individual", clock).current().value == "a1"


def test_a_refused_code(cloud, person):
    """Codes last a short while."""
    cloud.token_queue = [Said(403, {"error": "invalid_grant"})]
    with pytest.raises(CredentialsError, match="log in again"):
        exchange_code(person, "abc", "v")


def test_a_login_that_cannot_be_kept(cloud, tmp_path, person, clock):
    """Exit code 7: the next command would ask again."""
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LocalError):
        exchange_code(person, "abc", "v", clock=clock)


def login(cloud, person, clock, refresh="r1") -> None:
    cloud.token_queue = [
        Said(body={"access_token": "a1", "expires_in": 100, "refresh_token": refresh})
    ]
    exchange_code(person, "abc", "v", clock=clock)


def test_refresh_keeps_the_old_refresh_token_unless_rotated(cloud, person, clock):
    """No new one: the old stays. A new one: it replaces the old at once, also on disk."""
    login(cloud, person, clock)
    cloud.token_queue = [
        Said(body={"access_token": "a2", "expires_in": 100}),
        Said(body={"access_token": "a3", "expires_in": 100, "refresh_token": "r2"}),
        Said(body={"access_token": "a4", "expires_in": 100}),
    ]
    source = TokenSource(person, "individual", clock)
    values = []
    for _ in range(3):
        clock.now_s += 100
        values.append(source.current().value)
    assert values == ["a2", "a3", "a4"]
    refreshes = [form(asked) for asked in cloud.token_asked[1:]]
    assert [one["refresh_token"] for one in refreshes] == ["r1", "r1", "r2"]
    assert refreshes[0]["grant_type"] == "refresh_token"
    assert refreshes[0]["client_id"] == "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA"
    kept = TokenFile(person).read()
    assert kept is not None
    assert kept.refresh == "r2"


def test_a_rotated_refresh_token_that_cannot_be_kept_is_used_on(cloud, person, clock, monkeypatch):
    """From memory, with a warning that the next run must log in."""
    login(cloud, person, clock)
    events = []
    source = TokenSource(person, "individual", clock, on_event=events.append)

    def refuse(path, text):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(token, "write_private", refuse)
    for name in ("a2", "a3"):
        cloud.token_queue = [
            Said(body={"access_token": name, "expires_in": 100, "refresh_token": f"r-{name}"})
        ]
        clock.now_s += 100
        assert source.current().value == name
    assert form(cloud.token_asked[-1])["refresh_token"] == "r-a2"
    assert "must log in again" in next(e.text for e in events if isinstance(e, Warned))


def test_an_ended_login_says_so(cloud, person, clock):
    """The refresh token is refused."""
    login(cloud, person, clock)
    clock.now_s += 100
    cloud.token_queue = [Said(403, {"error": "invalid_grant"})]
    with pytest.raises(CredentialsError, match=r"the login has ended\. Log in again"):
        TokenSource(person, "individual", clock).current()


def test_nobody_logged_in(person, clock):
    """Says what to do."""
    with pytest.raises(CredentialsError, match="copper account login"):
        TokenSource(person, "individual", clock).current()


def test_logout_forgets_token_and_answers(cloud, person, clock, open_session):
    """The next user of the computer finds nothing."""
    login(cloud, person, clock)
    state = {"premise_list": []}
    cloud.say(PATH, default=Said(body=state, headers={"Cache-Control": "max-age=900"}))
    session = open_session(
        grant="individual", client_id=person.client_id, client_secret=None, enterprise_id=""
    )
    app.AppClient(session).fetch_account()
    session.close()
    assert logout(person)
    assert not logout(person)
    kinds = {file.name.split(".")[0] for file in person.cache_dir.iterdir()}
    assert kinds <= {"quota", "token"}
    assert list(person.cache_dir.glob("token.*.json")) == []


def test_a_token_file_that_cannot_be_removed(person):
    """Exit code 7."""
    TokenFile(person).path.mkdir(parents=True)
    with pytest.raises(LocalError, match="cannot be removed"):
        logout(person)


def test_the_app_of_an_individual(cloud, person, clock, open_session):
    """Premises and instants of the account."""
    login(cloud, person, clock)
    cloud.say(PATH, default={"premise_list": [{"id": "p1", "meter_list": [{"id": "07:1"}]}]})
    cloud.say("/api/v2/app/instant/p1", default={"results": [{"id": "07:1", "instant_power": 2}]})
    session = open_session(
        grant="individual", client_id=person.client_id, client_secret=None, enterprise_id=""
    )
    client = app.AppClient(session)
    assert [premise.id for premise in client.fetch_premises()] == ["p1"]
    assert [instant.power for instant in client.fetch_instants("p1")] == [2]
    assert set(dump_account(client)[0]["instant"]) == {"p1"}
    assert cloud.asked[0].headers["Authorization"] == "Bearer a1"


def test_the_debug_loggers_that_print_secrets_are_silenced():
    """Importing is enough."""
    import logging

    for name in ("requests_oauthlib", "oauthlib", "urllib3"):
        assert logging.getLogger(name).level >= logging.WARNING
    assert transport.MAX_TRIES == 5


def test_a_failed_write_leaves_no_file_behind(settings, source, monkeypatch):
    """The disk is full, say: the token is used, and no half of it lies about."""

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    assert source.current().value == "t1"
    assert list(settings.cache_dir.glob("token.*.json*")) == []
