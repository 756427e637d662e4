"""Shared options and parameter types: what may be typed, and what is said when it may not.

Every option can also be set by an environment variable of its name (`--output-dir`:
COPPER_OUTPUT_DIR) and by a profile's `defaults`. Program options stand before or after the
command; the one nearest to the end of the line counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "csv", "json", "ndjson")
LAYOUTS = ("rows", "columns", "plain")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199

_META = "copper_cli.options"
_RANKS = {
    ParameterSource.COMMANDLINE: 3,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.DEFAULT_MAP: 1,
}


class DateType(click.ParamType[date]):
    """A day, YYYY-MM-DD and nothing looser."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The day; fails with one line for anything else."""
        if isinstance(value, date):
            return value
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            self.fail(f"{value!r} is not a date like 2020-12-22 (YYYY-MM-DD).", param, ctx)
        try:
            day = date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day of the calendar.", param, ctx)
        if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
            self.fail(f"{value} lies outside {_FIRST_YEAR} to {_LAST_YEAR}.", param, ctx)
        return day


class MonthType(click.ParamType[date]):
    """A month, YYYY-MM; its first day."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The month's first day; fails with one line for anything else."""
        if isinstance(value, date):
            return value
        found = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", value)
        if not found or not _FIRST_YEAR <= int(found[1]) <= _LAST_YEAR:
            self.fail(f"{value!r} is not a month like 2021-09 (YYYY-MM).", param, ctx)
        return date(int(found[1]), int(found[2]), 1)


class ZoneType(click.ParamType[Any]):
    """A time zone by its IANA name."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The zone; fails with the closest names for an unknown one."""
        from zoneinfo import ZoneInfo, available_timezones

        if not isinstance(value, str):
            return value
        try:
            return ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            from difflib import get_close_matches

            close = get_close_matches(value, available_timezones(), n=3, cutoff=0.6)
            hint = f"Closest: {', '.join(close)}." if close else "Try America/Denver or UTC."
            self.fail(f"{value!r} is not a zone of the IANA list. {hint}", param, ctx)


DATE = DateType()
MONTH = MonthType()
ZONE = ZoneType()


