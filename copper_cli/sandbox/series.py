"""Real series replayed: a premise whose meters show what CSV files say was used."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from pathlib import Path
from typing import TextIO

from copper_cli.sandbox.fleet import Fleet, Gateway, Meter, MeterIds, Premise
from copper_cli.sandbox.registers import ReplayedRegister

MAX_PLACES = 9


class SeriesError(Exception):
    """A folder or file of series that cannot be used: one line, with the file and the row."""


@dataclass(frozen=True)
class Series:
    """One file: a meter's type and its register."""

    name: str
    """The file's name."""
    type: str
    """gas, water or power, by the name."""
    register: ReplayedRegister
    """What was used, in the type's standard unit."""


def read_folder(folder: Path) -> list[Series]:
    """The series of every `*.csv` and `*.csv.gz` file of a folder, by name.

    Raises SeriesError when the folder or its files cannot be read or there are none.
    """
    try:
        names = sorted(path for path in folder.iterdir() if path.name.endswith((".csv", ".csv.gz")))
    except OSError as error:
        raise SeriesError(
            f"cannot read the series folder {folder}: {error.strerror}; name a folder of CSV files"
        ) from None
    if not names:
        raise SeriesError(f"no *.csv or *.csv.gz file in {folder}; put the series there")
    return [read_series(path) for path in names]


def read_series(path: Path) -> Series:
    """The series of a file with the header `start,value`, plain or gzipped.

    A row is the amount used from `start` (ISO, with an offset) to the next start; the last row
    closes the series and its value is not used. Raises SeriesError, which names the row.
    """
    try:
        with _open_text(path) as file:
            return Series(path.name, name_type(path.name), _parse_rows(path.name, file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise SeriesError(f"cannot read {path}: {error}; it should be a CSV file") from None


def name_type(file_name: str) -> str:
    """`il-gas-hdd.csv` → gas; water likewise; anything else is power."""
    return next((kind for kind in ("gas", "water") if kind in file_name.lower()), "power")


class ReplayedFleet(Fleet):
    """One premise with a meter for each series, its gateway, and a virgin gateway."""

    def __init__(self, series: list[Series], seed: int, zone: str) -> None:
        super().__init__(seed)
        self._series = series
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
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _parse_rows(name: str, file: TextIO) -> ReplayedRegister:
    rows = csv.reader(file)
    if next(rows, None) != ["start", "value"]:
        raise SeriesError(f"{name}: the first line is not start,value")
    starts: list[int] = []
    values: list[Decimal] = []
    for row in rows:
        start, value = _parse_row(name, rows.line_num, row)
        if starts and start <= starts[-1]:
            raise SeriesError(f"{name}, line {rows.line_num}: start is not after the one before")
        starts.append(start)
        values.append(value)
    if len(starts) < 2:
        raise SeriesError(f"{name}: a series needs two rows, the last of which closes it")
    places = max(2, *(-int(value.as_tuple().exponent) for value in values))
    if places > MAX_PLACES:
        raise SeriesError(f"{name}: a value has more than {MAX_PLACES} decimal places")
    amounts = (int(value.scaleb(places)) for value in values[:-1])
    return ReplayedRegister(tuple(starts), tuple(accumulate(amounts, initial=0)), places)


def _parse_row(name: str, line: int, row: list[str]) -> tuple[int, Decimal]:
    try:
        text, number = row
        start, value = datetime.fromisoformat(text), Decimal(number)
    except (ValueError, InvalidOperation):
        raise SeriesError(f"{name}, line {line}: not an ISO start and a number") from None
    if start.tzinfo is None or start.microsecond:
        raise SeriesError(f"{name}, line {line}: start needs an offset and whole seconds")
    if not value.is_finite():
        raise SeriesError(f"{name}, line {line}: the value is no finite number")
    return int(start.timestamp()), value


def _as_utc(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
