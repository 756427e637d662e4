"""Lists as the cloud gave them: kept with the time they were seen, without what is forgotten.

What stands in a list is kept as rows of `seen`: one for each state that a premise, meter or gateway
had, from when to when it was seen so. Users' emails are never kept.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from copper_cli.archive.home import read_marker
from copper_cli.errors import UsageError
from copper_cli.text import clean

if TYPE_CHECKING:
    import sqlite3

    from copper_cli.archive import Archive
    from copper_cli.records import (
        BulkReading,
        Gateway,
        GatewayHistory,
        GridReading,
        Meter,
        Premise,
    )

One = TypeVar("One")
Subject = tuple[str, str]
"""What a thing is (`meter`, `premise`, `gateway`), and its id."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


class ListBook:
    """What the lists of one archive said, and which ids they must not name any more.

    May be told of several lists at once.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._key = read_key(archive)

    def take(self, kind: str, records: list[One], seen_s: float, *, is_whole: bool) -> list[One]:
        """Keep what a list said at an instant; its records without those that are forgotten.

        `kind` is the list's name in the API. What is held of a later instant stays, so an answer
        that comes from a cache is not taken to be seen anew. `is_whole`: nothing else is in the
        list. UsageError, before anything is kept, where a meter was added to the cloud at another
        time than is held: these are the meters of another fleet.
        """
        if kind in _BODIES or kind == "bulk":
            with self._archive.transaction() as db:
                records = self._keep_known(db, kind, records)
                self._write(db, kind, records, int(seen_s), is_whole=is_whole)
            return records
        with self._archive.reading() as db:
            forgotten = read_forgotten(db)
        return self._without(kind, records, forgotten)[0] if forgotten else records

    def _keep_known(self, db: sqlite3.Connection, kind: str, records: list[One]) -> list[One]:
        """Those that are not forgotten. What stands at a forgotten premise is from now on, too."""
        forgotten = read_forgotten(db)
        if not forgotten:
            return records
        kept, more = self._without(kind, records, forgotten)
        rows = [(entry,) for entry in more]
        db.executemany("INSERT OR IGNORE INTO forgotten VALUES (?, unixepoch())", rows)
        return kept

    def _without(
        self, kind: str, records: Sequence[One], forgotten: Collection[str]
    ) -> tuple[list[One], list[str]]:
        """The records that are left, and the entries of those that fell with their premise."""
        kept, more = [], []
        for record in records:
            own, *above = (hash_id(self._key, subject) for subject in _subjects(kind, record))
            if own in forgotten:
                continue
            premise = next((one for one in above if one in forgotten), None)
            if premise is None:
                kept.append(record)
            else:
                more.append(f"{premise} {own}")
        return kept, more

    def _write(
        self,
        db: sqlite3.Connection,
        kind: str,
        records: Sequence[Any],
        seen_s: int,
        *,
        is_whole: bool,
    ) -> None:
        if kind == "bulk":
            _write_snapshot(db, records, seen_s)
            return
        held = read_latest(db, kind)
        body_of = _BODIES[kind]
        same, new = [], []
        for record in records:
            own_id = _storable(_subjects(kind, record)[0][1])
            body = _to_text(body_of(record))
            last_s, before, first_s = held.get(own_id, (seen_s - 1, None, 0))
            if kind == "meter" and before is not None and before != body:
                self._check_created(own_id, before, body)
            if last_s >= seen_s:
                continue
            if before == body:
                same.append((seen_s, kind, own_id, first_s))
            else:
                new.append((kind, own_id, seen_s, seen_s, body))
        db.executemany("UPDATE seen SET last_s = ? WHERE list = ? AND id = ? AND first_s = ?", same)
        db.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", new)
        if is_whole:
            _note_whole(db, kind, seen_s)

    def _check_created(self, meter_id: str, before: str, now: str) -> None:
        """UsageError where two states of a meter cannot be of the same one."""
        held, told = (json.loads(body)["created_at"] for body in (before, now))
        if held is None or told is None or held == told:
            return
        where = clean(str(self._archive.path))
        name = clean(meter_id)
        raise UsageError(
            f"Meter {name} was added to the cloud at {held} as the archive {where} has it, and at "
            f"{told} as the cloud says now: that archive is another fleet's. Name this fleet's own "
            f"with --archive DIR. If the meter was added anew, `copper archive forget --meter-id "
            f"{name}` and then `copper archive remember --meter-id {name}` lets go of the old one."
        )


def read_premises(archive: Archive) -> tuple[float | None, list[Premise]]:
    """When the whole list of premises was last seen, and each as it was seen last.

    None: never. Of their users nothing is kept.
    """
    from copper_cli.records import Premise

    with archive.reading() as db:
        found = read_latest(db, "premise")
    seen_s = archive.note("list premise")
    premises = []
    for own_id, (_, body, _) in found.items():
        assert body is not None
        fields = json.loads(body)
        fields["tags"] = tuple(fields["tags"])
        premises.append(Premise(id=own_id, created_utc=None, emails=None, **fields))
    return None if seen_s is None else float(seen_s), premises


def read_locations(archive: Archive) -> dict[str, tuple[float, str | None]]:
    """By meter, of those that were asked for: when its zone was last seen, and that zone."""
    with archive.reading() as db:
        found = read_latest(db, "location")
    return {
        meter_id: (last_s, json.loads(body)["timezone"])
        for meter_id, (last_s, body, _) in found.items()
        if body is not None
    }


def read_key(archive: Archive) -> bytes:
    """With which this archive's forgotten ids are hashed. Raises LocalError."""
    marker = read_marker(archive.path)
    return bytes.fromhex(marker.key) if marker else b""


