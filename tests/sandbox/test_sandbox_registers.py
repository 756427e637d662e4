from __future__ import annotations

from itertools import pairwise
from math import pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.sandbox.registers import CurveRegister, ReplayedRegister

CREATED = 1_590_000_000
CURVE = CurveRegister(initial=100.0, rate=2.0, phase=0.5, created_s=CREATED)
SERIES = ReplayedRegister((0, 3600, 7200, 9000), (0, 29, 176, 180), 2)


def test_the_curve_is_the_documented_formula():
    """initial + rate · (hours + w(T) − w(created)), the waves written out anew."""

    def wave(t):
        day = 0.6 * 24 / (2 * pi) * sin(2 * pi * (t % 86400) / 86400 + 0.5)
        year = 0.3 * 8766 / (2 * pi) * sin(2 * pi * t / 31557600 + 0.5)
        return day + year

    for hours in (1, 24, 1000.25, 20_000):
        instant = CREATED + hours * 3600
        expected = 100 + 2 * (hours + wave(instant) - wave(CREATED))
        assert CURVE.at(instant) == pytest.approx(expected, abs=1e-9)


def test_the_curve_is_flat_before_creation():
    """Until it is created a meter shows its initial value."""
    assert CURVE.at(CREATED) == CURVE.at(CREATED - 10**6) == 100.0
    assert CURVE.first_s == CREATED


def test_a_whole_year_uses_the_mean_rate():
    """Both waves come back after 1461 days (four Julian years): what is left is the rate."""
    assert CURVE.total(CREATED, CREATED + 1461 * 86400) == pytest.approx(2.0 * 1461 * 24, abs=1e-6)


@given(st.integers(CREATED, CREATED + 10**8), st.integers(1, 10**6))
def test_the_curve_always_rises(start, step):
    """A register never stands still after creation."""
    assert CURVE.at(start + step) > CURVE.at(start)


@given(st.integers(CREATED - 10**6, CREATED + 10**8), st.sampled_from([60, 900, 3600, 86400]))
def test_measures_are_the_curve_to_the_last_bit(start, step):
    """`measure` saves work but not digits: it agrees with `at` exactly."""
    edges = [start + step * i for i in range(6)]
    measures = CURVE.measure(edges)
    assert measures.actual == [int(CURVE.at(edge) * 100) for edge in edges[1:]]
    assert measures.value == [ticks / 100 for ticks in measures.actual]
    assert measures.usage == [round(CURVE.at(b) - CURVE.at(a), 4) for a, b in pairwise(edges)]


def test_a_replayed_register_is_the_running_sum():
    """0.29 and 1.47 and 0.04 were used: the register stands at 0, 0.29, 1.76, 1.80."""
    assert [SERIES.at(second) for second in (0, 3600, 7200, 9000)] == [0.0, 0.29, 1.76, 1.8]
    assert SERIES.at(-5) == 0.0
    assert SERIES.at(10**6) == 1.8
    assert (SERIES.first_s, SERIES.last_s) == (0, 9000)


def test_a_replayed_register_is_linear_in_between():
    """Half way through an hour with 1.47 half of it is used: 0.29 + 0.735 = 1.025."""
    assert SERIES.at(5400) == 1.025
    assert SERIES.total(3600, 5400) == 0.735


def test_a_replayed_meter_reports_whole_ticks():
    """`actual` has the series' two places, cut off; `usage` is exact."""
    measures = SERIES.measure([0, 3600, 5400, 7200])
    assert measures.actual == [29, 102, 176]
    assert measures.value == [0.29, 1.02, 1.76]
    assert measures.usage == [0.29, 0.735, 0.735]
