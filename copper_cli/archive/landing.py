"""How an answer is set down: its rows over those held, and what it says of its span.

Of what is held only that is written again which says something new, so a body in the landing holds
rows as they are to be read. Null or no row never replaces a number.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, groupby
from math import fsum
from operator import is_not, ne
from typing import Literal, cast

from copper_cli.archive import coverage
from copper_cli.archive.columns import Block, block_of, decode, encode
from copper_cli.archive.coverage import Ruler
from copper_cli.archive.keys import (
    US,
    Change,
    Covered,
    Landed,
    Number,
    SeriesKey,
    Span,
    State,
    join_spans,
)
from copper_cli.archive.rows import INSTANTS_WIDTH, INTERVAL_WIDTH, Layer
from copper_cli.buckets import bucket_s
from copper_cli.files.names import short_digest

Row = tuple[Number, ...]

_SUM_PLACES = 9
"""Beyond these lie only the traces of adding binary fractions."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the cloud said of a span, made ready."""

    span: Span
    asked_s: int
    block: Block
    """Its rows of the span."""
    body: bytes
    """The same, encoded; empty where there are none."""
    covered: Sequence[Covered]
    """What it says of the span."""
    ruler: Ruler
    edge: Block | None = None
    """The row at the very start, of the bucket before."""
    sums: tuple[float | None] | None = None
    """The cloud's own sum; None where there is no such thing."""
    meter_type: str | None = None


@dataclass(slots=True)
class Outcome:
    """An answer next to what was held of its span."""

    body: bytes
    """The rows that say something new, as they are to be read; empty where there are none."""
    times: Sequence[int] = ()
    """Of these rows."""
    changes: list[tuple[int, Row, Row | None]] = field(default_factory=list)
    """Time, what was held, what is now; None where the cloud has nothing any more."""
    touched: list[int] = field(default_factory=list)
    """Ends of the buckets whose amount is another one."""
    landed: Landed = field(default_factory=Landed)
    is_over: bool = False
    """Something was held of the span."""


# Series


def find_series(db: sqlite3.Connection, key: SeriesKey) -> tuple[int, int] | None:
    """A series' number and version; None where nothing of it was ever set down."""
    found = db.execute(
        "SELECT id, version FROM series"
        " WHERE subject = ? AND kind = ? AND granularity = ? AND grid = ?",
        (key.subject, key.kind, key.granularity, key.grid),
    ).fetchone()
    return None if found is None else (found[0], found[1])


def make_series(db: sqlite3.Connection, key: SeriesKey) -> tuple[int, int]:
    """A series' number and version, new where it is."""
    found = find_series(db, key)
    if found is None:
        columns = key.subject, key.kind, key.granularity, key.grid
        db.execute(
            "INSERT INTO series (subject, kind, granularity, grid) VALUES (?, ?, ?, ?)", columns
        )
        found = find_series(db, key)
        assert found is not None
    return found


def bump(db: sqlite3.Connection, series: int) -> None:
    """Something of a series is no longer as it was."""
    db.execute("UPDATE series SET version = version + 1 WHERE id = ?", (series,))


def move(db: sqlite3.Connection, series: int, spans: Iterable[Span]) -> None:
    """Note where rows that were told of before are no longer as they were.

    A span of one instant is that of a row which only a view that begins there shows.
    """
    spans = list(spans)
    moved = join_spans(span for span in spans if span[0] < span[1])
    moved += {span for span in spans if span[0] == span[1]}
    if not moved:
        return
    bump(db, series)
    db.executemany(
        "DELETE FROM moves WHERE series = ? AND start_s >= ? AND end_s <= ?",
        [(series, *span) for span in moved],
    )
    db.executemany(
        "INSERT OR REPLACE INTO moves SELECT id, ?, ?, version FROM series WHERE id = ?",
        [(*span, series) for span in moved],
    )


# Rows


def layers_of(db: sqlite3.Connection, series: int, first_s: int, last_s: int) -> list[Layer]:
    """The answers that may hold rows between two instants, both included; oldest first."""
    found = db.execute(
        "SELECT id, first_s, last_s FROM answers WHERE series = ? AND pending = 0"
        " AND first_s <= ? AND last_s >= ? ORDER BY id",
        (series, last_s, first_s),
    )
    return [Layer(*row) for row in found]


def put_over(held: Block, answer: Answer, is_instants: bool) -> Outcome:
    """An answer over the rows held of its span."""
    if _is_same(held, answer.block):
        return Outcome(b"", is_over=True)
    if is_instants:
        return _put_instants(held, answer.block)
    return _put_rows(held, answer.block)


