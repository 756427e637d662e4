"""How complete a fleet is: what of which meter is not known, and what that is called. SQL.

What is known is long, what is not is short: only the latter is looked at piece by piece, and what
is known is what remains of the hours that there should be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from copper_cli.archive.keys import Span, storable
from copper_cli.archive.schema import ACCEPTED
from copper_cli.buckets import BUCKET_S, GRANULARITIES, MEAN_MONTH_S
from copper_cli.errors import UsageError
from copper_cli.filling import (
    FINAL_S,
    TO_COME_S,
    Gap,
    Shown,
    find_next_ask,
    name_state,
)
from copper_cli.text import clean

if TYPE_CHECKING:
    import sqlite3

    from copper_cli.archive import Archive

Group = Literal["type", "premise", "meter"]
"""By what meters are put together."""

_STORED: tuple[str | None, ...] = (None, "null", "failed")
"""By its code, what is stored of a piece: never asked, unfilled (null or absent), failed."""
_UNFILLED = 1
_TABLES = ("fleet", "zones", "extent", "pieces", "tally")
_DROP = tuple(f"DROP TABLE IF EXISTS temp.{name}" for name in _TABLES)
_MAKE = (
    "CREATE TEMP TABLE fleet (n INTEGER PRIMARY KEY, id TEXT NOT NULL, type TEXT, premise TEXT,"
    " zone TEXT, series INTEGER, grid TEXT, held INTEGER, from_s INTEGER, until_s INTEGER,"
    " end_s INTEGER, expected INTEGER)",
    "CREATE TEMP TABLE zones (name TEXT PRIMARY KEY, grid TEXT, start_s INTEGER, end_s INTEGER)",
    "CREATE TEMP TABLE extent (n INTEGER PRIMARY KEY, first_s INTEGER, last_s INTEGER,"
    " total_s INTEGER)",
    "CREATE TEMP TABLE pieces (n INTEGER, start_s INTEGER, end_s INTEGER, code INTEGER,"
    " accepted INTEGER, asked_s INTEGER, count INTEGER, final INTEGER, old INTEGER,"
    " overdue INTEGER, PRIMARY KEY (n, start_s)) WITHOUT ROWID",
    "CREATE TEMP TABLE tally (n INTEGER PRIMARY KEY, open_s INTEGER, to_come INTEGER,"
    " late INTEGER, missing INTEGER, failed INTEGER, never INTEGER, overdue INTEGER,"
    " accepted INTEGER, bad INTEGER, bad_s INTEGER)",
)
_FLEET = """
WITH held AS (
    SELECT subject, min(id) AS series, min(grid) AS grid, count(*) AS held,
    max(meter_type) AS type FROM series WHERE kind = 'usage' AND granularity = :granularity
    GROUP BY subject),
listed AS (
    SELECT id, body, last_s, max(first_s) FROM seen WHERE list = 'meter' GROUP BY id),
placed AS (
    SELECT id, json_extract(body, '$.timezone') AS zone, max(first_s) FROM seen
    WHERE list = 'premise' GROUP BY id),
located AS (
    SELECT id, json_extract(body, '$.timezone') AS zone, max(first_s) FROM seen
    WHERE list = 'location' GROUP BY id)
INSERT INTO fleet (id, type, premise, zone, series, grid, held, from_s, until_s)
SELECT l.id, json_extract(l.body, '$.type'), json_extract(l.body, '$.premise_id'),
    coalesce(p.zone, o.zone, ''), h.series, h.grid, coalesce(h.held, 0),
    unixepoch(json_extract(l.body, '$.created_at')),
    iif(l.last_s < :listed_s, l.last_s, NULL)
FROM listed AS l LEFT JOIN held AS h ON h.subject = l.id
    LEFT JOIN placed AS p ON p.id = json_extract(l.body, '$.premise_id')
    LEFT JOIN located AS o ON o.id = l.id
WHERE :ids IS NULL OR l.id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT h.subject, h.type, NULL, '', h.series, h.grid, h.held, NULL, NULL FROM held AS h
WHERE h.subject NOT IN (SELECT id FROM seen WHERE list = 'meter')
    AND (:ids IS NULL OR h.subject IN (SELECT value FROM json_each(:ids)))
