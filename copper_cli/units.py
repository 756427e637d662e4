"""Standard units, conversions, and the scale of register values: pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from copper_cli.records import BulkReading, Meter

STANDARD_UNITS: Mapping[str, str] = {
    "power": "kwh",
    "power_net": "kwh",
    "power_gen": "kwh",
    "power_sub": "kwh",
    "gas": "ccf",
    "water": "gal",
    "water_indoor": "gal",
    "water_outdoor": "gal",
}
"""Meter type to the unit the cloud normalises it to."""

# Units that measure the same thing, each as an exact multiple of the first. A US gallon is 231
# cubic inches, a cubic foot 1728, an inch 0.0254 m. A therm is energy and a ccf is volume: what
# lies between them is the gas of the day, so no factor leads from one to the other.
_ENERGY_WH = {"wh": Fraction(1), "kwh": Fraction(1_000), "mwh": Fraction(1_000_000)}
_GAS_ENERGY = frozenset(("therm", "therms", "dth", "mmbtu"))
_CUBIC_METRE_IN3 = 1 / Fraction("0.0254") ** 3
_VOLUME_IN3 = {
    "gal": Fraction(231),
    "kgal": Fraction(231_000),
    "cf": Fraction(1_728),
    "ccf": Fraction(172_800),
    "mcf": Fraction(1_728_000),
    "m3": _CUBIC_METRE_IN3,
    "l": _CUBIC_METRE_IN3 / 1_000,
}
_KINDS = ("power", "gas", "water")
_SCALES = (0, 1, 2, 3)
_SCALE_SLACK = 0.1
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Normalised:
    """A register value in the standard unit of its meter type, as far as evidence goes."""

    value: float | None
    """In the standard unit when `verified`, else as the cloud sent it; None without a reading."""
    verified: bool
    """False: nothing in the answer tells its unit."""


def standard_unit(meter_type: str) -> str | None:
    """The unit the cloud normalises a meter type to; None for a type nobody has described.

    Types that begin like a known kind (`power…`, `gas…`, `water…`) take its unit.
    """
    return STANDARD_UNITS.get(meter_type) or STANDARD_UNITS.get(_kind(meter_type))


def amount_unit(meter_type: str, uom: str | None) -> str | None:
    """The unit of a meter's amounts: the standard one of its type, else what the list says.

    ASSUMED: where the list counts gas as energy (therm), to which no factor leads from the standard
    volume, the amounts are in that. To check: compare a therm meter's rows with its bill.
    """
    standard, own = standard_unit(meter_type), (uom or "").strip().lower()
    return own if standard == "ccf" and own in _GAS_ENERGY else standard or uom


def convert(value: float | None, from_uom: str | None, to_uom: str | None) -> float | None:
    """The value in another unit, correctly rounded; None where the units do not convert.

    Knows wh, kwh, mwh (megawatt hours) and gal, kgal, l, m3, cf, ccf, mcf (thousand cubic
    feet), in any case. A unit converts to itself even when it is not known.
    """
    if value is None or from_uom is None or to_uom is None or not math.isfinite(value):
        return None
    source, target = from_uom.strip().lower(), to_uom.strip().lower()
    if source == target:
        return float(value)
    for units in (_ENERGY_WH, _VOLUME_IN3):
        if source in units and target in units:
            return float(Fraction(value) * units[source] / units[target])
    return None


def normalise_last_readings(
    meters: Sequence[Meter], bulk: Sequence[BulkReading]
) -> dict[str, Normalised]:
    """Each meter's last reading in the standard unit, by meter id.

    The meter list has answered in raw register units at times; bulk is always normalised. So
    the evidence is, in this order: the same meter in bulk (a power of ten from 0 to 3 between
    the two), the scale found that way for the same type and uom in this very answer, a uom that
    is not the standard unit, the scale of the other types of its kind, that of the whole answer.
    A scale counts only where all that was found so agree. Without any, the value stays as
    it is and is not verified. Nothing is remembered between answers: the cloud may be mended.
    """
    newest = _newest_bulk(bulk)
    found = {m.id: _find_scale(_last_value(m), newest.get(m.id)) for m in meters}
    scales: dict[_Peers, set[int]] = defaultdict(set)
    for meter in meters:
        scale = found[meter.id]
        if scale is not None:
            for peers in _peers(meter):
                scales[peers].add(scale)
    return {meter.id: _normalise(meter, found[meter.id], scales) for meter in meters}


_Peers = tuple[str, ...]
"""Names meters that one decimal point is taken to hold for."""


def _peers(meter: Meter) -> list[_Peers]:
    """Whose scale may hold for a meter too, the nearest first: its type, its kind, all.

    What is not in the standard unit by its own uom has a factor of its own beside the decimal
    point: it says nothing of other types, nor they of it.
    """
    uom = _uom(meter)
    nearest: _Peers = (meter.type, uom)
    in_standard = uom in ("", standard_unit(meter.type) or uom)
    return [nearest, (_kind(meter.type),), ()] if in_standard else [nearest]


def _normalise(
    meter: Meter, scale: int | None, scales: Mapping[_Peers, Collection[int]]
) -> Normalised:
    value = _last_value(meter)
    if value is None:
        return Normalised(None, True)
    if scale is not None:
        return Normalised(value / 10**scale, True)
    for peers in _peers(meter):
        agreed = scales.get(peers, ())
        if len(agreed) == 1:
            return Normalised(value / 10 ** next(iter(agreed)), True)
        if agreed:
            return Normalised(value, False)  # and wider circles hold these too
    unit = standard_unit(meter.type)
    converted = convert(value, meter.uom, unit) if _uom(meter) != unit else None
    if converted is not None:
        return Normalised(converted, True)
    return Normalised(value, False)


def _find_scale(value: float | None, bulk_value: float | None) -> int | None:
    """The power of ten between a meter's value and its bulk value; None without a clear one."""
    if value is None or bulk_value is None or value <= 0 or bulk_value < 1:
        return None
    distance = math.log10(value) - math.log10(bulk_value)
    return next((k for k in _SCALES if abs(distance - k) <= _SCALE_SLACK), None)


def _newest_bulk(bulk: Sequence[BulkReading]) -> dict[str, float]:
    """The newest bulk value of each meter that has one."""
    known = [row for row in bulk if row.value is not None and math.isfinite(row.value)]
    known.sort(key=lambda row: row.time_utc or _LONG_AGO)
    return {row.meter_id: row.value for row in known if row.value is not None}


def _last_value(meter: Meter) -> float | None:
    value = meter.last_reading.value if meter.last_reading else None
    return value if value is not None and math.isfinite(value) else None


def _kind(meter_type: str) -> str:
    """`power`, `gas` or `water`; a type that nobody has described is a kind of its own."""
    return next((kind for kind in _KINDS if meter_type.startswith(kind)), meter_type)


def _uom(meter: Meter) -> str:
    return (meter.uom or "").strip().lower()
