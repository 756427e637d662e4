"""Tokens: fetched with requests-oauthlib, kept in a private file, one fetch at a time.

Enterprise clients have client credentials (no refresh token: ask again); individuals log in
with a code and PKCE, and keep a refresh token. A token call does not count against the quota.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from filelock import FileLock, Timeout

from copper_cli.cloud import transport
from copper_cli.cloud.events import CallDone, Clock, Event, Retrying, SystemClock, Warned
from copper_cli.cloud.parse import TokenAnswer, parse_token
from copper_cli.cloud.transport import MAX_RETRY_AFTER_S, MAX_TRIES, Answer, PassingError
from copper_cli.config import Settings, is_loopback
from copper_cli.errors import CloudError, CopperError, CredentialsError, LocalError, UsageError
from copper_cli.files.names import short_digest
from copper_cli.files.private import make_private_folder, read_private, write_private
from copper_cli.text import one_line

AUDIENCE = "https://api.copperlabs.com"
"""Stays this string whatever the host."""
REDIRECT_URI = "https://api.copperlabs.com/api/v2/app"
SCOPE = "app offline_access"
RENEW_BEFORE_S = 60.0
DEFAULT_LIFETIME_S = 3600.0
"""ASSUMED, for an answer without `expires_in`; too long only costs one call answered 401."""
LOCK_TIMEOUT_S = 60.0

Grant = Literal["enterprise", "individual"]
_insecure_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Token:
    """A token in use. Never shown: its repr hides the value."""

    value: str
    """What goes after `Bearer`."""
    renew_at_s: float
    """Seconds since 1970 from which on it is renewed before use."""
    refresh: str | None = None
    """Refresh token of an individual."""
    from_file: bool = False
    """It was found in the file, not just fetched."""

    def __repr__(self) -> str:
        return f"Token(***, renew_at_s={self.renew_at_s})"


class TokenFile:
    """The token on disk, bound to its hosts, client id and secret: any other is a miss."""

    def __init__(self, settings: Settings) -> None:
        name = short_digest(settings.client_id, settings.auth_url, settings.api_url)
        self.path = settings.cache_dir / f"token.{name}.json"
        secret = settings.client_secret.reveal() if settings.client_secret else ""
        self._owner = {
            "client_id": settings.client_id,
            "auth_url": settings.auth_url,
            "api_url": settings.api_url,
            "secret": short_digest("fingerprint", settings.client_id, secret),
        }

    def read(self) -> Token | None:
        """The token kept for these settings.

        None where none is, the file is broken, or others could have written it.
        """
        try:
            kept = json.loads(read_private(self.path))
            if {key: kept[key] for key in self._owner} != self._owner:
                return None
            refresh = kept["refresh_token"]
            if not isinstance(refresh, str | None) or not isinstance(kept["access_token"], str):
                return None
            return Token(kept["access_token"], float(kept["renew_at_s"]), refresh, True)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def write(self, token: Token) -> None:
        """Keeps the token. Raises OSError."""
        kept = self._owner | {
            "access_token": token.value,
            "refresh_token": token.refresh,
            "renew_at_s": token.renew_at_s,
        }
        write_private(self.path, json.dumps(kept))

    def delete(self) -> bool:
        """Removes the file; True if there was one. Raises OSError."""
        existed = self.path.exists()
        self.path.unlink(missing_ok=True)
        return existed

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time. Goes on without the lock where the folder takes no writing."""
        lock = FileLock(self.path.with_suffix(".lock"), timeout=LOCK_TIMEOUT_S, mode=0o600)
        try:
            make_private_folder(self.path.parent)
            lock.acquire()
        except (OSError, Timeout):
            pass  # the worst that can come of it is one token fetched twice
        try:
            yield
        finally:
            lock.release()


