"""What `copper query` shows of an archive: its views, made here and nowhere else.

The page docs/query.md takes its tables from `VIEWS`. The rows of months stay in their files; what
is in the landing is copied into a DuckDB in memory, as far as a question names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.archive.months import Month, find_files, fixed_step
from copper_cli.archive.parquet import column_types, quote
from copper_cli.buckets import BUCKET_S, GRANULARITIES, MONTH_S
from copper_cli.filling import FINAL_S, TO_COME_S
from copper_cli.units import amount_unit

if TYPE_CHECKING:
    import sqlite3

    import duckdb

OwnGrid = Callable[[str, str], str | None]
"""The grid of a zone and granularity; None where the zone is not known on this machine."""

_INSTANT = "TIMESTAMPTZ"


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view."""

    name: str
    """As it is asked for; `end` in quotes."""
    type: str
    """As DuckDB calls it."""
    meaning: str
    """One line."""
    sql: str
    """What it is, of the view's source."""


@dataclass(frozen=True, slots=True)
class View:
    """One view."""

    name: str
    """As it is asked for."""
    about: str
    """What a row of it is."""
    columns: tuple[ViewColumn, ...]
    """In order."""
    source: str
    """FROM and what follows."""
    needs: frozenset[str]
    """What of the archive it is made of: kinds of months, and `lists`, `coverage`, `snapshots`."""

    def select(self) -> str:
        """The question that it is."""
        columns = ", ".join(f'{one.sql} AS "{one.name}"' for one in self.columns)
        return f"SELECT {columns} {self.source}"


def _span(row: str, noun: str) -> tuple[ViewColumn, ...]:
    return (
        ViewColumn("start", _INSTANT, f"begin of the {noun}", f"{row}.start"),
        ViewColumn("end", _INSTANT, f'end of the {noun}; `end` is a word of SQL: write `"end"`, or'
                   " `end_utc`", f'{row}."end"'),
        ViewColumn("start_utc", _INSTANT, "the same as `start`", f"{row}.start"),
        ViewColumn("end_utc", _INSTANT, 'the same as `"end"`', f'{row}."end"'),
    )  # fmt: skip


def _local_start(row: str) -> ViewColumn:
    return ViewColumn(
        "local_start", "TIMESTAMP", "`start` on the clock of the premise; null without a zone",
        f"{row}.start AT TIME ZONE m.timezone",
    )  # fmt: skip


_METER_ID = ViewColumn("meter_id", "VARCHAR", "the cloud's id", "r.meter_id")
_OF_METER = (
    ViewColumn("meter_type", "VARCHAR", "such as `power`, `gas`, `water`", "m.meter_type"),
    ViewColumn("uom", "VARCHAR", "unit of `energy` and `value`", "m.uom"),
    ViewColumn("premise_id", "VARCHAR", "where the meter stands, as last seen", "m.premise_id"),
    ViewColumn("timezone", "VARCHAR", "the zone of that premise", "m.timezone"),
)
_GRANULARITY = ViewColumn(
    "granularity", "VARCHAR", "one of " + ", ".join(f"`{name}`" for name in GRANULARITIES),
    "r.granularity",
)  # fmt: skip
_ENERGY = ViewColumn(
    "energy", "DOUBLE", "used in the bucket; null: asked for, and not there (yet)", "r.energy"
)
_POWER = ViewColumn("power", "DOUBLE", "energy by the bucket's hours", "r.power")
_REGISTER = (
    ViewColumn("value", "DOUBLE", "the register at the end, in `uom`", "r.value"),
    ViewColumn("actual", "BIGINT", "the register as the meter reports it", "r.actual"),
)
_ACTUAL_FLOAT = ViewColumn(
    "actual_float", "DOUBLE", "the same where it is no whole number; then `actual` is null",
    "r.actual_float",
)  # fmt: skip
_STATE = ViewColumn(
    "state", "VARCHAR", "`known`; without energy `to come`, `late` or `missing`, by age",
    "CASE WHEN r.energy IS NOT NULL THEN 'known'"
    """ WHEN r."end" > (SELECT young FROM kept.now) THEN 'to come'"""
    """ WHEN r."end" > (SELECT final FROM kept.now) THEN 'late' ELSE 'missing' END""",
)  # fmt: skip
_GRID = ViewColumn("grid", "VARCHAR", "where buckets end; a meter's own here", "r.grid")
_WITH_METER = "LEFT JOIN kept.meters AS m ON m.meter_id = r.meter_id"
_SEEN = (
    ViewColumn("listed", "BOOLEAN", "it stood in the list when that was last seen", "listed"),
    ViewColumn("first_seen_utc", _INSTANT, "when a list first named it", "first_seen"),
    ViewColumn("last_seen_utc", _INSTANT, "when a list last named it", "last_seen"),
)


