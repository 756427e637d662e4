"""Runs at the same time: one folder has one writer, one client id has one quota."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from copper_cli.sandbox import Fault, Sandbox, SandboxConfig

from .runs import (
    NOW,
    PLENTY,
    PROGRAM,
    Machine,
    asked,
    break_limits,
    meter_ids,
    program_environment,
    read_folder,
    temporaries,
)

WAIT_S = 60.0
REQUEST = replace(PLENTY, baseline=False)


def start(
    cloud: Sandbox, home: Path, out: Path, *options: str, quota: str = "100000/h"
) -> subprocess.Popen[str]:
    arguments = ["meter", "usage", "2021-01-10", "2021-01-14", "--output-dir", str(out)]
    return subprocess.Popen(
        [PROGRAM, *arguments, "--quota", quota, *options],
        env=program_environment(cloud, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """What it said on stderr, at its end."""
    return process.communicate(timeout=WAIT_S)[1]


def test_the_second_run_into_a_folder_is_told_who_holds_it(
    machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """Exit 7 and one line with the other's command and process, no call but the lists; the first
    goes on as if alone."""
    with Sandbox(SandboxConfig(premises=3, quota=None, now=NOW)) as cloud:
        machine(cloud).download(tmp_path / "whole", REQUEST, jobs=4, apart=True)
        cloud.faults.add(Fault(kind="hang", path="/usage", skip=1, seconds=2))
        out = tmp_path / "out"
        before = cloud.calls
        first = start(cloud, tmp_path, out)
        deadline = time.monotonic() + WAIT_S
        while cloud.calls < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)  # it holds the folder until it is let go on
        try:
            second = start(cloud, tmp_path / "elsewhere", out)
            said = end(second)
        finally:
            first.send_signal(signal.SIGCONT)
        assert second.returncode == 7
        *_, line = said.splitlines()  # the first says where its archive is
        assert "is being written by another run" in line
        assert f"process {first.pid}" in line
        assert "meter usage 2021-01-10 2021-01-14" in line
        said = end(first)
        assert first.returncode == 0, said
        assert read_folder(out) == read_folder(tmp_path / "whole")
        assert list(temporaries(out)) == []
        third = start(cloud, tmp_path, out)
        assert "kept from before" in end(third)


def test_three_begun_together(machine: Callable[[Sandbox], Machine], tmp_path: Path) -> None:
    """Whoever comes first works; the others end with 7, or find all done. No meter is asked
    twice, and the folder is whole."""
    with Sandbox(SandboxConfig(premises=2, quota=None, now=NOW, latency_ms=40)) as cloud:
        machine(cloud).download(tmp_path / "whole", REQUEST, apart=True)
        before = len(cloud.log)
        runs = [start(cloud, tmp_path, tmp_path / "out") for _ in range(3)]
        said = [end(run) for run in runs]
        codes = sorted(run.returncode for run in runs)
        assert set(codes) <= {0, 7}, said
        assert codes[0] == 0
        series = [path for path in asked(cloud, before) if path.endswith("/usage")]
        assert sorted(series) == sorted(f"meter/{one}/usage" for one in meter_ids(cloud))
        assert read_folder(tmp_path / "out") == read_folder(tmp_path / "whole")


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_two_runs_of_a_client_share_its_quota(tmp_path: Path, jobs: str) -> None:
    """Two runs into two folders, 20 calls an hour: exactly 20 reach the cloud, none is refused,
    and both say when to go on (exit 5). With more quota each completes."""
    with Sandbox(SandboxConfig(premises=10, quota="20/h", now=NOW, latency_ms=5)) as cloud:
        outs = [tmp_path / "one", tmp_path / "two"]
        options = ("--jobs", jobs, "--no-wait")
        runs = [start(cloud, tmp_path, out, *options, quota="20/h") for out in outs]
        said = [end(run) for run in runs]
        assert [run.returncode for run in runs] == [5, 5], said
        assert all("No call is free: resume at" in text.splitlines()[-1] for text in said)
        assert cloud.calls == 20
        assert all(record.status != 429 for record in cloud.log)
    there = [len(list(out.glob("*.csv"))) for out in outs]
    assert sum(there) >= 16 - 2  # but for lists, which the second may find in the cache


def test_two_runs_wait_in_turn(tmp_path: Path) -> None:
    """Two runs of four threads each under 12 calls a second: in no second are more granted than
    twelve, and both complete without a call too many."""
    limit = "12/s"
    with Sandbox(SandboxConfig(premises=10, quota=limit, now=NOW, max_age=0)) as cloud:
        outs = [tmp_path / "one", tmp_path / "two"]
        runs = [start(cloud, tmp_path, out, "--jobs", "4", quota=limit) for out in outs]
        said = [end(run) for run in runs]
        assert [run.returncode for run in runs] == [0, 0], said
        assert len(_granted(cloud, tmp_path)) == cloud.calls
        assert break_limits(_granted(cloud, tmp_path), [(12, 1.0)]) == []
        first, second = (read_folder(out) for out in outs)
        assert first == second
        assert len(first) == 1 + len(list(outs[0].glob("*.csv")))


def _granted(cloud: Sandbox, home: Path) -> list[float]:
    """When the ledger granted each call."""
    (path,) = (home / "their cache" / "copper").glob("quota.*.sqlite")
    with closing(sqlite3.connect(path)) as db:
        return [at_us / 1e6 for (at_us,) in db.execute("SELECT at_us FROM calls")]
