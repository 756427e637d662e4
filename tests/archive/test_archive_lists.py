"""Lists in the archive: what was seen when, and what no list may name any more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from copper_cli.archive import Archive
from copper_cli.archive.home import Owner, open_archive
from copper_cli.archive.lists import ListBook, hash_id, read_key
from copper_cli.errors import UsageError
from copper_cli.records import (
    BulkReading,
    Gateway,
    GatewayHistory,
    GridReading,
    LastReading,
    Meter,
    Premise,
)

NOON = datetime(2021, 5, 3, 12, tzinfo=UTC)
OWNER = Owner("https://h", "e")


def meter(meter_id: str = "07:1", **fields: Any) -> Meter:
    return replace(
        Meter(
            id=meter_id,
            type="power",
            state="connected",
            premise_id="p1",
            created_utc=datetime(2019, 6, 15, 14, 11, 33, tzinfo=UTC),
            uom="kwh",
            last_reading=None,
            history=(),
        ),
        **fields,
    )


def premise(premise_id: str = "p1", **fields: Any) -> Premise:
    return replace(
        Premise(
            id=premise_id,
            created_at="2019-06-15T14:11:33.000Z",
            created_utc=None,
            name=None,
            street_address="1 Main St",
            suite_apartment_unit=None,
            city_town="Denver",
            postal_code="80014",
            county_district=None,
            state_region="CO",
            tags=("a", "b"),
            timezone="America/Denver",
            emails=None,
        ),
        **fields,
    )


def gateway(gateway_id: str = "g1", **fields: Any) -> Gateway:
    found = Gateway(gateway_id, "p1", "active", "m", "2021-05-03T11:59:00Z", "1.2", {"secret": "x"})
    return replace(found, **fields)


def bulk(meter_id: str, value: float | None, at_utc: datetime | None = NOON) -> BulkReading:
    return BulkReading(meter_id, "power", value, at_utc)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(OWNER, tmp_path / "archive") as opened:
        yield opened


@pytest.fixture
def book(archive: Archive) -> ListBook:
    return ListBook(archive)


def seen(archive: Archive, kind: str) -> list[tuple[str, int, int, dict[str, Any]]]:
    with archive.reading() as db:
        rows = db.execute(
            "SELECT id, first_s, last_s, body FROM seen WHERE list = ? ORDER BY id, first_s",
            (kind,),
        ).fetchall()
    return [(*row[:3], json.loads(row[3])) for row in rows]


def snapshots(archive: Archive) -> list[tuple[Any, ...]]:
    with archive.reading() as db:
        return db.execute("SELECT * FROM snapshots ORDER BY rowid").fetchall()


def forget(archive: Archive, *subjects: tuple[str, str]) -> None:
    key = read_key(archive)
    with archive.transaction() as db:
        rows = [(hash_id(key, one), 0) for one in subjects]
        db.executemany("INSERT INTO forgotten VALUES (?, ?)", rows)


def test_a_state_lasts_from_when_to_when_it_was_seen(archive: Archive, book: ListBook) -> None:
    """The same again moves its end; another begins where it was seen first, and may come back."""
    for at_s, state in ((100, "a"), (200, "a"), (300, "b"), (400, "a"), (500, "a")):
        book.take("meter", [meter(state=state)], at_s, is_whole=True)
    assert [(row[1], row[2], row[3]["state"]) for row in seen(archive, "meter")] == [
        (100, 200, "a"),
        (300, 300, "b"),
        (400, 500, "a"),
    ]


def test_all_that_may_change_of_a_meter_has_a_history(archive: Archive, book: ListBook) -> None:
    """Premise, type and state with the meter, the zone with its premise or by itself."""
    one = meter()
    for at_s, change in enumerate(({}, {"premise_id": "p2"}, {"type": "gas"}, {"state": None}), 1):
        one = replace(one, **change)
        book.take("meter", [one], at_s, is_whole=True)
    assert len(seen(archive, "meter")) == 4
    for at_s, zone in enumerate(("America/Denver", "America/Denver", "America/Phoenix"), 1):
        book.take("premise", [premise(timezone=zone)], at_s, is_whole=True)
        book.take("location", [("07:1", zone)], at_s, is_whole=False)
    for kind in ("premise", "location"):
        assert [(row[1], row[2], row[3]["timezone"]) for row in seen(archive, kind)] == [
            (1, 2, "America/Denver"),
            (3, 3, "America/Phoenix"),
        ]


def test_what_changes_each_time_makes_no_history(archive: Archive, book: ListBook) -> None:
    """A newest reading, when a gateway was heard, and what else the cloud sends of it."""
    for at_s in (1, 2):
        reading = LastReading(float(at_s), NOON)
        book.take("meter", [meter(last_reading=reading)], at_s, is_whole=True)
        heard = gateway(last_heard=str(at_s), fields={"rssi": at_s})
        book.take("gateway", [heard], at_s, is_whole=True)
    assert len(seen(archive, "meter")) == len(seen(archive, "gateway")) == 1


def test_emails_are_never_kept(archive: Archive, book: ListBook) -> None:
    """Neither of a premise's users nor in what else is sent."""
    book.take("premise", [premise(emails=("me@example.com", None))], 1, is_whole=True)
    book.take("premise", [premise(emails=None)], 2, is_whole=True)
    book.take("gateway", [gateway(fields={"user": "me@example.com"})], 2, is_whole=True)
    (row,) = seen(archive, "premise")
    assert row[1:3] == (1, 2)
    archive.close()
    for file in archive.path.iterdir():
        assert b"example.com" not in file.read_bytes()


