"""A home that left: gone from every file of an archive, and shown to be.

What stays is a keyed hash of the id, so that the next list does not bring it back. The hash is
written first and the list entries go last: killed in between, the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from copper_cli.archive import partitions
from copper_cli.archive.lists import hash_id, read_forgotten, read_key
from copper_cli.archive.schema import ACCEPTED
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.names import safe_name
from copper_cli.files.reasons import local_errors
from copper_cli.text import clean

if TYPE_CHECKING:
    import sqlite3

    from copper_cli.archive import Archive

LEFTOVERS = ".tmp"
"""What files end in that no engine reads: of a publish that was killed, and what repair set by."""
_BUSY_S = 30.0
_CHUNK_BYTES = 1 << 20
_LISTS_OF = {"meter": ("meter", "location"), "premise": ("premise",), "gateway": ("gateway",)}
_AT_PREMISE = """
SELECT list, id, json_extract(body, '$.premise_id') FROM (
    SELECT list, id, body, max(first_s) FROM seen WHERE list IN ('meter', 'gateway')
    GROUP BY list, id)
"""
_DROP_SERIES = (
    ACCEPTED,  # there or not
    "DELETE FROM accepted WHERE series IN leaving",
    "DELETE FROM answers WHERE series IN leaving",
    "DELETE FROM edges WHERE series IN leaving",
    "DELETE FROM coverage WHERE series IN leaving",
    "DELETE FROM sums WHERE series IN leaving",
    "DELETE FROM changes WHERE series IN leaving",
    "DELETE FROM moves WHERE series IN leaving",
    "DELETE FROM series WHERE id IN leaving",
)


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is to be forgotten."""

    meters: tuple[str, ...]
    """Ids of meters."""
    premises: tuple[str, ...]
    """Ids of premises."""
    gateways: tuple[str, ...]
    """Ids of gateways, which stand at these premises."""
    elsewhere: tuple[str, ...]
    """Meters and gateways that were at one of the premises and are now at another: they stay, and
    only that they were there is forgotten."""
    entries: tuple[str, ...]
    """What stays of them: their keyed hashes."""
    folders: tuple[Path, ...]
    """Folders of downloads that name one of them, as far as the archive knows; they stay."""

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.meters, *self.premises, *self.gateways)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done."""

    rows: int
    """How many are gone: of months, and of answers that were not published."""
    months: int
    """Files of months that were written anew."""
    files: int
    """Files of the archive that were searched in the end; none holds one of the ids."""


def find_leaving(archive: Archive, meter_ids: Sequence[str], premise_ids: Sequence[str]) -> Leaving:
    """What belongs to these meters and premises. UsageError for an id that is not in the archive.

    With a premise goes what stands there now. One that was forgotten before may be named again.
    """
    key = read_key(archive)
    with archive.reading() as db:
        forgotten = read_forgotten(db)
        places = {(kind, one): premise for kind, one, premise in db.execute(_AT_PREMISE)}
        for kind, ids in (("meter", meter_ids), ("premise", premise_ids)):
            _check_known(_known(db, kind), kind, ids, forgotten, key)
        with_home = {place for place, premise in places.items() if premise in premise_ids}
        were = db.execute(
            "SELECT DISTINCT list, id FROM seen WHERE list IN ('meter', 'gateway') AND "
            "json_extract(body, '$.premise_id') IN (SELECT value FROM json_each(?))",
            (json.dumps(premise_ids),),
        ).fetchall()
        folders = _find_folders(db, [*meter_ids, *premise_ids, *(one for _, one in with_home)])
    meters = _unique(meter_ids, (one for kind, one in with_home if kind == "meter"))
    gateways = _unique((), (one for kind, one in with_home if kind == "gateway"))
    elsewhere = _unique((), (one for kind, one in were if (kind, one) not in with_home))
    subjects = [("meter", one) for one in meter_ids] + [("premise", one) for one in premise_ids]
    entries = [hash_id(key, subject) for subject in subjects]
    for place in with_home - set(subjects):
        above = hash_id(key, ("premise", str(places[place])))
        entries.append(f"{above} {hash_id(key, place)}")
    elsewhere = tuple(one for one in elsewhere if one not in meters)
    return Leaving(
        meters, tuple(premise_ids), gateways, elsewhere, tuple(sorted(entries)), tuple(folders)
    )


def forget(archive: Archive, leaving: Leaving) -> Forgotten:
    """Take all of it out of months, landing and leftovers, and search every file for it.

    Raises LocalError where that cannot be done; what was done stays, and the same again goes on.
    """
    with archive.transaction() as db:
        now_s = int(time.time())
        rows = [(entry, now_s) for entry in leaving.entries]
        db.executemany("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", rows)
    with partitions.writer_lock(archive.path, wait=True):
        gone, months = partitions.rewrite_without(archive, {*leaving.meters, *leaving.gateways})
        _remove_leftovers(archive.path)
        with archive.transaction() as db:
            gone += _drop_rows(db, leaving)
            _drop_lists(db, leaving)
            searched = _not_within_others(db, leaving.ids)
    _clean_file(archive)
    return Forgotten(gone, months, _search(archive.path, searched))


def remember(archive: Archive, meter_ids: Sequence[str], premise_ids: Sequence[str]) -> int:
    """Let lists name these again; how many were forgotten, what stood at a premise included."""
    key = read_key(archive)
    subjects = [("meter", one) for one in meter_ids] + [("premise", one) for one in premise_ids]
    count = 0
    with archive.transaction() as db:
        for entry in (hash_id(key, subject) for subject in subjects):
            count += db.execute(
                "DELETE FROM forgotten WHERE hash = ?1 OR hash LIKE ?1 || ' %' "
                "OR hash LIKE '% ' || ?1",
                (entry,),
            ).rowcount
    return count


# What there is


def _known(db: sqlite3.Connection, kind: str) -> set[str]:
    question = "SELECT DISTINCT id FROM seen WHERE list IN (SELECT value FROM json_each(?))"
    found = {one for (one,) in db.execute(question, (json.dumps(_LISTS_OF[kind]),))}
    if kind == "meter":
        question = (
            "SELECT subject FROM series WHERE kind <> 'grid' UNION SELECT meter_id FROM snapshots"
        )
        found |= {one for (one,) in db.execute(question)}
    return found


def _check_known(
    known: set[str], kind: str, ids: Iterable[str], forgotten: set[str], key: bytes
) -> None:
    for one in ids:
        if one in known or hash_id(key, (kind, one)) in forgotten:
            continue
        close = get_close_matches(one, known, n=2, cutoff=0.6)
        hint = f" Closest: {', '.join(map(clean, close))}." if close else ""
        raise UsageError(f"no {kind} {clean(one)} in this archive.{hint}")


def _unique(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *sorted(second)]))


def _find_folders(db: sqlite3.Connection, ids: Sequence[str]) -> list[Path]:
    """Those of which the archive has read files, and that name one of the ids."""
    folders = {Path(path).parent for (path,) in db.execute("SELECT path FROM stamps")}
    found = []
    for folder in sorted(folders):
        names = {safe_name(one, "") for one in ids}
        with contextlib.suppress(OSError):
            manifest = folder / "manifest.json"
            text = manifest.read_text("utf-8", "replace") if manifest.is_file() else ""
            if any(f'"{one}"' in text for one in ids) or any(
                file.name.partition(".")[0] in names for file in folder.iterdir()
            ):
                found.append(folder)
    return found


# What goes


def _drop_rows(db: sqlite3.Connection, leaving: Leaving) -> int:
    """Everything of their series. How many rows that were not published."""
    db.execute("CREATE TEMP TABLE leaving (series INTEGER PRIMARY KEY)")
    db.execute(
        "INSERT INTO leaving SELECT id FROM series WHERE subject IN (SELECT value FROM "
        "json_each(iif(kind = 'grid', ?1, ?2)))",
        (json.dumps(leaving.gateways), json.dumps(leaving.meters)),
    )
    gone = db.execute(
        "SELECT coalesce(sum(rows), 0) FROM answers WHERE series IN leaving"
    ).fetchone()[0]
    for statement in _DROP_SERIES:
        db.execute(statement)
    db.execute("DROP TABLE leaving")
    return int(gone)


def _drop_lists(db: sqlite3.Connection, leaving: Leaving) -> None:
    """All that names them, also what says of others that they stood at one of the premises."""
    groups: Sequence[tuple[str, Sequence[str]]] = (
        ("meter", leaving.meters),
        ("premise", leaving.premises),
        ("gateway", leaving.gateways),
    )
    for kind, ids in groups:
        rows = [(name, one) for one in ids for name in _LISTS_OF[kind]]
        db.executemany("DELETE FROM seen WHERE list = ? AND id = ?", rows)
    db.executemany("DELETE FROM snapshots WHERE meter_id = ?", [(one,) for one in leaving.meters])
    db.executemany(
        "DELETE FROM seen WHERE json_extract(body, '$.premise_id') = ?",
        [(one,) for one in leaving.premises],
    )
    db.executemany("DELETE FROM notes WHERE instr(name, ?)", [(one,) for one in leaving.ids])
    names = [(safe_name(one, ""),) for one in leaving.ids]
    db.executemany("DELETE FROM stamps WHERE instr(path, '/' || ? || '.')", names)


def _not_within_others(db: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Those that are no part of another id, by which they would be found again."""
    left = set.union(*(_known(db, kind) for kind in _LISTS_OF))
    return [one for one in ids if not any(one in other for other in left)]


