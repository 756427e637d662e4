"""A home that left: gone from every file, and no list brings it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_archive_lists import OWNER, bulk, gateway, meter, premise

from copper_cli.archive import Archive, Instants, SeriesKey, partitions
from copper_cli.archive import forget as forgetting
from copper_cli.archive.forget import find_leaving, forget, remember
from copper_cli.archive.home import open_archive, open_existing
from copper_cli.archive.lists import ListBook
from copper_cli.buckets import Grid
from copper_cli.errors import LocalError, UsageError
from copper_cli.records import Series

HOUR = 3600
START = 1_609_459_200  # 2021-01-01
LONG = 24 * 45
"""Hours of two months."""
GONE, STAYS, MOVED = "07:5727730011", "07:6636363622", "12:1111111133"
HOME, OTHER = "6c4cb3a4-9d2a-4f10-a2d1-0a8d9e5a3f61", "0f0e0d0c-1111-4222-8333-444455556666"
GATEWAY = "84cca8322ae4"


def key(subject: str, kind: str = "usage") -> SeriesKey:
    return SeriesKey(subject, kind, "hour", "0")


def land(archive: Archive, subject: str, hours: int = LONG, kind: str = "usage") -> None:
    times = [START + HOUR * at for at in range(hours + 1)]
    energy = [0.5 + at % 7 for at in range(hours + 1)]
    total = sum(energy[1:])
    series = Series(times, energy, energy, [None] * len(times), [None] * len(times), total, "power")
    span = times[0], times[-1]
    archive.land(key(subject, kind), span, series, buckets=Grid(span, "hour"), asked_s=times[-1])


def fill(archive: Archive) -> None:
    """Two homes: one that leaves, one that stays; a meter has moved from the first to the second."""
    book = ListBook(archive)
    book.take(
        "premise", [premise(HOME, street_address="1 Gone St"), premise(OTHER)], 1, is_whole=True
    )
    moved = meter(MOVED, premise_id=HOME)
    book.take("meter", [moved], 1, is_whole=False)
    meters = [meter(GONE, premise_id=HOME), meter(STAYS, premise_id=OTHER)]
    book.take("meter", [*meters, meter(MOVED, premise_id=OTHER)], 2, is_whole=True)
    book.take("gateway", [gateway(GATEWAY, premise_id=HOME)], 2, is_whole=True)
    book.take("bulk", [bulk(GONE, 1), bulk(STAYS, 2)], 2, is_whole=True)
    book.take("location", [(GONE, "America/Denver")], 2, is_whole=False)
    for subject in (GONE, STAYS, MOVED):
        land(archive, subject)
        archive.land_readings(
            SeriesKey(subject, "readings"),
            (START, START + HOUR),
            Instants([START * 10**6], [7], [0.07]),
            asked_s=START + HOUR,
        )
    archive.land_grid(
        SeriesKey(GATEWAY, "grid"),
        (START, START + HOUR),
        Instants([START * 10**6], [241.5], [60.0]),
        asked_s=START + HOUR,
    )
    archive.fail(key(GONE, "baseline-series"), (START, START + HOUR), START)


def rows_of(archive: Archive, subject: str) -> int:
    found = archive.rows(key(subject), START, START + HOUR * LONG)
    return sum(len(piece.times_s) for piece in found)


def bytes_of(path: Path) -> Iterator[tuple[Path, bytes]]:
    for file in path.rglob("*"):
        if file.is_file():
            yield file, file.read_bytes()


def published_ids(path: Path) -> set[str]:
    """By DuckDB, as any program reads it."""
    import duckdb

    found: set[str] = set()
    for file in path.rglob("*.parquet"):
        column = "gateway_id" if file.stem == "grid" else "meter_id"
        found |= {
            one
            for (one,) in duckdb.sql(
                f"SELECT DISTINCT {column} FROM read_parquet('{file}')"
            ).fetchall()
        }
    return found


def check_gone(path: Path, *ids: str) -> None:
    """No file holds one of the ids: byte by byte, and by what an engine reads."""
    for file, data in bytes_of(path):
        for one in ids:
            assert one.encode() not in data, (file, one)
    assert not published_ids(path) & set(ids)


@contextmanager
def filled(path: Path, *, published: bool) -> Iterator[Archive]:
    with open_archive(OWNER, path) as archive:
        fill(archive)
        if published:
            partitions.publish(archive)
        yield archive


@pytest.mark.parametrize("published", [True, False])
def test_a_meter_is_gone_from_every_file(tmp_path: Path, published: bool) -> None:
    """From months and from answers that wait; everything else is as it was."""
    path = tmp_path / "a"
    with filled(path, published=published) as archive:
        others = rows_of(archive, STAYS), rows_of(archive, MOVED)
        assert any(GONE.encode() in data for _, data in bytes_of(path))
        done = forget(archive, find_leaving(archive, [GONE], []))
        assert done.rows == LONG + 1  # and a reading; the row at the start is none of the span
        assert done.months == (3 if published else 0)
        assert (rows_of(archive, STAYS), rows_of(archive, MOVED)) == others
        assert rows_of(archive, GONE) == 0
        check_gone(path, GONE)
        with archive.reading() as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check_gone(path, GONE)
    with open_existing(path) as opened:
        assert rows_of(opened.archive, STAYS) == others[0]
    if published:
        assert published_ids(path) == {STAYS, MOVED, GATEWAY}


def test_a_premise_goes_with_what_stands_there(tmp_path: Path) -> None:
    """Meters, gateway and address; a meter that stands elsewhere now stays, but not where it was."""
    path = tmp_path / "a"
    with filled(path, published=True) as archive:
        leaving = find_leaving(archive, [], [HOME])
        assert (leaving.meters, leaving.premises) == ((GONE,), (HOME,))
        assert (leaving.gateways, leaving.elsewhere) == ((GATEWAY,), (MOVED,))
        forget(archive, leaving)
        check_gone(path, GONE, HOME, GATEWAY, "1 Gone St")
        assert rows_of(archive, MOVED) == LONG + 1


def test_no_list_brings_it_back(tmp_path: Path) -> None:
    """Nor an answer of a run that was under way; after `remember` they do."""
    with filled(tmp_path / "a", published=True) as archive:
        forget(archive, find_leaving(archive, [], [HOME]))
        book = ListBook(archive)
        meters = [meter(GONE, premise_id=HOME), meter(STAYS)]
        assert [one.id for one in book.take("meter", meters, 3, is_whole=True)] == [STAYS]
        assert len(book.take("bulk", [bulk(GONE, 3)], 3, is_whole=True)) == 0
        land(archive, GONE)
        check_gone(tmp_path / "a", GONE, HOME)
        # The gateway and the meter went with the premise, and come back with it.
        assert remember(archive, [], [HOME]) == 3
        assert remember(archive, [], [HOME]) == 0
        assert book.take("meter", meters, 4, is_whole=True) == meters
        land(archive, GONE)
        assert rows_of(archive, GONE) == LONG + 1


def test_a_meter_that_went_with_its_home_can_be_remembered_alone(tmp_path: Path) -> None:
    with filled(tmp_path / "a", published=False) as archive:
        forget(archive, find_leaving(archive, [], [HOME]))
        assert remember(archive, [GONE], []) == 1
        here = meter(GONE, premise_id=OTHER)
        assert ListBook(archive).take("meter", [here], 3, is_whole=True) == [here]


def test_what_a_killed_publish_left_is_searched_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with filled(path, published=True) as archive:
        folder = next(path.rglob("*.parquet")).parent
        (folder / ".usage-0123.tmp").write_text(f"… {GONE} …")
        (path / "set-by.tmp").write_text(GONE)
        forget(archive, find_leaving(archive, [GONE], []))
        assert not list(path.rglob("*.tmp"))


def test_a_file_that_still_holds_it_is_told(tmp_path: Path) -> None:
    """Whatever put it there: that it is gone is not claimed."""
    with filled(tmp_path / "a", published=False) as archive:
        (tmp_path / "a" / "notes.txt").write_text("x" * 3_000_000 + GONE)
        with pytest.raises(LocalError, match="notes.txt still holds"):
            forget(archive, find_leaving(archive, [GONE], []))


def test_an_id_is_found_across_the_pieces_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_CHUNK_BYTES", 7)
    (tmp_path / "f").write_bytes(b"0123456789" + GONE.encode() + b"0123")
    assert forgetting._holds(tmp_path / "f", GONE.encode())
    assert forgetting._holds(tmp_path / "f", b"9")
    assert not forgetting._holds(tmp_path / "f", b"07:57277300114")


def test_an_id_within_another_is_no_leftover(tmp_path: Path) -> None:
    """`07:57277300` is in `07:5727730011`, which stays."""
    with filled(tmp_path / "a", published=True) as archive:
        short = GONE[:-2]
        ListBook(archive).take("meter", [meter(short)], 3, is_whole=False)
        land(archive, short)
        forget(archive, find_leaving(archive, [short], []))
        assert rows_of(archive, short) == 0
        assert rows_of(archive, GONE) == LONG + 1


@pytest.mark.parametrize(("kind", "ids"), [("meter", [[GONE[:-1]], []]), ("premise", [[], ["x"]])])
def test_an_unknown_id_is_refused(tmp_path: Path, kind: str, ids: list[list[str]]) -> None:
    """With the closest; nothing is done."""
    with (
        filled(tmp_path / "a", published=False) as archive,
        pytest.raises(UsageError, match=f"no {kind} ") as found,
    ):
        find_leaving(archive, *ids)
    if kind == "meter":
        assert f"Closest: {GONE}" in str(found.value)


def test_the_same_again_finds_nothing_and_is_no_mistake(tmp_path: Path) -> None:
    """A run that was killed in the end goes on; the id is known by its hash."""
    with filled(tmp_path / "a", published=True) as archive:
        assert forget(archive, find_leaving(archive, [GONE], [])).rows
        assert forget(archive, find_leaving(archive, [GONE], [])).rows == 0


class KilledError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(
    "step",
    ["rewrite_without", "_remove_leftovers", "_drop_rows", "_drop_lists", "_clean_file", "_search"],
)
def test_killed_at_any_step_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a"

    def kill(*words: Any, **more: Any) -> None:
        raise KilledError

    module: Any = partitions if step == "rewrite_without" else forgetting
    with filled(path, published=True) as archive:
        others = rows_of(archive, STAYS)
        with monkeypatch.context() as patch:
            patch.setattr(module, step, kill)
            with pytest.raises(KilledError):
                forget(archive, find_leaving(archive, [], [HOME]))
    with open_archive(OWNER, path) as archive:
        # Before it is all gone no list brings it back already.
        assert ListBook(archive).take("meter", [meter(GONE)], 3, is_whole=False) == []
        forget(archive, find_leaving(archive, [], [HOME]))
        check_gone(path, GONE, HOME, GATEWAY)
        assert rows_of(archive, STAYS) == others


def test_folders_that_name_it_are_told(tmp_path: Path) -> None:
    """By their manifest or a file's name; they are not touched."""
    folders = [tmp_path / name for name in ("one", "two", "three", "gone")]
    for folder in folders[:3]:
        folder.mkdir()
    (folders[0] / "07_5727730011.usage.csv").write_text("x")
    (folders[1] / "manifest.json").write_text(json.dumps({"entries": [{"id": GONE}]}))
    (folders[2] / "manifest.json").write_text(json.dumps({"entries": [{"id": STAYS}]}))
    with filled(tmp_path / "a", published=False) as archive:
        with archive.transaction() as db:
            for folder in folders:
                name = folder / "07_5727730011.usage.csv"
                db.execute("INSERT INTO stamps VALUES (?, 1, 1, 1, 'x')", (str(name),))
        leaving = find_leaving(archive, [GONE], [])
        assert leaving.folders == (folders[0], folders[1])
        forget(archive, leaving)
        with archive.reading() as db:
            assert db.execute("SELECT count(*) FROM stamps").fetchone() == (0,)
    assert (folders[0] / "07_5727730011.usage.csv").read_text() == "x"


def test_a_reader_in_the_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another reads, old pages stay in the log: so it is not claimed that they are gone."""
    monkeypatch.setattr(forgetting, "_BUSY_S", 0.2)
    with (
        filled(tmp_path / "a", published=False) as archive,
        open_archive(OWNER, tmp_path / "a") as other,
    ):
        leaving = find_leaving(archive, [GONE], [])
        with other.reading() as db:
            db.execute("SELECT count(*) FROM seen").fetchone()
            with pytest.raises(LocalError, match="reads in"):
                forget(archive, leaving)
        forget(archive, leaving)
    check_gone(tmp_path / "a", GONE)
