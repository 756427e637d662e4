"""The one memory: what the cloud has answered, set down once. Every file is a view of it.

Answers land in an SQLite file, what they say of their span in the same transaction; months are
published from there as Parquet. This package alone knows SQL and DuckDB.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from copper_cli.archive import coverage as ranges
from copper_cli.archive import landing
from copper_cli.archive.columns import Block, BodyError, decode, encode
from copper_cli.archive.keys import (
    US,
    Change,
    Covered,
    Held,
    Instants,
    Landed,
    PendingAnswer,
    SeriesKey,
    Span,
    Stamp,
    State,
    join_spans,
    storable,
)
from copper_cli.archive.rows import (
    INSTANTS_WIDTH,
    INTERVAL_WIDTH,
    GoneError,
    Layer,
    Months,
    Source,
    block_of_instants,
    block_of_series,
    instants_of,
    join,
    pieces,
    read,
    series_of,
)
from copper_cli.archive.schema import FILE_NAME, Database, damaged
from copper_cli.buckets import DAY_S, Grid, bucket_s
from copper_cli.errors import LocalError
from copper_cli.filling import FINAL_S, over_by
from copper_cli.records import Series

__all__ = [
    "Archive",
    "Change",
    "Covered",
    "Held",
    "Instants",
    "Landed",
    "PendingAnswer",
    "SeriesKey",
    "Span",
    "Stamp",
    "State",
    "join_spans",
]

Changed = tuple[int, landing.Row, landing.Row | None]
"""Time, what was held, what is now."""
PUBLISH_ROWS = 1_000_000
"""With more rows than this in the landing a download publishes."""
_STAMPS_AT_ONCE = 1_000
_SINGLY = 32
"""So many series are looked up one by one before all of a kind are."""


class Archive:
    """One archive. Threads may share it; any number of processes may have it open.

    `path` is its folder, `archive_id` what tells it from others. Whatever is landed is on the disk
    when that returns, whole or not at all. Every method may raise LocalError. `wal` as in Database.
    """

    def __init__(
        self, path: Path, *, archive_id: str, temporary: bool = False, wal: bool = True
    ) -> None:
        self.path = path
        self.id = archive_id
        self.is_temporary = temporary
        self.is_forgotten: Callable[[str], bool] = lambda subject: False
        """Of such a subject nothing is set down."""
        self._db = Database(path / FILE_NAME, is_durable=not temporary, wal=wal)
        self._months: Months | None = None
        self._stamps: dict[str, Stamp] = {}
        """Those that are not on the disk yet."""
        self._known_stamps: dict[str, dict[str, Stamp]] = {}
        """By folder, all that are known of its files."""
        self._stamps_lock = threading.Lock()
        self._heads: _Heads | None = None

    def close(self) -> None:
        """Give the files back."""
        try:
            self._flush_stamps()
        finally:
            self._db.close()

    # Landing

    def land(
        self,
        key: SeriesKey,
        span: Span,
        series: Series,
        *,
        buckets: Grid,
        asked_s: float,
        since_s: int | None = None,
    ) -> Landed:
        """Set down the answer to a question for interval rows of a span, and its sum.

        `buckets` tells where they end, at least within the span. Of rows outside only the one at
        the very start is kept, for who asks from there on. Before `since_s` there was no meter:
        buckets that end up to then count as known.
        """
        start_s, end_s = span
        block, at_s = block_of_series(series), int(asked_s)
        edge, block = block.between(start_s, start_s), block.between(start_s + 1, end_s)
        ruler = ranges.ruler_of(key, buckets)
        # A bucket that is not over has the amount of a part: what it will be is not known yet.
        amounts = over_by(at_s, block.times, block.columns[0])
        covered = ranges.survey(block.times, amounts, buckets, span, at_s, since_s)
        answer = landing.Answer(
            span,
            at_s,
            block,
            encode(block) if block.times else b"",
            covered,
            ruler,
            edge if edge.times else None,
            (series.sum_energy,),
            _storable_type(series),
        )
        return self._land(key, answer)

    def land_readings(
        self,
        key: SeriesKey,
        span: Span,
        rows: Instants,
        *,
        asked_s: float,
        unread: int = 0,
        is_doubtful: bool = False,
    ) -> Landed:
        """Set down the answer to a question for the readings of a span.

        `unread`: so many of them came and could not be read. `is_doubtful`: others came that may
        be of this one.
        """
        first_us, last_us = span[0] * US, span[1] * US - 1
        block, at_s = block_of_instants(rows).between(first_us, last_us), int(asked_s)
        answer = landing.Answer(
            span,
            at_s,
            block,
            encode(block) if block.times else b"",
            ranges.survey_instants(
                any(one is not None for column in block.columns for one in column),
                span,
                at_s,
                unread,
                is_doubtful=is_doubtful,
            ),
            ranges.ruler_of(key),
        )
        return self._land(key, answer)

    land_grid = land_readings

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is landed within is on the disk at once, all of it or nothing."""
        with self._db.transaction():
            yield

    def note_sum(self, key: SeriesKey, span: Span, total: float | None, *, asked_s: float) -> None:
        """Keep the cloud's own sum of a span whose rows were landed by themselves."""
        with self._series(key) as (db, number):
            if landing.put_sum(db, number, span, total, int(asked_s)):
                landing.bump(db, number)

    def land_pending(self, key: SeriesKey, span: Span, series: Series, *, asked_s: float) -> None:
        """Set down an answer that is to be put together with others first, as it came."""
        block = block_of_series(series)
        body = encode(block)
        first_s, last_s = (block.times[0], block.times[-1]) if block.times else (None, None)
        with self._series(key) as (db, number):
            db.execute(
                "DELETE FROM answers WHERE series = ? AND pending = 1 AND start_s = ?"
                " AND end_s = ?",
                (number, *span),
            )
            columns = number, *span, int(asked_s), len(block.times), first_s, last_s
            db.execute(
                "INSERT INTO answers (series, start_s, end_s, asked_s, rows, first_s, last_s,"
                " pending, sum, meter_type, body) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)",
                (*columns, series.sum_energy, _storable_type(series), body),
            )

    def pending(self, key: SeriesKey) -> list[PendingAnswer]:
        """The answers that wait for others, in the order of their spans."""
        with self._db.reading() as db:
            found = db.execute(
                "SELECT a.start_s, a.end_s, a.asked_s, a.sum, a.meter_type, a.body"
                " FROM answers AS a JOIN series AS s ON s.id = a.series"
                " WHERE a.pending = 1 AND s.subject = ? AND s.kind = ? AND s.granularity = ?"
                " AND s.grid = ? ORDER BY a.start_s, a.id",
                (key.subject, key.kind, key.granularity, key.grid),
            ).fetchall()
        return [
            PendingAnswer(
                start_s, end_s, asked_s, series_of(self._decode(key, body), total, meter_type)
            )
            for start_s, end_s, asked_s, total, meter_type, body in found
        ]

    def drop_pending(self, key: SeriesKey, span: Span) -> None:
        """Let go the answers that waited within a span."""
        with self._series(key) as (db, number):
            db.execute(
                "DELETE FROM answers WHERE series = ? AND pending = 1 AND start_s >= ?"
                " AND end_s <= ?",
                (number, *span),
            )

    def fail(self, key: SeriesKey, span: Span, asked_s: float) -> None:
        """The question for a span was not answered: what of it is not known has failed."""
        ruler = ranges.ruler_of(key)
        count = 0 if key.is_instants else ruler.count(span, bucket_s(key.granularity))
        failed = Covered(*span, "failed", int(asked_s), count)
        with self._series(key) as (db, number):
            before = landing.covered_near(db, number, span)
            if landing.replace_coverage(db, number, before, ranges.put(before, [failed], ruler)):
                landing.bump(db, number)

    def retract(self, key: SeriesKey, span: Span) -> None:
        """Take back what was landed of a span and is not published, and what is known of it.

        Where months hold some of it, it has failed: never asked would be taken for never held.
        """
        ruler = ranges.ruler_of(key)
        with self._series(key) as (db, number):
            self._retract_rows(db, key, number, span)
            db.execute(
                "DELETE FROM edges WHERE series = ? AND end_s >= ? AND end_s < ?", (number, *span)
            )
            db.execute(
                "DELETE FROM sums WHERE series = ? AND start_s < ? AND end_s > ?",
                (number, span[1], span[0]),
            )
            before = landing.covered_near(db, number, span)
            now = ranges.without(before, span, ruler)
            if self._has_months(db, key, span):
                kept = ranges.clip(before, span, ruler)
                now += [
                    Covered(one.start_s, one.end_s, "failed", one.asked_s, one.buckets)
                    for one in kept
                ]
            landing.replace_coverage(db, number, before, ranges.join(now))
            landing.move(db, number, [(span[0], span[1] + 1)])

    # Questions

    def coverage(self, key: SeriesKey, span: Span) -> list[Covered]:
        """What is known of a span, ascending; nothing is told where nobody ever asked."""
        with self._db.reading() as db:
            found = landing.find_series(db, key)
            covered = landing.covered_near(db, found[0], span) if found else []
        return ranges.clip(covered, span, ranges.ruler_of(key))

    def lacking(
        self,
        key: SeriesKey,
        span: Span,
        *,
        now_s: float,
        recheck: bool = False,
        fresh: bool = False,
    ) -> list[Span]:
        """What of a span the cloud is to be asked for, ascending, neighbours as one.

        Never asked and failed always; what holds no amount where asking again may help, with
        `recheck` in any case; with `fresh` all of it.
        """
        if span[0] >= span[1]:
            return []
        if fresh:
            return [span]
        covered = self.coverage(key, span)
        if key.is_instants and recheck:
            # How many readings there are nobody knows: of the last thirty days more may come.
            covered = ranges.clip(covered, (span[0], int(now_s) - FINAL_S), ranges.ruler_of(key))
        return ranges.lacking(covered, span, ranges.ruler_of(key), now_s=now_s, recheck=recheck)

    def is_whole(self, key: SeriesKey, span: Span) -> bool:
        """True where all buckets of a span hold an amount."""
        return ranges.states(self.coverage(key, span)) == [(*span, "known")]

    def keys_of(self, subject: str, kind: str, granularity: str) -> list[SeriesKey]:
        """The series that are held of a meter, one a grid."""
        with self._db.reading() as db:
            found = db.execute(
                "SELECT grid FROM series WHERE subject = ? AND kind = ? AND granularity = ?"
                " ORDER BY id",
                (storable(subject), kind, granularity),
            ).fetchall()
        return [SeriesKey(subject, kind, granularity, grid) for (grid,) in found]

    def rows(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Series]:
        """Interval rows from one instant to another, both included, in ascending pieces.

        At the very start the row of the bucket before, also where only it was ever sent. Sums are
        not in them.
        """
        edge, meter_type = self._edge(key, start_s)

        def blocks() -> Iterator[Block]:
            found = read(self._source(key), start_s, end_s)
            first = next(found, None)
            if edge is not None and (first is None or first.times[0] != start_s):
                yield edge
            if first is not None:
                yield first
            yield from found

        for block in pieces(blocks()):
            yield series_of(block, None, meter_type)

    def instants(self, key: SeriesKey, start_s: int, end_s: int) -> Iterator[Instants]:
        """Readings from one instant up to, not including, another, in ascending pieces."""
        for block in pieces(read(self._source(key), start_s * US, end_s * US - 1)):
            yield instants_of(block)

    def expect(self, keys: Sequence[SeriesKey]) -> None:
        """The rows of these will be asked for, in this order."""
        with self._db.reading() as db:
            found = db.execute("SELECT DISTINCT kind, granularity FROM months").fetchall()
        published = [key for key in keys if (key.kind, key.granularity) in found]
        if published:
            self._published().expect(published)

    def sum_of(
        self, key: SeriesKey, span: Span
    ) -> tuple[float | None, Literal["cloud", "tiles"]] | None:
        """The cloud's own sum of a span, or what its sums of spans that tile it add up to.

        None where there is no such thing; a sum of None where the cloud gave none.
        """
        with self._db.reading() as db:
            found = landing.find_series(db, key)
            return None if found is None else landing.sum_of(db, found[0], span)

    def find_sum(
        self, subject: str, kind: str, span: Span, *, now_s: float | None = None
    ) -> tuple[SeriesKey, float | None] | None:
        """The cloud's sum of exactly a span, in any granularity in which nothing of it is lacking.

        That is where all is known, or with `now_s` where nothing is to be asked for by then.
        """
        with self._db.reading() as db:
            found = db.execute(
                "SELECT s.granularity, s.grid, u.sum FROM series AS s JOIN sums AS u"
                " ON u.series = s.id WHERE s.subject = ? AND s.kind = ? AND u.start_s = ?"
                " AND u.end_s = ? ORDER BY u.asked_s DESC, s.id",
                (storable(subject), kind, *span),
            ).fetchall()
        for granularity, grid, total in found:
            key = SeriesKey(subject, kind, granularity, grid)
            covered = self.coverage(key, span)
            if now_s is None:
                is_whole = ranges.states(covered) == [(*span, "known")]
            else:
                is_whole = not ranges.lacking(covered, span, ranges.ruler_of(key), now_s=now_s)
            if is_whole:
                return key, total
        return None

    def changes(self, key: SeriesKey, span: Span) -> list[Change]:
        """The rows of a span that had other values before, in the order of their times."""
        with self._db.reading() as db:
            found = landing.find_series(db, key)
            rows = db.execute(
                "SELECT end_s, old, new, old_asked_s, new_asked_s FROM changes WHERE series = ?"
                " AND end_s >= ? AND end_s <= ? ORDER BY end_s, new_asked_s, rowid",
                (
                    found[0] if found else 0,
                    span[0] + (not key.is_instants),
                    span[1] - key.is_instants,
                ),
            ).fetchall()
        return [landing.change_of(*row) for row in rows]

    def state(self, key: SeriesKey, span: Span) -> str:
        """What is held of a span, in a text that `is_at` understands."""
        with self._db.reading() as db:
            number, version = landing.find_series(db, key) or (0, 0)
            mark = landing.mark_of(db, number, span, ranges.ruler_of(key))
        return f"{self.id}:{number}:{version}:{mark}"

    def is_at(self, state: str, key: SeriesKey, span: Span) -> bool:
        """True where what is held of a span is still what it was at a state."""
        archive_id, _, rest = state.partition(":")
        if archive_id != self.id:
            return False
        if self._heads is not None:
            head = self._heads.find(key)
            if head is not None and rest.startswith(head):
                return True
        number, _, rest = rest.partition(":")
        version, _, mark = rest.partition(":")
        with self._db.reading() as db:
            now = landing.find_series(db, key) or (0, 0)
            if number not in (str(now[0]), "0"):
                return False
            if (number, version) == (str(now[0]), str(now[1])):
                return True
            # Something else of the series may have come: to see that takes longer.
            return mark == landing.mark_of(db, now[0], span, ranges.ruler_of(key))

    @contextmanager
    def glance(self) -> Iterator[None]:
        """Within, `is_at` may answer of what was held when it was first asked: many at once.

        For one thread, which lands nothing meanwhile.
        """
        self._heads = _Heads(self._db)
        try:
            yield
        finally:
            self._heads = None

    def held(self, kind: str | None = None) -> Iterator[Held]:
        """How much is known of each series, or of each of a kind."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT s.subject, s.kind, s.granularity, s.grid, c.state, min(c.start_s),"
                " max(c.end_s), sum(c.buckets) FROM coverage AS c JOIN series AS s"
                " ON s.id = c.series WHERE ?1 IS NULL OR s.kind = ?1 GROUP BY s.id, c.state"
                " ORDER BY s.subject, s.kind, s.granularity, s.grid",
                (kind,),
            ).fetchall()
        for about, group in groupby(rows, lambda row: row[:4]):
            found = list(group)
            counts = {state: count for *_, state, _, _, count in found}
            yield Held(
                SeriesKey(*about),
                min(row[5] for row in found),
                max(row[6] for row in found),
                *(counts.get(state, 0) for state in ("known", "null", "absent", "failed")),
            )

    # What is published

    def is_much_waiting(self) -> bool:
        """True where more rows wait than are worth leaving."""
        return self.unpublished() > PUBLISH_ROWS

    def publish(self, *, force: bool) -> list[str]:
        """Publish months where more rows wait than are worth leaving, or in any case.

        Where another run publishes, it is left to that. A line for each month that could not be
        published: its rows stay in the landing.
        """
        if not (force or self.is_much_waiting()):
            return []
        from copper_cli.archive.partitions import publish

        published = publish(self)
        return [] if published is None else published.problems

    def unpublished(self) -> int:
        """Rows that wait in the landing."""
        with self._db.reading() as db:
            found = db.execute("SELECT coalesce(sum(rows), 0) FROM answers WHERE pending = 0")
            return int(found.fetchone()[0])

    # Small things remembered

    def stamp_get(self, path: str) -> Stamp | None:
        """What a file looked like when it was last read whole."""
        path = storable(path)
        folder = path.rpartition(os.sep)[0]
        with self._stamps_lock:
            known = self._known_stamps.get(folder)
            if known is None:
                known = self._known_stamps[folder] = self._read_stamps(folder) | self._stamps
            return known.get(path)

    def stamp_put(self, path: str, stamp: tuple[int, int, int, str]) -> None:
        """Remember what a file looks like; on the disk with the next many, or when closed."""
        path = storable(path)
        with self._stamps_lock:
            self._stamps[path] = Stamp(*stamp)
            known = self._known_stamps.get(path.rpartition(os.sep)[0])
            if known is not None:
                known[path] = self._stamps[path]
            is_much = len(self._stamps) >= _STAMPS_AT_ONCE
        if is_much:
            self._flush_stamps()

    def note(self, name: str) -> str | None:
        """What is remembered under a name."""
        with self._db.reading() as db:
            found = db.execute(
                "SELECT value FROM notes WHERE name = ?", (storable(name),)
            ).fetchone()
        return None if found is None else str(found[0])

    def notes(self, prefix: str) -> dict[str, str]:
        """What is remembered under names that begin so."""
        with self._db.reading() as db:
            question = "SELECT name, value FROM notes WHERE substr(name, 1, length(?1)) = ?1"
            return dict(db.execute(question, (storable(prefix),)).fetchall())

    def set_note(self, name: str, value: str | None) -> None:
        """Remember something under a name; None forgets it."""
        name = storable(name)
        with self._db.transaction() as db:
            if value is None:
                db.execute("DELETE FROM notes WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, storable(value)))

    def _read_stamps(self, folder: str) -> dict[str, Stamp]:
        """What the files of a folder looked like, one query for all; not those of folders in it."""
        start = folder + os.sep
        with self._db.reading() as db:
            found = db.execute(
                "SELECT path, size, mtime_ns, ctime_ns, sha256 FROM stamps WHERE path >= ?1"
                " AND path < ?2 AND NOT instr(substr(path, length(?1) + 1), ?3)",
                (start, folder + chr(ord(os.sep) + 1), os.sep),
            ).fetchall()
        return {row[0]: Stamp._make(row[1:]) for row in found}

    def _flush_stamps(self) -> None:
        with self._stamps_lock:
            waiting, self._stamps = self._stamps, {}
        if not waiting:
            return
        rows = [
            (path, one.size, one.mtime_ns, one.ctime_ns, one.sha256)
            for path, one in waiting.items()
        ]
        with self._db.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO stamps VALUES (?, ?, ?, ?, ?)", rows)

    # For the other modules of this package

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Whatever is written within is there afterwards, or where it raises nothing of it."""
        return self._db.transaction()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """What is read within belongs together."""
        return self._db.reading()

    def outside(self) -> AbstractContextManager[sqlite3.Connection]:
        """For what takes no transaction, such as VACUUM."""
        return self._db.outside()

    # Within

    def _land(self, key: SeriesKey, answer: landing.Answer) -> Landed:
        """Set an answer down. What is held of its span is read outside the transaction.

        That may take long where months hold some of it; where another run lands in between, it is
        done again.
        """
        if answer.span[0] >= answer.span[1]:
            return Landed()
        outcome, seen = landing.Outcome(answer.body, answer.block.times), -1
        while True:
            with self._db.transaction() as db:
                if self.is_forgotten(key.subject):
                    return Landed()
                number, version = landing.make_series(db, key)
                if seen == version or not self._is_held(db, key, number, answer):
                    landing.set_down(db, key, number, answer, outcome)
                    return outcome.landed
            outcome, seen = self._put_over(key, answer), version

    def _put_over(self, key: SeriesKey, answer: landing.Answer) -> landing.Outcome:
        start_s, end_s = answer.span
        bounds = (start_s * US, end_s * US - 1) if key.is_instants else (start_s + 1, end_s)
        width = INSTANTS_WIDTH if key.is_instants else INTERVAL_WIDTH
        blocks = list(read(self._source(key), *bounds))
        held = join(blocks) if blocks else Block((), ((),) * width)
        outcome = landing.put_over(held, answer, key.is_instants)
        if outcome.changes and not key.is_instants:
            self._leave_out_parts(key, answer.span, outcome)
        return outcome

    def _leave_out_parts(self, key: SeriesKey, span: Span, outcome: landing.Outcome) -> None:
        """That a bucket which was not over has grown is no change of what the cloud said."""
        # Where the amount of a part is held nothing else is told but that none is known.
        nulls = [one for one in self.coverage(key, span) if one.state == "null"]
        kept, parts = list[Changed](), list[Changed]()
        for change in outcome.changes:
            time_s, old, _ = change
            is_part = any(one.start_s < time_s <= one.end_s for one in nulls)
            (parts if old[0] is not None and is_part else kept).append(change)
        withdrawn = sum(new is None for *_, new in parts)
        landed = outcome.landed
        outcome.changes = kept
        outcome.landed = Landed(
            landed.changed - (len(parts) - withdrawn), landed.withdrawn - withdrawn
        )

    def _is_held(
        self, db: sqlite3.Connection, key: SeriesKey, number: int, answer: landing.Answer
    ) -> bool:
        """True where there may be rows of an answer's span."""
        start_s, end_s = answer.span
        first_s = start_s if key.is_instants else start_s + 1
        last_s = end_s - 1 if key.is_instants else end_s
        if landing.layers_of(db, number, first_s, last_s):
            return True
        covered = ranges.clip(
            landing.covered_near(db, number, answer.span), answer.span, answer.ruler
        )
        return bool(covered) and self._has_months(db, key, answer.span)

    def _source(self, key: SeriesKey) -> Source:
        unit = US if key.is_instants else 1

        def layers(first: int, last: int) -> list[Layer]:
            with self._db.reading() as db:
                found = landing.find_series(db, key)
                if found is None:
                    return []
                near = landing.layers_of(db, found[0], first // unit, last // unit)
            return [Layer(one.id, one.first * unit, (one.last + 1) * unit - 1) for one in near]

        def load(layer: Layer) -> Block:
            with self._db.reading() as db:
                found = db.execute("SELECT body FROM answers WHERE id = ?", (layer.id,)).fetchone()
            if found is None:
                raise GoneError
            return self._decode(key, found[0])

        return Source(layers, load, lambda first, last: self._under(key, first, last))

    def _under(self, key: SeriesKey, first: int, last: int) -> Iterator[Block]:
        unit = US if key.is_instants else 1
        start_s, end_s = first // unit, last // unit
        with self._db.reading() as db:
            if not self._has_months(db, key, (start_s - 1, end_s + 1)):
                return
        months = self._published()
        if key.is_instants:
            for found in months.instants(key, start_s, end_s + 1):
                yield block_of_instants(found).between(first, last)
            return
        for series in months.rows(key, start_s, end_s):
            yield block_of_series(series).between(first, last)

    @staticmethod
    def _has_months(db: sqlite3.Connection, key: SeriesKey, span: Span) -> bool:
        """True where a month is published that may hold rows of a span, of whatever meter."""
        back_s = 2 * bucket_s(key.granularity) if key.granularity else DAY_S
        bounds = [
            datetime.fromtimestamp(min(max(at_s, 0), _LAST_S), UTC).strftime("%Y-%m")
            for at_s in (span[0] - back_s, span[1])
        ]
        found = db.execute(
            "SELECT 1 FROM months WHERE kind = ? AND granularity = ? AND month BETWEEN ? AND ?"
            " LIMIT 1",
            (key.kind, key.granularity, *bounds),
        ).fetchone()
        return found is not None

    def _published(self) -> Months:
        if self._months is None:
            from copper_cli.archive.partitions import Published

            self._months = Published(self)
        return self._months

    def _edge(self, key: SeriesKey, at_s: int) -> tuple[Block | None, str | None]:
        """The row that is held only as that of a bucket before a span, and the meter's type."""
        with self._db.reading() as db:
            found = db.execute(
                "SELECT e.body, s.meter_type FROM series AS s LEFT JOIN edges AS e"
                " ON e.series = s.id AND e.end_s = ? WHERE s.subject = ? AND s.kind = ?"
                " AND s.granularity = ? AND s.grid = ?",
                (at_s, key.subject, key.kind, key.granularity, key.grid),
            ).fetchone()
        body, meter_type = found or (None, None)
        return (None if body is None else self._decode(key, body)), meter_type

    def _decode(self, key: SeriesKey, body: bytes) -> Block:
        try:
            return decode(body)
        except BodyError as error:
            what = f"an answer of {key.subject} cannot be read"
            raise LocalError(damaged(self.path, what)) from error

    def _retract_rows(
        self, db: sqlite3.Connection, key: SeriesKey, number: int, span: Span
    ) -> None:
        first, last = span[0] + 1, span[1]
        if key.is_instants:
            first, last = span[0] * US, span[1] * US - 1
        unit = US if key.is_instants else 1
        for layer in landing.layers_of(db, number, first // unit, last // unit):
            (body,) = db.execute("SELECT body FROM answers WHERE id = ?", (layer.id,)).fetchone()
            block = self._decode(key, body)
            left = [block.between(-_FAR, first - 1), block.between(last + 1, _FAR)]
            rest = [one for one in left if one.times]
            if not rest:
                db.execute("DELETE FROM answers WHERE id = ?", (layer.id,))
                continue
            block = join(rest)
            db.execute(
                "UPDATE answers SET body = ?, rows = ?, first_s = ?, last_s = ? WHERE id = ?",
                (
                    encode(block),
                    len(block.times),
                    block.times[0] // unit,
                    block.times[-1] // unit,
                    layer.id,
                ),
            )

    @contextmanager
    def _series(self, key: SeriesKey) -> Iterator[tuple[sqlite3.Connection, int]]:
        """For what is set down of a series; of one that is forgotten it is taken back."""
        with self._db.transaction() as db:
            db.execute("SAVEPOINT series")
            yield db, landing.make_series(db, key)[0]
            if self.is_forgotten(key.subject):
                db.execute("ROLLBACK TO series")
            db.execute("RELEASE series")


class _Heads:
    """Numbers and versions of series as they were at one time, read once many are asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._asked = 0
        self._found: dict[tuple[str, str], dict[tuple[str, str], str]] = {}

    def find(self, key: SeriesKey) -> str | None:
        """`number:version:` of a series; None where it is not there, or not known here."""
        self._asked += 1
        if self._asked <= _SINGLY:
            return None
        kind = key.kind, key.granularity
        found = self._found.get(kind)
        if found is None:
            with self._db.reading() as db:
                rows = db.execute(
                    "SELECT subject, grid, id, version FROM series WHERE kind = ?"
                    " AND granularity = ?",
                    kind,
                ).fetchall()
            found = {(subject, grid): f"{n}:{version}:" for subject, grid, n, version in rows}
            self._found[kind] = found
        return found.get((key.subject, key.grid))


_FAR = 1 << 62
_LAST_S = 253_402_300_799
"""The last second that has a year of four digits."""


def _storable_type(series: Series) -> str | None:
    return series.meter_type and storable(series.meter_type)
