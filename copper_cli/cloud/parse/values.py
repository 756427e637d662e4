"""Single values of the cloud's JSON, and columns of them; a value of a wrong type is None."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

Number = int | float

_MEMO_SIZE = 100_000
_HUGE = 1e300
_EPOCH = date(1970, 1, 1).toordinal()
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = 946_684_800
"""2000-01-01."""
_LATEST_S = 4_102_444_800
"""2100-01-01."""
_FIRST_DAY, _LAST_DAY = date(1970, 1, 2).toordinal(), date(2199, 12, 31).toordinal()
_FIRST_UTC, _END_UTC = _EPOCH_UTC, datetime(2200, 1, 1, tzinfo=UTC)
"""An instant outside is none: no calendar of ours bears every zone's date of Go's zero time."""
_SHORTEST_INSTANT = 11
"""`20220302T04`: what is shorter is a date alone."""
_LONGEST_NUMBER = 40
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_EPOCH_TEXT = re.compile(r"[0-9]{9,}(\.[0-9]+)?")
"""Eight digits are a date: `20220302`."""


def to_number(value: object) -> Number | None:
    """The value if it is a finite number, or a text that can only mean one.

    `"0.500000"` is 0.5 and `"100350"` the whole number. No number are: a boolean, what no float
    could hold, and texts that people or programs read differently (`1,5`, `1_000`, `0x1F`, `NaN`).
    """
    if type(value) is str and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        value = int(value) if value.lstrip("+-").isdigit() else float(value)
    if (type(value) is int or type(value) is float) and -_HUGE < value < _HUGE:
        return value  # as it was written: 0 stays 0, so that files show what the cloud sent
    return None


def to_text(value: object) -> str | None:
    """The value if it is a text."""
    return value if isinstance(value, str) else None


def to_id(value: object) -> str | None:
    """The value as an id: a text that is not empty, or a whole number written out."""
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and value else None


def to_utc(value: object) -> datetime | None:
    """The instant in a text such as `2022-03-02T04:30:00.000Z`; without an offset it is UTC.

    None for one before 1970 or after 2199, and for a date alone, which is a day somewhere.
    Also seconds or milliseconds since 1970 as a number or its text, where they lie between 2000
    and 2100: the two ranges are far apart, so that neither can be taken for the other.
    """
    if not isinstance(value, str):
        return _from_epoch(to_number(value))
    if _EPOCH_TEXT.fullmatch(value):
        return _from_epoch(to_number(value))
    if len(value) < _SHORTEST_INSTANT:
        return None
    try:
        found = datetime.fromisoformat(value)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if _FIRST_UTC <= found < _END_UTC else None


def is_local(value: object) -> bool:
    """True for the text of a time without an offset: nobody says whose time it is."""
    if not isinstance(value, str) or _EPOCH_TEXT.fullmatch(value):
        return False
    try:
        return len(value) >= _SHORTEST_INSTANT and datetime.fromisoformat(value).tzinfo is None
    except ValueError:
        return False


def _from_epoch(value: Number | None) -> datetime | None:
    if value is None:
        return None
    if _EARLIEST_S <= value < _LATEST_S:
        return _EPOCH_UTC + timedelta(microseconds=round(value * 1_000_000))
    if _EARLIEST_S * 1000 <= value < _LATEST_S * 1000:
        return _EPOCH_UTC + timedelta(microseconds=round(value * 1000))
    return None


# Dates and times of day come again and again: a month of minutes takes 14 ms this way, and 22 by
# datetime.fromisoformat.


class _DayMemo(dict[str, int]):
    """`2022-03-02` → seconds since 1970 at its start, UTC. Raises ValueError."""

    def __missing__(self, text: str) -> int:
        day = date.fromisoformat(text).toordinal()
        if not _FIRST_DAY <= day < _LAST_DAY:
            raise ValueError(text)  # to_utc knows whether the instant is one
        seconds = (day - _EPOCH) * 86400
        if len(self) < _MEMO_SIZE:
            self[text] = seconds
        return seconds


class _TimeMemo(dict[str, int]):
    """`T04:30:00.000Z` → seconds to add to the day's start, rounded down. Raises ValueError."""

    def __missing__(self, text: str) -> int:
        if not text.startswith("T"):
            raise ValueError(text)
        found = time.fromisoformat(text)
        offset = found.utcoffset() or timedelta()
        whole = timedelta(hours=found.hour, minutes=found.minute, seconds=found.second)
        seconds = math.floor((whole - offset).total_seconds() + found.microsecond / 1e6)
        if len(self) < _MEMO_SIZE:
            self[text] = seconds
        return seconds


_days = _DayMemo()
_times = _TimeMemo()


def to_epoch_us(value: object) -> int | None:
    """Microseconds since 1970 UTC."""
    found = to_utc(value)
    return None if found is None else (found - _EPOCH_UTC) // timedelta(microseconds=1)


def to_epoch_s(value: object) -> int | None:
    """Whole seconds since 1970 UTC, a part of a second rounded down."""
    found = to_utc(value)
    return None if found is None else math.floor(found.timestamp())


def to_epochs_s(texts: list[Any]) -> list[int]:
    """`to_epoch_s` of each, in a fraction of the time.

    Raises TypeError, ValueError or OverflowError where one is no text of the usual form.
    """
    return _last.read(texts)


class _LastTexts:
    """The texts that were read last: the meters of a fleet are mostly asked for the same span.

    Of a second one a month of minutes takes 1 ms.
    """

    def __init__(self) -> None:
        self._last: tuple[list[Any], list[int]] = ([], [])

    def read(self, texts: list[Any]) -> list[int]:
        known, epochs = self._last
        if texts == known:
            return epochs.copy()
        epochs = [_days[text[:10]] + _times[text[10:]] for text in texts]
        if len(texts) <= _MEMO_TEXTS:
            self._last = texts, epochs.copy()
        return epochs


_MEMO_TEXTS = 50_000
_last = _LastTexts()


def clean_column(column: list[Any]) -> list[Any]:
    """The column with None for what is no number."""
    return column if _is_clean(column) else [to_number(value) for value in column]


def _is_clean(column: list[Any]) -> bool:
    """Numbers and nulls only: told from the column as a whole, in a third of the time."""
    if not set(map(type, column)) <= {float, int, type(None)}:
        return False
    try:
        return bool(abs(sum(filter(None, column))) < _HUGE)  # one infinity spoils the sum
    except OverflowError:
        return False
