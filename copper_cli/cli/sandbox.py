"""`copper sandbox`: a local Copper Cloud for trials, integrations and tests."""

from __future__ import annotations

import os
import shlex
import signal
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from copper_cli.cli.groups import CommandGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copper_cli.sandbox import Sandbox, SandboxConfig

SECRET_VARIABLE = "COPPER_SANDBOX_CLIENT_SECRET"  # noqa: S105  (a name, not the secret)


def _read_instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """An ISO instant with an offset; raises BadParameter."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter(
            f"{value!r} is no instant with an offset, such as 2021-02-01T07:00:00Z"
        )
    return moment


def _read_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A whole number, or 0 for the word none; raises BadParameter."""
    if value is None or value == "none":
        return 0 if value else None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a whole number nor none")
    return int(value)


@click.group(cls=CommandGroup)
def sandbox() -> None:
    """Run a local Copper Cloud with made-up or replayed data.

    \b
    Examples:
      copper sandbox serve
      copper sandbox serve --port 8765 --now 2021-02-01T07:00:00Z
    """


@sandbox.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0: a free one.")
@click.option("--premises", type=int, default=12, show_default=True, help="Size of the fleet.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same fleet.")
@click.option("--zones", metavar="A,B,C", help="Time zones, given to the premises in turn.")
@click.option(
    "--now",
    callback=_read_instant,
    metavar="INSTANT",
    help="Freeze the clock here, such as 2021-02-01T07:00:00Z.",
)
@click.option("--series", "series_dir", metavar="DIR", help="Replay the CSV files of a folder.")
@click.option(
    "--series-zone",
    metavar="ZONE",
    help="Zone of replayed meters (UTC unless given), and of times without an offset.",
)
@click.option(
    "--series-unit",
    "series_units",
    multiple=True,
    metavar="[FILE=]UNIT",
    help="Unit of the values of replayed files, such as therm or my-file.csv=therm.",
)
@click.option("--latency-ms", type=float, default=0, help="Wait before each answer.")
@click.option(
    "--quota",
    default="100/h,1000/d",
    show_default=True,
    help="Calls a client id may make in each sliding window (s, m, h, d); none: no limit.",
)
@click.option("--no-retry-after", is_flag=True, help="429 does not say how long to wait.")
@click.option(
    "--max-age",
    callback=_read_seconds,
    metavar="SECONDS|none",
    help="Cache-Control max-age; 60, app API 900, unless given.",
)
@click.option(
    "--token-ttl", type=int, default=86400, show_default=True, help="Seconds a token is good for."
)
@click.option("--max-span", metavar="hour=31d,minute=1d", help="Refuse longer windows with 400.")
@click.option("--cap-rows", type=int, help="Give only the first rows of an answer, silently.")
@click.option("--max-page", type=int, help="Entries a page of the other lists, at most.")
@click.option(
    "--late",
    multiple=True,
    metavar="[METER=]DAYS",
    help="Days until a bucket is filled, such as 3, 36h or 07:1552395084=3.",
)
@click.option("--next-page", type=int, default=1000, help="Entries a page of bulk, grid/latest.")
@click.option(
    "--missing-emails",
    type=int,
    default=1,
    show_default=True,
    help="Requests for users that are answered before all emails are there.",
)
@click.option(
    "--quirk",
    "quirks",
    multiple=True,
    help="absent-buckets, aligned-buckets, capped-sum, raw-last-reading or rotate-refresh-token.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SETTINGS",
    help="Something that goes wrong, such as status=500,path=/usage,times=2.",
)
@click.option("--log", "log_file", metavar="FILE", help="Note each request as a line of JSON.")
@click.option("--client-id", default="sandbox-client", show_default=True, help="Who gets tokens.")
@click.option(
    "--enterprise-id", default="sandbox-enterprise", show_default=True, help="Whose data it is."
)
@click.pass_context
def serve(ctx: click.Context, /, **options: Any) -> None:
    """Serve a local Copper Cloud until Ctrl-C, and print the variables to export.

    The fleet is made up from the seed, or replays real series: files `*.csv` or `*.csv.gz` with
    the header `start,value`. The archive exported is this fleet's own, in the cache folder. Kinds
    of faults: status, reset, cut, cut-chunked, hang, revoke, html, cut-json, fewer-rows, redirect.
    The client secret is sandbox-secret unless the variable COPPER_SANDBOX_CLIENT_SECRET holds
    another.

    \b
    Examples:
      copper sandbox serve > sandbox.env &
      copper sandbox serve --premises 100000 --quota none --log requests.jsonl
      copper sandbox serve --series tests/data/series --series-zone America/Chicago
      copper sandbox serve --fault 'status=503,path=/usage,times=2,retry_after=1'
      copper sandbox serve --fault 'kind=reset,path=meter/.*/usage,skip=3'
    """
    if options["series_dir"] and _is_typed(ctx, ("premises", "zones")):
        raise click.UsageError("--series makes the fleet; leave --premises and --zones out")
    if not options["series_dir"] and _is_typed(ctx, ("series_zone", "series_units")):
        raise click.UsageError("--series-zone and --series-unit need --series DIR")
    _run(_make_config(options))


