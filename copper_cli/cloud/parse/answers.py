"""What an answer must be before its rows are read: a list, an object, and what it says if not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from copper_cli.cloud.parse.values import to_id, to_utc
from copper_cli.errors import AnswerError
from copper_cli.text import one_line

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    rows: list[Row]
    """The objects that say what they are about."""
    length: int
    """How many rows the cloud sent."""
    following: str | None = None
    """Where the next page is; None after the last."""

    @property
    def unread(self) -> int:
        """How many of the rows could not be read."""
        return self.length - len(self.rows)


def has_id(row: Row) -> bool:
    """True for a premise, meter or gateway."""
    return to_id(row.get("id")) is not None


def is_bulk_row(row: Row) -> bool:
    """True for a reading in bulk."""
    return to_id(row.get("meter_id")) is not None


def is_grid_row(row: Row) -> bool:
    """True for a grid reading, or the null of a gateway that has sent none."""
    time = row.get("hw_timestamp")
    return to_id(row.get("gateway_id")) is not None and (time is None or to_utc(time) is not None)


def parse_offset_page(body: object, what: str) -> Page:
    """A page of a bare array. AnswerError where it has rows and none of them can be read."""
    if not isinstance(body, list):
        raise wrong_kind(body, "a list", what)
    return Page(take_readable(body, has_id, what), len(body))


def parse_next_page(body: object, what: str, is_row: Callable[[Row], bool]) -> Page:
    """A page of a list that is paged by `next`; an empty text ends it as null does.

    AnswerError where it has no `results`, or some of which none can be read.
    """
    page = take_object(body, what)
    following = page.get("next")
    if following is not None and not isinstance(following, str):
        raise AnswerError(f"The cloud answered {kind_of(following)} as the next page of {what}")
    results = take_rows(page, "results", what)
    return Page(take_readable(results, is_row, what), len(results), following or None)


def take_rows(body: Row, field: str, what: str) -> list[Any]:
    """The rows of an answer; AnswerError where it has none to show and nothing that says so."""
    rows = body.get(field)
    if isinstance(rows, list):
        if not rows and (body.get("error") or body.get("errors")):
            raise AnswerError(f"The cloud answered an error for {what}", words_in(body))
        return rows
    kind = kind_of(rows) if field in body else "nothing"
    raise AnswerError(f"The cloud answered {kind} as the rows ({field}) of {what}", words_in(body))


def take_readable(rows: list[Any], is_row: Callable[[Row], bool], what: str) -> list[Row]:
    """The rows that can be read; AnswerError where there are rows and none can be."""
    found = [row for row in rows if type(row) is dict and is_row(row)]
    if rows and not found:
        first = rows[0]
        kind = f"{kind_of(first)} without id or time" if isinstance(first, dict) else kind_of(first)
        raise AnswerError(
            f"The cloud answered rows for {what} of which none can be read: "
            f"the first of {len(rows)} is {kind}",
            words_in(first),
        )
    return found


def wrong_kind(body: object, wanted: str, what: str) -> AnswerError:
    """The error where an answer is not what is wanted (`a list`)."""
    return AnswerError(
        f"The cloud answered {kind_of(body)} instead of {wanted} for {what}", words_in(body)
    )


def words_in(body: object) -> str:
    """What an answer that is of no use says in words."""
    return one_line(parse_error_text(body) or "", 1000)


def take_object(body: object, what: str) -> Row:
    """The answer as an object; AnswerError for anything else."""
    if not isinstance(body, dict):
        raise wrong_kind(body, "an object", what)
    return body


def kind_of(value: object) -> str:
    """What a JSON value is, in words: `a text`."""
    if value is None:
        return "null"
    return {list: "a list", dict: "an object", str: "a text", bool: "true or false"}.get(
        type(value), "a number"
    )


def read_each(parse: Callable[[Row], T | None], rows: Iterable[Row]) -> list[T]:
    """What is read from each row, without the None of rows that cannot be."""
    return [found for row in rows if (found := parse(row)) is not None]


def parse_error_text(body: object) -> str | None:
    """What an error body in JSON says in words; None where it says nothing."""
    if isinstance(body, str):
        return body
    if not isinstance(body, Mapping):
        return None
    for field in ("error_description", "message", "error", "errors", "detail", "description"):
        value = body.get(field)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, Mapping):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return value
    return None
