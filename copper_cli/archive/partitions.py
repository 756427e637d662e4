"""Rows leave the landing for their months, which are Parquet.

A file is replaced whole: it is on the disk under a temporary name before it takes its own, and
only then does the landing let go of what is in it. Whoever reads the folder in between sees the
month before or the month after.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from copper_cli.archive.columns import BodyError
from copper_cli.archive.home import WRITER_LOCK
from copper_cli.archive.keys import US, SeriesKey
from copper_cli.archive.months import (
    FOLDERS,
    TEMPORARY,
    Month,
    find_files,
    fixed_step,
    month_span,
    months_of_ends,
)
from copper_cli.archive.parquet import (
    FORMAT,
    About,
    connect,
    count_series,
    duck_errors,
    exact,
    id_column,
    quote,
    read_rows,
    time_column,
    write_rows,
)
from copper_cli.archive.published import Published
from copper_cli.archive.schema import FILE_NAME, Database
from copper_cli.errors import LocalError
from copper_cli.files.opening import digest_file
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.text import clean

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive import Archive
    from copper_cli.archive.arrays import Rows

BATCH_ROWS = 2_000_000
"""Rows of one month that are held as arrays at a time: some 100 MB."""
GROUP_ROWS = 4_000_000
"""Rows that wait for several months and are held together, so that no answer is read twice."""
__all__ = ["Publication", "Published", "compact", "publish", "rewrite_without", "writer_lock"]

LOCK_WAIT_S = 60.0
"""How long the lock of who writes months is waited for, where it is."""

_MERGE_TRIES = 5
_INTENT = "publishing "
"""Begins the name of a note: the digest of a month that may have taken its name already."""


@dataclass(slots=True)
class Publication:
    """What was published."""

    months: list[Month] = field(default_factory=list)
    """The files that were written anew."""
    rows: int = 0
    """In them."""
    answers: int = 0
    """Of which the landing let go."""
    problems: list[str] = field(default_factory=list)
    """What could not be published, a line each: the rows stay in the landing."""


def publish(
    archive: Archive, *, is_stopped: Callable[[], bool] = lambda: False
) -> Publication | None:
    """Bring all rows that wait into their months; None where another run writes months.

    Nothing is lost or doubled wherever it ends: what of it is done stays done, and the next time
    does the rest. `is_stopped` is asked between two months. Raises LocalError.
    """
    with writer_lock(archive.path) as is_mine:
        if not is_mine:
            return None
        return publish_locked(archive, is_stopped=is_stopped)


def publish_locked(
    archive: Archive, *, is_stopped: Callable[[], bool] = lambda: False
) -> Publication:
    """The same for who holds the writer's lock."""
    remove_leftovers(archive.path)
    publisher = _Publisher(archive, is_stopped)
    try:
        publisher.run()
    finally:
        publisher.close()
    return publisher.done


@contextmanager
def writer_lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of who writes months; False where another has it.

    With `wait` it is waited for, and LocalError where another keeps it for long.
    """
    from filelock import FileLock, Timeout

    seconds = LOCK_WAIT_S if wait else 0
    lock = FileLock(path / WRITER_LOCK, timeout=seconds, mode=0o600, thread_local=False)
    is_mine = False
    with local_errors(path / WRITER_LOCK):
        try:
            lock.acquire()
            is_mine = True
        except Timeout as error:
            if wait:
                raise LocalError(
                    f"Another run writes the months of the archive {clean(str(path))}; "
                    "run this again when it has ended."
                ) from error
    try:
        yield is_mine
    finally:
        if is_mine:
            lock.release()


def find_leftovers(path: Path) -> list[Path]:
    """What a run that was killed while it wrote months has left. Raises OSError."""
    found = [one for one in path.glob(".*" + TEMPORARY) if one.name.startswith(_SPILL)]
    for folder in FOLDERS.values():
        found += (path / folder).glob("**/.*" + TEMPORARY)
    return sorted(found)


def remove_leftovers(path: Path) -> None:
    """Remove them; for who holds the writer's lock."""
    with local_errors(path):
        for one in find_leftovers(path):
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()


_SPILL = ".spill-"


class _ChangedError(Exception):
    """An answer was taken back while its month was written."""


@dataclass(slots=True, eq=False)
class _Answer:
    """One that waits."""

    id: int
    key: SeriesKey
    rows: int
    first_s: int
    last_s: int
    left: set[str] = field(default_factory=set)
    """The months that are to be written before it can go."""


_Waiting = Mapping[int, "Rows"]
"""The rows of one month by the answers they are of."""


