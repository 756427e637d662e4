"""Killed at any step, on a full disk, with others at the same time: no answer by halves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from archive_models import KEY, READINGS, T0, FakeMonths, land, new_archive, read_rows, span_of
from archive_victim import LATE, STEPS, dump, row, rows

from copper_cli.archive import Archive, Instants, SeriesKey, Stamp, schema
from copper_cli.errors import LocalError

VICTIM = Path(__file__).with_name("archive_victim.py")


def victim(folder: Path, *about: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(VICTIM), str(folder), *map(str, about)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states_on_the_way(folder: Path) -> list[str]:
    """What an archive holds before the first step and after each."""
    with closing(new_archive(folder)) as archive:
        found = [dump(archive)]
        for step in STEPS:
            step(archive)
            found.append(dump(archive))
    return found


def check_whole(folder: Path, states: list[str]) -> None:
    """What is there is what some step left; what was said to be done is; the rest can follow."""
    done = int((folder / "done").read_text()) if (folder / "done").exists() else 0
    with closing(new_archive(folder)) as archive:
        found = dump(archive)
        assert found in states[done : done + 2]
        with archive.reading() as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for step in STEPS[done:]:
            step(archive)
        rows_of = [row for _, row in read_rows(archive, KEY, span_of(0, 30))]
        assert rows_of[:10] == [
            *(row(place, 2.5) for place in range(5)),
            *(row(place) for place in range(5, 10)),
        ]
        assert archive.note("n") == "1"
    with closing(new_archive(folder)) as archive:
        # A stamp only saves time: it may be gone with the run that did not come to its end.
        assert done == len(STEPS) or archive.stamp_get("/a") == Stamp(1, 2, 3, "ab")


def test_killed_before_every_statement(tmp_path: Path) -> None:
    """From the making of the file to its last answer."""
    states = states_on_the_way(tmp_path / "states")
    whole = victim(tmp_path / "whole", "run", 0)
    count = int(whole.communicate()[0])
    assert count > 100
    # All of them take a minute.
    picked = range(1, count + 1, 1 if os.environ.get("COPPER_ALL_KILLS") else 5)
    for start in range(0, len(picked), 4):
        batch = [(at, victim(tmp_path / str(at), "run", at)) for at in picked[start : start + 4]]
        for at, process in batch:
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            check_whole(tmp_path / str(at), states)
            shutil.rmtree(tmp_path / str(at))


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Also within a write."""
    states = states_on_the_way(tmp_path / "states")
    for number in range(12):
        folder = tmp_path / str(number)
        process = victim(folder, "run", 0)
        deadline = time.monotonic() + 20
        while not (folder / "archive").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random.random() * 0.1)
        process.kill()
        process.communicate()
        check_whole(folder, states)


@pytest.mark.parametrize("wal", [True, False])
def test_many_that_make_it_at_once(tmp_path: Path, wal: bool) -> None:
    failures: list[BaseException] = []
    for number in range(12):
        start = threading.Barrier(6)

        def make(folder: Path = tmp_path / str(number), start: threading.Barrier = start) -> None:
            start.wait()
            try:
                with closing(new_archive(folder, wal=wal)) as archive:
                    archive.set_note("n", "1")
                    assert archive.note("n") == "1"
            except BaseException as failure:  # told by the test
                failures.append(failure)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_processes_that_land_at_once(tmp_path: Path) -> None:
    """None waits in vain, every row of each is there, and of those that all of them land the
    changes tell one line of values."""
    count = 4
    processes = [victim(tmp_path, "race", number) for number in range(count)]
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * count, told
    changed: Counter[int] = Counter()
    for out, _ in told:
        for line in out.splitlines():
            place, times = map(int, line.split())
            changed[place] += times
    with closing(new_archive(tmp_path)) as archive:
        for number in range(count):
            key = SeriesKey(f"09:{number}", "usage", "hour", "0")
            found = [one for _, one in read_rows(archive, key, span_of(0, 30))]
            assert found == [row(place, 1.0 + number) for place in range(1, 31)]
        for place in range(30):
            changes = archive.changes(KEY, span_of(place, place + 1))
            assert len(changes) == changed[place] >= count - 1
            ((_, last),) = [
                one
                for one in read_rows(archive, KEY, span_of(place, place + 1))
                if one[0] == span_of(place, place + 1)[1]
            ]
            assert changes[-1].new == last
            for before, after in pairwise(changes):
                assert before.new == after.old


# Disks


