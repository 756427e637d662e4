"""Make docs/commands.md from the program's own --help, and the views in docs/query.md.

--check says whether they are up to date.

Also checks that every file and heading the documents link to exists, and that every `copper …`
line within a document's code is a command line that the program can parse.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import copper_cli.config
from copper_cli.archive.query import write_schema
from copper_cli.cli import root
from copper_cli.errors import CopperError

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "commands.md"
QUERY_PAGE = PROJECT / "docs" / "query.md"
_SCHEMA = re.compile(r"(<!-- Made from [^\n]*\n).*?(<!-- End of what is made\. -->)", re.S)
DOCUMENTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))

_COMMAND = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S* )*(?:[\w$./-]*/)?(copper(?:-enterprise|-client)?)(?: (.*))?"
)
_SHELL = re.compile(r"\s(?:\d?[<>]|[|&;#]).*")
_DATES = {"start": "2020-12-22", "end": "2021-01-12", "month": "2021-09"}
"""What a shell variable of an example stands for; any other is a word."""


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


def render_query_page() -> str:
    """The page on questions, its views as the program has them."""
    text = QUERY_PAGE.read_text("utf-8")
    return _SCHEMA.sub(lambda found: f"{found[1]}\n{write_schema()}\n{found[2]}", text)


def broken_links() -> Iterator[str]:
    """Links in the documents to files or headings that do not exist."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
            if "://" in target:
                continue
            name, _, heading = target.partition("#")
            found = document.parent / name if name else document
            if not found.exists():
                yield f"{document.name} links to {name}, which does not exist"
            elif heading and heading not in anchors(found):
                yield f"{document.name} links to {target}, which has no such heading"


def anchors(document: Path) -> set[str]:
    """The headings of a document as links name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_examples() -> Iterator[str]:
    """Command lines in the documents that the program would refuse."""
    for document in DOCUMENTS:
        for line in code_lines(document.read_text("utf-8")):
            found = _COMMAND.fullmatch(line)
            if found is None or '"$@"' in line:  # what a script was given may be anything
                continue
            with contextlib.redirect_stdout(io.StringIO()):  # --version prints while parsed
                reason = _refusal(*found.groups(""))
            if reason:
                yield f"{document.name}: `{line}`: {reason}"


def code_lines(text: str) -> Iterator[str]:
    """The lines of all fenced code, stripped; those continued by a backslash as one."""
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield line.strip()


def _refusal(program: str, arguments: str) -> str | None:
    """Why it is no command line; it is parsed, nothing is run."""
    plain = re.sub(
        r"\$\{?(\w+)\}?", lambda found: _DATES.get(found[1], "x"), _SHELL.sub("", f" {arguments}")
    )
    try:
        args = shlex.split(plain)
    except ValueError as error:
        return f"no shell takes it: {error}"
    command: click.Command = root
    parent = None
    name = "copper"
    if program == "copper-client":
        args = ["account", *args]
    try:
        while True:
            context = command.make_context(name, args, parent=parent)
            if not isinstance(command, click.Group):
                return None
            rest = [*context._protected_args, *context.args]
            if not rest:
                return None
            found, inner, args = command.resolve_command(context, rest)
            assert inner is not None
            name, command, parent = found or "", inner, context
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return error.format_message()
    except CopperError as error:
        return str(error)


def _forget_this_machine() -> None:
    """Neither its settings nor its profiles have a say: a profile in an example is any profile."""
    for name in [name for name in os.environ if name.startswith("COPPER_")]:
        del os.environ[name]
    copper_cli.config.read_profile = lambda handle, env=os.environ: {}


def main() -> int:
    """Write the page, or with --check compare; the exit code."""
    _forget_this_machine()
    pages = {PAGE: render(), QUERY_PAGE: render_query_page()}
    if "--check" not in sys.argv[1:]:
        for path, page in pages.items():
            path.write_text(page, encoding="utf-8")
        return 0
    faults = [*broken_links(), *broken_examples()]
    for path, page in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            faults.append(f"docs/{path.name} is not what the program says; run scripts/docs.py")
    for fault in faults:
        print(f"docs: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
