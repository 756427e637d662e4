"""What an answer must be before its rows are read: a list, an object, and what it says if not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from copper_cli.cloud.parse.values import to_id, to_number, to_utc
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
        raise AnswerError(f"{what}: the cloud answered {kind_of(following)} as its next page")
    results = take_rows(page, "results", what)
    return Page(take_readable(results, is_row, what), len(results), following or None)


def take_rows(body: Row, field: str, what: str) -> list[Any]:
    """The rows of an answer; AnswerError where it has none to show, or says that it is an error."""
    rows = body.get(field)
    if not isinstance(rows, list):
        refuse_error(body, what)
        kind = kind_of(rows) if field in body else "nothing"
        raise AnswerError(
            f"{what}: the cloud answered {kind} in the place of its rows ({field})", words_in(body)
        )
    refuse_error(body, what, has_rows=bool(rows))
    return rows


def take_readable(rows: list[Any], is_row: Callable[[Row], bool], what: str) -> list[Row]:
    """The rows that can be read; AnswerError where there are rows and none can be."""
    found = [row for row in rows if type(row) is dict and is_row(row)]
    if rows and not found:
        first = rows[0]
        kind = f"{kind_of(first)} without id or time" if isinstance(first, dict) else kind_of(first)
        raise AnswerError(
            f"{what}: the cloud answered rows of which none can be read: "
            f"the first of {len(rows)} is {kind}",
            words_in(first),
        )
    return found


def wrong_kind(body: object, wanted: str, what: str) -> AnswerError:
    """The error where an answer is not what is wanted (`a list`)."""
    if isinstance(body, dict) and (said := find_error(body)):
        return _error(said, what)
    return AnswerError(
        f"{what}: the cloud answered {kind_of(body)} instead of {wanted}", words_in(body)
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


def show_value(value: object) -> str:
    """A JSON value as it was written, on one short line."""
    return one_line(json.dumps(value, ensure_ascii=False), 60)


def read_each(parse: Callable[[Row], T | None], rows: Iterable[Row]) -> list[T]:
    """What is read from each row, without the None of rows that cannot be."""
    return [found for row in rows if (found := parse(row)) is not None]


# Whether an answer is an error, in whatever dress. Names are compared without case, _ and -.

_ERRORS = frozenset(("error", "errors", "fault", "exception"))
"""Nobody says one of these beside an answer that is right."""
_WORDS = (
    *("errordescription", "errormessage", "errormsg", "errortype", "errorcode"),
    *("message", "msg", "detail", "details", "faultstring", "title", "reason"),
)
"""Beside rows they are a remark, without rows they are the reason."""
_STATUSES = frozenset(("status", "statuscode", "code", "httpstatus", "httpstatuscode"))
_SUCCESSES = frozenset(("success", "succeeded", "ok"))
_REMARKS = ("warning", "warnings")
_OUTCOMES = ("result", "state", "outcome")
"""Like a status in words; their numbers mean other things."""
_PARTS = frozenset(("partial", "truncated", "incomplete", "timedout"))
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_FINE = frozenset(("ok", "okay", "success", "successful"))
_BAD_CODES = range(400, 1000)
_CODE = re.compile(r"\s*([0-9]{3})(?![0-9-])")
_TEXTS = (
    *("errordescription", "errormessage", "errormsg", "message", "error", "errors", "fault"),
    *("exception", "faultstring", "detail", "details", "description", "msg", "reason", "title"),
    *_REMARKS,
)
_INNER_TEXTS = ("message", "faultstring", "description", "detail")
_BAD_STATUS = re.compile(r"error|fail|exception|time[d _-]*out|unavailable|abort", re.IGNORECASE)


def refuse_error(body: Row, what: str, *, has_rows: bool = False) -> None:
    """Raises AnswerError where an answer says that it is an error; see find_error."""
    if said := find_error(body, has_rows=has_rows):
        raise _error(said, what)


def find_error(body: Row, *, has_rows: bool = False) -> str:
    """What an answer says of an error, in its words or as `statusCode 500`; else an empty text.

    Beside rows only what cannot be meant otherwise counts: an error, fault or exception, no
    success, a status of 400 or more. Without rows also a message, or that it is a part only.
    """
    for name, value in body.items():
        key = _key(name)
        if _is_error(key, value) or (not has_rows and _hints_at_error(key, value)):
            return words_in(body) or f"{one_line(name, 40)} {show_value(value)}"
    return ""


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _error(said: str, what: str) -> AnswerError:
    return AnswerError(f"{what}: the cloud answered 200 with an error", said)


def _is_error(key: str, value: object) -> bool:
    if key in _ERRORS:
        return _says_something(value)
    if key in _STATUSES:
        return _code_in(value) in _BAD_CODES
    return key in _SUCCESSES and _is_one_of(value, _NO)


def _hints_at_error(key: str, value: object) -> bool:
    if key in _WORDS or key in _REMARKS:
        return _says_something(value)
    if key in _STATUSES or key in _OUTCOMES:
        return isinstance(value, str) and _BAD_STATUS.search(value) is not None
    return key in _PARTS and _is_one_of(value, _YES)


def _says_something(value: object) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and value.strip().lower() not in _FINE
    return bool(value)


def _code_in(value: object) -> int:
    """The number in a status; 0 where there is none."""
    if isinstance(value, str):
        found = _CODE.match(value)
        return int(found[1]) if found else 0
    return int(to_number(value) or 0)


def _is_one_of(value: object, words: tuple[str, ...]) -> bool:
    return isinstance(value, str | int) and str(value).strip().lower() in words


def parse_error_text(body: object) -> str | None:
    """What an error body in JSON says in words; None where it says nothing."""
    if isinstance(body, str):
        return body
    if not isinstance(body, dict):
        return None
    by_key = {_key(name): value for name, value in reversed(body.items())}
    for field in _TEXTS:
        value = by_key.get(field)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            value = next((value[name] for name in _INNER_TEXTS if value.get(name)), None)
        if isinstance(value, str) and value.strip():
            return value
    return None
