"""What meters used and gateways measured over a span: rows as columns, ascending by time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter, lt
from typing import Any, Literal
from urllib.parse import unquote

from copper_cli.cloud.parse.answers import (
    Row,
    read_each,
    refuse_error,
    show_value,
    take_object,
    take_rows,
    words_in,
    wrong_kind,
)
from copper_cli.cloud.parse.values import (
    clean_column,
    is_local,
    to_epoch_s,
    to_epoch_us,
    to_epochs_s,
    to_id,
    to_number,
    to_text,
    to_utc,
)
from copper_cli.errors import AnswerError, CloudError
from copper_cli.records import (
    Aggregate,
    GridAnswer,
    GridSeries,
    Reading,
    Readings,
    Series,
    SeriesKind,
)
from copper_cli.text import one_line


def parse_readings(body: object, what: str, meter_id: str | None = None) -> Readings:
    """Register readings, ascending by time; those without a readable time are counted.

    Raises CloudError where the answer has no list of them, none with a time or a number that can
    be read, or is to a question about another meter.
    """
    found = _answer(body, what, meter_id)
    rows = take_rows(found, "results", what)
    readings = read_each(_reading, (row for row in rows if isinstance(row, dict)))
    if rows and not readings:
        raise CloudError(
            f"{what}: none of the {len(rows)} readings that the cloud sent has a time that can be "
            "read."
        )
    has_number = any(r.actual is not None or r.value is not None for r in readings)
    _check_numbers(sum(not reading.is_whole for reading in readings), has_number, what)
    readings.sort(key=lambda reading: reading.time_utc)
    return Readings(readings, len(rows) - len(readings))


def _reading(row: Row) -> Reading | None:
    time_utc = to_utc(row.get("time"))
    if time_utc is None:
        return None
    sent = row.get("actual"), row.get("value")
    actual, value = map(to_number, sent)
    return Reading(
        time_utc, actual, value, is_whole=sent.count(None) == (actual, value).count(None)
    )


def _check_numbers(unread: int, has_number: bool, what: str) -> None:
    """CloudError where readings should hold numbers and none can be read."""
    if unread and not has_number:
        raise CloudError(
            f"{what}: none of the {unread} readings with an amount that the cloud sent has one "
            "that is a number."
        )


def parse_timezone(body: Any, what: str) -> str | None:
    """The zone's name in a meter's location; None where there is none. AnswerError for an error."""
    if not isinstance(body, dict):
        return None
    name = to_text(body.get("timezone")) or None
    refuse_error(body, what, has_rows=name is not None)
    return name


def parse_aggregate(body: object, what: str) -> Aggregate:
    """What the meters of a type used together.

    AnswerError where it names no sum, not even null, one that is no number or that of a part, or
    where it is an error.
    """
    found = take_object(body, what)
    total = _read_sum(found, "sum_energy", what)
    is_part = any(found.get(name) is True for name in ("partial", "truncated", "incomplete"))
    refuse_error(found, what, has_rows=total is not None and not is_part)
    if "sum_energy" not in found:
        raise AnswerError(f"{what}: the cloud answered nothing as the sum", words_in(found))
    count = to_number(found.get("meter_count"))
    return Aggregate(meter_count=None if count is None else int(count), sum_energy=total)


def _read_sum(found: Row, name: str, what: str) -> float | None:
    """The cloud's own sum, None where it has none. AnswerError where it is there and no number."""
    sent = found.get(name)
    total = to_number(sent)
    if total is None and sent is not None:
        raise AnswerError(f"{what}: its own sum cannot be read", show_value(sent))
    return total


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
    read, a sum that cannot, is about another meter or an error.
    """
    fields = _fields(kind)
    found = _answer(body, what, meter_id)
    if kind != "usage" and found.get(fields.rows) is None and found.get(fields.total) is None:
        refuse_error(found, what)
        listed: list[Any] = []  # no baseline (yet): the cloud leaves it out
    else:
        listed = take_rows(found, fields.rows, what)
    total = _read_sum(found, fields.total, what)
    times, rows = _timed([row for row in listed if type(row) is dict])
    if not all(map(lt, times, islice(times, 1, None))):
        times, rows = _in_order(times, rows, fields)
    energy = _column(rows, fields.energy)
    if not any(amount is not None for amount in energy):
        _check_readable(listed, rows, fields, what)
        refuse_error(found, what)
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
    found = take_object(body, what)
    answered = to_id(found.get("meter_id"))
    if meter_id and answered is not None and unquote(answered) != unquote(meter_id):
        raise CloudError(f"{what}: the cloud answered for {one_line(answered, 80)}.")
    return found


def _check_readable(listed: list[Any], rows: list[Row], fields: _SeriesFields, what: str) -> None:
    """CloudError where rows should be readable, or hold an amount or null, and none does."""
    if listed and not rows:
        raise CloudError(f"{what}: none of the {len(listed)} rows that the cloud sent has a time.")
    if rows and not any(fields.energy in row for row in rows):
        raise CloudError(
            f"{what}: none of the {len(rows)} rows that the cloud sent has {fields.energy}."
        )
    sent = sum(row.get(fields.energy) is not None for row in rows)
    if sent:
        raise CloudError(f"{what}: none of the {sent} amounts that the cloud sent is a number.")


def has_local_times(body: Any, kind: SeriesKind | Literal["readings", "grid"]) -> bool:
    """True where a row of a series, or a reading, has a time without an offset."""
    listed, name = body, "hw_timestamp" if kind == "grid" else "time"
    if isinstance(body, dict):
        is_series = kind not in ("usage", "readings")
        listed = body.get(_BASELINE.rows if is_series else _USAGE.rows)
    texts: list[Any] = [row.get(name) for row in listed or () if type(row) is dict]
    with suppress(TypeError, IndexError):  # the usual form, told in a third of the time
        if set(map(itemgetter(-1), texts)) <= {"Z"}:
            return False
    # Times of day come again and again: one text of each is enough.
    by_end = {text[10:]: text for text in texts if type(text) is str}
    return any(map(is_local, by_end.values()))


def _timed(rows: list[Row]) -> tuple[list[int], list[Row]]:
    texts = [row.get("time") for row in rows]
    try:
        return to_epochs_s(texts), rows
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


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    try:
        column = list(map(itemgetter(name), rows))  # two thirds of the time of asking each
    except KeyError:
        column = [row.get(name) for row in rows]
    return clean_column(column)


def parse_grid_series(body: object, what: str) -> GridAnswer:
    """The readings of each gateway as columns, ascending, each instant once.

    Of readings of the same instant the one with the most numbers stays, the last of equals. Those
    without a gateway or a readable time are counted. About a microsecond a reading. Raises
    CloudError where the answer is no list, or none of its rows or numbers can be read.
    """
    columns: dict[object, tuple[list[object], list[object], list[object]]] = {}
    if not isinstance(body, list):
        raise wrong_kind(body, "a list", what)
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
        name: _grid_series(*found)
        for name, found in columns.items()
        if isinstance(name, str) and name
    }
    if body and not any(one.times_us for one in read.values()):
        raise CloudError(
            f"{what}: none of the {len(body)} readings that the cloud sent has a gateway and a "
            "time that can be read."
        )
    numbers = chain.from_iterable((*one.voltage, *one.frequency) for one in read.values())
    unread = sum(len(one.unread_us) for one in read.values())
    _check_numbers(unread, not unread or any(one is not None for one in numbers), what)
    named = sum(len(found[0]) for name, found in columns.items() if name in read)
    return GridAnswer(read, len(body) - named)


def _grid_series(texts: list[object], voltage: list[object], frequency: list[object]) -> GridSeries:
    times_us = [to_epoch_us(text) for text in texts]
    sent = (voltage, frequency)
    columns = (clean_column(voltage), clean_column(frequency))
    known = [time_us for time_us in times_us if time_us is not None]
    unread_us: tuple[int, ...] = ()
    if any(one is not other for one, other in zip(sent, columns, strict=True)):
        # A column is made anew only where something in it is no number.
        cells = zip(times_us, zip(*sent, strict=True), zip(*columns, strict=True), strict=True)
        unread_us = tuple(
            time_us
            for time_us, row, read in cells
            if time_us is not None and row.count(None) != read.count(None)
        )
    lost = len(times_us) - len(known)
    if not lost and all(map(lt, known, islice(known, 1, None))):
        return GridSeries(known, *columns, unread_us)
    best: dict[int, int] = {}
    for place, time_us in enumerate(times_us):
        if time_us is None:
            continue
        before = best.get(time_us)
        if before is None or _numbers_at(columns, place) >= _numbers_at(columns, before):
            best[time_us] = place
    order = sorted(best)
    places = [best[time_us] for time_us in order]
    cut_voltage, cut_frequency = ([column[place] for place in places] for column in columns)
    return GridSeries(order, cut_voltage, cut_frequency, unread_us, lost)


def _numbers_at(columns: Sequence[list[Any]], place: int) -> int:
    return sum(column[place] is not None for column in columns)
