"""One request and its answer: its bounds, its proxy, and which failures may pass.

What is retried and how often is decided above (session.py for the API, token.py for tokens).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import math
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from copper_cli.cloud.bounds import (
    ENCODINGS,
    POOLS,
    Bound,
    ReadingError,
    current_bound,
    read_body,
)
from copper_cli.cloud.parse import parse_error_text
from copper_cli.config import MAX_ANSWER_BYTES, is_loopback
from copper_cli.errors import CloudError
from copper_cli.text import one_line

MAX_TRIES = 5
MAX_REFUSALS = 30
"""Tries of one call that the quota turns away (429): about an hour, with the waits between."""
MAX_BACKOFF_429_S = 300.0
MAX_RETRY_AFTER_S = 120.0
DEADLINE_TIMEOUTS = 2
"""A whole try may take so many timeouts, and a second more for each MiB that it brings."""
ERROR_BYTES = 1 << 16
"""So much is read of an answer that is no success: it is only quoted."""

# These loggers write secrets and tokens at DEBUG.
for _name in ("requests_oauthlib", "oauthlib", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("requests_cache").setLevel(logging.CRITICAL)  # a broken entry is a miss


_UNSENT = ("NameResolutionError", "Failed to resolve", "refused", "is unreachable", "No route to")
"""Signs of a connection that was never there."""


class PassingError(Exception):
    """A failure that may pass: try again after a while.

    `reason` is a clause (`api.copperlabs.com answered 503`); `retry_after_s` is what the cloud
    asked for, None where it did not; `status` is None where no answer came; `sent` is False where
    the cloud cannot have seen the request.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(reason)
        self.sent = sent
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    """HTTP status."""
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    """Decompressed."""


class BoundedAdapter(HTTPAdapter):
    """Sends, and reads the whole body within bounds of size and time, whoever asks.

    `timeout_s` bounds connecting and each silence, DEADLINE_TIMEOUTS of them the whole try;
    a body may be of `max_answer` bytes as text. Loopback is never asked through a proxy.

    Failures while reading raise requests' ConnectionError, those of a proxy its ProxyError that
    names it; an answer over its bound raises CloudError.
    """

    def __init__(self, timeout_s: float, connections: int, max_answer: int) -> None:
        self._timeout_s = timeout_s
        self._max_answer = max_answer
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Connections that keep to the bounds."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Connections through a proxy, within the same bounds."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = POOLS
        return manager

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """The response with its body read."""
        url = request.url or ""
        host = urlsplit(url).hostname or ""
        kwargs |= {"stream": True, "timeout": (self._timeout_s, self._timeout_s)}
        if is_loopback(host):
            kwargs["proxies"] = {}  # it would get the secret, and could not reach this machine
        bound = Bound(host, self._timeout_s, DEADLINE_TIMEOUTS, self._max_answer)
        before = current_bound.set(bound)
        try:
            response = super().send(request, **kwargs)
            return self._finish(response, bound)
        except requests.RequestException as error:
            if isinstance(error, _READING):
                raise
            if "got more than" in str(error):  # http.client's bounds of a line and of headers
                raise bound.head_error() from None
            proxy = select_proxy(url, kwargs.get("proxies"))
            if proxy is not None and isinstance(error, _OF_A_PROXY):
                reason = f"the proxy {_place(proxy)}: {_connection_cause(str(error))}"
                raise requests.exceptions.ProxyError(reason, request=request) from None
            raise
        finally:
            current_bound.reset(before)

    def _finish(self, response: requests.Response, bound: Bound) -> requests.Response:
        """The response with its body read, its connection free or closed."""
        excerpt = None if response.status_code == 200 else ERROR_BYTES
        try:
            body = read_body(response.raw, bound, excerpt=excerpt)
        except (
            ReadingError,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
        ) as e:
            response.close()
            raise _ReadingFailedError(_reading_failed(e, bound), request=response.request) from e
        except BaseException:
            response.close()
            raise
        if excerpt is None or len(body) <= excerpt:
            response.raw.release_conn()
        else:
            response.close()
        response._content = body
        response._content_consumed = True  # type: ignore[attr-defined]
        return response