def _is_same(held: Block, fresh: Block) -> bool:
    """True where both hold the same numbers, integers for integers."""
    if list(held.times) != list(fresh.times):
        return False
    pairs = list(zip(held.columns, fresh.columns, strict=True))
    if any(list(a) != list(b) for a, b in pairs):
        return False
    return all(list(map(type, a)) == list(map(type, b)) for a, b in pairs)


def _put_rows(held: Block, fresh: Block) -> Outcome:
    both = set(held.times) & set(fresh.times)
    was, now = _only(held, both), _only(fresh, both)
    found = Outcome(b"")
    rows: dict[int, Row] = {}
    changed = withdrawn = 0
    for place in _differing(was, now):
        time_s, old = was.times[place], was.row(place)
        new = _fill(now.row(place), old)
        is_gone = now.columns[0][place] is None and old[0] is not None
        is_other = _differ(new, old)
        withdrawn += is_gone
        changed += is_other
        if is_other or is_gone:
            found.changes.append((time_s, old, new if is_other else None))
        if not _equal(new, old):
            rows[time_s] = new
        if new[0] != old[0]:
            found.touched.append(time_s)
    for time_s, old in _others(held, both):
        if _says(old):
            withdrawn += 1
            found.changes.append((time_s, old, None))
    rows.update(_others(fresh, both))
    times = sorted(rows)
    block = block_of(times, [rows[time_s] for time_s in times], INTERVAL_WIDTH)
    return _finish(found, block, Landed(changed, withdrawn))


def _only(block: Block, times: set[int]) -> Block:
    """The rows of these times."""
    if len(times) == len(block.times):
        return block
    keeps = [time in times for time in block.times]
    columns = tuple(list(compress(column, keeps)) for column in block.columns)
    return Block(list(compress(block.times, keeps)), columns)


def _others(block: Block, times: set[int]) -> Iterator[tuple[int, Row]]:
    """The rows of other times."""
    if len(times) < len(block.times):
        pairs = zip(block.times, block.rows(), strict=True)
        yield from (pair for pair in pairs if pair[0] not in times)


def _differing(was: Block, now: Block) -> list[int]:
    """The places at which two blocks of equal times hold other numbers, or of another type."""
    found: set[int] = set()
    for a, b in zip(was.columns, now.columns, strict=True):
        found.update(compress(range(len(a)), map(ne, a, b)))
        found.update(compress(range(len(a)), map(is_not, map(type, a), map(type, b))))
    return sorted(found)


def _fill(new: Row, old: Row) -> Row:
    """The new numbers, the old ones where there are none. A power belongs to its own amount."""
    energy, power, *registers = new
    if energy is None:
        energy, power = old[0], (old[1] if old[0] is not None or power is None else power)
    elif power is None and energy == old[0]:
        power = old[1]
    kept = (was if now is None else now for now, was in zip(registers, old[2:], strict=True))
    return (energy, power, *kept)


def _put_instants(held: Block, fresh: Block) -> Outcome:
    earlier, later = _by_time(held), _by_time(fresh)
    found = Outcome(b"")
    times: list[int] = []
    rows: list[Row] = []
    changed = withdrawn = 0
    for time_us in sorted(earlier.keys() | later.keys()):
        was = earlier.get(time_us, [])
        now, pairs, kept = _join_instant(later.get(time_us, []), was)
        changed += len(pairs)
        withdrawn += len(kept)
        found.changes += ((time_us, old, new) for old, new in pairs)
        found.changes += ((time_us, old, None) for old in kept)
        if len(now) != len(was) or not all(map(_equal, now, was)):
            times += [time_us] * len(now)
            rows += now
    return _finish(found, block_of(times, rows, INSTANTS_WIDTH), Landed(changed, withdrawn))


def _by_time(block: Block) -> dict[int, list[Row]]:
    pairs = zip(block.times, block.rows(), strict=True)
    return {time: [row for _, row in group] for time, group in groupby(pairs, lambda pair: pair[0])}


