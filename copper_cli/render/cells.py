"""Text that the cloud sent, made safe for where it is shown: terminals, CSV, spreadsheets."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

from copper_cli.text import BEYOND_C0

_HAZARDS_BUT_TAB = re.compile(r"[\x00-\x08\x0a-\x1f" + BEYOND_C0 + "]")
_HAZARDS_IN_JSON = re.compile(f"[{BEYOND_C0}]")
_LINE_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CHUNK_LINES = 4096
_FORMULA_STARTS = frozenset("=+-@")
_SKIPPED_CATEGORIES = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def escape_json(text: str) -> str:
    r"""JSON text with all that `clean` replaces written as `\uXXXX`: still the same JSON."""
    return _HAZARDS_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def defuse(text: str) -> str:
    """The text with a leading `'` where a spreadsheet would run it as a formula; numbers never.

    A formula starts with `=`, `+`, `-` or `@`, also in their full-width forms and after white
    space or invisible characters; a leading tab or carriage return counts too.
    """
    if not text or text[0].isalnum() or _NUMBER.fullmatch(text):
        return text
    if text[0] in "\t\r":
        return "'" + text
    for sign in text:
        if unicodedata.category(sign) in _SKIPPED_CATEGORIES:
            continue
        plain = unicodedata.normalize("NFKC", sign)
        return "'" + text if plain[0] in _FORMULA_STARTS or sign == "\u2212" else text
    return text


def tidy(text: str) -> str:
    """The text for a CSV cell: a line break is a space, other control characters are U+FFFD."""
    if text.isprintable():
        return text
    return _HAZARDS_BUT_TAB.sub("\ufffd", _LINE_BREAKS.sub(" ", text))


def as_cell(value: Any, *, raw_cells: bool = False) -> Any:
    """What `csv.writer` is given for a value: None and numbers that are none become empty."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, int | float):
        return value
    text = tidy(repr(list(value)) if isinstance(value, list | tuple) else str(value))
    return text if raw_cells else defuse(text)


def csv_lines(rows: Iterable[Iterable[Any]], *, raw_cells: bool = False) -> Iterator[str]:
    """One line of CSV a row, in the excel dialect (CRLF, quotes only where needed)."""
    import csv

    writer = csv.writer(_Echo())
    for row in rows:
        cells = [as_cell(value, raw_cells=raw_cells) for value in row]
        yield cast(str, writer.writerow(cells))


def in_chunks(lines: Iterator[str]) -> Iterator[str]:
    """The same text in pieces of some thousands of lines."""
    while chunk := "".join(islice(lines, _CHUNK_LINES)):
        yield chunk


class _Echo:
    """A file for `csv.writer` that hands the line back instead of keeping it."""

    def write(self, line: str) -> str:
        return line