class _ReadingFailedError(requests.ConnectionError):
    """The body could not be read; its text is a clause."""


_READING = (_ReadingFailedError,)
_OF_A_PROXY = (
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
)


def _reading_failed(error: Exception, bound: Bound) -> str:
    if isinstance(error, ReadingError):
        return str(error)
    if bound.is_over():
        return "sent its answer too slowly"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "fell silent in the middle of its answer"
    return "cut its answer short"


def _place(proxy: str) -> str:
    """Host and port of a proxy, without its user and password."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port}" if parts.port else str(host)
    except ValueError:
        return one_line(proxy.rpartition("@")[2])


def make_session(
    timeout_s: float,
    session: requests.Session | None = None,
    *,
    connections: int = 1,
    max_answer: int = MAX_ANSWER_BYTES,
) -> requests.Session:
    """The session (a plain one by default) with the bounded adapter for every address.

    It keeps so many `connections` a host open, and shares them between threads.
    """
    session = session or requests.Session()
    session.headers["Accept-Encoding"] = ENCODINGS
    adapter = BoundedAdapter(timeout_s, connections, max_answer)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def connection_failure(error: requests.RequestException, url: str) -> Exception:
    """The failed request as PassingError, or as CloudError where trying again cannot help."""
    host = urlsplit(url).hostname
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return CloudError(
            f"Cannot reach {host}: its certificate is not trusted. Behind a proxy that replaces "
            "certificates, name its authority in REQUESTS_CA_BUNDLE."
        )
    text = str(error)
    sent = not isinstance(error, requests.ConnectTimeout) and not any(s in text for s in _UNSENT)
    if isinstance(error, requests.Timeout):
        return PassingError(f"cannot reach {host}: it did not answer in time", sent=sent)
    if isinstance(error, _ReadingFailedError):
        return PassingError(f"{host} {text}")
    if isinstance(error, requests.exceptions.ProxyError):
        return PassingError(f"cannot reach {host}: {text}", sent=sent)
    return PassingError(f"cannot reach {host}: {_connection_cause(text)}", sent=sent)


def _connection_cause(text: str) -> str:
    if found := re.search(r"Tunnel connection failed: ([^'\"]*)", text):
        return f"it answered {one_line(found[1], 60)}"
    for sign, cause in (
        ("NameResolutionError", "its name is not known here (no network?)"),
        ("Failed to resolve", "its name is not known here (no network?)"),
        ("Connection refused", "it refuses connections"),
        ("Network is unreachable", "there is no network"),
        ("RemoteDisconnected", "it hung up without an answer"),
        ("Connection reset", "it broke the connection"),
        ("timed out", "it did not answer in time"),
        ("Missing dependencies for SOCKS", "SOCKS is not spoken here; use an http proxy"),
        ("ProxyError", "the proxy failed"),
    ):
        if sign in text:
            return cause
    return "the connection failed"


def parse_json(body: bytes, host: str) -> Any:
    """The body of a 200 as JSON; PassingError where it is none.

    NaN and Infinity, which are no JSON, become texts: a number that cannot be read is no null.
    """
    try:
        return json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        found = "a page of HTML" if _is_html(body) else "something that is not JSON"
        found = found if body.strip() else "an empty body (200)"
        raise PassingError(f"{host} answered with {found}", status=200) from None


def _is_html(body: bytes) -> bool:
    return body[:200].lstrip().lower().startswith((b"<!doctype", b"<html"))


def excerpt(answer: Answer, secrets: Iterable[str] = ()) -> str:
    """What an error body says, on one short line without control characters or secrets."""
    if not answer.body.strip():
        return ""
    if _is_html(answer.body):
        return "a page of HTML"
    text = answer.body[:4000].decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(answer.body)
        text = parse_error_text(body) or (text if body else "")
    return one_line(hide(text, secrets))


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text with the secrets in it made unreadable."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


def parse_retry_after(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; None where absent or unreadable."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def backoff_s(tries: int, *, most_s: float = 64.0) -> float:
    """Full jitter: anything up to 2^(tries - 1) seconds, at most `most_s`."""
    return random.uniform(0, min(2.0 ** (tries - 1), most_s))  # noqa: S311 - no secret
