"""The standing order of a sync, and how far each meter is, as the archive remembers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from copper_cli.archive import Archive
from copper_cli.archive.keys import storable

EXTRAS = ("readings", "baseline", "grid", "registers")
"""What may be fetched besides interval rows."""
# Ids stand in names of notes, not in their values: so `archive forget` finds them.
_ORDER, _METER, _STATE = "sync-order", "sync-order meter ", "sync "


@dataclass(frozen=True, slots=True)
class SyncOrder:
    """What is to be kept up to date."""

    since: date
    """Local midnight of this day begins it."""
    granularity: str | None = None
    """Of usage and baseline; None: no interval rows."""
    extras: tuple[str, ...] = ()
    """Of EXTRAS, in that order."""
    types: tuple[str, ...] = ()
    """Meter types; empty: all."""
    meter_ids: tuple[str, ...] | None = None
    """None: all meters of these types."""

    @property
    def what(self) -> str:
        """What is asked of each meter, as a text: `hour usage baseline readings`."""
        rows = [] if self.granularity is None else [self.granularity, "usage"]
        return " ".join([*rows, *(one for one in ("baseline", "readings") if one in self.extras)])

    @property
    def kinds(self) -> int:
        """How many kinds are asked of each meter: each is a call at least."""
        return (self.granularity is not None) + sum(
            one in self.extras for one in ("baseline", "readings")
        )

    def options(self) -> str:
        """As it is typed."""
        words = [f"--since {self.since}"]
        if self.granularity:
            words.append(f"--granularity {self.granularity}")
        if self.extras:
            words.append(f"--with {','.join(self.extras)}")
        words += [f"--type {one}" for one in self.types]
        words += [f"--meter-id {one}" for one in self.meter_ids or ()]
        return " ".join(words)


def read_order(archive: Archive) -> SyncOrder | None:
    """The standing order; None where there is none."""
    text = archive.note(_ORDER)
    if text is None:
        return None
    found = json.loads(text)
    ids = tuple(sorted(name.removeprefix(_METER) for name in archive.notes(_METER)))
    return SyncOrder(
        since=date.fromisoformat(found["since"]),
        granularity=found["granularity"],
        extras=tuple(found["extras"]),
        types=tuple(found["types"]),
        meter_ids=ids if found["named"] else None,
    )


def keep_order(archive: Archive, order: SyncOrder) -> None:
    """Make it the standing order."""
    value = {
        "since": order.since.isoformat(),
        "granularity": order.granularity,
        "extras": order.extras,
        "types": order.types,
        "named": order.meter_ids is not None,
    }
    with archive.together():
        forget_order(archive)
        for meter_id in order.meter_ids or ():
            archive.set_note(_METER + meter_id, "")
        archive.set_note(_ORDER, json.dumps(value))


def forget_order(archive: Archive) -> bool:
    """Drop the standing order; False where there is none. What was fetched stays."""
    was_there = archive.note(_ORDER) is not None
    with archive.together():
        for name in archive.notes(_METER):
            archive.set_note(name, None)
        archive.set_note(_ORDER, None)
    return was_there


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a meter is, whatever the archive holds of it."""

    what: str = ""
    """What was asked for when its newest hours were: SyncOrder.what."""
    heard_s: float | None = None
    """Its last reading as the list had it before that; None: it was never heard."""
    asked_s: float | None = None
    """When that was answered, seconds since 1970; None: never."""
    until_s: int = 0
    """Until when it was asked for."""
    first_s: float = 0.0
    """When it was first asked for."""
    tried_s: float | None = None
    """When it was last asked for, in vain or not."""
    has_failed: bool = False
    """The last time was in vain."""
    round_s: float = 0.0
    """When the last round of asking again was ended, at first when it was first asked for."""
    back_s: int | None = None
    """From here back all is still to be asked for again in the round that goes on."""

    def answered(self, what: str, heard_s: float | None, until_s: int, now_s: float) -> Progressed:
        """After its newest hours were answered."""
        first_s = now_s if self.asked_s is None else self.first_s
        return replace(
            self,
            what=what,
            heard_s=heard_s,
            asked_s=now_s,
            until_s=until_s,
            first_s=first_s,
            tried_s=now_s,
            has_failed=False,
            round_s=self.round_s or now_s,
        )

    def failed(self, now_s: float) -> Progressed:
        """After they were asked for in vain."""
        return replace(self, tried_s=now_s, has_failed=True)

    def asked_again(self, start_s: int, now_s: float, *, is_round_over: bool) -> Progressed:
        """After what is held was asked for again, from an instant on."""
        if is_round_over:
            return replace(self, round_s=now_s, back_s=None)
        return replace(self, back_s=start_s)


def read_progress(archive: Archive) -> dict[str, Progressed]:
    """How far each meter is, by its id as the archive writes it."""
    return {
        name.removeprefix(_STATE): _read(json.loads(text))
        for name, text in archive.notes(_STATE).items()
    }


def keep_progress(archive: Archive, meter_id: str, progressed: Progressed) -> None:
    """Remember how far a meter is; nothing is kept of one that was forgotten."""
    if not archive.is_forgotten(meter_id):
        archive.set_note(_STATE + meter_id, json.dumps(asdict(progressed)))


def progress_of(found: Mapping[str, Progressed], meter_id: str) -> Progressed:
    """How far one meter is."""
    return found.get(storable(meter_id), Progressed())


def _read(found: dict[str, Any]) -> Progressed:
    return Progressed(**{name: found[name] for name in Progressed.__slots__ if name in found})
