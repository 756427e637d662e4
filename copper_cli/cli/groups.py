"""Commands and groups that take the program's options, and their help."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from copper_cli.cli.dates import explain_days, looks_like_days_ago, takes_days
from copper_cli.cli.options import program_options

F = TypeVar("F", bound=Callable[..., Any])

PROGRAM_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Of click, for each of the programs."""


def version_option() -> Callable[[F], F]:
    """--version of a program, under its name."""
    return click.version_option(package_name="copper-cli", message="%(prog)s %(version)s")


class InterruptedRunError(Exception):
    """Ctrl-C; click would print an empty line for a KeyboardInterrupt."""


class ReaderGoneError(Exception):
    """Whoever read our output has gone; click would end the process as if it were a bug."""


class ProgramCommand(click.Command):
    """A command that takes the program's options besides its own."""

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        taken = {name for param in self.params for name in param.opts}
        self.params += [p for p in program_options() if not taken.intersection(p.opts)]

    def make_parser(self, ctx: click.Context) -> Any:
        """As click does; where days are taken, -7d is one of them and no option."""
        parser: Any = super().make_parser(ctx)
        if takes_days(self):
            process = parser._process_opts

            def process_word(word: str, state: Any) -> None:
                if looks_like_days_ago(word):
                    state.largs.append(word)
                else:
                    process(word, state)

            parser._process_opts = process_word
        return parser

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What days mean where they are taken, the command's own options, the program's."""
        if takes_days(self):
            explain_days(self, formatter)
        _format_sections(self, ctx, formatter)


class CommandGroup(click.Group):
    """A group that tells of its commands in whole sentences, and names the closest ones."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with the whole first sentence of its help; click would cut it."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, _first_sentence(command.help or "")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command gets the closest names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            from difflib import get_close_matches

            names = self.list_commands(ctx)
            close = get_close_matches(name, names, n=2, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"One of {', '.join(names)}."
            raise click.UsageError(f"no such command {name!r} in {ctx.command_path}. {hint}", ctx)
        return super().resolve_command(ctx, args)


class ProgramGroup(CommandGroup):
    """A group whose commands take the program's options; so does the group itself."""

    command_class = ProgramCommand
    group_class = type

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.params += program_options()

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but Ctrl-C and a closed pipe are for the program, which has its words."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedRunError from None
        except BrokenPipeError:
            raise ReaderGoneError from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The group's own options first, the program's, then its commands."""
        _format_sections(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    found = re.match(r".+?\.(?= [A-Z]|$)", paragraph)
    return found[0] if found else paragraph


def _format_sections(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    own: list[tuple[str, str]] = []
    program: list[tuple[str, str]] = []
    program_names = {p.name for p in program_options()}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None:
            (program if param.name in program_names else own).append(record)
    sections = (("Options", own), ("Program options (before or after the command)", program))
    for title, records in sections:
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
