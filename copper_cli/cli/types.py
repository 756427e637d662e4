"""Parameter types: what a value may be, and what is said when it may not."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import click

from copper_cli.cli.dates import FIRST_YEAR, LAST_YEAR

LEAST_MEMORY_MB = 64
"""Questions need some to begin with."""


class MonthType(click.ParamType[date]):
    """A month, YYYY-MM; its first day."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The month's first day; fails with one line for anything else."""
        if isinstance(value, date):
            return value
        found = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", value)
        if not found or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
            self.fail(f"{value!r} is not a month like 2021-09 (YYYY-MM).", param, ctx)
        return date(int(found[1]), int(found[2]), 1)


class ZoneType(click.ParamType[Any]):
    """A time zone by its IANA name, in any case."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The zone; fails with the closest names for an unknown one."""
        from zoneinfo import ZoneInfo, available_timezones

        from copper_cli.config import strip_pasted

        if not isinstance(value, str):
            return value
        # By the list, not by what can be opened: `localtime` is this machine's zone, and those
        # below `posix/` and `right/` are copies under names that nobody else knows.
        names = {name.lower(): name for name in available_timezones() - {"localtime", "Factory"}}
        wanted = strip_pasted(value).lower()
        if wanted not in names:
            self.fail(
                f"{value!r} is not a zone of the IANA list. {_hint(wanted, names)}", param, ctx
            )
        return ZoneInfo(names[wanted])


def _hint(wanted: str, names: Mapping[str, str]) -> str:
    """The zones closest to an unknown one."""
    from difflib import get_close_matches

    close = [names[one] for one in get_close_matches(wanted, names, n=3, cutoff=0.6)]
    return f"Closest: {', '.join(close)}." if close else "Try America/Denver or UTC."


class IdType(click.ParamType[str]):
    """An id as the cloud writes it, without what came along when it was pasted."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id; fails for what none can be."""
        from copper_cli.config import strip_pasted

        text = strip_pasted(value)
        if not text or not text.isprintable():
            self.fail(f"{value!r} is not an id, such as 07:57277300.", param, ctx)
        return text


class PathType(click.Path):
    """A path that is not empty: an unset variable in quotes is one that is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does; fails for what no file or folder can be called."""
        if not os.fspath(value) or "\0" in os.fspath(value):
            self.fail(f"{value!r} is no path.", param, ctx)
        return super().convert(value, param, ctx)


class SecondsType(click.FloatRange):
    """Seconds from a thousandth to a day."""

    name = "number of seconds from 0.001 to 86400"

    def __init__(self) -> None:
        super().__init__(0.001, 86400)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does; fails for nan too, which is in no range and out of none."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return found


class CountType(click.IntRange):
    """A whole number from one to another."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(least, most)
        self.name = f"whole number from {least} to {most}"  # click says that it is not a valid one


class DurationType(click.ParamType[int]):
    """How long something is, `30m`, `2h`, `2d`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds; fails with one line for anything else."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
        if not found:
            self.fail(f"{value!r} is not a duration like 30m, 2h or 2d.", param, ctx)
        return int(found[1]) * {"m": 60, "h": 3600, "d": 86400}[found[2]]


class MemoryType(click.ParamType[str]):
    """So much memory, such as 2GB."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as DuckDB takes it; fails for less than questions need."""
        found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) *([MGT])B?", str(value).strip(), re.I)
        factor = {"M": 1, "G": 1000, "T": 1_000_000}
        if not found or float(found[1]) * factor[found[2].upper()] < LEAST_MEMORY_MB:
            self.fail(f"{value!r} is no amount of memory like 512MB or 4GB.", param, ctx)
        return f"{found[1]}{found[2].upper()}B"


class QuotaType(click.ParamType[str]):
    """Limits such as 100/h,1000/d, as text."""

    name = "limits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; UsageError for anything else."""
        from copper_cli.config import parse_quota

        parse_quota(value)
        return str(value)


MONTH = MonthType()
DURATION = DurationType()
ZONE = ZoneType()
ID = IdType()
