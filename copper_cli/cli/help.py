"""copper help: the help of a command, for who types it before the command."""

from __future__ import annotations

import click

from copper_cli.cli.groups import ProgramCommand


def make_help(program: str, example: str) -> click.Command:
    """The command `help` of a program; `example` names one of its commands."""

    @click.command(
        cls=ProgramCommand,
        name="help",
        help="Show what a command does: the same as COMMAND --help.\n\n"
        f"\b\nExamples:\n  {program} help\n  {program} help {example}",
    )
    @click.argument("words", metavar="[COMMAND]...", nargs=-1)
    @click.pass_context
    def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
        shown = ctx.parent
        assert shown is not None  # it stands in a group
        for word in words:
            group = shown.command
            if not isinstance(group, click.Group):
                raise click.UsageError(f"{shown.command_path} has no commands.", ctx)
            name, command, _ = group.resolve_command(shown, [word])
            assert command is not None  # an unknown one was refused
            shown = click.Context(command, info_name=name, parent=shown)
        click.echo(shown.get_help())

    return show_help


help_ = make_help("copper", "meter usage")
