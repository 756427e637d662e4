"""--help: of every command, at once, without credentials, network or heavy imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from copper_cli.cli import root

from .conftest import PROGRAM, Copper

NAMES_OF_THE_REFERENCE = {
    "premise",
    "bulk",
    "gateway",
    "meter status",
    "meter usage",
    "meter baseline-series",
    "meter average-series",
    "meter readings",
    "meter check-for-water-reversals",
    "grid latest",
    "grid readings",
    "report health",
    "report monthly",
}


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


COMMANDS = dict(walk(root))


def test_the_references_commands_are_there() -> None:
    """Under the same names."""
    assert set(COMMANDS) >= NAMES_OF_THE_REFERENCE


@pytest.mark.parametrize("path", COMMANDS)
def test_help_works_without_anything(copper: Copper, path: str) -> None:
    """Exit 0, on stdout, also with -h; nothing on stderr."""
    ended = copper(*path.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0].startswith("Usage: ")
    assert copper(*path.split(), "-h").out == ended.out
    assert all(len(line) <= 100 for line in ended.lines)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_starts_with_a_sentence_and_has_an_example(path: str) -> None:
    """Every command with an example that starts with `copper`; groups need none."""
    command = COMMANDS[path]
    text = command.help or ""
    first = text.split("\n\n")[0].replace("\b", "").strip()
    assert re.match(r"[A-Z][^\n]*(\n[^\n]+)*\.", first), first
    if not isinstance(command, click.Group):
        assert re.search(r"Examples?:\n +copper ", text), path


def test_examples_of_the_help_can_be_parsed() -> None:
    """No example names a command or an option that there is not."""
    found = 0
    for text in (command.help or "" for command in COMMANDS.values()):
        for line in re.findall(r"^ +copper (.*)$", text, re.M):
            words = [w for w in re.split(r"\s+[>&#]", line)[0].split() if w]
            command: click.Command = root
            context = click.Context(root)
            while isinstance(command, click.Group):
                name = next((w for w in words if not w.startswith("-")), None)
                inner = command.get_command(context, name) if name else None
                if inner is None:
                    break
                words.remove(name or "")
                command = inner
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
            options |= {o for p in root.params for o in (*p.opts, *p.secondary_opts)}
            assert {w for w in words if w.startswith("--")} <= options, line
            found += 1
    assert found >= 25


def test_help_imports_nothing_heavy() -> None:
    """No HTTP, no database, no table library: help must not take half a second."""
    heavy = (
        "requests",
        "urllib3",
        "sqlite3",
        "tabulate",
        "oauthlib",
        "dateutil",
        "werkzeug",
        "rich",
    )
    code = (
        "import sys\n"
        "from copper_cli.cli import root, run\n"
        f"for path in {[p.split() for p in COMMANDS]!r}:\n"
        "    assert run(root, [*path, '--help']) == 0\n"
        f"loaded = [name for name in {heavy!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_version(copper: Copper) -> None:
    """The package's own."""
    assert copper("--version").out.endswith(" 0.1.0\n")


@pytest.mark.parametrize(
    ("name", "first"), [("copper", "premise"), ("copper-enterprise", "premise")]
)
def test_entry_points(name: str, first: str) -> None:
    """`copper` and `copper-enterprise` are the same tree under the name that was typed."""
    done = subprocess.run(
        [PROGRAM.with_name(name), first, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: {name} premise [OPTIONS]")


def test_copper_client_is_the_account_branch() -> None:
    """As the vendor's second script: `copper-client` alone shows the summary."""
    done = subprocess.run(
        [PROGRAM.with_name("copper-client"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "login" in done.stdout
    assert "what the meters of your own home measure now" in done.stdout
    assert done.stdout.startswith("Usage: copper-client [OPTIONS] [COMMAND]")


def test_options_name_their_defaults(copper: Copper) -> None:
    """What happens without an option can be read."""
    shown = " ".join(copper("meter", "usage", "--help").out.split())
    for text in ("[default: hour]", "[default: rows]", "[default: 100/h,1000/d]", "[default: 8]"):
        assert text in shown