def _remove_leftovers(path: Path) -> None:
    """Files that are no part of the archive any more, and may hold anything of it."""
    for file in path.rglob(f"*{LEFTOVERS}"):
        with local_errors(file, "removed"), contextlib.suppress(FileNotFoundError):
            if file.is_file() or file.is_symlink():
                file.unlink()


def _clean_file(archive: Archive) -> None:
    """Nothing of what was deleted stays in the landing's pages, nor in what SQLite keeps beside.

    LocalError where another program reads in it all the time.
    """
    with archive.outside() as db:
        db.execute("VACUUM")
        deadline = time.monotonic() + _BUSY_S
        while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise LocalError(
                    f"Another program reads in {clean(str(archive.path))} all the time; what is "
                    "forgotten may still be found in landing.sqlite-wal. Run this again."
                )
            time.sleep(0.1)


# Proof


def _search(path: Path, ids: Sequence[str]) -> int:
    """How many files were searched. LocalError where one of them holds one of the ids."""
    wanted = [one.encode("utf-8", "surrogatepass") for one in ids]
    count = 0
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        count += 1
        with local_errors(file, "read"):
            found = any(_holds(file, one) for one in wanted)
        if found:
            raise LocalError(
                f"{clean(str(file))} still holds what is to be forgotten; run this again when no "
                "other run uses the archive, or `copper archive check`."
            )
    return count


def _holds(file: Path, wanted: bytes) -> bool:
    """Whether a file holds these bytes anywhere."""
    tail = b""
    with file.open("rb") as stream:
        while data := stream.read(_CHUNK_BYTES):
            data = tail + data
            if wanted in data:
                return True
            tail = data[len(data) - len(wanted) + 1 :]
    return False