"""
_SEVERAL = """
SELECT f.n, s.id, s.grid, f.zone,
    (SELECT sum(buckets) FROM coverage WHERE series = s.id AND state = 'known')
FROM fleet AS f JOIN series AS s ON s.subject = f.id AND s.kind = 'usage' AND s.granularity = ?
WHERE f.held > 1 ORDER BY f.n, s.id
"""
_FIRST = """
SELECT min(c.start_s) FROM series AS s JOIN coverage AS c ON c.series = s.id AND c.state = 'known'
WHERE s.kind = 'usage' AND s.granularity = ?
"""
_BOUNDS = """
UPDATE fleet SET
    from_s = max(z.start_s + (({phase} - z.start_s) % :step + :step) % :step,
        coalesce(from_s - (from_s - {phase}) % :step, 0)),
    end_s = z.end_s - (z.end_s - {phase}) % :step,
    until_s = min(z.end_s - (z.end_s - {phase}) % :step,
        coalesce(until_s - (until_s - {phase}) % :step, z.end_s))
FROM zones AS z WHERE z.name = fleet.zone
"""
_LOOSE_BOUNDS = """
UPDATE fleet SET from_s = max(z.start_s, coalesce(from_s, 0)), end_s = z.end_s,
    until_s = min(z.end_s, coalesce(until_s, z.end_s))
FROM zones AS z WHERE z.name = fleet.zone
"""
_EXPECTED = (
    "UPDATE fleet SET expected = max(0, CAST((until_s - from_s + :slack) / :length AS INTEGER))"
)
_EXTENT = """
INSERT INTO extent SELECT f.n, min(max(c.start_s, f.from_s)), max(min(c.end_s, f.until_s)),
    sum(min(c.end_s, f.until_s) - max(c.start_s, f.from_s))
FROM fleet AS f CROSS JOIN coverage AS c
WHERE c.series = f.series AND c.start_s < f.until_s AND c.end_s > f.from_s GROUP BY f.n
"""
_PIECES = """
INSERT INTO pieces SELECT n, start_s, end_s, code, accepted, asked_s, count,
    max(0, min(count, CAST((:final_s - start_s) / :length AS INTEGER))),
    max(0, min(count, CAST((:old_s - start_s) / :length AS INTEGER))),
    max(0, min(count, CAST((:overdue_s - start_s) / :length AS INTEGER)))
FROM (SELECT n, start_s, end_s, code, accepted, asked_s,
    coalesce(own, CAST((end_s - start_s + :slack) / :length AS INTEGER)) AS count
    FROM ({source})) WHERE count > 0
"""
_NOT_KNOWN = """
SELECT f.n AS n, max(c.start_s, f.from_s) AS start_s, min(c.end_s, f.until_s) AS end_s,
    iif(c.state = 'failed', 2, 1) AS code, 0 AS accepted, c.asked_s AS asked_s,
    iif(c.start_s >= f.from_s AND c.end_s <= f.until_s, c.buckets, NULL) AS own
FROM fleet AS f CROSS JOIN coverage AS c
WHERE c.series = f.series AND c.start_s < f.until_s AND c.end_s > f.from_s AND c.state <> 'known'
"""
_HOLES = """
SELECT f.n AS n, f.from_s AS start_s, coalesce(x.first_s, f.until_s) AS end_s, 0 AS code,
    0 AS accepted, NULL AS asked_s, NULL AS own
FROM fleet AS f LEFT JOIN extent AS x ON x.n = f.n
WHERE f.from_s < coalesce(x.first_s, f.until_s)
UNION ALL
SELECT f.n, x.last_s, f.until_s, 0, 0, NULL, NULL FROM fleet AS f JOIN extent AS x ON x.n = f.n
WHERE x.last_s < f.until_s
UNION ALL
SELECT n, end_s, next_s, 0, 0, NULL, NULL FROM (
    SELECT f.n AS n, c.end_s AS end_s, (
        SELECT min(d.start_s) FROM coverage AS d WHERE d.series = f.series AND d.start_s >= c.end_s
        ) AS next_s, x.last_s AS last_s
    FROM extent AS x CROSS JOIN fleet AS f CROSS JOIN coverage AS c
    WHERE f.n = x.n AND c.series = f.series AND x.total_s < x.last_s - x.first_s
        AND c.start_s < f.until_s AND c.end_s > f.from_s)
