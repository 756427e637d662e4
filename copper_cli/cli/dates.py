"""Days as they are typed: a date, a month, today, yesterday, -7d; and the range of two of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from copper_cli.cli.running import Run

FIRST_YEAR, LAST_YEAR = 1970, 2199

_WORDS = {"today": 0, "yesterday": 1}
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DaysAgo:
    """A day that only the zone of the meters makes a date."""

    number: int
    """0 is today."""
    typed: str
    """As it was typed: `yesterday`, `-7d`."""

    def __str__(self) -> str:
        return self.typed


Day = date | DaysAgo


class DateType(click.ParamType[Day]):
    """A day: YYYY-MM-DD, YYYY-MM, today, yesterday, -7d, and nothing looser."""

    name = "date"

    def __init__(self, use: Literal["start", "midnight", "last"]) -> None:
        self.use = use
        """What the day is: the first one, the midnight that ends the last one, or the last one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Day:
        """The day; fails with one line for anything else."""
        if isinstance(value, date | DaysAgo):
            return value
        if value in _WORDS:
            return DaysAgo(_WORDS[value], value)
        if re.fullmatch(r"-[1-9][0-9]{0,4}d", value):
            return DaysAgo(int(value[1:-1]), value)
        found = re.fullmatch(r"([0-9]{4}-(?:0[1-9]|1[0-2]))(-[0-9]{2})?", value)
        if not found:
            self.fail(
                f"{value!r} is not a date like 2020-12-22 (YYYY-MM-DD), a month like 2020-12, "
                "today, yesterday or -7d.",
                param,
                ctx,
            )
        try:
            day = date.fromisoformat(value if found[2] else f"{value}-01")
        except ValueError:
            self.fail(f"{value!r} is not a day of the calendar.", param, ctx)
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            self.fail(f"{value} lies outside {FIRST_YEAR} to {LAST_YEAR}.", param, ctx)
        return _last_of_month(day) if self.use == "last" and not found[2] else day


START = DateType("start")
END_MIDNIGHT = DateType("midnight")
"""END where its own day is not included."""
LAST_DAY = DateType("last")
"""END where its own day is included."""


def looks_like_days_ago(word: str) -> bool:
    """True for `-7d`, which begins like an option."""
    return re.fullmatch(r"-[0-9]+d", word) is not None


def takes_days(command: click.Command) -> bool:
    """True where an argument of the command is a day."""
    return any(_is_day(param) for param in command.params)


def _is_day(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument) and isinstance(param.type, DateType)


def settle_span(since: Day | None, until: Day | None) -> tuple[date | None, date | None]:
    """--since and --until as dates; today is that of this machine.

    UsageError where the one is not before the other.
    """
    today = datetime.now().astimezone().date()
    first, last = (None if day is None else _settle(day, today) for day in (since, until))
    if first and last and first >= last:
        raise click.UsageError(f"--since {since} is not before --until {until}.")
    return first, last


def explain_days(command: click.Command, formatter: click.HelpFormatter) -> None:
    """Write what each day of a command's line means, and how one is typed."""
    zone = "each gateway's premise"
    if any(param.name == "timezone" for param in command.params):
        zone = "each meter, or in --timezone"
    days = [
        (str(p.name).upper(), p.type)
        for p in command.params
        if isinstance(p.type, DateType) and _is_day(p)
    ]
    with formatter.section("Arguments"):
        formatter.write_dl([(name, _explain(kind.use, zone)) for name, kind in days])
    last = [name for name, kind in days if kind is LAST_DAY]
    month = f"; as {last[0]} its last one" if last else ""
    with formatter.section("A day is one of"):
        formatter.write_dl(
            [
                ("YYYY-MM-DD", "That date."),
                ("YYYY-MM", f"The first day of that month{month}."),
                ("today, yesterday, -7d", "By today's date there; -7d is seven days ago."),
            ]
        )


def _explain(use: str, zone: str) -> str:
    match use:
        case "start":
            return f"First day: from its midnight on, in the local time of {zone}."
        case "midnight":
            return "Ends the range at its local midnight: this day itself is not included."
        case _:
            return "Last day: it is included, up to its end in local time."


def settle_range(
    run: Run,
    start: Day,
    end: Day,
    *,
    one_day: bool,
    zone: ZoneInfo | None = None,
    meter_ids: tuple[str, ...] = (),
    premise_id: str | None = None,
    gateway_id: str | None = None,
) -> tuple[date, date]:
    """START and END as dates. Asks the cloud only where one of them depends on today.

    Raises UsageError where they do not make a range.
    """
    if isinstance(start, DaysAgo) == isinstance(end, DaysAgo):
        _check_range(start, end, one_day)  # before any call
    if not isinstance(start, DaysAgo) and not isinstance(end, DaysAgo):
        return start, end
    from copper_cli.work.today import find_today

    today = find_today(
        run.context(), zone, meter_ids=meter_ids, premise_id=premise_id, gateway_id=gateway_id
    )
    first, last = (_settle(day, today) for day in (start, end))
    _check_range(first, last, one_day)
    return first, last


def _settle(day: Day, today: date) -> date:
    if not isinstance(day, DaysAgo):
        return day
    found = today - day.number * _DAY
    if found.year < FIRST_YEAR:
        raise click.UsageError(f"{day} is {found}, which lies outside {FIRST_YEAR} to {LAST_YEAR}.")
    return found


def _check_range(start: Day, end: Day, one_day: bool) -> None:
    first, last = _order(start), _order(end)
    if first > last:
        raise click.UsageError(f"START {start} is after END {end}.")
    if first == last and not one_day:
        then = f"one day is {start} {start + _DAY}" if isinstance(start, date) else "it has no day"
        raise click.UsageError(f"START and END are both {start}; END is a midnight, so {then}.")


def _order(day: Day) -> int:
    return -day.number if isinstance(day, DaysAgo) else day.toordinal()


def _last_of_month(first: date) -> date:
    return (first + 31 * _DAY).replace(day=1) - _DAY
