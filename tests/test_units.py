import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.records import BulkReading, LastReading, Meter
from copper_cli.units import (
    STANDARD_UNITS,
    Normalised,
    amount_unit,
    convert,
    normalise_last_readings,
    standard_unit,
)

EARLY = datetime(2022, 3, 28, 10, tzinfo=UTC)
LATE = datetime(2022, 3, 28, 12, tzinfo=UTC)


def meter(meter_id, value, meter_type="power", uom="kwh"):
    last = None if value is None else LastReading(value, LATE)
    return Meter(meter_id, meter_type, "connected", None, None, uom, last, ())


def bulk(meter_id, value, meter_type="power", time_utc=EARLY):
    return BulkReading(meter_id, meter_type, value, time_utc)


def normalise_one(value, bulk_value, **kwargs):
    found = normalise_last_readings([meter("07:1", value, **kwargs)], [bulk("07:1", bulk_value)])
    return found["07:1"]


@pytest.mark.parametrize(
    ("raw", "in_bulk", "expected", "meter_type", "uom"),
    [
        (104366.000, 1011.230, 1043.66, "power", "kwh"),
        (60201.000, 491.850, 602.01, "power_net", "kwh"),
        (42754.000, 389.580, 427.54, "gas", "ccf"),
        (6967.000, 69.670, 69.67, "water", "gal"),
    ],
)
def test_the_four_pairs_of_the_complaint(raw, in_bulk, expected, meter_type, uom):
    """What people reported a hundred times too large comes out in the standard unit."""
    found = normalise_one(raw, in_bulk, meter_type=meter_type, uom=uom)
    assert found == Normalised(expected, True)


@pytest.mark.parametrize("value", [1011.230, 491.850, 389.580, 69.670])
def test_a_normalised_answer_is_left_alone(value):
    """Where the cloud is mended and both lists agree, the number stays as it is."""
    assert normalise_one(value * 1.01, value) == Normalised(value * 1.01, True)


@given(
    in_bulk=st.floats(1, 1e7),
    drift=st.floats(0.8, 1.25),
    scale=st.integers(0, 3),
)
def test_any_scale_is_found_within_a_tenth_of_a_decade(in_bulk, drift, scale):
    """A register up to a quarter away from bulk is read in bulk's scale, whatever the scale."""
    found = normalise_one(in_bulk * drift * 10**scale, in_bulk)
    assert found.verified
    assert found.value == pytest.approx(in_bulk * drift)


@pytest.mark.parametrize(
    ("value", "in_bulk"),
    [
        (30.0, 10.0),  # between two scales
        (1e6, 10.0),  # five decades
        (1.0, 10.0),  # smaller than bulk
        (50.0, 0.5),  # bulk below 1 says nothing
        (0.0, 10.0),
        (-5.0, 10.0),
        (500.0, None),
        (500.0, math.nan),
    ],
)
def test_bulk_that_shows_no_clear_scale_decides_nothing(value, in_bulk):
    """Without other evidence the number is left as it is and counts as not verified."""
    assert normalise_one(value, in_bulk) == Normalised(value, False)


def test_peers_decide_for_a_meter_that_bulk_does_not_know():
    """The scale of meters of the same type and unit in the same answer holds for the others."""
    meters = [meter("07:1", 50_000.0), meter("07:2", 60_000.0), meter("07:3", 7_000.0)]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0), bulk("07:2", 598.0)])
    assert found["07:3"] == Normalised(70.0, True)


def test_peers_that_are_not_scaled_verify_too():
    """Scale 0 is a scale: the value stays and is verified."""
    meters = [meter("07:1", 500.0), meter("07:2", 7_000.0)]
    found = normalise_last_readings(meters, [bulk("07:1", 499.0)])
    assert found["07:2"] == Normalised(7_000.0, True)


def test_peers_that_disagree_verify_nothing():
    """Two scales among meters of one kind: nobody knows which one holds for a third."""
    meters = [meter("07:1", 500.0), meter("07:2", 60_000.0), meter("07:3", 7_000.0, uom="KWH")]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0), bulk("07:2", 600.0)])
    assert found["07:3"] == Normalised(7_000.0, False)


