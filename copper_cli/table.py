"""What a job found, for any writer. Apart from the records: `copper quota` needs none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Table."""

    header: str
    """As the console and CSV show it."""
    key: str
    """As JSON shows it: lower case with underscores."""
    text: Callable[[Any], Any] | None = None
    """Turns the row's value into the console's and CSV's cell; None: as it is."""
    hidden: bool = False
    """Only in JSON."""
    console: Callable[[Sequence[Any]], Any] | None = None
    """Turns the whole row into the console's cell, where it says more than the CSV's."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a job found, for any writer: a title, columns, rows of values as wide as the columns.

    Values are str, numbers, bools, None, lists of these or aware datetimes; a column's `text`
    gives the form people see.
    """

    title: str
    """What it is, in the words scripts know."""
    columns: Sequence[Column]
    """In order."""
    rows: Sequence[Sequence[Any]]
    """One tuple a row."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else JSON says of the whole: counts, calls, what is missing."""
