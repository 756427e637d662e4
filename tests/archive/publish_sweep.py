"""Kill a run that publishes at every step it takes, and look at what it left.

Run as a program with an empty folder; prints how many kills the archive survived, and the steps of
a run that came to its end, as JSON. A step is whatever the interpreter's audit hooks tell of (open,
make, rename, remove), each fsync, each statement of SQLite that begins or ends a transaction or
writes, and each of DuckDB, before and after; within one that writes a file the kill comes after
some of it is there. All is done in children, since DuckDB's threads do not survive a fork.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path

import duckdb
from month_rows import (
    T0,
    H,
    hours,
    instants_of,
    land,
    make_instants,
    make_series,
    open_archive,
    plain,
    rows_of,
)

from copper_cli.archive import SeriesKey, arrays, check, partitions  # noqa: F401
from copper_cli.archive.schema import Database

KEYS = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(3)]
READINGS = SeriesKey("07:1", "readings")
ASKED = T0 + 400 * 24 * H


def prepare(folder):
    """January is published; what waits goes into January, February and two months of readings."""
    archive = open_archive(folder)
    rng = random.Random(1)
    for key in KEYS[:2]:
        land(archive, key, make_series(rng, hours(0, 700)), T0, T0 + 700 * H)
    partitions.publish(archive)
    for key in KEYS:
        land(archive, key, make_series(rng, hours(600, 800)), T0 + 600 * H, T0 + 800 * H)
    land(archive, KEYS[0], make_series(rng, hours(650, 660)), T0 + 650 * H, T0 + 660 * H)
    span = T0 + 700 * H, T0 + 800 * H
    archive.land_readings(READINGS, span, make_instants(rng, *span, 50), asked_s=ASKED)
    archive.close()


def view(folder):
    """What this program reads, and what any other does, by month."""
    archive = open_archive(folder)
    own = [rows_of(archive, key) for key in KEYS], instants_of(archive, READINGS)
    others = {}
    for kind in ("usage", "readings"):
        for file in sorted((folder / kind).glob("**/*.parquet")):
            with duckdb.connect() as db:
                rows = db.execute(f"SELECT * FROM read_parquet('{file}') ORDER BY ALL").fetchall()
            others[str(file.relative_to(folder))] = repr(rows)
        rows = plain(archive, kind) if any((folder / kind).glob("**/*.parquet")) else []
        others[kind] = len(rows)
        if kind == "usage" and len(rows) != len(set(rows)):
            raise SystemExit("rows are there twice")
    archive.close()
    return json.loads(json.dumps([own, others]))


def run(folder):
    archive = open_archive(folder)
    partitions.publish(archive)
    archive.close()


class Steps:
    """Counts the steps, and ends the process before one of them."""

    def __init__(self, folder, last):
        self.folder, self.left, self.names = folder, last, []

    def take(self, name):
        self.names.append(name.replace(str(self.folder), "DIR"))
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(self):
        def hook(event, arguments):
            about = " ".join(str(one) for one in arguments)
            if event == "open" and "month=" in about:
                self.take(f"open {arguments[0]}")
            elif event in ("os.rename", "os.remove", "os.mkdir") and str(self.folder) in about:
                self.take(f"{event} {about}")

        sys.addaudithook(hook)
        real_sync, real_open, real_connect = os.fsync, Database._open, partitions.connect

        def sync(handle):
            self.take(f"fsync {Path(f'/proc/self/fd/{handle}').readlink()}")
            real_sync(handle)

        def opened(database):
            found = real_open(database)
            level = found.execute("PRAGMA synchronous").fetchone()[0]
            found.set_trace_callback(lambda text: self.note_sql(text, level))
            return found

        steps = self

        class Duck:
            def __init__(self, duck):
                self.duck = duck

            def __getattr__(self, name):
                return getattr(self.duck, name)

            def execute(self, text, *arguments):
                words = " ".join(text.split()[:1])
                path = text.split(" TO '")[-1].split("'")[0] if words == "COPY" else ""
                steps.take(f"{words} {path}")
                if words == "COPY":
                    steps.watch(path)
                found = self.duck.execute(text, *arguments)
                steps.take(f"{words} done {path}")
                return found

        os.fsync, Database._open = sync, opened
        partitions.connect = lambda folder=None: Duck(real_connect(folder))

    def note_sql(self, text, level):
        word = text.split()[0]
        if word in ("BEGIN", "COMMIT", "INSERT", "DELETE", "UPDATE"):
            self.take(f"{' '.join(text.split()[:4])} {level if word == 'COMMIT' else ''}".strip())

    def watch(self, path):
        """A step within: as soon as some of the file is there."""
        self.left -= 1
        self.names.append(f"write {path}".replace(str(self.folder), "DIR"))
        if self.left >= 0:
            return

        def wait():
            file = Path(path)
            while not (file.exists() and file.stat().st_size > 0):
                time.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, daemon=True).start()


def in_child(work):
    """What it gives back, from a process of its own; None where that was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        code = 3
        try:
            with os.fdopen(write_end, "w") as pipe:
                json.dump(work(), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"a child ended with {code}")
    return json.loads(said) if code == 0 else None


def run_until(folder, last_step):
    def work():
        steps = Steps(folder, last_step)
        steps.listen()
        run(folder)
        return steps.names

    return in_child(work)


def finish(folder):
    """The next run, and what a check says then."""
    run(folder)
    archive = open_archive(folder)
    left = archive.unpublished(), [str(one) for one in check.check(archive, repair=False)]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    archive.close()
    return [left, files]


def main(base):
    template, whole = base / "template", base / "whole"
    in_child(lambda: prepare(template))
    before = in_child(lambda: view(template))
    shutil.copytree(template, whole)
    steps = run_until(whole, 10**6)
    after = in_child(lambda: view(whole))
    ended = in_child(lambda: finish(whole))
    if after[0] != before[0] or ended[0] != [0, []]:
        raise SystemExit(f"publishing changes what is read: {ended[0]}")
    names = {name for name in after[1] if "month=" in name}

    def sweep(first):
        for at in range(first, len(steps) + 1, WORKERS):
            folder = base / f"kill-{at}"
            shutil.copytree(template, folder)
            done = run_until(folder, at)
            if (done is not None) != (at == len(steps)):
                raise SystemExit(f"kill {at}: other steps than before")
            found = in_child(partial(view, folder))
            if found[0] != before[0]:
                raise SystemExit(f"kill {at}: other rows than before")
            for name in {name for name in found[1] if "month=" in name}:
                if found[1][name] not in (before[1].get(name), after[1].get(name)):
                    raise SystemExit(f"kill {at}: {name} is neither the old nor the new one")
            again = in_child(partial(finish, folder))
            if again != ended:
                raise SystemExit(f"kill {at}: {again} after the next run, {ended} without a kill")
            found = in_child(partial(view, folder))
            if found != after or names != {name for name in found[1] if "month=" in name}:
                raise SystemExit(f"kill {at}: other months after the next run")
            shutil.rmtree(folder)

    together([lambda first=first: sweep(first) for first in range(WORKERS)])
    print(json.dumps([len(steps), steps]))  # noqa: T201


WORKERS = 4
"""Most of the time the disk is waited for."""


def together(works):
    """Each in a process of its own; SystemExit where one of them ends otherwise than well."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise SystemExit(f"the sweeps ended with {codes}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