def test_the_nearest_meters_decide():
    """Those of the same type and unit before all others, however many agree on another scale."""
    meters = [
        meter("07:1", 50_000.0),
        meter("07:2", 60_000.0),
        meter("12:1", 700.0, "gas", "ccf"),
        meter("12:2", 800.0, "gas", "ccf"),
    ]
    rows = [bulk("07:1", 500.0), bulk("07:2", 600.0), bulk("12:1", 700.0)]
    assert normalise_last_readings(meters, rows)["12:2"] == Normalised(800.0, True)


def test_a_type_that_bulk_lacks_is_told_by_its_kind_then_by_all():
    """The decimal point moved for the whole list: of its kind, else of every type that is proved."""
    powers = [meter("07:1", 50_000.0), meter("07:2", 60_000.0, meter_type="power_gen")]
    rows = [bulk("07:1", 500.0), bulk("07:2", 600.0)]
    others = [
        meter("07:3", 7_000.0, meter_type="power_net"),
        meter("12:1", 42_754.0, "gas", "ccf"),
        meter("IQ:1", 6_967.0, "water_indoor", None),
        meter("ST:1", 800.0, "steam", "lb"),
    ]
    found = normalise_last_readings([*powers, *others], rows)
    expected = [70.0, 427.54, 69.67, 8.0]
    assert [found[one.id] for one in others] == [Normalised(value, True) for value in expected]


def test_a_kind_that_agrees_needs_no_agreement_of_the_rest():
    """Gas moved by one, electricity by two: each kind tells its own, water nobody."""
    meters = [
        meter("07:1", 50_000.0),
        meter("07:2", 7_000.0, meter_type="power_sub"),
        meter("12:1", 7_000.0, "gas", "ccf"),
        meter("12:2", 6_000.0, "gas_sub", "ccf"),
        meter("IQ:1", 900.0, "water", "gal"),
    ]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0), bulk("12:1", 700.0)])
    assert found["07:2"] == Normalised(70.0, True)
    assert found["12:2"] == Normalised(600.0, True)
    assert found["IQ:1"] == Normalised(900.0, False)


def test_a_unit_of_its_own_comes_before_other_types():
    """Watt hours are a thousandth of a kwh wherever the decimal point of the others stands."""
    meters = [meter("07:1", 50_000.0), meter("07:2", 7_000.0, uom="wh")]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0)])
    assert found["07:2"] == Normalised(7.0, True)


def test_a_unit_of_its_own_says_nothing_of_other_types():
    """A thousand between wh and bulk is the unit, not the decimal point of the list."""
    meters = [meter("07:1", 500_000.0, uom="wh"), meter("07:2", 7_000.0)]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0)])
    assert found["07:1"] == Normalised(500.0, True)
    assert found["07:2"] == Normalised(7_000.0, False)


def test_a_unit_that_does_not_convert_is_not_verified_by_others():
    """What the decimal point of kwh is does not make ccf of a therm."""
    meters = [meter("07:1", 50_000.0), meter("12:1", 7_000.0, "gas", "therm")]
    found = normalise_last_readings(meters, [bulk("07:1", 500.0)])
    assert found["12:1"] == Normalised(7_000.0, False)


@pytest.mark.parametrize(
    ("meter_type", "uom", "value", "expected"),
    [
        ("power", "wh", 104366.0, 104.366),
        ("gas", "cf", 42754.0, 427.54),
        ("water", "ccf", 2.0, 1496.1038961038962),
        ("gas_sub", "mcf", 1.5, 15.0),
    ],
)
def test_another_unit_is_converted_last(meter_type, uom, value, expected):
    """Without bulk or peers the meter's own unit decides, if it is not the standard one."""
    found = normalise_last_readings([meter("1", value, meter_type, uom)], [])
    assert found["1"] == Normalised(expected, True)


