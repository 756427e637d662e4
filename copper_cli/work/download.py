"""Many files into one folder: what is there stays, what fails is told, nothing is mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from copper_cli.errors import (
    CloudError,
    CopperError,
    CredentialsError,
    LocalError,
    QuotaSpentError,
    UnreachableError,
    UsageError,
)
from copper_cli.files.reasons import local_errors
from copper_cli.filling import FINAL_S, TO_COME_S, Gap, Unfilled, count_unfilled, open_gaps
from copper_cli.folders.draft import discard_draft, draft_name, draft_path, find_drafts
from copper_cli.folders.manifest import Entry, Folder, Question, State, Verdict
from copper_cli.records import Window
from copper_cli.work.context import FINISHING, Context, Output
from copper_cli.work.interrupt import Interruption, catch_interrupt
from copper_cli.work.outcome import Cost, Outcome
from copper_cli.work.parallel import run_parallel

_REFUSALS_IN_A_ROW = 3
"""So many meters refused for want of permission, or without a connection: the job is hopeless."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be, made from what a job fetched."""

    name: str
    """File name in the folder; may lie in a folder within it."""
    question: Question
    """What the file answers."""
    render: Callable[[Any], Iterable[str]]
    """Turns what was fetched into CSV text."""
    judge: Callable[[Any], Outcome]
    """Says whether it is empty, how many rows it has, what is unfilled."""
    timezone: str | None = None
    """IANA name of the zone whose days the file holds; None where it does not matter."""
    renew: Callable[[Path, Entry, Any], Any] | None = None
    """Puts what was fetched over the file that answered the question before, and its entry: nothing
    replaces a value. None: what was fetched replaces it."""
    inspect: Callable[[Path], Sequence[Gap]] | None = None
    """Finds the gaps of a file that an older version wrote without a word about them."""


@dataclass(frozen=True, slots=True)
class FileJob:
    """What is fetched of one meter or gateway, and the files made from it."""

    subject: str
    """Meter or gateway id."""
    windows: Sequence[Window]
    """What is asked for, as the manifest tells it."""
    fetch: Callable[[Folder, bool], Any]
    """Asks the cloud; runs in any thread. The folder holds what earlier runs wrote. True: asks
    anew for what it had no amount for, whatever the cache holds."""
    cost: Callable[[bool], Cost]
    """What that would cost; no call is made. True: look how much of it the cache holds."""
    parts: Sequence[Part]
    """The files, mostly one."""
    draft: str | None = None
    """Name of the file whose draft keeps what is fetched until the files are whole."""
    known: Outcome | None = None
    """What became of it, where that is known without asking; None: it is to be fetched."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A job that is to be done, and the parts that are."""

    job: FileJob
    parts: list[Part]
    anew: bool
    """It was answered before, and asking again may bring more."""


def download_files(
    context: Context, output: Output, jobs: Sequence[FileJob], noun: str = "meters"
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
        Folder.open(output.folder, wait_s=output.lock_wait_s) as folder,
    ):
        download = _Download(context, folder, interruption)
        pending = download.find_pending(jobs, output)
        context.progress.start(noun, len(pending))
        download.run(pending)
        download.end(sum(len(job.parts) for job in jobs if job.known is None))
    return [download.outcomes[part.name] for job in jobs for part in job.parts]


def failed_job(subject: str, files: Iterable[tuple[str, Question]], error: CopperError) -> FileJob:
    """A meter of which it is known beforehand that nothing can be asked, and why.

    Files that earlier runs wrote for the same questions are kept.
    """

    def fetch(folder: Folder, anew: bool) -> Any:
        raise error

    def never(got: Any) -> Any:
        raise AssertionError("nothing was fetched")

    parts = [Part(name, question, never, never) for name, question in files]
    return FileJob(subject, (), fetch, lambda look: Cost(0, 0), parts)


def start_check(context: Context, output: Output, jobs: Sequence[FileJob]) -> None:
    """Say that the jobs' files are looked for: to read thousands of them takes a while.

    Raises UsageError where one of them is the file of the command's table.
    """
    output.refuse_table(part.name for job in jobs for part in job.parts)
    phase = f"checking {output.folder.name or output.folder}/"
    context.progress.start("files", sum(len(job.parts) for job in jobs), phase)