WHERE next_s > end_s AND end_s < last_s
"""
_IN_ACCEPTED = """
SELECT p.n, p.start_s, p.end_s, p.asked_s, a.start_s, a.end_s
FROM fleet AS f CROSS JOIN accepted AS a CROSS JOIN pieces AS p
WHERE a.series = f.series AND p.n = f.n AND p.code = 1 AND p.start_s < a.end_s
    AND p.end_s > a.start_s ORDER BY p.n, p.start_s, a.start_s
"""
_SPLIT = """
SELECT :n AS n, :start AS start_s, :end AS end_s, 1 AS code, :accepted AS accepted,
    :asked AS asked_s, NULL AS own
"""
_CLASSES = ("final", "old - final", "count - old")
"""Of each piece the buckets older than thirty days, older than two, younger."""
_EXPECTED_SPANS = """
SELECT 0, 0, from_s, until_s, count(*) FROM fleet WHERE zone = ? AND expected > 0 GROUP BY 3, 4
"""
_LACKING_SPANS = """
SELECT p.code, p.accepted, p.start_s, p.end_s, count(*) FROM fleet AS f JOIN pieces AS p
ON p.n = f.n WHERE f.zone = ? GROUP BY 1, 2, 3, 4
"""
_DAY_COUNTS = (
    "meters",
    "whole until",
    "expected",
    "to come",
    "late",
    "missing",
    "failed",
    "never asked",
    "overdue",
    "accepted",
    "bad meters",
)
_WORST_FIRST = """
FROM tally AS t JOIN fleet AS f ON f.n = t.n ORDER BY t.bad DESC, t.late DESC, t.to_come DESC, f.n
"""
_SUMS = """
count(*), min(coalesce(t.open_s, f.end_s)), sum(f.expected), total(t.to_come), total(t.late),
total(t.missing), total(t.failed), total(t.never), total(t.overdue), total(t.accepted),
sum(coalesce(t.bad, 0) > 0)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be looked at."""

    granularity: str
    """Of the rows."""
    now_s: float
    """What is over by now is looked at, and ages count up to now."""
    since: date | None = None
    """From the midnight of this day on, where the meter is; None: from the first day that is held
    of any meter."""
    until: date | None = None
    """Up to the midnight that begins this day, not later than now; None: now."""
    meter_ids: Sequence[str] = ()
    """These meters only; none: all that the archive has seen."""
    allow_late_s: int = TO_COME_S
    """What is late and not older than this is as it should be."""


class Place(NamedTuple):
    """What a time zone says of its meters."""

    zone: tzinfo
    """By which their days begin."""
    grid: str | None
    """Where their buckets end, as SeriesKey has it; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Whole:
    """How complete some meters are. Numbers are buckets."""

    name: str | None
    """Their type or premise, or the one's id; None where nobody knows it."""
    meters: int
    """How many."""
    whole_until_s: int
    """Up to here all of all of them is known, or accepted as missing."""
    expected: int
    """That are over, since the meter was there."""
    to_come: int
    late: int
    missing: int
    """Accepted ones included."""
    failed: int
    never_asked: int
    overdue: int
    """Of the late ones those that are older than is allowed."""
    accepted: int
    """Of the missing ones those that somebody accepted."""
    bad_meters: int
    """Meters of which something that should be there is not."""

    @property
    def known(self) -> int:
        """With an amount."""
        unknown = self.to_come + self.late + self.missing + self.failed + self.never_asked
        return self.expected - unknown

    @property
    def bad(self) -> int:
        """That should be there and are not: only accepted ones and young ones may be without."""
        return self.failed + self.never_asked + self.overdue + self.missing - self.accepted


class Worst(NamedTuple):
    """A meter of which much should be there that is not."""

    meter_id: str
    type: str | None
    bad: int
    """Buckets."""
    since_s: int
    """Start of the first of them."""


class Extent(NamedTuple):
    """From when to when there should be something of a meter."""

    meter_id: str
    zone: tzinfo
    """By which its days begin."""
    start_s: int
    end_s: int


