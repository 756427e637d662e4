"""What is done where an archive cannot even be opened: its marker or its landing is lost.

Of a landing that SQLite cannot mend what can be read is carried over into a new one. What months
hold is told as known again from their rows, so that losing the landing costs no call for them.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from copper_cli.archive import coverage as ranges
from copper_cli.archive import landing
from copper_cli.archive.home import (
    LANDING,
    MARKER,
    MARKER_NOTE,
    DamagedMarkerError,
    Marker,
    Owner,
    hold_alone,
    parse_marker,
    read_marker,
    write_marker,
)
from copper_cli.archive.keys import Covered, SeriesKey
from copper_cli.archive.months import TEMPORARY, Month, find_files
from copper_cli.archive.schema import FORMAT, Database, table_names
from copper_cli.errors import LocalError
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.text import clean

if TYPE_CHECKING:
    from copper_cli.archive import Archive

SET_ASIDE = "set-aside-"
_BESIDE = ("-wal", "-shm", "-journal")
_RUNS = """
WITH rows AS (
    SELECT meter_id, grid, epoch(start)::BIGINT AS s, epoch("end")::BIGINT AS e
    FROM read_parquet({}) WHERE energy IS NOT NULL),
marked AS (
    SELECT *, s IS DISTINCT FROM lag(e) OVER (PARTITION BY meter_id, grid ORDER BY e) AS is_first
    FROM rows),
numbered AS (
    SELECT *, sum(is_first::INT) OVER (PARTITION BY meter_id, grid ORDER BY e) AS run FROM marked)
SELECT meter_id, grid, min(s), max(e), count(*) FROM numbered
GROUP BY meter_id, grid, run ORDER BY meter_id, grid, min(s)
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an archive cannot be opened."""

    where: str
    """The file."""
    text: str
    """What is wrong, in a sentence."""
    mended: str | None
    """What was done about it; None where nothing was."""


def rescue(path: Path, owner: Owner | None, *, repair: bool) -> list[Fault]:
    """What keeps an archive from being opened, mended with `repair` where that can be.

    `owner` is whose it is taken to be where nothing in it says so any more. Raises LocalError, also
    for an archive of a newer version, which is left as it is.
    """
    with local_errors(path, "read"):
        has_landing = (path / LANDING).exists()
        has_months = any(True for _ in find_files(path))
        if not (has_landing or has_months or (path / MARKER).exists()):
            return []  # there is none: whoever opens it says so
        faults = [*_rescue_marker(path, owner, repair=repair)]
        if any(fault.mended is None for fault in faults):
            return faults
        if not (has_landing or has_months):
            return faults  # a new one
        said = _ask_sqlite(path / LANDING) if has_landing else "It is gone."
        if said is not None:
            mended = _rescue_landing(path, is_there=has_landing) if repair else None
            faults.append(Fault(str(path / LANDING), said, mended))
    return faults


# archive.json


def _rescue_marker(path: Path, owner: Owner | None, *, repair: bool) -> Iterator[Fault]:
    try:
        if read_marker(path) is not None:
            return
        text = "It is gone."
    except DamagedMarkerError:
        text = "It cannot be read."
    mended = None
    if repair:
        marker = _read_copy(path)
        mended = "It was written again."
        if marker is None and owner is not None:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            marker = Marker(secrets.token_hex(16), owner, now, secrets.token_hex(32))
            mended = f"A new one was made for {owner}; what was forgotten may be named again."
        if marker is None:
            mended = None
            text += " Nothing says whose the archive is: export COPPER_ENTERPRISE_ID."
        else:
            if (path / MARKER).exists():
                _set_aside(path / MARKER)
            write_marker(path, marker)
    yield Fault(str(path / MARKER), text, mended)


def _read_copy(path: Path) -> Marker | None:
    """What the landing knows of `archive.json`."""
    with suppress(sqlite3.Error, LocalError), closing(_connect(path / LANDING)) as db:
        question = "SELECT value FROM notes WHERE name = ?"
        found = db.execute(question, (MARKER_NOTE,)).fetchone()
        if found is not None:
            return parse_marker(path, found[0])
    return None


# landing.sqlite


def _connect(path: Path) -> sqlite3.Connection:
    """A file that is there; none is made."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


