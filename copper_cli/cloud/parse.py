"""JSON to records: the only file that names the cloud's fields.

Unknown fields are ignored and missing ones survived. A value of a wrong type is None; a thing
without the id or instant that makes it what it is, is left out; an answer that is no list or
object where it must be raises AnswerError, and so does a list of which nothing can be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from operator import lt
from typing import Any, TypeVar
from urllib.parse import unquote

from copper_cli.errors import AnswerError, CloudError
from copper_cli.records import (
    Aggregate,
    BulkReading,
    Gateway,
    GatewayHistory,
    GridReading,
    GridSeries,
    Instant,
    LastReading,
    Meter,
    Premise,
    Reading,
    Series,
    SeriesKind,
    StateChange,
)
from copper_cli.text import one_line

Number = int | float
Row = dict[str, Any]
T = TypeVar("T")

_MEMO_SIZE = 100_000
_HUGE = 1e300
_EPOCH = date(1970, 1, 1).toordinal()
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = 946_684_800
"""2000-01-01."""
_LATEST_S = 4_102_444_800
"""2100-01-01."""
_LONGEST_NUMBER = 40
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_EPOCH_TEXT = re.compile(r"[0-9]{9,}(\.[0-9]+)?")
"""Eight digits are a date: `20220302`."""


# Single values


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

    Also seconds or milliseconds since 1970 as a number or its text, where they lie between 2000
    and 2100: the two ranges are far apart, so that neither can be taken for the other.
    """
    if not isinstance(value, str):
        return _from_epoch(to_number(value))
    if _EPOCH_TEXT.fullmatch(value):
        return _from_epoch(to_number(value))
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


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
        seconds = (date.fromisoformat(text).toordinal() - _EPOCH) * 86400
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


# Lists and objects


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
        raise _wrong_kind(body, "a list", what)
    return Page(_readable(body, has_id, what), len(body))


def parse_next_page(body: object, what: str, is_row: Callable[[Row], bool]) -> Page:
    """A page of a list that is paged by `next`; an empty text ends it as null does.

    AnswerError where it has no `results`, or some of which none can be read.
    """
    page = _object(body, what)
    following = page.get("next")
    if following is not None and not isinstance(following, str):
        raise AnswerError(f"The cloud answered {_kind(following)} as the next page of {what}")
    results = _listed(page, "results", what)
    return Page(_readable(results, is_row, what), len(results), following or None)


def _listed(body: Row, field: str, what: str) -> list[Any]:
    """The rows of an answer; AnswerError where it has none to show and nothing that says so."""
    rows = body.get(field)
    if isinstance(rows, list):
        if not rows and (body.get("error") or body.get("errors")):
            raise AnswerError(f"The cloud answered an error for {what}", _said(body))
        return rows
    kind = _kind(rows) if field in body else "nothing"
    raise AnswerError(f"The cloud answered {kind} as the rows ({field}) of {what}", _said(body))


def _readable(rows: list[Any], is_row: Callable[[Row], bool], what: str) -> list[Row]:
    """The rows that can be read; AnswerError where there are rows and none can be."""
    found = [row for row in rows if type(row) is dict and is_row(row)]
    if rows and not found:
        first = rows[0]
        kind = f"{_kind(first)} without id or time" if isinstance(first, dict) else _kind(first)
        raise AnswerError(
            f"The cloud answered rows for {what} of which none can be read: "
            f"the first of {len(rows)} is {kind}",
            _said(first),
        )
    return found


def _wrong_kind(body: object, wanted: str, what: str) -> AnswerError:
    return AnswerError(
        f"The cloud answered {_kind(body)} instead of {wanted} for {what}", _said(body)
    )


def _said(body: object) -> str:
    """What an answer that is of no use says in words."""
    return one_line(parse_error_text(body) or "", 1000)


def _object(body: object, what: str) -> Row:
    if not isinstance(body, dict):
        raise _wrong_kind(body, "an object", what)
    return body


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "a list", dict: "an object", str: "a text", bool: "true or false"}.get(
        type(value), "a number"
    )


def _each(parse: Callable[[Row], T | None], rows: Iterable[Row]) -> list[T]:
    return [found for row in rows if (found := parse(row)) is not None]


# Premises, meters, gateways


def parse_premises(rows: Iterable[Row], *, with_users: bool) -> list[Premise]:
    """Premises in the cloud's order."""
    return _each(lambda row: _premise(row, with_users), rows)


