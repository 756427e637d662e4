"""What a local Copper Cloud is told before it starts, and how its texts are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from copper_cli.sandbox.faults import Fault

AUDIENCE = "https://api.copperlabs.com"
"""What a token is asked for: this string whatever host answers."""

DEFAULT_ZONES = (
    "America/Denver",
    "America/Denver",
    "America/Denver",
    "America/Chicago",
    "America/Denver",
    "America/Denver",
    "America/Phoenix",
    "America/Denver",
    "America/Denver",
    "America/New_York",
    "America/Denver",
    "America/Denver",
)

GRANULARITIES = ("minute", "fifteenminute", "hour", "bihour", "day", "month")

QUIRKS = {
    "absent-buckets": "buckets that are not filled are left out instead of null",
    "aligned-buckets": (
        "hour, bihour, day and month buckets lie on the meter's local midnights "
        "instead of being counted from the call's start"
    ),
    "capped-sum": "sum_usage is that of the rows given when --cap-rows cut them",
    "raw-last-reading": "last_reading.value of a meter is its raw register (a hundredfold)",
    "rotate-refresh-token": "every refresh answers a new refresh token and kills the old one",
}
"""Ways in which the real cloud is known or suspected to differ, off unless asked for."""

MAX_PREMISES = 1_000_000

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ConfigError(ValueError):
    """A setting that cannot be: one line, which names the setting and a right example."""


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """Everything that decides how a local cloud behaves; wrong settings raise ConfigError."""

    port: int = 0
    """TCP port on 127.0.0.1; 0 takes a free one."""
    premises: int = 12
    """How many premises the fleet has (1 to 1,000,000); not looked at with `series_dir`."""
    seed: int = 1
    """Same seed, same fleet: ids, creation instants, registers."""
    now: datetime | None = None
    """Freezes the clock at this instant (aware); None: the machine's clock, or with
    `series_dir` the last instant of the series."""
    zones: tuple[str, ...] = DEFAULT_ZONES
    """IANA zone names, given to the premises in turn."""
    latency_ms: float = 0.0
    """Milliseconds to wait before each answer."""
    quota: str | None = "100/h,1000/d"
    """Sliding windows of calls for each client id; None: no limit."""
    retry_after: bool = True
    """Whether a 429 of the quota says how long to wait."""
    series_dir: Path | str | None = None
    """A folder of CSV files which the meters replay, instead of the generated fleet."""
    series_zone: str | None = None
    """The IANA zone of the premise with the replayed meters, and of their files' times without
    an offset; None: UTC for the premise, and such times are refused."""
    series_units: tuple[str, ...] = ()
    """The units of the files' values: `therm`, or `FILE=therm`; else the type's standard one."""
    faults: tuple[Fault | str, ...] = ()
    """What goes wrong, from the start; texts are parsed with `Fault.parse`."""
    log_file: Path | str | None = None
    """Where each request is noted as one JSON line (appended); None: in memory only."""
    quirks: frozenset[str] = frozenset()
    """Names out of QUIRKS."""
    max_span: Mapping[str, timedelta | str] = field(default_factory=dict)
    """Longest window of one call for a granularity (or `readings`, `grid`); longer: 400."""
    cap_rows: int | None = None
    """At most so many usage or series rows in an answer, the first ones, without a word."""
    max_page: int | None = None
    """At most so many entries on a page of an offset list, whatever `limit` asks for; None: no
    cap."""
    next_page: int = 1000
    """Entries on a page of the lists which carry `next`."""
    late: tuple[str, ...] = ()
    """How long after its end a bucket is filled: `3` or `3d` (days), `36h`, or `METER=3` for one
    meter, which goes before; a bucket not filled is null in every value."""
    max_age: int | None = 60
    """Seconds in Cache-Control of partner answers; 0 or None: no Cache-Control anywhere
    unless `app_max_age` asks for it."""
    app_max_age: int | None = None
    """Seconds in Cache-Control of app answers; None: 900, or off when `max_age` is off."""
    missing_emails: int = 1
    """How many requests with `with_users=True` are answered before all emails are there."""
    client_id: str = "sandbox-client"
    """The enterprise client id that gets tokens."""
    client_secret: str = "sandbox-secret"  # noqa: S105  (a published default, opens nothing)
    """Its secret."""
    enterprise_id: str = "sandbox-enterprise"
    """The enterprise whose data is served; another in the path answers 403."""
    token_ttl: int = 86400
    """Seconds until an access token expires, by the cloud's clock."""

    def __post_init__(self) -> None:
        _check(0 <= self.port <= 65535, f"port {self.port} is not between 0 and 65535")
        _check(
            1 <= self.premises <= MAX_PREMISES,
            f"premises {self.premises} is not between 1 and {MAX_PREMISES:,}",
        )
        _check(self.now is None or self.now.tzinfo is not None, "now needs an offset, such as Z")
        _check(bool(self.zones), "zones is empty; write them like America/Denver,Asia/Kolkata")
        for name in (*self.zones, "UTC" if self.series_zone is None else self.series_zone):
            check_zone(name)
        _check(self.latency_ms >= 0, "latency-ms is less than 0")
        for name in ("cap_rows", "max_page", "next_page", "token_ttl"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name.replace('_', '-')} is less than 1")
        for name in ("max_age", "app_max_age", "missing_emails"):
            value = getattr(self, name)
            _check(value is None or value >= 0, f"{name.replace('_', '-')} is less than 0")
        for quirk in self.quirks:
            _check(quirk in QUIRKS, f"no quirk {quirk!r}; there are {', '.join(QUIRKS)}")
        parse_quota(self.quota)
        self.spans()
        self.delays()
        self.planned_faults()

    def spans(self) -> dict[str, timedelta]:
        """The longest window for each limited granularity, texts like `31d` read."""
        kinds = (*GRANULARITIES, "readings", "grid")
        for name in self.max_span:
            _check(
                name in kinds, f"max-span: no granularity {name!r}; there are {', '.join(kinds)}"
            )
        return {
            name: parse_duration(span) if isinstance(span, str) else span
            for name, span in self.max_span.items()
        }

    def delays(self) -> dict[str, timedelta]:
        """How long each meter's buckets take to be filled; the empty name: every other meter's."""
        delays = {}
        for text in self.late:
            meter_id, _, span = text.rpartition("=")
            try:
                span = f"{span}d" if span.isdecimal() else span
                delays[meter_id.strip()] = timedelta(0) if span == "0d" else parse_duration(span)
            except (ConfigError, OverflowError):
                raise ConfigError(
                    f"late {text!r} cannot be read; write it like 3, 36h or 07:1552395084=3"
                ) from None
        return delays

    def planned_faults(self) -> list[Fault]:
        """The faults to start with, texts parsed."""
        try:
            return [Fault.parse(f) if isinstance(f, str) else f for f in self.faults]
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def caching_seconds(self, app: bool) -> int | None:
        """The max-age an answer carries, for the app API or the partner one; None: none."""
        if not app or self.app_max_age is not None:
            return (self.app_max_age if app else self.max_age) or None
        return 900 if self.max_age else None


