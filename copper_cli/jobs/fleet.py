"""The fleet as jobs need it: which meters, at which premise, in which zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from copper_cli.errors import CopperError, QuotaSpentError, UsageError
from copper_cli.jobs.context import FINISHING, Context
from copper_cli.jobs.interrupt import catch_interrupt
from copper_cli.jobs.parallel import run_parallel, run_together
from copper_cli.records import Meter, Premise


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


One = TypeVar("One", bound=_Identified)
T = TypeVar("T")


def choose(known: Sequence[One], wanted: Sequence[str], noun: str) -> list[One]:
    """Those of `known` whose id is wanted, in the cloud's order; all when none is named.

    Raises UsageError for an id that is not there, with the closest ones.
    """
    if not wanted:
        return list(known)
    ids = {one.id for one in known}
    for name in wanted:
        if name not in ids:
            raise UsageError(_no_such(name, known, noun))
    return [one for one in known if one.id in wanted]


def _no_such(name: str, known: Iterable[_Identified], noun: str) -> str:
    by_id = {one.id: one for one in known}
    close = get_close_matches(name, list(by_id), n=3, cutoff=0.5)
    kinds = {i: getattr(by_id[i], "type", None) or getattr(by_id[i], "model", None) for i in close}
    named = ", ".join(f"{i} ({kinds[i]})" if kinds[i] else i for i in close)
    if named:
        hint = f"Closest: {named}."
    else:
        hint = f"It has {len(by_id)} {noun}s, none with an id like it."
    return f"no {noun} {name} in this enterprise. {hint}"


def sort_premises(premises: Iterable[Premise]) -> list[Premise]:
    """Oldest first, as the reports list them; those without a date last."""
    return sorted(premises, key=lambda p: (p.created_at is None, p.created_at or ""))


def read_zone(name: str | None) -> ZoneInfo | None:
    """The zone of this name; None for no name or one that this machine does not know."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, caught below
        return None
    except KeyError:
        return None


def fetch_meters_and_zones(context: Context, forced: ZoneInfo | None) -> tuple[list[Meter], Zones]:
    """All meters without their history, and the zone of each: that which is forced, or its own."""
    fetch_meters = partial(context.client.fetch_meters, with_history=False)
    if forced is not None:
        return fetch_meters(), Zones(context, forced)
    meters, premises = run_together(context, fetch_meters, context.client.fetch_premises)
    return meters, Zones(context, premises=premises)


class Zones:
    """The zone of each meter: the one asked for, else its premise's, else its location's."""

    def __init__(
        self,
        context: Context,
        forced: ZoneInfo | None = None,
        *,
        premises: Iterable[Premise] = (),
    ) -> None:
        self._context = context
        self._forced = forced
        self._premises: Mapping[str, Premise] = {premise.id: premise for premise in premises}

    def of(self, meter: Meter) -> ZoneInfo:
        """The meter's zone. A `location` call only where its premise is mute.

        Raises UsageError where the cloud knows no zone.
        """
        if self._forced is not None:
            return self._forced
        premise = self._premises.get(meter.premise_id or "")
        zone = read_zone(premise.timezone if premise else None)
        zone = zone or read_zone(self._context.client.fetch_timezone(meter.id))
        if zone is None:
            raise UsageError(f"the cloud knows no time zone of meter {meter.id}; give --timezone.")
        return zone


def ask_each(
    context: Context, asked: Sequence[tuple[Meter, T]], ask: Callable[[tuple[Meter, T]], float]
) -> tuple[dict[str, float], list[tuple[Meter, CopperError]]]:
    """A number for each meter by its id, and those that failed with the reason.

    Raises QuotaSpentError, and KeyboardInterrupt at Ctrl-C even while calls wait for the quota.
    """
    found: dict[str, float] = {}
    failed: list[tuple[Meter, CopperError]] = []
    context.progress.start("meters", len(asked))
    with catch_interrupt(
        context.session.cancel, partial(context.progress.say, FINISHING)
    ) as interruption:
        results = run_parallel(asked, ask, context.jobs, lambda: interruption.requested)
        for (meter, _), result in results:
            context.progress.advance()
            try:
                found[meter.id] = result()
            except QuotaSpentError:
                results.close()  # no thread may go on when the session is closed
                raise
            except CancelledError:
                continue  # it was waiting when Ctrl-C came
            except CopperError as error:
                failed.append((meter, error))
    if interruption.requested:
        raise KeyboardInterrupt
    return found, failed


def created_by(meters: Iterable[Meter], instant: datetime) -> list[Meter]:
    """Meters that existed before `instant`; one without a date is taken to."""
    return [m for m in meters if m.created_utc is None or m.created_utc < instant]


def padded_postal_code(premise: Premise | None) -> str | None:
    """The postal code with its leading zeros, five digits wide."""
    if premise is None or not premise.postal_code:
        return None
    return premise.postal_code.rjust(5, "0")