def _ask_sqlite(path: Path) -> str | None:
    """What is wrong with a landing after what can be mended in its place; None: nothing."""
    try:
        with closing(_connect(path)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] > FORMAT:
                return None  # left as it is
            said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            if said == "ok" and (gone := sorted(table_names() - there)):
                return f"It has no table {gone[0]}."
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return None  # another run works with it
        said = str(error)
    except sqlite3.DatabaseError as error:
        said = str(error)
    return None if said == "ok" else f"SQLite says: {clean(said.splitlines()[-1])}."


def _rescue_landing(path: Path, *, is_there: bool) -> str:
    """Make a new landing of what can be read. Raises LocalError where another run uses it."""
    with hold_alone(path) as is_alone:
        if not is_alone:
            raise LocalError(
                f"Another run uses the archive {clean(str(path))}; repair it when that has ended."
            )
        new = path / f".{LANDING}-{secrets.token_hex(4)}{TEMPORARY}"
        database = Database(new, wal=False)
        try:
            with database.transaction() as target:
                count = _carry_over(path / LANDING, target) if is_there else 0
        finally:
            database.close()
        told = ""
        if is_there:
            told = f"; the old one is {_set_aside(path / LANDING, keep=True).name}"
        for ending in _BESIDE:
            # What is in them is carried over; they must not be taken for the new file's.
            (path / f"{LANDING}{ending}").unlink(missing_ok=True)
        new.rename(path / LANDING)
        sync_folder(path)
    _cover_months(path)
    return (
        f"A new one was made with what could be read ({count:,} entries){told}. What waited there "
        "beyond that is asked for again, but for corrections of published rows: for these --fresh."
    )


def _carry_over(path: Path, target: sqlite3.Connection) -> int:
    """What can be read of each table, from its begin and from its end; how many rows."""
    tables = target.execute(
        "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_master WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    count = 0
    with suppress(sqlite3.Error), closing(_connect(path)) as source:
        for table, is_keyed in tables:
            columns = target.execute(f"PRAGMA table_info({table})").fetchall()
            names = [column[1] for column in columns]
            keys = [column[1] for column in columns if column[5]] if is_keyed else ["rowid"]
            for order in ("", " DESC"):
                found = _read_table(source, table, names, [f"{key}{order}" for key in keys])
                marks = ", ".join("?" * len(names))
                count += target.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})",  # noqa: S608 - our own names
                    found,
                ).rowcount
    return count


def _read_table(
    source: sqlite3.Connection, table: str, names: Sequence[str], order: Sequence[str]
) -> Iterator[tuple[object, ...]]:
    """Its rows up to the first that cannot be read."""
    columns, keys = ", ".join(names), ", ".join(order)
    with suppress(sqlite3.DatabaseError):
        yield from source.execute(
            f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY {keys}"  # noqa: S608 - our own
        )


def _set_aside(file: Path, *, keep: bool = False) -> Path:
    """A file's other name, which nobody uses; with `keep` it has its own too for a while."""
    aside = file.with_name(f"{SET_ASIDE}{file.name}-{secrets.token_hex(4)}{TEMPORARY}")
    if keep:
        with suppress(OSError):
            os.link(file, aside)
            return aside
    file.rename(aside)
    return aside


# What months hold


def _cover_months(path: Path) -> None:
    """Tell as known what published rows say. Files that cannot be read are left to the check."""
    import duckdb

    from copper_cli.archive import Archive
    from copper_cli.archive.parquet import connect, exact

    marker = read_marker(path)
    assert marker is not None  # it was looked at before
    archive = Archive(path, archive_id=marker.id)
    try:
        with closing(connect()) as duck:
            for month, file in find_files(path):
                if not month.granularity:
                    continue  # of readings nobody can tell what was asked for
                with suppress(duckdb.Error):
                    runs = duck.execute(_RUNS.format(exact(file))).fetchall()
                    _cover_month(archive, month, runs, int(file.stat().st_mtime))
    finally:
        archive.close()


def _cover_month(
    archive: Archive, month: Month, runs: Sequence[tuple[str, str, int, int, int]], asked_s: int
) -> None:
    """Put buckets in a row that have an amount, by meter and grid, where they are not known yet."""
    known_s = ranges.coarse(asked_s)
    with archive.transaction() as db:
        for meter_id, grid, start_s, end_s, count in runs:
            key = SeriesKey(meter_id, month.kind, month.granularity, grid)
            number, _ = landing.make_series(db, key)
            before = landing.covered_near(db, number, (start_s, end_s))
            known = Covered(start_s, end_s, "known", known_s, count)
            now = ranges.put(before, [known], ranges.ruler_of(key))
            if landing.replace_coverage(db, number, before, now):
                landing.bump(db, number)
