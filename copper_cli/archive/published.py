"""The published rows of an archive, read back."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.archive.keys import US, Instants, Number, SeriesKey
from copper_cli.archive.months import (
    FOLDERS,
    Month,
    kind_folder,
    list_months,
    longest_bucket_s,
    month_of,
    month_span,
)
from copper_cli.archive.parquet import (
    connect,
    duck_errors,
    exact,
    id_column,
    rows_from,
    select_numbers,
    time_column,
)
from copper_cli.archive.rows import PIECE_ROWS
from copper_cli.archive.schema import damaged
from copper_cli.buckets import DAY_S, bucket_s
from copper_cli.errors import LocalError
from copper_cli.files.reasons import local_errors
from copper_cli.records import Series
from copper_cli.text import clean

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive import Archive
    from copper_cli.archive.arrays import Rows

CHUNK_ROWS = 1_000_000
"""Rows that are read ahead for series that are asked for one after the other."""
_READ_TRIES = 20
_CHECKED_S = 1.0
"""So long what lies in the folder is believed to be as it was seen."""
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
        self._archive = archive
        self._path = archive.path
        self._lock = threading.RLock()
        self._duck: duckdb.DuckDBPyConnection | None = None
        self._expected: Sequence[SeriesKey] = ()
        self._places: Mapping[SeriesKey, int] = {}
        self._ahead: _Ahead | None = None
        self._rows_each = 0.0
        self._checked_s: dict[tuple[str, str], float] = {}

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
        """The published months that may hold rows between two times.

        Raises LocalError where one of them is gone, or is not the one that was published: rows
        that are lost must not be taken for none.
        """
        self._check_whole(key.kind, key.granularity)
        names = sorted(list_months(self._path, key.kind, key.granularity))
        if not names:
            return []
        unit = 1 if key.granularity else US
        low = max(first // unit, month_span(names[0])[0]) - longest_bucket_s(key.granularity)
        high = min(last // unit, month_span(names[-1])[1])
        begin, end = month_of(low), month_of(high)
        return [name for name in names if begin <= name <= end] if low <= high else []

    def _check_whole(self, kind: str, granularity: str) -> None:
        """LocalError where a month that was published is gone, or another lies in its place."""
        now_s = time.monotonic()
        if now_s - self._checked_s.get((kind, granularity), -_CHECKED_S) < _CHECKED_S:
            return
        for left in reversed(range(_READ_TRIES)):
            wrong = self._find_wrong(kind, granularity)
            if wrong is None:
                self._checked_s[kind, granularity] = now_s
                return
            if left:
                time.sleep(0.05)  # it may just be taking its name
        raise LocalError(damaged(self._path, f"{wrong} is not the file that was published"))

    def _find_wrong(self, kind: str, granularity: str) -> Path | None:
        """A month whose file has not the size that was noted."""
        with self._archive.reading() as db:
            noted = db.execute(
                "SELECT month, bytes FROM months WHERE kind = ? AND granularity = ?",
                (kind, granularity),
            ).fetchall()
            from copper_cli.archive.partitions import noted_digests

            months = [(Month(kind, granularity, name), size) for name, size in noted]
            sure = [one for one in months if noted_digests(db, one[0])[1] is None]
        for month, size in sure:
            path = month.file(self._path)
            try:
                if path.stat().st_size != size:
                    return path
            except FileNotFoundError:
                return path
        return None

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
        # Text, not paths: this is asked for each series.
        folder = str(kind_folder(self._path, key.kind, key.granularity))
        file = f"{FOLDERS[key.kind]}.parquet"
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                one = os.stat(f"{folder}/month={name}/{file}")  # noqa: PTH116
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
        columns = select_numbers(Month(kind, granularity, ""))
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
        rows = rows_from(found, Month(kind, granularity, ""))
        rows.codes = found["code"] if code else np.zeros(len(rows), np.int64)
        return put_in_order(rows, found.get("seq"))


_MARGIN_S = 2 * DAY_S
"""Read ahead on both sides: the days of meters in other zones begin at other hours."""
_FAR_US = 1 << 57


def _kind_of(key: SeriesKey) -> tuple[str, str]:
    return key.kind, key.granularity


def _rows_a_month(granularity: str) -> int:
    """How many rows of a series a month has at most; of readings a guess."""
    return 31 * DAY_S // bucket_s(granularity) if granularity else 31 * 24 * 4
