"""The per-meter and per-gateway CSV files: three layouts of a series, readings, grid."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from math import isfinite
from typing import Any

from copper_cli.layouts import Layout
from copper_cli.records import GridSeries, Reading, Series, SeriesKind
from copper_cli.render.cells import csv_lines, in_chunks
from copper_cli.render.local_time import exact_texts, local_text, local_texts
from copper_cli.units import amount_unit

ROWS_HEADER = (
    "record,meter_id,meter_type,uom,timezone,granularity,start,end,sum_energy,"
    "timestamp,energy,power,value,actual\r\n"
)
PLAIN_HEADER = "timestamp,energy,power\r\n"

PREFIXES: dict[SeriesKind, str] = {
    "usage": "usage",
    "baseline-series": "baseline",
    "average-series": "average",
}
"""How the names of a kind's records and columns begin."""
_CHUNK_ROWS = 4096
_BASELINE_RESULTS = ("time", "energy", "power")


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Rows of a series, wherever they lie."""

    pieces: Callable[[], Iterable[Series]]
    """Brings them, ascending, in pieces."""
    sum_energy: float | None
    """What was used in all, as the file tells it."""


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """All that one per-meter file says."""

    meter_id: str
    """Which meter."""
    meter_type: str
    """Its type."""
    uom: str | None
    """Unit of `energy`, `value` and the sum: the standard unit of the type."""
    timezone: str
    """IANA name of the zone the file's times are written in."""
    granularity: str
    """Length of a bucket (`hour`)."""
    kind: SeriesKind
    """Which of the three series it is."""
    start: datetime
    """First local midnight asked for, aware, in the zone."""
    end: datetime
    """Last local midnight asked for, aware, in the zone."""
    series: SeriesRows
    """The rows."""
    baseline: SeriesRows | None = None
    """The baseline of the same span, when asked for beside usage."""


def render_series(file: SeriesFile, layout: Layout, *, raw_cells: bool = False) -> Iterator[str]:
    """The file as CSV text in chunks of some thousands of rows, header first, lines ending CRLF.

    Rows are in the order of the series, labelled by the END of their bucket. Missing numbers
    are empty. `raw_cells` leaves texts undefused.
    """
    if layout == "plain":
        return _render_plain(file)
    if layout == "columns":
        return _render_columns(file, raw_cells)
    return _render_rows(file, raw_cells)


def render_readings(
    meter_id: str,
    meter_type: str,
    uom: str | None,
    timezone: str,
    readings: Sequence[Reading],
    *,
    raw_cells: bool = False,
) -> Iterator[str]:
    """Register readings as CSV text: ID, Type, Timestamp, Actual (uom), Normalized (unit).

    Rows ascend by time, written in the zone without an offset. `uom` is the meter's own unit,
    that of Actual; Normalized is in the standard unit of the type.
    """
    header = ["ID", "Type", "Timestamp", _with_unit("Actual", uom)]
    header.append(_with_unit("Normalized", amount_unit(meter_type, uom)))
    rows = (
        (meter_id, meter_type, local_text(row.time_utc, timezone), row.actual, row.value)
        for row in sorted(readings, key=lambda row: row.time_utc)
    )
    return in_chunks(_with_header(header, rows, raw_cells))


def render_grid(
    gateway_id: str, timezone: str, pieces: Iterable[GridSeries], *, raw_cells: bool = False
) -> Iterator[str]:
    """Grid readings as CSV text: Gateway ID, Timestamp (local, no offset), Voltage, Frequency.

    The pieces ascend by time; a reading a line; volts and hertz.
    """
    yield _line(["Gateway ID", "Timestamp", "Voltage", "Frequency"], raw_cells) + "\r\n"
    lead = _line([gateway_id], raw_cells)
    for piece in pieces:
        columns = (
            exact_texts(piece.times_us, timezone),
            _numbers(piece.voltage),
            _numbers(piece.frequency),
        )
        yield from in_chunks(f"{lead},{t},{v},{f}\r\n" for t, v, f in zip(*columns, strict=True))