def _interval_view(name: str, about: str, register: tuple[ViewColumn, ...]) -> View:
    numbers = (_ENERGY, _POWER, *register, _STATE)
    extra = (_ACTUAL_FLOAT,) if register else ()
    columns = (_METER_ID, *_OF_METER, _GRANULARITY, *_span("r", "bucket"), _local_start("r"))
    return View(
        name, about, (*columns, *numbers, _GRID, *extra), f"FROM kept.{name} AS r {_WITH_METER}",
        frozenset({name, "lists"}),
    )  # fmt: skip


def _plain(name: str, kind: str, meaning: str) -> ViewColumn:
    return ViewColumn(name, kind, meaning, f'"{name}"')


_OF_PREMISE = {
    "name": "as the partner calls it",
    "street_address": "street and number",
    "suite_apartment_unit": "flat",
    "city_town": "city",
    "postal_code": "postal code",
    "county_district": "county",
    "state_region": "state",
}

_STEPS = " ".join(f"WHEN '{name}' THEN {step}" for name, step in BUCKET_S.items())
_LENGTH = f"CASE c.granularity {_STEPS} ELSE {MONTH_S} END"
_FIXED = ", ".join(f"'{name}'" for name in GRANULARITIES if fixed_step(name) is not None)

_GAPS = f"""FROM (
WITH ranges AS (
    SELECT subject, granularity, state, start_s, end_s, asked_s, buckets FROM kept.coverage
    WHERE kind = 'usage' AND own
), holes AS (
    SELECT c.subject, c.granularity, 'never asked' AS state, c.end_s AS start_s, c.next_s AS end_s,
        NULL::BIGINT AS asked_s,
        CASE WHEN c.granularity IN ({_FIXED})
            THEN (c.next_s - c.phase) // {_LENGTH} - (c.end_s - c.phase) // {_LENGTH}
            ELSE greatest(1, round((c.next_s - c.end_s) / {_LENGTH})) END::BIGINT AS buckets
    FROM (
        SELECT *, coalesce(try_cast(grid AS BIGINT), 0) AS phase, lead(start_s) OVER (
            PARTITION BY subject, granularity, grid ORDER BY start_s) AS next_s
        FROM kept.coverage WHERE kind = 'usage' AND own
    ) AS c WHERE c.next_s > c.end_s
), unfilled AS (
    SELECT *, (end_s - start_s) / buckets AS step,
        buckets - least(greatest(floor(
            ((SELECT epoch(young) FROM kept.now) - start_s) / step + 1e-9), 0), buckets) AS young,
        buckets - least(greatest(floor(
            ((SELECT epoch(final) FROM kept.now) - start_s) / step + 1e-9), 0), buckets) AS not_old
    FROM ranges WHERE state IN ('null', 'absent') AND buckets > 0
), parts AS (
    SELECT subject, granularity, 'missing' AS state, start_s,
        round(start_s + step * (buckets - not_old))::BIGINT AS end_s, asked_s,
        (buckets - not_old)::BIGINT AS buckets FROM unfilled
    UNION ALL
    SELECT subject, granularity, 'late', round(start_s + step * (buckets - not_old))::BIGINT,
        round(start_s + step * (buckets - young))::BIGINT, asked_s, (not_old - young)::BIGINT
        FROM unfilled
    UNION ALL
    SELECT subject, granularity, 'to come', round(start_s + step * (buckets - young))::BIGINT,
        end_s, asked_s, young::BIGINT FROM unfilled
    UNION ALL
    SELECT subject, granularity, state, start_s, end_s, asked_s, buckets FROM ranges
        WHERE state = 'failed'
    UNION ALL
    SELECT subject, granularity, state, start_s, end_s, asked_s, buckets FROM holes
), marked AS (
    SELECT *, coalesce(start_s <> lag(end_s) OVER near OR state <> lag(state) OVER near, true)
        AS begins
    FROM parts WHERE buckets > 0 WINDOW near AS (PARTITION BY subject, granularity ORDER BY start_s)
), numbered AS (
    SELECT *, count(*) FILTER (begins) OVER (
        PARTITION BY subject, granularity ORDER BY start_s ROWS UNBOUNDED PRECEDING) AS run
    FROM marked
)
SELECT subject AS meter_id, granularity, state, make_timestamptz(min(start_s) * 1000000) AS start,
    make_timestamptz(max(end_s) * 1000000) AS "end", sum(buckets)::BIGINT AS buckets,
    make_timestamptz(max(asked_s) * 1000000) AS asked
FROM numbered GROUP BY subject, granularity, state, run
) AS r {_WITH_METER}"""  # noqa: S608 - all of it is ours

