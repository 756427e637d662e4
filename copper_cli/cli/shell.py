"""The shell of `copper query`: a question ends with a semicolon, Ctrl-D ends the shell."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from copper_cli.cli.query import answer
from copper_cli.errors import CopperError

if TYPE_CHECKING:
    from copper_cli.cli.running import Run
    from copper_cli.jobs.query import Asking

_HELP = """A question ends with a semicolon: SELECT count(*) FROM meters;
.tables         what can be asked
.schema [VIEW]  its columns
.quit           leave, as Ctrl-D does; Ctrl-C drops what was typed or stops the question"""


def run_shell(run: Run, asking: Asking) -> None:
    """Read questions and answer them until there are no more."""
    with suppress(ImportError):  # not on every system
        import readline  # noqa: F401 - input() edits lines with it

    click.echo("SQL over the archive; .help says how, Ctrl-D leaves.", err=True)
    waiting = ""
    while True:
        try:
            line = input("   ...> " if waiting else "copper> ")
        except EOFError:
            click.echo("", err=True)
            return
        except KeyboardInterrupt:
            click.echo("", err=True)
            waiting = ""
            continue
        if not waiting and line.strip() in (".quit", ".exit"):
            return
        if not waiting and line.strip().startswith("."):
            _obey(line.strip())
            continue
        waiting = f"{waiting}\n{line}" if waiting else line
        if not waiting.strip():
            waiting = ""
        elif waiting.rstrip().endswith(";"):
            _answer(run, asking, waiting)
            waiting = ""


def _obey(line: str) -> None:
    from copper_cli.jobs.query import describe_view, list_views

    word, _, rest = line.partition(" ")
    try:
        if word in (".tables", ".views"):
            lines = list_views()
        elif word == ".schema":
            lines = describe_view(rest.strip().rstrip(";"))
        else:
            lines = _HELP.splitlines()
    except CopperError as error:
        lines = [f"copper: {error}"]
    click.echo("\n".join(lines))


def _answer(run: Run, asking: Asking, sql: str) -> None:
    """Answer; what is wrong is told, and the shell goes on."""
    try:
        answer(run, asking, sql, None)
    except CopperError as error:
        click.echo(f"copper: {error}", err=True)
    except KeyboardInterrupt:
        click.echo("copper: stopped.", err=True)