def _render_plain(file: SeriesFile) -> Iterator[str]:
    yield PLAIN_HEADER
    for part in _parts(file.series):
        columns = (local_texts(part.times_s, file.timezone), *_amounts(part))
        yield "".join([f"{t},{e},{p}\r\n" for t, e, p in zip(*columns, strict=True)])


def _render_rows(file: SeriesFile, raw_cells: bool) -> Iterator[str]:
    yield ROWS_HEADER
    yield from _render_records(file, PREFIXES[file.kind], file.series, raw_cells)
    if file.baseline is not None:
        yield from _render_records(file, "baseline", file.baseline, raw_cells)


def _render_records(
    file: SeriesFile, prefix: str, series: SeriesRows, raw_cells: bool
) -> Iterator[str]:
    about = _line(
        (file.meter_id, file.meter_type, file.uom, file.timezone, file.granularity), raw_cells
    )
    span = f"{file.start.isoformat(timespec='seconds')},{file.end.isoformat(timespec='seconds')}"
    total = _numbers([series.sum_energy])[0]
    yield f"{prefix}_summary__,{about},{span},{total},,,,,\r\n"
    lead = f"{prefix}_result__,{about},,,,"
    for part in _parts(series):
        yield _lines(lead, _result_columns(file, part, with_register=True))


def _render_columns(file: SeriesFile, raw_cells: bool) -> Iterator[str]:
    prefix = PREFIXES[file.kind]
    is_usage = file.kind == "usage"
    names = [f"{prefix}_summary__{name}" for name in ("meter_id", "meter_type", "uom")]
    names.append(f"{prefix}_summary__{'sum_usage' if is_usage else 'sum_energy'}")
    results = ("time", "usage", "power", "value", "actual") if is_usage else _BASELINE_RESULTS
    names += [f"{prefix}_result__{name}" for name in results]
    if file.baseline is not None:
        names.append("baseline_summary__sum_energy")
        names += [f"baseline_result__{name}" for name in _BASELINE_RESULTS]
    yield ",".join(names) + "\r\n"

    summary = _line((file.meter_id, file.meter_type, file.uom, file.series.sum_energy), raw_cells)
    if file.baseline is None:
        for part in _parts(file.series):
            yield _lines(f"{summary},", _result_columns(file, part, with_register=is_usage))
        return
    total = _numbers([file.baseline.sum_energy])[0]
    left = _result_cells(file, file.series, with_register=is_usage)
    right = _result_cells(file, file.baseline, with_register=False)
    yield from in_chunks(
        f"{summary},{mine},{total},{theirs}\r\n"
        for mine, theirs in _pair(left, right, "," * (len(results) - 1), ",,")
    )


_Cells = tuple[int, str]


def _result_cells(file: SeriesFile, series: SeriesRows, *, with_register: bool) -> Iterator[_Cells]:
    """Each row's instant and text: time, amount, power, value and actual where it has them."""
    for part in _parts(series):
        columns = _result_columns(file, part, with_register=with_register)
        yield from zip(part.times_s, map(",".join, zip(*columns, strict=True)), strict=True)


def _result_columns(file: SeriesFile, part: Series, *, with_register: bool) -> list[list[str]]:
    columns = [
        local_texts(part.times_s, file.timezone, separator="T", offset=True),
        *_amounts(part),
    ]
    if with_register:
        columns += [_numbers(part.value), _numbers(part.actual)]
    return columns


def _lines(lead: str, columns: Sequence[Sequence[str]]) -> str:
    """Rows that all begin alike; a third less than with f-strings, which copy that for each."""
    text = f"\r\n{lead}".join(map(",".join, zip(*columns, strict=True)))
    return f"{lead}{text}\r\n"