def _premise(row: Row, with_users: bool) -> Premise | None:
    premise_id = to_id(row.get("id"))
    if premise_id is None:
        return None
    tags = row.get("tags")
    tags = {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
    return Premise(
        id=premise_id,
        created_at=to_text(row.get("created_at")),
        created_utc=to_utc(row.get("created_at")),
        name=to_text(row.get("name")),
        street_address=to_text(row.get("street_address")),
        suite_apartment_unit=to_id(row.get("suite_apartment_unit")),
        city_town=to_text(row.get("city_town")),
        postal_code=to_id(row.get("postal_code")),
        county_district=to_text(row.get("county_district")),
        state_region=to_text(row.get("state_region")),
        tags=tuple(sorted(tags)),
        timezone=to_text(row.get("timezone")),
        emails=_emails(row) if with_users else None,
    )


def _emails(row: Row) -> tuple[str | None, ...]:
    users = row.get("user_list")
    if not isinstance(users, list):
        return ()
    return tuple(to_text(user.get("email")) or None for user in users if isinstance(user, dict))


def parse_meters(rows: Iterable[Row]) -> list[Meter]:
    """Meters in the cloud's order; register values as the cloud wrote them."""
    return _each(_meter, rows)


def _meter(row: Row) -> Meter | None:
    meter_id = to_id(row.get("id"))
    if meter_id is None:
        return None
    return Meter(
        id=meter_id,
        type=to_text(row.get("type")) or "",
        state=to_text(row.get("state")),
        premise_id=to_id(row.get("premise_id")),
        created_utc=to_utc(row.get("created_at")),
        uom=to_text(row.get("uom")),
        last_reading=_last_reading(row.get("last_reading")),
        history=_history(row.get("seven_day_history")),
    )


def _last_reading(row: object) -> LastReading | None:
    if not isinstance(row, dict):
        return None
    return LastReading(value=to_number(row.get("value")), time_utc=to_utc(row.get("hw_timestamp")))


def _history(rows: object) -> tuple[StateChange, ...]:
    if not isinstance(rows, list):
        return ()
    return tuple(_each(_state_change, (row for row in rows if isinstance(row, dict))))


def _state_change(row: Row) -> StateChange | None:
    time_utc = to_utc(row.get("timestamp"))
    if time_utc is None:
        return None
    return StateChange(time_utc, to_text(row.get("from")) or "")


def parse_gateways(rows: Iterable[Row]) -> list[Gateway]:
    """Gateways in the cloud's order."""
    return _each(_gateway, rows)


def _gateway(row: Row) -> Gateway | None:
    gateway_id = to_id(row.get("id"))
    if gateway_id is None:
        return None
    return Gateway(
        id=gateway_id,
        premise_id=to_id(row.get("premise_id")),
        state=to_text(row.get("state")),
        model=to_text(row.get("model")),
        last_heard=to_text(row.get("last_heard")),
        firmware_version=to_text(row.get("firmware_version")),
        fields=row,
    )


def parse_histories(rows: Iterable[Row]) -> list[GatewayHistory]:
    """Gateways with their state changes, in the cloud's order."""
    ids = ((to_id(row.get("id")), row) for row in rows)
    return [GatewayHistory(i, _history(row.get("history"))) for i, row in ids if i is not None]


# Newest readings and the grid


def parse_bulk(rows: Iterable[Row]) -> list[BulkReading]:
    """Newest register values in the cloud's order."""
    return _each(_bulk_reading, rows)


def _bulk_reading(row: Row) -> BulkReading | None:
    meter_id = to_id(row.get("meter_id"))
    if meter_id is None:
        return None
    return BulkReading(
        meter_id=meter_id,
        meter_type=to_text(row.get("meter_type")) or "",
        value=to_number(row.get("value")),
        time_utc=to_utc(row.get("timestamp")),
    )


def parse_grid(rows: Iterable[Row]) -> list[GridReading]:
    """Grid readings in the cloud's order."""
    return _each(_grid_reading, rows)


def _grid_reading(row: Row) -> GridReading | None:
    gateway_id = to_id(row.get("gateway_id"))
    time_utc = to_utc(row.get("hw_timestamp"))
    if gateway_id is None or time_utc is None:
        return None
    return GridReading(
        gateway_id=gateway_id,
        premise_id=to_id(row.get("premise_id")),
        time_utc=time_utc,
        voltage=to_number(row.get("voltage")),
        frequency=to_number(row.get("frequency")),
    )


def parse_grid_series(body: object, what: str) -> dict[str, GridSeries]:
    """The readings of each gateway as columns, ascending, each instant once (the last of equals).

    Readings without a gateway or a readable time are left out. About a microsecond a reading.
    Raises CloudError where the answer is no list, or none of its rows can be read.
    """
    columns: dict[object, tuple[list[object], list[object], list[object]]] = {}
    if not isinstance(body, list):
        raise _wrong_kind(body, "a list", what)
    for row in body:
        if type(row) is not dict:
            continue
        name = row.get("gateway_id")
        if type(name) is not str:
            name = to_id(name)
        found = columns.get(name)
        if found is None:
            found = columns[name] = ([], [], [])
        found[0].append(row.get("hw_timestamp"))
        found[1].append(row.get("voltage"))
        found[2].append(row.get("frequency"))
    read = {
        name: series
        for name, found in columns.items()
        if isinstance(name, str) and name and (series := _grid_series(*found)).times_us
    }
    if body and not read:
        raise CloudError(f"{what}: none of the {len(body)} readings that the cloud sent is one.")
    return read


def _grid_series(texts: list[object], voltage: list[object], frequency: list[object]) -> GridSeries:
    times_us = [to_epoch_us(text) for text in texts]
    columns = (_clean(voltage), _clean(frequency))
    known = [time_us for time_us in times_us if time_us is not None]
    if len(known) == len(times_us) and all(map(lt, known, islice(known, 1, None))):
        return GridSeries(known, *columns)
    last = {time_us: place for place, time_us in enumerate(times_us) if time_us is not None}
    order = sorted(last.items())
    places = [place for _, place in order]
    return GridSeries(
        [time_us for time_us, _ in order],
        *([column[place] for place in places] for column in columns),
    )


# What one meter used


def parse_readings(body: object, what: str, meter_id: str | None = None) -> list[Reading]:
    """Register readings, ascending by time.

    Raises CloudError where the answer has no list of them, none that can be read, or is to a
    question about another meter.
    """
    found = _answer(body, what, meter_id)
    rows = _listed(found, "results", what)
    readings = _each(_reading, (row for row in rows if isinstance(row, dict)))
    if rows and not readings:
        raise CloudError(f"{what}: none of the {len(rows)} readings that the cloud sent is one.")
    return sorted(readings, key=lambda reading: reading.time_utc)


def _reading(row: Row) -> Reading | None:
    time_utc = to_utc(row.get("time"))
    if time_utc is None:
        return None
    return Reading(time_utc, to_number(row.get("actual")), to_number(row.get("value")))


def parse_timezone(body: Any) -> str | None:
    """The zone's name in a meter's location; None where there is none."""
    name = body.get("timezone") if isinstance(body, dict) else None
    return name if isinstance(name, str) and name else None


def parse_aggregate(body: object, what: str) -> Aggregate:
    """What the meters of a type used together. AnswerError where it names no sum, not even null."""
    found = _object(body, what)
    count, total = to_number(found.get("meter_count")), to_number(found.get("sum_energy"))
    if total is None and ("sum_energy" not in found or found["sum_energy"] is not None):
        kind = _kind(found["sum_energy"]) if "sum_energy" in found else "nothing"
        raise AnswerError(f"The cloud answered {kind} as the sum of {what}", _said(found))
    return Aggregate(meter_count=None if count is None else int(count), sum_energy=total)


@dataclass(frozen=True, slots=True)
class _SeriesFields:
    rows: str
    energy: str
    total: str


_USAGE = _SeriesFields("results", "usage", "sum_usage")
_BASELINE = _SeriesFields("series", "energy", "sum_energy")


def _fields(kind: SeriesKind) -> _SeriesFields:
    return _USAGE if kind == "usage" else _BASELINE


def parse_series(body: object, kind: SeriesKind, what: str, meter_id: str | None = None) -> Series:
    """Interval rows as columns, ascending, each instant once.

    Of rows with the same instant the one with the most values stays, the first of equals. A row
    without a readable time is left out, and so is seen as absent. About a microsecond a row.

    Raises CloudError where the answer has no list of rows, rows or amounts of which none can be
    read, or is about another meter.
    """
    fields = _fields(kind)
    found = _answer(body, what, meter_id)
    total = to_number(found.get(fields.total))
    if kind != "usage" and found.get(fields.rows) is None and total is None and not _said(found):
        listed: list[Any] = []  # no baseline (yet): the cloud leaves it out
    else:
        listed = _listed(found, fields.rows, what)
    times, rows = _timed([row for row in listed if type(row) is dict])
    if not all(map(lt, times, islice(times, 1, None))):
        times, rows = _in_order(times, rows, fields)
    energy = _column(rows, fields.energy)
    _check_readable(listed, rows, energy, fields, what)
    is_usage = kind == "usage"
    nothing = [None] * len(rows)
    return Series(
        times_s=times,
        energy=energy,
        power=_column(rows, "power"),
        value=_column(rows, "value") if is_usage else nothing,
        actual=_column(rows, "actual") if is_usage else nothing,
        sum_energy=total,
        meter_type=to_text(found.get("meter_type")),
    )


def _answer(body: object, what: str, meter_id: str | None) -> Row:
    """The object in an answer about a meter. Raises CloudError for another meter's."""
    found = _object(body, what)
    answered = to_id(found.get("meter_id"))
    if meter_id and answered is not None and unquote(answered) != unquote(meter_id):
        raise CloudError(f"{what}: the cloud answered for {one_line(answered, 80)}.")
    return found


def _check_readable(
    listed: list[Any],
    rows: list[Row],
    energy: list[Any],
    fields: _SeriesFields,
    what: str,
) -> None:
    """CloudError where rows should be readable and none is."""
    if listed and not rows:
        raise CloudError(f"{what}: none of the {len(listed)} rows that the cloud sent has a time.")
    if rows and not any(amount is not None for amount in energy):
        sent = [row[fields.energy] for row in rows if row.get(fields.energy) is not None]
        if sent:
            raise CloudError(
                f"{what}: none of the {len(sent)} amounts that the cloud sent is a number."
            )


def _timed(rows: list[Row]) -> tuple[list[int], list[Row]]:
    texts = [row.get("time") for row in rows]
    try:
        return [_days[text[:10]] + _times[text[10:]] for text in texts], rows  # type: ignore[index]
    except (TypeError, ValueError, OverflowError):
        pairs = [(to_epoch_s(text), row) for text, row in zip(texts, rows, strict=True)]
        kept = [(time_s, row) for time_s, row in pairs if time_s is not None]
        return [time_s for time_s, _ in kept], [row for _, row in kept]


def _in_order(
    times: Sequence[int], rows: Sequence[Row], fields: _SeriesFields
) -> tuple[list[int], list[Row]]:
    best: dict[int, tuple[int, Row]] = {}
    for time_s, row in zip(times, rows, strict=True):
        known = sum(
            to_number(row.get(name)) is not None
            for name in (fields.energy, "power", "value", "actual")
        )
        if time_s not in best or known > best[time_s][0]:
            best[time_s] = (known, row)
    ordered = sorted(best)
    return ordered, [best[time_s][1] for time_s in ordered]


def _column(rows: Iterable[Row], name: str) -> list[Any]:
    return _clean([row.get(name) for row in rows])


def _clean(column: list[Any]) -> list[Any]:
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


# The app API


def parse_app_page(state: object) -> Page:
    """The rows of an individual's premises. AnswerError where there is no list of them."""
    what = "the account"
    premises = _listed(_object(state, what), "premise_list", what)
    return Page(_readable(premises, has_id, what), len(premises))


def parse_instant_page(body: object, what: str) -> Page:
    """The rows of a premise's meters now. AnswerError where there is no list of them."""
    results = _listed(_object(body, what), "results", what)
    return Page(_readable(results, has_id, what), len(results))


def parse_instants(rows: Iterable[Row]) -> list[Instant]:
    """What each meter of a premise shows right now, in the cloud's order."""
    return _each(_instant, rows)


def _instant(row: Row) -> Instant | None:
    meter_id = to_id(row.get("id"))
    if meter_id is None:
        return None
    return Instant(
        meter_id=meter_id,
        meter_type=to_text(row.get("type")),
        power=to_number(row.get("instant_power")),
        updated_at=to_text(row.get("updated_at")),
    )


# Tokens and errors


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token endpoint answered."""

    value: str
    """The access token."""
    lifetime_s: float | None
    """How long it lasts; None where the answer does not say."""
    refresh: str | None
    """A refresh token, if there is one."""

    def __repr__(self) -> str:
        return "TokenAnswer(***)"


def parse_token(body: object) -> TokenAnswer | None:
    """The token in an answer; None where there is none that could go into a header."""
    if not isinstance(body, dict):
        return None
    value = body.get("access_token")
    if not isinstance(value, str) or not value or not all("!" <= sign <= "~" for sign in value):
        return None
    lifetime_s = body.get("expires_in")
    if isinstance(lifetime_s, str) and lifetime_s.isascii() and lifetime_s.isdigit():
        lifetime_s = int(lifetime_s[:12])
    lifetime_s = to_number(lifetime_s)
    if lifetime_s is not None and lifetime_s <= 0:
        lifetime_s = None
    return TokenAnswer(value, lifetime_s, to_text(body.get("refresh_token")) or None)


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