def test_an_older_answer_changes_nothing(archive: Archive, book: ListBook) -> None:
    """One from the cache, of before what is held: neither its states nor that it was seen."""
    book.take("meter", [meter(state="now")], 1000, is_whole=True)
    before = seen(archive, "meter")
    book.take("meter", [meter(state="then")], 900, is_whole=True)
    book.take("meter", [meter(state="now")], 1000, is_whole=True)
    book.take("meter", [meter(state="other")], 1000, is_whole=True)
    assert seen(archive, "meter") == before
    assert archive.note("list meter") == "1000"


def test_who_is_gone_from_a_list_can_be_told(archive: Archive, book: ListBook) -> None:
    """By when the whole list was seen last; a part of it says nothing of the others."""
    book.take("meter", [meter("07:1"), meter("07:2")], 100, is_whole=True)
    book.take("meter", [meter("07:1")], 200, is_whole=False)
    assert archive.note("list meter") == "100"
    book.take("meter", [meter("07:1")], 300, is_whole=True)
    assert archive.note("list meter") == "300"
    assert {row[0]: row[2] for row in seen(archive, "meter")} == {"07:1": 300, "07:2": 100}


def test_newest_readings_are_kept_where_they_are_new(archive: Archive, book: ListBook) -> None:
    """With when they were seen; the same reading again is no news, a corrected one is."""
    later = datetime(2021, 5, 4, 12, 0, 0, 500_000, tzinfo=UTC)
    book.take("bulk", [bulk("07:1", 0), bulk("07:2", 2.5)], 100, is_whole=True)
    book.take("bulk", [bulk("07:1", 0), bulk("07:2", 2.6)], 200, is_whole=True)
    book.take("bulk", [bulk("07:1", 0, later), bulk("07:3", None, None)], 300, is_whole=True)
    book.take("bulk", [bulk("07:1", 7, NOON)], 90, is_whole=True)
    book.take("bulk", [bulk("07:3", None, None)], 400, is_whole=True)
    noon_s = int(NOON.timestamp())
    assert snapshots(archive) == [
        (100, "07:1", "power", 0, noon_s),
        (200, "07:2", "power", 2.6, noon_s),
        (300, "07:1", "power", 0, later.timestamp()),
        (300, "07:3", "power", None, None),
    ]
    assert isinstance(snapshots(archive)[0][3], int)


def test_another_fleets_meter_stops_the_run(archive: Archive, book: ListBook) -> None:
    """Both dates are told and what to do; nothing of that list is kept."""
    book.take("meter", [meter("07:1"), meter("07:2")], 100, is_whole=True)
    before = seen(archive, "meter")
    other = meter("07:2", created_utc=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC))
    with pytest.raises(UsageError) as found:
        book.take("meter", [meter("07:1", state="x"), other], 200, is_whole=True)
    text = str(found.value)
    for part in (
        "Meter 07:2",
        "2019-06-15T14:11:33Z",
        "2020-01-02T03:04:05Z",
        str(archive.path),
        "--archive",
        "copper archive forget --meter-id 07:2",
    ):
        assert part in text
    assert seen(archive, "meter") == before
    # An answer from the cache is of that fleet too.
    with pytest.raises(UsageError):
        book.take("meter", [other], 50, is_whole=True)