def _pair(
    left: Iterator[_Cells], right: Iterator[_Cells], no_left: str, no_right: str
) -> Iterator[tuple[str, str]]:
    """The rows of both that stand at the same instant side by side, ascending."""
    mine, theirs = next(left, None), next(right, None)
    while mine or theirs:
        first_s = min(row[0] for row in (mine, theirs) if row)
        texts = no_left, no_right
        if mine and mine[0] == first_s:
            texts = mine[1], texts[1]
            mine = next(left, None)
        if theirs and theirs[0] == first_s:
            texts = texts[0], theirs[1]
            theirs = next(right, None)
        yield texts


def _parts(series: SeriesRows) -> Iterator[Series]:
    """The series in slices of some thousands of rows."""
    for piece in series.pieces():
        for first in range(0, len(piece.times_s), _CHUNK_ROWS):
            rows = slice(first, first + _CHUNK_ROWS)
            yield Series(
                piece.times_s[rows],
                piece.energy[rows],
                piece.power[rows],
                piece.value[rows],
                piece.actual[rows],
                None,
            )


def _amounts(part: Series) -> tuple[list[str], list[str]]:
    """The columns energy and power as text."""
    energy = _numbers(part.energy, is_repeated=True)
    if _is_same(part.energy, part.power):
        return energy, energy  # of hours both are one number
    return energy, _numbers(part.power, is_repeated=True)


def _is_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """True where both hold the same doubles, bit for bit: minus zero is written otherwise."""
    if a != b or set(map(type, chain(a, b))) != {float}:
        return False
    return array("d", a).tobytes() == array("d", b).tobytes()


def _numbers(values: Sequence[float | None], *, is_repeated: bool = False) -> list[str]:
    """Numbers as Python writes them, which is as the cloud sent them; what is none is empty.

    `is_repeated`: the same ones come again and again.
    """
    kinds = set(map(type, values))
    if not (kinds <= _NUMBERS and _are_finite(values)):
        return ["" if value is None or not isfinite(value) else repr(value) for value in values]
    if type(None) in kinds:
        return ["" if value is None else repr(value) for value in values]
    if is_repeated and kinds == {float}:
        return _known_texts(values)
    return list(map(repr, values))


_NUMBERS = {float, int, type(None)}


def _are_finite(values: Sequence[float | None]) -> bool:
    """Told from the column as a whole: one that is not spoils the sum."""
    try:
        return isfinite(sum(filter(None, values)))
    except OverflowError:
        return False


class _Texts(dict[Any, str]):
    """Numbers as text, up to so many; without zero, since minus zero would be found as it."""

    def __missing__(self, number: float) -> str:
        text = repr(number)
        if number and len(self) < _MOST_TEXTS:
            self[number] = text
        return text


_TEXTS = _Texts()
_MOST_TEXTS = 65_536
_SAMPLE = 61
"""Of so many numbers one is looked up to see whether the others are worth it."""


def _known_texts(values: Sequence[Any]) -> list[str]:
    """Doubles as text. The amounts of a fleet are few: a fifth of the time, where they are."""
    sample = values[::_SAMPLE]
    if 2 * sum(map(_TEXTS.__contains__, sample)) >= len(sample):
        return list(map(_TEXTS.__getitem__, values))
    texts = list(map(repr, values))
    if len(_TEXTS) >= _MOST_TEXTS:
        _TEXTS.clear()
    _TEXTS.update(zip(values, texts, strict=True))
    _TEXTS.pop(0.0, None)
    return texts


def _line(cells: Sequence[Any], raw_cells: bool) -> str:
    return next(csv_lines([cells], raw_cells=raw_cells)).removesuffix("\r\n")


def _with_header(header: Sequence[str], rows: Iterator[Any], raw_cells: bool) -> Iterator[str]:
    yield from csv_lines([header], raw_cells=raw_cells)
    yield from csv_lines(rows, raw_cells=raw_cells)


def _with_unit(name: str, unit: str | None) -> str:
    return f"{name} ({unit})" if unit else name
