"""Questions in SQL to an archive: read-only, in bounds, and out of reach of all other files.

Each question has a DuckDB of its own, in memory, with the views of `views.py`. Before it sees the
question, DuckDB is forbidden every file but the months, the network, extensions, and to change
that. Months are opened beforehand: one that is replaced meanwhile is read as it was.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from copper_cli.archive.months import Month
from copper_cli.archive.parquet import duck_errors, pattern, quote
from copper_cli.archive.views import ROW_VIEWS, VIEWS, OwnGrid, lay_out, month_files
from copper_cli.buckets import GRANULARITIES
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.reasons import local_errors
from copper_cli.text import clean, one_line

if TYPE_CHECKING:
    import duckdb

    from copper_cli.archive import Archive

T = TypeVar("T")

_ROWS_AT_ONCE = 2048
_MOST_THREADS = 4
_DESCRIPTORS = Path("/proc/self/fd")
_ALL = frozenset(need for view in VIEWS for need in view.needs)
_INDIRECT = re.compile(r"\b(kept|query|query_table)\b|\bU&", re.IGNORECASE)
"""Where a question says this it may mean views that it does not name."""
_ALLOWED = ("SELECT", "EXPLAIN", "MULTI")
"""What DuckDB calls questions; PIVOT is several at once."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One of several questions."""

    sql: str
    """Its text alone."""
    at: int
    """Where it begins in all that was typed."""
    typed: str
    """All of that."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question; its rows are read as they are asked for."""

    columns: Sequence[str]
    """Their names, each once."""
    rows: Iterator[list[tuple[Any, ...]]]
    """Some thousands at a time. Text, numbers, bools, None, and lists and mappings of these;
    times are ISO 8601."""


