"""The premises, meters and gateways of a local cloud, each made from its index when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import pi
from uuid import UUID

from copper_cli.sandbox.identifiers import Scrambler, draw, mix
from copper_cli.sandbox.registers import CurveRegister, Register

UNITS = {
    "power": "kwh",
    "power_net": "kwh",
    "power_gen": "kwh",
    "power_sub": "kwh",
    "gas": "ccf",
    "water": "gal",
    "water_indoor": "gal",
    "water_outdoor": "gal",
}
"""Every meter type and its standard unit."""

RATES = {
    "power": 1.1,
    "power_net": 0.7,
    "power_gen": 0.9,
    "power_sub": 0.4,
    "gas": 0.12,
    "water": 11.0,
    "water_indoor": 6.0,
    "water_outdoor": 4.0,
}
"""What a middling meter of the type uses in an hour, in the standard unit."""

HOUR_S = 3600
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Premise:
    """A house: zero or more meters and a gateway."""

    id: str
    """A UUID."""
    index: int
    """Its place in the list, from 0."""
    zone: str
    """IANA zone name."""
    created_utc: datetime
    """When it was entered."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter of a premise."""

    id: str
    """Such as `07:1552395084` (electric), `12:0130690611` (gas), `IQ:22188666` (water)."""
    index: int
    """Its place in the list, from 0."""
    type: str
    """A key of UNITS."""
    zone: str
    """The IANA zone of its premise."""
    premise_id: str
    """The premise it belongs to."""
    premise_created_utc: datetime
    """When that premise was entered."""
    gateway_id: str
    """The gateway that hears it."""
    created_utc: datetime
    """When its register begins; no readings before."""
    state: str
    """connected, degraded or disconnected."""
    silence_s: int | None
    """For how long it has not been heard; None: so long that there is no last reading."""
    uom: str
    """The unit of its register, as the list tells it."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What hears the meters of a premise; a virgin one waits in a box and has no premise."""

    id: str
    """Sixteen hexadecimal digits."""
    index: int
    """Its place in the list, from 0."""
    premise_id: str | None
    """Where it is installed; None: nowhere yet."""
    zone: str | None
    """The IANA zone of that premise."""
    created_utc: datetime
    """When it was entered; grid readings begin here."""
    state: str
    """active, down or virgin."""
    silence_s: int | None
    """For how long it has not been heard; None: never heard."""


