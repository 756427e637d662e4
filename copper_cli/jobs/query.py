"""Questions in SQL to what was fetched. No call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from copper_cli.archive.home import Owner, open_existing
from copper_cli.archive.query import Answer, Queries, Statement
from copper_cli.archive.views import VIEWS
from copper_cli.errors import UsageError
from copper_cli.files.whole import write_whole
from copper_cli.jobs.archive import check_owner
from copper_cli.plan import grid_name
from copper_cli.render.tables import stream_csv, stream_json, stream_ndjson
from copper_cli.table import Column, Table
from copper_cli.text import clean
from copper_cli.work.fleet import read_zone

SHOWN_ROWS = 1000
"""A table for people has no more."""
FILE_FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".parquet": "parquet",
}
"""What a file's ending says."""
_TITLE = "Query"


class Asking:
    """Asks one archive."""

    def __init__(self, queries: Queries, *, raw_cells: bool) -> None:
        self._queries = queries
        self._raw_cells = raw_cells

    def publish(self) -> str | None:
        """Have all rows where questions see them; a line on those that are not."""
        waiting = self._queries.publish()
        if not waiting:
            return None
        rows = "1 row is" if waiting == 1 else f"{waiting:,} rows are"
        return (
            f"{rows} not in the answer: another run writes the months just now, or one cannot be "
            "written (`copper archive compact` says which)."
        )

    def split(self, text: str) -> list[Statement]:
        """The questions of a text; UsageError where there is none."""
        found = self._queries.split(text)
        if not found:
            raise UsageError("there is no question in the SQL.")
        return found

    def find_mixed(self, statement: Statement) -> str | None:
        """A line where a question may add up rows of several granularities."""
        return self._queries.find_mixed(statement)

    @contextmanager
    def table(self, statement: Statement) -> Iterator[Table]:
        """The first rows of an answer; `facts["more"]` says that there are others."""
        with self._queries.ask(statement) as answer:
            rows = list(islice(_rows(answer), SHOWN_ROWS + 1))
            columns = [Column(name, name) for name in answer.columns]
            facts = {"more": len(rows) > SHOWN_ROWS}
            yield Table(_TITLE, columns, rows[:SHOWN_ROWS], facts)

    def text(self, statement: Statement, output_format: str) -> Iterator[str]:
        """All of an answer as csv, json or ndjson, in chunks as it comes."""
        with self._queries.ask(statement) as answer:
            yield from self._chunks(answer, output_format, _rows(answer))

    def write(self, statement: Statement, path: Path, output_format: str) -> int:
        """Write an answer to a file, whole or not at all; how many rows it has."""
        if output_format == "parquet":
            count, data = self._queries.write_parquet(statement)
            write_whole(path, data)
            return count
        count = 0

        def counted(answer: Answer) -> Iterator[tuple[Any, ...]]:
            nonlocal count
            for count, row in enumerate(_rows(answer), 1):  # noqa: B007
                yield row

        with self._queries.ask(statement) as answer:
            write_whole(path, self._chunks(answer, output_format, counted(answer)))
        return count

    def _chunks(
        self, answer: Answer, output_format: str, rows: Iterator[tuple[Any, ...]]
    ) -> Iterator[str]:
        if output_format == "csv":
            return stream_csv(answer.columns, rows, raw_cells=self._raw_cells)
        if output_format == "json":
            return stream_json(_TITLE, answer.columns, rows)
        return stream_ndjson(answer.columns, rows)


def _rows(answer: Answer) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(answer.rows)


@contextmanager
def open_asking(
    path: Path,
    owner: Owner | None,
    *,
    memory: str,
    raw_cells: bool = False,
    now: Callable[[], float] = time.time,
) -> Iterator[Asking]:
    """The archive of a folder, to be asked. `owner`: whose it must be; None: anybody's.

    Raises UsageError for another's, LocalError where there is none.
    """
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        queries = Queries(opened.archive, own_grid=own_grid, now_s=now, memory=memory)
        yield Asking(queries, raw_cells=raw_cells)


def own_grid(zone: str, granularity: str) -> str | None:
    """Where buckets end for who downloads in a zone, months from the 1st; None without it."""
    found = read_zone(zone)
    return None if found is None else grid_name(found, granularity)


def explain_plan(table: Table) -> str | None:
    """The text of an answer to EXPLAIN, which is drawn and no table; None for any other."""
    if [column.key for column in table.columns] != ["explain_key", "explain_value"]:
        return None
    texts = [str(value) for _, value in table.rows]
    return "".join(f"{clean(line)}\n" for text in texts for line in text.splitlines())


def find_format(path: Path) -> str:
    """What the ending of a file's name says of its format; UsageError for another."""
    found = FILE_FORMATS.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"--output {path}: its ending says the format: one of {', '.join(FILE_FORMATS)}."
        )
    return found


def list_views() -> list[str]:
    """What can be asked, a line a view."""
    width = max(len(view.name) for view in VIEWS)
    return [f"{view.name:<{width}}  {view.about}" for view in VIEWS]


def describe_view(name: str) -> list[str]:
    """The columns of a view, or of all; UsageError for what is none."""
    found = [view for view in VIEWS if name.lower() in ("", view.name)]
    if not found:
        raise UsageError(f"no view {name}: one of {', '.join(view.name for view in VIEWS)}.")
    lines = []
    for view in found:
        lines.append(f"{view.name}: {view.about}")
        width = max(len(column.name) for column in view.columns)
        kind = max(len(column.type) for column in view.columns)
        lines += [
            f"  {one.name:<{width}}  {one.type:<{kind}}  {one.meaning.replace('`', '')}"
            for one in view.columns
        ]
    return lines