@contextmanager
def room(archive: Archive, pages: int) -> Any:
    """The file may grow by so many pages."""
    with archive.outside() as db:
        now = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={now + pages}")
    yield
    with archive.outside() as db:
        db.execute("PRAGMA max_page_count=1073741823")


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
def test_a_full_disk(tmp_path: Path, pages: int) -> None:
    """One line with the disk's name for it, exit 7; what was there stays, and it goes on."""
    big = rows(0, 3000)
    with closing(new_archive(tmp_path)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
        before = dump(archive)
        with room(archive, pages), pytest.raises(LocalError, match="disk is full") as failure:
            land(archive, 0, 3000, big, 1.0)
        assert failure.value.exit_code == 7
        assert "\n" not in str(failure.value)
        assert str(tmp_path) in str(failure.value)
        assert dump(archive) == before
        land(archive, 0, 3000, big, 1.0)
        assert len(read_rows(archive, KEY, span_of(1, 3000))) == 3000


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of Unix")
@pytest.mark.parametrize("size", [40_000, 200_000, 400_000])
def test_a_file_that_may_not_grow(tmp_path: Path, size: int) -> None:
    """The real thing, told by the system in the middle of a write: all that was said to be
    landed is there."""
    process = victim(tmp_path, "full", size)
    out, told = process.communicate()
    assert process.returncode == 7, told
    assert told.count("\n") == 1
    assert "cannot be written" in told
    with closing(new_archive(tmp_path)) as archive:
        landed = [place for place, _ in read_rows(archive, KEY, span_of(0, 4000))]
        done = out.split()
        assert len(landed) in (200 * len(done) + bool(done), 200 * len(done) + 201)
        land(archive, 0, 4000, rows(0, 4000), 1.0)
        assert len(read_rows(archive, KEY, span_of(0, 4000))) == 4001


def test_a_disk_without_room_is_told_so_whatever_sqlite_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE  # type: ignore[misc]
    with closing(new_archive(tmp_path)) as archive:

        def fail() -> None:
            with archive.transaction():
                raise error

        with pytest.raises(LocalError, match="cannot be written: the disk does not take it"):
            fail()
        monkeypatch.setattr(schema, "_LEAST_ROOM_BYTES", 1 << 62)
        with pytest.raises(LocalError, match="cannot be written: the disk is full"):
            fail()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="nothing is forbidden to the superuser"
)
def test_a_file_that_takes_no_writing(tmp_path: Path) -> None:
    with closing(new_archive(tmp_path)):
        pass
    (tmp_path / "archive" / schema.FILE_NAME).chmod(0o400)
    with pytest.raises(LocalError, match="no permission"):
        new_archive(tmp_path)


