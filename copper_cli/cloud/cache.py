"""Answers kept on disk for as long as the cloud allows, on requests-cache.

One SQLite file a client id, enterprise and API host; entries are JSON, compressed. What is
kept and for how long follows Cache-Control. The cache never sees a token. A file that is broken
or cannot be written is done without: it only costs calls.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.config import Settings
from copper_cli.errors import LocalError
from copper_cli.files.names import short_digest
from copper_cli.files.private import make_private, remove_database
from copper_cli.files.reasons import local_errors

if TYPE_CHECKING:
    import requests
    from requests.structures import CaseInsensitiveDict
    from requests_cache.models.response import CachedResponse

PRUNE_EVERY_S = 86400
KEPT_EXPIRED_S = 30 * 86400
"""An expired answer is still good for a conditional request; after so long it is dropped."""
BUSY_TIMEOUT_S = 5.0
_KEPT_HEADERS = ("Cache-Control", "Content-Type", "Date", "ETag", "Expires", "Last-Modified")
_RULING = ("Cache-Control", "ETag", "Expires", "Last-Modified")
"""Without any of these an answer is not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer found in the cache."""

    body: bytes
    """As it was parsed when it came."""
    fresh: bool
    """It may be used without asking."""
    kept_s: float
    """When it came, or was last found to be as it is, seconds since 1970."""
    headers: Mapping[str, str]
    """Of the answer, those that rule its use."""

    @property
    def conditions(self) -> dict[str, str]:
        """Request headers that let the cloud answer 304: it is still the same."""
        found = {
            "If-None-Match": self.headers.get("ETag"),
            "If-Modified-Since": self.headers.get("Last-Modified"),
        }
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache of some settings holds."""

    path: Path
    """Its file."""
    entries: int
    """Answers in it; 0 where there is no file or it is broken."""
    fresh: int
    """Those that may be used without asking."""
    size_bytes: int
    """Of the file and what SQLite keeps beside it."""


def cache_path(settings: Settings) -> Path:
    """The file for the client id, enterprise and API host of the settings."""
    name = short_digest(settings.client_id, settings.enterprise_id, settings.api_url)
    return settings.cache_dir / f"answers.{name}.sqlite"


