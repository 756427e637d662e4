"""The options of the program, and where else an option's value may come from.

Every option can also be set by an environment variable of its name (`--output-dir`:
COPPER_OUTPUT_DIR) and by a profile's `defaults`. Program options stand before or after the
command; the one nearest to the end of the line counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from copper_cli.cli.types import ID, CountType, PathType, QuotaType, SecondsType

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "csv", "json", "ndjson")

_META = "copper_cli.options"
_OTHER_VARIABLES = {
    "COPPER_API_URL",
    "COPPER_AUTH_URL",
    "COPPER_CACHE_DIR",
    "COPPER_CLIENT_ID",
    "COPPER_CLIENT_SECRET",
    "COPPER_MAX_ANSWER",
    "COPPER_SANDBOX_CLIENT_SECRET",
}
"""Those that are no option's."""
_RANKS = {
    ParameterSource.COMMANDLINE: 3,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.DEFAULT_MAP: 1,
}


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

    def check_kept(self, ctx: click.Context, kept: Any) -> None:
        """BadParameter where a value of the profile cannot be meant for this option."""
        for one in kept if self.multiple and isinstance(kept, list) else [kept]:
            kinds = (str, int) if self.is_flag else (str, int, float)
            if not isinstance(one, kinds) or (isinstance(one, bool) and not self.is_flag):
                raise click.BadParameter(f"{one!r} is of the wrong type.", ctx, self)
        self.type_cast_value(ctx, self._as_typed(kept))


def option(*names: str, **attrs: Any) -> Callable[[F], F]:
    """A command's own option, of the class above."""
    return click.option(*names, cls=Option, **attrs)


OVERWRITE = option("--overwrite", is_flag=True, help="Replace files that answer other questions.")
RECHECK = option("--recheck", is_flag=True, help="Ask again for all that is null, absent or empty.")
FRESH = option("--fresh", is_flag=True, help="Ask again for all of it, whatever is held.")
DRY_RUN = option(
    "--dry-run", is_flag=True, help="Show the calls it would take, and when it would be done."
)


def download_options(command: F) -> F:
    """What every download takes: `overwrite`, `recheck`, `fresh` and `dry_run`."""
    for add in (DRY_RUN, FRESH, RECHECK, OVERWRITE):
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


def outranks(ctx: click.Context, name: str, other: str) -> bool:
    """True where a program option comes from a stronger source than another."""
    kept: dict[str, tuple[int, Any]] = ctx.find_root().meta.setdefault(_META, {})
    return kept.get(name, (0, None))[0] > kept.get(other, (0, None))[0]


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
        defaults = {name.replace("-", "_"): v for name, v in profile.get("defaults", {}).items()}
        root = ctx.find_root()
        _check_defaults(root, f"profile {value!r}", defaults)
        root.meta[_META + ".defaults"] = defaults
    return value


def _check_defaults(root: click.Context, whose: str, defaults: Mapping[str, Any]) -> None:
    """UsageError for what no option takes, whether or not this command has it."""
    known: dict[str, list[Option]] = {}
    for one in _all_options(root):
        known.setdefault(one.setting, []).append(one)
    if unknown := sorted(defaults.keys() - known.keys()):
        raise click.UsageError(
            f"{whose}: no option is called {unknown[0]!r}, which its defaults name."
        )
    for name, kept in defaults.items():
        _check_one(f"{whose}: {name} in its defaults", known[name], root, kept)


def check_environment(ctx: click.Context) -> None:
    """UsageError for a variable of an option that this command does not have, with a bad value.

    click looks only at those of the command's own options.
    """
    own = {param.envvar for param in ctx.command.params if isinstance(param, Option)}
    rest = {
        name
        for name, value in os.environ.items()
        if name.startswith("COPPER_") and value and name not in own | _OTHER_VARIABLES
    }
    root = ctx.find_root()
    known: dict[str, list[Option]] = {}
    for one in _all_options(root) if rest else ():
        if one.envvar in rest:
            known.setdefault(one.envvar, []).append(one)
    for name, options in sorted(known.items()):
        _check_one(name, options, root, None)


def _check_one(what: str, options: list[Option], ctx: click.Context, kept: Any) -> None:
    """UsageError where no option of a name takes the value, kept or of the environment."""
    failures = []
    for one in options:
        try:
            if kept is None:
                one.type_cast_value(ctx, one.value_from_envvar(ctx))
            else:
                one.check_kept(ctx, kept)
        except click.BadParameter as failure:
            failures.append(failure)
        else:
            return
    raise click.UsageError(f"{what}: {failures[0].message}")


def _all_options(ctx: click.Context) -> Iterator[Option]:
    """Those of the whole program, also where only a branch of it is run: a profile serves both."""
    from copper_cli.cli import root

    return _options(root, ctx)


def _options(command: click.Command, ctx: click.Context) -> Iterator[Option]:
    """All options of a command and those below it that a profile and the environment can set."""
    yield from (param for param in command.params if isinstance(param, Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            if (inner := command.get_command(ctx, name)) is not None:
                yield from _options(inner, ctx)


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
            "--enterprise-id",
            "--enterprise_id",
            metavar="ID",
            type=ID,
            help="Partner whose data is asked.",
        ),
        _program_option(
            "--csv-output-file",
            metavar="PATH",
            type=PathType(dir_okay=False),
            help="Write the table to this CSV file, within --output-dir if that is given.",
        ),
        _program_option(
            "--output-dir",
            metavar="DIR",
            type=PathType(file_okay=False, path_type=Path),
            help="Folder of what is written.  [default: generated for per-meter files]",
        ),
        _program_option(
            "--archive",
            metavar="DIR",
            type=PathType(file_okay=False, path_type=Path),
            help="Where what the cloud answers is kept.  [default: a folder of the partner's own]",
        ),
        _program_option(
            "--no-archive", is_flag=True, help="Keep nothing of what the cloud answers after this."
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
            type=CountType(1, 100_000),
            default=1000,
            help="Rows a page in lists.  [default: 1000]",
        ),
        _program_option(
            "--quota",
            metavar="LIMITS",
            type=QuotaType(),
            help="Calls your contract allows.  [default: 100/h,1000/d]",
        ),
        _program_option(
            "--reserve",
            metavar="N",
            type=CountType(0, 10**9),
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
            type=SecondsType(),
            default=60.0,
            help="Give up on a silent server after this long.  [default: 60]",
        ),
        _program_option(
            "--jobs",
            metavar="N",
            type=CountType(1, 64),
            default=8,
            help="Calls in flight at once.  [default: 8]",
        ),
        _program_option(
            "--color/--no-color",
            default=None,
            help="Colour and moving progress; NO_COLOR leaves a bar without colour.",
        ),
        _program_option("--debug", is_flag=True, help="Tell of each call on stderr; no secrets."),
        _program_option(
            "--sandbox", is_flag=True, help="Run on a local cloud of made-up data: no credentials."
        ),
    ]
