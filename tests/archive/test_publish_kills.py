"""Killed at any step, on a full disk, at a power cut: no row is lost, and none is there twice."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from month_rows import (
    T0,
    H,
    assert_in_order,
    hours,
    land,
    make_series,
    open_archive,
    plain,
    rows_of,
)

from copper_cli.archive import SeriesKey, check, partitions
from copper_cli.errors import LocalError

SWEEP = Path(__file__).with_name("publish_sweep.py")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The sweep itself; then the steps of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("sweep")
    done = subprocess.run(
        [sys.executable, SWEEP, folder], capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-1000:]
    kills, names = json.loads(done.stdout)
    assert kills == len(names) > 80
    return names


def test_killed_at_every_step(steps):
    told = " ".join(steps)
    for word in (
        "os.mkdir",
        "COPY",
        "write",
        "COPY done",
        "fsync",
        "COMMIT",
        "os.rename",
        "DELETE FROM answers",
    ):
        assert word in told


def test_a_power_cut(steps):
    """What is on the disk never depends on what may not be.

    A file is there before its name, its name before the landing lets its rows go, a new folder in
    the one above before anything in it counts; and every commit is a full one.
    """
    renames = [at for at, name in enumerate(steps) if name.startswith("os.rename")]
    assert len(renames) == 4
    for at in renames:
        _, temporary, target, *_ = steps[at].split()
        folder = target.rpartition("/")[0]
        written = steps.index(f"COPY done {temporary}")
        synced = steps.index(f"fsync {temporary}")
        assert written < synced < at
        announced = max(place for place in range(at) if steps[place].startswith("COMMIT"))
        assert synced < announced
        named = steps.index(f"fsync {folder}", at)
        committed = next(
            place for place in range(at, len(steps)) if steps[place].startswith("COMMIT")
        )
        let_go = [
            place
            for place in range(at, committed)
            if steps[place].startswith("DELETE FROM answers")
        ]
        assert at < named < committed
        assert all(named < place for place in let_go)
        # Nothing is let go outside of such a transaction.
    deletes = [at for at, name in enumerate(steps) if name.startswith("DELETE FROM answers")]
    for at in deletes:
        begun = max(place for place in range(at) if steps[place].startswith("BEGIN"))
        assert any(begun < place < at for place in renames)
    for at, name in enumerate(steps):
        made = re.fullmatch(r"os\.mkdir (DIR/\S+) 448 -1", name)
        if made:
            assert steps[at + 1] == f"fsync {made[1].rpartition('/')[0]}"
    assert {name for name in steps if name.startswith("COMMIT")} == {"COMMIT 2"}  # FULL


def fill(folder):
    archive = open_archive(folder)
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(30)]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 1400)), T0, T0 + 1400 * H)
    partitions.publish(archive)
    for key in keys:
        land(archive, key, make_series(rng, hours(1000, 1450)), T0 + 1000 * H, T0 + 1450 * H)
    return archive, keys


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a disk of its own")
def test_a_disk_that_fills_up(tmp_path):
    """With less and less room: told in a line, months whole, and the same goes on with room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted")
    try:
        archive, keys = fill(disk / "archive")
        before = {key: rows_of(archive, key) for key in keys}
        told = 0
        filler = disk / "filler"
        for room in (0, 64, 192, 320, 448, 640, 4096):
            free = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(max(0, free - room * 1024)))
            try:
                partitions.publish(archive)
            except LocalError as error:
                told += 1
                assert "full" in str(error)
            filler.unlink()
            assert {key: rows_of(archive, key) for key in keys} == before
            rows = plain(archive)
            assert len(rows) == len(set(rows)) >= 30 * 1400
        assert told >= 1
        partitions.publish(archive)
        assert archive.unpublished() == 0
        assert {key: rows_of(archive, key) for key in keys} == before
        assert check.check(archive, repair=False) == []
        assert_in_order(archive)
        archive.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_ctrl_c(tmp_path):
    """Interrupted while DuckDB writes: as if it had never begun."""
    import signal
    import threading
    import time

    archive, keys = fill(tmp_path / "archive")
    before = {key: rows_of(archive, key) for key in keys}
    for delay_s in (0.0, 0.01, 0.03, 0.1):
        timer = threading.Timer(delay_s, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()
            partitions.publish(archive)
            timer.join()
            time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        assert {key: rows_of(archive, key) for key in keys} == before
    partitions.publish(archive)
    assert archive.unpublished() == 0
    assert {key: rows_of(archive, key) for key in keys} == before
    assert check.check(archive, repair=False) == []
    archive.close()
