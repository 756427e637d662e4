"""Land answers in an archive, and be killed at a step. Run as a program.

`archive_victim.py FOLDER run STEP` works through the scenario and kills itself before the STEPth
statement that SQLite carries out (counted from 1; 0: never) and prints how many there were.
`archive_victim.py FOLDER race NUMBER` lands in a race with others and prints what it saw.
`archive_victim.py FOLDER full BYTES` has no file grow beyond that, and tells how far it came.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from archive_models import KEY, READINGS, T0, Row, land, new_archive, series_of, span_of

from copper_cli.archive import Archive, Instants, SeriesKey, Stamp
from copper_cli.errors import LocalError

LATE = T0 + 10**7
US = 10**6


def row(place: int, energy: Any = 1.5) -> Row:
    return energy, 2.0, 100.0 + place, 1000 + place


def rows(first: int, last: int, energy: Any = 1.5) -> dict[int, Row]:
    return {place: row(place, energy) for place in range(first, last + 1)}


def join_pending(archive: Archive) -> None:
    waiting = archive.pending(KEY)
    if waiting:
        with archive.together():
            land(archive, 20, 22, rows(20, 22), 3.0)
            archive.drop_pending(KEY, span_of(20, 22))


def many_readings(archive: Archive) -> None:
    times = [(T0 + n) * US for n in range(30)]
    found = Instants(times, list(range(30)), [0.5] * 30)
    archive.land_readings(READINGS, (T0, T0 + 60), found, asked_s=LATE)


STEPS = [
    lambda archive: land(archive, 0, 6, rows(0, 6), 9.0),
    lambda archive: land(archive, 6, 9, {**rows(6, 8), 9: row(9, None)}, None),
    lambda archive: land(archive, 8, 9, rows(9, 9), 1.5),
    lambda archive: land(archive, 0, 6, {**rows(0, 4, 2.5), 5: row(5, None)}, 12.5),
    lambda archive: archive.fail(KEY, span_of(9, 12), asked_s=LATE),
    lambda archive: archive.land_pending(KEY, span_of(20, 22), series_of({}), asked_s=LATE),
    join_pending,
    many_readings,
    lambda archive: archive.note_sum(KEY, span_of(0, 9), 15.5, asked_s=LATE),
    lambda archive: archive.retract(KEY, span_of(20, 22)),
    lambda archive: archive.set_note("n", "1"),
    lambda archive: archive.stamp_put("/a", Stamp(1, 2, 3, "ab")),
]


def dump(archive: Archive) -> str:
    """All that an archive holds."""
    tables = ("series", "answers", "edges", "coverage", "sums", "changes", "moves", "notes")
    with archive.reading() as db:
        return repr([db.execute(f"SELECT * FROM {table}").fetchall() for table in tables])


class Killer:
    """Counts what SQLite carries out, and dies at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def __call__(self, statement: str) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def tell(*about: object) -> None:
    sys.stdout.write(" ".join(map(str, about)) + "\n")
    sys.stdout.flush()


def run(folder: Path, at: int) -> None:
    import sqlite3

    killer, really_connect = Killer(at), sqlite3.connect

    def connect(*about: Any, **more: Any) -> sqlite3.Connection:
        db = really_connect(*about, **more)
        db.set_trace_callback(killer)
        return db

    sqlite3.connect = connect
    with closing(new_archive(folder)) as archive:
        done = folder / "done"
        for step in STEPS[int(done.read_text()) if done.exists() else 0 :]:
            step(archive)
            (folder / "new").write_text(str(STEPS.index(step) + 1))
            (folder / "new").replace(done)
    tell(killer.count)


def race(folder: Path, number: int) -> None:
    """Rows of its own, and rows that all of them land: each sees what it landed."""
    with closing(new_archive(folder)) as archive:
        own = SeriesKey(f"09:{number}", "usage", "hour", "0")
        for place in range(30):
            land(archive, place, place + 1, rows(place + 1, place + 1, 1.0 + number), key=own)
            changed, _ = land(archive, place, place + 1, rows(place + 1, place + 1, 1.0 + number))
            tell(place, changed)


def full(folder: Path, size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    archive = new_archive(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with closing(archive):
        for place in range(0, 4000, 200):
            try:
                land(archive, place, place + 200, rows(place, place + 200), 1.0)
            except LocalError as error:
                sys.stderr.write(f"{error}\n")
                sys.exit(error.exit_code)
            tell(place)


if __name__ == "__main__":
    {"run": run, "race": race, "full": full}[sys.argv[2]](Path(sys.argv[1]), int(sys.argv[3]))