def cache_info(settings: Settings, *, now: Callable[[], float] = time.time) -> CacheInfo:
    """How many answers are kept, and how large they are. Makes no file."""
    path = cache_path(settings)
    entries = fresh = 0
    try:
        if path.exists():
            db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
            try:
                entries = db.execute("SELECT count(*) FROM responses").fetchone()[0]
                question = "SELECT count(*) FROM responses WHERE expires > ?"
                fresh = db.execute(question, (now(),)).fetchone()[0]
            finally:
                db.close()
    except sqlite3.Error:
        pass  # a broken file holds nothing
    beside = [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm")]
    return CacheInfo(path, entries, fresh, sum(_size(file) for file in beside))


def clear_cache(settings: Settings) -> bool:
    """Removes the answers kept for the settings; True if there were any. Raises LocalError."""
    path = cache_path(settings)
    try:
        return remove_database(path)
    except OSError as error:
        raise LocalError(f"The cache {path} cannot be removed: {error.strerror}.") from None


def forget_ids(folder: Path, ids: Sequence[str]) -> None:
    """Removes what a cache folder holds of these: all answers, and spans that name one of them.

    What was kept only saved calls. Raises LocalError.
    """
    with local_errors(folder, "emptied"):
        for path in folder.glob("answers.*.sqlite"):
            remove_database(path)
        for path in folder.glob("spans.*json"):
            text = path.read_text("utf-8", "replace")
            if any(one in text for one in ids):
                path.unlink()


def lifetime_s(headers: Mapping[str, str], age: str | None, now_s: float) -> float | None:
    """How long an answer may be used without asking, at most a year; 0.0: only after a 304.

    None: it must not be kept, or keeping it would be of no use.
    """
    if not any(name in headers for name in _RULING):
        return None  # told without requests-cache, whose import takes longer than a small answer
    from requests_cache.policy.directives import CacheDirectives

    directives = CacheDirectives.from_headers(dict(headers))
    if directives.no_store or headers.get("Vary", "").strip() == "*":
        return None
    if directives.no_cache:
        seconds = 0.0
    elif directives.max_age is not None:
        seconds = directives.max_age - _seconds(age)
    else:
        seconds = _until_expires(headers, now_s) - _seconds(age)
    if seconds <= 0 and not directives.has_validator:
        return None
    return float(min(max(seconds, 0), 366 * 86400))


def _seconds(age: str | None) -> int:
    return int(age) if age and age.isascii() and age.isdigit() and len(age) < 12 else 0


def _until_expires(headers: Mapping[str, str], now_s: float) -> float:
    try:
        expires_s = parsedate_to_datetime(headers["Expires"]).timestamp()
        date = headers.get("Date")
        return expires_s - (parsedate_to_datetime(date).timestamp() if date else now_s)
    except (KeyError, ValueError, OverflowError):
        return 0.0


class AnswerCache:
    """The answers kept for some settings. Thread-safe; never raises for what is on disk."""

    def __init__(
        self, settings: Settings, now: Callable[[], float], on_warning: Callable[[str], None]
    ) -> None:
        self._path = cache_path(settings)
        self._now = now
        self._on_warning = on_warning
        self._lock = threading.RLock()
        self._store: Any = None
        self._enabled = settings.use_cache

    def find(self, request: requests.PreparedRequest) -> Entry | None:
        """The answer kept for the request, fresh or not; None where there is none."""
        if self._store is None and not self._path.exists():
            return None
        cached = self._use(lambda store: store.get(_key(request)))
        if cached is None or not cached.content or cached.expires is None:
            return None
        now_s = self._now()
        # One kept by a clock that was ahead is not trusted to be fresh.
        kept_s = cached.created_at.timestamp()
        fresh = kept_s - 60 <= now_s < cached.expires.timestamp()
        try:
            return Entry(zlib.decompress(cached.content), fresh, kept_s, cached.headers)
        except zlib.error:
            return None

    def keep(
        self,
        request: requests.PreparedRequest,
        body: bytes,
        headers: Mapping[str, str],
        least_s: float = 0.0,
    ) -> None:
        """Keeps a complete answer with status 200, if its headers allow it or for `least_s`."""
        now_s = self._now()
        seconds = lifetime_s(headers, headers.get("Age"), now_s) if self._enabled else None
        if least_s > 0:
            seconds = max(seconds or 0.0, least_s)
        if seconds is None:
            return
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        # Compressed before the entry becomes JSON, which holds bytes as base64 text: a month of
        # minutes is kept in 22 ms, not 53, and fetched in 12, not 30; level 6 would take 35 more.
        entry = _make_cached(request, zlib.compress(body, 1), kept, now_s, now_s + seconds)
        self._use(lambda store: store.__setitem__(_key(request), entry))

    def renew(
        self, request: requests.PreparedRequest, entry: Entry, headers: Mapping[str, str]
    ) -> None:
        """Keeps the entry for longer: the cloud answered 304 with these headers."""
        merged = dict(entry.headers)
        merged |= {name: headers[name] for name in (*_KEPT_HEADERS, "Age") if name in headers}
        self.keep(request, entry.body, _case_insensitive(merged))

    def close(self) -> None:
        """Gives the file back; a thread that still asks finds nothing."""
        with self._lock:
            self._enabled = False
            self._give_back()

    def _give_back(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _use(self, work: Callable[[Any], Any]) -> Any:
        """What the work gives, or None where the file is of no use now."""
        for _ in range(2):
            if not self._enabled:
                return None
            try:
                with self._lock:  # SQLite dies of a connection closed in the middle of a read
                    return work(self._open()) if self._enabled else None
            except (sqlite3.Error, OSError) as error:
                if not self._mend(error):
                    return None
        return None

    def _open(self) -> Any:
        with self._lock:
            if self._store is None:
                make_private(self._path)
                self._store = _open_store(self._path)
                self._prune()
            return self._store

    def _prune(self) -> None:
        now_s = int(self._now())
        with self._store.connection() as db:
            pruned_s = db.execute("PRAGMA user_version").fetchone()[0]
        if now_s - PRUNE_EVERY_S < pruned_s <= now_s:
            return
        with self._store.connection(commit=True) as db:
            db.execute("DELETE FROM responses WHERE expires <= ?", (now_s - KEPT_EXPIRED_S,))
            db.execute(f"PRAGMA user_version={now_s % (1 << 31)}")

    def _mend(self, error: Exception) -> bool:
        """True if it is worth another try."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        with self._lock:
            self._give_back()
            if isinstance(error, sqlite3.ProgrammingError):
                return True  # a sibling thread has closed the file to mend it
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
                try:
                    remove_database(self._path)
                except OSError as failure:
                    error = failure
                else:
                    return True
            if self._enabled:
                self._enabled = False
                self._on_warning(f"Going on without the cache {self._path}: {error}.")
            return False


def _key(request: requests.PreparedRequest) -> str:
    from requests_cache.cache_keys import create_key

    return create_key(request)


def _case_insensitive(headers: Mapping[str, str]) -> CaseInsensitiveDict[str]:
    from requests.structures import CaseInsensitiveDict

    return CaseInsensitiveDict(headers)


def _make_cached(
    request: requests.PreparedRequest,
    body: bytes,
    headers: Mapping[str, str],
    now_s: float,
    expires_s: float,
) -> CachedResponse:
    from requests_cache.models.request import CachedRequest
    from requests_cache.models.response import CachedResponse

    url = request.url or ""
    return CachedResponse(
        content=body,
        created_at=datetime.fromtimestamp(now_s, UTC),
        expires=datetime.fromtimestamp(expires_s, UTC),
        headers=_case_insensitive(headers),
        request=CachedRequest(method="GET", url=url),
        status_code=200,
        url=url,
    )


def _open_store(path: Path) -> Any:
    """requests-cache's SQLite store with JSON entries and bounded waits."""
    import json

    from requests_cache.backends.sqlite import SQLiteDict
    from requests_cache.serializers.pipeline import SerializerPipeline, Stage
    from requests_cache.serializers.preconf import json_preconf_stage

    class Store(SQLiteDict):
        def deserialize(self, key: str, value: Any) -> Any:
            try:
                return super().deserialize(key, value)
            except Exception:  # whatever is wrong with an entry, it is a miss
                return None

        @contextmanager
        def _acquire_sqlite_lock(self) -> Iterator[None]:
            # The original waits for ever, also for a file that can never be written.
            with self._lock:
                db = self._connection
                if db is None:
                    raise sqlite3.ProgrammingError("closed meanwhile")
                db.execute("BEGIN IMMEDIATE")
                self._active_transaction = True
                try:
                    yield
                    db.commit()
                except BaseException:
                    with suppress(sqlite3.Error):
                        db.rollback()
                    raise
                finally:
                    self._active_transaction = False

    stages = [
        json_preconf_stage,
        Stage(dumps=lambda value: json.dumps(value).encode(), loads=json.loads),
    ]
    return Store(
        path,
        table_name="responses",
        serializer=SerializerPipeline(stages, name="json", is_binary=True),
        busy_timeout=int(BUSY_TIMEOUT_S * 1000),
        wal=True,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