@pytest.mark.parametrize(
    ("meter_type", "uom"),
    [("power", "kwh"), ("gas", "therm"), ("power", None), ("steam", "lb"), ("power", "gal")],
)
def test_without_evidence_a_value_is_left_and_not_verified(meter_type, uom):
    """The standard unit's name proves nothing (it stood there too when values were raw)."""
    found = normalise_last_readings([meter("1", 7.0, meter_type, uom)], [])
    assert found["1"] == Normalised(7.0, False)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_no_reading_leaves_nothing_to_verify(value):
    """A meter never heard has no value and no doubt about it."""
    assert normalise_one(value, 500.0) == Normalised(None, True)


def test_a_reading_without_value_is_no_reading():
    """The cloud may send a last reading whose value is null."""
    silent = Meter("1", "gas", None, None, None, "ccf", LastReading(None, None), ())
    assert normalise_last_readings([silent], [])["1"] == Normalised(None, True)


def test_the_newest_bulk_row_counts():
    """Bulk may list a meter twice: the later reading is the one to compare with."""
    rows = [
        bulk("07:1", 60.0, time_utc=LATE),
        bulk("07:1", 6000.0),
        bulk("07:1", 1.0, time_utc=None),
    ]
    found = normalise_last_readings([meter("07:1", 6100.0)], rows)
    assert found["07:1"] == Normalised(61.0, True)


@pytest.mark.parametrize(
    ("meter_type", "unit"),
    [
        *STANDARD_UNITS.items(),
        ("power_solar", "kwh"),
        ("gas2", "ccf"),
        ("water_well", "gal"),
        ("steam", None),
        ("", None),
    ],
)
def test_standard_units(meter_type, unit):
    """Known types by name, unknown ones by how they begin, others have none."""
    assert standard_unit(meter_type) == unit


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "mwh", "kwh", 1000.0),
        (1234, "Wh", "kWh", 1.234),
        (1, "ccf", "cf", 100.0),
        (1, "mcf", "ccf", 10.0),
        (1, "kgal", "gal", 1000.0),
        (1, "cf", "gal", 7.48051948051948),  # 1728 / 231
        (1, "gal", "l", 3.785411784),  # by definition of the inch
        (1, "m3", "l", 1000.0),
        (1, "m3", "gal", 264.1720523581484),
        (0.1, " CCF ", "ccf", 0.1),
        (5, "widgets", "Widgets", 5.0),
    ],
)
def test_conversions(value, source, target, expected):
    """Exact factors, correctly rounded, units in any case."""
    assert convert(value, source, target) == expected


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (1, "therm", "ccf"),
        (1, "ccf", "therm"),
        (1, "kwh", "gal"),
        (1, None, "gal"),
        (1, "gal", None),
        (None, "gal", "l"),
        (math.inf, "gal", "l"),
        (math.nan, "gal", "gal"),
    ],
)
def test_what_does_not_convert_is_none(value, source, target):
    """Energy is no volume, and nothing is guessed."""
    assert convert(value, source, target) is None


@given(
    value=st.floats(1e-6, 1e9),
    pair=st.sampled_from([("wh", "mwh"), ("gal", "m3"), ("ccf", "l"), ("kgal", "mcf")]),
)
def test_there_and_back(value, pair):
    """Converting back gives the value again."""
    there = convert(value, *pair)
    assert convert(there, *reversed(pair)) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("meter_type", "uom", "expected"),
    [
        ("gas", "ccf", "ccf"),
        ("gas", "m3", "ccf"),
        ("gas", None, "ccf"),
        ("gas", "Therm", "therm"),
        ("power_net", "therm", "kwh"),
        ("water", "cf", "gal"),
        ("steam", "lb", "lb"),
        ("steam", None, None),
    ],
)
def test_amounts_are_in_the_standard_unit_but_for_gas_as_energy(meter_type, uom, expected):
    """A therm is no volume: it is never called ccf."""
    assert amount_unit(meter_type, uom) == expected