_USE = (
    'FROM (SELECT meter_id, lag(time) OVER w AS start, time AS "end", lag(value) OVER w AS '  # noqa: S608
    "start_value, value AS end_value FROM kept.snapshots WHERE time IS NOT NULL AND value IS "
    f"NOT NULL WINDOW w AS (PARTITION BY meter_id ORDER BY time)) AS r {_WITH_METER} "
    "WHERE r.start IS NOT NULL"
)

VIEWS: tuple[View, ...] = (
    _interval_view("usage", "A bucket of a meter.", _REGISTER),
    _interval_view("baseline", "What a meter would have used in a bucket.", ()),
    _interval_view("average", "What meters like it used in a bucket.", ()),
    View(
        "meters",
        "A meter, as last seen in a list.",
        (
            _plain("meter_id", "VARCHAR", "the cloud's id"),
            _plain("meter_type", "VARCHAR", "such as `power`, `gas`, `water`"),
            _plain("uom", "VARCHAR", "unit of its amounts"),
            _plain("state", "VARCHAR", "`connected`, `degraded` or `disconnected`"),
            _plain("premise_id", "VARCHAR", "where it stands"),
            _plain("timezone", "VARCHAR", "the zone of that premise"),
            ViewColumn("created_utc", _INSTANT, "when the cloud was told of it", "created"),
            *_SEEN,
        ),
        "FROM kept.meters",
        frozenset({"lists"}),
    ),
    View(
        "premises",
        "A premise, as last seen in a list.",
        (
            _plain("premise_id", "VARCHAR", "the cloud's id"),
            *(_plain(name, "VARCHAR", meaning) for name, meaning in _OF_PREMISE.items()),
            _plain("tags", "VARCHAR[]", "its labels: `list_contains(tags, 'pilot')`"),
            _plain("timezone", "VARCHAR", "IANA name of its zone"),
            ViewColumn("created_utc", _INSTANT, "when it was entered", "created"),
            *_SEEN,
        ),
        "FROM kept.premises",
        frozenset({"lists"}),
    ),
    View(
        "gateways",
        "A gateway, as last seen in a list.",
        (
            _plain("gateway_id", "VARCHAR", "the cloud's id"),
            _plain("state", "VARCHAR", "`active`, `down` …"),
            _plain("premise_id", "VARCHAR", "where it stands"),
            _plain("timezone", "VARCHAR", "the zone of that premise"),
            _plain("model", "VARCHAR", "what it is"),
            _plain("firmware_version", "VARCHAR", "what runs on it"),
            *_SEEN,
        ),
        "FROM kept.gateways",
        frozenset({"lists"}),
    ),
    View(
        "readings",
        "A reading of a meter's register (`copper meter readings`).",
        (
            _METER_ID,
            *_OF_METER,
            ViewColumn("time_utc", _INSTANT, "when", 'r."time"'),
            ViewColumn(
                "local_time", "TIMESTAMP", "the same on the clock of the premise",
                'r."time" AT TIME ZONE m.timezone',
            ),
            ViewColumn("value", "DOUBLE", "the register in `uom`", "r.value"),
            ViewColumn("actual", "BIGINT", "the register as the meter reports it", "r.actual"),
            _ACTUAL_FLOAT,
        ),
        f"FROM kept.readings AS r {_WITH_METER}",
        frozenset({"readings", "lists"}),
    ),
    View(
        "grid",
        "Voltage and frequency at a gateway (`copper grid`).",
        (
            ViewColumn("gateway_id", "VARCHAR", "the cloud's id", "r.gateway_id"),
            ViewColumn("premise_id", "VARCHAR", "where the gateway stands", "m.premise_id"),
            ViewColumn("timezone", "VARCHAR", "the zone of that premise", "m.timezone"),
            ViewColumn("time_utc", _INSTANT, "when", 'r."time"'),
            ViewColumn(
                "local_time", "TIMESTAMP", "the same on the clock of the premise",
                'r."time" AT TIME ZONE m.timezone',
            ),
            ViewColumn("voltage", "DOUBLE", "volts", "r.voltage"),
            ViewColumn("frequency", "DOUBLE", "hertz", "r.frequency"),
        ),
        "FROM kept.grid AS r LEFT JOIN kept.gateways AS m ON m.gateway_id = r.gateway_id",
        frozenset({"grid", "lists"}),
    ),
    View(
        "registers",
        "A meter's newest reading, each time that `copper bulk` saw another.",
        (
            _METER_ID,
            *_OF_METER,
            ViewColumn("time_utc", _INSTANT, "when the meter was read", "r.time"),
            ViewColumn(
                "local_time", "TIMESTAMP", "the same on the clock of the premise",
                "r.time AT TIME ZONE m.timezone",
            ),
            ViewColumn("value", "DOUBLE", "the register in the standard unit", "r.value"),
            ViewColumn("seen_utc", _INSTANT, "when the cloud said so", "r.seen"),
        ),
        f"FROM kept.snapshots AS r {_WITH_METER}",
        frozenset({"snapshots", "lists"}),
    ),
    View(
        "register_use",
        "What a meter used between two readings of `registers` that follow one another.",
        (
            _METER_ID,
            *_OF_METER,
            *_span("r", "span"),
            _local_start("r"),
            ViewColumn("start_value", "DOUBLE", "the register at the start", "r.start_value"),
            ViewColumn("end_value", "DOUBLE", "the register at the end", "r.end_value"),
            ViewColumn(
                "energy", "DOUBLE", "their difference: known in total, not in shape; negative "
                "where the register went back", "r.end_value - r.start_value",
            ),
        ),
        _USE,
        frozenset({"snapshots", "lists"}),
    ),
    View(
        "coverage",
        "A span of which is known what the cloud said; where none lies nobody ever asked.",
        (
            ViewColumn("subject", "VARCHAR", "meter, for `grid` gateway", "r.subject"),
            ViewColumn(
                "kind", "VARCHAR",
                "`usage`, `baseline-series`, `average-series`, `readings` or `grid`", "r.kind",
            ),
            ViewColumn("granularity", "VARCHAR", "empty for readings and grid", "r.granularity"),
            ViewColumn("grid", "VARCHAR", "where buckets end", "r.grid"),
            ViewColumn(
                "own", "BOOLEAN", "it is the grid that `usage`, `baseline`, `average` show", "r.own"
            ),
            ViewColumn(
                "state", "VARCHAR", "`known`; `null`: the cloud sent null; `absent`: no row; "
                "`failed`", "r.state",
            ),
            *_span("r", "span"),
            ViewColumn(
                "buckets", "BIGINT", "how many end in it; 0 for readings and grid", "r.buckets"
            ),
            ViewColumn(
                "asked_utc", _INSTANT, "when it was last asked for; of what is known up to 28 days "
                "earlier", "make_timestamptz(r.asked_s * 1000000)",
            ),
        ),
        "FROM (SELECT *, make_timestamptz(start_s * 1000000) AS start, "
        'make_timestamptz(end_s * 1000000) AS "end" FROM kept.coverage) AS r',
        frozenset({"coverage"}),
    ),
    View(
        "gaps",
        "Buckets of `usage` in a row that hold no amount, and spans between others that nobody "
        "asked for.",
        (
            _METER_ID,
            *_OF_METER,
            _GRANULARITY,
            *_span("r", "gap"),
            _local_start("r"),
            ViewColumn("buckets", "BIGINT", "how many", "r.buckets"),
            ViewColumn(
                "hours", "DOUBLE", "from its start to its end",
                """epoch(r."end" - r.start) / 3600""",
            ),
            ViewColumn(
                "state", "VARCHAR", "`to come`, `late`, `missing`, `failed` or `never asked`",
                "r.state",
            ),
            ViewColumn("asked_utc", _INSTANT, "when it was last asked for", "r.asked"),
        ),
        _GAPS,
        frozenset({"coverage", "lists"}),
    ),
)  # fmt: skip

