"""Parquet by way of DuckDB: what a file's columns are, how rows get there and back.

DuckDB is imported within functions: that takes a tenth of a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.archive.keys import US
from copper_cli.archive.months import Month, fixed_step, month_span
from copper_cli.errors import LocalError
from copper_cli.files.reasons import local_errors
from copper_cli.text import clean

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive.arrays import Rows

About = tuple[str, str]
"""Subject and grid of a series: files are in their order."""
_INSTANT = "TIMESTAMP WITH TIME ZONE"
_INTERVAL_COLUMNS = {
    "meter_id": "VARCHAR",
    "start": _INSTANT,
    "end": _INSTANT,
    "energy": "DOUBLE",
    "power": "DOUBLE",
    "value": "DOUBLE",
    "actual": "BIGINT",
    "actual_float": "DOUBLE",
    "integers": "UTINYINT",
    "grid": "VARCHAR",
}
_COLUMNS = {
    "readings": {
        "meter_id": "VARCHAR",
        "time": _INSTANT,
        "actual": "BIGINT",
        "actual_float": "DOUBLE",
        "value": "DOUBLE",
        "integers": "UTINYINT",
        "seq": "USMALLINT",
    },
    "grid": {
        "gateway_id": "VARCHAR",
        "time": _INSTANT,
        "voltage": "DOUBLE",
        "frequency": "DOUBLE",
        "integers": "UTINYINT",
    },
}

FORMAT = "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, USE_TMP_FILE false)"
"""How files are written. The other way round DuckDB would rename them itself, before they are on
the disk."""

_MEMORY = "512MB"
_MOST_THREADS = 4


def column_types(kind: str) -> Mapping[str, str]:
    """The columns of a kind's files, in order, with their types."""
    return _COLUMNS.get(kind, _INTERVAL_COLUMNS)


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
        advice = "" if is_full else " `copper archive check` says what can be mended."
        raise LocalError(f"{clean(str(path))} cannot be {verb}: {reason}.{advice}") from error
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error  # all that DuckDB leaves of Ctrl-C


def quote(path: Path | str) -> str:
    """A path as text of SQL. As a pattern it stands for itself alone."""
    return "'" + str(path).replace("'", "''") + "'"


def exact(path: Path) -> str:
    """A path for `read_parquet`, where signs of patterns stand for themselves."""
    return quote(pattern(path))


