"""copper meter: status, usage, baseline-series, average-series, readings, checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from copper_cli.buckets import GRANULARITIES
from copper_cli.cli.dates import END_MIDNIGHT, LAST_DAY, START, Day, settle_range
from copper_cli.cli.groups import ProgramGroup
from copper_cli.cli.options import DRY_RUN, download_options, option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import ID, ZONE, CountType
from copper_cli.errors import UsageError
from copper_cli.layouts import LAYOUTS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from copper_cli.records import SeriesKind


@click.group(cls=ProgramGroup)
def meter() -> None:
    """Download what meters measured, and check on them."""


def _series_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all interval downloads take."""
    for add in reversed(
        (
            click.argument("start", type=START),
            click.argument("end", type=END_MIDNIGHT),
            option(
                "--meter-id",
                "meter_ids",
                metavar="ID",
                type=ID,
                multiple=True,
                help="Only this meter; may be given several times.",
            ),
            option(
                "--granularity",
                type=click.Choice(GRANULARITIES),
                default="hour",
                show_default=True,
                help="Length of a row.",
            ),
            option(
                "--timezone",
                type=ZONE,
                metavar="ZONE",
                help="Cut days here, not in each meter's own zone.",
            ),
            option(
                "--step",
                metavar="DAYS",
                type=CountType(1, 36600),
                help="Ask for windows of that many days, not for as long ones as the cloud allows.",
            ),
            option(
                "--derive",
                is_flag=True,
                help="Add longer buckets up from hours that the archive holds whole: no call.",
            ),
            option(
                "--layout",
                type=click.Choice(LAYOUTS),
                default="rows",
                show_default=True,
                help="Look of the per-meter files; docs/csv.md explains them.",
            ),
            download_options,
        )
    ):
        command = add(command)
    return command


def _download(
    run: Run,
    kind: SeriesKind,
    start: Day,
    end: Day,
    meter_ids: tuple[str, ...],
    timezone: ZoneInfo | None,
    step: int | None,
    overwrite: bool,
    recheck: bool,
    fresh: bool,
    dry_run: bool,
    **rest: Any,
) -> None:
    from copper_cli.jobs.interval import download_series, estimate_series
    from copper_cli.work.derived_rows import DERIVABLE
    from copper_cli.work.meter_series import SeriesRequest

    first, last = settle_range(run, start, end, one_day=False, zone=timezone, meter_ids=meter_ids)
    if rest["derive"] and rest["granularity"] not in DERIVABLE:
        raise UsageError(f"--derive adds up {', '.join(DERIVABLE)}; leave it out.")
    request = SeriesRequest(
        kind, first, last, zone=timezone, meter_ids=meter_ids, step_days=step, **rest
    )
    run.download(
        download_series,
        estimate_series,
        request,
        overwrite=overwrite,
        recheck=recheck,
        fresh=fresh,
        dry_run=dry_run,
    )


@meter.command()
@_series_options
@option("--baseline", is_flag=True, help="Add each meter's baseline series to its file.")
@pass_run
def usage(run: Run, **options: Any) -> None:
    """Download interval usage from midnight START to midnight END, one CSV file a meter.

    \b
    Examples:
      copper meter usage 2020-12-22 2021-01-12 --granularity hour
      copper meter usage -7d today --output-dir last-week
      copper meter usage 2021-01-01 2022-01-01 --meter-id 07:57277300 --granularity day
    """
    _download(run, "usage", **options)


@meter.command(name="baseline-series")
@_series_options
@pass_run
def baseline_series(run: Run, **options: Any) -> None:
    """Download the baseline that the cloud expects of each meter, one CSV file a meter.

    \b
    Example:
      copper meter baseline-series 2020-12-22 2021-01-12
    """
    _download(run, "baseline-series", **options)


@meter.command(name="average-series")
@_series_options
@pass_run
def average_series(run: Run, **options: Any) -> None:
    """Download the average of meters alike, one CSV file a meter.

    \b
    Example:
      copper meter average-series 2020-12-22 2021-01-12 --granularity day
    """
    _download(run, "average-series", **options)


@meter.command()
@option("--detailed", is_flag=True, help="Add address, city and postal code.")
@option(
    "--with-ids", is_flag=True, help="Show the premise's id in the table and CSV, as JSON does."
)
@pass_run
def status(run: Run, detailed: bool, with_ids: bool) -> None:
    """Show every meter with its newest reading, also those not heard lately.

    \b
    Example:
      copper meter status --detailed --csv-output-file generated/output.csv
    """
    from copper_cli.jobs.listing import list_meter_status

    table = list_meter_status(run.context(), detailed=detailed, with_ids=with_ids)
    run.screen.show(table, "meters")
    if table.facts["unverified"]:
        run.say(f"{table.facts['unverified']} values marked ? may not be in the standard unit.")
    run.screen.complete()


@meter.command()
@click.argument("start", type=START)
@click.argument("end", type=LAST_DAY)
@option("--meter-id", "meter_ids", metavar="ID", type=ID, multiple=True, help="Only this meter.")
@option("--timezone", type=ZONE, metavar="ZONE", help="Cut days here, not in the meter's zone.")
@option("--latest", is_flag=True, help="Keep only the last reading of the range.")
@download_options
@pass_run
def readings(
    run: Run,
    start: Day,
    end: Day,
    meter_ids: tuple[str, ...],
    timezone: ZoneInfo | None,
    latest: bool,
    **how: bool,
) -> None:
    """Download register readings of START through END's whole day, one CSV file a meter.

    \b
    Examples:
      copper meter readings 2021-12-22 2021-12-24
      copper meter readings 2021-12-24 2021-12-24 --latest
      copper meter readings 2021-12 2021-12 --output-dir december
    """
    from copper_cli.jobs.readings import ReadingsRequest, download_readings, estimate_readings

    first, last = settle_range(run, start, end, one_day=True, zone=timezone, meter_ids=meter_ids)
    request = ReadingsRequest(first, last, timezone, meter_ids, latest)
    run.download(download_readings, estimate_readings, request, **how)


@meter.command(name="check-for-water-reversals")
@option("--check-limit", metavar="N", type=CountType(0, 10**9), help="Only the first N meters.")
@option(
    "--method",
    type=click.Choice(("summer", "winter")),
    default="summer",
    show_default=True,
    help="Which season the last 30 days were.",
)
@DRY_RUN
@pass_run
def check_for_water_reversals(
    run: Run, check_limit: int | None, method: Any, dry_run: bool
) -> None:
    """List premises whose indoor and outdoor water meters may be swapped.

    \b
    Example:
      copper meter check-for-water-reversals --method winter
    """
    from copper_cli.jobs.reversals import check_water_reversals, estimate_water_reversals

    if dry_run:
        run.screen.show_estimate(estimate_water_reversals(run.context(), check_limit=check_limit))
        return
    table = check_water_reversals(run.context(), method=method, check_limit=check_limit)
    run.screen.show(table)
    run.screen.finish(table)
