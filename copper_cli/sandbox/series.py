"""Real series replayed: a premise whose meters show what CSV files say was used."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

from copper_cli.sandbox.fleet import Fleet, Gateway, Meter, MeterIds, Premise
from copper_cli.sandbox.registers import ReplayedRegister
from copper_cli.sandbox.series_units import Counted, choose_units, name_type

__all__ = [
    "NoSeriesError",
    "ReplayedFleet",
    "Series",
    "SeriesError",
    "name_type",
    "read_folder",
    "read_series",
]

MAX_PLACES = 9
MAX_VALUE = 10**12
NAMED = 5
"""So many files are named in one line."""


class SeriesError(Exception):
    """A folder or file of series that cannot be used: one line, with the file and the row."""


class NoSeriesError(SeriesError):
    """A folder with no file that can be replayed."""


@dataclass(frozen=True)
class Series:
    """One file: a meter's type and its register."""

    name: str
    """The file's name."""
    type: str
    """gas, water or power, by the name."""
    register: ReplayedRegister
    """What was used, in the unit below."""
    uom: str
    """The unit of the file's values."""


@dataclass(frozen=True)
class Folder:
    """What a folder of series has."""

    series: list[Series]
    """The files that can be replayed, by name; one at least."""
    notices: list[str]
    """A line for each file that was left out, and for each whose unit was not said."""


def read_folder(folder: Path, zone: ZoneInfo | None = None, units: Sequence[str] = ()) -> Folder:
    """The series of every `*.csv` and `*.csv.gz` file of a folder.

    `zone` is that of times without an offset, `units` what was said of the files' units (see
    `choose_units`). A file that cannot be used is left out. Raises SeriesError when the folder
    cannot be read, NoSeriesError when no file of it can be used, ConfigError for wrong units.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    except OSError as error:
        raise SeriesError(
            f"cannot read the series folder {folder}: {error.strerror}; name a folder of CSV files"
        ) from None
    if not paths:
        raise NoSeriesError(f"no *.csv or *.csv.gz file in {folder}; put the series there")
    counted = choose_units([path.name for path in paths], units)
    series, bad = [], []
    for path in paths:
        try:
            series.append(read_series(path, zone, counted[path.name]))
        except SeriesError as error:
            bad.append(str(error))
    if not series:
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise NoSeriesError(f"no file of {folder} can be used: {'; '.join(bad[:NAMED])}{more}")
    left_out = [f"Left out: {line}" for line in bad]
    taken = [
        f"{one.name} is taken for {one.type} in {one.uom}; --series-unit says another unit."
        for one in series
        if not counted[one.name].said
    ]
    return Folder(series, left_out + taken)


def read_series(path: Path, zone: ZoneInfo | None = None, counted: Counted | None = None) -> Series:
    """The series of a file with the header `start,value`, plain or gzipped.

    A row is the amount used from `start` (ISO, with an offset or in `zone`) to the next start;
    the last row closes the series and its value is not used. Raises SeriesError, which names
    the row.
    """
    counted = counted or choose_units([path.name], ())[path.name]
    try:
        with _open_text(path) as file:
            register = _parse_rows(path.name, file, zone)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise SeriesError(f"cannot read {path}: {error}; it should be a CSV file") from None
    return Series(path.name, counted.type, register, counted.uom)


class ReplayedFleet(Fleet):
    """One premise with a meter for each series, its gateway, and a virgin gateway."""

    def __init__(self, folder: Folder, seed: int, zone: str) -> None:
        super().__init__(seed)
        series = self._series = folder.series
        self.notices = tuple(folder.notices)
        self._zone = zone
        self._meter_ids = MeterIds(seed)
        self._opened = _as_utc(min(one.register.first_s for one in series))
        self.premise_count = 1
        self.meter_count = len(series)
        self.gateway_count = 2
        self.default_now = _as_utc(max(one.register.last_s for one in series))

    def premise_at(self, index: int) -> Premise:
        """The premise, which opens a day before the first series."""
        return Premise(self._premise_id(0), index, self._zone, self._opened - timedelta(days=1))

    def meter_at(self, index: int) -> Meter:
        """The meter of a series, by the order of the files' names."""
        series, premise = self._series[index], self.premise_at(0)
        return Meter(
            id=self._meter_ids.shape(series.type, index),
            index=index,
            type=series.type,
            zone=self._zone,
            premise_id=premise.id,
            premise_created_utc=premise.created_utc,
            gateway_id=self._gateway_id(0),
            created_utc=_as_utc(series.register.first_s),
            state="connected",
            silence_s=0,
            uom=series.uom,
        )

    def gateway_at(self, index: int) -> Gateway:
        """The premise's gateway (0) or the virgin one (1)."""
        premise = self.premise_at(0)
        gateway_id, created = self._gateway_id(index), premise.created_utc
        if index:
            return Gateway(gateway_id, index, None, None, created, "virgin", None)
        return Gateway(gateway_id, index, premise.id, self._zone, created, "active", 0)

    def find_meter(self, meter_id: str) -> Meter | None:
        """The meter of an id; None: there is none."""
        return next((meter for meter in self.meters() if meter.id == meter_id), None)

    def meters_of(self, premise: Premise) -> list[Meter]:
        """Every meter: they all belong to the one premise."""
        return list(self.meters())

    def register_of(self, meter: Meter) -> ReplayedRegister:
        """The register that replays the meter's file."""
        return self._series[meter.index].register