class Lack(NamedTuple):
    """Buckets in a row of one meter that are not known, all called the same."""

    meter_id: str
    start_s: int
    end_s: int
    buckets: int
    why: Shown
    is_accepted: bool
    asked_s: int | None
    """When they were last asked for; None: never."""
    next_s: float | None
    """When the oldest of them is asked for again; not later than now: by the next run. None: not
    by itself."""


class _Part(NamedTuple):
    """A piece or what of it is called the same; as the database has it."""

    meter_id: str
    start_s: int
    end_s: int
    buckets: int
    code: int
    accepted: int
    place: int
    asked_s: int | None


@contextmanager
def survey(
    archive: Archive, asked: Asked, find_place: Callable[[str], Place], *, writes: bool = False
) -> Iterator[Survey]:
    """Look at a fleet as the archive has it at one instant.

    `find_place` is asked for each name of a time zone, also for an empty one. Of a meter whose
    buckets were asked for in several places that of its zone counts, else that which holds most.
    `writes`: something is to be accepted or no more. Raises UsageError for a meter that nobody has
    seen.
    """
    with archive.outside() as db:
        db.execute("PRAGMA temp_store=MEMORY")
    with archive.transaction() if writes else archive.reading() as db:
        found = Survey(db, asked, find_place)
        try:
            yield found
        finally:
            found.close()


