"""Months as Parquet: rows are published there from the landing, and read back.

A file is replaced whole: it is on the disk under a temporary name before it takes its own, and
only then does the landing let go of what is in it. Whoever reads the folder in between sees the
month before or the month after.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.archive.columns import BodyError
from copper_cli.archive.home import WRITER_LOCK
from copper_cli.archive.keys import US, Instants, Number, SeriesKey
from copper_cli.archive.months import (
    FOLDERS,
    TEMPORARY,
    Month,
    find_files,
    kind_folder,
    list_months,
    month_span,
    months_of_ends,
)
from copper_cli.archive.schema import FILE_NAME, Database
from copper_cli.buckets import DAY_S, bucket_s
from copper_cli.errors import LocalError
from copper_cli.files.opening import digest_file
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.records import Series
from copper_cli.text import clean

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive import Archive
    from copper_cli.archive.arrays import Rows, Shape

BATCH_ROWS = 2_000_000
"""Rows of one month that are held as arrays at a time: some 100 MB."""
GROUP_ROWS = 4_000_000
"""Rows that wait for several months and are held together, so that no answer is read twice."""
CHUNK_ROWS = 1_000_000
"""Rows that are read ahead for series that are asked for one after the other."""

LOCK_WAIT_S = 60.0
"""How long the lock of who writes months is waited for, where it is."""

_MEMORY = "512MB"
_MOST_THREADS = 4
_FORMAT = "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, USE_TMP_FILE false)"
_READ_TRIES = 20
_MERGE_TRIES = 5
_INTENT = "publishing "
"""Begins the name of a note: the digest of a month that may have taken its name already."""


# DuckDB


def connect(folder: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that does not take the machine; what it cannot hold goes to a folder."""
    import duckdb

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": str(threads),
        "memory_limit": _MEMORY,
        "preserve_insertion_order": "true",
        "autoinstall_known_extensions": "false",
        "temp_directory": "" if folder is None else str(folder),
    }
    return duckdb.connect(":memory:", config=config)


@contextmanager
def duck_errors(path: Path, verb: str = "written") -> Iterator[None]:
    """Turns what DuckDB raises into a LocalError of one line that names a path."""
    import duckdb

    try:
        with local_errors(path, verb):
            yield
    except duckdb.Error as error:
        said = str(error).strip().partition("\n")[0]
        is_full = re.search("no space left|disk is full|max_temp_directory_size", str(error), re.I)
        reason = "the disk is full" if is_full else clean(said)
        raise LocalError(f"{clean(str(path))} cannot be {verb}: {reason}.") from error


def quote(path: Path | str) -> str:
    """A path as text of SQL. As a pattern it stands for itself alone."""
    return "'" + str(path).replace("'", "''") + "'"


def exact(path: Path) -> str:
    """A path for `read_parquet`, where signs of patterns stand for themselves."""
    return quote(re.sub(r"([*?\[])", r"[\1]", str(path)))


def id_column(kind: str) -> str:
    """What names the series of a row."""
    return "gateway_id" if kind == "grid" else "meter_id"


def time_column(kind: str) -> str:
    """The instant of a row."""
    return "time" if kind in ("readings", "grid") else '"end"'


def select_numbers(shape: Shape, granularity: str, kind: str) -> str:
    """What is read of a row, each column under the name that `rows_from` knows."""
    found = [f"epoch_us({time_column(kind)}) AS t"]
    if kind not in ("readings", "grid"):
        found.append("epoch_us(start) AS s")
    for name in shape.names:
        if name == "actual":
            found.append(f"coalesce(actual, {_NO_INTEGER}) AS actual")
            name = "actual_float"  # noqa: PLW2901
        found.append(f"coalesce({name}, 'NaN'::DOUBLE) AS {name}")
    return ", ".join([*found, "integers"])


_NO_INTEGER = "(-9223372036854775807 - 1)"


