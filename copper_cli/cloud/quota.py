"""The ledger of calls: what every process of a client id has spent, and when more is free.

Copper Cloud grants 100 calls an hour and 1000 a day for a client id, over all its processes.
The ledger is one SQLite file an API host and client id. A call is written down before it is made,
in the same transaction that finds it free, so that any number of processes and threads together
never exceed a limit. Imports no HTTP library: `copper quota` starts fast.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from copper_cli.cloud.host import host_of
from copper_cli.config import Limit, Settings
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.names import short_digest
from copper_cli.files.private import make_private, remove_database

LOCK_TIMEOUT_S = 30.0
PEEK_TIMEOUT_S = 0.1
KEPT_S = 2 * 86400
"""Entries are kept at least so long, so that runs with other limits still find them."""
MAX_HOLD_S = 3600
"""Nobody waits longer on the cloud's word alone (Retry-After): then one call tries."""
TRIAL_S = 120
"""So long the others wait for that call's answer, were it never to come."""
LEAST_PAD_S = 0.25
"""Of a window that is lengthened at all. With four busy processes on two cores 23 calls of 20 a
second arrived in one when it was a hundredth, and never more than 20 with a quarter."""
FORMAT = 1
"""Of the file; kept in its `user_version`."""

_US = 1_000_000
_HOLD_US = MAX_HOLD_S * _US
_TRIAL_POLL_US = _US
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "wait",
    sqlite3.SQLITE_LOCKED: "wait",
    sqlite3.SQLITE_CORRUPT: "set aside",
    sqlite3.SQLITE_NOTADB: "set aside",
    sqlite3.SQLITE_ERROR: "set aside",
    sqlite3.SQLITE_CANTOPEN: "reopen",
    sqlite3.SQLITE_READONLY: "reopen",
    sqlite3.SQLITE_IOERR: "reopen",
    sqlite3.SQLITE_FULL: "reopen",
    sqlite3.SQLITE_PERM: "reopen",
}

T = TypeVar("T")

# One lock for every ledger of this process: held around each use of SQLite, and over a fork, so
# that a child never inherits a connection or a half-done transaction.
_process_lock = threading.RLock()
_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _before_fork() -> None:
    _process_lock.acquire()
    for ledger in list(_open_ledgers):
        ledger.close()


def _after_fork() -> None:
    _process_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How much of one limit is spent."""

    limit: Limit
    """The limit."""
    used: int
    """Calls in the window that ends now."""
    left: int
    """Calls that this limit grants now; what is reserved for others is not counted."""
    next_free_utc: tuple[datetime, ...]
    """When the calls in the window leave it, the earliest first: each frees one call."""
    by_command: Mapping[str, int]
    """The calls in the window by what made them, the most first."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the ledger holds at one instant."""

    now_utc: datetime
    """That instant."""
    limits: tuple[LimitUsage, ...]
    """One a limit, in the order of the settings."""
    held_until_utc: datetime | None
    """Nobody calls before then, because the cloud said so (429), an hour at most; None: no hold."""