class Option(click.Option):
    """An option that the environment and the profile's defaults can set too."""

    def __init__(self, *args: Any, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        long = next(name for name in self.opts if name.startswith("--"))
        self.setting = long.removeprefix("--").replace("-", "_")
        self.envvar = f"COPPER_{self.setting.upper()}"

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """As click does, with the profile between environment and default."""
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.DEFAULT and self.setting in profile_defaults(ctx):
            kept = profile_defaults(ctx)[self.setting]
            return self._as_typed(kept), ParameterSource.DEFAULT_MAP
        return value, source

    def _as_typed(self, kept: Any) -> Any:
        """A value of the profile as it would be typed, so that one set of rules checks both."""
        if not self.multiple:
            return str(kept)
        return [str(one) for one in (kept if isinstance(kept, list) else [kept])]


def option(*names: str, **attrs: Any) -> Callable[[F], F]:
    """A command's own option, of the class above."""
    return click.option(*names, cls=Option, **attrs)


OVERWRITE = option("--overwrite", is_flag=True, help="Replace files that answer other questions.")
RECHECK = option("--recheck", is_flag=True, help="Ask again for all that is null, absent or empty.")
DRY_RUN = option(
    "--dry-run", is_flag=True, help="Show the calls it would take, and when it would be done."
)


def download_options(command: F) -> F:
    """What every download takes: `overwrite`, `recheck` and `dry_run`."""
    for add in (DRY_RUN, RECHECK, OVERWRITE):
        command = add(command)
    return command


def profile_defaults(ctx: click.Context) -> Mapping[str, Any]:
    """The `defaults` of the profile named on the command line or in the environment."""
    found: Mapping[str, Any] = ctx.find_root().meta.get(_META + ".defaults", {})
    return found


def program_values(ctx: click.Context) -> dict[str, Any]:
    """The program options as they stand after all levels were read."""
    kept: dict[str, tuple[int, Any]] = ctx.find_root().meta.setdefault(_META, {})
    return {name: value for name, (_, value) in kept.items()}


def is_typed(ctx: click.Context, name: str) -> bool:
    """True where a program option was given on the command line itself."""
    kept: dict[str, tuple[int, Any]] = ctx.find_root().meta.setdefault(_META, {})
    return kept.get(name, (0, None))[0] == _RANKS[ParameterSource.COMMANDLINE]


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Note a program option: the stronger source wins, of equals the later on the line."""
    kept: dict[str, tuple[int, Any]] = ctx.find_root().meta.setdefault(_META, {})
    assert param.name is not None
    source = ctx.get_parameter_source(param.name)
    rank = _RANKS.get(source, 0) if source else 0
    if param.name not in kept or rank >= kept[param.name][0]:
        kept[param.name] = (rank, value)
    return value


def _keep_profile(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    _keep(ctx, param, value)
    if value and program_values(ctx)["profile"] == value:
        from copper_cli.config import read_profile

        profile = read_profile(value)
        root = ctx.find_root()
        defaults = {name.replace("-", "_"): v for name, v in profile.get("defaults", {}).items()}
        if unknown := sorted(defaults.keys() - _settings(root.command, root)):
            raise click.UsageError(
                f"profile {value!r}: no option is called {unknown[0]!r}, which its defaults name."
            )
        root.meta[_META + ".defaults"] = defaults
    return value


def _settings(command: click.Command, ctx: click.Context) -> set[str]:
    """The names of all options of a command and those below it, as a profile writes them."""
    found = {param.setting for param in command.params if isinstance(param, Option)}
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            if (inner := command.get_command(ctx, name)) is not None:
                found |= _settings(inner, ctx)
    return found


def _program_option(*names: str, **attrs: Any) -> Option:
    attrs.setdefault("callback", _keep)
    return Option(list(names), expose_value=False, **attrs)


def program_options() -> list[click.Parameter]:
    """The options that every command takes, wherever they stand on the line."""
    return [
        _program_option(
            "--profile",
            metavar="HANDLE",
            is_eager=True,
            callback=_keep_profile,
            help="Use this profile of ~/.config/copper/config.toml.",
        ),
        _program_option(
            "--enterprise-id", "--enterprise_id", metavar="ID", help="Partner whose data is asked."
        ),
        _program_option(
            "--csv-output-file",
            metavar="PATH",
            type=click.Path(dir_okay=False),
            help="Write the table to this CSV file, within --output-dir if that is given.",
        ),
        _program_option(
            "--output-dir",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of what is written.  [default: generated for per-meter files]",
        ),
        _program_option(
            "--format",
            "output_format",
            type=click.Choice(FORMATS),
            default="table",
            help="What stdout shows.  [default: table]",
        ),
        _program_option("--quiet", is_flag=True, help="Leave the table out of stdout."),
        _program_option(
            "--raw-cells", is_flag=True, help="Leave CSV cells that look like formulas as they are."
        ),
        _program_option(
            "--query-limit",
            metavar="N",
            type=click.IntRange(1, 100_000),
            default=1000,
            help="Rows a page in lists.  [default: 1000]",
        ),
        _program_option(
            "--quota",
            metavar="LIMITS",
            help="Calls your contract allows.  [default: 100/h,1000/d]",
        ),
        _program_option(
            "--reserve",
            metavar="N",
            type=click.IntRange(min=0),
            default=0,
            help="Calls of the quota to leave for others.",
        ),
        _program_option(
            "--wait/--no-wait",
            default=True,
            help="Wait for a spent quota, or end with exit code 5.  [default: wait]",
        ),
        _program_option(
            "--cache/--no-cache",
            default=True,
            help="Reuse answers as long as the cloud allows.  [default: cache]",
        ),
        _program_option(
            "--timeout",
            metavar="SECONDS",
            type=click.FloatRange(0, min_open=True),
            default=60.0,
            help="Give up on a silent server after this long.  [default: 60]",
        ),
        _program_option(
            "--jobs",
            metavar="N",
            type=click.IntRange(1, 64),
            default=8,
            help="Calls in flight at once.  [default: 8]",
        ),
        _program_option("--color/--no-color", default=None, help="Colour and moving progress."),
        _program_option("--debug", is_flag=True, help="Tell of each call on stderr; no secrets."),
        _program_option(
            "--sandbox", is_flag=True, help="Run on a local cloud of made-up data: no credentials."
        ),
    ]


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

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options first, the program's after them."""
        _format_sections(self, ctx, formatter)


class ProgramGroup(click.Group):
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
            raise click.UsageError(f"no command {name!r} in {ctx.command_path}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def _format_sections(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    own: list[tuple[str, str]] = []
    program: list[tuple[str, str]] = []
    program_names = {p.name for p in program_options()}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            (program if param.name in program_names else own).append(record)
    sections = (("Options", own), ("Program options (before or after the command)", program))
    for title, records in sections:
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
