"""One request and its answer: timeouts, a deadline for the body, and which failures may pass.

What is retried and how often is decided above (session.py for the API, token.py for tokens).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import math
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from copper_cli.cloud.parse import parse_error_text
from copper_cli.errors import CloudError
from copper_cli.text import one_line

MAX_TRIES = 5
MAX_REFUSALS = 30
"""Tries of one call that the quota turns away (429): about an hour, with the waits between."""
MAX_BACKOFF_429_S = 300.0
MAX_RETRY_AFTER_S = 120.0
DEADLINE_TIMEOUTS = 10
"""A whole answer may take so many timeouts."""

# These loggers write secrets and tokens at DEBUG.
for _name in ("requests_oauthlib", "oauthlib", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("requests_cache").setLevel(logging.CRITICAL)  # a broken entry is a miss


class PassingError(Exception):
    """A failure that may pass: try again after a while.

    `reason` is a clause (`api.copperlabs.com answered 503`); `retry_after_s` is what the cloud
    asked for, None where it did not; `status` is None where no answer came.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
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


class DeadlineAdapter(HTTPAdapter):
    """Sends with a timeout and reads the whole body before a deadline, whoever asks.

    `timeout_s` bounds connecting and each silence; a body that trickles is cut off after
    DEADLINE_TIMEOUTS times as long. Failures while reading raise requests' ConnectionError.
    """

    def __init__(self, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """The response with its body read."""
        deadline = time.monotonic() + self._timeout_s * DEADLINE_TIMEOUTS
        kwargs |= {"stream": True, "timeout": (self._timeout_s, self._timeout_s)}
        response = super().send(request, **kwargs)
        try:
            response._content = _read_body(response.raw, deadline)
            response._content_consumed = True  # type: ignore[attr-defined]
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            response.close()
            raise requests.ConnectionError(_reading_failed(error), request=request) from error
        except BaseException:
            response.close()
            raise
        return response


def _read_body(raw: Any, deadline: float) -> bytes:
    # read1 comes back with what is there; read would wait for a full piece however slow.
    pieces = []
    while piece := raw.read1(1 << 16, decode_content=True):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    raw.release_conn()
    return b"".join(pieces)


def _reading_failed(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "sent its answer too slowly"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "fell silent in the middle of its answer"
    return "cut its answer short"


def make_session(
    timeout_s: float, session: requests.Session | None = None, *, connections: int = 1
) -> requests.Session:
    """The session (a plain one by default) with the deadline adapter for every address.

    It keeps so many `connections` a host open, and shares them between threads.
    """
    session = session or requests.Session()
    adapter = DeadlineAdapter(timeout_s, connections)
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
    if isinstance(error, requests.Timeout):
        return PassingError(f"cannot reach {host}: it did not answer in time")
    text = str(error)
    if text.startswith(("sent its", "fell silent", "cut its")):
        return PassingError(f"{host} {text}")
    return PassingError(f"cannot reach {host}: {_connection_cause(text)}")


def _connection_cause(text: str) -> str:
    for sign, cause in (
        ("NameResolutionError", "its name is not known here (no network?)"),
        ("Failed to resolve", "its name is not known here (no network?)"),
        ("Connection refused", "it refuses connections"),
        ("ProxyError", "the proxy failed"),
        ("Network is unreachable", "there is no network"),
        ("RemoteDisconnected", "it hung up without an answer"),
        ("Connection reset", "it broke the connection"),
    ):
        if sign in text:
            return cause
    return "the connection failed"


def parse_json(body: bytes, host: str) -> Any:
    """The body of a 200 as JSON; PassingError where it is none. NaN and Infinity become None."""
    try:
        return json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        found = "a page of HTML" if _is_html(body) else "something that is not JSON"
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