def test_it_is_for_nobody_elses_eyes(tmp_path: Path) -> None:
    with closing(new_archive(tmp_path)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
        folder = tmp_path / "archive"
        assert folder.stat().st_mode & 0o777 == 0o700
        found = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(found) == {"landing.sqlite", "landing.sqlite-wal", "landing.sqlite-shm"}
    assert set(found.values()) == {0o600}


def test_a_file_held_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_S", 0.2)
    with closing(new_archive(tmp_path)) as archive, closing(new_archive(tmp_path)) as other:
        with other.transaction():
            assert archive.coverage(KEY, span_of(0, 1)) == []  # who reads need not wait
            with pytest.raises(LocalError, match="locked by another program") as failure:
                land(archive, 0, 1, rows(1, 1))
        assert failure.value.exit_code == 7
        land(archive, 0, 1, rows(1, 1))


def test_who_waits_has_its_turn(tmp_path: Path) -> None:
    with closing(new_archive(tmp_path)) as archive, closing(new_archive(tmp_path)) as other:
        with other.transaction():
            thread = threading.Thread(target=land, args=[archive, 0, 1, rows(1, 1)])
            thread.start()
            thread.join(0.7)
            assert thread.is_alive()
        thread.join(20)
        assert other.unpublished() == 1


def test_an_archive_without_wal(tmp_path: Path) -> None:
    """Network file systems have none."""
    with closing(new_archive(tmp_path, wal=False)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
        assert {path.name for path in (tmp_path / "archive").iterdir()} == {"landing.sqlite"}
    with closing(new_archive(tmp_path)) as archive:
        assert len(read_rows(archive, KEY, span_of(0, 6))) == 7


# Versions


def set_version(tmp_path: Path, version: int) -> Path:
    path = tmp_path / "archive" / schema.FILE_NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version={version}")
        db.execute("PRAGMA journal_mode=DELETE")
    return path


def test_one_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with closing(new_archive(tmp_path)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
    path = set_version(tmp_path, schema.FORMAT + 1)
    before = path.read_bytes()
    with pytest.raises(LocalError, match="written by a newer version") as failure:
        new_archive(tmp_path)
    assert failure.value.exit_code == 7
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [schema.FILE_NAME]


def test_one_of_an_older_version_is_carried_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From version to version, in one go; where that fails it is as it was."""
    with closing(new_archive(tmp_path)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
    steps: list[int] = []

    def migrate(version: int, fails: bool = False) -> Callable[[sqlite3.Connection], None]:
        def step(db: sqlite3.Connection) -> None:
            db.execute(f"CREATE TABLE more_{version} (x)")
            steps.append(version)
            if fails:
                raise sqlite3.OperationalError("no")

        return step

    now = schema.FORMAT
    monkeypatch.setattr(schema, "FORMAT", now + 2)
    monkeypatch.setitem(schema.MIGRATIONS, now, migrate(now))
    monkeypatch.setitem(schema.MIGRATIONS, now + 1, migrate(now + 1, fails=True))
    with pytest.raises(LocalError):
        new_archive(tmp_path)
    monkeypatch.setitem(schema.MIGRATIONS, now + 1, migrate(now + 1))
    steps.clear()
    for _ in range(2):
        with closing(new_archive(tmp_path)) as archive:
            assert len(read_rows(archive, KEY, span_of(0, 6))) == 7
            with archive.reading() as db:
                assert db.execute("PRAGMA user_version").fetchone() == (now + 2,)
                assert db.execute(f"SELECT * FROM more_{now + 1}").fetchall() == []
    assert steps == [now, now + 1]


# Rot


def rot(archive: Archive, series: int, place: int) -> None:
    """A bit of the body of a series' last answer falls over."""
    with archive.transaction() as db:
        number, body = db.execute(
            "SELECT id, body FROM answers WHERE series = ? ORDER BY id DESC LIMIT 1", (series,)
        ).fetchone()
        rotten = bytearray(body)
        rotten[place] ^= 4
        db.execute("UPDATE answers SET body = ? WHERE id = ?", (bytes(rotten), number))


@pytest.mark.parametrize("place", [0, 5, 40, -20, -1])
def test_a_rotten_answer_is_noticed(tmp_path: Path, place: int) -> None:
    """Whoever needs it is told what to do; other series are not touched by it."""
    other = SeriesKey("07:2", "usage", "hour", "0")
    with closing(new_archive(tmp_path)) as archive:
        land(archive, 0, 6, rows(0, 6), 9.0)
        land(archive, 0, 6, rows(0, 6), 9.0, key=other)
        found = Instants([T0 * 10**6], [1], [0.5])
        archive.land_readings(READINGS, (T0, T0 + 60), found, asked_s=LATE)
        rot(archive, 1, place)
        for work in (
            lambda: read_rows(archive, KEY, span_of(0, 6)),
            lambda: land(archive, 0, 6, rows(0, 6, 3.0), 9.0),
            lambda: archive.retract(KEY, span_of(0, 3)),
        ):
            with pytest.raises(LocalError, match="copper archive check") as failure:
                work()
            assert str(tmp_path / "archive") in str(failure.value)
            assert "\n" not in str(failure.value)
        assert len(read_rows(archive, other, span_of(0, 6))) == 7
        land(archive, 0, 6, rows(0, 6, 3.0), 9.0, key=other)
        assert len(list(archive.instants(READINGS, T0, T0 + 60))) == 1
        land(archive, 6, 9, rows(6, 9), 4.5)  # another answer of the same series
        assert len(read_rows(archive, KEY, span_of(7, 9))) == 3
        assert archive.lacking(KEY, span_of(0, 9), now_s=LATE) == []


@pytest.mark.parametrize("damage", ["garbage", "cut", "holes"])
def test_a_damaged_file_is_told_of(tmp_path: Path, damage: str) -> None:
    with closing(new_archive(tmp_path)) as archive:
        for place in range(0, 4000, 100):
            land(archive, place, place + 100, rows(place, place + 100), 1.0)
    path = tmp_path / "archive" / schema.FILE_NAME
    data = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 1000)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        page = schema._PAGE_BYTES
        path.write_bytes(data[: 2 * page] + bytes(len(data) - 2 * page))

    def use() -> None:
        with closing(new_archive(tmp_path)) as archive:
            read_rows(archive, KEY, span_of(0, 4000))
            land(archive, 0, 4000, rows(0, 4000, 3.0), 1.0)

    with pytest.raises(LocalError, match="copper archive check") as failure:
        use()
    assert failure.value.exit_code == 7
    assert "\n" not in str(failure.value)


def test_a_closed_archive_says_so(tmp_path: Path) -> None:
    archive = new_archive(tmp_path)
    archive.close()
    archive.close()
    with pytest.raises(LocalError, match="is closed"):
        archive.coverage(KEY, span_of(0, 1))


def test_months_and_kills_do_not_meet(tmp_path: Path) -> None:
    """What is published is not published twice: its answers are gone, their numbers too."""
    with closing(new_archive(tmp_path)) as archive:
        months = FakeMonths(archive)
        land(archive, 0, 6, rows(0, 6), 9.0)
        months.publish()
        land(archive, 0, 6, rows(0, 6, 3.0), 18.0)
        with archive.reading() as db:
            assert db.execute("SELECT id FROM answers").fetchall() == [(2,)]