class _Download:
    """One download into a folder as it goes on."""

    def __init__(self, context: Context, folder: Folder, interruption: Interruption) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._context = context
        self._folder = folder
        self._interruption = interruption
        self._ending: CopperError | None = None
        self._refused = 0

    def find_pending(self, jobs: Sequence[FileJob], output: Output) -> list[_Pending]:
        """The jobs with the parts that are not yet there; those that failed before come last."""
        pending = []
        drafts = find_drafts(self._folder.path)
        for job in jobs:
            parts, anew = [], False
            for part in job.parts:
                kept = self._known(job, part, output)
                self._context.progress.advance()
                if isinstance(kept, Outcome):
                    self.outcomes[part.name] = kept
                else:
                    parts.append(part)
                    anew = anew or output.recheck or is_answered(kept)
            if parts:
                pending.append(_Pending(job, parts, anew))
            elif drafts and job.draft and draft_name(job.draft) in drafts:
                self._discard_draft(job)  # a run was killed between its last file and this
        # Else three meters without permission would keep every run from those behind them.
        return sorted(pending, key=self._has_failed)

    def _known(self, job: FileJob, part: Part, output: Output) -> Outcome | Verdict:
        """The outcome of a part that needs no call; else what a run finds under its name.

        Raises UsageError for a file that must not be replaced.
        """
        verdict, entry = judge_part(self._context, self._folder, part, output)
        if job.known is not None:
            return self._note_known(part, job.known)
        if verdict == "changed":
            self._context.progress.say(f"{part.name} is not as it was written; fetching it anew.")
        if verdict == "missing":
            self._context.progress.say(
                f"{part.name} is gone from {self._folder.path}; fetching it anew."
            )
        return verdict if entry is None else _kept(self._context, job.subject, part, entry)

    def _note_known(self, part: Part, known: Outcome) -> Outcome:
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

    def run(self, pending: Sequence[_Pending]) -> None:
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
        safe = sum(1 for outcome in self.outcomes.values() if outcome.file)
        self._context.progress.say(
            f"{safe} of {parts} files are safe on disk. The same command goes on from here."
        )

    def _take(self, one: _Pending, result: Callable[[], _Counted | _Failed]) -> None:
        """Write what a job brought, or note why it ended."""
        job = one.job
        try:
            fetched = result()
        except CancelledError:
            return  # it was waiting when the run was ended
        except QuotaSpentError as error:
            self._ending = error
            return
        self._note_refusals(fetched)
        for part in one.parts:
            self.outcomes[part.name] = _finish(self._context, self._folder, job, part, fetched)
        if isinstance(fetched, _Counted):
            self._discard_draft(job)
        self._context.progress.advance()

    def _discard_draft(self, job: FileJob) -> None:
        if job.draft is not None:
            discard_draft(draft_path(self._folder.path, job.draft))

    def _has_failed(self, one: _Pending) -> bool:
        """True where an earlier run tried in vain."""
        entries = [self._folder.state_of(part.name) for part in one.parts]
        return any(entry is not None and entry.state == "failed" for entry in entries)

    def _is_stopping(self) -> bool:
        return self._interruption.requested or self._ending is not None

    def _fetch(self, one: _Pending) -> _Counted | _Failed:
        """What a job brings, or why it brings nothing; what ends the whole run is raised."""
        asked_utc = self._context.now_utc()
        before = self._context.counter.calls()
        try:
            got = one.job.fetch(self._folder, one.anew)
        except (CredentialsError, CloudError) as error:
            return _Failed(error, self._context.counter.calls() - before)
        return _Counted(got, self._context.counter.calls() - before, asked_utc)

    def _note_refusals(self, fetched: _Counted | _Failed) -> None:
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


def is_answered(verdict: Verdict) -> bool:
    """True where the question was answered before, and is asked again for what may have come."""
    return verdict in ("complete", "to come")