ROW_VIEWS = {"usage": "usage", "baseline": "baseline-series", "average": "average-series"}
"""Views of interval rows, and their kinds."""


# What they are made of


def lay_out(
    duck: duckdb.DuckDBPyConnection,
    db: sqlite3.Connection,
    files: Sequence[tuple[Month, str]],
    needs: frozenset[str],
    *,
    now_s: float,
    own_grid: OwnGrid,
) -> None:
    """Make all views; those that need what is not in `needs` are empty.

    `db`: within one transaction. `files`: months, each with where it is read. Raises duckdb.Error.
    """
    duck.execute("CREATE SCHEMA kept")
    duck.execute(
        "CREATE TABLE kept.now AS SELECT make_timestamptz(?) AS young, "
        "make_timestamptz(?) AS final",
        [round((now_s - age_s) * 1_000_000) for age_s in (TO_COME_S, FINAL_S)],
    )
    has_rows = bool(needs & {*ROW_VIEWS, "coverage"})
    zones = _read_zones(db) if has_rows or "lists" in needs else {}
    known = {name for (name,) in duck.execute("SELECT name FROM pg_timezone_names()").fetchall()}
    zones = {meter: zone for meter, zone in zones.items() if zone in known}
    _make_lists(duck, db, zones, known, is_filled="lists" in needs)
    others = _find_others(db, zones, own_grid) if has_rows else []
    _make(duck, "others", _OTHERS, others)
    _make(duck, "coverage", _COVERAGE, _read_coverage(db, others) if "coverage" in needs else ())
    snapshots = db.execute(_SNAPSHOTS_QUESTION) if "snapshots" in needs else ()
    _make(duck, "snapshots", _SNAPSHOTS, snapshots)
    foreign = {(kind, granularity) for kind, granularity, _, _ in others}
    for name, kind in ROW_VIEWS.items():
        duck.execute(f"CREATE VIEW kept.{name} AS {_rows_of(kind, files, foreign)}")
    for kind in ("readings", "grid"):
        duck.execute(f"CREATE VIEW kept.{kind} AS {_instants_of(kind, files)}")
    for view in VIEWS:
        duck.execute(f"CREATE VIEW {view.name} AS {view.select()}")