def _join_instant(
    fresh: Sequence[Row], held: Sequence[Row]
) -> tuple[list[Row], list[tuple[Row, Row]], list[Row]]:
    """The rows of one instant, which of them have changed, and which the cloud has no more.

    Equal ones are the same row, the others are paired in their order; what is left of those held
    stays. One that says nothing is none where the cloud says something.
    """
    if not fresh:
        return list(held), [], [row for row in held if _says(row)]
    earlier = [row for row in held if _says(row)]
    others = [row for row in earlier if row not in fresh]
    found: list[Row] = []
    pairs: list[tuple[Row, Row]] = []
    kept: list[Row] = []
    for row in fresh:
        if row in earlier or not others:
            found.append(row)
            continue
        old = others.pop(0)
        new = tuple(was if now is None else now for now, was in zip(row, old, strict=True))
        found.append(new)
        if _differ(new, old):
            pairs.append((old, new))
        elif new != row:
            kept.append(old)
    return [*found, *others], pairs, [*kept, *others]


def _says(row: Row) -> bool:
    return any(number is not None for number in row)


def _finish(found: Outcome, block: Block, landed: Landed) -> Outcome:
    found.landed = landed
    found.is_over = True
    found.times = block.times
    found.body = encode(block) if block.times else b""
    return found


def _equal(new: Row, old: Row) -> bool:
    """The same digits too: 0 is not 0.0."""
    return new == old and all(type(a) is type(b) for a, b in zip(new, old, strict=True))


def _differ(new: Row, old: Row) -> bool:
    pairs = zip(new, old, strict=True)
    return any(a is not None and b is not None and a != b for a, b in pairs)


# What is written