def check_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name; raises ConfigError when there is no such zone."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            f"no time zone {name!r}; write a name of the IANA list, such as America/Denver"
        ) from None


def parse_quota(text: str | None) -> tuple[tuple[int, int], ...]:
    """`100/h,1000/d` → ((100, 3600), (1000, 86400)): calls and seconds; None → ()."""
    if text is None:
        return ()
    windows = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([1-9]\d*)/([smhd])\s*", part)
        if not found:
            raise ConfigError(f"quota {text!r} cannot be read; write it like 100/h,1000/d")
        windows.append((int(found[1]), _UNITS[found[2]]))
    return tuple(windows)


def parse_duration(text: str) -> timedelta:
    """`31d`, `12h`, `90m`, `30s` → a duration; raises ConfigError otherwise."""
    found = re.fullmatch(r"\s*([1-9]\d*)([smhd])\s*", text)
    if not found:
        raise ConfigError(f"span {text!r} cannot be read; write it like 31d, 12h, 90m or 30s")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def parse_max_span(text: str) -> dict[str, timedelta | str]:
    """`hour=31d,minute=1d` → the longest window of each granularity."""
    pairs = [part.partition("=") for part in text.split(",")]
    _check(
        all(name and sign for name, sign, _ in pairs),
        f"max-span {text!r} cannot be read; write it like hour=31d,minute=1d",
    )
    return {name.strip(): parse_duration(span) for name, _, span in pairs}


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigError(otherwise)
