"""Runs that are killed or interrupted: nothing is halved, lost or orphaned, and the next goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from copper_cli.folders.manifest import Folder
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig

from .runs import (
    HOUSEKEEPING,
    NOW,
    PLENTY,
    PROGRAM,
    Machine,
    asked,
    program_environment,
    read_folder,
    temporaries,
)

WAIT_S = 60.0
"""Nothing here takes as long; a test that comes to this end has failed."""


@dataclass
class Scene:
    """A slow cloud, the folder that a run left alone makes of it, and a folder to fill."""

    cloud: Sandbox
    whole: dict[str, Any]
    out: Path
    environment: dict[str, str]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Begin the command that is killed again and again."""
        arguments = ["meter", "usage", "2021-01-10", "2021-01-14", "--baseline"]
        return subprocess.Popen(
            [PROGRAM, *arguments, "--output-dir", str(self.out), "--quota", "100000/h", *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_calls(self, process: subprocess.Popen[str], calls: int) -> bool:
        """True once the cloud was asked so often; False if the run ended before."""
        deadline = time.monotonic() + WAIT_S
        while self.cloud.calls < calls:
            assert time.monotonic() < deadline
            if process.poll() is not None:
                return False
            time.sleep(0.002)
        return True

    def check_whole_files(self) -> None:
        """Every file is byte for byte as it should be, and known as ours."""
        folder = Folder.look(self.out)
        for path in self.out.glob("*.csv"):
            assert path.read_bytes() == self.whole[path.name]
            assert folder.check(path.name, PLENTY.question()) == "complete"

    def check_complete(self) -> None:
        """All of it, and nothing besides."""
        assert read_folder(self.out) == self.whole
        assert list(temporaries(self.out)) == []
        assert {path.name for path in self.out.iterdir()} <= {*self.whole, *HOUSEKEEPING}


@pytest.fixture
def scene(tmp_path: Path, machine: Any) -> Iterator[Scene]:
    config = SandboxConfig(premises=6, quota=None, now=NOW, latency_ms=15)
    with Sandbox(config) as cloud:
        user: Machine = machine(cloud)
        user.download(tmp_path / "whole", PLENTY, jobs=4, apart=True)
        whole = read_folder(tmp_path / "whole")
        yield Scene(cloud, whole, tmp_path / "out", program_environment(cloud, tmp_path))


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_kill_9_again_and_again(scene: Scene, jobs: str) -> None:
    """Killed after some calls, eight times: no file is ever halved or unknown, no run refuses
    what an earlier one left, and the last one completes the folder."""
    chance = Random(int(jobs))
    kills = 0
    for _ in range(8):
        process = scene.start("--jobs", jobs)
        if scene.wait_for_calls(process, scene.cloud.calls + chance.randint(1, 6)):
            time.sleep(chance.uniform(0, 0.03))
            kills += process.poll() is None
            process.kill()
        _, said = process.communicate(timeout=WAIT_S)
        assert process.returncode in (-signal.SIGKILL, 0), said
        if (scene.out / "manifest.json").exists() or scene.out.exists():
            scene.check_whole_files()
    assert kills >= 5
    process = scene.start("--jobs", jobs)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said
    scene.check_complete()


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_ctrl_c_again_and_again(scene: Scene, jobs: str) -> None:
    """Ctrl-C: exit 130, one line that says how to go on, the manifest up to date without a
    journal; nothing fetched is asked again, and the run after it completes the folder."""
    chance = Random(int(jobs))
    interrupted = 0
    for _ in range(4):
        process = scene.start("--jobs", jobs)
        if scene.wait_for_calls(process, scene.cloud.calls + chance.randint(3, 6)):
            # A process manager's request to end is met as Ctrl-C is.
            process.send_signal(signal.SIGTERM if interrupted % 2 else signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
        assert process.returncode in (130, 0), said
        assert "Traceback" not in said
        if process.returncode == 130:
            interrupted += 1
            last = said.splitlines()[-1]
            assert last == "copper: interrupted; the same command goes on from here."
        if scene.out.exists():
            scene.check_whole_files()
            assert list(temporaries(scene.out)) == []
    assert interrupted >= 2
    process = scene.start("--jobs", jobs)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said
    scene.check_complete()
    series = [path for path in asked(scene.cloud) if "/" in path]
    # Once for the folder to compare with, once for the other: no call was thrown away.
    assert len(series) == 2 * len(set(series))


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_a_second_ctrl_c_ends_at_once(scene: Scene, jobs: str) -> None:
    """The first waits for the calls that are under way, which hang here; the second does not,
    however many there are. The next run finds all in order."""
    hang = Fault(kind="hang", path="/usage", skip=3, seconds=2 * WAIT_S, times=None)
    scene.cloud.faults.add(hang)
    process = scene.start("--jobs", jobs, "--timeout", str(WAIT_S))
    assert scene.wait_for_calls(process, scene.cloud.calls + 5)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=WAIT_S)
    assert time.monotonic() - begun < WAIT_S / 6
    assert process.returncode == 130, said
    assert "Traceback" not in said
    scene.check_whole_files()
    assert len(list(scene.out.glob("*.csv"))) >= 1
    scene.cloud.faults.clear()
    process = scene.start("--jobs", jobs)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said
    scene.check_complete()


def test_ctrl_c_while_the_quota_is_waited_for(scene: Scene) -> None:
    """A run that waits an hour for calls ends within seconds, and what it has is safe."""
    process = scene.start("--jobs", "4", "--quota", "9/h")
    assert scene.wait_for_calls(process, scene.cloud.calls + 7)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=WAIT_S)
    assert time.monotonic() - begun < WAIT_S / 6
    assert process.returncode == 130, said
    assert "Traceback" not in said
    scene.check_whole_files()
