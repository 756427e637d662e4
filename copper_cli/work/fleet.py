"""The fleet as jobs need it: which meters, at which premise, in which zone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from copper_cli.errors import (
    CloudError,
    CopperError,
    CredentialsError,
    LocalError,
    NotPermittedError,
    QuotaSpentError,
    UnreachableError,
    UsageError,
    ZoneError,
)
from copper_cli.records import Meter, Premise
from copper_cli.work.context import FINISHING, Context
from copper_cli.work.interrupt import catch_interrupt
from copper_cli.work.outcome import Cost
from copper_cli.work.parallel import run_parallel, run_together


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


One = TypeVar("One", bound=_Identified)
_REFUSALS_IN_A_ROW = 3
"""Locations refused with nothing else known: the client is, and asking on wastes the quota."""

T = TypeVar("T")
R = TypeVar("R")
P = TypeVar("P")


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
    """The zone of this name; None for no name or one that this machine does not know.

    Nor for what is a name on this machine only: `localtime` would be its own zone.
    """
    if not name or name in ("localtime", "Factory") or name.startswith(("posix/", "right/")):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, caught below
        return None
    except KeyError:
        return None


def tell_days_of_utc(context: Context, premises: Iterable[Premise]) -> None:
    """Say of how many premises the days are those of UTC, since no zone of theirs is known."""
    mute = {premise.id for premise in premises if read_zone(premise.timezone) is None}
    if mute:
        count = "1 premise" if len(mute) == 1 else f"{len(mute)} premises"
        context.progress.say(f"{count} without a time zone that is known here: days are of UTC.")


def fetch_meters_and_zones(context: Context, forced: ZoneInfo | None) -> tuple[list[Meter], Zones]:
    """All meters without their history, and the zone of each: that which is forced, or its own."""
    fetch_meters = partial(context.client.fetch_meters, with_history=False)
    if forced is not None:
        return fetch_meters(), Zones(context, forced)
    meters, premises = run_together(context, fetch_meters, context.client.fetch_premises)
    return meters, Zones(context, premises=premises)


@dataclass(frozen=True, slots=True)
class Zoneless:
    """A meter that cannot be asked, since nobody knows where its days begin."""

    meter: Meter
    """Which one."""
    error: ZoneError
    """Why, and what to do."""


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
        self._located: list[str] = []
        """Meters whose location was asked for."""
        self._refused: list[NotPermittedError] = []
        """Why some of them may not be asked for."""
        self._is_permitted = False
        """Whether this client is known to be permitted some: another meter's zone is known."""

    def find(self, meters: Iterable[Meter]) -> list[tuple[Meter, ZoneInfo | ZoneError]]:
        """Each meter with its zone, or why nobody knows it.

        Where a premise is mute, the location of one of its meters is asked for, and of the next
        where that is mute too; several premises at once. A location that is refused (403) is
        the meter's matter; where all are, and no zone is known otherwise, it is the client's.
        Raises CredentialsError, QuotaSpentError, UnreachableError and LocalError, and
        KeyboardInterrupt at Ctrl-C.
        """
        meters = list(meters)
        found: dict[str, ZoneInfo | ZoneError] = {}
        mute: dict[tuple[str | None, str | None], list[Meter]] = defaultdict(list)
        for meter in meters:
            premise = self._premises.get(meter.premise_id or "")
            zone = self._forced or read_zone(premise.timezone if premise else None)
            if zone is not None:
                found[meter.id] = zone
            else:
                mute[meter.premise_id, None if meter.premise_id else meter.id].append(meter)
        self._is_permitted |= bool(found)
        if mute:
            self._context.progress.start("premises", len(mute), "asking for time zones")
            for _, located in _collect(
                self._context,
                list(mute.values()),
                self._locate,
                (QuotaSpentError, CredentialsError, LocalError, UnreachableError),
            ):
                if isinstance(located, CopperError):
                    raise located
                found |= located
        if self._refused and not self._is_permitted:
            raise self._refused[0]
        return [(meter, found[meter.id]) for meter in meters]

    def cost(self) -> Cost:
        """What the zones cost that were found so far, were they to be found again."""
        client = self._context.client
        cached = sum(client.is_timezone_cached(meter_id) for meter_id in self._located)
        return Cost(len(self._located), cached)

    def _locate(self, meters: Sequence[Meter]) -> dict[str, ZoneInfo | ZoneError]:
        """The zone of the meters of one premise, or why each of them has none."""
        errors: dict[str, ZoneInfo | ZoneError] = {}
        for meter in meters:
            try:
                zone = self._ask(meter)
            except ZoneError as error:
                errors[meter.id] = error
            else:
                return {one.id: zone for one in meters}
        return errors

    def _ask(self, meter: Meter) -> ZoneInfo:
        self._located.append(meter.id)
        try:
            name = self._context.client.fetch_timezone(meter.id)
        except NotPermittedError as error:
            self._refused.append(error)
            if len(self._refused) >= _REFUSALS_IN_A_ROW and not self._is_permitted:
                raise
            raise _no_zone(f"the time zone of meter {meter.id} cannot be had", error) from None
        except UnreachableError:
            raise
        except CloudError as error:
            self._is_permitted = True
            raise _no_zone(f"the time zone of meter {meter.id} cannot be had", error) from None
        self._is_permitted = True
        if name is None:
            raise _no_zone(f"the cloud knows no time zone of meter {meter.id}")
        zone = read_zone(name)
        if zone is None:
            raise _no_zone(f"the time zone of meter {meter.id}, {name[:40]!r}, is not known here")
        return zone