class Ledger:
    """Counts calls against sliding windows, shared by processes and threads through one file.

    `clock` tells seconds since 1970. `reserve` calls of each window are left to others. `pad_s`
    lengthens a window for its limit, by the share `pad` of its length, a quarter of a second at
    least and a second at most, since the cloud counts a call when it arrives and we when it leaves.
    `on_warning` hears of a broken file that was set aside. A new ledger begins with what the
    `older` one holds.

    A clock set back: entries from the future count as made now, so nothing waits longer than a
    window. A clock set forward grants too early: the cloud's 429 is the remedy.
    Raises UsageError where `reserve` leaves no call of a limit.
    """

    def __init__(
        self,
        path: Path,
        limits: Sequence[Limit],
        *,
        clock: Callable[[], float] = time.time,
        reserve: int = 0,
        pad: float = 0.0,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        on_warning: Callable[[str], None] | None = None,
        older: Path | None = None,
    ) -> None:
        for limit in limits:
            if reserve >= limit.calls:
                raise UsageError(
                    f"A reserve of {reserve} leaves no call of {limit.calls} "
                    f"in {limit.period_s} s; make it smaller."
                )
        self.path = path
        self.limits = tuple(limits)
        self._clock = clock
        self._reserve = max(reserve, 0)
        self._pad = pad
        self._lock_timeout_s = lock_timeout_s
        self._on_warning = on_warning or (lambda text: None)
        self._older = older
        self._trier: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._longest_us = max((self._window_us(limit) for limit in limits), default=0)

    def take(self, command: str) -> float:
        """0.0 when a call is granted and written down; else seconds until one may be free.

        Raises LocalError when the file cannot be used or stays locked for 30 s.
        """

        def work(db: sqlite3.Connection) -> float:
            now_us = self._now_us()
            self._mend_clock(db, now_us)
            wait_us = max([self._held_us(db, now_us), *self._waits_us(db, now_us)])
            wait_us = wait_us if wait_us > 0 else self._try_after_hold(db, now_us)
            if wait_us > 0:
                return wait_us / _US
            db.execute("INSERT INTO calls VALUES (?, ?)", (now_us, command))
            kept_us = max(self._longest_us, KEPT_S * _US)
            db.execute("DELETE FROM calls WHERE at_us <= ?", (now_us - kept_us,))
            return 0.0

        return self._transact(work)

    def give_back(self, command: str) -> None:
        """A call that was granted to this command never reached the cloud."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "DELETE FROM calls WHERE rowid = "
                "(SELECT rowid FROM calls WHERE command = ? ORDER BY at_us DESC LIMIT 1)",
                (command,),
            )

        self._transact(work)

    def hold(self, seconds: float) -> None:
        """Nobody calls for so many seconds, in any process: at most an hour or the longest window.

        After a hold that was cut to an hour one call tries; the others wait for its answer.
        """
        if not seconds > 0:
            return

        def work(db: sqlite3.Connection) -> None:
            now_us = self._now_us()
            self._mend_clock(db, now_us)
            # One longer than an hour is kept a little longer: so it is known to be cut.
            most_us = min(_HOLD_US + _US, self._longest_us)
            length_us = min(math.ceil(min(seconds, 1e9) * _US), most_us)
            if min(length_us, _HOLD_US) > self._held_us(db, now_us):
                db.execute("DELETE FROM hold")
                db.execute("DELETE FROM trial")
                db.execute("INSERT INTO hold VALUES (?, ?)", (now_us, now_us + length_us))

        self._trier = None
        self._transact(work)

    def release(self) -> None:
        """The cloud answers again: whoever waits for the call that tried it may go on."""
        if self._trier is None:
            return
        self._trier = None

        def work(db: sqlite3.Connection) -> None:
            now_us = self._now_us()
            db.execute("DELETE FROM hold WHERE min(until_us, set_us + ?) <= ?", (_HOLD_US, now_us))
            db.execute("DELETE FROM trial")

        self._transact(work)

    def usage(self) -> Usage:
        """What is used and left of each limit now, and when more comes free."""
        now_us, calls, held_us = self._read()
        return Usage(
            now_utc=_instant(now_us),
            limits=tuple(self._limit_usage(limit, now_us, calls) for limit in self.limits),
            held_until_utc=_instant(now_us + held_us) if held_us > 0 else None,
        )

    def resume_at(self, n: int) -> float:
        """Seconds since 1970 when `n` more calls could all have been granted; now for n < 1."""
        now_us, calls, held_us = self._read()
        times = [at_us for at_us, _ in calls]
        at_us = now_us + max(held_us, 0)
        for _ in range(n):
            for limit in self.limits:
                allowed = limit.calls - self._reserve
                if len(times) >= allowed:
                    at_us = max(at_us, times[-allowed] + self._window_us(limit))
            times.append(at_us)
        return (at_us if n > 0 else now_us) / _US

    def peek(self) -> list[tuple[Limit, int]] | None:
        """Each limit with the calls it grants now; None where that cannot be told at once.

        For a display, which may ask every second: only counts (an index holds the numbers), waits
        for nobody else's lock, mends nothing, raises nothing.
        """
        if not _process_lock.acquire(timeout=PEEK_TIMEOUT_S):
            return None
        try:
            if self._is_empty():
                return [(limit, limit.calls - self._reserve) for limit in self.limits]
            db, now_us = self._connect(), self._now_us()
            return [(limit, self._count_left(db, limit, now_us)) for limit in self.limits]
        except (sqlite3.Error, OSError):
            return None
        finally:
            _process_lock.release()

    def close(self) -> None:
        """Give the file back; the next use opens it again."""
        with _process_lock:
            _open_ledgers.discard(self)
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        # Not close(): a destructor must wait for no lock. Nobody else can hold this connection.
        if getattr(self, "_connection", None) is not None:
            self._connection.close()  # type: ignore[union-attr]

    # Questions within a transaction

    def _now_us(self) -> int:
        return int(self._clock() * _US)

    def _window_us(self, limit: Limit) -> int:
        pad_s = max(min(limit.period_s * self._pad, 1.0), LEAST_PAD_S if self._pad else 0.0)
        return limit.period_s * _US + int(pad_s * _US)

    @staticmethod
    def _mend_clock(db: sqlite3.Connection, now_us: int) -> None:
        db.execute("UPDATE calls SET at_us = ? WHERE at_us > ?", (now_us, now_us))
        db.execute(
            "UPDATE hold SET until_us = until_us - set_us + ?, set_us = ? WHERE set_us > ?",
            (now_us, now_us, now_us),
        )
        last_us = now_us + TRIAL_S * _US
        db.execute("UPDATE trial SET until_us = ? WHERE until_us > ?", (last_us, last_us))

    def _waits_us(self, db: sqlite3.Connection, now_us: int) -> Iterator[int]:
        # The call that must leave the window first is the allowed-th newest one.
        for limit in self.limits:
            row = db.execute(
                "SELECT at_us FROM calls ORDER BY at_us DESC LIMIT 1 OFFSET ?",
                (limit.calls - self._reserve - 1,),
            ).fetchone()
            if row is not None:
                yield row[0] + self._window_us(limit) - now_us

    @staticmethod
    def _held_us(db: sqlite3.Connection, now_us: int) -> int:
        # Those of older versions may be longer than an hour.
        row = db.execute("SELECT max(min(until_us, set_us + ?)) FROM hold", (_HOLD_US,)).fetchone()
        return 0 if row[0] is None else int(row[0]) - now_us

    def _try_after_hold(self, db: sqlite3.Connection, now_us: int) -> int:
        """How long to wait for the call that tries whether a cut hold is over; 0: this one does."""
        cut = db.execute("SELECT 1 FROM hold WHERE until_us - set_us > ?", (_HOLD_US,)).fetchone()
        thread = threading.get_ident()
        if cut is None or self._trier == thread:
            return 0
        row = db.execute("SELECT max(until_us) FROM trial").fetchone()
        if row[0] is not None and row[0] > now_us:
            return _TRIAL_POLL_US
        db.execute("DELETE FROM trial")
        db.execute("INSERT INTO trial VALUES (?)", (now_us + TRIAL_S * _US,))
        self._trier = thread
        return 0

    def _count_left(self, db: sqlite3.Connection, limit: Limit, now_us: int) -> int:
        since_us = now_us - self._window_us(limit)
        row = db.execute("SELECT count(*) FROM calls WHERE at_us > ?", (since_us,)).fetchone()
        return max(limit.calls - self._reserve - int(row[0]), 0)

    def _limit_usage(
        self, limit: Limit, now_us: int, calls: Sequence[tuple[int, str]]
    ) -> LimitUsage:
        window_us = self._window_us(limit)
        inside = [call for call in calls if call[0] + window_us > now_us]
        return LimitUsage(
            limit=limit,
            used=len(inside),
            left=max(limit.calls - self._reserve - len(inside), 0),
            next_free_utc=tuple(_instant(at_us + window_us) for at_us, _ in inside),
            by_command=dict(Counter(command for _, command in inside).most_common()),
        )

    def _read(self) -> tuple[int, list[tuple[int, str]], int]:
        """Now, the calls ascending (none from the future), what is left of a hold."""
        if self._is_empty():
            return self._now_us(), [], 0

        def work(db: sqlite3.Connection) -> tuple[int, list[tuple[int, str]], int]:
            now_us = self._now_us()
            rows = db.execute("SELECT min(at_us, ?), command FROM calls ORDER BY at_us", (now_us,))
            hold = db.execute(
                "SELECT min(set_us, ?) - set_us + min(until_us, set_us + ?) FROM hold",
                (now_us, _HOLD_US),
            )
            held_us = max((row[0] - now_us for row in hold), default=0)
            return now_us, rows.fetchall(), held_us

        return self._transact(work, "BEGIN")

    # The file

    def _is_empty(self) -> bool:
        return not self.path.exists() and not (self._older and self._older.exists())

    def _transact(self, work: Callable[[sqlite3.Connection], T], begin: str = "") -> T:
        """Does the work in one transaction, once no other process is in one.

        Other processes are waited for here rather than in SQLite, so that Ctrl-C and other
        threads get through.
        """
        deadline = time.monotonic() + self._lock_timeout_s
        mended: set[str] = set()
        while True:
            try:
                with _process_lock:
                    return self._try(work, begin or "BEGIN IMMEDIATE")
            except (sqlite3.Error, OSError) as error:
                remedy = _remedy(error)
                if remedy == "wait" and time.monotonic() < deadline:
                    time.sleep(0.002 + 0.018 * (os.urandom(1)[0] / 255))
                    continue
                self.close()
                if remedy in mended or remedy not in ("reopen", "set aside"):
                    self._give_up(error)
                mended.add(remedy)
                if remedy == "set aside":
                    self._set_aside()

    def _try(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        db = self._connect()
        db.execute(begin)
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        return result

    def _connect(self) -> sqlite3.Connection:
        """The open connection, opened anew where the file was removed or replaced since."""
        if self._connection is not None:
            if self._inode == _inode(self.path):
                return self._connection
            self.close()
        make_private(self.path)
        self._inode = _inode(self.path)
        db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        self._connection = db
        _open_ledgers.add(self)
        try:
            self._set_up(db)
        except BaseException:
            self.close()  # else the next use would take it as it is, perhaps without its tables
            raise
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode=WAL")
        # NORMAL survives kill -9; a power cut may lose the last calls, never the file.
        db.execute("PRAGMA synchronous=NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._create_tables(db)
        elif version != FORMAT:
            raise _ForeignFileError(f"its format is {version}")
        # Not in the ledgers of older versions, which do not look for it.
        db.execute("CREATE TABLE IF NOT EXISTS trial (until_us INTEGER NOT NULL)")

    def _create_tables(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] != 0:
            db.execute("ROLLBACK")  # another process has just done so
            return
        db.execute(
            "CREATE TABLE IF NOT EXISTS calls (at_us INTEGER NOT NULL, command TEXT NOT NULL)"
        )
        db.execute("CREATE INDEX IF NOT EXISTS calls_at ON calls (at_us)")
        db.execute(
            "CREATE TABLE IF NOT EXISTS hold (set_us INTEGER NOT NULL, until_us INTEGER NOT NULL)"
        )
        self._take_over(db)
        db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")

    def _take_over(self, db: sqlite3.Connection) -> None:
        """Begin with what the older ledger holds; one that is broken holds nothing."""
        if self._older is None or not self._older.exists():
            return
        # On a full disk SQLite cannot make what it keeps beside a file to share it.
        for mode in ("mode=ro", "immutable=1"):
            try:
                address = f"{self._older.resolve().as_uri()}?{mode}"
                with contextlib.closing(sqlite3.connect(address, uri=True)) as old:
                    calls = old.execute("SELECT at_us, command FROM calls").fetchall()
                    holds = old.execute("SELECT set_us, until_us FROM hold").fetchall()
            except sqlite3.Error:
                continue
            db.executemany("INSERT INTO calls VALUES (?, ?)", calls)
            db.executemany("INSERT INTO hold VALUES (?, ?)", holds)
            return

    def _set_aside(self) -> None:
        """Renames a broken file, unless another process has done so by now."""
        from filelock import FileLock, Timeout

        aside = self.path.with_name(f"{self.path.name}.broken")
        try:
            with FileLock(f"{self.path}.lock", timeout=self._lock_timeout_s, mode=0o600):
                if self._is_sound():
                    return
                with contextlib.suppress(FileNotFoundError):
                    self.path.replace(aside)
                remove_database(self.path)
        except (OSError, Timeout) as error:
            self._give_up(error)
        self._on_warning(
            f"The ledger of calls was damaged: it is set aside as {aside}, and counting starts "
            "anew. The cloud may refuse calls (429) until the old ones are an hour or a day ago."
        )

    def _is_sound(self) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            db.execute("SELECT at_us, command FROM calls LIMIT 1")
            db.execute("SELECT set_us, until_us FROM hold LIMIT 1")
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")

        try:
            with _process_lock:
                return self._try(work, "BEGIN")
        except sqlite3.Error:
            return False
        finally:
            self.close()

    def _give_up(self, error: Exception) -> NoReturn:
        if _remedy(error) == "wait":
            raise LocalError(
                f"The ledger of calls {self.path} stayed locked by another program for "
                f"{self._lock_timeout_s:.0f} s. End that program, then run this again."
            ) from None
        message = (
            f"The ledger of calls {self.path} cannot be used: {error}. "
            "Make room, make its folder writable or choose another with COPPER_CACHE_DIR."
        )
        kind = LedgerUnwritableError if _remedy(error) == "reopen" else LocalError
        raise kind(message) from None


class LedgerUnwritableError(LocalError):
    """The ledger's folder or file takes no writing."""


