"""Standard streams that take no writing, or are closed: what is told, and by which exit code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import PROGRAM

FULL = "standard output cannot be written: the disk is full."
CLOSED = "standard output cannot be written: it is closed."
LINES = [
    "--version",
    "--help",
    "meter usage --help",
    "premise",
    "premise --format json",
    "premise --format ndjson",
    "premise --format csv",
    "premise --csv-output-file -",
    "gateway",
    "meter usage 2021-03-01 2021-03-02",
    "meter usage 2021-03-01 2021-03-02 --dry-run",
    "dump foo 2021-03-01 2021-03-01 hour",
    "report monthly 2021-03",
    "quota",
    "cache info",
    "cache clear",
    "--sandbox account",
    "--sandbox account dump",
]

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def shell(line: str, name: str = "copper") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a line typed in a shell, which may redirect."""
    program = PROGRAM.with_name(name)
    done = subprocess.run(
        ["bash", "-c", f"{program} {line}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@needs_full
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("how", "told"), [(">/dev/full", FULL), (">&-", CLOSED)])
def test_stdout_that_takes_no_writing(cloud: Sandbox, line: str, how: str, told: str) -> None:
    """Exit 7; one line says why and nothing complains at the process's end."""
    code, out, err = shell(f"{line} {how}")
    assert (code, out, err.splitlines()[-1]) == (7, "", f"copper: {told}")
    assert err.count("standard output") == 1
    assert not any(word in err for word in ("bug", "Traceback", "Exception ignored"))


@needs_full
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-", "2>&- <&-"])
def test_stderr_that_takes_no_writing(cloud: Sandbox, line: str, how: str) -> None:
    """It is as if it were /dev/null: the same code and the same stdout."""
    expected = shell(f"{line} 2>/dev/null")
    code, out, err = shell(f"{line} {how}")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == expected[1].splitlines()[0]
    assert out.splitlines()[-1] == expected[1].splitlines()[-1]


@needs_full
def test_nothing_can_be_told(cloud: Sandbox) -> None:
    """Both full or all three closed: the exit code alone says it."""
    assert shell("premise >/dev/full 2>/dev/full") == (7, "", "")
    assert shell("premise <&- >&- 2>&-") == (7, "", "")
    assert shell("premises 2>/dev/full") == (2, "", "")


@needs_full
def test_the_individual_s_program(cloud: Sandbox) -> None:
    """`copper-client` has the same streams."""
    assert shell("--sandbox summary >/dev/full", "copper-client")[0] == 7
    assert shell("--sandbox summary 2>&-", "copper-client")[0] == 0


@pytest.mark.parametrize("how", [">/dev/full", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_files_are_whole_whatever_the_streams_are(cloud: Sandbox, work: Path, how: str) -> None:
    """No data file takes the number of a stream that was closed: no word of ours gets into it."""
    line = "meter usage 2021-03-01 2021-03-02 --csv-output-file table.csv --output-dir"
    assert shell(f"{line} good")[0] == 0
    code, _, err = shell(f"{line} bad {how}")
    assert code == 7
    names = sorted(p.name for p in (work / "good").iterdir() if p.suffix == ".csv")
    assert names == sorted(p.name for p in (work / "bad").iterdir() if p.suffix == ".csv")
    assert len(names) == 5
    for name in names:
        assert (work / "bad" / name).read_bytes() == (work / "good" / name).read_bytes()
    if "2>" not in how:
        assert "4 meters done" in err


def test_a_report_s_notes_are_there_without_stdout(cloud: Sandbox, work: Path) -> None:
    """Every file of a command is written before what is shown can fail."""
    assert shell("report monthly 2021-03 --output-dir out --csv-output-file m.csv >&-")[0] == 7
    assert sorted(p.name for p in (work / "out").iterdir()) == ["m.csv", "readme.txt"]


@needs_full
def test_the_local_cloud_ends_where_nobody_learns_its_address() -> None:
    """`copper sandbox serve > /dev/full` is of no use to anyone."""
    code, _, err = shell("sandbox serve >/dev/full")
    assert (code, err.splitlines()[-1]) == (7, f"copper: {FULL}")


def test_stdout_that_another_program_made_non_blocking(
    serve: Callable[..., Sandbox], work: Path
) -> None:
    """A slow reader gets every byte: the pipe's being full is waited for."""
    serve(premises=3000, next_page=5000)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    process = subprocess.Popen([PROGRAM, "premise", "--format", "ndjson"], stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        assert len(stream.read().splitlines()) == 3000
    assert process.wait(30) == 0
