"""The session: one GET at a time through cache, quota, token and retries."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import unquote, urlsplit

import requests

from copper_cli.cloud import transport
from copper_cli.cloud.bounds import ENCODINGS
from copper_cli.cloud.cache import AnswerCache, Entry
from copper_cli.cloud.events import (
    CallDone,
    Clock,
    Event,
    QuotaWait,
    Retrying,
    SystemClock,
    Warned,
)
from copper_cli.cloud.quota import (
    MAX_HOLD_S,
    Ledger,
    LedgerUnwritableError,
    Usage,
    open_ledger,
)
from copper_cli.cloud.token import Grant, Token, TokenSource
from copper_cli.cloud.transport import (
    MAX_BACKOFF_429_S,
    MAX_REFUSALS,
    MAX_RETRY_AFTER_S,
    MAX_TRIES,
    Answer,
    PassingError,
)
from copper_cli.config import Limit, Settings
from copper_cli.errors import (
    AnswerError,
    BadRequestError,
    CloudError,
    CredentialsError,
    LocalError,
    NotFoundError,
    NotPermittedError,
    QuotaSpentError,
    UnreachableError,
)
from copper_cli.text import one_line

T = TypeVar("T")

_LEAST_HOLD_S = 1.0
"""A cloud that refuses and says to wait less (0, a date that is past) says nothing of use."""
SLICE_S = 1.0
"""Waits are cut so small, so that a cancelled session's threads end soon."""

_NO_SUCCESS = {
    203: "an answer that something on the way has changed",
    204: "no content",
    206: "a part of the answer only",
}
"""What a status says that is a success elsewhere, but holds no whole answer."""


def reuse_always(value: Any) -> bool:
    """Any answer may be used again as Cache-Control allows."""
    return True


def as_said(body: Any) -> float:
    """No longer than Cache-Control says."""
    return 0.0


def as_it_is(body: Any) -> Any:
    """The parsed JSON itself."""
    return body


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    request: requests.PreparedRequest
    kind: str
    what: str
    read: Callable[[Any], T]
    reuse: Callable[[T], bool]
    least_s: Callable[[T], float]


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    """What was made of a body, whether it may be used again, and for how long at least."""

    value: T
    reusable: bool
    least_s: float