def rows_from(found: Mapping[str, Any], shape: Shape, kind: str, granularity: str) -> Rows:
    """Rows from what DuckDB read."""
    import numpy as np

    from copper_cli.archive.arrays import NO_INTEGER, Rows, fixed_step

    unit = 1 if kind in ("readings", "grid") else US
    numbers = {name: found["actual_float" if name == "actual" else name] for name in shape.names}
    rows = Rows(found["t"] if unit == 1 else found["t"] // unit, numbers)
    if "actual" in shape.names:
        rows.actual = found["actual"]
        if np.isnan(numbers["actual"]).all():
            numbers["actual"] = None
            rows.actual = None if (rows.actual == NO_INTEGER).all() else rows.actual
    rows.integers = found["integers"] if found["integers"].any() else None
    if granularity and fixed_step(granularity) is None:
        rows.starts = found["s"] // unit
    return rows


# Publishing


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
        self._db = Database(archive.path / FILE_NAME, is_durable=self._is_durable)
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

    def _kinds(self) -> list[tuple[str, str]]:
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
            noted = noted_digests(db, month)
        try:
            return digest_file(month.file(self._path)) in noted
        except FileNotFoundError:
            return not noted[:1]

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
        duck = self._connect()
        old = month.file(self._path)
        counts = count_series(duck, old, month.kind) if old.exists() else {}
        batches = _batch(counts, answers)
        if waiting is None and len(batches) == 1:
            waiting = dict(self._load_month(month, answers))
            if not waiting:
                return 0
        total = 0
        for batch in batches:
            rows = self._merge(month, batch, waiting)
            total += len(rows)
            _register(duck, month, batch, rows)
            if len(batches) == 1:
                duck.execute(
                    f"COPY ({_select(month, rows, batch)}) TO {quote(temporary)} {_FORMAT}"
                )
            elif batch is batches[0]:
                duck.execute(f"CREATE TABLE stage AS {_select(month, rows, batch)}")
            else:
                duck.execute(f"INSERT INTO stage {_select(month, rows, batch)}")
            duck.unregister("batch")
        if len(batches) > 1:
            duck.execute(f"COPY stage TO {quote(temporary)} {_FORMAT}")
            duck.execute("DROP TABLE stage")
        return total

    def _load_month(self, month: Month, answers: Sequence[_Answer]) -> Iterator[tuple[int, Rows]]:
        for answer, rows in self._load([one for one in answers if month.name in one.left]):
            for _, part in _split(answer, rows, [month.name]):
                yield answer.id, part

    def _merge(self, month: Month, batch: _Batch, waiting: _Waiting | None) -> Rows:
        """The rows of a batch of series, those of a month and of what waits for it."""
        import numpy as np

        from copper_cli.archive.arrays import lay_over

        found = waiting
        if found is None:
            found = dict(self._load_month(month, batch.answers))
        layers = []
        codes = {key: code for code, key in enumerate(batch.keys)}
        if sum(batch.counts):
            rows = read_batch(self._connect(), month, month.file(self._path), batch)
            rows.codes = np.repeat(np.arange(len(batch.counts)), batch.counts)
            layers.append(rows)
        for answer in batch.answers:
            part = found.get(answer.id)
            if part is not None:
                part.codes = np.full(len(part), codes[_about(answer.key)], np.int64)
                layers.append(part)
        return lay_over(layers, is_instants=not month.granularity)

    def _settle(self, temporary: Path) -> tuple[str, int]:
        """Have a file on the disk; its digest and size."""
        with open(temporary, "rb") as file:  # noqa: PTH123
            os.fchmod(file.fileno(), 0o600)
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
                        f" TO {quote(temporary)} {_FORMAT}",
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
            db.execute(
                "INSERT OR REPLACE INTO months VALUES (?, ?, ?, ?, ?, ?, ?)",
                (month.kind, month.granularity, month.name, sha256, size, count, int(time.time())),
            )
            gone = _finish(month, answers, queues)
            db.executemany("DELETE FROM answers WHERE id = ?", ((one.id,) for one in gone))
            db.execute("DELETE FROM notes WHERE name = ?", (_INTENT + str(month),))
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

    keys: Sequence[tuple[str, str]]
    """Subject and grid of each."""
    counts: Sequence[int]
    """Rows of each in the file."""
    answers: Sequence[_Answer]
    """What waits for them."""


def _about(key: SeriesKey) -> tuple[str, str]:
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


def _batch(counts: Mapping[tuple[str, str], int], answers: Sequence[_Answer]) -> list[_Batch]:
    """Series in order, no more at a time than fit into memory; all of a meter together."""
    waiting: dict[tuple[str, str], list[_Answer]] = {}
    for answer in answers:
        if answer.rows:
            waiting.setdefault(_about(answer.key), []).append(answer)
    batches: list[list[tuple[str, str]]] = [[]]
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
    from copper_cli.archive.arrays import find_starts, fixed_step

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


def noted_digests(db: sqlite3.Connection, month: Month) -> list[str]:
    """Which digests the file of a month may have: that noted, and that of one just put there."""
    found = db.execute(
        "SELECT sha256 FROM months WHERE kind = ? AND granularity = ? AND month = ?",
        (month.kind, month.granularity, month.name),
    ).fetchall()
    found += db.execute("SELECT value FROM notes WHERE name = ?", (_INTENT + str(month),))
    return [digest for (digest,) in found]


def count_series(
    duck: duckdb.DuckDBPyConnection, file: Path, kind: str
) -> dict[tuple[str, str], int]:
    """How many rows of each series a file has: by subject and grid, in the order of the file."""
    grid = "''" if kind in ("readings", "grid") else "grid"
    found = duck.execute(
        f"SELECT {id_column(kind)}, {grid}, count(*) FROM read_parquet({exact(file)}) GROUP BY ALL"  # noqa: S608
    ).fetchall()
    return {(subject, grid): count for subject, grid, count in sorted(found)}


def read_batch(duck: duckdb.DuckDBPyConnection, month: Month, file: Path, batch: _Batch) -> Rows:
    """The rows of some series of a file, in its order."""
    from copper_cli.archive.arrays import shape_of

    shape = shape_of(month.kind)
    columns = select_numbers(shape, month.granularity, month.kind)
    found = duck.execute(
        f"SELECT {columns} FROM read_parquet({exact(file)})"  # noqa: S608
        f" WHERE {id_column(month.kind)} BETWEEN ? AND ?",
        [batch.keys[0][0], batch.keys[-1][0]],
    ).fetchnumpy()
    return rows_from(found, shape, month.kind, month.granularity)


def _register(duck: duckdb.DuckDBPyConnection, month: Month, batch: _Batch, rows: Rows) -> None:
    """Let DuckDB see rows under the name `batch`."""
    import numpy as np

    from copper_cli.archive.arrays import count_within

    def names(which: int) -> Any:
        texts = np.empty(len(batch.keys), object)
        texts[:] = [key[which] for key in batch.keys]
        return texts[rows.codes]

    found: dict[str, Any] = {"id": names(0), "t": rows.times}
    for name, column in rows.numbers.items():
        if column is not None:
            found["actual_float" if name == "actual" else name] = column
    for name in ("actual", "integers", "starts"):
        column = getattr(rows, name)
        if column is not None:
            found[name] = column
    if month.granularity and len({grid for _, grid in batch.keys}) > 1:
        found["grid"] = names(1)
    if month.kind == "readings":
        found["seq"] = count_within(rows)
    duck.register("batch", found)


def _select(month: Month, rows: Rows, batch: _Batch) -> str:
    """The rows of `batch` as a file has them. It keeps their order: no join, no filter."""
    from copper_cli.archive.arrays import fixed_step, shape_of

    shape = shape_of(month.kind)

    def number(name: str) -> str:
        return "NULL::DOUBLE" if rows.numbers[name] is None else name

    def actual() -> list[str]:
        whole = "NULL::BIGINT" if rows.actual is None else f"nullif(actual, {_NO_INTEGER})"
        part = "NULL::DOUBLE" if rows.numbers["actual"] is None else "actual_float"
        return [f"{whole} AS actual", f"{part} AS actual_float"]

    integers = "0::UTINYINT" if rows.integers is None else "integers"
    found = [f"id AS {id_column(month.kind)}"]
    if month.granularity:
        start = "starts" if rows.starts is not None else f"t - {fixed_step(month.granularity)}"
        found += [f"make_timestamptz(({start}) * {US}) AS start"]
        found += [f'make_timestamptz(t * {US}) AS "end"']
        found += [f"{number(name)} AS {name}" for name in shape.names if name != "actual"]
        grids = {grid for _, grid in batch.keys}
        grid = quote(grids.pop()) if len(grids) == 1 else "grid"
        found += [*actual(), f"{integers} AS integers", f"{grid} AS grid"]
        return f"SELECT {', '.join(found)} FROM batch"  # noqa: S608 - names of columns
    found += ["make_timestamptz(t) AS time"]
    for name in shape.names:
        found += actual() if name == "actual" else [f"{number(name)} AS {name}"]
    found += [f"{integers} AS integers"]
    if month.kind == "readings":
        found += ["seq::USMALLINT AS seq"]
    return f"SELECT {', '.join(found)} FROM batch"  # noqa: S608


# Reading


_Signature = tuple[tuple[str, int, int, int], ...]
"""Which files there are, and what tells one from another that takes its name."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What was read ahead."""

    first: int
    last: int
    """Between which times."""
    signature: _Signature
    """Of which files."""
    places: Mapping[SeriesKey, tuple[int, int]]
    """Where the rows of each series begin and end."""
    rows: Rows


class Published:
    """The published rows of an archive. Threads may share it."""

    def __init__(self, archive: Archive) -> None:
        self._path = archive.path
        self._lock = threading.RLock()
        self._duck: duckdb.DuckDBPyConnection | None = None
        self._expected: Sequence[SeriesKey] = ()
        self._places: Mapping[SeriesKey, int] = {}
        self._ahead: _Ahead | None = None
        self._rows_each = 0.0

    def expect(self, keys: Sequence[SeriesKey]) -> None:
        """The rows of these will be asked for, in this order.

        Many are then read at a time: quickest where they are in the order of their ids.
        """
        with self._lock:
            self._expected = tuple(keys)
            self._places = {key: place for place, key in enumerate(self._expected)}
            self._ahead = None
            self._rows_each = 0.0

    def rows(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Series]:
        """Interval rows from one instant to another, both included, in ascending pieces."""
        for times, (energy, power, value, actual) in self._pieces(key, start_s, end_s):
            yield Series(times, energy, power, value, actual, None)

    def instants(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Instants]:
        """Readings from one instant up to, not including, another, in ascending pieces."""
        for times, numbers in self._pieces(key, start_s * US, end_s * US - 1):
            yield Instants(times, *numbers)

    def close(self) -> None:
        """Give all files back."""
        with self._lock:
            self._ahead = None
            if self._duck is not None:
                self._duck.close()
                self._duck = None

    def _pieces(
        self, key: SeriesKey, first: int, last: int
    ) -> Iterator[tuple[list[int], tuple[list[Number], ...]]]:
        from copper_cli.archive.arrays import plain_columns, shape_of

        shape = shape_of(key.kind)
        for rows in self._find(key, first, last):
            for start in range(0, len(rows), PIECE_ROWS):
                piece = rows.pick(slice(start, start + PIECE_ROWS))
                yield piece.times.tolist(), plain_columns(piece, shape)

    def _find(self, key: SeriesKey, first: int, last: int) -> Iterator[Rows]:
        """The rows of a series between two times, both included, some months at a time."""
        if key in self._places:
            found = self._from_ahead(key, first, last)
            if found is not None:
                yield found
                return
        for names in self._chunks(key, first, last):
            found = self._read([key], names, first, last)[1]
            if len(found):
                yield found

    def _chunks(self, key: SeriesKey, first: int, last: int) -> list[list[str]]:
        """The months to be looked at, as many at a time as fit into memory."""
        names = self._months(key, first, last)
        at_once = max(1, CHUNK_ROWS // _rows_a_month(key.granularity))
        return [names[at : at + at_once] for at in range(0, len(names), at_once)]

    def _months(self, key: SeriesKey, first: int, last: int) -> list[str]:
        """The published months that may hold rows between two times."""
        names = sorted(list_months(self._path, key.kind, key.granularity))
        if not names:
            return []
        unit = 1 if key.granularity else US
        low = max(first // unit, month_span(names[0])[0])
        high = min(last // unit, month_span(names[-1])[1] + _LONGEST_S)
        wanted = set(months_of_ends(low, high, key.granularity)) if low <= high else set()
        return [name for name in names if name in wanted]

    # Many series at a time

    def _from_ahead(self, key: SeriesKey, first: int, last: int) -> Rows | None:
        """What was read ahead of a series, read now where it was not; None where it is too much."""
        with self._lock:
            ahead = self._ahead
            if ahead is None or not self._serves(ahead, key, first, last):
                ahead = self._ahead = self._read_ahead(key, first, last)
            if ahead is None:
                return None
        start, end = ahead.places.get(key, (0, 0))
        times = ahead.rows.times[start:end]
        low, high = times.searchsorted(first), times.searchsorted(last, "right")
        return ahead.rows.pick(slice(start + int(low), start + int(high)))

    def _serves(self, ahead: _Ahead, key: SeriesKey, first: int, last: int) -> bool:
        if key not in ahead.places or first < ahead.first or last > ahead.last:
            return False
        names = self._months(key, ahead.first, ahead.last)
        return self._signature(key, names) == ahead.signature

    def _read_ahead(self, key: SeriesKey, first: int, last: int) -> _Ahead | None:
        margin = _MARGIN_S * (1 if key.granularity else US)
        first, last = first - margin, last + margin
        names = self._months(key, first, last)
        keys = self._next_keys(key, len(names))
        if len(keys) < 2:
            return None
        signature, rows = self._read(keys, names, first, last)
        self._rows_each = max(1.0, len(rows) / len(keys))
        assert rows.codes is not None
        bounds = rows.codes.searchsorted(range(len(keys) + 1)).tolist()
        places = {one: (bounds[at], bounds[at + 1]) for at, one in enumerate(keys)}
        return _Ahead(first, last, signature, places, rows)

    def _next_keys(self, key: SeriesKey, months: int) -> list[SeriesKey]:
        """The series that are asked for next, as many as fit into memory."""
        each = self._rows_each or max(1, months) * _rows_a_month(key.granularity)
        count = int(CHUNK_ROWS // each)
        start = self._places[key]
        found = self._expected[start : start + count]
        alike = (one for one in found if _kind_of(one) == _kind_of(key))
        return list(dict.fromkeys(alike))

    # Files

    def _signature(self, key: SeriesKey, names: Sequence[str]) -> _Signature:
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                one = Month(key.kind, key.granularity, name).file(self._path).stat()
                found.append((name, one.st_ino, one.st_size, one.st_mtime_ns))
        return tuple(found)

    def _read(
        self, keys: Sequence[SeriesKey], names: Sequence[str], first: int, last: int
    ) -> tuple[_Signature, Rows]:
        """The rows of series of one kind, by series and time, and of which files they are.

        DuckDB opens a file more than once: where another took its name meanwhile it is read again.
        """
        folder = kind_folder(self._path, keys[0].kind, keys[0].granularity)
        with local_errors(folder, "read"):
            for left in reversed(range(_READ_TRIES)):
                before = self._signature(keys[0], names)
                try:
                    with duck_errors(folder, "read"):
                        rows = self._query(keys, [about[0] for about in before], first, last)
                except LocalError:
                    if self._signature(keys[0], names) == before or not left:
                        raise
                    continue
                if self._signature(keys[0], names) == before:
                    return before, rows
        raise LocalError(
            f"{clean(str(folder))} is being written all the time; run this again later."
        )

    def _query(
        self, keys: Sequence[SeriesKey], names: Sequence[str], first: int, last: int
    ) -> Rows:
        import numpy as np

        from copper_cli.archive.arrays import empty_rows, put_in_order, shape_of

        kind, granularity = _kind_of(keys[0])
        shape = shape_of(kind)
        if not names:
            return empty_rows(shape)
        files = ", ".join(exact(Month(kind, granularity, name).file(self._path)) for name in names)
        columns = select_numbers(shape, granularity, kind)
        unit = US if granularity else 1
        where = f"{time_column(kind)} BETWEEN make_timestamptz(?) AND make_timestamptz(?)"
        bounds: list[Any] = [max(first * unit, -_FAR_US), min(last * unit, _FAR_US)]
        subjects = [key.subject for key in keys]
        with self._lock:
            duck = self._duck = self._duck or connect()
            if len(keys) == 1:
                where += f" AND {id_column(kind)} = ?"
                bounds.append(subjects[0])
                if granularity:
                    where += " AND grid = ?"
                    bounds.append(keys[0].grid)
                source, code = f"read_parquet([{files}])", ""
            else:
                where += f" AND {id_column(kind)} BETWEEN ? AND ?"
                bounds += [min(subjects), max(subjects)]
                wanted = {
                    "subject": np.array(subjects, object),
                    "its_grid": np.array([key.grid for key in keys], object),
                    "code": np.arange(len(keys)),
                }
                duck.register("wanted", wanted)
                on = f"{id_column(kind)} = subject"
                on += " AND grid = its_grid" if granularity else ""
                source, code = f"read_parquet([{files}]) JOIN wanted ON {on}", "code, "
            order = "seq, " if kind == "readings" else ""
            query = f"SELECT {order}{code}{columns} FROM {source} WHERE {where}"  # noqa: S608
            found = duck.execute(query, bounds).fetchnumpy()
        rows = rows_from(found, shape, kind, granularity)
        rows.codes = found["code"] if code else np.zeros(len(rows), np.int64)
        return put_in_order(rows, found.get("seq"))


PIECE_ROWS = 50_000
"""No piece has more."""
_MARGIN_S = 2 * DAY_S
"""Read ahead on both sides: the days of meters in other zones begin at other hours."""
_LONGEST_S = 33 * DAY_S
_FAR_US = 1 << 57


def _kind_of(key: SeriesKey) -> tuple[str, str]:
    return key.kind, key.granularity


def _rows_a_month(granularity: str) -> int:
    """How many rows of a series a month has at most; of readings a guess."""
    return 31 * DAY_S // bucket_s(granularity) if granularity else 31 * 24 * 4


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