def month_files(path: Path, needs: frozenset[str]) -> list[Month]:
    """The published months that are needed. Raises OSError."""
    kinds = {ROW_VIEWS.get(name, name) for name in needs}
    return [month for month, _ in find_files(path) if month.kind in kinds]


def _rows_of(
    kind: str, files: Sequence[tuple[Month, str]], foreign: Iterable[tuple[str, str]]
) -> str:
    """Rows of each granularity, each meter's in one grid."""
    parts = []
    for granularity in GRANULARITIES:
        found = [place for month, place in files if month.kind == kind
                 and month.granularity == granularity]  # fmt: skip
        if found:
            without = (
                f" ANTI JOIN (SELECT subject, grid FROM kept.others WHERE kind = '{kind}' AND "  # noqa: S608
                f"granularity = '{granularity}') AS o ON o.subject = f.meter_id AND o.grid = f.grid"
            )
            parts.append(
                f"SELECT f.*, '{granularity}' AS granularity FROM {_read(found)} AS f"  # noqa: S608
                + (without if (kind, granularity) in set(foreign) else "")
            )
    return " UNION ALL ".join(parts) or _nothing({**column_types(kind), "granularity": "VARCHAR"})


def _instants_of(kind: str, files: Sequence[tuple[Month, str]]) -> str:
    found = [place for month, place in files if month.kind == kind]
    return f"FROM {_read(found)}" if found else _nothing(column_types(kind))