def set_down(
    db: sqlite3.Connection, key: SeriesKey, series: int, answer: Answer, outcome: Outcome
) -> None:
    """Write an answer next to what is held, all in the transaction around it."""
    unit = US if key.is_instants else 1
    before = covered_near(db, series, answer.span)
    moved = _put_edges(db, series, answer, before, is_over=outcome.is_over)
    _put_changes(db, series, answer, outcome, before, unit)
    if outcome.body:
        _put_body(db, series, answer, outcome, unit)
    now = coverage.put(before, answer.covered, answer.ruler)
    is_new = replace_coverage(db, series, before, now) or bool(outcome.body)
    newly = coverage.newly_known(before, answer.covered)
    length_s = bucket_s(key.granularity) if key.granularity else 0
    if answer.sums is not None:
        touched = [(end_s - length_s, end_s) for end_s in outcome.touched]
        is_new |= drop_sums(db, key, series, [*touched, *newly])
        if not outcome.landed.withdrawn:  # else it is not the sum of what is held
            is_new |= put_sum(db, series, answer.span, answer.sums[0], answer.asked_s)
    if outcome.is_over or coverage.clip(before, answer.span, answer.ruler):
        # Who asks from a bucket's end on sees its row too: so a second more.
        moved += [(time // unit - length_s, time // unit + 1) for time in outcome.times]
    move(db, series, moved)
    if is_new:
        bump(db, series)
    if answer.meter_type:
        db.execute(
            "UPDATE series SET meter_type = ? WHERE id = ? AND meter_type IS NOT ?",
            (answer.meter_type, series, answer.meter_type),
        )


def _put_body(
    db: sqlite3.Connection, series: int, answer: Answer, outcome: Outcome, unit: int
) -> None:
    columns = (
        series,
        *answer.span,
        answer.asked_s,
        len(outcome.times),
        outcome.times[0] // unit,
        outcome.times[-1] // unit,
        answer.sums[0] if answer.sums else None,
        answer.meter_type,
        outcome.body,
    )
    db.execute(
        "INSERT INTO answers (series, start_s, end_s, asked_s, rows, first_s, last_s, sum,"
        " meter_type, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        columns,
    )


def _put_edges(
    db: sqlite3.Connection,
    series: int,
    answer: Answer,
    before: Sequence[Covered],
    *,
    is_over: bool,
) -> list[Span]:
    """Keep the row at the very start, unless it is held as one; where it is another one now.

    Those that have become rows of their own go.
    """
    moved = _drop_edges(db, series, answer, before, is_over=is_over)
    at_s = answer.span[0]
    if answer.edge is None:
        return moved
    if any(one.state in ("known", "null") and one.start_s < at_s <= one.end_s for one in before):
        return moved
    new = answer.edge.rows()[0]
    old = find_edge(db, series, at_s)
    if old is not None:
        new = _fill(new, old)
        if _equal(new, old):
            return moved
    body = encode(block_of([at_s], [new], INTERVAL_WIDTH))
    db.execute("INSERT OR REPLACE INTO edges VALUES (?, ?, ?)", (series, at_s, body))
    return [*moved, (at_s, at_s)]


def _drop_edges(
    db: sqlite3.Connection,
    series: int,
    answer: Answer,
    before: Sequence[Covered],
    *,
    is_over: bool,
) -> list[Span]:
    """Drop the edges that are rows now; where who asks from there on sees another row."""
    start_s, end_s = answer.span
    moved = []
    found = db.execute(
        "SELECT end_s FROM edges WHERE series = ? AND end_s > ? AND end_s <= ?",
        (series, start_s, end_s),
    ).fetchall()
    edges = {at_s: find_edge(db, series, at_s) for (at_s,) in found}
    if not is_over and any(one.start_s <= end_s < one.end_s for one in before):
        edges.setdefault(end_s, None)  # of what follows this is the row at the very start
    for at_s, edge in edges.items():
        rows = answer.block.between(at_s, at_s).rows()
        if rows and (edge is None or not _equal(rows[0], edge)):
            moved.append((at_s, at_s))
        if rows and rows[0][0] is not None:
            db.execute("DELETE FROM edges WHERE series = ? AND end_s = ?", (series, at_s))
    return moved


def find_edge(db: sqlite3.Connection, series: int, at_s: int) -> Row | None:
    """The row of the bucket before a span that begins then."""
    found = db.execute(
        "SELECT body FROM edges WHERE series = ? AND end_s = ?", (series, at_s)
    ).fetchone()
    return None if found is None else decode(found[0]).rows()[0]


def _put_changes(
    db: sqlite3.Connection,
    series: int,
    answer: Answer,
    outcome: Outcome,
    before: Sequence[Covered],
    unit: int,
) -> None:
    """Note what became another value. What was withdrawn is noted once, not with each answer."""
    if not outcome.changes:
        return
    times = [time // unit for time, _, _ in outcome.changes]
    asked = _asked_at(db, series, times, before)
    told = {
        (end_s, old)
        for end_s, old in db.execute(
            "SELECT end_s, old FROM changes WHERE series = ? AND end_s BETWEEN ? AND ?"
            " AND new IS NULL",
            (series, min(times), max(times)),
        )
    }
    rows = []
    for (_, old, new), end_s in zip(outcome.changes, times, strict=True):
        was = json.dumps(old)
        if new is None and (end_s, was) in told:
            continue
        now = None if new is None else json.dumps(new)
        rows.append((series, end_s, was, now, asked(end_s), answer.asked_s))
    db.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", rows)


def _asked_at(
    db: sqlite3.Connection, series: int, times: Sequence[int], before: Sequence[Covered]
) -> Callable[[int], int]:
    """When a held row was asked for: exactly where its answer is not published yet."""
    answers = db.execute(
        "SELECT first_s, last_s, asked_s FROM answers WHERE series = ? AND pending = 0"
        " AND first_s <= ? AND last_s >= ?",
        (series, max(times), min(times)),
    ).fetchall()

    def asked(at_s: int) -> int:
        found = [one.asked_s for one in before if one.start_s <= at_s <= one.end_s]
        found += [asked_s for first, last, asked_s in answers if first <= at_s <= last]
        return max(found, default=0)

    return asked


def change_of(end_s: int, old: str, new: str | None, old_asked_s: int, new_asked_s: int) -> Change:
    """A change as it was noted."""
    now = None if new is None else tuple(json.loads(new))
    return Change(end_s, tuple(json.loads(old)), now, old_asked_s, new_asked_s)


# Coverage


def covered_near(db: sqlite3.Connection, series: int, span: Span) -> list[Covered]:
    """The ranges that overlap a span or touch it."""
    found = db.execute(
        "SELECT start_s, end_s, state, asked_s, buckets, unread FROM coverage"
        " WHERE series = ?1 AND start_s <= ?3 AND end_s >= ?2 AND start_s >= coalesce("
        "(SELECT max(start_s) FROM coverage WHERE series = ?1 AND start_s < ?2), ?2)"
        " ORDER BY start_s",
        (series, *span),
    )
    return [Covered(row[0], row[1], cast(State, row[2]), *row[3:]) for row in found]


def replace_coverage(
    db: sqlite3.Connection, series: int, before: Sequence[Covered], now: Sequence[Covered]
) -> bool:
    """Write ranges in the place of others; True where a state is another one."""
    gone, new = set(before) - set(now), set(now) - set(before)
    db.executemany(
        "DELETE FROM coverage WHERE series = ? AND start_s = ?",
        [(series, one.start_s) for one in gone],
    )
    db.executemany(
        "INSERT INTO coverage VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (series, one.start_s, one.end_s, one.state, one.asked_s, one.buckets, one.unread)
            for one in new
        ],
    )
    return coverage.states(before) != coverage.states(now)


# Sums


def drop_sums(db: sqlite3.Connection, key: SeriesKey, series: int, touched: Iterable[Span]) -> bool:
    """Let the sums of this meter and kind fall that hold changed amounts, in any granularity.

    True where one of this series fell; the versions of others are put up here.
    """
    spans = join_spans(touched)
    if not spans:
        return False
    found = db.execute(
        "SELECT u.series, u.start_s, u.end_s FROM series AS s JOIN sums AS u ON u.series = s.id"
        " WHERE s.subject = ? AND s.kind = ? AND u.start_s < ? AND u.end_s > ?",
        (key.subject, key.kind, spans[-1][1], spans[0][0]),
    ).fetchall()
    ends = [end_s for _, end_s in spans]
    gone = []
    for number, start_s, end_s in found:
        place = bisect_right(ends, start_s)
        if place < len(spans) and spans[place][0] < end_s:
            gone.append((number, start_s, end_s))
    db.executemany("DELETE FROM sums WHERE series = ? AND start_s = ? AND end_s = ?", gone)
    others = {number for number, _, _ in gone}
    for number in others - {series}:
        bump(db, number)
    return series in others


def put_sum(
    db: sqlite3.Connection, series: int, span: Span, total: float | None, asked_s: int
) -> bool:
    """Keep the cloud's sum of exactly a span; none never replaces one. True where it is new."""
    held = db.execute(
        "SELECT sum FROM sums WHERE series = ? AND start_s = ? AND end_s = ?", (series, *span)
    ).fetchone()
    if held is not None and (total is None or held[0] == total):
        total = held[0]
    db.execute(
        "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?)", (series, *span, total, asked_s)
    )
    return held is None or held[0] != total


def sum_of(
    db: sqlite3.Connection, series: int, span: Span
) -> tuple[float | None, Literal["cloud", "tiles"]] | None:
    """The cloud's own sum of exactly a span, else what its sums of spans that tile it add up to."""
    sums = db.execute(
        "SELECT start_s, end_s, sum FROM sums WHERE series = ?1 AND start_s >= ?2"
        " AND start_s < ?3 AND end_s <= ?3",
        (series, *span),
    ).fetchall()
    exact = [total for start_s, end_s, total in sums if (start_s, end_s) == span]
    if exact:
        return exact[0], "cloud"
    covered = covered_near(db, series, span)
    known = [one for one in covered if one.state == "known"]
    tiles = _find_tiles([one for one in sums if _is_told(one, known)], span)
    if tiles is None:
        return None
    totals = [total for total in tiles if total is not None]
    return (round(fsum(totals), _SUM_PLACES) if totals else None), "tiles"


def _is_told(one: tuple[int, int, float | None], known: Sequence[Covered]) -> bool:
    """True where a sum may be a part of one: it is none only where there is no amount either."""
    start_s, end_s, total = one
    return total is not None or not any(k.start_s < end_s and k.end_s > start_s for k in known)


def _find_tiles(
    sums: Sequence[tuple[int, int, float | None]], span: Span
) -> list[float | None] | None:
    """The sums of the fewest spans that follow one another from end to end; None without."""
    starts: dict[int, list[tuple[int, float | None]]] = {}
    for start_s, end_s, total in sums:
        starts.setdefault(start_s, []).append((end_s, total))
    reached: dict[int, tuple[int, float | None]] = {}
    front = [span[0]]
    while front and span[1] not in reached:
        after: list[int] = []
        for at_s in front:
            for end_s, total in starts.get(at_s, ()):
                if end_s > at_s and end_s not in reached:
                    reached[end_s] = at_s, total
                    after.append(end_s)
        front = after
    if span[1] not in reached:
        return None
    tiles: list[float | None] = []
    at_s = span[1]
    while at_s != span[0]:
        at_s, total = reached[at_s]
        tiles.append(total)
    return tiles[::-1]


def mark_of(db: sqlite3.Connection, series: int, span: Span, ruler: Ruler) -> str:
    """A text that is another one whenever a view of a span shows something else."""
    covered = coverage.clip(covered_near(db, series, span), span, ruler)
    (moved,) = db.execute(
        "SELECT max(version) FROM moves WHERE series = ?1 AND start_s < ?3 AND end_s >= ?2"
        " AND (start_s < end_s AND end_s > ?2 OR start_s = end_s AND start_s = ?2)",
        (series, *span),
    ).fetchone()
    unread = sum(one.unread for one in covered)
    said = coverage.states(covered), sum_of(db, series, span), moved, unread
    return short_digest(repr(said))
