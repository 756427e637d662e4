"""Answers of a file's calls, until the file is whole: on disk, for this run and for the next.

A meter that needs many calls may meet the end of the quota or a fault half way, and its rows may
be too many to be held at once. What its calls bring waits in a hidden file beside the one people
use, which appears only when it is whole.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from copper_cli.files.reasons import local_errors
from copper_cli.folders.spool import Head, Place, Spool
from copper_cli.records import GridSeries, Kept, Series, SeriesKind

_ENDING = ".draft"


def draft_path(folder: Path, name: str) -> Path:
    """Where the draft of a file lies, or of several that share a name."""
    return folder / draft_name(name)


def draft_name(name: str) -> str:
    """What the draft of a file is called."""
    return f".{name}{_ENDING}"


def is_draft(name: str) -> bool:
    """True for what a draft may be called."""
    return name.startswith(".") and name.endswith(_ENDING)


def find_drafts(folder: Path) -> set[str]:
    """The names of the drafts in a folder."""
    with suppress(OSError), os.scandir(folder) as found:
        return {one.name for one in found if one.name.endswith(_ENDING)}
    return set()


def discard_draft(path: Path) -> None:
    """The file is whole: nothing is left to remember. Raises LocalError."""
    with local_errors(path, "removed"):
        path.unlink(missing_ok=True)


class Draft:
    """The answers of one per-meter file's calls, each with the span it was asked for.

    They are in memory until they are saved; without a path they stay there. `question` tells
    whether an earlier run's answers are to the same question.
    """

    def __init__(self, path: Path | None = None, question: Any = None) -> None:
        self._spool = None if path is None else Spool(path, question)
        self._known: dict[tuple[SeriesKind, int], Kept] = {}
        self._waiting: list[_Answer] = []
        for head, place in self._spool.earlier() if self._spool else ():
            if head.get("settled"):
                self._remember(_Answer(head, self._spool, place=place))

    def find(self, kind: SeriesKind, start_s: int) -> Kept | None:
        """An answer known from before to a call that began at an instant."""
        return self._known.get((kind, start_s))

    def add(
        self,
        kind: SeriesKind,
        start_s: int,
        end_s: int,
        series: Series,
        *,
        settled: bool = True,
        known: bool = False,
    ) -> Kept:
        """Note the answer to a call from one instant to another.

        `settled`: nothing in it can still change, so that a later run may use it. `known`: this
        run need not ask for it, since it comes from a file that an earlier one wrote.
        """
        head = {
            "kind": kind,
            "start_s": start_s,
            "end_s": end_s,
            "rows": len(series.times_s),
            "sum_energy": series.sum_energy,
            "meter_type": series.meter_type,
            "is_filled": any(energy is not None for energy in series.energy[1:]),
            "settled": settled,
        }
        answer = _Answer(head, self._spool, series=series)
        self._waiting.append(answer)
        return self._remember(answer) if known else answer.kept()

    def save(self) -> None:
        """Have every answer on disk. Raises LocalError."""
        if self._spool is None:
            return
        while self._waiting:  # one by one: on a full disk what is down must not be set down again
            self._waiting[0].set_down()
            del self._waiting[0]

    def _remember(self, answer: _Answer) -> Kept:
        kept = answer.kept()
        self._known[answer.head["kind"], kept.start_s] = kept
        return kept


@dataclass(slots=True)
class _Answer:
    """An answer in memory or on disk."""

    head: Head
    spool: Spool | None
    series: Series | None = None
    place: Place | None = None

    def kept(self) -> Kept:
        head = self.head
        return Kept(
            start_s=head["start_s"],
            end_s=head["end_s"],
            rows=head["rows"],
            sum_energy=head["sum_energy"],
            meter_type=head["meter_type"],
            is_filled=head["is_filled"],
            load=self.load,
        )

    def load(self) -> Series:
        if self.series is not None:
            return self.series
        assert self.spool is not None
        assert self.place is not None
        times_s, energy, power, value, actual = self.spool.read(self.place)
        about = self.head["sum_energy"], self.head["meter_type"]
        return Series(times_s, energy, power, value, actual, *about)

    def set_down(self) -> None:
        assert self.spool is not None
        series = self.series
        assert series is not None
        columns = (series.times_s, series.energy, series.power, series.value, series.actual)
        (self.place,) = self.spool.append([(self.head, [list(column) for column in columns])])
        self.series = None


class GridDraft:
    """The answers to the calls of a grid download, which all its gateways share.

    `question` tells whether an earlier run's answers are to the same question.
    """

    def __init__(self, path: Path, question: Any) -> None:
        self._spool = Spool(path, question)
        self._places: dict[str, list[Place]] = {}
        self._earlier: dict[int, tuple[int, list[tuple[str, Place]]]] = {}
        waiting: list[tuple[str, Place]] = []
        last: Place | None = None
        for head, place in self._spool.earlier():
            if "gateway_id" in head:
                waiting.append((head["gateway_id"], place))
                continue
            if head["settled"]:
                self._earlier[head["start_s"]] = (head["end_s"], waiting)
            waiting, last = [], place
        if waiting:  # half an answer: it must not pass for a part of the next
            self._spool.cut(last)

    def recall(self, start_s: int, end_s: int) -> int | None:
        """Take over what an earlier run was answered from an instant on; until when it goes.

        None where there is no such answer, or it goes beyond the end.
        """
        until_s, places = self._earlier.get(start_s, (end_s + 1, []))
        if until_s > end_s:
            return None
        self._take(places)
        return until_s

    def add(
        self, start_s: int, end_s: int, answer: Mapping[str, GridSeries], *, settled: bool
    ) -> None:
        """Set down the answer to one call, by gateway. Calls ascend. Raises LocalError.

        `settled`: nothing in it can still change, so that a later run may use it.
        """
        heads: list[tuple[Head, Any]] = [
            (
                {"gateway_id": gateway_id},
                [list(found.times_us), list(found.voltage), list(found.frequency)],
            )
            for gateway_id, found in answer.items()
        ]
        # Only with its last line is the answer whole.
        heads.append(({"start_s": start_s, "end_s": end_s, "settled": settled}, None))
        *places, _ = self._spool.append(heads)
        self._take(list(zip(answer, places, strict=True)))

    def read(self, gateway_id: str, start_us: int, end_us: int) -> Iterator[GridSeries]:
        """A gateway's readings from one instant up to another, in pieces, each instant once."""
        after_us = start_us - 1
        for place in self._places.get(gateway_id, ()):
            found = GridSeries(*self._spool.read(place))
            piece = clip_grid(found, after_us + 1, end_us)
            if piece.times_us:
                after_us = piece.times_us[-1]
                yield piece

    def _take(self, places: list[tuple[str, Place]]) -> None:
        for gateway_id, place in places:
            self._places.setdefault(gateway_id, []).append(place)


def clip_grid(found: GridSeries, start_us: int, end_us: int) -> GridSeries:
    """The readings from one instant up to, not including, another."""
    first, last = bisect_left(found.times_us, start_us), bisect_left(found.times_us, end_us)
    return GridSeries(
        found.times_us[first:last], found.voltage[first:last], found.frequency[first:last]
    )
