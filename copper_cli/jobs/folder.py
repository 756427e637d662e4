"""Many files into one folder: what is there stays, what fails is told, nothing is mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from copper_cli.errors import CloudError, CredentialsError, UsageError
from copper_cli.jobs.context import Context, Output
from copper_cli.jobs.outcome import Outcome
from copper_cli.jobs.parallel import run_parallel
from copper_cli.records import Window
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
    fetch: Callable[[], Any]
    """Asks the cloud; runs in any thread."""
    parts: Sequence[Part]
    """The files, mostly one."""


def download_files(
    context: Context, output: Output, jobs: Sequence[FileJob], noun: str = "meters"
) -> list[Outcome]:
    """The outcome of each part of each job, in their order.

    A file that already answers its question is kept. Raises UsageError before any call where
    a file answers another question or is nobody's (and not `output.overwrite`), LocalError
    for the disk, CredentialsError where one meter after the other is refused. A meter that
    fails does not stop the others.
    """
    outcomes: dict[str, Outcome] = {}
    with Folder.open(output.folder, wait_s=output.lock_wait_s) as folder:
        pending: list[tuple[FileJob, list[Part]]] = []
        for job in jobs:
            open_parts = []
            for part in job.parts:
                kept = _keep(context, folder, job, part, output.overwrite)
                if kept is None:
                    open_parts.append(part)
                else:
                    outcomes[part.name] = kept
            if open_parts:
                pending.append((job, open_parts))
        context.progress.start(noun, len(pending))
        refused = 0
        for (job, parts), result in run_parallel(pending, _fetch_counted(context), context.jobs):
            try:
                fetched: _Counted | _Failed = result()
                refused = 0
            except (CloudError, CredentialsError) as error:
                fetched = _Failed(error)
                refused = refused + 1 if isinstance(error, CredentialsError) else 0
            for part in parts:
                outcomes[part.name] = _finish(folder, job, part, fetched)
            if refused == _REFUSALS_IN_A_ROW and isinstance(fetched, _Failed):
                raise fetched.error
            context.progress.advance()
        context.progress.stop()
    return [outcomes[part.name] for job in jobs for part in job.parts]


def _keep(
    context: Context, folder: Folder, job: FileJob, part: Part, overwrite: bool
) -> Outcome | None:
    """The outcome of a job that needs no call; None where it is to be done.

    Raises UsageError for a file that must not be replaced.
    """
    verdict = folder.check(part.name, part.question)
    if verdict in ("other question", "stranger") and not overwrite:
        raise UsageError(folder.refuse_message(part.name, part.question))
    if verdict == "changed":
        context.progress.say(f"{part.name} is not as it was written; fetching it anew.")
    if verdict == "missing":
        context.progress.say(f"{part.name} is gone from {folder.path}; fetching it anew.")
    entry = folder.state_of(part.name)
    if entry is None or not _is_settled(verdict, entry, context.now()):
        return None
    return Outcome(
        job.subject,
        "empty" if entry.state == "empty" else "kept",
        file=part.name if entry.sha256 else None,
        rows=entry.rows,
        to_come=entry.to_come,
        sum_energy=entry.facts.get("sum_energy"),
    )


def _is_settled(verdict: Verdict, entry: Entry, now_s: float) -> bool:
    """True where asking again could bring nothing new."""
    if verdict == "to come":
        return entry.first_to_come is not None and entry.first_to_come.timestamp() > now_s
    return verdict == "complete"


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was fetched and what it cost."""

    got: Any
    calls: int


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why nothing was fetched."""

    error: Exception


def _fetch_counted(context: Context) -> Callable[[tuple[FileJob, list[Part]]], _Counted]:
    def fetch(item: tuple[FileJob, list[Part]]) -> _Counted:
        before = context.counter.calls()
        got = item[0].fetch()
        return _Counted(got, context.counter.calls() - before)

    return fetch


def _finish(folder: Folder, job: FileJob, part: Part, fetched: _Counted | _Failed) -> Outcome:
    """Write what came, or note what failed."""
    entry = Entry(part.question, job.subject, "failed", windows=tuple(job.windows))
    if isinstance(fetched, _Failed):
        folder.record(part.name, replace(entry, reason=str(fetched.error)))
        return Outcome(job.subject, "failed", reason=str(fetched.error))
    outcome = part.judge(fetched.got)
    entry = replace(entry, calls=fetched.calls)
    if outcome.state == "empty":
        folder.record(part.name, replace(entry, state="empty"))
        return outcome
    facts = {} if outcome.sum_energy is None else {"sum_energy": outcome.sum_energy}
    first = outcome.first_to_come
    written = replace(
        entry,
        state="to come" if outcome.to_come else "fetched",
        rows=outcome.rows - outcome.to_come,
        to_come=outcome.to_come,
        first_to_come=None if first is None else datetime.fromtimestamp(first, UTC),
        facts=facts,
    )
    folder.write(part.name, part.render(fetched.got), written)
    return replace(outcome, file=part.name)
