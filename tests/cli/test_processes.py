"""The program as a process of its own: pipes, Ctrl-C, terminals, and several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from copper_cli.sandbox import Fault, Sandbox

from .conftest import PROGRAM
from .terminal import Terminal

LINE = ("meter", "usage", "2021-03-01", "2021-03-02")


def wait_until(holds: Callable[[], bool], within_s: float = 15.0) -> None:
    """Polls: what a process of its own does is seen from outside only."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_head_takes_one_line(serve: Callable[..., Sandbox]) -> None:
    """`copper premise | head -1`: no word on stderr, and the code of a closed pipe."""
    serve(premises=2000, next_page=5000)
    line = f"{PROGRAM} premise --no-cache | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    first, code = done.stdout.splitlines()
    assert first.startswith("Building information for 2000 premises")
    assert code == "141"


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def test_ctrl_c_while_a_list_hangs(cloud: Sandbox, work: Path) -> None:
    """Exit 130 at once, one line, no traceback, nothing written."""
    cloud.faults.add(Fault(kind="hang", path="/meter", seconds=60, times=None))
    with started(*LINE) as process:
        wait_until(lambda: cloud.token_calls > 0 and _is_hanging(cloud))
        code, out, err = interrupt(process)
    assert (code, out) == (130, "")
    assert err == "copper: interrupted; the same command goes on from here.\n"
    assert not list(work.iterdir())


def test_a_request_to_terminate_is_met_as_ctrl_c_is(cloud: Sandbox, work: Path) -> None:
    """A process manager's SIGTERM: exit 130, one line, no traceback."""
    cloud.faults.add(Fault(kind="hang", path="/meter", seconds=60, times=None))
    with started(*LINE) as process:
        wait_until(lambda: cloud.token_calls > 0 and _is_hanging(cloud))
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "copper: interrupted; the same command goes on from here.\n"


def _is_hanging(cloud: Sandbox) -> bool:
    """True once the fault has been met (it is logged only when it ends)."""
    return any(entry.met for entry in cloud.faults._entries)


def test_ctrl_c_while_meters_wait_for_the_quota(
    serve: Callable[..., Sandbox], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is safe, the wait ends within a second or two, the next run completes."""
    cloud = serve(premises=12)
    monkeypatch.setenv("COPPER_QUOTA", "6/h")
    with started(*LINE) as process:
        wait_until(lambda: len(list(work.glob("generated/*.csv"))) == 4)
        code, out, err = interrupt(process)
    assert (code, out) == (130, "")
    lines = err.splitlines()
    assert lines[0].startswith("Quota spent: 6 of 6 calls this hour. Waiting until ")
    assert lines[-2:] == [
        "4 of 24 files are safe on disk. The same command goes on from here.",
        "copper: interrupted; the same command goes on from here.",
    ]
    assert "Traceback" not in err
    assert len(lines) == 3
    monkeypatch.setenv("COPPER_QUOTA", "1000/h")
    done = run(*LINE)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "complete!")
    assert "24 meters done (4 kept from before)" in done.stderr
    assert cloud.calls == 26


@pytest.mark.parametrize(
    "line",
    [
        ("report", "monthly", "2021-03", "--include-per-meter-sum"),
        ("meter", "check-for-water-reversals"),
    ],
)
def test_ctrl_c_while_a_report_waits_for_the_quota(
    serve: Callable[..., Sandbox], line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait an hour for a call do not hold the process."""
    cloud = serve(premises=36)
    quota = 5
    monkeypatch.setenv("COPPER_QUOTA", f"{quota}/h")
    with started(*line) as process:
        wait_until(lambda: cloud.calls == quota)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Quota spent: ")
        code, out, err = interrupt(process)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "copper: interrupted; the same command goes on from here."
    assert "Traceback" not in err


def test_ctrl_c_twice_ends_while_meters_hang(cloud: Sandbox, work: Path) -> None:
    """The first lets what is in flight finish; the second does not wait for a silent server."""
    cloud.faults.add(Fault(kind="hang", path="/usage", seconds=60, times=None, skip=1))
    with started(*LINE) as process:
        wait_until(lambda: sum(e.met for e in cloud.faults._entries) == 4)
        wait_until(lambda: len(list(work.glob("generated/*.csv"))) == 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two signals at once would be one
        code, _, err = interrupt(process)
    assert code == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "copper: interrupted; the same command goes on from here."
    cloud.faults.clear()
    done = run(*LINE)
    assert done.returncode == 0
    assert "(1 kept from before)" in done.stderr


def test_killed_and_run_again(serve: Callable[..., Sandbox], work: Path) -> None:
    """After SIGKILL in the middle every file there is whole; again completes with the rest."""
    cloud = serve(premises=12, latency_ms=20)
    with started(*LINE, "--jobs", "2") as process:
        wait_until(lambda: len(list(work.glob("generated/*.csv"))) >= 3)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = {p: p.read_bytes() for p in work.glob("generated/*.csv")}
    cloud.config.__dict__["latency_ms"] = 0
    done = run(*LINE)
    assert done.returncode == 0, done.stderr
    assert "24 meters done" in done.stderr
    assert {p: p.read_bytes() for p in before} == before
    assert len(list(work.glob("generated/*.csv"))) == 24


def test_an_ascii_terminal_shows_what_it_can(
    cloud: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No UnicodeEncodeError where the terminal's encoding is small."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("COPPER_OUTPUT_DIR", "Peña-ダム")
    done = run(*LINE)
    assert done.returncode == 0, done.stderr
    assert "complete!" in done.stdout


def test_a_terminal_gets_a_bar_and_a_countdown(
    serve: Callable[..., Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow terminal the quota's wait stands below the bar; Ctrl-C leaves the lines alone."""
    import pty

    cloud = serve()
    monkeypatch.setenv("COPPER_QUOTA", "3/h")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "60")  # readline, where it is loaded, says 80
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *LINE], stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while b"goes on from here." not in shown:
        shown += os.read(ours, 4096)
    assert cloud.calls == 3
    terminal = Terminal(60)
    terminal.feed(shown.decode())
    bar, *wait = terminal.rows
    assert "  1/4 meters  3 calls  0/h left  " in bar
    words = " ".join(wait)
    assert words.startswith("Quota spent: 3 of 3 calls this hour. Waiting until ")
    assert words.endswith(" Ctrl-C is safe: the same command goes on from here.")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    terminal = Terminal(60)
    terminal.feed(shown.decode())
    assert terminal.rows == [
        "1 of 4 files are safe on disk. The same command goes on from",
        " here.",
        "copper: interrupted; the same command goes on from here.",
    ]
    assert b"\x1b[?25" not in shown
