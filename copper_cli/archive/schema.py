"""The landing: the SQLite file of an archive, its tables, its transactions and what may go wrong.

Everything that SQLite may say comes out as one line for a person.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from copper_cli.errors import LocalError
from copper_cli.files.private import make_private
from copper_cli.files.reasons import local_errors
from copper_cli.text import clean

FILE_NAME = "landing.sqlite"
FORMAT = 1
"""Of the file; kept in its `user_version`."""
LOCK_TIMEOUT_S = 30.0

_BUSY_MS = 500
"""So long at a time SQLite waits for its turn to write, so that Ctrl-C gets through in between."""
_WAL_BYTES = 64 << 20
"""What the file beside it may have grown to is given back beyond this."""
_PAGE_BYTES = 16384
"""Bodies of answers are large."""
_LEAST_ROOM_BYTES = 1 << 20
"""With less room than this whatever SQLite could not write, it could not for lack of it."""
_WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNWRITABLE: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "no permission",
    sqlite3.SQLITE_PERM: "no permission",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk does not take it",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

_TABLES = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, kind TEXT NOT NULL,
    granularity TEXT NOT NULL, grid TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 0,
    meter_type TEXT, UNIQUE (subject, kind, granularity, grid));
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, start_s INTEGER NOT NULL,
    end_s INTEGER NOT NULL, asked_s INTEGER NOT NULL, rows INTEGER NOT NULL, first_s INTEGER,
    last_s INTEGER, pending INTEGER NOT NULL DEFAULT 0, sum REAL, meter_type TEXT,
    body BLOB NOT NULL);
CREATE INDEX answers_of ON answers (series, pending, first_s, last_s);
CREATE TABLE edges (
    series INTEGER NOT NULL, end_s INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (series, end_s)) WITHOUT ROWID;
CREATE TABLE coverage (
    series INTEGER NOT NULL, start_s INTEGER NOT NULL, end_s INTEGER NOT NULL,
    state TEXT NOT NULL, asked_s INTEGER NOT NULL, buckets INTEGER NOT NULL,
    unread INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (series, start_s)) WITHOUT ROWID;
CREATE TABLE sums (
    series INTEGER NOT NULL, start_s INTEGER NOT NULL, end_s INTEGER NOT NULL, sum REAL,
    asked_s INTEGER NOT NULL, PRIMARY KEY (series, start_s, end_s)) WITHOUT ROWID;
CREATE TABLE changes (
    series INTEGER NOT NULL, end_s INTEGER NOT NULL, old TEXT NOT NULL, new TEXT,
    old_asked_s INTEGER NOT NULL, new_asked_s INTEGER NOT NULL);
CREATE INDEX changes_of ON changes (series, end_s);
CREATE TABLE moves (
    series INTEGER NOT NULL, start_s INTEGER NOT NULL, end_s INTEGER NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (series, start_s, end_s)) WITHOUT ROWID;
CREATE TABLE months (
    kind TEXT NOT NULL, granularity TEXT NOT NULL, month TEXT NOT NULL, sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL, rows INTEGER NOT NULL, published_s INTEGER NOT NULL,
    PRIMARY KEY (kind, granularity, month)) WITHOUT ROWID;
CREATE TABLE seen (
    list TEXT NOT NULL, id TEXT NOT NULL, first_s INTEGER NOT NULL, last_s INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (list, id, first_s)) WITHOUT ROWID;
CREATE TABLE snapshots (
    seen_s INTEGER NOT NULL, meter_id TEXT NOT NULL, meter_type TEXT, value, time_s,
    PRIMARY KEY (meter_id, time_s));
CREATE TABLE forgotten (hash TEXT PRIMARY KEY, seen_s INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE stamps (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
ACCEPTED = """
CREATE TABLE IF NOT EXISTS accepted (
    series INTEGER NOT NULL, start_s INTEGER NOT NULL, end_s INTEGER NOT NULL,
    accepted_s INTEGER NOT NULL, PRIMARY KEY (series, start_s)) WITHOUT ROWID
