"""Whether an archive is what was once written to it, and what can be done where it is not.

What is lost is told as never asked, so that the next run fetches it: of one file no more than the
spans that were in it.
"""

from __future__ import annotations

import secrets
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from copper_cli.archive import coverage as ranges
from copper_cli.archive import landing
from copper_cli.archive.columns import Block, BodyError, decode
from copper_cli.archive.keys import US, Covered, SeriesKey, Span, join_spans
from copper_cli.archive.months import (
    FOLDERS,
    TEMPORARY,
    Month,
    find_files,
    find_start,
    fixed_step,
    month_bounds,
    phase_at,
)
from copper_cli.archive.parquet import connect, count_rows, duck_errors, find_fault
from copper_cli.archive.partitions import (
    drop_month,
    find_leftovers,
    note_month,
    noted_digests,
    publish_locked,
    remove_leftovers,
    writer_lock,
)
from copper_cli.buckets import DAY_S
from copper_cli.files.opening import digest_file
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.text import clean

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive import Archive

What = Literal[
    "landing", "month", "unlisted", "answer", "coverage", "rows", "sum", "leftover", "stranger"
]
_SET_ASIDE = "set-aside-"
_FAR_S = 1 << 33
_TRIES = 5
_REGISTER_STEP = 0.02
_PLACE = 0.00005
_SHARE = 0.01
"""The cloud takes sums from registers of two decimals, and rounds rows: a hundredth of what moved
is let pass, the step of a register, and half the last place of each row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    what: What
    """Of which kind it is."""
    where: str
    """The file, or the series."""
    text: str
    """What is wrong, in a sentence."""
    mended: str | None = None
    """What was done about it; None where nothing was."""


def check(archive: Archive, *, repair: bool) -> list[Finding]:
    """Look at all that an archive holds, and mend with `repair` what can be.

    Waits for whoever writes months. Raises LocalError where an archive cannot be read at all.
    """
    with writer_lock(archive.path, wait=True):
        checker = _Checker(archive, repair)
        try:
            found = [
                *checker.check_landing(),
                *checker.check_leftovers(),
                *checker.check_answers(),
                *checker.check_months(),
                *checker.check_strangers(),
            ]
            if repair:
                publish_locked(archive)
            return [*found, *checker.check_series()]
        finally:
            checker.close()


class _ChangedError(Exception):
    """Another run has changed a series since it was looked at."""


class _Checker:
    def __init__(self, archive: Archive, repair: bool) -> None:
        self._archive = archive
        self._path = archive.path
        self._repair = repair
        self._duck: duckdb.DuckDBPyConnection | None = None
        self._unread: set[int | tuple[str, str]] = set()
        """Series, and kinds with their granularity, of which rows cannot be looked at."""
        self._at = 0
        """The version of the series that is looked at."""

    def close(self) -> None:
        if self._duck is not None:
            self._duck.close()

    # The landing

    def check_landing(self) -> Iterator[Finding]:
        """Whether SQLite finds its file sound."""
        where = str(self._path / "landing.sqlite")
        said = self._ask_sqlite()
        if said is None:
            return
        mended = None
        if self._repair:
            with self._archive.outside() as db:
                db.execute("REINDEX")
            mended = "Its indexes were made anew." if self._ask_sqlite() is None else None
        yield Finding("landing", where, f"SQLite says: {clean(said)}.", mended)

    def _ask_sqlite(self) -> str | None:
        with self._archive.reading() as db:
            said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        return None if said == "ok" else str(said).splitlines()[-1]

    def check_leftovers(self) -> Iterator[Finding]:
        """What was left by runs that were killed."""
        with local_errors(self._path, "read"):
            found = find_leftovers(self._path)
        if self._repair:
            remove_leftovers(self._path)
        mended = "It was removed." if self._repair else None
        for path in found:
            yield Finding("leftover", str(path), "A run that was killed left it.", mended)

    def check_answers(self) -> Iterator[Finding]:
        """Whether the rows that wait can be read."""
        with self._archive.reading() as db:
            last = db.execute("SELECT coalesce(max(id), 0) FROM answers").fetchone()[0]
        at = 0
        while at < last:  # one after the other: others may land meanwhile
            with self._archive.reading() as db:
                row = db.execute(
                    "SELECT id, series, start_s, end_s, rows, pending, body FROM answers"
                    " WHERE id > ? ORDER BY id LIMIT 1",
                    (at,),
                ).fetchone()
            if row is None:
                break
            at, series, start_s, end_s, rows, pending, body = row
            if _count(body) != rows:
                yield self._mend_answer(at, series, (start_s, end_s), bool(pending))
        yield from self._check_edges()

    def _mend_answer(self, answer: int, series: int, span: Span, pending: bool) -> Finding:
        key = self._key(series)
        where, mended = _name(key), None
        if not self._repair:
            self._unread.add(series)
        else:
            with self._archive.transaction() as db:
                db.execute("DELETE FROM answers WHERE id = ?", (answer,))
                if not pending:
                    _unask(db, key, series, span, failed=True)
            mended = "It was removed; the next run asks for its span again."
        text = f"An answer in the landing cannot be read ({_times(span)})."
        return Finding("answer", where, text, mended)

    def _check_edges(self) -> Iterator[Finding]:
        with self._archive.reading() as db:
            edges = db.execute("SELECT series, end_s, body FROM edges").fetchall()
        for series, end_s, body in edges:
            if _count(body) == 1:
                continue
            mended = None
            if self._repair:
                with self._archive.transaction() as db:
                    db.execute("DELETE FROM edges WHERE series = ? AND end_s = ?", (series, end_s))
                    _unask(db, self._key(series), series, (end_s, end_s + 1), failed=True)
                mended = "It was removed; the next run asks for its span again."
            else:
                self._unread.add(series)
            text = f"The row at the start of an answer cannot be read ({_time(end_s)})."
            yield Finding("answer", _name(self._key(series)), text, mended)

    # Months

    def check_months(self) -> Iterator[Finding]:
        """Whether each published file is the one that was written."""
        with self._archive.reading() as db:
            found = db.execute("SELECT kind, granularity, month, sha256, rows FROM months")
            noted = {Month(*row[:3]): (row[3], row[4]) for row in found}
        with local_errors(self._path, "read"):
            files = dict(find_files(self._path))
        for month in sorted(noted.keys() | files.keys()):
            finding = self._check_month(month, *noted.get(month, (None, -1)))
            if finding is not None:
                yield finding
                if finding.mended is None:
                    self._unread.add((month.kind, month.granularity))

    def _check_month(self, month: Month, noted: str | None, rows: int) -> Finding | None:
        file = month.file(self._path)
        try:
            sha256 = digest_file(file)
        except FileNotFoundError:
            return self._lose(month, "The file is gone.")
        except OSError as error:
            return self._lose(month, f"It cannot be read: {error.strerror or error}.")
        if sha256 != noted:
            with self._archive.reading() as db:
                is_ours = sha256 in noted_digests(db, month)
            if is_ours:  # a run was killed just when it had given it its name
                if self._repair:
                    self._adopt(month, sha256)
                return None
            if noted is not None:
                return self._lose(month, "It is not what was written: its digest is another.")
        with duck_errors(file, "read"):
            fault = find_fault(self._connect(), file, month, rows)
        if noted is None:
            return self._take_in(month, sha256, fault)
        return self._lose(month, f"It is wrong: {fault}.") if fault else None

    def _lose(self, month: Month, text: str) -> Finding:
        """A month that is not what was written: what was in it is asked for again."""
        file, mended = month.file(self._path), None
        if self._repair:
            # The file goes first: were this to end in between, it is seen to be missing.
            self._set_aside(file)
            with self._archive.transaction() as db:
                drop_month(db, month)
                count = _lose_rows(db, month)
            mended = f"The next run asks again for the month of {count:,} series."
        return Finding("month", str(file), text, mended)

    def _take_in(self, month: Month, sha256: str, fault: str | None) -> Finding:
        """A file that nobody has noted."""
        file, mended = month.file(self._path), None
        text = "Nobody has noted this file" + (f", and {fault}." if fault else ".")
        if self._repair and fault:
            self._set_aside(file)
            mended = "It was set aside."
        elif self._repair:
            self._adopt(month, sha256)
            mended = "It was taken in."
        return Finding("unlisted", str(file), text, mended)

    def _adopt(self, month: Month, sha256: str) -> None:
        file = month.file(self._path)
        with duck_errors(file, "read"):
            count = count_rows(self._connect(), file)
        with self._archive.transaction() as db:
            note_month(db, month, sha256, file.stat().st_size, count)

    def _set_aside(self, path: Path) -> None:
        """Give a file a name that no engine takes for Parquet; it is not used any more."""
        name = f"{_SET_ASIDE}{path.name}-{secrets.token_hex(4)}{TEMPORARY}"
        with local_errors(path):
            try:
                path.rename(path.with_name(name))
            except FileNotFoundError:
                return
            sync_folder(path.parent)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if self._duck is None:
            self._duck = connect()
        return self._duck

    def check_strangers(self) -> Iterator[Finding]:
        """Whether a plain read of a folder would find files that are not ours."""
        with local_errors(self._path, "read"):
            ours = {file for _, file in find_files(self._path)}
            found = [
                path
                for folder in FOLDERS.values()
                for path in sorted((self._path / folder).glob("**/*.parquet"))
                if path not in ours
            ]
        for path in found:
            if self._repair:
                self._set_aside(path)
            mended = "It was set aside." if self._repair else None
            text = "It is not of this archive, and who reads the folder reads it too."
            yield Finding("stranger", str(path), text, mended)

    # Rows against what is said of them

    def check_series(self) -> Iterator[Finding]:
        """Whether the rows are those that coverage and sums tell of."""
        with self._archive.reading() as db:
            rows = db.execute(
                "SELECT id, subject, kind, granularity, grid FROM series"
                " ORDER BY kind, granularity, subject, grid"
            ).fetchall()
            created = _read_created(db)
        for about, group in groupby(rows, lambda row: row[2:4]):
            if about in self._unread:
                continue
            series = {row[0]: SeriesKey(*row[1:]) for row in group if row[0] not in self._unread}
            self._archive.expect(list(series.values()))
            for number, key in series.items():
                yield from self._check_still(number, key, created.get(key.subject))

    def _check_still(self, number: int, key: SeriesKey, created_s: int | None) -> Sequence[Finding]:
        """What is wrong with a series, looked at again where another run changes it meanwhile."""
        for _ in range(_TRIES):
            self._at = self._version(number)
            try:
                if key.is_instants:
                    found = list(self._check_instants(number, key))
                else:
                    found = list(self._check_rows(number, key, created_s))
            except _ChangedError:
                continue
            if not found or self._version(number) == self._at:
                return found
        return []  # whoever changes it all the time has just asked for it

    def _version(self, series: int) -> int:
        with self._archive.reading() as db:
            row = db.execute("SELECT version FROM series WHERE id = ?", (series,)).fetchone()
        return int(row[0]) if row else -1

    def _check_rows(self, number: int, key: SeriesKey, created_s: int | None) -> Iterator[Finding]:
        times: list[int] = []
        amounts: list[float] = []
        is_sorted = True
        for piece in self._archive.rows(key, 0, _FAR_S):
            is_sorted &= not times or times[-1] < piece.times_s[0]
            is_sorted &= all(a < b for a, b in pairwise(piece.times_s))
            for time_s, energy in zip(piece.times_s, piece.energy, strict=True):
                if energy is not None:
                    times.append(time_s)
                    amounts.append(energy)
        if not is_sorted:
            yield Finding("rows", _name(key), "Its rows are out of order or there twice.")
            return
        with self._archive.reading() as db:
            covered = landing.covered_near(db, number, (0, _FAR_S))
            sums = db.execute(
                "SELECT start_s, end_s, sum FROM sums WHERE series = ? AND sum IS NOT NULL",
                (number,),
            ).fetchall()
        since_s = created_s if created_s is not None else times[0] - 1 if times else _FAR_S
        yield from self._check_covered(number, key, covered, times, since_s)
        yield from self._check_sums(key, covered, sums, times, amounts)

    def _check_covered(
        self,
        number: int,
        key: SeriesKey,
        covered: Sequence[Covered],
        times: Sequence[int],
        since_s: int,
    ) -> Iterator[Finding]:
        """Amounts that are said to be known and are not there, and the other way round."""
        lacking = [
            span
            for one in covered
            if one.state == "known"
            for span in _find_lacking(key, one, times, since_s)
        ]
        told = [one for one in covered if one.state in ("known", "failed")]
        beyond = _find_beyond(key, times, told)
        if lacking:
            mended = self._ask_again(number, key, lacking, failed=False)
            text = f"Amounts that were known are not there ({_spans(lacking)})."
            yield Finding("coverage", _name(key), text, mended)
        if beyond:
            mended = self._ask_again(number, key, beyond, failed=True)
            text = f"There are amounts that nobody is known to have asked for ({_spans(beyond)})."
            yield Finding("coverage", _name(key), text, mended)

    def _check_sums(
        self,
        key: SeriesKey,
        covered: Sequence[Covered],
        sums: Iterable[tuple[int, int, float]],
        times: Sequence[int],
        amounts: Sequence[float],
    ) -> Iterator[Finding]:
        """The cloud's sums of what is known whole, next to the rows'."""
        known = [(a, b) for a, b, state in ranges.states(covered) if state == "known"]
        net = list(accumulate(amounts, initial=0.0))
        gross = list(accumulate(map(abs, amounts), initial=0.0))
        for start_s, end_s, total in sums:
            if not any(a <= start_s and end_s <= b for a, b in known):
                continue
            first, last = bisect_right(times, start_s), bisect_right(times, end_s)
            slack = (last - first) * _PLACE + _REGISTER_STEP
            slack += _SHARE * (gross[last] - gross[first]) + 1e-6
            own = net[last] - net[first]
            if last > first and abs(total - own) > slack:
                text = (
                    f"The cloud's own sum is {total:g}, that of the rows {own:.10g} "
                    f"({_times((start_s, end_s))}); --fresh asks for them again."
                )
                yield Finding("sum", _name(key), text)

    def _check_instants(self, number: int, key: SeriesKey) -> Iterator[Finding]:
        """Readings that nobody is known to have asked for."""
        with self._archive.reading() as db:
            covered = landing.covered_near(db, number, (0, _FAR_S))
        spans: list[Span] = []
        for piece in self._archive.instants(key, 0, _FAR_S):
            spans += _find_beyond(key, [time_us // US + 1 for time_us in piece.times_us], covered)
        if spans:
            mended = self._ask_again(number, key, spans, failed=True)
            text = f"There are readings that nobody is known to have asked for ({_spans(spans)})."
            yield Finding("coverage", _name(key), text, mended)

    def _ask_again(
        self, number: int, key: SeriesKey, spans: Sequence[Span], *, failed: bool
    ) -> str | None:
        if not self._repair:
            return None
        with self._archive.transaction() as db:
            if self._version(number) != self._at:
                raise _ChangedError
            for span in spans:
                if failed:
                    _tell_failed(db, key, number, span)
                else:
                    _unask(db, key, number, span)
            self._at = self._version(number)
        return "The next run asks for them again."

    def _key(self, series: int) -> SeriesKey:
        with self._archive.reading() as db:
            row = db.execute(
                "SELECT subject, kind, granularity, grid FROM series WHERE id = ?", (series,)
            ).fetchone()
        return SeriesKey(*row) if row else SeriesKey("?", "usage")


# What is lost


def _lose_rows(db: sqlite3.Connection, month: Month) -> int:
    """Tell what was in a month as never asked, but for what still waits; of how many series."""
    found = db.execute(
        "SELECT id, subject, grid FROM series WHERE kind = ? AND granularity = ?",
        (month.kind, month.granularity),
    ).fetchall()
    count = 0
    for number, subject, grid in found:
        key = SeriesKey(subject, month.kind, month.granularity, grid)
        span = month_bounds(month.kind, month.granularity, grid, month.name)
        waiting = list(_find_waiting(db, key, number, span))
        # Of readings nobody can tell whether those that wait are all.
        failed = key.is_instants and bool(waiting)
        kept = [] if key.is_instants else waiting
        count += _unask(db, key, number, span, kept=kept, failed=failed)
    return count


def _unask(
    db: sqlite3.Connection,
    key: SeriesKey,
    number: int,
    span: Span,
    *,
    kept: Sequence[Span] = (),
    failed: bool = False,
) -> bool:
    """Tell that nobody asked for a span, but for what is kept; True where that is new.

    `failed`: that it failed instead, where rows of it are held. Where the cloud had nothing there
    is nothing to lose. What it added up falls.
    """
    ruler = ranges.ruler_of(key)
    before = landing.covered_near(db, number, span)
    inside = ranges.clip(before, span, ruler)
    now = ranges.without(before, span, ruler)
    lost = [one for one in inside if one.state in ("known", "null")]
    if not lost:
        return False
    now += [one for one in inside if one.state not in ("known", "null")]
    for one in lost:
        now += [part for stay in kept for part in ranges.clip([one], stay, ruler)]
        if failed:
            now.append(Covered(one.start_s, one.end_s, "failed", one.asked_s, one.buckets))
    landing.replace_coverage(db, number, before, ranges.join(now))
    db.execute(
        "DELETE FROM sums WHERE series = ? AND start_s < ? AND end_s > ?",
        (number, span[1], span[0]),
    )
    landing.move(db, number, [(span[0], span[1] + 1)])
    return True


def _tell_failed(db: sqlite3.Connection, key: SeriesKey, number: int, span: Span) -> None:
    """Tell of a span of which rows are held that it is to be asked for again."""
    ruler = ranges.ruler_of(key)
    before = landing.covered_near(db, number, span)
    count = 0 if key.is_instants else ruler.count(span)
    now = ranges.put(before, [Covered(*span, "failed", 0, count)], ruler)
    landing.replace_coverage(db, number, before, now)
    landing.move(db, number, [(span[0], span[1] + 1)])


def _find_waiting(db: sqlite3.Connection, key: SeriesKey, number: int, span: Span) -> list[Span]:
    """The spans within one of which rows wait in the landing."""
    found = []
    for layer in landing.layers_of(db, number, span[0], span[1]):
        (body,) = db.execute("SELECT body FROM answers WHERE id = ?", (layer.id,)).fetchone()
        block = _read_body(body) or Block((), ())
        times = (time // US + 1 if key.is_instants else time for time in block.times)
        found += [_bucket(key, at_s) for at_s in times if span[0] < at_s <= span[1]]
    return join_spans(found)


def _read_body(body: bytes) -> Block | None:
    try:
        return decode(body)
    except BodyError:
        return None


def _count(body: bytes) -> int | None:
    block = _read_body(body)
    return None if block is None else len(block.times)


# Spans


def _bucket(key: SeriesKey, end_s: int) -> Span:
    """The bucket that ends at an instant; for readings the day of UTC that it lies in."""
    if key.is_instants:
        start_s = end_s - 1 - (end_s - 1) % DAY_S
        return start_s, start_s + DAY_S
    step = fixed_step(key.granularity)
    start_s = end_s - step if step else find_start(key.granularity, key.grid, end_s)
    return start_s, end_s


def _find_lacking(
    key: SeriesKey, known: Covered, times: Sequence[int], since_s: int
) -> Iterator[Span]:
    """Where a range that is known holds no amount. Up to `since_s` there was no meter."""
    first, last = bisect_right(times, known.start_s), bisect_right(times, known.end_s)
    step = fixed_step(key.granularity)
    if step is None:  # where they end is not told by their length
        if since_s <= known.start_s and last - first < known.buckets:
            yield known.start_s, known.end_s
        return
    at_s = known.start_s
    if since_s > at_s:
        at_s = since_s - (since_s - phase_at(key.grid, step, since_s)) % step
        first = bisect_right(times, at_s)
    if at_s >= known.end_s or last - first >= ranges.ruler_of(key).count((at_s, known.end_s)):
        return
    for time_s in times[first:last]:
        if time_s - at_s > step:
            yield at_s, time_s - step
        at_s = time_s
    if known.end_s - at_s >= step:
        yield at_s, known.end_s


def _find_beyond(key: SeriesKey, times: Sequence[int], told: Sequence[Covered]) -> list[Span]:
    """The buckets with rows of which no range tells; these are ascending."""
    ends = [one.end_s for one in told]
    found = []
    for time_s in times:
        place = bisect_left(ends, time_s)
        if place == len(told) or told[place].start_s >= time_s:
            found.append(_bucket(key, time_s))
    return join_spans(found)


# Words


def _name(key: SeriesKey) -> str:
    words = (key.kind, key.granularity, key.subject, key.grid)
    return clean(" ".join(word for word in words if word))


def _time(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}"


def _times(span: Span) -> str:
    return f"{_time(span[0])} to {_time(span[1])} UTC"


def _spans(spans: Sequence[Span]) -> str:
    more = f" and {len(spans) - 1:,} more" if len(spans) > 1 else ""
    return _times(spans[0]) + more


def _read_created(db: sqlite3.Connection) -> dict[str, int]:
    """When each meter came, as far as lists told."""
    found = db.execute(
        "SELECT id, json_extract(body, '$.created_at') FROM seen WHERE list = 'meter'"
        " ORDER BY last_s"
    )
    return {
        one: int(datetime.fromisoformat(text).timestamp())
        for one, text in found
        if isinstance(text, str)
    }