class _Publisher:
    """Publishes what waits, kind by kind, month by month."""

    def __init__(self, archive: Archive, is_stopped: Callable[[], bool]) -> None:
        self.done = Publication()
        self._path = archive.path
        self._is_stopped = is_stopped
        self._is_durable = not archive.is_temporary
        # One of its own: threads that land do not wait for it.
        with archive.reading() as db:
            wal = db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        self._db = Database(archive.path / FILE_NAME, is_durable=self._is_durable, wal=wal)
        with self._db.outside() as db:
            # What it deletes is in a month now: it need not be overwritten at once.
            db.execute("PRAGMA secure_delete=FAST")
        self._duck: duckdb.DuckDBPyConnection | None = None
        self._spill = archive.path / f"{_SPILL}{secrets.token_hex(8)}{TEMPORARY}"

    def close(self) -> None:
        """Give all files back."""
        self._db.close()
        if self._duck is not None:
            self._duck.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def run(self) -> None:
        """Publish all of it."""
        for kind, granularity in self._kinds():
            for left in reversed(range(_MERGE_TRIES)):
                try:
                    self._publish_kind(kind, granularity)
                    break
                except _ChangedError:
                    if not left:
                        self.done.problems.append(
                            f"{kind} is being taken back by other runs; the next one publishes it."
                        )
            if self._is_stopped():
                return

    def _kinds(self) -> list[About]:
        with self._db.reading() as db:
            return db.execute(
                "SELECT DISTINCT kind, granularity FROM series WHERE id IN"
                " (SELECT series FROM answers WHERE pending = 0) ORDER BY kind, granularity"
            ).fetchall()

    def _list(self, kind: str, granularity: str) -> list[_Answer]:
        """The answers that wait, by series, oldest first."""
        with self._db.reading() as db:
            found = db.execute(
                "SELECT a.id, s.subject, s.grid, a.rows, a.first_s, a.last_s FROM series AS s"
                " JOIN answers AS a ON a.series = s.id WHERE s.kind = ? AND s.granularity = ?"
                " AND a.pending = 0 AND a.rows > 0 ORDER BY s.subject, s.grid, a.id",
                (kind, granularity),
            ).fetchall()
        answers = []
        for about, group in groupby(found, lambda row: row[1:3]):
            key = SeriesKey(about[0], kind, granularity, about[1])
            answers += [_Answer(row[0], key, *row[3:]) for row in group]
        return answers

    def _publish_kind(self, kind: str, granularity: str) -> None:
        answers = self._list(kind, granularity)
        queues: dict[SeriesKey, deque[_Answer]] = {}
        months: dict[str, list[_Answer]] = {}
        for answer in answers:
            queues.setdefault(answer.key, deque()).append(answer)
            answer.left.update(months_of_ends(answer.first_s, answer.last_s, granularity))
            for name in answer.left:
                months.setdefault(name, []).append(answer)
        for group in list(_group(months)):
            found = self._load_group(group, months) if len(group) > 1 else None
            for name in group:
                if self._is_stopped():
                    return
                month = Month(kind, granularity, name)
                waiting = None if found is None else found.pop(name)
                self._publish_month(month, months[name], waiting, queues)

    # Reading what waits

    def _load_group(
        self, group: Sequence[str], months: Mapping[str, Sequence[_Answer]]
    ) -> dict[str, dict[int, Rows]]:
        """The rows of several months, by month and answer; each answer is read once."""
        wanted = {answer.id: answer for name in group for answer in months[name]}
        found: dict[str, dict[int, Rows]] = {name: {} for name in group}
        for answer, rows in self._load(list(wanted.values())):
            for name, part in _split(answer, rows, [n for n in group if n in answer.left]):
                found[name][answer.id] = part
        return found

    def _load(self, answers: Sequence[_Answer]) -> Iterator[tuple[_Answer, Rows]]:
        """The rows of answers; those that cannot be read are told, and stay."""
        from copper_cli.archive.arrays import decode, shape_of

        for start in range(0, len(answers), _AT_ONCE):
            some = {answer.id: answer for answer in answers[start : start + _AT_ONCE]}
            with self._db.reading() as db:
                found = db.execute(
                    "SELECT id, body, rows FROM answers WHERE id IN"
                    " (SELECT value FROM json_each(?))",
                    (json.dumps(list(some)),),
                )
                count = 0
                for number, body, rows in found:
                    count += 1
                    answer = some[number]
                    if rows != answer.rows:
                        raise _ChangedError
                    try:
                        yield answer, decode(body, shape_of(answer.key.kind))
                    except BodyError:
                        self._give_up(answer)
            if count != len(some):
                raise _ChangedError

    def _give_up(self, answer: _Answer) -> None:
        if answer.rows:
            self.done.problems.append(
                f"An answer of {clean(answer.key.subject)} in the landing cannot be read; "
                "`copper archive check --repair` lets it be asked for again."
            )
        answer.rows = 0
        answer.left = {_NEVER}

    # One month

    def _publish_month(
        self,
        month: Month,
        answers: Sequence[_Answer],
        waiting: _Waiting | None,
        queues: Mapping[SeriesKey, deque[_Answer]],
    ) -> None:
        target = month.file(self._path)
        with local_errors(target):
            if not self._is_sound(month):
                self.done.problems.append(
                    f"{clean(str(target))} is not what was published; "
                    "`copper archive check --repair` mends it."
                )
                return
            make_private_folders(self._path, target.parent)
        temporary = _temporary_for(target)
        try:
            with duck_errors(target):
                count = self._write(month, temporary, answers, waiting)
                if count:
                    sha256, size = self._settle(temporary)
            if count:
                self._commit(month, temporary, answers, queues, (sha256, size, count))
            else:  # no row of these answers starts in this month
                self._let_go(month, answers, queues)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _is_sound(self, month: Month) -> bool:
        """True where the file of a month is the one that is noted, or there is none of either."""
        with self._db.reading() as db:
            noted, announced = noted_digests(db, month)
        try:
            return digest_file(month.file(self._path)) in (noted, announced)
        except FileNotFoundError:
            return noted is None

    def _write(
        self,
        month: Month,
        temporary: Path,
        answers: Sequence[_Answer],
        waiting: _Waiting | None,
    ) -> int:
        """Write a month anew with the rows of these answers; how many it has then."""
        if waiting is not None and not waiting:
            return 0
        is_short = sum(answer.rows / len(answer.left) for answer in answers) <= BATCH_ROWS
        with ThreadPoolExecutor(1) as pool:  # DuckDB reads what is there while bodies are decoded
            reading = pool.submit(self._read_old, month)
            if waiting is None and is_short:
                waiting = dict(self._load_month(month, answers))
            counts, old = reading.result()
        if waiting is not None and not waiting:
            return 0
        batches = _batch(counts, answers)
        if len(batches) > 1:
            old = None
        merged = ((batch.keys, self._merge(month, batch, waiting, old)) for batch in batches)
        return write_rows(self._connect(), temporary, month, merged, are_many=len(batches) > 1)

    def _read_old(self, month: Month) -> tuple[dict[About, int], Rows | None]:
        """How many rows each series of a month has, and all of them where these are few enough."""
        duck, file = self._connect(), month.file(self._path)
        if not file.exists():
            return {}, None
        counts = count_series(duck, file, month.kind)
        if not 0 < sum(counts.values()) <= BATCH_ROWS:
            return counts, None
        subjects = min(counts)[0], max(counts)[0]
        return counts, read_rows(duck, file, month, subjects)

    def _load_month(self, month: Month, answers: Sequence[_Answer]) -> Iterator[tuple[int, Rows]]:
        for answer, rows in self._load([one for one in answers if month.name in one.left]):
            for _, part in _split(answer, rows, [month.name]):
                yield answer.id, part

    def _merge(
        self, month: Month, batch: _Batch, waiting: _Waiting | None, old: Rows | None
    ) -> Rows:
        """The rows of a batch of series, those of a month and of what waits for it.

        `old`: those of the month, where they have been read.
        """
        import numpy as np

        from copper_cli.archive.arrays import empty_rows, lay_over, shape_of

        found = waiting
        if found is None:
            found = dict(self._load_month(month, batch.answers))
        layers = []
        codes = {key: code for code, key in enumerate(batch.keys)}
        if sum(batch.counts):
            subjects = batch.keys[0][0], batch.keys[-1][0]
            file = month.file(self._path)
            rows = old or read_rows(self._connect(), file, month, subjects)
            rows.codes = np.repeat(np.arange(len(batch.counts)), batch.counts)
            layers.append(rows)
        for answer in batch.answers:
            part = found.get(answer.id)
            if part is not None:
                part.codes = np.full(len(part), codes[_about(answer.key)], np.int64)
                layers.append(part)
        if not layers:
            return empty_rows(shape_of(month.kind))
        return lay_over(layers, is_instants=not month.granularity)

    def _settle(self, temporary: Path) -> tuple[str, int]:
        """Have a file on the disk; its digest and size."""
        temporary.chmod(0o600)
        with temporary.open("r+b") as file:
            if self._is_durable:
                os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return sha256, os.fstat(file.fileno()).st_size

    def rewrite_without(self, subjects: Sequence[str]) -> tuple[int, int]:
        """Take meters and gateways out of all months."""
        gone = 0
        if not subjects:
            return 0, 0
        for month, file in list(find_files(self._path)):
            column = id_column(month.kind)
            with local_errors(file):
                is_sound = self._is_sound(month)
            if not is_sound:
                raise LocalError(
                    f"{clean(str(file))} is not what was published; "
                    "`copper archive check --repair` mends it."
                )
            with duck_errors(file):
                counts = count_series(self._connect(), file, month.kind)
                gone_here = sum(counts.get(key, 0) for key in counts if key[0] in subjects)
                if not gone_here:
                    continue
            temporary = _temporary_for(file)
            order = [column, *(["grid"] if month.granularity else []), time_column(month.kind)]
            order += ["seq"] if month.kind == "readings" else []
            try:
                with duck_errors(file):
                    self._connect().execute(
                        # S608: names of columns and of our own files
                        f"COPY (SELECT * FROM read_parquet({exact(file)}, hive_partitioning=false)"  # noqa: S608
                        f" WHERE NOT list_contains(?, {column}) ORDER BY {', '.join(order)})"
                        f" TO {quote(temporary)} {FORMAT}",
                        [list(subjects)],
                    )
                    about = *self._settle(temporary), sum(counts.values()) - gone_here
                self._commit(month, temporary, (), {}, about)
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            gone += gone_here
        return gone, len(self.done.months)

    def _commit(
        self,
        month: Month,
        temporary: Path,
        answers: Sequence[_Answer],
        queues: Mapping[SeriesKey, deque[_Answer]],
        about: tuple[str, int, int],
    ) -> None:
        """Give a month its name and let go what is in it.

        The note comes first: were this to end in between, it tells that the file is ours.
        """
        sha256, size, count = about
        target = month.file(self._path)
        with self._db.transaction() as db:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (_INTENT + str(month), sha256))
        with self._db.transaction() as db:
            self._check_unchanged(db, answers)
            with local_errors(target):
                temporary.replace(target)
                if self._is_durable:
                    sync_folder(target.parent)
            note_month(db, month, sha256, size, count)
            gone = _finish(month, answers, queues)
            db.executemany("DELETE FROM answers WHERE id = ?", ((one.id,) for one in gone))
        self.done.months.append(month)
        self.done.rows += count
        self.done.answers += len(gone)

    def _let_go(
        self,
        month: Month,
        answers: Sequence[_Answer],
        queues: Mapping[SeriesKey, deque[_Answer]],
    ) -> None:
        with self._db.transaction() as db:
            self._check_unchanged(db, answers)
            gone = _finish(month, answers, queues)
            db.executemany("DELETE FROM answers WHERE id = ?", ((one.id,) for one in gone))
        self.done.answers += len(gone)

    @staticmethod
    def _check_unchanged(db: sqlite3.Connection, answers: Sequence[_Answer]) -> None:
        """_ChangedError where one of the answers was taken back, or a part of it."""
        mine = [answer for answer in answers if answer.rows]
        found = db.execute(
            "SELECT count(*), coalesce(sum(rows), 0) FROM answers WHERE id IN"
            " (SELECT value FROM json_each(?))",
            (json.dumps([answer.id for answer in mine]),),
        ).fetchone()
        if found != (len(mine), sum(answer.rows for answer in mine)):
            raise _ChangedError

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if self._duck is None:
            self._duck = connect(self._spill)
        return self._duck


