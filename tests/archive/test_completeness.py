"""How complete a fleet is, against a look at each bucket by itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from copper_cli.archive import Archive, SeriesKey
from copper_cli.archive.completeness import Asked, Lack, Place, Survey, survey
from copper_cli.buckets import Grid
from copper_cli.errors import UsageError
from copper_cli.filling import name_state
from copper_cli.records import Series

H, D = 3600, 86400
NOW = 1_700_006_400 + 1234
"""A while after a whole hour."""
LAST = NOW - 1234
START = LAST - 60 * D
ZONES = {
    "": UTC,
    "America/Denver": ZoneInfo("America/Denver"),
    "Asia/Kolkata": ZoneInfo("Asia/Kolkata"),
}
PHASES = {"": 0, "America/Denver": 0, "Asia/Kolkata": 1800}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    one = Archive(tmp_path, archive_id="a", temporary=True)
    yield one
    one.close()


def place(zone: str) -> Place:
    return Place(ZONES[zone], str(PHASES[zone]))


def see(
    archive: Archive, meter: str, *, kind: str = "power", zone: str = "", created_s: int = 0,
    last_s: int = NOW,
) -> None:  # fmt: skip
    """The meter stands in a list, at a premise of its own."""
    body = {
        "type": kind,
        "premise_id": f"p {meter}",
        "created_at": datetime.fromtimestamp(created_s, UTC).isoformat().replace("+00:00", "Z"),
    }
    premise = {"timezone": zone or None}
    with archive.transaction() as db:
        db.execute(
            "INSERT INTO seen VALUES ('meter', ?, 0, ?, ?)", (meter, last_s, json.dumps(body))
        )
        db.execute(
            "INSERT INTO seen VALUES ('premise', ?, 0, ?, ?)",
            (f"p {meter}", NOW, json.dumps(premise)),
        )


def land(
    archive: Archive, meter: str, start_s: int, end_s: int, *, without: tuple[int, ...] = (),
    null: tuple[int, ...] = (), asked_s: int = NOW, grid: str = "0",
) -> None:  # fmt: skip
    """Hours of a span but for some that are left out, and some that are null."""
    ends = [end for end in range(start_s + H, end_s + 1, H) if end not in without]
    energy = [None if end in null else 1.0 for end in ends]
    series = Series(ends, energy, energy, energy, [1] * len(ends), None, "power")
    key = SeriesKey(meter, "usage", "hour", grid)
    archive.land(
        key, (start_s, end_s), series, buckets=Grid((start_s, end_s), "hour"), asked_s=asked_s
    )


def ask(archive: Archive, **how: object) -> Asked:
    return replace(Asked("hour", NOW), **how)  # type: ignore[arg-type]


def hours(lacks: list[Lack]) -> Counter[tuple[str, int, str]]:
    return Counter(
        (one.meter_id, end, one.why)
        for one in lacks
        for end in range(one.start_s + H, one.end_s + 1, H)
    )


@pytest.mark.parametrize("seed", range(12))
def test_as_each_hour_by_itself(archive: Archive, seed: int) -> None:
    """Totals, gaps and days of random fleets: each hour that is over is named once, and rightly."""
    rnd = random.Random(seed)
    fleet: dict[str, tuple[str, int, int]] = {}
    for number in range(8):
        meter, zone = f"m{number}", rnd.choice(list(ZONES))
        phase = PHASES[zone]
        created_s = rnd.choice([0, START + rnd.randrange(40 * 24) * H + 17])
        left_s = rnd.choice([NOW, NOW, LAST - rnd.randrange(20 * 24) * H])
        see(archive, meter, zone=zone, created_s=created_s, last_s=left_s, kind=f"t{number % 3}")
        fleet[meter] = zone, created_s, left_s
        for _ in range(rnd.randrange(6)):
            first = START + phase + rnd.randrange(60 * 24) * H
            last = first + rnd.randrange(1, 20 * 24) * H
            key = SeriesKey(meter, "usage", "hour", str(phase))
            if rnd.random() < 0.2:
                archive.fail(key, (first, last), asked_s=NOW - H)
                continue
            ends = list(range(first + H, last + 1, H))
            land(
                archive, meter, first, last,
                without=tuple(rnd.sample(ends, min(len(ends), rnd.randrange(30)))),
                null=tuple(rnd.sample(ends, min(len(ends), rnd.randrange(30)))),
                asked_s=NOW - rnd.randrange(40) * D, grid=str(phase),
            )  # fmt: skip
    land(archive, "m0", START, START + D, grid=str(PHASES[fleet["m0"][0]]))
    with archive.transaction() as db:
        db.execute("INSERT INTO notes VALUES ('list meter', ?)", (str(NOW),))
    since = date(2023, 9, 20)
    expected: Counter[tuple[str, int, str]] = Counter()
    by_day: Counter[tuple[str, str]] = Counter()
    for meter, (zone, created_s, left_s) in fleet.items():
        phase, tz = PHASES[zone], ZONES[zone]
        midnight = int(datetime(2023, 9, 20, tzinfo=tz).timestamp())
        until = min(NOW, left_s)
        end = max(midnight, created_s - (created_s - phase) % H) + H
        while end <= until:
            assert end % H == phase
            found = archive.coverage(SeriesKey(meter, "usage", "hour", str(phase)), (end - H, end))
            word = name_state(found[0].state if found else None, end, NOW)
            expected[meter, end, word] += 1
            day = datetime.fromtimestamp(end - 1, tz).date().isoformat()
            by_day[day, word] += 1
            end += H
    with survey(archive, ask(archive, since=since), place) as found_:
        lacks = list(found_.lacks())
        total = found_.groups()[0]
        meters = found_.groups("meter")
        days = found_.days()
    lacking = {one: count for one, count in expected.items() if one[2] != "known"}
    assert hours(lacks) == lacking
    words = Counter(word for (_, _, word) in expected.elements())
    assert total.expected == sum(expected.values())
    assert numbers(total) == {word: words[word] for word in numbers(total)}
    for one in meters:
        mine = [(end, word) for (meter, end, word) in expected if meter == one.name]
        first = min((end - H for end, word in mine if word != "known"), default=None)
        if first is not None:
            assert one.whole_until_s == first
    for day in days:
        assert numbers(day) == {word: by_day[day.name or "", word] for word in numbers(day)}
    assert {day.name for day in days} >= {day for day, _ in by_day}
    pairs = pairwise(lacks)
    assert not [
        1 for a, b in pairs if (a.meter_id, a.end_s, a.why) == (b.meter_id, b.start_s, b.why)
    ]


def numbers(one: object) -> dict[str, int]:
    names = {"known": "known", "to come": "to_come", "late": "late", "missing": "missing"}
    names |= {"failed": "failed", "never asked": "never_asked"}
    return {word: getattr(one, name) for word, name in names.items()}


def test_words_and_ages(archive: Archive) -> None:
    """One meter by hand: an hour of each kind, and the hours after the last answer are to come."""
    see(archive, "m")
    start = LAST - 40 * D
    start -= start % D
    absent = (LAST - 35 * D, LAST - 10 * D)
    land(archive, "m", start, LAST - H, without=absent)
    archive.fail(SeriesKey("m", "usage", "hour", "0"), (LAST - H, LAST), asked_s=NOW)
    with survey(archive, ask(archive), place) as found:
        lacks = list(found.lacks())
    assert [(one.start_s, one.end_s, one.why, one.asked_s) for one in lacks] == [
        (absent[0] - H, absent[0], "missing", NOW),
        (absent[1] - H, absent[1], "late", NOW),
        (LAST - H, LAST, "failed", NOW),
    ]
    # Missing: by itself never again; late: when it is 16 days old; failed: at once.
    assert [one.next_s for one in lacks] == [None, absent[1] + 16 * D, NOW]


def test_late_is_allowed_up_to_an_age(archive: Archive) -> None:
    see(archive, "m")
    start = (LAST - 40 * D) // D * D
    land(archive, "m", start, LAST, without=(LAST - 3 * D, LAST - 8 * D))
    bad = []
    for days in (2, 3, 7, 8, 9):
        with survey(archive, ask(archive, allow_late_s=days * D), place) as found:
            bad.append((found.groups()[0].overdue, found.groups()[0].bad))
    # One that ended just three days before the last full hour is a little older than three days.
    assert bad == [(2, 2), (2, 2), (1, 1), (1, 1), (0, 0)]


def test_what_is_accepted_no_longer_fails(archive: Archive) -> None:
    """Until it is taken back, for the span that is named; what has come since is known."""
    see(archive, "m")
    start = (LAST - 50 * D) // D * D
    gone = [LAST - 40 * D - hour * H for hour in range(4)]
    land(archive, "m", start, LAST, without=tuple(gone))
    with survey(archive, ask(archive), place, writes=True) as found:
        assert found.groups()[0].bad == 4
        found.accept(found.lacks(why=("missing",)))
    with survey(archive, ask(archive), place) as found:
        total = found.groups()[0]
        assert (total.bad, total.missing, total.accepted, total.whole_until_s) == (0, 4, 4, LAST)
        assert list(found.lacks()) == []
        assert [one.buckets for one in found.lacks(accepted=True)] == [4]
    land(archive, "m", gone[2] - H, gone[2])  # the second of them, after all
    with survey(archive, ask(archive), place) as found:
        assert [one.buckets for one in found.lacks(accepted=True)] == [1, 2]
        assert found.groups()[0].known == found.groups()[0].expected - 3
    noon = datetime.fromtimestamp(gone[0], UTC)
    with survey(
        archive, ask(archive, since=noon.date() + timedelta(days=1)), place, writes=True
    ) as found:
        assert found.reopen() == 0
    with survey(archive, ask(archive), place, writes=True) as found:
        assert found.reopen() == 1
    with survey(archive, ask(archive), place) as found:
        assert found.groups()[0].bad == 3


def test_a_part_of_what_was_accepted_is_taken_back(archive: Archive) -> None:
    """From a day on: what ended by its midnight stays accepted."""
    see(archive, "m")
    midnight = LAST - 40 * D
    gone = tuple(midnight + hour * H for hour in (-1, 0, 1, 2))
    land(archive, "m", (LAST - 50 * D) // D * D, LAST, without=gone)
    with survey(archive, ask(archive), place, writes=True) as found:
        found.accept(found.lacks(why=("missing",)))
    day = datetime.fromtimestamp(midnight, UTC).date()
    with survey(archive, ask(archive, since=day), place, writes=True) as found:
        assert found.reopen() == 1
    with survey(archive, ask(archive), place) as found:
        (kept,), (open_,) = list(found.lacks(accepted=True)), list(found.lacks())
    assert (kept.start_s, kept.end_s) == (midnight - 2 * H, midnight)
    assert (open_.start_s, open_.end_s) == (midnight, midnight + 2 * H)


def test_accepted_late_hours_are_missing(archive: Archive) -> None:
    see(archive, "m")
    land(archive, "m", (LAST - 50 * D) // D * D, LAST, without=(LAST - 9 * D,))
    with survey(archive, ask(archive), place, writes=True) as found:
        found.accept(found.lacks(why=("late",)))
    with survey(archive, ask(archive), place) as found:
        total = found.groups()[0]
    assert (total.late, total.missing, total.accepted, total.bad) == (0, 1, 1, 0)


def test_forgetting_takes_what_was_accepted(archive: Archive) -> None:
    from copper_cli.archive.forget import _DROP_SERIES

    land(archive, "m", LAST - 50 * D, LAST, without=(LAST - 40 * D,))
    with survey(archive, ask(archive), place, writes=True) as found:
        found.accept(found.lacks(why=("missing",)))
    with archive.transaction() as db:
        assert db.execute("SELECT count(*) FROM accepted").fetchone() == (1,)
        db.execute("CREATE TEMP TABLE leaving AS SELECT id AS series FROM series")
        for statement in _DROP_SERIES:
            db.execute(statement)
        assert db.execute("SELECT count(*) FROM accepted").fetchone() == (0,)


def test_an_archive_of_before_has_nothing_accepted(archive: Archive) -> None:
    """Its file has no such table; the first that is accepted makes it."""
    land(archive, "m", LAST - 50 * D, LAST, without=(LAST - 40 * D,))
    with archive.transaction() as db:
        db.execute("DROP TABLE accepted")
    with survey(archive, ask(archive), place, writes=True) as found:
        assert found.reopen() == 0
        found.accept(found.lacks(why=("missing",)))
    with survey(archive, ask(archive), place) as found:
        assert found.groups()[0].accepted == 1


def test_the_fleet_is_what_lists_named(archive: Archive) -> None:
    """One without rows was never asked, one that left is looked at until then, a young one since."""
    begin = (LAST - 50 * D) // D * D
    for meter in ("asked", "never", "left", "young"):
        born = LAST - 5 * D if meter == "young" else 0
        see(archive, meter, created_s=born, last_s=LAST - 9 * D if meter == "left" else NOW)
    with archive.transaction() as db:
        db.execute("INSERT INTO notes VALUES ('list meter', ?)", (str(NOW),))
    land(archive, "asked", begin, LAST)
    land(archive, "left", begin, LAST - 9 * D)
    land(archive, "young", LAST - 5 * D, LAST)
    with survey(archive, ask(archive), place) as found:
        by_name = {one.name: one for one in found.groups("meter")}
        assert found.whole_until() == (LAST, 3)  # of one that left nothing is waited for
    whole = (LAST - begin) // H
    assert (by_name["never"].never_asked, by_name["never"].to_come) == (whole - 48 - 1 + 1, 48)
    assert (by_name["left"].expected, by_name["left"].bad) == (whole - 9 * 24, 0)
    assert by_name["left"].whole_until_s == LAST
    assert (by_name["young"].expected, by_name["young"].bad) == (5 * 24, 0)


def test_zones_begin_the_same_day(archive: Archive) -> None:
    """What was asked for from local midnights lacks nothing, though those lie hours apart."""
    for meter, zone in (("d", "America/Denver"), ("k", "Asia/Kolkata"), ("u", "")):
        see(archive, meter, zone=zone)
        begin = int(datetime(2023, 11, 1, tzinfo=ZONES[zone]).timestamp())
        end = LAST + PHASES[zone] - H
        land(archive, meter, begin, end, grid=str(PHASES[zone]))
    with survey(archive, ask(archive), place) as found:
        assert (found.groups()[0].bad, {one.why for one in found.lacks()}) == (0, {"to come"})


def test_of_two_grids_that_of_the_meters_zone_counts(archive: Archive) -> None:
    """Though another holds more: it may have been asked for once, in another zone."""
    see(archive, "k", zone="Asia/Kolkata")
    land(archive, "k", LAST - 50 * D, LAST - 20 * D)
    land(archive, "k", LAST - 19 * D + 1800, LAST - H + 1800, grid="1800")
    with survey(archive, ask(archive, since=date(2023, 11, 1)), place) as found:
        assert found.groups()[0].bad == 0


def test_nothing_held_and_nobody_known(archive: Archive) -> None:
    see(archive, "07:1")
    with survey(archive, ask(archive), place) as found:
        assert (found.is_held, found.granularities()) == (False, [])
    with (
        pytest.raises(UsageError, match=r"no meter 07:2 in this archive. Closest: 07:1\."),
        survey(archive, ask(archive, meter_ids=("07:2",)), place),
    ):
        pass


def test_without_any_zone_days_are_of_utc(archive: Archive) -> None:
    see(archive, "held")
    see(archive, "never")
    begin = (LAST - 50 * D) // D * D
    land(archive, "held", begin, LAST)
    with survey(archive, ask(archive), lambda zone: Place(UTC, None)) as found:
        never = found.groups("meter")[0]
    assert (never.name, never.expected, never.known) == ("never", (LAST - begin) // H, 0)


@pytest.mark.parametrize("granularity", ["day", "month", "bihour"])
def test_buckets_of_no_one_length(archive: Archive, granularity: str) -> None:
    """Local days over a clock change: as many as the calendar has, none of them lacking."""
    zone = ZONES["America/Denver"]
    see(archive, "m", zone="America/Denver")
    begin, end = (int(datetime(2023, month, 1, tzinfo=zone).timestamp()) for month in (2, 11))
    counted = {"day": 273, "month": 9, "bihour": 273 * 12}[granularity]  # 1 February to 31 October
    key = SeriesKey("m", "usage", granularity, "America/Denver")
    with archive.transaction() as db:
        db.execute("INSERT INTO series(id, subject, kind, granularity, grid) VALUES (1, ?, ?, ?, ?)",
                   (key.subject, key.kind, key.granularity, key.grid))  # fmt: skip
        db.execute("INSERT INTO coverage VALUES (1, ?, ?, 'known', 0, ?, 0)", (begin, end, counted))
    asked = replace(Asked(granularity, NOW), until=date(2023, 11, 1))
    with survey(archive, asked, place) as found:
        total = found.groups()[0]
    assert (total.bad, total.known) == (0, total.expected)
    assert abs(total.expected - counted) <= (1 if granularity == "bihour" else 0)


def test_nothing_of_it_stays_in_the_file(archive: Archive) -> None:
    """Its tables are those of the connection, and gone afterwards."""
    land(archive, "m", LAST - 50 * D, LAST)
    with archive.reading() as db:
        before = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    found: Survey
    with survey(archive, ask(archive), place) as found:
        found.groups()
    with archive.reading() as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == before
        assert db.execute("SELECT count(*) FROM sqlite_temp_master").fetchone() == (0,)