def _no_zone(claim: str, error: CopperError | None = None) -> ZoneError:
    why = f" ({str(error).rstrip('.')})" if error else ""
    return ZoneError(
        f"{claim}; give --timezone, which then holds for every meter, or leave this one out by "
        f"--meter-id of the others.{why}",
        lasting=error.lasting if error else True,
    )


def plan_each(
    zones: Zones, meters: Iterable[Meter], plan: Callable[[Meter, ZoneInfo], T]
) -> tuple[list[tuple[Meter, T]], list[Zoneless]]:
    """What is planned of each meter in its zone, and the meters that have none."""
    planned: list[tuple[Meter, T]] = []
    zoneless = []
    for meter, zone in zones.find(meters):
        if isinstance(zone, ZoneError):
            zoneless.append(Zoneless(meter, zone))
        else:
            planned.append((meter, plan(meter, zone)))
    return planned, zoneless


def with_zone(context: Context, found: Iterable[P | Zoneless]) -> list[P]:
    """Those that can be asked, for an estimate; the others are told as `tell_zoneless` does."""
    found = list(found)
    tell_zoneless(context, (one for one in found if isinstance(one, Zoneless)))
    return [one for one in found if not isinstance(one, Zoneless)]


def tell_zoneless(context: Context, zoneless: Iterable[Zoneless]) -> None:
    """Say of each meter that an estimate counts nothing of it, and why."""
    for one in zoneless:
        context.progress.say(f"{one.meter.id} is not counted: {one.error}")


def ask_each(
    context: Context, asked: Sequence[tuple[Meter, T]], ask: Callable[[tuple[Meter, T]], R]
) -> tuple[dict[str, R], list[tuple[Meter, CopperError]]]:
    """What each meter gave by its id, and those that failed with the reason.

    Raises QuotaSpentError, UnreachableError (the next meter would find no cloud either), and
    KeyboardInterrupt at Ctrl-C even while calls wait for the quota.
    """
    found: dict[str, R] = {}
    failed: list[tuple[Meter, CopperError]] = []
    context.progress.start("meters", len(asked))
    for (meter, _), number in _collect(context, asked, ask, (QuotaSpentError, UnreachableError)):
        if isinstance(number, CopperError):
            failed.append((meter, number))
        else:
            found[meter.id] = number
    return found, failed


def _collect(
    context: Context,
    items: Sequence[T],
    work: Callable[[T], R],
    ending: tuple[type[CopperError], ...],
) -> list[tuple[T, R | CopperError]]:
    """Each item with what the work gave, or the error that it raised; `ending` ones are raised."""
    found: list[tuple[T, R | CopperError]] = []
    with catch_interrupt(
        context.session.cancel, partial(context.progress.say, FINISHING)
    ) as interruption:
        results = run_parallel(items, work, context.jobs, lambda: interruption.requested)
        for item, result in results:
            context.progress.advance()
            try:
                found.append((item, result()))
            except ending:
                context.session.cancel()  # others may wait for the quota, perhaps for an hour
                results.close()  # no thread may go on when the session is closed
                raise
            except CancelledError:
                continue  # it was waiting when Ctrl-C came
            except CopperError as error:
                found.append((item, error))
    if interruption.requested:
        raise KeyboardInterrupt
    return found


def created_by(meters: Iterable[Meter], instant: datetime) -> list[Meter]:
    """Meters that existed before `instant`; one without a date is taken to."""
    return [m for m in meters if m.created_utc is None or m.created_utc < instant]


def padded_postal_code(premise: Premise | None) -> str | None:
    """The postal code with its leading zeros, five digits wide."""
    if premise is None or not premise.postal_code:
        return None
    return premise.postal_code.rjust(5, "0")