def _read(places: Sequence[str]) -> str:
    listed = ", ".join(quote(place) for place in places)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def _nothing(columns: Mapping[str, str]) -> str:
    """A question with these columns and no row."""
    found = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"SELECT {found} WHERE false"


_OTHERS = {"kind": "VARCHAR", "granularity": "VARCHAR", "subject": "VARCHAR", "grid": "VARCHAR"}
_COVERAGE = {
    "kind": "VARCHAR", "subject": "VARCHAR", "granularity": "VARCHAR", "grid": "VARCHAR",
    "own": "BOOLEAN", "state": "VARCHAR", "start_s": "BIGINT", "end_s": "BIGINT",
    "asked_s": "BIGINT", "buckets": "BIGINT",
}  # fmt: skip
_SNAPSHOTS = {"meter_id": "VARCHAR", "value": "DOUBLE", "time": _INSTANT, "seen": _INSTANT}
_SNAPSHOTS_QUESTION = "SELECT meter_id, value, time_s, seen_s FROM snapshots"
_SEEN_COLUMNS = {"listed": "BOOLEAN", "first_seen": _INSTANT, "last_seen": _INSTANT}
_METERS = {
    "meter_id": "VARCHAR", "meter_type": "VARCHAR", "uom": "VARCHAR", "state": "VARCHAR",
    "premise_id": "VARCHAR", "timezone": "VARCHAR", "created": _INSTANT, **_SEEN_COLUMNS,
}  # fmt: skip
_PREMISES = {
    "premise_id": "VARCHAR", **dict.fromkeys(_OF_PREMISE, "VARCHAR"), "tags": "VARCHAR[]",
    "timezone": "VARCHAR", "created": _INSTANT, **_SEEN_COLUMNS,
}  # fmt: skip
_GATEWAYS = {
    "gateway_id": "VARCHAR", "state": "VARCHAR", "premise_id": "VARCHAR", "timezone": "VARCHAR",
    "model": "VARCHAR", "firmware_version": "VARCHAR", **_SEEN_COLUMNS,
}  # fmt: skip


