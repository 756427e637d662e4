"""In which unit a replayed file counts, where that is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from copper_cli.sandbox.config import ConfigError
from copper_cli.sandbox.fleet import UNITS

COUNTED_IN = {
    "power": ("kwh", "wh", "mwh"),
    "gas": ("ccf", "therm", "therms", "dth", "cf", "mcf", "m3"),
    "water": ("gal", "kgal", "ccf", "hcf", "cf", "m3", "l"),
}
"""The units that each kind of meter is known to count in."""

_NAMED = {"gas": "gas", "water": "water", "electric": "power", "power": "power", "kwh": "power"}
"""What a file's name can hold, and the kind that it then is."""


@dataclass(frozen=True)
class Counted:
    """What a file is taken for."""

    type: str
    """The meter's type."""
    uom: str
    """The unit of its values."""
    said: bool
    """Whether the unit was said, or is the standard one of the type."""


def name_type(file_name: str) -> str:
    """`il-gas-hdd.csv` → gas; water likewise; anything else is power."""
    return _find_kind(file_name) or "power"


def choose_units(names: Sequence[str], said: Sequence[str]) -> dict[str, Counted]:
    """What each file is taken for, by what was said: `UNIT` or `FILE=UNIT` (FILE may have `*`).

    `FILE=UNIT` goes first. A unit alone is that of the files whose kind counts in it; it makes
    the kind where the file's name does not. Raises ConfigError for what fits no file.
    """
    rules = [_parse_rule(text) for text in said]
    rules.sort(key=lambda rule: not rule[0])
    chosen = {}
    used = set()
    for name in names:
        fit = next((rule for rule in rules if _fits(rule, name)), None)
        if fit is None:
            chosen[name] = Counted(name_type(name), UNITS[name_type(name)], said=False)
        else:
            used.add(fit)
            kind = _find_kind(name) or _find_kind_of_unit(fit[1])
            chosen[name] = Counted(kind, fit[1], said=True)
    for pattern, unit in rules:
        if (pattern, unit) not in used:
            text = f"{pattern}={unit}" if pattern else unit
            raise ConfigError(f"series-unit {text} fits no file that is left; {_EXAMPLE}")
    return chosen


_EXAMPLE = "write it like therm, or my-file.csv=therm for one file"


def _parse_rule(text: str) -> tuple[str, str]:
    """`gas.csv=therm` → (`gas.csv`, `therm`); `therm` → (``, `therm`)."""
    pattern, sign, unit = text.rpartition("=")
    pattern, unit = pattern.strip(), unit.strip()
    if not unit.isprintable() or len(unit.split()) != 1 or (sign and not pattern):
        raise ConfigError(f"series-unit {text!r} cannot be read; {_EXAMPLE}")
    return pattern, unit


def _fits(rule: tuple[str, str], name: str) -> bool:
    pattern, unit = rule
    if pattern:
        return fnmatchcase(name, pattern)
    kind = _find_kind(name)
    known = any(unit.lower() in units for units in COUNTED_IN.values())
    return not (kind and known) or unit.lower() in COUNTED_IN[kind]


def _find_kind(name: str) -> str | None:
    return next((kind for word, kind in _NAMED.items() if word in name.lower()), None)


def _find_kind_of_unit(unit: str) -> str:
    kinds = (kind for kind, units in COUNTED_IN.items() if unit.lower() in units)
    return next(kinds, "power")