class _ForeignFileError(sqlite3.DatabaseError):
    """A good SQLite file, but not this ledger."""


def ledger_path(settings: Settings) -> Path:
    """The ledger of the settings' API host and client id: each host grants its own quota."""
    name = short_digest(settings.client_id, host_of(settings.api_url))
    return settings.cache_dir / f"quota.{name}.sqlite"


def older_ledger_path(settings: Settings) -> Path:
    """The ledger of a client id whatever the host, as older versions kept it.

    Nobody knows which host its calls went to, so every host's ledger begins with all of them:
    that may grant too few calls for a day, never too many.
    """
    return settings.cache_dir / f"quota.{short_digest(settings.client_id)}.sqlite"


def open_ledger(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
    on_warning: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> Ledger:
    """The ledger that sessions with these settings use. Opens no file yet.

    Its windows are 1 % longer than the limit's, by a quarter of a second to a second: a call
    reaches the cloud a little after it is written down, the next perhaps sooner. In another
    `folder` it is one for a single run, and begins with what the shared one holds.
    """
    path = ledger_path(settings)
    return Ledger(
        folder / path.name if folder else path,
        settings.quota,
        clock=clock,
        reserve=settings.reserve,
        pad=0.01,
        on_warning=on_warning,
        older=path if folder else older_ledger_path(settings),
    )


def _remedy(error: Exception) -> str:
    """What may help: `wait`, `set aside`, `reopen` or nothing."""
    if isinstance(error, _ForeignFileError):
        return "set aside"
    if isinstance(error, OSError):
        return "reopen"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return _REMEDIES.get(code, "")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _instant(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / _US, UTC)