class Survey:
    """A fleet as it is at one instant, in tables of this connection alone."""

    def __init__(
        self,
        db: sqlite3.Connection,
        asked: Asked,
        find_place: Callable[[str], Place],
    ) -> None:
        self._db = db
        self._asked = asked
        self._step = BUCKET_S.get(asked.granularity)
        length = self._step or MEAN_MONTH_S
        is_even = self._step is not None and self._step <= BUCKET_S["hour"]
        self._ruler: dict[str, Any] = {
            "length": length,
            "slack": length / 12,  # clock changes, months of 28 days
            "final_s": int(asked.now_s) - FINAL_S,
            "old_s": int(asked.now_s) - TO_COME_S,
            "overdue_s": int(asked.now_s) - asked.allow_late_s,
        }
        for statement in (*_DROP, *_MAKE):
            db.execute(statement)
        self._find_fleet()
        names = db.execute("SELECT DISTINCT zone FROM fleet").fetchall()
        self._places = {name: find_place(name) for (name,) in names}
        self._choose_grids()
        first = db.execute(_FIRST, (asked.granularity,)).fetchone()[0]
        self.is_held: bool = first is not None
        """Anything of this granularity is."""
        if self.is_held:
            self._bound(first, is_even=is_even)
            self._find_pieces()
            self._count()

    def close(self) -> None:
        """Leave nothing behind."""
        for statement in _DROP:
            self._db.execute(statement)

    # What there is

    def granularities(self) -> list[str]:
        """Those of which something is held."""
        found = self._db.execute(
            "SELECT DISTINCT granularity FROM series WHERE kind = 'usage' AND id IN"
            " (SELECT series FROM coverage WHERE state = 'known')"
        )
        return sorted((one for (one,) in found), key=GRANULARITIES.index)

    def span(self) -> Span:
        """From when to when anything of the fleet should be there."""
        found = self._db.execute("SELECT min(from_s), max(until_s) FROM fleet").fetchone()
        return int(found[0] or 0), int(found[1] or 0)

    def groups(self, by: Group | None = None) -> list[Whole]:
        """How complete the meters of each type or premise are, each meter, or all of them.

        Types by name, the others with the worst first.
        """
        name = {"type": "f.type", "premise": "f.premise", "meter": "f.id", None: "NULL"}[by]
        worst = "" if by == "type" else "total(t.bad) DESC, "
        grouped = f" GROUP BY {name} ORDER BY {worst}{name} IS NULL, {name}" if by else ""
        found = self._db.execute(
            f"SELECT {name}, {_SUMS} FROM fleet AS f LEFT JOIN tally AS t ON t.n = f.n{grouped}"  # noqa: S608
        )
        return [Whole(row[0], *(int(one or 0) for one in row[1:])) for row in found]

    def days(self) -> list[Whole]:
        """How complete each day is, in the local time of each meter; by its date, ascending.

        A bucket is of the day in which it ends; one that ends at midnight of the day before.
        """
        found: dict[str, Counter[str]] = {}
        for name, place in self._places.items():
            for day, counts in self._days_of(name, place.zone):
                found.setdefault(day, Counter()).update(counts)
        return [
            Whole(day, *(counts[word] for word in _DAY_COUNTS))
            for day, counts in sorted(found.items())
        ]

    def _days_of(self, name: str, zone: tzinfo) -> Iterator[tuple[str, Counter[str]]]:
        """The same of the meters in one zone, as numbers by their names."""
        spans = self._db.execute(
            "SELECT from_s, until_s FROM fleet WHERE zone = ? AND expected > 0", (name,)
        ).fetchall()
        if not spans:
            return
        begins, ends = (sorted(bounds) for bounds in zip(*spans, strict=True))
        days, now_s = local_days(begins[0], ends[-1], zone), int(self._asked.now_s)
        ages_s = FINAL_S, TO_COME_S, self._asked.allow_late_s
        cuts = {at_s for _, *span in days for at_s in span} | {now_s - age_s for age_s in ages_s}
        bounds = sorted(cuts)
        expected = self._sweep(_EXPECTED_SPANS, name, bounds)
        lacking = self._sweep(_LACKING_SPANS, name, bounds)
        for day, start_s, end_s in days:
            meters = bisect_left(begins, end_s) - bisect_right(ends, start_s)
            counts: Counter[str] = Counter(meters=meters)
            for place in range(bisect_left(bounds, start_s), bisect_left(bounds, end_s)):
                counts["expected"] += sum(numbers[place] for numbers in expected.values())
                for kind, numbers in lacking.items():
                    counts.update(self._named(kind, bounds[place + 1], numbers[place]))
            yield day.isoformat(), counts

    def _named(self, kind: tuple[int, int], until_s: int, number: int) -> dict[str, int]:
        """What so many buckets count as that end up to an instant."""
        code, accepted = kind
        now_s = int(self._asked.now_s)
        word = name_state(_STORED[code], until_s, now_s, is_accepted=bool(accepted))
        is_overdue = word == "late" and until_s <= now_s - self._asked.allow_late_s
        return {
            word: number,
            "overdue": number * is_overdue,
            "accepted": number * (word == "missing" and accepted),
        }

    def _sweep(
        self, statement: str, zone: str, bounds: Sequence[int]
    ) -> dict[tuple[int, int], list[int]]:
        """How many buckets of spans end after each bound and not after the next, by their kind.

        The statement gives two numbers that are the kind, start and end of a span, and how many
        such spans there are.
        """
        length = self._ruler["length"]
        events: dict[tuple[int, int, float], Counter[int]] = defaultdict(Counter)
        for code, accepted, start_s, end_s, count in self._db.execute(statement, (zone,)):
            marks = events[code, accepted, start_s % length]
            marks[start_s] += count
            marks[end_s] -= count
        found: dict[tuple[int, int], list[int]] = {}
        for (code, accepted, phase), marks in events.items():
            edges = [at_s - (at_s - phase) % length for at_s in bounds]
            areas = _areas(sorted(marks.items()), edges)
            numbers = [round((after - before) / length) for before, after in pairwise(areas)]
            held = found.setdefault((code, accepted), [0] * len(numbers))
            for place, number in enumerate(numbers):
                held[place] += number
        return found

    def whole_until(self) -> tuple[int, int]:
        """Up to when at least half of the meters are whole, and how many are."""
        ends = sorted(
            end_s
            for (end_s,) in self._db.execute(
                "SELECT coalesce(t.open_s, f.end_s) FROM fleet AS f"
                " LEFT JOIN tally AS t ON t.n = f.n"
            )
        )
        if not ends:
            return 0, 0
        median = ends[len(ends) // 2]
        return median, sum(1 for end_s in ends if end_s >= median)

    def worst(self, count: int) -> list[Worst]:
        """The meters of which most should be there that is not, the worst first."""
        found = self._db.execute(
            "SELECT f.id, f.type, t.bad, t.bad_s FROM tally AS t JOIN fleet AS f ON f.n = t.n"
            " WHERE t.bad > 0 ORDER BY t.bad DESC, f.id LIMIT ?",
            (count,),
        )
        return [Worst(*row) for row in found]

    def lacks(
        self, *, why: Collection[Shown] = (), accepted: bool = False, min_s: int = 0
    ) -> Iterator[Lack]:
        """What is not known, in a row of one meter as one; the worst meter first, then by time.

        `why`: only what is called so. `accepted`: only what was accepted, else only what was not.
        """
        meters = self._db.execute(f"SELECT f.n, f.id {_WORST_FIRST}")
        for n, meter_id in meters:
            for lack in self._join(self._parts(n, meter_id)):
                if (
                    lack.is_accepted == accepted
                    and (not why or lack.why in why)
                    and lack.end_s - lack.start_s >= min_s
                ):
                    yield lack

    def worst_fleet(self, count: int) -> list[tuple[Extent, list[Lack]]]:
        """Meters that lack something, the worst first, each with all that it lacks."""
        meters = self._db.execute(
            f"SELECT f.n, f.id, f.zone, f.from_s, f.until_s {_WORST_FIRST} LIMIT ?",
            (count,),
        ).fetchall()
        return [
            (
                Extent(meter_id, self._places[zone].zone, from_s, until_s),
                list(self._join(self._parts(n, meter_id))),
            )
            for n, meter_id, zone, from_s, until_s in meters
        ]

    def accept(self, lacks: Iterable[Lack]) -> None:
        """Remember of these that nobody waits for them; within a transaction."""
        self._db.execute(ACCEPTED)
        rows = [
            (one.start_s, one.end_s, int(self._asked.now_s), storable(one.meter_id))
            for one in lacks
        ]
        self._db.executemany(
            "INSERT OR REPLACE INTO accepted SELECT series, ?, ?, ? FROM fleet WHERE id = ?", rows
        )

    def reopen(self) -> int:
        """Forget what was accepted of the span that is looked at; of how many meters."""
        if not has_accepted(self._db):
            return 0
        found = self._db.execute(
            "SELECT a.series, a.start_s, a.end_s, a.accepted_s, f.from_s, f.until_s"
            " FROM fleet AS f JOIN accepted AS a ON a.series = f.series"
            " WHERE a.start_s < f.until_s AND a.end_s > f.from_s"
        ).fetchall()
        for series, start_s, end_s, accepted_s, from_s, until_s in found:
            self._db.execute(
                "DELETE FROM accepted WHERE series = ? AND start_s = ?", (series, start_s)
            )
            for first_s, last_s in ((start_s, from_s), (until_s, end_s)):
                if first_s < last_s:
                    self._db.execute(
                        "INSERT INTO accepted VALUES (?, ?, ?, ?)",
                        (series, first_s, last_s, accepted_s),
                    )
        return len({row[0] for row in found})

    # How it is found

    def _find_fleet(self) -> None:
        import json

        ids = [storable(one) for one in self._asked.meter_ids]
        listed = self._db.execute("SELECT value FROM notes WHERE name = 'list meter'").fetchone()
        self._db.execute(
            _FLEET,
            {
                "granularity": self._asked.granularity,
                "listed_s": int(listed[0]) if listed else 0,
                "ids": json.dumps(ids) if ids else None,
            },
        )
        known = {one for (one,) in self._db.execute("SELECT id FROM fleet")} if ids else set()
        for one in ids:
            if one not in known:
                raise UsageError(self._no_such(one))

    def _no_such(self, meter_id: str) -> str:
        from difflib import get_close_matches

        known = [
            one for (one,) in self._db.execute("SELECT DISTINCT id FROM seen WHERE list='meter'")
        ]
        close = get_close_matches(meter_id, known, n=2, cutoff=0.6)
        hint = f" Closest: {', '.join(map(clean, close))}." if close else ""
        return f"no meter {clean(meter_id)} in this archive.{hint}"

    def _choose_grids(self) -> None:
        """Of several places where buckets end, a meter's own; else that which holds most."""
        found = self._db.execute(_SEVERAL, (self._asked.granularity,)).fetchall()
        chosen = []
        for n, group in groupby(found, lambda row: row[0]):
            rows = list(group)
            own = [row for row in rows if row[2] == self._places[row[3]].grid]
            best = own[0] if own else max(rows, key=lambda row: (row[4] or 0, -row[1]))
            chosen.append((best[1], best[2], n))
        self._db.executemany("UPDATE fleet SET series = ?, grid = ? WHERE n = ?", chosen)

    def _bound(self, first_s: int, *, is_even: bool) -> None:
        """From when to when there should be something of each meter."""
        self._db.executemany(
            "INSERT INTO zones VALUES (?, ?, ?, ?)",
            [
                (name, place.grid, *self._bounds_in(place.zone, first_s))
                for name, place in self._places.items()
            ],
        )
        phase = "CAST(coalesce(fleet.grid, z.grid, '0') AS INTEGER)"
        statement = _BOUNDS.format(phase=phase) if is_even else _LOOSE_BOUNDS
        self._db.execute(statement, {"step": self._step} if is_even else {})
        self._db.execute(_EXPECTED, self._ruler)

    def _bounds_in(self, zone: tzinfo, first_s: int) -> Span:
        """The same for meters in a zone: whole days, up to now.

        Without a first day, from the first midnight at which anything is held: that of other zones
        lies some hours apart.
        """
        since, until, end_s = self._asked.since, self._asked.until, int(self._asked.now_s)
        if since is not None:
            start_s = _midnight(since, zone)
        else:
            day = datetime.fromtimestamp(first_s, zone).date()
            start_s = _midnight(day, zone)
            if start_s < first_s:
                start_s = _midnight(day + timedelta(days=1), zone)
        if until is not None:
            end_s = min(end_s, _midnight(until, zone))
        return start_s, end_s

    def _find_pieces(self) -> None:
        self._db.execute(_EXTENT)
        for source in (_NOT_KNOWN, _HOLES):
            self._db.execute(_PIECES.format(source=source), self._ruler)
        if has_accepted(self._db):
            self._mark_accepted()

    def _mark_accepted(self) -> None:
        """Split pieces at the ends of what was accepted, and mark what lies within."""
        found = self._db.execute(_IN_ACCEPTED).fetchall()
        for (n, start_s, end_s, asked_s), group in groupby(found, lambda row: row[:4]):
            self._db.execute("DELETE FROM pieces WHERE n = ? AND start_s = ?", (n, start_s))
            at_s = start_s
            for *_, first_s, last_s in group:
                self._split(n, (at_s, max(at_s, first_s)), 0, asked_s)
                self._split(n, (max(at_s, first_s), min(end_s, last_s)), 1, asked_s)
                at_s = min(end_s, last_s)
            self._split(n, (at_s, end_s), 0, asked_s)

    def _split(self, n: int, span: Span, accepted: int, asked_s: int) -> None:
        if span[0] < span[1]:
            values = {"n": n, "start": span[0], "end": span[1], "accepted": accepted}
            values |= {"asked": asked_s, **self._ruler}
            self._db.execute(_PIECES.format(source=_SPLIT), values)

    def _count(self) -> None:
        """Put the pieces of each meter together, by what they are called."""
        names = list(self._names())

        def total(*words: Shown, accepted: bool | None = None) -> str:
            terms = [
                f"iif(code = {code} AND accepted = {marked}, {_CLASSES[place]}, 0)"
                for code, marked, place, word in names
                if word in words and accepted in (None, bool(marked))
            ]
            return " + ".join(terms) or "0"

        late = [
            f"iif(code = {code} AND accepted = {marked}, max(0, min(old, overdue) - final), 0)"
            for code, marked, _, word in names
            if word == "late"
        ]
        overdue = " + ".join(late)
        bad = f"{total('failed', 'never asked')} + {total('missing', accepted=False)} + {overdue}"
        self._db.execute(
            f"INSERT INTO tally SELECT n, min(iif(accepted, NULL, start_s)),"  # noqa: S608
            f" sum({total('to come')}), sum({total('late')}), sum({total('missing')}),"
            f" sum({total('failed')}), sum({total('never asked')}), sum({overdue}),"
            f" sum({total('missing', accepted=True)}), sum({bad}),"
            f" min(iif({bad} > 0, start_s, NULL)) FROM pieces GROUP BY n"
        )

    def _names(self) -> Iterator[tuple[int, int, int, Shown]]:
        """What each part of a piece is called: by its code, whether accepted, and its place."""
        now_s = self._asked.now_s
        ages_s = (FINAL_S + 1, (TO_COME_S + FINAL_S) / 2, 0)
        for code, stored in enumerate(_STORED):
            for accepted in (0, 1) if code == _UNFILLED else (0,):
                for place, age_s in enumerate(ages_s):
                    word = name_state(stored, now_s - age_s, now_s, is_accepted=bool(accepted))
                    yield code, accepted, place, word

    def _parts(self, n: int, meter_id: str) -> Iterator[_Part]:
        """The pieces of a meter, cut where their age gives them another name; ascending."""
        length = self._ruler["length"]
        for start_s, end_s, code, accepted, asked_s, count, final, old in self._db.execute(
            "SELECT start_s, end_s, code, accepted, asked_s, count, final, old FROM pieces"
            " WHERE n = ? ORDER BY start_s",
            (n,),
        ):
            for place, (first, last) in enumerate(((0, final), (final, old), (old, count))):
                if first < last:
                    yield _Part(
                        meter_id,
                        int(start_s + first * length),
                        end_s if last == count else int(start_s + last * length),
                        last - first,
                        code,
                        accepted,
                        place,
                        asked_s,
                    )

    def _join(self, parts: Iterator[_Part]) -> Iterator[Lack]:
        """Neighbours that are called the same as one."""
        words = {names[:3]: names[3] for names in self._names()}
        before: Lack | None = None
        for part in parts:
            lack = self._lack(part, words[part.code, part.accepted, part.place])
            if before is None:
                before = lack
            elif (before.end_s, before.why, before.is_accepted) == (
                lack.start_s,
                lack.why,
                lack.is_accepted,
            ):
                before = before._replace(
                    end_s=lack.end_s,
                    buckets=before.buckets + lack.buckets,
                    asked_s=_latest(before.asked_s, lack.asked_s),
                    next_s=_earliest(before.next_s, lack.next_s),
                )
            else:
                yield before
                before = lack
        if before is not None:
            yield before

    def _lack(self, part: _Part, why: Shown) -> Lack:
        next_s: float | None = self._asked.now_s
        if part.code == _UNFILLED:
            assert part.asked_s is not None
            gap = Gap(part.start_s, part.end_s, part.buckets)
            next_s = find_next_ask(gap, part.asked_s, self._asked.now_s)
        return Lack(
            part.meter_id,
            part.start_s,
            part.end_s,
            part.buckets,
            why,
            bool(part.accepted),
            part.asked_s,
            next_s,
        )


def _areas(marks: Sequence[tuple[int, int]], edges: Sequence[float]) -> list[float]:
    """The seconds up to each edge of all spans, of which marks tell how many begin and end."""
    found, area, height, at_s, place = [], 0.0, 0, 0.0, 0
    for edge in edges:
        while place < len(marks) and marks[place][0] <= edge:
            mark_s, change = marks[place]
            area += height * (mark_s - at_s)
            at_s, height, place = mark_s, height + change, place + 1
        if edge > at_s:
            area += height * (edge - at_s)
            at_s = edge
        found.append(area)
    return found


def local_days(start_s: int, end_s: int, zone: tzinfo) -> list[tuple[date, int, int]]:
    """The dates from one instant to another, each with its midnights."""
    found: list[tuple[date, int, int]] = []
    day = datetime.fromtimestamp(start_s, zone).date()
    midnight_s = _midnight(day, zone)
    while midnight_s < end_s:
        next_day = day + timedelta(days=1)
        next_s = _midnight(next_day, zone)
        found.append((day, midnight_s, next_s))
        day, midnight_s = next_day, next_s
    return found


def _midnight(day: date, zone: tzinfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def has_accepted(db: sqlite3.Connection) -> bool:
    """True where anything may have been accepted: files of this format are there without."""
    found = db.execute("SELECT 1 FROM main.sqlite_master WHERE name = 'accepted'").fetchone()
    return found is not None


def _latest(one: int | None, other: int | None) -> int | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _earliest(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)
