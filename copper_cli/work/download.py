"""Many files into one folder: what is there stays, what fails is told, nothing is mixed.

Of each meter the archive is asked what it lacks, the cloud for that, and the files are made of
what the archive then holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from copper_cli.errors import (
    CloudError,
    CopperError,
    CredentialsError,
    LocalError,
    QuotaSpentError,
    UnreachableError,
    UsageError,
)
from copper_cli.filling import FINAL_S, TO_COME_S, Unfilled, count_unfilled, open_gaps
from copper_cli.folders.manifest import Entry, Folder, Question, State, Verdict
from copper_cli.records import Window
from copper_cli.work.context import FINISHING, Context, Output
from copper_cli.work.held_rows import View
from copper_cli.work.interrupt import Interruption, catch_interrupt
from copper_cli.work.outcome import Cost, Outcome
from copper_cli.work.parallel import run_parallel

T = TypeVar("T")

_SHOW_S = 1.0
_SHOW_COST = 20
"""So many times as long as it took is waited until files take their names again."""
_REFUSALS_IN_A_ROW = 3
"""So many meters refused for want of permission, or without a connection: the job is hopeless."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One file to be, made from what the archive holds of a job."""

    name: str
    """File name in the folder; may lie in a folder within it."""
    question: Question
    """What the file answers."""
    render: Callable[[T], Iterable[str]]
    """Turns what is held into CSV text."""
    judge: Callable[[T], Outcome]
    """Says whether it is empty, how many rows it has, what is unfilled."""
    timezone: str | None = None
    """IANA name of the zone whose days the file holds; None where it does not matter."""


@dataclass(frozen=True, slots=True)
class FileJob(Generic[T]):
    """What is asked of one meter or gateway, and the files made of it."""

    subject: str
    """Meter or gateway id."""
    windows: Sequence[Window]
    """What is asked for, as the manifest tells it."""
    view: View
    """What of the archive the files show."""
    fetch: Callable[[], T]
    """Asks the cloud for what the archive lacks, and brings what it then holds; in any thread."""
    cost: Callable[[], Cost]
    """What that would cost; no call is made."""
    parts: Sequence[Part[T]]
    """The files, mostly one."""
    held_cost: Callable[[], Cost] | None = None
    """The same where all of it is known to be held, which is found sooner."""
    known: Outcome | None = None
    """What became of it, where that is known without asking; None: it is to be fetched."""


@dataclass(frozen=True, slots=True)
class _Pending(Generic[T]):
    """A job that is to be done, and the parts that are."""

    job: FileJob[T]
    parts: list[Part[T]]


def download_files(
    context: Context, output: Output, jobs: Sequence[FileJob[T]], noun: str = "meters"
) -> list[Outcome]:
    """The outcome of each part of each job, in their order.

    A file that already answers its question is kept. Raises UsageError before any call where
    a file answers another question or is nobody's (and not `output.overwrite`), LocalError
    for the disk, CredentialsError where one meter after the other is refused. A meter that
    fails does not stop the others. Where the quota is spent and not waited for, or at Ctrl-C,
    what is in flight is still written; then QuotaSpentError or KeyboardInterrupt is raised.
    """
    start_check(context, output, jobs)
    with (
        catch_interrupt(
            context.session.cancel, partial(context.progress.say, FINISHING)
        ) as interruption,
        open_folder(context, output) as folder,
    ):
        download = _Download[T](context, folder, interruption)
        with context.archive.glance():
            pending = download.find_pending(jobs, output)
        context.archive.expect([key for one in pending for key in one.job.view.series()])
        context.progress.start(noun, len(pending))
        with _shown_soon(folder):
            download.run(pending)
        download.end(sum(len(job.parts) for job in jobs if job.known is None))
    publish_rows(context)
    return [download.outcomes[part.name] for job in jobs for part in job.parts]


def publish_rows(context: Context, *, force: bool = False) -> None:
    """Publish the rows that wait, where they are many; what cannot be is told and ends nothing.

    `force`: however few.
    """
    if not (force or context.archive.is_much_waiting()):
        return
    context.progress.start("", 0, "publishing months")
    try:
        problems = context.archive.publish(force=force)
    except LocalError as error:
        problems = [f"{error} What was fetched is kept, and published by a later run."]
    for problem in problems:
        context.progress.say(problem)