class _RefusedError(Exception):
    """The API does not accept the token (401), or does not permit (403)."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(status)
        self.status = status
        self.said = said


class CloudSession:
    """Asks the API for JSON. A context manager; its threads share token, quota and connections.

    However many threads ask, no more than `settings.jobs` calls are in flight at once. `on_event`
    is called from whichever thread something happens in.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        grant: Grant = "enterprise",
        clock: Clock | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.calls_used = 0
        """Requests that the cloud may have seen, retries too, token calls not."""
        self._unread: dict[str, int] = {}
        self._on_event = on_event or (lambda event: None)
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._wait_shown_s = -math.inf
        self._granted = 0
        """Calls that were taken from the ledger, whatever became of them."""
        self._most: int | None = None
        self._until_s = math.inf
        self._private_folder: TemporaryDirectory[str] | None = None
        self._ledger = open_ledger(settings, clock=self.clock.now, on_warning=self.warn)
        self._tokens = TokenSource(
            settings, grant, self.clock, sleep=self._sleep, on_event=self._on_event
        )
        self._cache = AnswerCache(settings, self.clock.now, self.warn)
        self._http = transport.make_session(
            settings.timeout_s, connections=settings.jobs, max_answer=settings.max_answer
        )
        self._in_flight = threading.BoundedSemaphore(settings.jobs)
        # Bodies are read one at a time: Python would not be faster on two, and their objects
        # take several times the memory of the text.
        self._reading = threading.Lock()
        # Proxies and certificates as the environment says; found once, since it is slow.
        self._environment = self._http.merge_environment_settings(
            settings.api_url, {}, None, None, None
        )
        self._host = urlsplit(settings.api_url).hostname or ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends waits in other threads and gives connections and files back."""
        self.cancel()
        self._http.close()
        self._cache.close()
        self._ledger.close()
        if self._private_folder is not None:
            self._private_folder.cleanup()

    def cancel(self) -> None:
        """Ends every wait of this session within a second: its calls raise CancelledError.

        Calls in flight are still answered; no other is made. For a caller that is interrupted.
        """
        self._cancelled.set()

    def bound(self, *, calls: int | None, until_s: float) -> None:
        """From now on so many more calls are made, retries too, and none after an instant.

        What would need another, or would wait for one beyond that, raises QuotaSpentError.
        """
        with self._lock:
            self._most = None if calls is None else self._granted + calls
            self._until_s = until_s

    def tell(self, event: Event) -> None:
        """Have whoever watches this session hear of something."""
        self._on_event(event)

    def is_cached(self, path: str, params: Mapping[str, str | int] | None = None) -> bool:
        """True if get_json would answer from the cache, without a call."""
        entry = self._cache.find(self._prepare(path, params).request)
        return entry is not None and entry.fresh

    def quota_usage(self) -> Usage:
        """What of the quota is used and left now. Raises LocalError."""
        return self._use_ledger(lambda ledger: ledger.usage())

    def peek_quota(self) -> list[tuple[Limit, int]] | None:
        """Each limit with what it grants now, for a display; None where nobody can tell at once."""
        return self._ledger.peek()

    def free_at(self, calls: int) -> float:
        """Seconds since 1970 when so many more calls could all have been granted."""
        return self._use_ledger(lambda ledger: ledger.resume_at(calls))

    def get_json(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        read: Callable[[Any], T] = as_it_is,
        reuse: Callable[[T], bool] = reuse_always,
        least_s: Callable[[T], float] = as_said,
        cached: bool = True,
        on_age: Callable[[float], None] = lambda seen_s: None,
        anew: bool = False,
    ) -> T:
        """What `read` makes of the JSON at a path of the API host, from the cache while fresh.

        `reuse(value)` False: this answer must not be used again (an email or bucket to come).
        `least_s(value)`: so long it may be used, also where its headers say less. Not `cached`:
        the archive keeps what comes, the cache has no part in it. `on_age` is told when the cloud
        gave the answer, seconds since 1970: now, unless it comes from the cache. `anew`: an answer
        that is kept counts only where the cloud says now that it is still so. What `read`
        refuses is not kept, and where it refuses an answer that was kept, the cloud is asked.

        Raises CredentialsError (refused after a new token, or not permitted), BadRequestError,
        NotFoundError, other CloudError (after every retry that made sense), QuotaSpentError
        where waiting is ruled out, LocalError where the ledger cannot be used; and what `read`
        raises.
        """
        call = self._prepare(path, params, read, reuse, least_s)
        if not cached:
            value = self._ask(call, None)[1].value
            on_age(self.clock.now())
            return value
        entry = self._cache.find(call.request)
        if entry is not None and entry.fresh and not anew:
            kept = self._read_entry(call, entry)
            if kept is not None and kept.reusable:
                self._on_event(CallDone(call.kind, 200, 0.0, True))
                on_age(entry.kept_s)
                return kept.value
            entry = None
        if entry is not None:
            call.request.headers.update(entry.conditions)
        answer, found = self._ask(call, entry)
        if found.reusable and entry is not None and answer.status == 304:
            self._cache.renew(call.request, entry, answer.headers)
        elif found.reusable:
            self._cache.keep(call.request, answer.body, answer.headers, found.least_s)
        on_age(self.clock.now())
        return found.value

    # One call and its tries

    def _prepare(
        self,
        path: str,
        params: Mapping[str, str | int] | None,
        read: Callable[[Any], T] = as_it_is,
        reuse: Callable[[T], bool] = reuse_always,
        least_s: Callable[[T], float] = as_said,
    ) -> _Call[T]:
        if not path.startswith("/"):
            raise CloudError(f"{one_line(path)!r} is no path of {self._host}.")
        # Not through the session: that would let a ~/.netrc replace the Authorization header.
        request = requests.Request(
            "GET",
            self.settings.api_url + path,
            params=dict(params or {}),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": ENCODINGS,
                "User-Agent": "copper-cli",
            },
        ).prepare()
        kind, what = describe(path, params or {})
        return _Call(request, kind, what, read, reuse, least_s)

    def _read(self, call: _Call[T], body: bytes) -> _Read[T]:
        """PassingError where the body is no JSON; what `read` raises."""
        with self._reading:
            found = transport.parse_json(body, self._host)
            value = call.read(found)
            return _Read(value, call.reuse(value), call.least_s(value))

    def _read_entry(self, call: _Call[T], entry: Entry) -> _Read[T] | None:
        """None where it cannot be read, or what an earlier version believed is not believed now."""
        try:
            return self._read(call, entry.body)
        except (PassingError, CloudError):
            return None

    def _ask(self, call: _Call[T], entry: Entry | None) -> tuple[Answer, _Read[T]]:
        tries = refusals = 0
        renewed = False
        while True:
            tries += 1
            self._tokens.current()  # before a call is taken: without a token it would be wasted
            token = None
            try:
                # The call is written down when it can leave, not while others are in its way.
                with self._in_flight:
                    self._sleep(0)  # raises where it was cancelled meanwhile
                    self._take()
                    token = self._tokens.current()  # the wait may have outlasted it
                    answer = self._send(call, token)
                if answer.status != 429:
                    self._use_ledger(lambda ledger: ledger.release())
                return answer, self._accept(call, answer, token, entry)
            except _RefusedError as refused:
                assert token is not None
                if renewed or (refused.status == 403 and not token.from_file):
                    raise self._refusal(call, refused) from None
                renewed = True
                tries -= 1
                self._tokens.renew(token)
            except PassingError as failure:
                # A 429 says nothing against this call: others may have spent the quota, and
                # it comes back within its shortest window.
                by_quota = failure.status == 429
                refusals += by_quota
                tries -= by_quota
                if not failure.sent:
                    self._use_ledger(lambda ledger: ledger.give_back(self.settings.command))
                if tries >= MAX_TRIES or refusals >= MAX_REFUSALS:
                    kind = CloudError if failure.sent else UnreachableError
                    raise kind(
                        f"{call.what}: {failure.reason} (tried {tries + refusals} times).",
                        status=failure.status,
                    ) from None
                self._pause(failure, refusals if by_quota else tries)

    def _send(self, call: _Call[T], token: Token) -> Answer:
        """The answer, whatever its status. PassingError or CloudError where none came."""
        request = call.request.copy()  # so that the cache never sees the token
        request.headers["Authorization"] = f"Bearer {token.value}"
        started_s = self.clock.now()
        status, sent = None, True
        with self._lock:
            self.calls_used += 1
        try:
            response = self._http.send(request, allow_redirects=False, **self._environment)
            status = response.status_code
            return Answer(status, response.headers, response.content)
        except requests.RequestException as error:
            failure = transport.connection_failure(error, self.settings.api_url)
            if isinstance(failure, CloudError):
                raise CloudError(f"{call.what}: {failure}") from None
            sent = getattr(failure, "sent", True)
            raise failure from None
        except CloudError as error:  # an answer over its bound
            raise CloudError(f"{call.what}: {error}") from None
        finally:
            if not sent:
                with self._lock:
                    self.calls_used -= 1
            seconds = self.clock.now() - started_s
            self._on_event(CallDone(call.kind, status, seconds, False, counted=sent))

    def _accept(
        self, call: _Call[T], answer: Answer, token: Token, entry: Entry | None
    ) -> _Read[T]:
        """What the answer says, or why it says nothing as an exception."""
        if answer.status == 304 and entry is not None:
            kept = self._read_entry(call, entry)
            if kept is not None:
                return kept
            for name in entry.conditions:
                del call.request.headers[name]
            raise PassingError(f"{self._host} answered 304, and the answer kept is unreadable")
        if answer.status == 200:
            try:
                return self._read(call, answer.body)
            except AnswerError as error:
                said = self._hide(error.said, token)
                raise AnswerError(error.claim, one_line(said)) from None
            except CloudError as error:
                error.args = (self._hide(str(error), token),)  # it may name what the cloud named
                raise
        raise self._failure(call, answer, token)

    def _hide(self, text: str, token: Token) -> str:
        """What the cloud said, without the secrets that it may repeat."""
        return transport.hide(text, [token.value, *self._tokens.secrets()])

    def _failure(self, call: _Call[T], answer: Answer, token: Token) -> Exception:
        status = answer.status
        text = transport.excerpt(answer, [token.value, *self._tokens.secrets()])
        said = f": {text}" if text else ""
        if status == 429 or status >= 500:
            after_s = transport.parse_retry_after(answer.headers, self.clock.now())
            reason = f"{self._host} answered {status}{said}"
            return PassingError(reason, status=status, retry_after_s=after_s)
        if status in (401, 403):
            return _RefusedError(status, said)
        if status == 400:
            return BadRequestError(
                f"{call.what}: the cloud refuses the question (400{said}).", status=400
            )
        if status == 404:
            is_meter = call.kind.startswith("meter/")  # a list has named it
            unknown = "does not know it any more" if is_meter else "knows no such thing"
            return NotFoundError(f"{call.what}: the cloud {unknown} (404{said}).", status=404)
        if 300 <= status < 400 and status != 304:
            said = ", a redirect, which is never followed; check COPPER_API_URL"
        elif status < 300:
            said = f", {_NO_SUCCESS.get(status, 'which is no answer to a question')}"
        return CloudError(f"{call.what}: {self._host} answered {status}{said}.", status=status)

    @staticmethod
    def _refusal(call: _Call[T], refused: _RefusedError) -> CredentialsError:
        if refused.status == 403:
            return NotPermittedError(
                f"{call.what}: this client has no permission (403{refused.said}). "
                "Check the enterprise id, or ask Copper Labs for access."
            )
        return CredentialsError(
            f"{call.what}: the cloud refuses even a new token (401{refused.said}). "
            "Check the credentials."
        )

    # Waiting

    def _pause(self, failure: PassingError, tries: int) -> None:
        after_s = failure.retry_after_s
        if failure.status == 429:
            if after_s is None or after_s < _LEAST_HOLD_S:
                after_s = transport.backoff_s(tries, most_s=MAX_BACKOFF_429_S)
            asked_s = after_s
            longest_s = max((limit.period_s for limit in self.settings.quota), default=MAX_HOLD_S)
            after_s = min(after_s, longest_s, MAX_HOLD_S)
            self._on_event(Retrying(failure.reason, after_s))
            # Every process waits; the next take says how long.
            self._use_ledger(lambda ledger: ledger.hold(asked_s))
            return
        wait_s = transport.backoff_s(tries) if after_s is None else min(after_s, MAX_RETRY_AFTER_S)
        self._on_event(Retrying(failure.reason, wait_s))
        self._sleep(wait_s)

    def _take(self) -> None:
        command = self.settings.command
        self._grant()
        try:
            self._take_from_ledger(command)
        except BaseException:
            with self._lock:
                self._granted -= 1
            raise

    def _grant(self) -> None:
        """QuotaSpentError where this session is to make no further call."""
        with self._lock:
            is_spent = self._most is not None and self._granted >= self._most
            if not is_spent and self.clock.now() < self._until_s:
                self._granted += 1
                return
        raise QuotaSpentError(
            "This run makes no further call.",
            resume_at_utc=datetime.fromtimestamp(self.clock.now(), UTC),
        )

    def _take_from_ledger(self, command: str) -> None:
        while (wait_s := self._use_ledger(lambda ledger: ledger.take(command))) > 0:
            resume_s = self.clock.now() + wait_s
            if not self.settings.wait or resume_s >= self._until_s:
                local = datetime.fromtimestamp(math.ceil(resume_s)).astimezone()
                is_held = self.quota_usage().held_until_utc is not None
                why = "The cloud asked to wait (429)" if is_held else "No call is free"
                raise QuotaSpentError(
                    f"{why}: resume at {local.isoformat(timespec='seconds')}.",
                    resume_at_utc=datetime.fromtimestamp(resume_s, UTC),
                )
            self._wait_for_quota(resume_s)

    def _use_ledger(self, work: Callable[[Ledger], T]) -> T:
        """Does the work with the shared ledger, or where that takes no writing, a private one."""
        ledger = self._ledger
        try:
            return work(ledger)
        except LedgerUnwritableError as error:
            with self._lock:
                if self._private_folder is not None and ledger is self._ledger:
                    raise
                if ledger is self._ledger:
                    self._private_folder = _make_private_folder(error)
                    folder = Path(self._private_folder.name)
                    self._ledger = open_ledger(self.settings, clock=self.clock.now, folder=folder)
                    self.warn(f"{error} Until then only the calls of this run are counted.")
            return work(self._ledger)

    def _wait_for_quota(self, resume_s: float) -> None:
        left_s = resume_s - self.clock.now()
        # By the clock, which may be set forward; by what was slept, for it may be set back.
        while left_s > 0 and self.clock.now() < resume_s:
            self._show_wait(resume_s)
            self._sleep(min(left_s, SLICE_S))
            left_s -= SLICE_S

    def _show_wait(self, resume_s: float) -> None:
        now_s = self.clock.now()
        with self._lock:
            if abs(now_s - self._wait_shown_s) < 0.9 * SLICE_S:
                return  # another thread waits too, and has just said so
            self._wait_shown_s = now_s
        usage = self.quota_usage()
        spent = min(usage.limits, key=lambda one: one.left)
        resume_utc = datetime.fromtimestamp(resume_s, UTC)
        is_held = spent.left > 0
        self._on_event(QuotaWait(resume_utc, spent.used, spent.limit, is_held))

    def _sleep(self, seconds: float) -> None:
        while not self._cancelled.is_set():
            if seconds <= 0:
                return
            self.clock.sleep(min(seconds, SLICE_S))
            seconds -= SLICE_S
        raise CancelledError("The session was cancelled.")

    def warn(self, text: str) -> None:
        """Tell the watcher that something is not as it should be."""
        self._on_event(Warned(text))

    def note_unread(self, what: str, unread: int, rows: int) -> None:
        """Count and tell how many of the rows of a list could not be read."""
        with self._lock:
            is_known = self._unread.get(what) == unread
            self._unread[what] = unread
        if unread and not is_known:
            noun = "row" if rows == 1 else "rows"
            self.warn(f"{what}: {unread} of {rows} {noun} cannot be read; left out.")

    @property
    def unread_rows(self) -> int:
        """How many rows of lists could not be read, each list as it was asked last."""
        return sum(self._unread.values())


def _make_private_folder(failure: LocalError) -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="copper-")
    except OSError:  # there is no room anywhere: what failed first says it best
        raise failure from None


def describe(path: str, params: Mapping[str, str | int]) -> tuple[str, str]:
    """The kind of a question without ids (`meter/usage`), and its words for a message.

    `/api/v2/partner/E/meter/07%3A1/usage` with start and end gives `meter/usage` and
    `usage of 07:1 from … to …`.
    """
    parts = [unquote(part) for part in path.partition("?")[0].split("/") if part]
    if parts[:2] == ["api", "v2"]:
        parts = parts[2:]
    parts = parts[2:] if parts[:1] == ["partner"] else parts[1:] if parts[:1] == ["app"] else parts
    kind, subject = "/".join(parts), ""
    if len(parts) == 3 and parts[0] == "meter":
        kind, subject = f"meter/{parts[2]}", f"{parts[2]} of meter {parts[1]}"
    elif len(parts) == 2 and parts[0] in ("instant", "usage", "baseline-series", "average-series"):
        kind, subject = parts[0], f"{parts[0]} of {parts[1]}"
    what = subject or kind
    if "start" in params and "end" in params:
        what += f" from {params['start']} to {params['end']}"
    elif params.get("offset"):
        what += f" (rows from {params['offset']} on)"
    return kind, one_line(what)
