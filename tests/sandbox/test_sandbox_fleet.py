from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.sandbox.fleet import UNITS, GeneratedFleet
from copper_cli.sandbox.identifiers import Scrambler

ZONES = ("America/Denver", "Asia/Kolkata", "Asia/Kathmandu")


@pytest.fixture(scope="module")
def fleet():
    return GeneratedFleet(premises=12, seed=1, zones=ZONES)


def test_every_type_state_and_oddity_occurs(fleet):
    """Twelve premises show all a client must be able to take."""
    meters, gateways = list(fleet.meters()), list(fleet.gateways())
    assert {meter.type for meter in meters} == set(UNITS)
    assert {meter.state for meter in meters} == {"connected", "degraded", "disconnected"}
    assert {gateway.state for gateway in gateways} == {"active", "down", "virgin"}
    assert any(not fleet.meters_of(premise) for premise in fleet.premises())
    assert any(meter.silence_s is None for meter in meters)
    assert all((g.premise_id is None) == (g.state == "virgin") for g in gateways)


def test_meters_begin_when_they_should(fleet):
    """From 2019-06 to 2020-07, but one about New Year 2021 and one later that year."""
    early = (datetime(2019, 6, 1, tzinfo=UTC), datetime(2020, 8, 1, tzinfo=UTC))
    late = (datetime(2020, 12, 22, tzinfo=UTC), datetime(2021, 1, 12, tzinfo=UTC))
    latest = (late[1], datetime(2022, 1, 1, tzinfo=UTC))
    created = [meter.created_utc for meter in fleet.meters()]
    counts = [sum(a <= one < b for one in created) for a, b in (early, late, latest)]
    assert counts == [len(created) - 2, 1, 1]
    assert all(meter.created_utc >= meter.premise_created_utc for meter in fleet.meters())
    assert any(one.second for one in created)


def test_ids_have_the_clouds_shapes(fleet):
    """`07:` and ten digits for electric meters, `12:` for gas, `IQ:` and eight for water."""
    shapes = {"power": ("07:", 13), "gas": ("12:", 13), "water": ("IQ:", 11)}
    for meter in fleet.meters():
        prefix, length = shapes[meter.type.partition("_")[0]]
        assert meter.id.startswith(prefix)
        assert len(meter.id) == length


def test_zones_are_given_in_turn(fleet):
    """The premises cycle through the zones, and their meters go with them."""
    assert [premise.zone for premise in fleet.premises()] == list(ZONES) * 4
    zones = {premise.id: premise.zone for premise in fleet.premises()}
    assert all(meter.zone == zones[meter.premise_id] for meter in fleet.meters())


@pytest.mark.parametrize("premises", [1, 10, 12, 13, 250])
def test_every_id_leads_back(premises):
    """Whatever the size: no id twice, each found again, each meter in its premise."""
    fleet = GeneratedFleet(premises, 7, ZONES)
    for things, find in (
        (list(fleet.premises()), fleet.find_premise),
        (list(fleet.meters()), fleet.find_meter),
        (list(fleet.gateways()), fleet.find_gateway),
    ):
        assert len({thing.id for thing in things}) == len(things)
        assert [find(thing.id) for thing in things] == things
    by_premise = [meter for premise in fleet.premises() for meter in fleet.meters_of(premise)]
    assert by_premise == list(fleet.meters())
    for kind in UNITS:
        assert list(fleet.meters_of_type(kind)) == [m for m in by_premise if m.type == kind]


def test_unknown_ids_lead_nowhere(fleet):
    """Ids of the wrong shape, of the wrong kind or of another fleet are not found."""
    meter = next(fleet.meters())
    number = int(meter.id[3:])
    wrong = [
        "",
        "07:1",
        "99:1234567890",
        f"12:{number:010}",
        f"07:{number ^ 1:010}",
        "07:١٢٣٤٥٦٧٨٩٠",
    ]
    assert [fleet.find_meter(one) for one in wrong] == [None] * len(wrong)
    premise = next(fleet.premises())
    for one in ("", "x", premise.id.upper(), str(GeneratedFleet(1, 2, ZONES).premise_at(0).id)):
        assert fleet.find_premise(one) is None
    for one in ("", "zz", "0x10", "0" * 16):
        assert fleet.find_gateway(one) is None


def test_same_seed_same_fleet():
    """The seed decides everything; another seed gives another fleet."""
    one, same, other = (list(GeneratedFleet(24, seed, ZONES).meters()) for seed in (3, 3, 4))
    assert one == same
    assert not {meter.id for meter in one} & {meter.id for meter in other}


def test_a_big_fleet_is_the_small_one_gone_on():
    """A meter is found by its id, and the first premises are those of a small fleet."""
    big = GeneratedFleet(100_000, 1, ZONES)
    last = big.meter_at(big.meter_count - 1)
    found = big.find_meter(last.id)
    assert found == last
    small = list(GeneratedFleet(12, 1, ZONES).meters())
    assert [big.meter_at(index) for index in range(25)] == small
    assert big.meter_count == 8333 * 25 + (2 + 2 + 3 + 3)


def test_permutations_are_whole():
    """Every number of the modulus comes from exactly one index."""
    scrambler = Scrambler(1000, 5)
    assert sorted(map(scrambler.hide, range(1000))) == list(range(1000))
    assert [scrambler.find(scrambler.hide(index)) for index in range(1000)] == list(range(1000))


def test_registers_differ_between_meters(fleet):
    """Rate, phase and initial value are each meter's own."""
    registers = [fleet.register_of(meter) for meter in fleet.meters()]
    for name in ("initial", "rate", "phase"):
        assert max(Counter(getattr(one, name) for one in registers).values()) == 1


def test_register_at_speaks_of_known_meters_only(fleet):
    """An unknown id is a KeyError, for registers and factors."""
    meter = next(fleet.meters())
    assert fleet.register_at(meter.id, meter.created_utc) == fleet.register_of(meter).initial
    with pytest.raises(KeyError):
        fleet.register_at("07:0000000000", datetime.now(UTC))
    with pytest.raises(KeyError):
        fleet.series_factor("07:0000000000", "baseline")


def test_a_last_reading_lies_before_now_and_after_creation(fleet):
    """At most 100 minutes before the moment a connected meter was last heard."""
    for minute in range(0, 120, 7):
        now = 1_640_000_000 + minute * 60
        for meter in fleet.meters():
            second = fleet.last_reading_s(meter, now)
            if meter.silence_s is None:
                assert second is None
            else:
                assert 0 <= now - meter.silence_s - second <= 6000
    meter = next(fleet.meters())
    assert fleet.last_reading_s(meter, int(meter.created_utc.timestamp())) is None


def test_the_clouds_fleet_is_there_before_it_serves():
    """Plans can be made without a socket; a url needs one."""
    cloud = Sandbox(SandboxConfig(premises=3))
    assert len(list(cloud.fleet.premises())) == 3
    with pytest.raises(RuntimeError, match="start"):
        _ = cloud.url
    cloud.stop()