_AT_ONCE = 500
"""Answers that are read together."""
_NEVER = "never"
"""Among the months of an answer that stays."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Series whose rows of a month are put together at a time, in the order of the file."""

    keys: Sequence[About]
    """Subject and grid of each."""
    counts: Sequence[int]
    """Rows of each in the file."""
    answers: Sequence[_Answer]
    """What waits for them."""


def _about(key: SeriesKey) -> About:
    return key.subject, key.grid


def _group(months: Mapping[str, Sequence[_Answer]]) -> Iterator[list[str]]:
    """Months that follow one another, no more at a time than fit into memory."""
    group: list[str] = []
    held = 0.0
    for name in sorted(months):
        rows = sum(answer.rows / len(answer.left) for answer in months[name])
        if group and held + rows > GROUP_ROWS:
            yield group
            group, held = [], 0.0
        group.append(name)
        held += rows
    if group:
        yield group


def _batch(counts: Mapping[About, int], answers: Sequence[_Answer]) -> list[_Batch]:
    """Series in order, no more at a time than fit into memory; all of a meter together."""
    waiting: dict[About, list[_Answer]] = {}
    for answer in answers:
        if answer.rows:
            waiting.setdefault(_about(answer.key), []).append(answer)
    batches: list[list[About]] = [[]]
    held = 0.0
    for _, group in groupby(sorted(counts.keys() | waiting.keys()), lambda about: about[0]):
        keys = list(group)
        rows = sum(
            counts.get(key, 0) + sum(one.rows / len(one.left) for one in waiting.get(key, ()))
            for key in keys
        )
        if batches[-1] and held + rows > BATCH_ROWS:
            batches.append([])
            held = 0.0
        batches[-1] += keys
        held += rows
    return [
        _Batch(
            keys,
            [counts.get(key, 0) for key in keys],
            [answer for key in keys for answer in waiting.get(key, ())],
        )
        for keys in batches
    ]