class Fleet(ABC):
    """What a local cloud has: lists by index, look-up by id, registers in closed form.

    Nothing is kept: each record is made from its index, and an id leads back to its index, so
    that a fleet of 100,000 premises starts like one of ten.
    """

    premise_count: int
    """How many premises there are."""
    meter_count: int
    """How many meters there are."""
    gateway_count: int
    """How many gateways there are, virgin ones included."""
    default_now: datetime | None = None
    """Where the clock stands unless told otherwise; None: the machine's clock."""
    notices: tuple[str, ...] = ()
    """What whoever starts the cloud should know of it, a line each."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._premise_ids = Scrambler(2**128, mix(seed, 1))
        self._gateway_ids = Scrambler(2**64, mix(seed, 2))

    @abstractmethod
    def premise_at(self, index: int) -> Premise:
        """The premise at a place in the list, 0 ≤ index < premise_count."""

    @abstractmethod
    def meter_at(self, index: int) -> Meter:
        """The meter at a place in the list, 0 ≤ index < meter_count."""

    @abstractmethod
    def gateway_at(self, index: int) -> Gateway:
        """The gateway at a place in the list, 0 ≤ index < gateway_count."""

    @abstractmethod
    def find_meter(self, meter_id: str) -> Meter | None:
        """The meter of an id; None: there is none."""

    @abstractmethod
    def meters_of(self, premise: Premise) -> list[Meter]:
        """The meters of a premise, in the order of the list."""

    @abstractmethod
    def register_of(self, meter: Meter) -> Register:
        """The meter's register."""

    def premises(self) -> Iterator[Premise]:
        """Every premise, in the order of the list."""
        return map(self.premise_at, range(self.premise_count))

    def meters(self) -> Iterator[Meter]:
        """Every meter, in the order of the list."""
        return map(self.meter_at, range(self.meter_count))

    def meters_of_type(self, meter_type: str) -> Iterator[Meter]:
        """Every meter of a type, in the order of the list."""
        return (meter for meter in self.meters() if meter.type == meter_type)

    def gateways(self) -> Iterator[Gateway]:
        """Every gateway, in the order of the list; the virgin ones come last."""
        return map(self.gateway_at, range(self.gateway_count))

    def find_premise(self, premise_id: str) -> Premise | None:
        """The premise of an id; None: there is none."""
        try:
            index = self._premise_ids.find(UUID(premise_id).int)
        except ValueError:
            return None
        if index >= self.premise_count or self._premise_id(index) != premise_id:
            return None
        return self.premise_at(index)

    def find_gateway(self, gateway_id: str) -> Gateway | None:
        """The gateway of an id; None: there is none."""
        try:
            index = self._gateway_ids.find(int(gateway_id, 16))
        except ValueError:
            return None
        if index >= self.gateway_count or self._gateway_id(index) != gateway_id:
            return None
        return self.gateway_at(index)

    def register_at(self, meter_id: str, instant_utc: datetime) -> float:
        """What the meter's register shows at an instant (aware), in the standard unit.

        Flat before the meter's creation, and unrounded: `CurveRegister` and `ReplayedRegister`
        give the formula. Raises KeyError for an unknown id.
        """
        meter = self.find_meter(meter_id)
        if meter is None:
            raise KeyError(meter_id)
        return self.register_of(meter).at(instant_utc.timestamp())

    def series_factor(self, meter_id: str, series: str) -> float:
        """What `baseline` or `average` energy is, as a multiple of the usage of the bucket.

        Two places: 0.70 to 0.99 for a baseline, 0.90 to 1.19 for an average, by the meter's id
        and the seed. Raises KeyError for an unknown id.
        """
        meter = self.find_meter(meter_id)
        if meter is None:
            raise KeyError(meter_id)
        kind = ("baseline", "average").index(series)
        lowest = (70, 90)[kind]
        return (lowest + mix(self.seed, 3, meter.index, kind) % 30) / 100

    def grid_at(self, gateway_id: str, epoch_s: int) -> tuple[float, float]:
        """Volts and hertz of the grid at a gateway and a UTC second.

        118.0 to 122.0 in tenths, 59.95 to 60.05 in hundredths, drawn from the seed.
        """
        state = mix(self.seed, 4, int(gateway_id, 16), epoch_s)
        return (1180 + state % 41) / 10, (5995 + (state >> 32) % 11) / 100

    def reading_s(self, meter: Meter, hour: int) -> int:
        """The UTC second at which a meter was read in an hour, the hours counted from 1970.

        Anywhere from the 10th minute up to the 50th, drawn from the seed.
        """
        return hour * HOUR_S + 600 + mix(self.seed, 5, meter.index, hour) % 2400

    def last_reading_s(self, meter: Meter, now_s: int) -> int | None:
        """The UTC second of the meter's last reading at `now_s`; None: not heard for long."""
        if meter.silence_s is None:
            return None
        register = self.register_of(meter)
        until = min(now_s - meter.silence_s, register.last_s)
        hour = int(until // HOUR_S)
        second = self.reading_s(meter, hour)
        if second > until:
            second = self.reading_s(meter, hour - 1)
        return second if second >= register.first_s else None

    def _premise_id(self, index: int) -> str:
        return str(UUID(int=self._premise_ids.hide(index)))

    def _gateway_id(self, index: int) -> str:
        return f"{self._gateway_ids.hide(index):016x}"


@dataclass(frozen=True, slots=True)
class _Slot:
    """A meter of a premise of the pattern below."""

    type: str
    state: str = "connected"
    silence_s: int | None = 0
    born: tuple[datetime, datetime] | None = None


_LATE = 6 * HOUR_S
_LONG = 3 * DAY_S

_PATTERN: tuple[tuple[_Slot, ...], ...] = (
    (_Slot("power"), _Slot("gas")),
    (_Slot("power_net"), _Slot("power_gen")),
    (_Slot("power"), _Slot("gas"), _Slot("water")),
    (_Slot("power"), _Slot("water_indoor"), _Slot("water_outdoor")),
    (_Slot("power"), _Slot("power_sub")),
    (),
    (_Slot("power", "degraded", _LATE), _Slot("gas", "degraded", _LATE)),
    (_Slot("power", "disconnected", None), _Slot("gas")),
    (
        _Slot(
            "power", born=(datetime(2020, 12, 22, tzinfo=UTC), datetime(2021, 1, 12, tzinfo=UTC))
        ),
        _Slot("gas"),
    ),
    (
        _Slot(
            "power",
            "disconnected",
            _LONG,
            (datetime(2021, 1, 13, tzinfo=UTC), datetime(2021, 6, 30, tzinfo=UTC)),
        ),
        _Slot("water", "disconnected", _LONG),
    ),
    (_Slot("gas"), _Slot("power_net")),
    (_Slot("power"), _Slot("gas"), _Slot("water")),
)
"""Twelve premises, over and over: each meter type and state, no meters, late comers."""

_DOWN = 9
"""The place in the pattern whose gateway is down (and so its meters are disconnected)."""

_SIZE = len(_PATTERN)
_BEFORE = (0, *accumulate(len(slots) for slots in _PATTERN))
"""How many meters of the pattern come before each of its premises; the last: all of them."""

_OPENED = datetime(2019, 6, 1, tzinfo=UTC)
_PREMISES_OVER_S = 375 * DAY_S
_METERS_WITHIN_S = 45 * DAY_S

_PREFIXES = {"power": ("07:", 10), "gas": ("12:", 10), "water": ("IQ:", 8)}


def shape_meter_id(meter_type: str, number: int) -> str:
    """`power_net`, 1552395084 → `07:1552395084`: the prefix says what is metered."""
    prefix, digits = _PREFIXES[meter_type.partition("_")[0]]
    return f"{prefix}{number:0{digits}}"


def parse_meter_id(meter_id: str) -> tuple[str, int] | None:
    """`12:0130690611` → (`gas`, 130690611); None for what is no meter id."""
    for kind, (prefix, digits) in _PREFIXES.items():
        number = meter_id.removeprefix(prefix)
        if number != meter_id and len(number) == digits and number.isdecimal():
            return kind, int(number)
    return None


class MeterIds:
    """Meter ids: index → id → index, ten digits or, for water, eight."""

    def __init__(self, seed: int) -> None:
        self._numbers = {
            kind: Scrambler(10**digits, mix(seed, 6)) for kind, (_, digits) in _PREFIXES.items()
        }

    def shape(self, meter_type: str, index: int) -> str:
        """The id of the meter of a type at a place in the list."""
        return shape_meter_id(meter_type, self._numbers[meter_type.partition("_")[0]].hide(index))

    def find(self, meter_id: str) -> int | None:
        """The place in the list which an id would have; None for what is no meter id."""
        parsed = parse_meter_id(meter_id)
        return self._numbers[parsed[0]].find(parsed[1]) if parsed else None


class GeneratedFleet(Fleet):
    """Premises after a pattern of twelve, with numbers drawn from the seed.

    Creation instants lie at any second: premises from 2019-06-01 over 375 days, their meters
    within 45 days after, but in each twelve premises one meter begins between 2020-12-22 and
    2021-01-12 and one between 2021-01-13 and 2021-06-30.
    """

    def __init__(self, premises: int, seed: int, zones: tuple[str, ...]) -> None:
        super().__init__(seed)
        self._zones = zones
        self._meter_ids = MeterIds(seed)
        self.premise_count = premises
        self.meter_count = self._meters_before(premises)
        self.gateway_count = premises + max(1, premises // _SIZE)

    def premise_at(self, index: int) -> Premise:
        """The premise at a place in the list."""
        return Premise(
            id=self._premise_id(index),
            index=index,
            zone=self._zones[index % len(self._zones)],
            created_utc=self._opened(index),
        )

    def meter_at(self, index: int) -> Meter:
        """The meter at a place in the list."""
        block, within = divmod(index, _BEFORE[-1])
        place = bisect_right(_BEFORE, within) - 1
        slot = _PATTERN[place][within - _BEFORE[place]]
        premise_index = block * _SIZE + place
        opened = self._opened(premise_index)
        begin, end = slot.born or (opened, opened + timedelta(seconds=_METERS_WITHIN_S))
        seconds = int((end - begin).total_seconds())
        return Meter(
            id=self._meter_ids.shape(slot.type, index),
            index=index,
            type=slot.type,
            zone=self._zones[premise_index % len(self._zones)],
            premise_id=self._premise_id(premise_index),
            premise_created_utc=opened,
            gateway_id=self._gateway_id(premise_index),
            created_utc=begin + timedelta(seconds=mix(self.seed, 7, index) % seconds),
            state=slot.state,
            silence_s=slot.silence_s,
            uom=UNITS[slot.type],
        )

    def gateway_at(self, index: int) -> Gateway:
        """The gateway at a place in the list: one a premise, then the virgin ones."""
        gateway_id = self._gateway_id(index)
        if index >= self.premise_count:
            return Gateway(gateway_id, index, None, None, self._opened(index), "virgin", None)
        down = index % _SIZE == _DOWN
        return Gateway(
            id=gateway_id,
            index=index,
            premise_id=self._premise_id(index),
            zone=self._zones[index % len(self._zones)],
            created_utc=self._opened(index),
            state="down" if down else "active",
            silence_s=_LONG if down else 0,
        )

    def find_meter(self, meter_id: str) -> Meter | None:
        """The meter of an id; None: there is none."""
        index = self._meter_ids.find(meter_id)
        if index is None or index >= self.meter_count:
            return None
        meter = self.meter_at(index)
        return meter if meter.id == meter_id else None

    def meters_of(self, premise: Premise) -> list[Meter]:
        """The meters of a premise, in the order of the list."""
        first, end = self._meters_before(premise.index), self._meters_before(premise.index + 1)
        return [self.meter_at(index) for index in range(first, end)]

    def meters_of_type(self, meter_type: str) -> Iterator[Meter]:
        """Every meter of a type, in the order of the list; the others are not even made."""
        slots = [slot for slots in _PATTERN for slot in slots]
        return (
            self.meter_at(index)
            for index in range(self.meter_count)
            if slots[index % _BEFORE[-1]].type == meter_type
        )

    def register_of(self, meter: Meter) -> CurveRegister:
        """The meter's register: initial value, rate and phase drawn from the seed.

        The initial value lies between 10 and 1000, the rate between half and one and a half
        times that of RATES, the phase anywhere.
        """
        return CurveRegister(
            initial=10 + 990 * draw(self.seed, 8, meter.index),
            rate=RATES[meter.type] * (0.5 + draw(self.seed, 9, meter.index)),
            phase=2 * pi * draw(self.seed, 10, meter.index),
            created_s=meter.created_utc.timestamp(),
        )

    def _meters_before(self, premise_index: int) -> int:
        block, place = divmod(premise_index, _SIZE)
        return block * _BEFORE[-1] + _BEFORE[place]

    def _opened(self, premise_index: int) -> datetime:
        return _OPENED + timedelta(seconds=mix(self.seed, 11, premise_index) % _PREMISES_OVER_S)
