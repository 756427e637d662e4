"""The command that prints the client secret: what it is given, how long, and what is told of it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from copper_cli import subprogram
from copper_cli.config import read_secret
from copper_cli.errors import CredentialsError

ENV = {"PATH": os.environ["PATH"]}


def ask(command: str, **env: str) -> str:
    found = read_secret({"client_secret_command": command}, ENV | env)
    assert found is not None
    return found.reveal()


def refusal(command: str, **env: str) -> str:
    with pytest.raises(CredentialsError) as error:
        ask(command, **env)
    assert error.value.exit_code == 3
    return str(error.value)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thirty seconds are a third of one."""
    assert subprogram.TIMEOUT_S == 30
    monkeypatch.setattr(subprogram, "TIMEOUT_S", 0.3)


def is_alive(pid: int) -> bool:
    """True for a process that runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("impatient")
def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """Exit 3 after the time is up; what it said on stderr is told, and nothing of it stays."""
    command = f"echo waiting for the vault >&2; (sh -c 'echo $$ > {tmp_path}/pid; sleep 60') & wait"
    begun_s = time.monotonic()
    told = refusal(command)
    assert time.monotonic() - begun_s < 10
    assert told == (
        "client_secret_command took over 0 seconds and was ended: waiting for the vault"
    )
    assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("impatient")
def test_a_child_that_holds_stdout_does_not_hold_us() -> None:
    """The command has ended, what it left behind has not: the time is up all the same."""
    assert "was ended" in refusal("echo secret; sleep 60 &")


def test_a_command_without_end_fills_no_memory() -> None:
    """What is more than any secret is not read."""
    assert re.match("client_secret_command ended with .* and some output", refusal("yes"))


def test_what_it_says_on_stderr_is_told() -> None:
    """Its last lines, clean, in one; they are why it failed."""
    told = refusal("seq 5 >&2; printf 'no\\tkey\\n\\n' >&2; exit 2")
    assert told == "client_secret_command ended with code 2 and no output: 4 / 5 / no\tkey"


def test_a_command_that_is_not_there() -> None:
    """The shell's own words."""
    assert "code 127 and no output: " in refusal("no-such-command-of-mine")


def test_a_secret_on_stderr_is_not_told() -> None:
    """Where stdout held it too."""
    told = refusal("echo s3cret; echo was s3cret >&2; exit 1")
    assert told == "client_secret_command ended with code 1 and some output: was ***"


def test_a_command_has_no_stdin() -> None:
    """It would wait for somebody to type, or eat what is meant for others."""
    assert ask("cat; echo secret") == "secret"


def test_the_exported_secret_is_not_its_business() -> None:
    """It may be another partner's; all else is there."""
    command = "echo ${COPPER_CLIENT_SECRET-none},$COPPER_CLIENT_ID"
    assert ask(command, COPPER_CLIENT_SECRET="theirs", COPPER_CLIENT_ID="id") == "none,id"


@pytest.mark.parametrize(
    "printed", ["one\\ntwo", "one\\rtwo", "\\033[31mred", "a\\000b", "\\377\\376"]
)
def test_what_cannot_be_a_secret(printed: str) -> None:
    """Several lines, control signs, what is no text: refused, and not shown."""
    told = refusal(f"printf '{printed}'")
    assert told == (
        "client_secret_command printed something else than one line of text; it must print the "
        "secret alone."
    )


@pytest.mark.parametrize("printed", ["secret", "secret\\n", "  secret\\r\\n\\n"])
def test_blanks_around_it(printed: str) -> None:
    """Do no harm."""
    assert ask(f"printf '{printed}'") == "secret"
