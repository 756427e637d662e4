"""Many files into one folder: what is there stays, what fails is told, nothing is mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from copper_cli.errors import (
    CloudError,
    CopperError,
    CredentialsError,
    QuotaSpentError,
    UsageError,
)
from copper_cli.jobs.context import FINISHING, Context, Output
from copper_cli.jobs.interrupt import Interruption, catch_interrupt
from copper_cli.jobs.outcome import Cost, Outcome
from copper_cli.jobs.parallel import run_parallel
from copper_cli.records import Window
from copper_cli.write.draft import discard_draft, draft_name, draft_path, find_drafts
from copper_cli.write.manifest import Entry, Folder, Question, Verdict

_REFUSALS_IN_A_ROW = 3
"""So many meters refused for want of permission, and the job is hopeless."""


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
    """Says whether it is empty, how many rows it has, what is to come."""


@dataclass(frozen=True, slots=True)
class FileJob:
    """What is fetched of one meter or gateway, and the files made from it."""

    subject: str
    """Meter or gateway id."""
    windows: Sequence[Window]
    """What is asked for, as the manifest tells it."""
    fetch: Callable[[Folder], Any]
    """Asks the cloud; runs in any thread. The folder holds what earlier runs wrote."""
    cost: Callable[[bool], Cost]
    """What that would cost; no call is made. True: look how much of it the cache holds."""
    parts: Sequence[Part]
    """The files, mostly one."""
    draft: str | None = None
    """Name of the file whose draft keeps what is fetched until the files are whole."""


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
        pending = download.find_pending(jobs, overwrite=output.overwrite)
        context.progress.start(noun, len(pending))
        download.run(pending)
        download.end(sum(len(job.parts) for job in jobs))
    return [download.outcomes[part.name] for job in jobs for part in job.parts]


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

    def find_pending(
        self, jobs: Sequence[FileJob], *, overwrite: bool
    ) -> list[tuple[FileJob, list[Part]]]:
        """The jobs with the parts that are not yet there; those that failed before come last."""
        pending = []
        drafts = find_drafts(self._folder.path)
        for job in jobs:
            parts = []
            for part in job.parts:
                kept = _keep(self._context, self._folder, job, part, overwrite)
                self._context.progress.advance()
                if kept is None:
                    parts.append(part)
                else:
                    self.outcomes[part.name] = kept
            if parts:
                pending.append((job, parts))
            elif drafts and job.draft and draft_name(job.draft) in drafts:
                self._discard_draft(job)  # a run was killed between its last file and this
        # Else three meters without permission would keep every run from those behind them.
        return sorted(pending, key=self._has_failed)

    def run(self, pending: Sequence[tuple[FileJob, list[Part]]]) -> None:
        """Fetch and write, until all is done or something ends it."""
        results = run_parallel(pending, self._fetch, self._context.jobs, self._is_stopping)
        try:
            for (job, parts), result in results:
                self._take(job, parts, result)
        except KeyboardInterrupt:
            raise  # the second Ctrl-C waits for nothing
        except BaseException:
            # Calls that wait for the quota would hold up what ended the run, perhaps for hours.
            self._context.session.cancel()
            results.close()
            raise

    def end(self, parts: int) -> None:
        """Raise what ended it early, after saying what is safe."""
        if self._ending is None and not self._interruption.requested:
            return
        safe = sum(1 for outcome in self.outcomes.values() if outcome.file)
        self._context.progress.say(
            f"{safe} of {parts} files are safe on disk. The same command goes on from here."
        )
        if self._ending is not None:
            raise self._ending
        raise KeyboardInterrupt

    def _take(self, job: FileJob, parts: Sequence[Part], result: Callable[[], _Counted]) -> None:
        """Write what a job brought, or note why it ended."""
        try:
            fetched = self._settle(result)
        except CancelledError:
            return  # it was waiting when the run was ended
        except QuotaSpentError as error:
            self._ending = error
            return
        for part in parts:
            self.outcomes[part.name] = _finish(self._folder, job, part, fetched)
        if isinstance(fetched, _Counted):
            self._discard_draft(job)
        self._context.progress.advance()

    def _discard_draft(self, job: FileJob) -> None:
        if job.draft is not None:
            discard_draft(draft_path(self._folder.path, job.draft))

    def _has_failed(self, item: tuple[FileJob, list[Part]]) -> bool:
        """True where an earlier run tried in vain."""
        entries = [self._folder.state_of(part.name) for part in item[1]]
        return any(entry is not None and entry.state == "failed" for entry in entries)

    def _is_stopping(self) -> bool:
        return self._interruption.requested or self._ending is not None

    def _fetch(self, item: tuple[FileJob, list[Part]]) -> _Counted:
        before = self._context.counter.calls()
        got = item[0].fetch(self._folder)
        return _Counted(got, self._context.counter.calls() - before)

    def _settle(self, result: Callable[[], _Counted]) -> _Counted | _Failed:
        try:
            fetched = result()
        except CredentialsError as error:
            self._refused += 1
            if self._refused == _REFUSALS_IN_A_ROW:
                self._ending = error
                # Those that wait for the quota would only be refused too.
                self._context.session.cancel()
            return _Failed(error)
        except CloudError as error:
            self._refused = 0
            return _Failed(error)
        self._refused = 0
        return fetched


def _keep(
    context: Context, folder: Folder, job: FileJob, part: Part, overwrite: bool
) -> Outcome | None:
    """The outcome of a job that needs no call; None where it is to be done.

    Raises UsageError for a file that must not be replaced.
    """
    verdict, entry = judge_part(context, folder, part, overwrite=overwrite)
    if verdict == "changed":
        context.progress.say(f"{part.name} is not as it was written; fetching it anew.")
    if verdict == "missing":
        context.progress.say(f"{part.name} is gone from {folder.path}; fetching it anew.")
    if entry is None:
        return None
    return Outcome(
        job.subject,
        "empty" if entry.state == "empty" else "kept",
        file=part.name if entry.sha256 else None,
        rows=entry.rows,
        to_come=entry.to_come,
        sum_energy=entry.facts.get("sum_energy"),
    )


def judge_part(
    context: Context, folder: Folder, part: Part, *, overwrite: bool
) -> tuple[Verdict, Entry | None]:
    """What lies under a part's name, and its entry where asking again could bring nothing new.

    Raises UsageError for a file that must not be replaced.
    """
    verdict = folder.check(part.name, part.question)
    if verdict in ("other question", "stranger") and not overwrite:
        raise UsageError(folder.refuse_message(part.name, part.question))
    if verdict not in ("complete", "to come"):
        return verdict, None
    entry = folder.state_of(part.name)
    if entry is None or entry.first_to_come is None:
        return verdict, entry
    return verdict, entry if entry.first_to_come.timestamp() > context.now() else None


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was fetched and what it cost."""

    got: Any
    calls: int


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why nothing was fetched."""

    error: Exception


def _finish(folder: Folder, job: FileJob, part: Part, fetched: _Counted | _Failed) -> Outcome:
    """Write what came, or note what failed."""
    entry = Entry(part.question, job.subject, "failed", windows=tuple(job.windows))
    if isinstance(fetched, _Failed):
        folder.record(part.name, replace(entry, reason=str(fetched.error)))
        return Outcome(job.subject, "failed", reason=str(fetched.error))
    outcome = part.judge(fetched.got)
    first = outcome.first_to_come
    first_utc = None if first is None else datetime.fromtimestamp(first, UTC)
    entry = replace(entry, calls=fetched.calls, first_to_come=first_utc)
    if outcome.state == "empty":
        folder.record(part.name, replace(entry, state="empty"))
        return outcome
    written = replace(
        entry,
        state="fetched" if first is None else "to come",
        rows=outcome.rows - outcome.to_come,
        to_come=outcome.to_come,
        facts={} if outcome.sum_energy is None else {"sum_energy": outcome.sum_energy},
    )
    folder.write(part.name, part.render(fetched.got), written)
    return replace(outcome, file=part.name)