class Queries:
    """Asks one archive. `now_s`: what is late is told by it."""

    def __init__(
        self, archive: Archive, *, own_grid: OwnGrid, now_s: Callable[[], float], memory: str
    ) -> None:
        self._archive = archive
        self._own_grid = own_grid
        self._now_s = now_s
        self._memory = memory

    def publish(self) -> int:
        """Bring all rows to where questions see them; how many still wait.

        Some do where another run writes the months just now, or where a month cannot be written.
        """
        if self._archive.unpublished():
            self._archive.publish(force=True)
        return self._archive.unpublished()

    def find_mixed(self, statement: Statement) -> str | None:
        """A line where a question may add up rows of several granularities."""
        words = _words(statement.sql)
        if "granularity" in words:
            return None
        for name, kind in ROW_VIEWS.items():
            if name in words:
                found = self._granularities(kind)
                if len(found) > 1:
                    return (
                        f"{name} holds the same energy by {' and by '.join(found)}: say "
                        f"WHERE granularity = '{found[-1]}', or it is counted more than once."
                    )
        return None

    def _granularities(self, kind: str) -> list[str]:
        with self._archive.reading() as db:
            found = {
                name
                for (name,) in db.execute(
                    "SELECT DISTINCT granularity FROM months WHERE kind = ?", (kind,)
                )
            }
        return [name for name in GRANULARITIES if name in found]

    def split(self, text: str) -> list[Statement]:
        """The questions of a text, which semicolons part. UsageError for what is none."""
        import duckdb

        with duckdb.connect(":memory:") as duck:
            duck.execute("SET errors_as_json = true")
            with _sql_errors(text, 0):
                found = duck.extract_statements(text)
            statements, at = [], 0
            for one in found:
                _check_kind(one)
                start = text.find(one.query, at)
                at = max(start, at)
                statements.append(Statement(one.query.rstrip().rstrip(";"), at, text))
                at += len(one.query)
        return statements

    @contextmanager
    def ask(self, statement: Statement) -> Iterator[Answer]:
        """The answer to one question, to be read within.

        Raises UsageError for SQL that cannot be answered and for what it may not do, LocalError for
        files, KeyboardInterrupt at Ctrl-C.
        """
        with self._opened(statement) as duck:
            with _sql_errors(statement.typed, statement.at):
                found = _let_stop(duck, lambda: duck.execute(statement.sql))
                names = _distinct([name for name, *_ in found.description or ()])
            yield Answer(names, _read(duck, statement))

    def write_parquet(self, statement: Statement) -> tuple[int, Iterator[bytes]]:
        """The answer as a Parquet file: how many rows it has, and its bytes."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="copper-query-")))
            file = folder / "answer.parquet"
            duck = stack.enter_context(self._opened(statement, file))
            with _sql_errors(statement.typed, statement.at):
                # The text is a whole question by itself: it cannot end the one around it.
                copy = (
                    f"COPY (\n{statement.sql}\n) TO {quote(file)} "
                    "(FORMAT parquet, COMPRESSION zstd)"
                )
                done = _let_stop(duck, lambda: duck.execute(copy))
                (count,) = done.fetchone() or (0,)
            kept = stack.pop_all()

        def chunks() -> Iterator[bytes]:
            with kept, local_errors(file, "read"), file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    yield chunk

        return int(count), chunks()

    @contextmanager
    def _opened(
        self, statement: Statement, output: Path | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        path = self._archive.path
        needs = _find_needs(statement.sql)
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="copper-query-"))
            config: dict[str, str | bool | int | float | list[str]] = {
                "threads": str(min(os.cpu_count() or 1, _MOST_THREADS)),
                "memory_limit": self._memory,
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
                "temp_directory": folder,
            }
            duck = stack.enter_context(duckdb.connect(":memory:", config=config))
            duck.execute("SET TimeZone = 'UTC'")
            with duck_errors(path, "read"):
                with local_errors(path, "read"):
                    files = [
                        _open_month(stack, month.file(path), month)
                        for month in month_files(path, needs)
                    ]
                with self._archive.reading() as db:
                    lay_out(
                        duck,
                        db,
                        [(month, pattern(Path(place))) for month, place, _ in files],
                        needs,
                        now_s=self._now_s(),
                        own_grid=self._own_grid,
                    )
                allowed = [real for _, _, names in files for real in names]
                _lock(duck, [*allowed, *([str(output)] if output else [])])
            yield duck


def _lock(duck: duckdb.DuckDBPyConnection, allowed: Sequence[str]) -> None:
    """From here on nothing but these files can be had, and nothing can change that."""
    duck.execute("SET errors_as_json = true")
    duck.execute(f"SET allowed_paths = [{', '.join(quote(one) for one in allowed)}]")
    duck.execute("SET enable_external_access = false")
    duck.execute("SET lock_configuration = true")


def _open_month(stack: ExitStack, file: Path, month: Month) -> tuple[Month, str, list[str]]:
    """A month, where it is read, and the names under which DuckDB is allowed to.

    Where the system lets a descriptor be opened by name, the file is the one of this moment,
    whatever takes its name later. Raises OSError.
    """
    real = os.path.realpath(file)
    if not _DESCRIPTORS.is_dir():
        return month, str(file), [real]
    handle = os.open(file, os.O_RDONLY)
    stack.callback(os.close, handle)
    return month, str(_DESCRIPTORS / str(handle)), [real, f"{real} (deleted)"]


def _find_needs(sql: str) -> frozenset[str]:
    """What of the archive a question may look at."""
    if _INDIRECT.search(sql):
        return _ALL
    words = _words(sql)
    return frozenset(need for view in VIEWS if view.name in words for need in view.needs)


def _words(sql: str) -> set[str]:
    return {word.lower() for word in re.findall(r"\w+", sql)}


def _check_kind(statement: Any) -> None:
    kind = statement.type.name
    if kind not in _ALLOWED:
        word = re.match(r"[\s(]*(\w+)", statement.query)
        raise UsageError(
            f"{word[1].upper() if word else kind} is not allowed here: the archive is only read. "
            "Ask with SELECT, DESCRIBE, SUMMARIZE, SHOW TABLES or EXPLAIN."
        )


def _read(duck: duckdb.DuckDBPyConnection, statement: Statement) -> Iterator[list[tuple[Any, ...]]]:
    while True:
        with _sql_errors(statement.typed, statement.at):
            rows = _let_stop(duck, lambda: duck.fetchmany(_ROWS_AT_ONCE))
        if not rows:
            return
        yield [tuple(map(_plain, row)) for row in rows]


def _let_stop(duck: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """What the work gives. At Ctrl-C it is stopped: DuckDB itself may not hear of that for long."""
    found: Future[T] = Future()

    def do() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    try:
        return found.result()
    except KeyboardInterrupt:
        while thread.is_alive():
            duck.interrupt()
            thread.join(0.1)
        raise


def _plain(value: Any) -> Any:
    """A value of DuckDB as every format can show it."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return float(value)
        case list() | tuple():
            return [_plain(one) for one in value]
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case bytes():
            return value.hex()
        case timedelta():
            return str(value)
        case _:
            return str(value)


