"""A disk that is full, a folder that takes no writing: one line, no half file, and it goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from copper_cli.config import Limit
from copper_cli.errors import CredentialsError, LocalError
from copper_cli.files import whole as files
from copper_cli.folders.manifest import Folder
from copper_cli.jobs.interval import download_series
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Output

from .runs import (
    NOW,
    PLENTY,
    PROGRAM,
    Clock,
    Machine,
    asked,
    meter_ids,
    program_environment,
    read_folder,
    temporaries,
)

SHARES = [0, 0.001, 0.02, 0.14, 0.3, 0.6, 0.9, 0.97, 0.98, 0.99]


class Disk:
    """So many bytes are left on it; None: enough. Counts what is written through it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.written = 0
        self.lock = threading.Lock()
        disk = self
        really_write = files._write_all

        def write_all(stream: BinaryIO, data: bytes) -> None:
            room = disk.take(len(data))
            really_write(stream, data[:room])
            if room < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files, "_write_all", write_all)

    def take(self, wanted: int) -> int:
        """How many bytes of them there is room for."""
        with self.lock:
            room = wanted if self.left is None else min(wanted, self.left)
            self.left = None if self.left is None else self.left - room
            self.written += room
            return room


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(premises=3, quota=None, now=NOW)) as found:
        yield found


@pytest.fixture
def user(cloud: Sandbox, machine: Callable[[Sandbox], Machine]) -> Machine:
    """A machine with a token, so that from now on only the folder is written through `files`."""
    found = machine(cloud)
    found.connect().client.fetch_premises()
    return found


def check_truth(out: Path, whole: dict[str, Any]) -> None:
    """Every file there is whole and ours, and every file the manifest tells of is there."""
    if not out.exists():
        return
    folder = Folder.look(out)
    for path in out.glob("*.csv"):
        assert path.read_bytes() == whole[path.name]
        assert folder.check(path.name, PLENTY.question()) == "complete"
    for name in folder.names():
        entry = folder.state_of(name)
        assert entry is not None
        assert (entry.sha256 is not None) == (out / name).exists()
    assert list(temporaries(out)) == []


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("share", SHARES)
def test_a_disk_that_fills_up(
    user: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, jobs: int
) -> None:
    """Full after that share of what the run writes: it ends with one line (exit 7), whatever
    file or manifest met the end; what stands is whole, and once there is room the same
    command completes it without asking again for what is there."""
    disk = Disk(monkeypatch)
    user.download(tmp_path / "whole", PLENTY, apart=True)
    whole = read_folder(tmp_path / "whole")
    out = tmp_path / "out"
    disk.left = int(disk.written * share)
    with pytest.raises(LocalError, match="the disk is full") as failure:
        user.download(out, PLENTY, jobs=jobs)
    assert failure.value.exit_code == 7
    assert "\n" not in str(failure.value)
    check_truth(out, whole)
    there = len(list(out.glob("*.csv")))
    disk.left = None
    table = user.download(out, PLENTY, jobs=jobs)
    assert table.facts["complete"]
    assert table.facts["kept"] == there
    assert read_folder(out) == whole
    assert list(temporaries(out)) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6, 9, 12])
