"""What every job works with, and how it says how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from copper_cli.errors import UsageError

if TYPE_CHECKING:
    from copper_cli.archive import Archive
    from copper_cli.cloud.client import CloudClient
    from copper_cli.cloud.session import CloudSession
    from copper_cli.cloud.spans import SpanBook

DEFAULT_FOLDER = Path("generated")
"""Where per-meter and per-gateway files go without --output-dir."""
FINISHING = "Finishing the calls in flight. Ctrl-C again ends at once."
"""Said where that takes a while."""


class Progress(Protocol):
    """Told how a job goes on; shows it or not."""

    def start(self, noun: str, total: int, phase: str = "") -> None:
        """`total` things called `noun` (meters, days) are to be done; 0: nobody knows how many.

        `phase` names what is done with them (`zipping`) where the command's name does not.
        """

    def advance(self) -> None:
        """One of them is done."""

    def say(self, text: str) -> None:
        """A line a person should see now."""


class Silent:
    """Progress that nobody watches."""

    def start(self, noun: str, total: int, phase: str = "") -> None:
        """Nothing is shown."""

    def advance(self) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


class CallCounter:
    """Counts the calls of each thread, so that every file knows what it cost."""

    def __init__(self) -> None:
        self._local = threading.local()

    def add(self) -> None:
        """A call left this machine from this thread."""
        self._local.calls = self.calls() + 1

    def calls(self) -> int:
        """Calls of this thread so far."""
        return getattr(self._local, "calls", 0)


class DataEnds:
    """Up to where the cloud was seen to have data in this run, by granularity.

    Some clouds leave out what they have not got yet, and an answer that ends early may also have
    been cut short. Where one was asked to its end, others that end no earlier need not be: what is
    missing at their ends is to come.
    """

    def __init__(self) -> None:
        self._earliest_s: dict[str, int] = {}

    def note(self, granularity: str, last_s: int) -> None:
        """A call for what comes after this row brought nothing."""
        self._earliest_s[granularity] = min(last_s, self._earliest_s.get(granularity, last_s))

    def reach(self, granularity: str, last_s: int) -> bool:
        """True where an answer that ends with this row ends no earlier than one without more."""
        return last_s >= self._earliest_s.get(granularity, last_s + 1)


@dataclass(frozen=True, slots=True)
class Asking:
    """How much of what is held already is asked for again."""

    recheck: bool = False
    """All that is null, absent or empty."""
    fresh: bool = False
    """All of it."""


@dataclass(frozen=True, slots=True)
class Context:
    """The cloud, the archive, the clock and the watcher of one run."""

    client: CloudClient
    """One method an endpoint."""
    session: CloudSession
    """Counts calls and knows what is cached."""
    spans: SpanBook
    """How long a span the cloud allows, by granularity."""
    now: Callable[[], float]
    """Seconds since 1970, UTC."""
    sleep: Callable[[float], None]
    """Waits that many seconds."""
    progress: Progress
    """Who watches."""
    archive: Archive
    """What the cloud has answered so far."""
    jobs: int = 1
    """Calls in flight at once."""
    counter: CallCounter = field(default_factory=CallCounter)
    """Counts each thread's calls."""
    ends: DataEnds = field(default_factory=DataEnds)
    """Up to where the cloud has data."""

    def now_utc(self) -> datetime:
        """The clock's instant."""
        return datetime.fromtimestamp(self.now(), UTC)

    def today(self) -> datetime:
        """The clock's instant in the machine's own zone."""
        return self.now_utc().astimezone()


@dataclass(frozen=True, slots=True)
class Output:
    """Where a download's files go and how they look."""

    folder: Path = DEFAULT_FOLDER
    """Per-meter and per-gateway files, with their manifest."""
    overwrite: bool = False
    """Replace files that answer another question."""
    asking: Asking = Asking()
    """What is asked for again."""
    raw_cells: bool = False
    """Leave cells that a spreadsheet would run as they are."""
    table: Path | None = None
    """The file that the command's table goes to; no other file may be it."""

    def refuse_table(self, names: Iterable[str]) -> None:
        """UsageError where the table's file is one of these in the folder, which the job writes."""
        from copper_cli.files.names import find_clash

        if self.table and (name := find_clash(self.table, self.folder, names)) is not None:
            raise UsageError(
                f"--csv-output-file is {self.folder / name}, which this command writes itself; "
                "give it another name."
            )