@pytest.mark.parametrize("first", [None, datetime(2019, 6, 15, tzinfo=UTC)])
def test_a_date_that_is_not_told_contradicts_none(book: ListBook, first: datetime | None) -> None:
    second = None if first else datetime(2019, 6, 15, tzinfo=UTC)
    book.take("meter", [meter(created_utc=first)], 1, is_whole=True)
    book.take("meter", [meter(created_utc=second)], 2, is_whole=True)


def test_what_is_forgotten_is_in_no_list(archive: Archive, book: ListBook) -> None:
    """Nor is it kept again."""
    forget(archive, ("meter", "07:1"), ("premise", "p9"), ("gateway", "g1"))
    lists: list[tuple[str, list[Any], int]] = [
        ("meter", [meter("07:1"), meter("07:2"), meter("07:3", premise_id="p9")], 1),
        ("premise", [premise("p1"), premise("p9")], 1),
        ("gateway", [gateway("g1"), gateway("g2"), gateway("g3", premise_id="p9")], 1),
        ("gateway/history", [GatewayHistory("g1", ()), GatewayHistory("g2", ())], 1),
        ("bulk", [bulk("07:1", 1), bulk("07:2", 1)], 1),
        ("location", [("07:1", "UTC")], 0),
        ("grid/readings", ["g1", "g2"], 1),
        (
            "grid/latest",
            [
                GridReading("g1", "p1", NOON, None, None),
                GridReading("g2", "p9", NOON, None, None),
                GridReading("g4", None, NOON, None, None),
            ],
            1,
        ),
    ]
    for kind, records, left in lists:
        assert len(book.take(kind, records, 100, is_whole=True)) == left, kind
    for kind in ("meter", "premise", "gateway", "location"):
        assert not {"07:1", "07:3", "p9", "g1", "g3"} & {row[0] for row in seen(archive, kind)}
    assert [row[1] for row in snapshots(archive)] == ["07:2"]


def test_what_comes_to_a_forgotten_home_is_forgotten_too(archive: Archive, book: ListBook) -> None:
    """Once a list has told that it stands there, in lists that do not say so as well."""
    forget(archive, ("premise", "p9"))
    assert len(book.take("bulk", [bulk("07:3", 1)], 100, is_whole=True)) == 1
    book.take("meter", [meter("07:3", premise_id="p9")], 200, is_whole=True)
    assert book.take("bulk", [bulk("07:3", 2)], 300, is_whole=True) == []


def test_hashes_tell_nobody_the_id(archive: Archive, tmp_path: Path) -> None:
    """They are keyed, by each archive with a key of its own."""
    with open_archive(OWNER, tmp_path / "other") as other:
        keys = [read_key(one) for one in (archive, other)]
    assert len({hash_id(key, ("meter", "07:1")) for key in keys}) == 2
    assert hash_id(keys[0], ("meter", "1")) != hash_id(keys[0], ("premise", "1"))


def test_what_no_utf_8_can_hold_is_kept_all_the_same(archive: Archive, book: ListBook) -> None:
    """Halves of surrogate pairs, in ids and in texts; what else is not ASCII stays as it is."""
    broken = "07:\ud800"
    odd = premise("p\udfff", street_address="Stra\ud800e", city_town="Zürich")
    for at_s in (1, 2):
        book.take("meter", [meter(broken, state="\udc00")], at_s, is_whole=True)
        book.take("premise", [odd], at_s, is_whole=True)
        book.take("bulk", [bulk(broken, 1.0)], at_s, is_whole=True)
    (row,) = seen(archive, "premise")
    assert (row[1:3], row[3]["city_town"]) == ((1, 2), "Zürich")
    assert len(seen(archive, "meter")) == len(snapshots(archive)) == 1


def test_ten_thousand_meters_cost_little(archive: Archive, book: ListBook) -> None:
    """Far less than to read the list: they are written in one transaction, changed bodies only."""
    meters = [meter(f"07:{number}") for number in range(10_000)]
    book.take("meter", meters, 100, is_whole=True)
    meters[7] = replace(meters[7], state="down")
    started = time.perf_counter()
    book.take("meter", meters, 200, is_whole=True)
    assert time.perf_counter() - started < 2
    assert len(seen(archive, "meter")) == 10_001