def _split(answer: _Answer, rows: Rows, names: Sequence[str]) -> Iterator[tuple[str, Rows]]:
    """What of an answer's rows lies in each of these months, where anything does."""
    from copper_cli.archive.arrays import find_starts

    key = answer.key
    step, unit = fixed_step(key.granularity), 1
    if not key.granularity:
        step, unit = 0, US
    if step is None:
        rows.starts = find_starts(key.granularity, key.grid, rows.times)
    places, shift = (rows.times, step) if rows.starts is None else (rows.starts, 0)
    for name in names:
        bounds = [at_s * unit + (shift or 0) for at_s in month_span(name)]
        first, last = places.searchsorted(bounds)
        if first < last:
            yield name, rows.cut(int(first), int(last))


def _finish(
    month: Month, answers: Iterable[_Answer], queues: Mapping[SeriesKey, deque[_Answer]]
) -> list[_Answer]:
    """Note that a month has the rows of these answers; those that are in all of theirs.

    In the order in which they came: one that stays must lie under no newer one that is gone, or
    its older rows would be laid over those.
    """
    gone: list[_Answer] = []
    for answer in answers:
        answer.left.discard(month.name)
    for key in {answer.key for answer in answers}:
        queue = queues[key]
        kept: list[_Answer] = []
        while queue and (not queue[0].left or _NEVER in queue[0].left):
            first = queue.popleft()
            (kept if first.left else gone).append(first)
        queue.extendleft(reversed(kept))
    return gone


