"""Make docs/commands.md from the program's own --help; --check says whether it is up to date.

Also checks that every file the documents link to exists, and that every `copper …` example of a
document is a command line that the program can parse.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from copper_cli.cli import root

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "commands.md"
DOCUMENTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))


def walk(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command with its whole name, groups before what is in them."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from walk(inner, click.Context(inner, info_name=name, parent=context))


def render() -> str:
    """The page of all commands."""
    parts = [
        "# Commands\n",
        "Made from the program's own `--help` by `scripts/docs.py`; do not edit.\n",
    ]
    for path, command, context in walk(root, click.Context(root, info_name="copper")):
        context.terminal_width = 100
        parts.append(f"## {path}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def broken_links() -> Iterator[str]:
    """Links in the documents to files that do not exist."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                yield f"{document.name} links to {target}, which does not exist"


def broken_examples() -> Iterator[str]:
    """Command lines in the documents that the program would refuse."""
    for document in DOCUMENTS:
        for line in re.findall(
            r"^(?:\$ )?(copper(?:-enterprise)? [^\n#│]*)", document.read_text("utf-8"), re.M
        ):
            words = shlex.split(re.split(r"\s[|>&<]", line)[0])[1:]
            if reason := _refusal(words):
                yield f"{document.name}: `{line.strip()}`: {reason}"


def _refusal(words: list[str]) -> str | None:
    """Why the words are no command line; they are parsed, nothing is run."""
    command: click.Command = root
    parent = None
    args = list(words)
    name = "copper"
    try:
        while True:
            context = command.make_context(name, args, parent=parent)
            if not isinstance(command, click.Group):
                return None
            rest = [*context._protected_args, *context.args]  # noqa: SLF001
            if not rest:
                return None
            found, inner, args = command.resolve_command(context, rest)
            assert inner is not None
            name, command, parent = found or "", inner, context
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return error.format_message()


def main() -> int:
    """Write the page, or with --check compare; the exit code."""
    page = render()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    faults = [*broken_links(), *broken_examples()]
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        faults.append("docs/commands.md is not what --help says; run scripts/docs.py")
    for fault in faults:
        print(f"docs: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
