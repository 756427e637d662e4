"""A Table as console text, CSV, JSON and NDJSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from copper_cli.render.cells import csv_lines, escape_json, in_chunks
from copper_cli.table import Column, Table
from copper_cli.text import clean


def render_console(table: Table) -> str:
    """`TITLE (rows=N):` and the table with its header underlined; numbers stand to the right.

    Every text is cleaned of what could steer a terminal. A table without rows shows its header.
    """
    from tabulate import tabulate

    shown = _shown(table)
    cells = [
        [clean(_as_text(_console_cell(column, row, place))) for place, column in shown]
        for row in table.rows
    ]
    sides = ["right" if _is_numeric(table, place) else "left" for place, _ in shown]
    body = tabulate(
        cells,
        headers=[clean(column.header) for _, column in shown],
        tablefmt="simple",
        disable_numparse=True,
        colalign=sides if cells else None,
    )
    return f"{clean(table.title)} (rows={len(table.rows)}):\n{body}"


def render_csv(table: Table, *, raw_cells: bool = False) -> Iterator[str]:
    """The table as CSV text in chunks: header, rows, lines ending CRLF; hidden columns left out."""
    shown = _shown(table)
    rows = ([_cell(column, row[place]) for place, column in shown] for row in table.rows)
    return stream_csv([column.header for _, column in shown], rows, raw_cells=raw_cells)


def stream_csv(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, raw_cells: bool = False
) -> Iterator[str]:
    """Rows as CSV text in chunks, as they come."""
    yield from csv_lines([header], raw_cells=raw_cells)
    yield from in_chunks(csv_lines(rows, raw_cells=raw_cells))


def render_json(table: Table) -> str:
    """One object: `title`, `rows` (an object each, one a line, by column key), then the facts.

    All columns, hidden ones too, with their values rather than their text; times in ISO 8601
    with their offset; NaN and infinities are null. Safe to print on a terminal.
    """
    rows = ",\n    ".join(_dump(row) for row in _row_objects(table))
    parts = [
        f'  "title": {_dump(table.title)}',
        f'  "rows": [\n    {rows}\n  ]' if rows else '  "rows": []',
    ]
    parts += [
        f"  {_dump(str(name))}: {_dump(fact)}"
        for name, fact in table.facts.items()
        if name not in ("title", "rows")
    ]
    return escape_json("{\n" + ",\n".join(parts) + "\n}")


def render_ndjson(table: Table) -> Iterator[str]:
    """The row objects of `render_json`, one a line, in chunks; neither title nor facts."""
    return stream_ndjson([column.key for column in table.columns], table.rows)


def stream_ndjson(keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Rows as JSON objects, one a line, in chunks, as they come."""
    return in_chunks(escape_json(_dump(row)) + "\n" for row in _objects(keys, rows))


def stream_json(title: str, keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The text of `render_json` with a line end, without facts, in chunks, as rows come."""
    yield escape_json(f'{{\n  "title": {_dump(title)},\n  "rows": [')
    found = (
        ("\n    " if at == 0 else ",\n    ") + escape_json(_dump(row))
        for at, row in enumerate(_objects(keys, rows))
    )
    has_rows = False
    for chunk in in_chunks(found):
        has_rows = True
        yield chunk
    yield "\n  ]\n}\n" if has_rows else "]\n}\n"


def _shown(table: Table) -> list[tuple[int, Column]]:
    """The columns people see, each with its place in a row."""
    return [(place, column) for place, column in enumerate(table.columns) if not column.hidden]


def _cell(column: Column, value: Any) -> Any:
    return value if column.text is None else column.text(value)


def _console_cell(column: Column, row: Sequence[Any], place: int) -> Any:
    return _cell(column, row[place]) if column.console is None else column.console(row)


def _is_numeric(table: Table, place: int) -> bool:
    """True where the column's values are numbers: by what they are, not by how they look."""
    values = [row[place] for row in table.rows if row[place] is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case list() | tuple():
            return repr(list(value))
        case float() if not math.isfinite(value):
            return ""
        case _:
            return str(value)


def _row_objects(table: Table) -> Iterator[dict[str, Any]]:
    return _objects([column.key for column in table.columns], table.rows)


def _objects(keys: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield dict(zip(keys, row, strict=True))


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no form for: times as ISO 8601, mappings and sequences as theirs."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    return str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