def test_a_disk_that_tells_only_when_synced(
    user: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, number: int
) -> None:
    """From the nth time on that content is to be on the disk, it is not: the same holds."""
    user.download(tmp_path / "whole", PLENTY, apart=True)
    whole = read_folder(tmp_path / "whole")
    out = tmp_path / "out"
    really_sync = os.fsync
    times = 0

    def sync(handle: int) -> None:
        nonlocal times
        times += 1
        if times >= nth:
            raise OSError(number, os.strerror(number))
        really_sync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(LocalError) as failure:
        user.download(out, PLENTY)
    assert "\n" not in str(failure.value)
    check_truth(out, whole)
    monkeypatch.setattr(os, "fsync", really_sync)
    assert user.download(out, PLENTY).facts["complete"]
    assert read_folder(out) == whole
    assert list(temporaries(out)) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_takes_no_writing(
    cloud: Sandbox,
    user: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    exists: bool,
) -> None:
    """One line that names the folder (exit 7), no call but the lists, and what it holds stays."""
    out = tmp_path / "read only" / "out"
    out.parent.mkdir()
    before: dict[str, Any] = {}
    if exists:
        user.download(out, replace(PLENTY, meter_ids=(meter_ids(cloud)[0],)))
        before = read_folder(out)

    def refuse(really: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Any, flags: int = os.O_CREAT, *rest: Any, **more: Any) -> Any:
            if str(out.parent) in str(path) and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                raise OSError(number, os.strerror(number), str(path))
            return really(path, flags, *rest, **more)

        return refused

    since = len(cloud.log)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse(os.open))
        patched.setattr(os, "mkdir", refuse(os.mkdir))
        with pytest.raises(LocalError, match="out") as failure:
            user.download(out, PLENTY)
    assert failure.value.exit_code == 7
    assert "\n" not in str(failure.value)
    assert set(asked(cloud, since)) <= {"meter", "premise"}
    assert exists == out.exists()
    if exists:
        assert read_folder(out) == before
    table = user.download(out, PLENTY)
    assert table.facts["complete"]
    assert table.facts["kept"] == int(exists)


class Hurried(Clock):
    """A clock as slow as the real one, on which nobody should wait long."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.05))
        self.slept_s += 0.05
        if self.slept_s > 40:
            raise AssertionError("somebody still waits")


def test_a_full_disk_waits_for_no_quota(
    user: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while other calls wait an hour for the quota: the run ends now, and has
    let its folder go only when no thread of it is left."""
    disk = Disk(monkeypatch)
    slow = replace(user, clock=Hurried(), cache_dir=tmp_path / "other cache")
    slow.connect().client.fetch_premises()
    disk.left = 14_000  # the first file has room, the second has not
    context = slow.connect(4, quota=(Limit(5, 3600),))
    begun = time.monotonic()
    with pytest.raises(LocalError, match="the disk is full") as failure:
        download_series(context, replace(PLENTY, baseline=False), Output(tmp_path / "out"))
    assert time.monotonic() - begun < 30
    assert failure.value.__traceback__  # whoever keeps the error keeps no thread
    assert not [t for t in threading.enumerate() if t.name.startswith("copper")]


def test_a_run_without_permission_waits_for_no_quota(
    cloud: Sandbox, user: Machine, tmp_path: Path
) -> None:
    """Three meters refused (403) while others wait an hour for the quota: the run ends now."""
    slow = replace(user, clock=Hurried(), cache_dir=tmp_path / "other cache")
    cloud.faults.add(Fault(path="/usage", status=403, times=None))
    with pytest.raises(CredentialsError):
        slow.download(tmp_path / "out", PLENTY, jobs=4, quota=(Limit(5, 3600),))
    assert slow.clock.slept_s < 40


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit is of Unix")
def test_a_file_larger_than_the_system_allows(cloud: Sandbox, tmp_path: Path) -> None:
    """The real thing: the kernel refuses the rest of a file. Exit 7, one line, no file; without
    that limit the same command completes."""
    command = [PROGRAM, "meter", "usage", "2021-01-10", "2021-01-14"]
    command += ["--granularity", "minute", "--output-dir", str(tmp_path / "out")]
    environment = program_environment(cloud, tmp_path)

    def run(*start: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*start, *command], env=environment, capture_output=True, text=True, timeout=60
        )

    limited = run("sh", "-c", 'ulimit -f 400; exec "$0" "$@"')
    assert limited.returncode == 7
    assert "cannot be written: " in limited.stderr.splitlines()[-1]
    assert "Traceback" not in limited.stderr
    out = tmp_path / "out"
    assert not out.exists() or list(out.iterdir()) == [] or list(out.glob("*.csv")) == []
    assert run().returncode == 0
    assert len(list((tmp_path / "out").glob("*.csv"))) == len(meter_ids(cloud))
