"""copper sync."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from copper_cli.buckets import BUCKET_S
from copper_cli.cli.dates import START
from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import DRY_RUN, option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ID, CountType
from copper_cli.errors import QuotaSpentError, UsageError

if TYPE_CHECKING:
    from copper_cli.archive import Archive
    from copper_cli.work.sync_order import SyncOrder

EXTRAS = ("readings", "baseline", "grid", "registers")
_EXAMPLE = "copper sync --since 2024-01-01 --granularity hour --keep"


class SinceType(click.ParamType[date]):
    """A date, YYYY-MM-DD, or the first day of a month."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date; fails for days that are another one tomorrow."""
        found = START.convert(value, param, ctx)
        if not isinstance(found, date):
            self.fail(f"{value} is another day tomorrow; write a date like 2024-01-01.", param, ctx)
        return found


class ExtrasType(click.ParamType[tuple[str, ...]]):
    """Some of EXTRAS, by commas."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Them in their order; fails for anything else."""
        if isinstance(value, tuple):
            return value
        wanted = [one.strip() for one in value.split(",") if one.strip()]
        for one in wanted:
            if one not in EXTRAS:
                self.fail(f"{one!r} is none of {', '.join(EXTRAS)}.", param, ctx)
        return tuple(one for one in EXTRAS if one in wanted)


class LengthType(click.ParamType[timedelta]):
    """How long: 8h, 90m, 1d."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """It; fails for anything else."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value)
        if not found:
            self.fail(f"{value!r} is no length of time like 8h, 90m or 1d.", param, ctx)
        return int(found[1]) * {"m": _MINUTE, "h": _HOUR, "d": _DAY}[found[2]]


class TimeOfDayType(click.ParamType[tuple[int, int]]):
    """A time of day, HH:MM."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Hour and minute; fails for anything else."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", value)
        if not found:
            self.fail(f"{value!r} is no time of day like 06:00.", param, ctx)
        return int(found[1]), int(found[2])


_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@click.command(cls=ProgramCommand)
@option("--since", type=SinceType(), metavar="DATE", help="First day of what is kept.")
@option("--granularity", type=click.Choice(tuple(BUCKET_S)), help="Of usage and baseline.")
@option(
    "--with",
    "extras",
    type=ExtrasType(),
    metavar="LIST",
    help="Besides usage, by commas: readings, baseline, grid, registers.",
)
@option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    help="Only meters of this type; may be given several times.",
)
@option(
    "--meter-id",
    metavar="ID",
    type=ID,
    multiple=True,
    help="Only this meter; may be given several times.",
)
@option("--keep", is_flag=True, help="Remember this as the standing order.")
@option("--show", is_flag=True, help="Show the standing order; makes no call.")
@option("--forget-order", is_flag=True, help="Drop the standing order; makes no call.")
@option("--calls", metavar="N", type=CountType(1, 10**9), help="Make no more calls than this.")
@option(
    "--for", "length", type=LengthType(), metavar="LENGTH", help="End after this long: 8h, 90m."
)
@option(
    "--stop-at",
    type=TimeOfDayType(),
    metavar="HH:MM",
    help="End at this time of day, of this machine.",
)
@DRY_RUN
@pass_run
def sync(
    run: Run,
    *,
    keep: bool,
    show: bool,
    forget_order: bool,
    dry_run: bool,
    calls: int | None,
    length: timedelta | None,
    stop_at: tuple[int, int] | None,
    **typed: Any,
) -> None:
    """Bring the archive up to date within the quota: newest hours, then history, then all again.

    What is to be kept is the standing order, which --keep remembers; other options hold for this
    run. What the quota does not allow goes on next time.

    \b
    Examples:
      copper sync --since 2024-01-01 --granularity hour --keep
      copper sync --dry-run
      copper sync --quiet --reserve 100 --stop-at 06:00
    """
    from copper_cli.jobs.sync import SyncRequest, estimate_sync
    from copper_cli.jobs.sync import sync as sync_all

    if show or forget_order:
        _tend_order(run, drop=forget_order)
        return
    run.write_hourly()
    archive = run.context().archive
    order, is_typed = _find_order(archive, **typed)
    until_s = _find_end(datetime.now().astimezone(), length, stop_at)
    request = SyncRequest(order, is_typed, calls, until_s)
    if dry_run:
        run.screen.show_estimate(estimate_sync(run.context(), request))
        return
    if keep:
        _keep(run, archive, order)
    table = sync_all(run.context(), request)
    run.screen.show(table)
    if not table.facts["failed"] and table.facts["left"] and not run.waits:
        run.screen.tell(table)
        raise QuotaSpentError(
            f"{table.facts['left']:,} calls of what is due are left for the next run.",
            resume_at_utc=run.context().now_utc(),
        )
    run.screen.finish(table)


def _find_order(
    archive: Archive,
    *,
    since: date | None,
    granularity: str | None,
    extras: tuple[str, ...] | None,
    types: Sequence[str],
    meter_id: Sequence[str],
) -> tuple[SyncOrder, bool]:
    """The standing order with what was typed put over it; whether meters were typed."""
    from dataclasses import replace

    from copper_cli.work.sync_order import SyncOrder, read_order

    order = read_order(archive)
    if order is None and since is None:
        raise UsageError(
            f"there is no standing order yet. Say what is to be kept, such as: {_EXAMPLE}"
        )
    if order is None:
        assert since is not None
        order = SyncOrder(since)
    if since is not None:
        order = replace(order, since=since)
    if granularity is not None:
        order = replace(order, granularity=granularity)
    if extras is not None:
        order = replace(order, extras=extras)
    if types:
        order = replace(order, types=tuple(types))
    if meter_id:
        order = replace(order, meter_ids=tuple(meter_id))
    if order.granularity is None and (not order.extras or "baseline" in order.extras):
        raise UsageError(f"--granularity is missing: of which rows? Such as: {_EXAMPLE}")
    return order, bool(meter_id)


def _find_end(
    now: datetime, length: timedelta | None, stop_at: tuple[int, int] | None
) -> float | None:
    """The earlier of both ends, seconds since 1970."""
    ends = []
    if length is not None:
        ends.append((now + length).timestamp())
    if stop_at is not None:
        # By the clock on the wall, also over a clock change.
        today = now.replace(tzinfo=None, second=0, microsecond=0)
        at = today.replace(hour=stop_at[0], minute=stop_at[1])
        if at <= now.replace(tzinfo=None):
            at += _DAY
        ends.append(at.astimezone().timestamp())
    return min(ends, default=None)


def _keep(run: Run, archive: Archive, order: SyncOrder) -> None:
    from copper_cli.work.sync_order import keep_order

    keep_order(archive, order)
    run.say(f"Standing order: copper sync {order.options()}")
    if archive.is_temporary:
        run.say("This archive ends with the run, and the order with it.")


def _tend_order(run: Run, *, drop: bool) -> None:
    """Show the standing order, or drop it."""
    from copper_cli.jobs.archive import tend_order

    order = tend_order(*run.archive_place(), drop=drop)
    if drop:
        run.say("There is none." if order is None else "The standing order is dropped.")
    elif order is None:
        click.echo(f"No standing order. Such as: {_EXAMPLE}")
    else:
        click.echo(f"copper sync {order.options()}")