def hash_id(key: bytes, subject: Subject) -> str:
    """What stays of a forgotten id: it tells nobody the id who does not know it."""
    text = "\n".join(subject).encode("utf-8", "surrogatepass")
    return hmac.digest(key, text, "sha256").hex()


def read_forgotten(db: sqlite3.Connection) -> set[str]:
    """The hashes of all ids that no list may bring back.

    One that was forgotten with its premise is kept as both hashes; the last is its own.
    """
    return {entry.rpartition(" ")[2] for (entry,) in db.execute("SELECT hash FROM forgotten")}


def tell_forgotten(archive: Archive, key: bytes) -> Callable[[str], bool]:
    """Gives what says whether a meter or gateway is forgotten, so that nothing of it is kept.

    A run that was under way when it was forgotten may still be answered.
    """

    def is_forgotten(subject: str) -> bool:
        with archive.reading() as db:
            forgotten = read_forgotten(db)
        return bool(forgotten) and any(
            hash_id(key, (what, subject)) in forgotten for what in ("meter", "gateway")
        )

    return is_forgotten


def read_latest(db: sqlite3.Connection, kind: str) -> dict[str, tuple[int, str | None, int]]:
    """By id: when it was last seen in a list, how, and since when it was so."""
    question = "SELECT id, last_s, body, max(first_s) FROM seen WHERE list = ? GROUP BY id"
    found = db.execute(question, (kind,))
    return {one: (last_s, body, first_s) for one, last_s, body, first_s in found}


def _note_whole(db: sqlite3.Connection, kind: str, seen_s: int) -> None:
    """Until when the list is known: what was seen last before that is gone from it."""
    db.execute(
        "INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value "
        "WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)",
        (f"list {kind}", str(seen_s)),
    )


def _to_text(body: dict[str, Any]) -> str:
    """As JSON that SQLite can hold."""
    text = _encode(body)
    return text if text.isascii() or _is_writable(text) else _encode_ascii(body)