# Files


def _temporary_for(file: Path) -> Path:
    return file.parent / f".{file.stem}-{secrets.token_hex(8)}{TEMPORARY}"


def make_private_folders(archive: Path, folder: Path) -> None:
    """The folder and those between it and the archive's, for nobody else's eyes. Raises OSError."""
    missing = []
    while folder != archive and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def note_month(db: sqlite3.Connection, month: Month, sha256: str, size: int, count: int) -> None:
    """Remember what the file of a month is, within a transaction."""
    db.execute(
        "INSERT OR REPLACE INTO months VALUES (?, ?, ?, ?, ?, ?, ?)",
        (month.kind, month.granularity, month.name, sha256, size, count, int(time.time())),
    )
    db.execute("DELETE FROM notes WHERE name = ?", (_INTENT + str(month),))


def drop_month(db: sqlite3.Connection, month: Month) -> None:
    """Remember no file of a month."""
    db.execute(
        "DELETE FROM months WHERE kind = ? AND granularity = ? AND month = ?",
        (month.kind, month.granularity, month.name),
    )
    db.execute("DELETE FROM notes WHERE name = ?", (_INTENT + str(month),))


def noted_digests(db: sqlite3.Connection, month: Month) -> tuple[str | None, str | None]:
    """Which digest the file of a month has, and which where it has just been put there."""
    noted = db.execute(
        "SELECT sha256 FROM months WHERE kind = ? AND granularity = ? AND month = ?",
        (month.kind, month.granularity, month.name),
    ).fetchone()
    announced = db.execute(
        "SELECT value FROM notes WHERE name = ?", (_INTENT + str(month),)
    ).fetchone()
    return noted and noted[0], announced and announced[0]


# Months without some series


def rewrite_without(archive: Archive, subjects: Iterable[str]) -> tuple[int, int]:
    """Take meters and gateways out of all months, for who holds the writer's lock.

    How many rows are gone, and how many files were written anew. Raises LocalError.
    """
    publisher = _Publisher(archive, lambda: False)
    try:
        return publisher.rewrite_without(sorted(set(subjects)))
    finally:
        publisher.close()


def compact(archive: Archive) -> Publication | None:
    """Publish all that waits, and give the room back that it took; None as `publish`."""
    with writer_lock(archive.path) as is_mine:
        if not is_mine:
            return None
        done = publish_locked(archive)
    with archive.outside() as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return done