def _make(
    duck: duckdb.DuckDBPyConnection,
    name: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """A table of what Python has. Instants are seconds or ISO 8601, lists are JSON."""
    import numpy as np

    found = list(rows)
    duck.execute(
        f"CREATE TABLE kept.{name} ({', '.join(f'{one} {kind}' for one, kind in columns.items())})"
    )
    if not found:
        return
    given: dict[str, Any] = {}
    casts = []
    for place, (column, kind) in enumerate(columns.items()):
        given[f"c{place}"] = array = np.empty(len(found), object)
        array[:] = [row[place] for row in found]
        cast = f"c{place}::{kind}"
        if kind == _INSTANT and not any(isinstance(one, str) for one in array):
            cast = f"make_timestamptz((c{place}::DOUBLE * 1000000)::BIGINT)"
        elif kind.endswith("[]"):
            cast = f"c{place}::JSON::{kind}"
        elif kind == _INSTANT:
            cast = f"try_cast(c{place}::VARCHAR AS {kind})"
        casts.append(f"{cast} AS {column}")
    duck.register("given", given)
    duck.execute(f"INSERT INTO kept.{name} SELECT {', '.join(casts)} FROM given")  # noqa: S608
    duck.unregister("given")


def _latest(db: sqlite3.Connection, kind: str) -> list[tuple[str, dict[str, Any], bool, int, int]]:
    """Of each thing in lists its newest state, whether it is still listed, seen from and until."""
    noted = db.execute("SELECT value FROM notes WHERE name = ?", (f"list {kind}",)).fetchone()
    whole_s = int(noted[0]) if noted else 0
    found = db.execute(
        "SELECT s.id, s.body, a.first_s, a.last_s FROM seen AS s JOIN (SELECT id, "
        "min(first_s) AS first_s, max(first_s) AS newest_s, max(last_s) AS last_s FROM seen "
        "WHERE list = ?1 GROUP BY id) AS a ON a.id = s.id AND a.newest_s = s.first_s "
        "WHERE s.list = ?1 ORDER BY s.id",
        (kind,),
    )
    return [
        (one, json.loads(body), last_s >= whole_s, first_s, last_s)
        for one, body, first_s, last_s in found
    ]


def _read_zones(db: sqlite3.Connection) -> dict[str, str]:
    """The zone of each meter, and of each premise by its id."""
    zones = {one: body.get("timezone") for one, body, *_ in _latest(db, "premise")}
    located = {one: body.get("timezone") for one, body, *_ in _latest(db, "location")}
    for meter, body, *_ in _latest(db, "meter"):
        zones[meter] = zones.get(body.get("premise_id") or "") or located.get(meter)
    return {one: zone for one, zone in zones.items() if zone}


def _make_lists(
    duck: duckdb.DuckDBPyConnection,
    db: sqlite3.Connection,
    zones: Mapping[str, str],
    known: Iterable[str],
    *,
    is_filled: bool,
) -> None:
    meters: list[tuple[Any, ...]] = []
    premises: list[tuple[Any, ...]] = []
    gateways: list[tuple[Any, ...]] = []
    if is_filled:
        meters = [
            (one, kind, amount_unit(kind or "", body.get("uom")), body.get("state"),
             body.get("premise_id"), zones.get(one), body.get("created_at"), *seen)
            for one, body, *seen in _latest(db, "meter")
            for kind in (body.get("type"),)
        ]  # fmt: skip
        listed = {meter[0] for meter in meters}
        # Rows may be of a meter that no list has named here.
        for one, kind in db.execute(
            "SELECT subject, max(meter_type) FROM series WHERE kind <> 'grid' GROUP BY subject"
        ):
            if one not in listed:
                unit = amount_unit(kind, None) if kind else None
                meters.append((one, kind, unit, *(None,) * 4, False, None, None))
        zone_names = set(known)
        premises = [
            (one, *(body.get(name) for name in _OF_PREMISE), json.dumps(body.get("tags") or []),
             zone if (zone := body.get("timezone")) in zone_names else None,
             body.get("created_at"), *seen)
            for one, body, *seen in _latest(db, "premise")
        ]  # fmt: skip
        gateways = [
            (one, body.get("state"), body.get("premise_id"),
             zones.get(body.get("premise_id") or ""), body.get("model"),
             body.get("firmware_version"), *seen)
            for one, body, *seen in _latest(db, "gateway")
        ]  # fmt: skip
    _make(duck, "meters", _METERS, meters)
    _make(duck, "premises", _PREMISES, premises)
    _make(duck, "gateways", _GATEWAYS, gateways)


def _find_others(
    db: sqlite3.Connection, zones: Mapping[str, str], own_grid: OwnGrid
) -> list[tuple[str, str, str, str]]:
    """The series that are not in the meter's own grid, where a meter has several.

    Its own is that of its zone, months from the 1st; where nothing of that is known, the one of
    which most is.
    """
    found = db.execute(
        "SELECT s.kind, s.granularity, s.subject, s.grid, (SELECT coalesce(sum(c.buckets), 0) "
        "FROM coverage AS c WHERE c.series = s.id AND c.state = 'known') FROM series AS s JOIN "
        "(SELECT subject, kind, granularity FROM series WHERE granularity <> '' "
        "GROUP BY subject, kind, granularity HAVING count(*) > 1) USING "
        "(subject, kind, granularity) ORDER BY s.id"
    )
    series: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
    for kind, granularity, subject, grid, buckets in found:
        series.setdefault((kind, granularity, subject), []).append((grid, buckets))
    others = []
    for (kind, granularity, subject), grids in series.items():
        zone = zones.get(subject)
        own = own_grid(zone, granularity) if zone else None
        best = max(grids, key=lambda one: (one[1] > 0, one[0] == own, one[1]))[0]
        others += [(kind, granularity, subject, grid) for grid, _ in grids if grid != best]
    return others


def _read_coverage(
    db: sqlite3.Connection, others: Iterable[tuple[str, str, str, str]]
) -> Iterable[tuple[Any, ...]]:
    foreign = set(others)
    for kind, subject, granularity, grid, *rest in db.execute(
        "SELECT s.kind, s.subject, s.granularity, s.grid, c.state, c.start_s, c.end_s, c.asked_s, "
        "c.buckets FROM coverage AS c JOIN series AS s ON s.id = c.series"
    ):
        is_own = (kind, granularity, subject, grid) not in foreign
        yield kind, subject, granularity, grid, is_own, *rest