def _open_text(path: Path) -> TextIO:
    # utf-8-sig: what a spreadsheet saved begins with a mark
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parse_rows(name: str, file: TextIO, zone: ZoneInfo | None) -> ReplayedRegister:
    rows = csv.reader(file)
    if [cell.strip().lower() for cell in next(rows, [])] != ["start", "value"]:
        raise SeriesError(f"{name}: the first line is not start,value")
    starts: list[int] = []
    texts: list[tuple[int, str]] = []
    for row in filter(None, rows):
        try:
            if len(row) != 2:
                raise ValueError("not a start and a value")
            starts.append(_place(datetime.fromisoformat(row[0].strip()), starts[-1:], zone))
        except (ValueError, OverflowError) as error:
            raise SeriesError(f"{name}, line {rows.line_num}: {error}") from None
        texts.append((rows.line_num, row[1]))
    if len(texts) > 1 and texts[-1][1].strip().lower() in ("", "nan"):
        del texts[-1]
    values = [_read_value(name, line, text) for line, text in texts]
    if len(starts) < 2:
        raise SeriesError(f"{name}: a series needs two rows, the last of which closes it")
    places = max(2, *(-int(value.as_tuple().exponent) for value in values))
    amounts = (int(value.scaleb(places)) for value in values[: len(starts) - 1])
    return ReplayedRegister(tuple(starts), tuple(accumulate(amounts, initial=0)), places)


def _place(start: datetime, before: list[int], zone: ZoneInfo | None) -> int:
    """A row's start as UTC seconds, after that of the row before; raises ValueError.

    A local time that a clock set back shows twice is the first one, unless the row before is
    not earlier: then it is the second.
    """
    if start.microsecond:
        raise ValueError("start needs whole seconds")
    instants = _list_instants(start, zone)
    after = [instant for instant in instants if not before or instant > before[0]]
    if not after:
        raise ValueError("start is not after the one before")
    return after[0]


def _list_instants(start: datetime, zone: ZoneInfo | None) -> list[int]:
    """The UTC seconds which a start may mean: two where the clock shows it twice."""
    if start.tzinfo is not None:
        return [int(start.timestamp())]
    if zone is None:
        raise ValueError("start has no offset; say the zone of the file with --series-zone")
    instants = [int(start.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1)]
    shown = [datetime.fromtimestamp(instant, zone).replace(tzinfo=None) for instant in instants]
    if start not in shown:
        raise ValueError(f"there is no {start.isoformat(' ')} in {zone.key}: the clock skips it")
    return sorted(set(instants))


def _read_value(name: str, line: int, text: str) -> Decimal:
    """A value of at most nine places: the noise of floats (0.17099999999999999) is rounded off.

    Raises SeriesError, also where rounding would leave nothing of the value.
    """
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise SeriesError(f"{name}, line {line}: {text!r} is no number") from None
    if not value.is_finite() or abs(value) >= MAX_VALUE:
        raise SeriesError(f"{name}, line {line}: the value is no number that a meter can show")
    if -int(value.as_tuple().exponent) <= MAX_PLACES:
        return value
    rounded = value.quantize(Decimal(1).scaleb(-MAX_PLACES))
    if abs(value - rounded) > max(Decimal("1e-12"), abs(value) / 10**6):
        raise SeriesError(
            f"{name}, line {line}: the value has more than {MAX_PLACES} decimal places"
        )
    return rounded.normalize()


def _as_utc(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