@contextmanager
def _shown_soon(folder: Folder) -> Iterator[None]:
    """Files take their names a second after they are made, also while the quota is waited for."""
    ended, failures = threading.Event(), list[LocalError]()

    def show() -> None:
        pause_s = _SHOW_S
        while not ended.wait(pause_s):
            begun_s = time.monotonic()
            try:
                folder.flush()
            except LocalError as error:  # what was staged is gone: the run must not go on as if not
                failures.append(error)
                return
            pause_s = max(_SHOW_S, _SHOW_COST * (time.monotonic() - begun_s))

    thread = threading.Thread(target=show, name="copper-folder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


def open_folder(context: Context, output: Output) -> Folder:
    """The folder for this run alone; what was put in order there is told."""
    folder = Folder.open(output.folder, stamps=context.archive)
    for notice in folder.notices:
        context.progress.say(notice)
    return folder


def failed_job(
    context: Context, subject: str, files: Iterable[tuple[str, Question]], error: CopperError
) -> FileJob[Any]:
    """A meter of which it is known beforehand that nothing can be asked, and why.

    Files that earlier runs wrote for the same questions are kept.
    """

    def fetch() -> Any:
        raise error

    def never(got: Any) -> Any:
        raise AssertionError("nothing was fetched")

    parts = [Part(name, question, never, never) for name, question in files]
    return FileJob(subject, (), View(context.archive, ()), fetch, lambda: Cost(0), parts)


def start_check(context: Context, output: Output, jobs: Sequence[FileJob[T]]) -> None:
    """Say that the jobs' files are looked for: to read thousands of them takes a while.

    Raises UsageError where one of them is the file of the command's table.
    """
    output.refuse_table(part.name for job in jobs for part in job.parts)
    phase = f"checking {output.folder.name or output.folder}/"
    context.progress.start("files", sum(len(job.parts) for job in jobs), phase)


class _Download(Generic[T]):
    """One download into a folder as it goes on."""

    def __init__(self, context: Context, folder: Folder, interruption: Interruption) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._context = context
        self._folder = folder
        self._interruption = interruption
        self._ending: CopperError | None = None
        self._refused = 0

    def find_pending(self, jobs: Sequence[FileJob[T]], output: Output) -> list[_Pending[T]]:
        """The jobs with the parts that are not yet there; those that failed before come last."""
        pending: list[_Pending[T]] = []
        replaced: list[str] = []
        for job in jobs:
            parts = []
            for part in job.parts:
                kept = self._known(job, part, output, replaced)
                self._context.progress.advance()
                if kept is None:
                    parts.append(part)
                else:
                    self.outcomes[part.name] = kept
            if parts:
                pending.append(_Pending(job, parts))
        if replaced:
            self._context.progress.say(
                self._folder.range_message(replaced, jobs[0].parts[0].question)
            )
        # Else three meters without permission would keep every run from those behind them.
        return sorted(pending, key=self._has_failed)

    def _known(
        self, job: FileJob[T], part: Part[T], output: Output, replaced: list[str]
    ) -> Outcome | None:
        """The outcome of a part that needs no work.

        Raises UsageError for a file that must not be replaced.
        """
        verdict, entry = judge_part(self._context, self._folder, job, part, output)
        if job.known is not None:
            return self._note_known(part, job.known)
        if verdict == "changed":
            self._context.progress.say(f"{part.name} is not as it was written; writing it anew.")
        if verdict == "missing":
            self._context.progress.say(
                f"{part.name} is gone from {self._folder.path}; writing it anew."
            )
        if verdict == "other range":
            replaced.append(part.name)
        return None if entry is None else _kept(self._context, job.subject, part, entry)

    def _note_known(self, part: Part[T], known: Outcome) -> Outcome:
        """Have the manifest say what needs no call; a file that is there stays."""
        before = self._folder.state_of(part.name)
        has_rows = before is not None and before.rows > 0 and _has_file(self._folder, part)
        if before is not None and has_rows and known.state == "empty":
            return _kept(self._context, known.subject, part, before)
        state: State = "failed" if known.state == "failed" else "empty"
        entry = Entry(part.question, known.subject, state, reason=known.reason)
        if before is None or replace(before, sha256=None) != entry:
            self._folder.record(part.name, entry)
        return known

    def run(self, pending: Sequence[_Pending[T]]) -> None:
        """Fetch and write, until all is done or something ends it."""
        parts = len(self.outcomes) + sum(len(one.parts) for one in pending)
        results = run_parallel(pending, self._fetch, self._context.jobs, self._is_stopping)
        try:
            for one, result in results:
                self._take(one, result)
        except KeyboardInterrupt:
            raise  # the second Ctrl-C waits for nothing
        except BaseException as error:
            if isinstance(error, LocalError):
                self._say_safe(parts)
            # Calls that wait for the quota would hold up what ended the run, perhaps for hours.
            self._context.session.cancel()
            results.close()
            raise

    def end(self, parts: int) -> None:
        """Raise what ended it early, after saying what is safe."""
        if self._ending is None and not self._interruption.requested:
            return
        failed = [(o.subject, o.reason) for o in self.outcomes.values() if o.state == "failed"]
        for subject, reason in dict.fromkeys(failed):
            self._context.progress.say(f"{subject} failed: {reason}")
        self._say_safe(parts)
        if self._ending is not None:
            raise self._ending
        raise KeyboardInterrupt

    def _say_safe(self, parts: int) -> None:
        with suppress(LocalError):  # what ended the run is what the user must hear
            self._folder.flush()
        files = [outcome.file for outcome in self.outcomes.values() if outcome.file]
        safe = sum(1 for name in files if (self._folder.path / name).exists())
        self._context.progress.say(
            f"{safe} of {parts} files are safe on disk. The same command goes on from here."
        )

    def _take(self, one: _Pending[T], result: Callable[[], _Counted[T] | _Failed]) -> None:
        """Write what a job brought, or note why it ended."""
        try:
            fetched = result()
        except CancelledError:
            return  # it was waiting when the run was ended
        except QuotaSpentError as error:
            self._ending = error
            return
        self._note_refusals(fetched)
        for part in one.parts:
            self.outcomes[part.name] = _finish(self._context, self._folder, one.job, part, fetched)
        self._context.progress.advance()

    def _has_failed(self, one: _Pending[T]) -> bool:
        """True where an earlier run tried in vain."""
        entries = [self._folder.state_of(part.name) for part in one.parts]
        return any(entry is not None and entry.state == "failed" for entry in entries)

    def _is_stopping(self) -> bool:
        return self._interruption.requested or self._ending is not None

    def _fetch(self, one: _Pending[T]) -> _Counted[T] | _Failed:
        """What a job brings, or why it brings nothing; what ends the whole run is raised."""
        before = self._context.counter.calls()
        try:
            got = one.job.fetch()
        except (CredentialsError, CloudError) as error:
            return _Failed(error, self._context.counter.calls() - before)
        return _Counted(got, self._context.counter.calls() - before)

    def _note_refusals(self, fetched: _Counted[T] | _Failed) -> None:
        """End the run where one meter after the other is refused, or finds no cloud."""
        error = fetched.error if isinstance(fetched, _Failed) else None
        if not isinstance(error, (CredentialsError, UnreachableError)):
            self._refused = 0
            return
        self._refused += 1
        if self._refused == _REFUSALS_IN_A_ROW:
            self._ending = error
            # Those that wait for the quota would only be refused too.
            self._context.session.cancel()


def judge_part(
    context: Context, folder: Folder, job: FileJob[T], part: Part[T], output: Output
) -> tuple[Verdict, Entry | None]:
    """What lies under a part's name, and its entry where nothing is to be done for it.

    Raises UsageError for a file that must not be replaced.
    """
    verdict = folder.check(part.name, part.question)
    if verdict in ("other question", "stranger") and not output.overwrite:
        raise UsageError(folder.refuse_message(part.name, part.question))
    entry = folder.state_of(part.name)
    if entry is None or verdict not in ("complete", "to come") or output.asking.fresh:
        return verdict, None
    if not _is_current(context, job, part, entry, output):
        return verdict, None
    return verdict, entry


def _is_current(
    context: Context, job: FileJob[T], part: Part[T], entry: Entry, output: Output
) -> bool:
    """True where an entry says all that can be known now."""
    if part.timezone not in (None, entry.facts.get("timezone", part.timezone)):
        return False  # the meter's zone has changed since
    now_s, asking, view = context.now(), output.asking, job.view
    is_open = entry.is_due(now_s) or (asking.recheck and not entry.whole)
    if entry.archive is not None and view.is_at(entry.archive):
        return not (is_open and view.lacks(asking, now_s))
    if entry.archive is not None and view.is_of(entry.archive):
        return False  # what is held is another thing now, or is to be asked for again
    # Written from another archive, or by a version without one: what it says of itself counts,
    # unless this archive has it all.
    return not is_open and view.lacks(asking, now_s)


def _kept(context: Context, subject: str, part: Part[T], entry: Entry) -> Outcome:
    """The outcome of a part that an earlier run has done."""
    has_file = entry.sha256 is not None
    return Outcome(
        subject,
        "kept" if has_file else "empty" if entry.state == "empty" else "to come",
        file=part.name if has_file else None,
        rows=entry.rows,
        unfilled=_told(entry.state, entry.unfilled_at(context.now())),
        sum_energy=entry.facts.get("sum_energy"),
        sum_from=entry.sum_from,
        reason=entry.reason if entry.state == "empty" else None,
    )


def _told(state: str, unfilled: Unfilled) -> Unfilled:
    """What a person is told of: of an `empty` one only what may still come."""
    return replace(unfilled, missing=0) if state == "empty" else unfilled


@dataclass(frozen=True, slots=True)
class _Counted(Generic[T]):
    """What is held of a job, and what it cost."""

    got: T
    calls: int


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why nothing was fetched, and what that cost."""

    error: CopperError
    calls: int


def _finish(
    context: Context, folder: Folder, job: FileJob[T], part: Part[T], fetched: _Counted[T] | _Failed
) -> Outcome:
    """Write what came, or note what failed."""
    entry = Entry(part.question, job.subject, "failed", windows=tuple(job.windows))
    if isinstance(fetched, _Failed):
        failed = replace(entry, reason=str(fetched.error), calls=fetched.calls)
        folder.record(part.name, failed)
        error = fetched.error
        return Outcome(job.subject, "failed", reason=str(error), lasting=error.lasting)
    state = job.view.state()  # before it is read: what comes meanwhile makes the file an older one
    outcome = part.judge(fetched.got)
    asked_s = job.view.asked_s()
    asked_utc = datetime.fromtimestamp(int(context.now() if asked_s is None else asked_s), UTC)
    entry = replace(
        entry,
        **_account(outcome, part, context.now()),
        calls=fetched.calls,
        asked_utc=asked_utc,
        archive=state,
        sum_from=outcome.sum_from,
    )
    outcome = replace(outcome, unfilled=entry.unfilled)
    if outcome.state == "empty":
        folder.record(part.name, entry)
        return replace(outcome, unfilled=_told("empty", entry.unfilled))
    if outcome.state == "to come":
        folder.record(part.name, entry)
        return outcome
    folder.write(part.name, part.render(fetched.got), entry)
    return replace(outcome, file=part.name)


def _account(outcome: Outcome, part: Part[T], now_s: float) -> dict[str, Any]:
    """What the manifest says of an outcome."""
    facts = {"sum_energy": outcome.sum_energy, "timezone": part.timezone}
    counted = count_unfilled(outcome.gaps, now_s)
    youngest_s = max((gap.until_s for gap in outcome.gaps), default=-inf)
    state: State = "fetched"
    if outcome.state == "empty":
        state = "empty"
    elif youngest_s > now_s - TO_COME_S:
        state = "to come"
    elif youngest_s > now_s - FINAL_S:
        state = "late"
    return {
        "state": state,
        "rows": outcome.rows,
        "unfilled": counted + outcome.unfilled,
        "gaps": tuple(open_gaps(outcome.gaps, now_s)),
        "whole": outcome.whole and not outcome.gaps and outcome.unfilled == Unfilled(),
        "facts": {name: value for name, value in facts.items() if value is not None},
    }


def _has_file(folder: Folder, part: Part[T]) -> bool:
    """True where there is a file of ours, as it was written, that answers the same question."""
    entry = folder.state_of(part.name)
    verdict = folder.check(part.name, part.question)
    return verdict in ("complete", "to come", "failed") and bool(entry and entry.sha256)
