"""Rows of usage and of the baseline and average series, written as JSON text.

An answer can have 100,000 rows, so the text is put together row by row; `json.dumps` of a
dictionary a row would take several times as long.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from copper_cli.sandbox.instants import format_instants
from copper_cli.sandbox.registers import Register


@dataclass(frozen=True)
class Window:
    """What one call asks of a meter's register."""

    start_s: int
    """From when the sum goes, UTC seconds."""
    end_s: int
    """Until when the sum goes."""
    filled_s: int
    """After this instant nothing is known."""
    edges_s: Sequence[int]
    """The edges of the buckets whose rows are given, as `lay_bounds` lays them."""
    absent: bool = False
    """Whether rows without values are left out instead of null."""


def write_usage(meter_id: str, meter_type: str, register: Register, window: Window) -> str:
    """The answer of `usage`: a JSON object with `sum_usage` and `results`.

    A row's `time` is the END of its bucket. Rows before the meter's first reading, after its
    last and after `filled_s` are null in every value or absent; the sum stops there too.
    """
    total = _sum(register, window)
    head = json.dumps({"meter_id": meter_id, "meter_type": meter_type, "sum_usage": total})
    return (
        f'{head[:-1]},"source":"sandbox","results":[{",".join(_write_results(register, window))}]}}'
    )


def write_series(
    meter_id: str, meter_type: str, register: Register, window: Window, factor: float
) -> str:
    """The answer of `baseline-series` or `average-series`: the usage times a factor.

    A JSON object with `sum_energy` and `series`; `energy` is the usage of the bucket times the
    factor, rounded as usage is; null where usage is null.
    """
    total = _sum(register, window) * factor
    head = json.dumps({"meter_id": meter_id, "meter_type": meter_type, "sum_energy": total})
    rows = ",".join(_write_energies(register, window, factor))
    return f'{head[:-1]},"source":"sandbox","series":[{rows}]}}'


def _sum(register: Register, window: Window) -> float:
    return register.total(min(window.start_s, window.filled_s), min(window.end_s, window.filled_s))


def _find_known(register: Register, window: Window) -> tuple[int, int]:
    """The first bucket with values, and the first after it without."""
    ends = window.edges_s[1:]
    first = bisect_left(ends, register.first_s)
    return first, max(first, bisect_right(ends, min(register.last_s, window.filled_s)))


def _write_results(register: Register, window: Window) -> list[str]:
    times = format_instants(window.edges_s[1:])
    first, end = _find_known(register, window)
    edges = window.edges_s[first : end + 1]
    measures = register.measure(edges)
    places = max(4, register.usage_places - 4)
    powers = [
        round(usage / ((after - before) / 3600), places)
        for usage, (before, after) in zip(measures.usage, pairwise(edges), strict=True)
    ]
    rows = [
        f'{{"actual":{actual},"power":{power},"time":"{time}","usage":{usage},"value":{value}}}'
        for actual, power, time, usage, value in zip(
            measures.actual, powers, times[first:end], measures.usage, measures.value, strict=True
        )
    ]
    if not window.absent:
        rows[:0] = map(_write_null_result, times[:first])
        rows += map(_write_null_result, times[end:])
    return rows


def _write_null_result(time: str) -> str:
    return f'{{"actual":null,"power":null,"time":"{time}","usage":null,"value":null}}'


def _write_energies(register: Register, window: Window, factor: float) -> list[str]:
    times = format_instants(window.edges_s[1:])
    first, end = _find_known(register, window)
    edges = window.edges_s[first : end + 1]
    places = register.usage_places
    energies = [round(usage * factor, places) for usage in register.measure(edges).usage]
    rows = [
        f'{{"energy":{energy},"power":{round(energy / ((after - before) / 3600), places)},'
        f'"time":"{time}"}}'
        for energy, time, (before, after) in zip(
            energies, times[first:end], pairwise(edges), strict=True
        )
    ]
    if not window.absent:
        rows[:0] = map(_write_null_energy, times[:first])
        rows += map(_write_null_energy, times[end:])
    return rows


def _write_null_energy(time: str) -> str:
    return f'{{"energy":null,"power":null,"time":"{time}"}}'