def _is_typed(ctx: click.Context, names: Sequence[str]) -> bool:
    """Whether one of the options was given rather than left to its default."""
    source = click.core.ParameterSource.DEFAULT
    return any(ctx.get_parameter_source(name) is not source for name in names)


def _make_config(options: dict[str, Any]) -> SandboxConfig:
    """The options as a configuration; raises UsageError with one line."""
    from copper_cli.sandbox import ConfigError, SandboxConfig
    from copper_cli.sandbox.config import DEFAULT_ZONES, parse_max_span

    zones, max_span, max_age = (options.pop(key) for key in ("zones", "max_span", "max_age"))
    options["retry_after"] = not options.pop("no_retry_after")
    options["quirks"] = frozenset(options["quirks"])
    if options["quota"] == "none":
        options["quota"] = None
    if max_age is not None:
        options.update(max_age=max_age, app_max_age=max_age)
    if SECRET_VARIABLE in os.environ:
        options["client_secret"] = os.environ[SECRET_VARIABLE]
    try:
        return SandboxConfig(
            **options,
            zones=tuple(zones.split(",")) if zones else DEFAULT_ZONES,
            max_span=parse_max_span(max_span) if max_span else {},
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _run(config: SandboxConfig) -> None:
    """Serves until Ctrl-C or a request to terminate; raises LocalError when it cannot start."""
    cloud = _start(config)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        variables = cloud.environment()
        last = variables.popitem()
        variables |= {"COPPER_ARCHIVE": str(_find_archive(config)), **dict([last])}
        exports = [f"export {n}={shlex.quote(v)}" for n, v in variables.items()]
        # in one piece: whoever waits for the last of them finds them all
        click.echo("\n".join(exports))
        fleet = cloud.fleet
        for line in fleet.notices:
            click.echo(line, err=True)
        click.echo(
            f"A local Copper Cloud serves {_count(fleet.premise_count, 'premise')}, "
            f"{_count(fleet.meter_count, 'meter')} and {_count(fleet.gateway_count, 'gateway')} "
            f"at {cloud.url} until Ctrl-C.",
            err=True,
        )
        _wait()
    except KeyboardInterrupt:
        click.echo(f"Stopped after {_count(cloud.calls, 'call')}.", err=True)
        for line in cloud.faults.tell_unfired():
            click.echo(line, err=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        cloud.stop()


def _find_archive(config: SandboxConfig) -> Path:
    """A folder for what is fetched from such a fleet: two of them share host and enterprise.

    It is named by what decides the fleet's rows, not by the clock: time goes on, rows stay.
    """
    from copper_cli.config import cache_dir
    from copper_cli.files.mending import SANDBOX_FOLDER
    from copper_cli.files.names import short_digest

    if config.series_dir is None:
        fleet = [str(config.premises), str(config.seed), *config.zones]
    else:
        folder = str(Path(config.series_dir).resolve())
        fleet = [folder, str(config.seed), config.series_zone or "UTC", *config.series_units]
    name = short_digest(config.enterprise_id, *sorted(config.quirks), "", *fleet)
    return (cache_dir() / SANDBOX_FOLDER / name).absolute()


def _start(config: SandboxConfig) -> Sandbox:
    from copper_cli.errors import LocalError
    from copper_cli.sandbox import ConfigError, Sandbox
    from copper_cli.sandbox.series import NoSeriesError, SeriesError

    try:
        return Sandbox(config).start()
    except (ConfigError, NoSeriesError) as error:
        raise click.UsageError(str(error)) from None
    except SeriesError as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        if config.log_file and error.filename == str(Path(config.log_file)):
            what = f"cannot write the log {config.log_file}: name another file"
        else:
            what = f"cannot serve on port {config.port}: choose another --port"
        raise LocalError(f"{what} ({error.strerror})") from None


def _wait() -> None:
    from threading import Event

    Event().wait()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