"""
"""Made by whoever first needs it: files of this format are there that have it not."""


def table_names() -> set[str]:
    """What a whole landing has."""
    return set(re.findall(r"CREATE TABLE (\w+)", _TABLES))


def _make_tables(db: sqlite3.Connection) -> None:
    for statement in [*_TABLES.split(";"), ACCEPTED]:
        if statement.strip():
            db.execute(statement)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {0: _make_tables}
"""What carries a file from each format to the next."""


class Database:
    """One connection that the threads of a process take turns on.

    `is_durable`: what was committed survives a power cut; a kill it survives anyway. `wal`: readers
    and a writer need not wait for one another, which takes a disk of this machine.
    """

    def __init__(self, path: Path, *, is_durable: bool = True, wal: bool = True) -> None:
        self.path = path
        self._journal = "WAL" if wal else "DELETE"
        self._is_durable = is_durable
        self._lock = threading.RLock()
        self._is_writing = False
        self._connection: sqlite3.Connection | None = None
        with self._lock, self._errors():
            self._connection = self._open()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Whatever is written is there afterwards, or where it raises nothing of it. LocalError."""
        with self._use("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """What is read belongs together. Raises LocalError."""
        with self._use("BEGIN") as db:
            yield db

    @contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """For what takes no transaction, such as VACUUM. Raises LocalError."""
        with self._lock, self._errors():
            yield self._opened()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None

    @contextmanager
    def _use(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            db = self._opened()
            if db.in_transaction:  # a part of the one around it
                assert self._is_writing or begin == "BEGIN", "what was read may be of yesterday"
                yield db
                return
            self._begin(db, begin)
            self._is_writing = begin != "BEGIN"
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    @staticmethod
    def _begin(db: sqlite3.Connection, begin: str) -> None:
        """Begin a transaction; for one that writes, others are waited for."""
        if begin == "BEGIN":  # locks nothing yet
            db.execute(begin)
            return
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        try:
            while True:
                try:
                    db.execute(begin)
                    return
                except sqlite3.OperationalError as error:
                    if _code(error) not in _WAITING or time.monotonic() > deadline:
                        raise
        finally:
            db.execute(f"PRAGMA busy_timeout={round(LOCK_TIMEOUT_S * 1000)}")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LocalError(f"The archive {clean(str(self.path.parent))} is closed.")
        return self._connection

    def _open(self) -> sqlite3.Connection:
        make_private(self.path)
        db = sqlite3.connect(
            self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        try:
            while True:
                try:
                    self._set_up(db)
                    return db
                except sqlite3.OperationalError as error:
                    # Of two that make the file at once SQLite lets one fail without waiting.
                    if _code(error) not in _WAITING or time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)
        except BaseException:
            db.close()
            raise

    def _set_up(self, db: sqlite3.Connection) -> None:
        # Asked for before anything is written: the file of a newer version stays as it is.
        if self._version(db) != FORMAT:
            db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        db.execute(f"PRAGMA journal_mode={self._journal}")
        db.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        db.execute(f"PRAGMA synchronous={'FULL' if self._is_durable else 'OFF'}")
        db.execute("PRAGMA secure_delete=ON")
        if self._version(db) != FORMAT:
            self._migrate(db)

    def _version(self, db: sqlite3.Connection) -> int:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > FORMAT:
            raise LocalError(
                f"The archive {clean(str(self.path.parent))} was written by a newer version of "
                "this program (its format is "
                f"{found}, this one knows {FORMAT}): update, or name another with --archive."
            )
        return found

    def _migrate(self, db: sqlite3.Connection) -> None:
        self._begin(db, "BEGIN IMMEDIATE")
        try:
            for version in range(self._version(db), FORMAT):  # another process may just have
                MIGRATIONS[version](db)
            db.execute(f"PRAGMA user_version={FORMAT}")
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with local_errors(self.path):
                yield
        except sqlite3.Error as error:
            raise LocalError(self._told(error)) from error

    def _told(self, error: sqlite3.Error) -> str:
        name, code = clean(str(self.path)), _code(error)
        if code in _WAITING:
            return (
                f"The archive's file {name} stayed locked by another program for "
                f"{LOCK_TIMEOUT_S:.0f} s. End that program, then run this again."
            )
        if code in _DAMAGED:
            return damaged(self.path.parent, str(error))
        reason = _UNWRITABLE.get(code, str(error))
        if code == sqlite3.SQLITE_IOERR and self._is_full():
            reason = _UNWRITABLE[sqlite3.SQLITE_FULL]
        return f"{name} cannot be written: {clean(reason)}."

    def _is_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path.parent).free < _LEAST_ROOM_BYTES
        except OSError:
            return False


def damaged(archive: Path, what: str) -> str:
    """One line on an archive that is not what was once written."""
    return (
        f"The archive {clean(str(archive))} is damaged ({clean(what)}); "
        "`copper archive check` says what can be mended."
    )


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