def judge_part(
    context: Context, folder: Folder, part: Part, output: Output
) -> tuple[Verdict, Entry | None]:
    """What lies under a part's name, and its entry where it need not be asked for.

    Raises UsageError for a file that must not be replaced.
    """
    verdict = folder.check(part.name, part.question)
    if verdict in ("other question", "stranger") and not output.overwrite:
        raise UsageError(folder.refuse_message(part.name, part.question))
    entry = folder.state_of(part.name)
    if entry is None or not is_answered(verdict):
        return verdict, None
    entry = _inspect(context, folder, part, entry)
    is_open = entry.is_due(context.now()) or (output.recheck and not entry.whole)
    return verdict, None if is_open else entry


def _inspect(context: Context, folder: Folder, part: Part, entry: Entry) -> Entry:
    """With the buckets without an amount, where an older version did not note them.

    Once nothing more is expected the folder notes them for good.
    """
    is_noted = entry.asked_utc is not None or entry.sha256 is None or entry.state != "fetched"
    if part.inspect is None or is_noted:
        return entry
    now_s = context.now()
    path = folder.path / part.name
    gaps = part.inspect(path)
    entry = replace(entry, gaps=tuple(open_gaps(gaps, now_s)), unfilled=count_unfilled(gaps, now_s))
    ends_s = [window.end_utc.timestamp() for window in entry.windows]
    if not ends_s or max(ends_s) > now_s - FINAL_S:
        return entry
    with local_errors(path, "read"):
        written_utc = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    entry = replace(entry, asked_utc=written_utc)
    folder.amend(part.name, entry)
    return entry


def _kept(context: Context, subject: str, part: Part, entry: Entry) -> Outcome:
    """The outcome of a part that an earlier run has done."""
    has_file = entry.sha256 is not None
    return Outcome(
        subject,
        "kept" if has_file else "empty" if entry.state == "empty" else "to come",
        file=part.name if has_file else None,
        rows=entry.rows,
        unfilled=_told(entry.state, entry.unfilled_at(context.now())),
        sum_energy=entry.facts.get("sum_energy"),
        reason=entry.reason if entry.state == "empty" else None,
    )


def _told(state: str, unfilled: Unfilled) -> Unfilled:
    """What a person is told of: of an `empty` one only what may still come."""
    return replace(unfilled, missing=0) if state == "empty" else unfilled


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was fetched, what it cost, and when it was asked for."""

    got: Any
    calls: int
    asked_utc: datetime


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why nothing was fetched, and what that cost."""

    error: CopperError
    calls: int


def _finish(
    context: Context, folder: Folder, job: FileJob, part: Part, fetched: _Counted | _Failed
) -> Outcome:
    """Write what came, or note what failed."""
    entry = Entry(part.question, job.subject, "failed", windows=tuple(job.windows))
    if isinstance(fetched, _Failed):
        failed = replace(entry, reason=str(fetched.error), calls=fetched.calls)
        folder.record(part.name, failed)
        error = fetched.error
        return Outcome(job.subject, "failed", reason=str(error), lasting=error.lasting)
    got, has_file = fetched.got, _has_file(folder, part)
    if part.renew is not None and has_file and is_same_zone(folder, part):
        before = folder.state_of(part.name)
        assert before is not None
        got = part.renew(folder.path / part.name, before, got)
    outcome = part.judge(got)
    entry = replace(entry, **_account(outcome, part, context.now()), calls=fetched.calls)
    entry = replace(entry, asked_utc=fetched.asked_utc.replace(microsecond=0))
    outcome = replace(outcome, unfilled=entry.unfilled)
    if outcome.state == "empty":
        folder.record(part.name, entry)
        return replace(outcome, unfilled=_told("empty", entry.unfilled))
    if outcome.state == "to come":
        folder.record(part.name, entry)
        return outcome
    folder.write(part.name, part.render(got), entry)
    return replace(outcome, file=part.name)


def is_same_zone(folder: Folder, part: Part) -> bool:
    """False where a meter's zone has changed since its file was written."""
    entry = folder.state_of(part.name)
    return entry is None or entry.facts.get("timezone", part.timezone) == part.timezone


def _account(outcome: Outcome, part: Part, now_s: float) -> dict[str, Any]:
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


def _has_file(folder: Folder, part: Part) -> bool:
    """True where there is a file of ours, as it was written, that answers the same question."""
    entry = folder.state_of(part.name)
    verdict = folder.check(part.name, part.question)
    return verdict in ("complete", "to come", "failed") and bool(entry and entry.sha256)
