"""--help: of every command, at once, without credentials, network or heavy imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from copper_cli.cli import root, run
from copper_cli.cli.account import copper_client

from .conftest import PROGRAM, Copper, Ended

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


@pytest.mark.parametrize("path", [p for p, c in COMMANDS.items() if isinstance(c, click.Group)])
def test_a_group_says_of_its_commands_whole_sentences(copper: Copper, path: str) -> None:
    """None is cut in the middle; each command is there."""
    group = COMMANDS[path]
    assert isinstance(group, click.Group)
    ended = copper(*path.split(), "--help")
    shown = " ".join(ended.out.partition("\nCommands:")[2].split())
    assert "..." not in shown
    for name in group.list_commands(click.Context(group)):
        command = COMMANDS[f"{path} {name}".strip()]
        if path:  # the root's are shorter, since it imports no command for its help
            sentence = re.match(
                r".*?\.(?= [A-Z]|$)", " ".join((command.help or "").split("\n\n")[0].split())
            )
            assert sentence is not None
            assert f"{name} {sentence[0]}" in shown
        assert name in shown


@pytest.mark.parametrize("path", COMMANDS)
def test_help_as_a_command(copper: Copper, path: str) -> None:
    """`copper help COMMAND` shows the same as `copper COMMAND --help`."""
    ended = copper("help", *path.split())
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == copper(*path.split(), "--help").out


DAYS = {
    "meter usage": "not included",
    "meter baseline-series": "not included",
    "meter average-series": "not included",
    "meter readings": "is included",
    "grid readings": "is included",
    "dump": "is included",
}


@pytest.mark.parametrize("path", DAYS)
def test_days_are_explained_where_they_are_taken(copper: Copper, path: str) -> None:
    """Which midnights, whether END's own day is included, and how a day may be typed."""
    shown = " ".join(copper(*path.split(), "--help").out.split())
    end = "FINISH" if path == "dump" else "END"
    begins, _, rest = shown.partition("Arguments: START ")[2].partition(f" {end} ")
    assert "from its midnight on, in the local time of" in begins
    ends, _, typed = rest.partition(" A day is one of: ")
    assert "local" in ends
    assert DAYS[path] in ends
    for word in ("YYYY-MM-DD", "YYYY-MM ", "today", "yesterday", "-7d"):
        assert word in typed.partition("Options:")[0]


def test_every_command_that_takes_days_is_known() -> None:
    """A new one is explained too."""
    taking = [p for p, c in COMMANDS.items() if any(a.name == "start" for a in c.params)]
    assert sorted(taking) == sorted(DAYS)


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


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Copper:
    """Types a line of copper-client in this process."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/copper-client"])

    def type_line(*words: str) -> Ended:
        capsys.readouterr()
        code = run(copper_client, list(words))
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return type_line


CLIENT_COMMANDS = [path for path, _ in walk(copper_client)]


@pytest.mark.parametrize("path", CLIENT_COMMANDS)
def test_copper_client_helps_by_its_own_name(client: Copper, path: str) -> None:
    """-h too; its examples are lines of copper-client and can be parsed by it."""
    ended = client(*path.split(), "-h")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == client(*path.split(), "--help").out == client("help", *path.split()).out
    assert ended.lines[0].startswith(f"Usage: copper-client {path}".rstrip())
    assert "copper account" not in ended.out
    examples = re.findall(r"^ +copper-client ?([\w ]*)", ended.out, re.M)
    assert examples
    for example in examples:
        words = example.split()
        assert not words or words[0] in CLIENT_COMMANDS


def test_copper_account_helps_by_its_own_name(copper: Copper) -> None:
    """The same commands under the other name."""
    assert "copper-client" not in copper("account", "login", "--help").out
    assert "    copper account login\n" in copper("account", "--help").out


def test_copper_client_has_a_version(client: Copper) -> None:
    """The package's own, under its name."""
    assert client("--version") == Ended(0, "copper-client 0.1.0\n", "")


def test_copper_client_knows_no_such_command(client: Copper) -> None:
    """Exit 2, one line with the closest ones, else with all."""
    assert client("logn") == Ended(
        2, "", "copper: no such command 'logn' in copper-client. Did you mean login or logout?\n"
    )
    assert client("premise") == Ended(
        2,
        "",
        "copper: no such command 'premise' in copper-client. "
        "One of dump, help, login, logout, summary.\n",
    )


def test_options_name_their_defaults(copper: Copper) -> None:
    """What happens without an option can be read."""
    shown = " ".join(copper("meter", "usage", "--help").out.split())
    for text in ("[default: hour]", "[default: rows]", "[default: 100/h,1000/d]", "[default: 8]"):
        assert text in shown
