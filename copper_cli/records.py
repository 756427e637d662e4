"""What the cloud knows, as plain values. Nothing here knows HTTP, JSON or CSV.

Instants are aware datetimes in UTC (names end in `_utc`) or whole seconds since 1970 in UTC
(`_s`); a value that the cloud left out or sent as null is None, never 0. Facts about the
fields come from public clients of the API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

SeriesKind = Literal["usage", "baseline-series", "average-series"]
SumSource = Literal["cloud", "cloud, added up", "rows", "derived"]
"""Where a sum is from: the cloud's own for exactly the span, its own for parts of it, the rows, or
rows that were themselves added up from shorter ones."""


@dataclass(frozen=True, slots=True)
class Premise:
    """A home or business: an address with meters and, mostly, a gateway."""

    id: str
    """The cloud's id, a UUID."""
    created_at: str | None
    """When it was made, as the cloud wrote it (`2019-06-15T14:11:33.000Z`)."""
    created_utc: datetime | None
    """The same as an instant; None where the cloud's text is no instant."""
    name: str | None
    """A name given by its owner."""
    street_address: str | None
    """Number and street."""
    suite_apartment_unit: str | None
    """The part of the address within the building."""
    city_town: str | None
    """City or town."""
    postal_code: str | None
    """Postal code as the cloud wrote it: leading zeros may be lost."""
    county_district: str | None
    """County or district."""
    state_region: str | None
    """State or region."""
    tags: tuple[str, ...]
    """Labels such as `has_mobile_app`, without repeats, sorted."""
    timezone: str | None
    """IANA name of the zone the premise lies in."""
    emails: tuple[str | None, ...] | None
    """One a user; None within it while the cloud fills its cache; None when not asked for."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A meter or gateway went from one state to another."""

    time_utc: datetime
    """When the cloud noticed."""
    from_state: str
    """State before."""


@dataclass(frozen=True, slots=True)
class LastReading:
    """The newest register value in the meter list. May be un-normalised: see `units`."""

    value: float | None
    """The register, in whatever unit the cloud answered."""
    time_utc: datetime | None
    """When the meter sent it."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One electric, gas or water meter."""

    id: str
    """`07:…` electric, `12:…` gas, `IQ:…` water; others may appear."""
    type: str
    """`power`, `gas`, `water_indoor` and so on; others may appear."""
    state: str | None
    """`connected`, `degraded` or `disconnected`."""
    premise_id: str | None
    """The premise it is at."""
    created_utc: datetime | None
    """When it was added to the cloud; nothing can be asked from before."""
    uom: str | None
    """The unit of its readings in the cloud's words."""
    last_reading: LastReading | None
    """The newest reading, None for a meter never heard."""
    history: tuple[StateChange, ...]
    """State changes of the last seven days; empty when not asked for."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The device in a premise that listens to its meters."""

    id: str
    """Hardware address, 12 hex digits."""
    premise_id: str | None
    """None before it is installed (state `virgin`)."""
    state: str | None
    """`active`, `down` or `virgin`."""
    model: str | None
    """Hardware model."""
    last_heard: str | None
    """As the cloud wrote it."""
    firmware_version: str | None
    """Firmware version."""
    fields: Mapping[str, Any]
    """Every field the cloud sent, nulls included, in its order."""


@dataclass(frozen=True, slots=True)
class GatewayHistory:
    """The state changes of one gateway."""

    id: str
    """Which gateway."""
    changes: tuple[StateChange, ...]
    """In the cloud's order."""


@dataclass(frozen=True, slots=True)
class BulkReading:
    """The newest register value of a meter heard recently, always in the standard unit."""

    meter_id: str
    """Which meter."""
    meter_type: str
    """Its type."""
    value: float | None
    """Register in the standard unit of the type."""
    time_utc: datetime | None
    """When the meter sent it."""


@dataclass(frozen=True, slots=True)
class GridReading:
    """Voltage and frequency as a gateway measured them."""

    gateway_id: str
    """Which gateway."""
    premise_id: str | None
    """Where it is; only the latest-readings list says so."""
    time_utc: datetime
    """When it was measured."""
    voltage: float | None
    """Volts."""
    frequency: float | None
    """Hertz."""


@dataclass(frozen=True, slots=True)
class GridSeries:
    """Grid readings of one gateway as columns of equal length, ascending, each instant once."""

    times_us: Sequence[int]
    """When they were measured, microseconds since 1970 UTC."""
    voltage: Sequence[float | None]
    """Volts."""
    frequency: Sequence[float | None]
    """Hertz."""
    unread_us: Sequence[int] = ()
    """When those were measured of which a number could not be read."""
    lost: int = 0
    """How many more there were, of which the time could not be read."""


@dataclass(frozen=True, slots=True)
class GridAnswer:
    """What the cloud sent of all gateways, or of those it was asked for."""

    series: Mapping[str, GridSeries]
    """The readings of each gateway by its id."""
    unnamed: int = 0
    """How many more there were that name no gateway."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One register reading of a meter, as it was sent: at no regular time."""

    time_utc: datetime
    """When the meter sent it."""
    actual: int | float | None
    """The register as the meter reports it."""
    value: float | None
    """The register in the standard unit."""
    is_whole: bool = True
    """False where a number of it could not be read."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The register readings of one meter over a span."""

    rows: Sequence[Reading]
    """Ascending by time; two may have the same."""
    lost: int = 0
    """How many more there were, of which the time could not be read."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What all reporting meters of one type used in a window."""

    meter_count: int | None
    """Meters that contributed."""
    sum_energy: float | None
    """Their use in the standard unit of the type."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, half-open in what it means; the cloud's answers hold rows at both ends."""

    start_utc: datetime
    """First instant."""
    end_utc: datetime
    """First instant after it."""


@dataclass(frozen=True, slots=True)
class Series:
    """Interval rows of one meter as columns of equal length, ascending, each instant once.

    A row is labelled by its END: the row at time t holds what was used in the bucket that
    ends at t, and the register at t. All amounts are in the standard unit of the meter type.
    """

    times_s: Sequence[int]
    """Bucket ends, whole seconds since 1970 UTC."""
    energy: Sequence[float | None]
    """Used in the bucket (the cloud's `usage` or `energy`); None where not known (yet)."""
    power: Sequence[float | None]
    """`energy` divided by the bucket's hours."""
    value: Sequence[float | None]
    """The register at the row's time, in the standard unit; None in baseline and average."""
    actual: Sequence[int | float | None]
    """The register as the meter reports it; None in baseline and average."""
    sum_energy: float | None
    """The cloud's own sum over the window asked for; None where it gave none."""
    meter_type: str | None = None
    """As the answer says; None in baseline and average answers."""


@dataclass(frozen=True, slots=True)
class Instant:
    """What the app shows for a meter right now."""

    meter_id: str
    """Which meter."""
    meter_type: str | None
    """Its type."""
    power: float | None
    """`instant_power` as the cloud wrote it."""
    updated_at: str | None
    """When it was received, as the cloud wrote it."""