def _storable(text: str) -> str:
    """An id as SQLite can hold it: halves of surrogate pairs are written out."""
    if text.isascii() or _is_writable(text):
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_snapshot(db: sqlite3.Connection, records: Sequence[BulkReading], seen_s: int) -> None:
    """The readings that were not seen before; most meters send a few a day."""
    rows = []
    for record in records:
        time_s = record.time_utc.timestamp() if record.time_utc else None
        if time_s is not None and time_s.is_integer():
            time_s = int(time_s)
        about = _storable(record.meter_id), _storable(record.meter_type)
        rows.append((seen_s, *about, record.value, time_s))
    db.executemany(
        "INSERT INTO snapshots (seen_s, meter_id, meter_type, value, time_s) "
        "SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?5 IS NOT NULL OR NOT EXISTS (SELECT 1 FROM snapshots "
        "WHERE meter_id = ?2 AND time_s IS NULL AND value IS ?4) "
        "ON CONFLICT (meter_id, time_s) DO UPDATE SET value = excluded.value, "
        "seen_s = excluded.seen_s WHERE value IS NOT excluded.value AND seen_s < excluded.seen_s",
        rows,
    )


# What of each list is kept, and whom it names


def _meter(meter: Meter) -> dict[str, Any]:
    """Without its newest reading, which is another each time."""
    return {
        "type": meter.type,
        "state": meter.state,
        "premise_id": meter.premise_id,
        "created_at": _instant(meter.created_utc),
        "uom": meter.uom,
    }


def _premise(premise: Premise) -> dict[str, Any]:
    """Without its users."""
    return {
        "created_at": premise.created_at,
        "name": premise.name,
        "street_address": premise.street_address,
        "suite_apartment_unit": premise.suite_apartment_unit,
        "city_town": premise.city_town,
        "postal_code": premise.postal_code,
        "county_district": premise.county_district,
        "state_region": premise.state_region,
        "tags": premise.tags,
        "timezone": premise.timezone,
    }


def _gateway(gateway: Gateway) -> dict[str, Any]:
    """Without when it was heard, which is another each time."""
    return {
        "premise_id": gateway.premise_id,
        "state": gateway.state,
        "model": gateway.model,
        "firmware_version": gateway.firmware_version,
    }


def _location(found: tuple[str, str | None]) -> dict[str, Any]:
    return {"timezone": found[1]}


_BODIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "meter": _meter,
    "premise": _premise,
    "gateway": _gateway,
    "location": _location,
}


def _instant(time_utc: datetime | None) -> str | None:
    if time_utc is None:
        return None
    return time_utc.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _of_meter(record: Meter) -> Iterator[Subject]:
    yield "meter", record.id
    if record.premise_id:
        yield "premise", record.premise_id


def _of_gateway(record: Gateway) -> Iterator[Subject]:
    yield "gateway", record.id
    if record.premise_id:
        yield "premise", record.premise_id


def _of_grid(record: GridReading) -> Iterator[Subject]:
    yield "gateway", record.gateway_id
    if record.premise_id:
        yield "premise", record.premise_id


def _of_premise(record: Premise) -> Iterator[Subject]:
    yield "premise", record.id


def _of_history(record: GatewayHistory) -> Iterator[Subject]:
    yield "gateway", record.id


def _of_bulk(record: BulkReading) -> Iterator[Subject]:
    yield "meter", record.meter_id


def _of_location(record: tuple[str, str | None]) -> Iterator[Subject]:
    yield "meter", record[0]


def _of_gateway_id(record: str) -> Iterator[Subject]:
    yield "gateway", record


_SUBJECTS: Mapping[str, Callable[[Any], Iterator[Subject]]] = {
    "meter": _of_meter,
    "premise": _of_premise,
    "gateway": _of_gateway,
    "gateway/history": _of_history,
    "grid/latest": _of_grid,
    "grid/readings": _of_gateway_id,
    "bulk": _of_bulk,
    "location": _of_location,
}


def _subjects(kind: str, record: Any) -> list[Subject]:
    """Whom a record is about, and at whose premise that stands."""
    return list(_SUBJECTS[kind](record))