def pattern(path: Path) -> str:
    """A path as a pattern that nothing else fits."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def id_column(kind: str) -> str:
    """What names the series of a row."""
    return "gateway_id" if kind == "grid" else "meter_id"


def time_column(kind: str) -> str:
    """The instant of a row."""
    return "time" if kind in ("readings", "grid") else '"end"'


def select_numbers(month: Month, without: Collection[str] = ()) -> str:
    """What is read of a row, each column under the name that `rows_from` knows.

    `without`: columns that hold nothing but nulls or noughts.
    """
    from copper_cli.archive.arrays import shape_of

    found = [f"epoch_us({time_column(month.kind)}) AS t"]
    if month.granularity and fixed_step(month.granularity) is None:
        found.append("epoch_us(start) AS s")
    for name in shape_of(month.kind).names:
        if name == "actual" and "actual" not in without:
            found.append(f"coalesce(actual, {_NO_INTEGER}) AS actual")
        column = "actual_float" if name == "actual" else name
        if column not in without:
            found.append(f"coalesce({column}, 'NaN'::DOUBLE) AS {column}")
    return ", ".join([*found, *(["integers"] if "integers" not in without else [])])


_NO_INTEGER = "(-9223372036854775807 - 1)"


def find_empty(duck: duckdb.DuckDBPyConnection, file: Path, month: Month) -> list[str]:
    """The columns of a file that hold nothing but nulls or noughts, as it says itself."""
    found = duck.execute(
        "SELECT path_in_schema FROM parquet_metadata(?) GROUP BY ALL"
        " HAVING sum(num_values) = sum(stats_null_count)"
        " OR bool_and(path_in_schema = 'integers' AND coalesce(stats_max_value, '') = '0')",
        [pattern(file)],
    ).fetchall()
    return [name for (name,) in found]


def rows_from(found: Mapping[str, Any], month: Month) -> Rows:
    """Rows from what DuckDB read."""
    import numpy as np

    from copper_cli.archive.arrays import NO_INTEGER, Rows, shape_of

    shape = shape_of(month.kind)
    unit = US if month.granularity else 1
    numbers = {
        name: found.get("actual_float" if name == "actual" else name) for name in shape.names
    }
    rows = Rows(found["t"] if unit == 1 else found["t"] // unit, numbers)
    for name, column in numbers.items():
        if column is not None and np.isnan(column).all():
            numbers[name] = None
    actual, integers = found.get("actual"), found.get("integers")
    rows.actual = None if actual is None or (actual == NO_INTEGER).all() else actual
    rows.integers = integers if integers is not None and integers.any() else None
    if "s" in found:
        rows.starts = found["s"] // unit
    return rows


# Rows


def count_rows(duck: duckdb.DuckDBPyConnection, file: Path) -> int:
    """How many rows a file says it has."""
    query = f"SELECT count(*) FROM read_parquet({exact(file)})"  # noqa: S608
    (count,) = duck.execute(query).fetchone() or (0,)
    return int(count)


def count_series(
    duck: duckdb.DuckDBPyConnection, file: Path, kind: str
) -> dict[tuple[str, str], int]:
    """How many rows of each series a file has: by subject and grid, in the order of the file."""
    grid = "''" if kind in ("readings", "grid") else "grid"
    found = duck.execute(
        f"SELECT {id_column(kind)}, {grid}, count(*) FROM read_parquet({exact(file)}) GROUP BY ALL"  # noqa: S608
    ).fetchall()
    return {(subject, grid): count for subject, grid, count in sorted(found)}


def read_rows(
    duck: duckdb.DuckDBPyConnection, file: Path, month: Month, subjects: tuple[str, str]
) -> Rows:
    """The rows of a file from one meter's to another's, in its order."""
    columns = select_numbers(month, find_empty(duck, file, month))
    found = duck.execute(
        f"SELECT {columns} FROM read_parquet({exact(file)})"  # noqa: S608
        f" WHERE {id_column(month.kind)} BETWEEN ? AND ?",
        subjects,
    ).fetchnumpy()
    return rows_from(found, month)


def write_rows(
    duck: duckdb.DuckDBPyConnection,
    file: Path,
    month: Month,
    batches: Iterable[tuple[Sequence[About], Rows]],
    *,
    are_many: bool,
) -> int:
    """Write a file of rows that come in its order, each batch with its series; how many it has."""
    count = 0
    is_first = True
    for keys, rows in batches:
        if not len(rows):
            continue
        count += len(rows)
        _register(duck, month, keys, rows)
        source = _select(month, rows, keys)
        if not are_many:
            duck.execute(f"COPY ({source}) TO {quote(file)} {FORMAT}")
        elif is_first:
            duck.execute(f"CREATE TABLE stage AS {source}")
        else:
            duck.execute(f"INSERT INTO stage {source}")
        duck.unregister("batch")
        is_first = False
    if are_many and count:
        duck.execute(f"COPY stage TO {quote(file)} {FORMAT}")
        duck.execute("DROP TABLE stage")
    return count


def _register(
    duck: duckdb.DuckDBPyConnection, month: Month, keys: Sequence[About], rows: Rows
) -> None:
    """Let DuckDB see rows under the name `batch`."""
    import numpy as np

    from copper_cli.archive.arrays import count_within

    def names(which: int) -> Any:
        texts = np.empty(len(keys), object)
        texts[:] = [key[which] for key in keys]
        return texts[rows.codes]

    found: dict[str, Any] = {"id": names(0), "t": rows.times}
    for name, column in rows.numbers.items():
        if column is not None:
            found["actual_float" if name == "actual" else name] = column
    for name in ("actual", "integers", "starts"):
        column = getattr(rows, name)
        if column is not None:
            found[name] = column
    if month.granularity and len({grid for _, grid in keys}) > 1:
        found["grid"] = names(1)
    if month.kind == "readings":
        found["seq"] = count_within(rows)
    duck.register("batch", found)


def _select(month: Month, rows: Rows, keys: Sequence[About]) -> str:
    """The rows of `batch` as a file has them. It keeps their order: no join, no filter."""
    from copper_cli.archive.arrays import shape_of

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
        grids = {grid for _, grid in keys}
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


# Looking for faults


def find_fault(duck: duckdb.DuckDBPyConnection, file: Path, month: Month, rows: int) -> str | None:
    """Why a file cannot be what was written for a month, None where it can.

    Every page of it is read.
    """
    import duckdb

    try:
        return _find_fault(
            duck, f"read_parquet({exact(file)}, hive_partitioning=false)", month, rows
        )
    except duckdb.Error as error:
        return f"it cannot be read: {clean(str(error).strip().partition(chr(10))[0])}"


def _find_fault(
    duck: duckdb.DuckDBPyConnection, source: str, month: Month, rows: int
) -> str | None:
    wanted = column_types(month.kind)
    found = {name: kind for name, kind, *_ in duck.execute(f"DESCRIBE FROM {source}").fetchall()}
    if found != wanted:
        names = ", ".join(sorted(clean(str(name)) for name in wanted.items() ^ found.items()))
        return f"its columns are others ({names})"
    keys = [
        id_column(month.kind),
        *(["grid"] if month.granularity else []),
        time_column(month.kind),
    ]
    keys += ["seq"] if month.kind == "readings" else []
    start = "start" if month.granularity else "time"
    first_s, end_s = month_span(month.name)
    counts = ", ".join(f'count("{name}")' for name in wanted)
    # In the order of the file: whatever comes before a row of it must be less.
    before = ", ".join(f"lag({key}) OVER () AS b{at}" for at, key in enumerate(keys))
    falls = "false"
    for at, key in reversed(list(enumerate(keys))):
        falls = f"{key} < b{at} OR ({key} = b{at} AND ({falls if at < len(keys) - 1 else 'true'}))"
    first, end = first_s * US, end_s * US
    query = (
        f"SELECT count(*), count(*) FILTER ({falls}), coalesce(min(epoch_us({start})), {first}),"  # noqa: S608
        f" coalesce(max(epoch_us({start})), {first}), {counts}"
        f" FROM (SELECT *, {before} FROM {source})"
    )
    count, wrong, low, high, *filled = duck.execute(query).fetchone() or ()
    if count != rows >= 0:
        return f"it has {count:,} rows, and {rows:,} were written"
    must = [name not in _MAY_BE_NULL for name in wanted]
    if any(one != count for one, is_needed in zip(filled, must, strict=True) if is_needed):
        return "rows lack their meter or their time"
    if wrong:
        return f"{wrong:,} of its rows are out of order or there twice"
    if low < first or high >= end:
        return "it has rows of another month"
    return None


_MAY_BE_NULL = {"energy", "power", "value", "actual", "actual_float", "voltage", "frequency"}