class TokenSource:
    """The token of one session, shared by its threads and, through the file, by processes."""

    def __init__(
        self,
        settings: Settings,
        grant: Grant,
        clock: Clock,
        *,
        sleep: Callable[[float], None] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._settings = settings
        self._grant = grant
        self._clock = clock
        self._on_event = on_event
        self._file = TokenFile(settings)
        self._exchange = TokenExchange(settings, clock, sleep=sleep, on_event=on_event)
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._failures: list[CopperError] = []
        self._unsaved = False

    def current(self) -> Token:
        """A token good for now; fetched only where neither memory nor the file has one."""
        token = self._token
        if token is not None and self._is_good(token):
            return token
        return self._replace(stale=None)

    def renew(self, stale: Token) -> Token:
        """A token other than the one the cloud refused: a sibling's new one, or fetched."""
        return self._replace(stale=stale.value)

    def secrets(self) -> list[str]:
        """What must never be printed."""
        found = [self._settings.client_secret.reveal()] if self._settings.client_secret else []
        if self._token is not None:
            found += [self._token.value, self._token.refresh or ""]
        return found

    def _is_good(self, token: Token) -> bool:
        return self._clock.now() < token.renew_at_s

    def _usable(self, token: Token | None, stale: str | None) -> bool:
        return token is not None and token.value != stale and self._is_good(token)

    def _replace(self, stale: str | None) -> Token:
        known = len(self._failures)
        with self._lock:
            if len(self._failures) > known:
                raise self._failures[-1]  # a sibling has just failed: do not ask sixteen times
            if self._token is not None and self._usable(self._token, stale):
                return self._token
            with self._file.locked():
                kept = self._file.read()
                if kept is None or not self._usable(kept, stale):
                    try:
                        kept = self._fetch(kept)
                    except CopperError as error:
                        self._failures.append(error)
                        raise
                self._token = kept
                return kept

    def _fetch(self, kept: Token | None) -> Token:
        if self._grant == "enterprise":
            token = self._exchange.client_credentials()
        else:
            known = self._token if self._unsaved else kept
            if known is None or not known.refresh:
                raise CredentialsError(
                    "nobody is logged in; run `copper account login` on a terminal."
                )
            token = self._exchange.refresh(known.refresh)
        try:
            self._file.write(token)
            self._unsaved = False
        except OSError as error:
            self._unsaved = True
            loss = " The next run must log in again." if token.refresh else ""
            reason = error.strerror or "it cannot be written"
            self._on_event(Warned(f"The token is not kept: {self._file.path}: {reason}.{loss}"))
        return token


class TokenExchange:
    """Calls to the token endpoint, with the retries of any other call."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        sleep: Callable[[float], None] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sleep = sleep or clock.sleep
        self._on_event = on_event
        self._url = f"{settings.auth_url}/oauth/token"

    def client_credentials(self) -> Token:
        """A token for the enterprise client. Raises CredentialsError, CloudError."""
        from oauthlib.oauth2 import (  # type: ignore[import-untyped]
            BackendApplicationClient,
        )

        settings = self._settings
        if not settings.client_id or settings.client_secret is None:
            raise CredentialsError(
                "Set COPPER_CLIENT_ID and COPPER_CLIENT_SECRET to your client's credentials."
            )
        client = BackendApplicationClient(client_id=settings.client_id)
        secret = settings.client_secret.reveal()
        refused = (
            "the client id and secret are refused. Check COPPER_CLIENT_ID and "
            "COPPER_CLIENT_SECRET, or the profile."
        )
        return self._retry(
            refused,
            client,
            lambda session: session.fetch_token(
                self._url, include_client_id=True, client_secret=secret, audience=AUDIENCE
            ),
        )

    def code(self, code: str, verifier: str) -> Token:
        """A token and refresh token for a code the user pasted."""
        from oauthlib.oauth2 import WebApplicationClient

        return self._retry(
            "the code is refused. Codes last a short while and work once: log in again.",
            WebApplicationClient(self._settings.client_id),
            lambda session: session.fetch_token(
                self._url, code=code, code_verifier=verifier, include_client_id=True
            ),
        )

    def refresh(self, refresh_token: str) -> Token:
        """A new token; a refresh token that the cloud rotates replaces the old one."""
        from oauthlib.oauth2 import WebApplicationClient

        return self._retry(
            "the login has ended. Log in again.",
            WebApplicationClient(self._settings.client_id),
            lambda session: session.refresh_token(
                self._url, refresh_token=refresh_token, client_id=self._settings.client_id
            ),
            old_refresh=refresh_token,
        )

    def _retry(
        self,
        refused: str,
        client: Any,
        call: Callable[[Any], object],
        old_refresh: str | None = None,
    ) -> Token:
        for tries in range(1, MAX_TRIES + 1):
            try:
                answer = self._ask(refused, client, call)
                lifetime_s = answer.lifetime_s or DEFAULT_LIFETIME_S
                margin_s = min(RENEW_BEFORE_S, lifetime_s / 10)
                renew_at_s = self._clock.now() + lifetime_s - margin_s
                return Token(answer.value, renew_at_s, answer.refresh or old_refresh)
            except PassingError as failure:
                if tries == MAX_TRIES:
                    raise CloudError(
                        f"No token: {failure.reason} (tried {tries} times).",
                        status=failure.status,
                    ) from None
                wait_s = failure.retry_after_s
                wait_s = transport.backoff_s(tries) if wait_s is None else wait_s
                wait_s = min(wait_s, MAX_RETRY_AFTER_S)
                self._on_event(Retrying(f"token: {failure.reason}", wait_s))
                self._sleep(wait_s)
        raise AssertionError

    def _ask(self, refused: str, client: Any, call: Callable[[Any], object]) -> TokenAnswer:
        """One request through OAuth2Session.

        Its own reading of the answer is passed by: it would turn a 503 into a missing token and
        hide how long to wait.
        """
        from requests_oauthlib import OAuth2Session  # type: ignore[import-untyped]

        started = self._clock.now()
        seen: list[Answer] = []

        def catch(response: requests.Response) -> requests.Response:
            seen.append(Answer(response.status_code, response.headers, response.content))
            raise _SeenError

        status = None
        try:
            redirect = REDIRECT_URI if self._settings.client_secret is None else None
            with OAuth2Session(client=client, redirect_uri=redirect) as session:
                transport.make_session(
                    self._settings.timeout_s, session, max_answer=self._settings.max_answer
                )
                session.max_redirects = 0
                session.register_compliance_hook("access_token_response", catch)
                session.register_compliance_hook("refresh_token_response", catch)
                with _loopback_http(self._url):
                    call(session)
            raise AssertionError  # the hook always raises
        except _SeenError:
            status = seen[0].status
            return self._read(seen[0], refused)
        except requests.TooManyRedirects:
            raise CloudError(
                f"No token: {urlsplit(self._url).hostname} answered with a redirect, "
                "which is never followed. Check COPPER_AUTH_URL."
            ) from None
        except requests.RequestException as error:
            raise transport.connection_failure(error, self._url) from None
        except CloudError as error:  # an answer over its bound
            raise CloudError(f"No token: {error}") from None
        finally:
            self._on_event(CallDone("token", status, self._clock.now() - started, False))

    def _read(self, answer: Answer, refused: str) -> TokenAnswer:
        status = answer.status
        host = urlsplit(self._url).hostname or ""
        if status == 200:
            token = parse_token(transport.parse_json(answer.body, host))
            if token is None:
                raise PassingError(f"{host} answered without a token", status=status)
            return token
        if status == 429 or status >= 500:
            after_s = transport.parse_retry_after(answer.headers, self._clock.now())
            raise PassingError(f"{host} answered {status}", status=status, retry_after_s=after_s)
        said = self._said(answer)
        if status in (400, 401, 403):
            raise CredentialsError(f"No token: {refused} ({host} answered {status}{said})")
        raise CloudError(f"No token: {host} answered {status}{said}.", status=status)

    def _said(self, answer: Answer) -> str:
        secret = self._settings.client_secret
        text = transport.excerpt(answer, [secret.reveal()] if secret else [])
        return f": {text}" if text else ""


class _SeenError(Exception):
    """The answer of the token endpoint is in hand."""


@contextlib.contextmanager
def _loopback_http(url: str) -> Iterator[None]:
    """Lets oauthlib use plain http, for this machine only and only meanwhile."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        yield
        return
    if not is_loopback(parts.hostname or ""):
        raise UsageError("Tokens go over https only; http is for this machine.")
    name = "OAUTHLIB_INSECURE_TRANSPORT"
    with _insecure_lock:
        before = os.environ.get(name)
        os.environ[name] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def build_authorize_url(settings: Settings) -> tuple[str, str]:
    """Where an individual logs in, and the PKCE verifier that exchange_code needs."""
    verifier = secrets.token_urlsafe(64)
    hashed = hashlib.sha256(verifier.encode("ascii")).digest()
    query = {
        "response_type": "code",
        "code_challenge": base64.urlsafe_b64encode(hashed).rstrip(b"=").decode("ascii"),
        "code_challenge_method": "S256",
        "client_id": settings.client_id,
        "scope": SCOPE,
        "audience": AUDIENCE,
        "redirect_uri": REDIRECT_URI,
    }
    return f"{settings.auth_url}/authorize?{urlencode(query)}", verifier


def parse_code(pasted: str) -> str:
    """The code in what was pasted: the code alone, `code=…`, or the whole address.

    Raises CredentialsError where the address says that the login failed, UsageError where
    there is no code in it.
    """
    text = pasted.strip().strip("'\"")
    if any(sign in text for sign in ("code=", "error=", "://")):
        query = parse_qs(text.rpartition("?")[2].partition("#")[0])
        if "error" in query and "code" not in query:
            said = (query.get("error_description") or query["error"])[0]
            raise CredentialsError(f"The login failed: {one_line(said)}")
        text = query.get("code", [""])[0].strip()
    if not text or not all("!" <= sign <= "~" for sign in text) or len(text) > 4096:
        raise UsageError(
            "There is no code in what was pasted. After the login, copy the address bar's "
            "whole content, or what follows code= in it."
        )
    return text


def exchange_code(
    settings: Settings, pasted: str, verifier: str, *, clock: Clock | None = None
) -> None:
    """Logs an individual in: keeps the token, forgets answers kept for whoever was before.

    Raises UsageError and CredentialsError as parse_code does, CredentialsError where the code is
    refused, CloudError where the cloud fails, LocalError where the token cannot be kept.
    """
    from copper_cli.cloud.cache import clear_cache

    token = TokenExchange(settings, clock or SystemClock()).code(parse_code(pasted), verifier)
    file = TokenFile(settings)
    clear_cache(settings)
    try:
        with file.locked():
            file.write(token)
    except OSError as error:
        raise LocalError(f"The login cannot be kept in {file.path}: {error.strerror}.") from None


def is_logged_in(settings: Settings) -> bool:
    """True where a login is kept for these settings; it may have been revoked since."""
    return TokenFile(settings).read() is not None


def logout(settings: Settings) -> bool:
    """Forgets the token and the answers kept; True if somebody was logged in."""
    from copper_cli.cloud.cache import clear_cache

    file = TokenFile(settings)
    clear_cache(settings)
    try:
        return file.delete()
    except OSError as error:
        raise LocalError(f"{file.path} cannot be removed: {error.strerror}.") from None