def _distinct(names: Sequence[str]) -> list[str]:
    """Each name once: `sum`, `sum_2`."""
    found: list[str] = []
    for name in names:
        tried, count = name, 1
        while tried in found:
            count += 1
            tried = f"{name}_{count}"
        found.append(tried)
    return found


# What may go wrong


@contextmanager
def _sql_errors(typed: str, at: int) -> Iterator[None]:
    """What DuckDB says of a question as one line, with the place."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise _explain(error, typed, at) from error
    except (ValueError, OverflowError) as error:  # a date that Python cannot hold
        raise UsageError(f"SQL: a value cannot be shown: {one_line(str(error))}.") from error


def _explain(error: duckdb.Error, typed: str, at: int) -> Exception:
    import duckdb

    said, place = _read_error(str(error), typed, at)
    if isinstance(error, duckdb.OutOfMemoryException):
        if "max_temp_directory_size" in str(error) or "No space left" in str(error):
            return LocalError(f"{tempfile.gettempdir()} cannot be written: the disk is full.")
        return UsageError("SQL: this question needs more memory; give it some with --memory 4GB.")
    if isinstance(error, duckdb.IOException) and "No space left" in str(error):
        return LocalError(f"{tempfile.gettempdir()} cannot be written: the disk is full.")
    if isinstance(error, duckdb.IOException):
        return LocalError(
            f"A month of the archive cannot be read ({said}); `copper archive check` says what "
            "can be mended."
        )
    if isinstance(error, duckdb.PermissionException):
        said = "only the views can be asked; other files, the network and extensions cannot"
    return UsageError(f"SQL{place}: {said}{'' if said.endswith('?') else '.'}")


def _read_error(text: str, typed: str, at: int) -> tuple[str, str]:
    """What DuckDB complains of, and where, in words."""
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        found = {}
    said, position, place = str(found.get("exception_message", text)), found.get("position"), ""
    if position is not None:
        before = typed[:at] + typed[at:].encode()[: int(position)].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        place = f", line {line}, column {column}"
    said, _, more = said.partition("\n")
    if more.startswith(("Did you mean", "Candidate")):
        said = f"{said.rstrip('.!')}. {more.partition(chr(10))[0]}"
    return clean(one_line(said, 400)).rstrip(".!"), place


def write_schema() -> str:
    """The views as Markdown, for the documents."""
    parts = []
    for view in VIEWS:
        parts.append(
            f"### {view.name}\n\n{view.about}\n\n| column | type | meaning |\n|---|---|---|"
        )
        parts[-1] += "".join(
            f"\n| `{one.name}` | {one.type} | {one.meaning} |" for one in view.columns
        )
    return "\n\n".join(parts) + "\n"
