"""A folder of downloads: what it holds, for which question, and what is still missing.

`manifest.json` tells it to people and programs. Files are written whole under temporary names and
take their own in batches: the manifest announces a batch, with the digests of what comes and of
what lies there, before the first file of it takes its name. So whenever a run is killed, the next
one knows its own files; what did not get its name is made again.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from copper_cli.errors import CopperError, LocalError
from copper_cli.files.names import find_clash
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import Staged, make_folder, sync_folder, write_temporary
from copper_cli.folders.contents import Contents, Stamps, holds
from copper_cli.folders.entries import (
    MANIFEST_NAME,
    Entry,
    Question,
    State,
    is_file_name,
    read_manifest,
    read_names,
    render_manifest,
)
from copper_cli.folders.lock import HOLDER_NAME, LOCK_NAME, FolderLock
from copper_cli.folders.older import (
    JOURNAL_NAME,
    STAMPS_NAME,
    find_leftovers,
    is_draft_name,
    read_stamps,
    replay_journal,
)
from copper_cli.text import clean

__all__ = ["MANIFEST_NAME", "Entry", "Folder", "Question", "Stamps", "State", "Verdict"]

Verdict = Literal[
    "new",
    "complete",
    "to come",
    "failed",
    "changed",
    "missing",
    "behind",
    "other range",
    "other question",
    "stranger",
]

_BOOKS = (MANIFEST_NAME, LOCK_NAME, HOLDER_NAME, JOURNAL_NAME, STAMPS_NAME)

_TEMPORARY_PREFIX = ".copper-folder-"
_TEMPORARY = re.compile(re.escape(_TEMPORARY_PREFIX) + r"[0-9a-f]{16}\.tmp")

_FLUSH_FILES = 256
"""So many staged files take their names, or a thirty-second of all that the folder has."""
_FLUSH_SHARE = 32
_FLUSH_S = 1.0
"""The others wait so long at most, or as long as keeps the rewriting at a few percent."""
_FLUSH_COST = 25


@dataclass(slots=True)
class _Pending:
    """What is to happen to a file when the next batch is carried out."""

    before: Entry | None
    """What the manifest said of the name."""
    staged: Staged | None = None
    """What is to take the name; None: the file is to be removed."""
    held: str | None = None
    """Digest of what is to be removed."""

    def discard(self) -> None:
        """It will not happen."""
        if self.staged is not None:
            self.staged.discard()


class Folder:
    """A folder of downloads and its manifest; one writer at a time, many threads in it.

    Open it with `Folder.open`, or for reading with `Folder.look`. It replaces what it is told
    to write, and removes only files that it wrote and nobody has changed since.
    """

    def __init__(
        self, path: Path, lock: FolderLock | None = None, stamps: Stamps | None = None
    ) -> None:
        self.path = path
        self.notices: list[str] = []
        """What a person should hear of the opening: a line each."""
        self._lock = lock
        self._mutex = threading.RLock()
        self._contents = Contents(path, stamps)
        self._entries: dict[str, Entry] = {}
        self._lines: dict[str, str] = {}  # what `render_manifest` need not render again
        self._pending: dict[str, _Pending] = {}
        self._was: dict[str, str | None] = {}
        """Announced, and not yet known to have happened: the digest of what lay there."""
        self._unsynced: set[Path] = set()
        self._is_dirty = False  # manifest.json does not say what the entries do
        self._flush_at_s = time.monotonic() + _FLUSH_S

    @classmethod
    def open(cls, path: Path, *, wait_s: float = 0, stamps: Stamps | None = None) -> Folder:
        """The folder for this run alone, made if need be; a context manager.

        What a killed run left is put in order, and what the version before left is taken over.
        Raises LocalError when another run holds it (after `wait_s`), when its manifest is not
        one of ours, or for the disk.
        """
        with local_errors(path):
            make_folder(path)
        folder = cls(path, FolderLock(path, wait_s), stamps)
        try:
            folder._load()
            folder._settle(repair=True)
            folder._sweep()
            folder._take_over()
        except BaseException:
            folder._release()
            raise
        return folder

    @classmethod
    def look(cls, path: Path, *, stamps: Stamps | None = None) -> Folder:
        """The folder as it stands, unlocked and unchanged; one that does not exist is empty.

        Raises LocalError for a manifest that is not one of ours.
        """
        folder = cls(path, None, stamps)
        folder._load()
        folder._settle(repair=False)
        return folder

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        # The folder stays whole, and what ended the run is what the user must hear.
        with suppress(CopperError):
            self.close()

    def state_of(self, name: str) -> Entry | None:
        """What the manifest says of a file name, whatever the file is like now."""
        with self._mutex:
            return self._entries.get(name)

    def names(self) -> list[str]:
        """Every file name the manifest has an entry for, sorted."""
        with self._mutex:
            return sorted(self._entries)

    def check(self, name: str, question: Question) -> Verdict:
        """What a run that asks this question finds under this name.

        `complete` (also: known to be empty), `to come` (also: late) and `failed` as the entry
        says; `new`; `missing` and `changed` where the file is not as it was written, `behind`
        where a killed run did not come to replace it: it must be written anew; `other range`
        where it is our own and differs in its range alone, so that it may be replaced;
        `other question`; `stranger` where no entry accounts for the file.

        A file counts as unchanged without being read while its size and both its times are
        those it had when its digest was known; else it is read.
        """
        with self._mutex:
            entry = self._entries.get(name)
            if name in self._pending:
                assert entry is not None
                is_there, held = entry.sha256 is not None, entry.sha256
            else:
                was = self._was.get(name)
                is_there, held = self._contents.find(name, _digest_of(entry), was)
            if not is_there or (entry and entry.sha256 is None and held):
                return _judge_absent(entry, question)
            if entry is None or entry.sha256 is None:
                return "stranger"
            if entry.question != question:
                is_ours = held is not None and entry.question.is_same_kind(question)
                return "other range" if is_ours else "other question"
            if held != entry.sha256:
                return "behind" if held else "changed"
        if entry.state == "failed":
            return "failed"
        return "to come" if entry.state in ("to come", "late") else "complete"

    def refuse_message(self, name: str, question: Question) -> str:
        """Why a run must not go on where `check` says `other question` or `stranger`."""
        remedy = "Choose another --output-dir, or --overwrite."
        path = clean(str(self.path / name))
        entry = self.state_of(name)
        if entry is None or entry.sha256 is None:
            return f"{path} is there, but {MANIFEST_NAME} does not list it. {remedy}"
        held, asked = entry.question.describe(), question.describe()
        if held == asked:
            return f"{path} holds {held}, {entry.question.describe_difference(question)}. {remedy}"
        if entry.question.is_same_kind(question):
            return f"{path} holds {held}, not {asked}, and was changed since. {remedy}"
        return f"{path} holds {held}, not {asked}. {remedy}"

    def range_message(self, names: Sequence[str], question: Question) -> str:
        """What becomes of files that `check` found to be of an `other range`, in one line."""
        with self._mutex:
            held = {self._entries[name].question for name in names}
        files = "1 file" if len(names) == 1 else f"{len(names)} files"
        first, *others = held
        of = f"other ranges of {first.command}" if others else first.describe()
        verb = "is" if len(names) == 1 else "are"
        folder = clean(self.path.name or str(self.path))
        return f"{folder}/: {files} of {of} {verb} replaced by {question.describe_range()}."

    def write(self, name: str, chunks: Iterable[str], entry: Entry) -> Entry:
        """Write a file whole and enter it; the entry comes back with the digest.

        It takes its name with the next batch. Safe from many threads. What `chunks` raises
        passes through and leaves folder and manifest as they were. Raises LocalError for the
        disk; what was staged before has its name then, or is gone so that there is room.
        """
        path = self._own_path(name)
        try:
            with write_temporary(path, chunks, prefix=_TEMPORARY_PREFIX) as staged, self._mutex:
                self._finish_pending(name)
                written = replace(entry, sha256=staged.sha256)
                self._pending[name] = _Pending(self._entries.get(name), staged)
                staged.is_kept = True
                self._set(name, written)
        except LocalError:
            with suppress(LocalError):
                self.flush()
            raise
        self._flush_now_and_then()
        return written

    def record(self, name: str, entry: Entry) -> Entry:
        """Enter a state that brings no file, `empty` or `failed`; the entry as kept comes back.

        A file that the folder wrote and nobody has changed is removed, with the next batch,
        where it would belie the entry: it answers another question, or the cloud now has
        nothing. After a failed try an earlier answer to the same question stays, and the entry
        keeps its digest and its rows. A file that is not ours is never touched. Raises
        LocalError for the disk.
        """
        path = self._own_path(name)
        with self._mutex:
            self._finish_pending(name)
            before = self._entries.get(name)
            held = self._held(name, before)
            kept = replace(entry, sha256=None)
            if held is None:
                if before is not None and before.sha256 is not None and path.exists():
                    # Somebody changed it: the old digest lets the next run see that.
                    kept = replace(entry, sha256=before.sha256)
            elif before is not None and _outlives(before, entry):
                kept = _keep_file(before, entry)
            else:
                self._pending[name] = _Pending(before, held=held)
            self._set(name, kept)
        self._flush_now_and_then()
        return kept

    def flush(self) -> None:
        """Have all that was written and recorded in the folder and on the disk.

        Raises LocalError. Where the manifest cannot be rewritten, what was staged is gone.
        """
        with self._mutex:
            if self._lock is None or not (self._pending or self._is_dirty):
                return
            begun_s = time.monotonic()
            try:
                self._announce()
                self._carry_out()
            finally:
                now_s = time.monotonic()
                self._flush_at_s = now_s + max(_FLUSH_S, _FLUSH_COST * (now_s - begun_s))

    def close(self) -> None:
        """Bring folder and `manifest.json` up to date, let the folder go.

        Raises LocalError for the disk; the folder is whole then, and the next run goes on.
        """
        if self._lock is None:
            return
        with self._mutex:
            try:
                self.flush()
                self._settle(repair=True)
                if self._is_dirty:
                    self._save()
            finally:
                self._discard()
                self._release()

    def _own_path(self, name: str) -> Path:
        """Where a file of that name lies. Raises ValueError for names that lead elsewhere."""
        if self._lock is None:
            raise ValueError(f"{self.path} is not open for writing")
        if not is_file_name(name):
            raise ValueError(f"{name!r} is no name for a download")
        return self.path / name

    def _set(self, name: str, entry: Entry | None) -> None:
        """Have an entry, or none, in memory."""
        if self._entries.get(name) == entry:
            return
        self._lines.pop(name, None)
        self._is_dirty = True
        if entry is None:
            del self._entries[name]
        else:
            self._entries[name] = entry

    # From the disk

    def _load(self) -> None:
        """Read the manifest, and what the version before noted beside it."""
        self._entries, self._was = read_manifest(self.path / MANIFEST_NAME)
        before = dict(self._entries)
        self._was.update(replay_journal(self.path, self._entries))
        self._is_dirty = self._entries != before
        for name, stamp in read_stamps(self.path).items():
            if name in self._entries:
                self._contents.remember(name, stamp)

    def _settle(self, *, repair: bool) -> None:
        """Find out which announced steps were taken; finish removals if `repair`."""
        for name in list(self._was):
            if name not in self._pending:
                self._settle_one(name, repair=repair)

    def _settle_one(self, name: str, *, repair: bool) -> None:
        was, entry, path = self._was[name], self._entries.get(name), self.path / name
        if entry is None or not is_file_name(name):
            pass
        elif entry.sha256 is None:
            if holds(path, was) and not (repair and self._remove(path)):
                return  # it counts as removed
            if was is not None and path.exists():
                self._set(name, replace(entry, sha256=was))  # somebody changed it
        elif not holds(path, entry.sha256):
            if holds(path, was):
                return  # it is to be written anew
            if was is None:
                self._set(name, None)
        del self._was[name]
        self._is_dirty = True

    def _remove(self, path: Path) -> bool:
        """True where the file is gone now, and for good."""
        with suppress(OSError):
            path.unlink()
            sync_folder(path.parent)
            return True
        return False

    def _sweep(self) -> None:
        """Remove the temporary files of a killed run, here and one folder down."""
        inner = {name.partition("/")[0] for name in self._entries if "/" in name}
        with local_errors(self.path):
            inner.update(_sweep(self.path))
        for name in inner:
            # What cannot be looked into holds nothing of ours. One with a lock is a folder of
            # downloads by itself: another run may be writing it.
            with suppress(OSError):
                if is_file_name(f"{name}/x") and not (self.path / name / LOCK_NAME).exists():
                    _sweep(self.path / name)

    def _take_over(self) -> None:
        """Have no file of the version before any more: what it says is in the manifest."""
        left = find_leftovers(self.path)
        if not left:
            return
        if left.journal and (self._is_dirty or self._was):
            self._save()
        left.remove()
        told = left.describe()
        folder = clean(self.path.name or str(self.path))
        self.notices.append(
            f"{folder}/ is of an earlier version and is taken over{f': {told}' if told else ''}."
        )

    def _held(self, name: str, entry: Entry | None) -> str | None:
        """The digest of what lies there if that is ours."""
        with suppress(LocalError):
            return self._contents.find(name, _digest_of(entry), self._was.get(name))[1]
        return None

    # To the disk

    def _finish_pending(self, name: str) -> None:
        """One step at a time for each file."""
        if name in self._pending:
            self.flush()

    def _flush_now_and_then(self) -> None:
        """So that the folder of a long run is never far behind."""
        with self._mutex:
            most = max(_FLUSH_FILES, len(self._entries) // _FLUSH_SHARE)
            if len(self._pending) >= most or time.monotonic() >= self._flush_at_s:
                self.flush()

    def _announce(self) -> None:
        """Say what is about to happen, on the disk before it does."""
        announced: dict[str, str | None] = {}
        for name, pending in list(self._pending.items()):
            found = self._contents.digest(name, _digest_of(pending.before))
            if pending.staged is None and found != pending.held:
                self._cancel(name, found)
            else:
                announced[name] = found
        try:
            self._save(announced)
        except LocalError:
            self._discard()
            raise
        self._was.update(announced)

    def _cancel(self, name: str, found: str | None) -> None:
        """A file that was to be removed is gone, or was changed: then it is not ours to remove."""
        before = self._pending.pop(name).before
        if found is not None and before is not None and before.sha256 is not None:
            self._set(name, replace(self._entries[name], sha256=before.sha256))
        self._was.pop(name, None)

    def _carry_out(self) -> None:
        """Do what was announced. What cannot be done does not keep the rest from it."""
        failure: LocalError | None = None
        done = []
        for name, pending in list(self._pending.items()):
            try:
                self._take_step(name, pending)
                done.append(name)
            except LocalError as error:
                failure = failure or error
                pending.discard()
                self._settle_one(name, repair=False)
            del self._pending[name]
        for folder in sorted(self._unsynced):
            with local_errors(folder):
                sync_folder(folder)
            self._unsynced.discard(folder)
        for name in done:
            del self._was[name]
            self._is_dirty = True
        if failure is not None:
            raise failure

    def _take_step(self, name: str, pending: _Pending) -> None:
        """Give a file its name, or remove one."""
        path = self.path / name
        self._unsynced.add(path.parent)
        staged = pending.staged
        if staged is None:
            with local_errors(path, "removed"):
                path.unlink(missing_ok=True)
            return
        with local_errors(path):
            try:
                staged.rename()
            except FileNotFoundError:
                # Ctrl-C came between the renaming and its being noted.
                if not holds(path, staged.sha256):
                    raise
        self._contents.note(name, staged.sha256)

    def _discard(self) -> None:
        """Forget what was staged: its room is needed, or the run is over."""
        for name, pending in list(self._pending.items()):
            pending.discard()
            self._set(name, pending.before)
            del self._pending[name]

    def _save(self, announced: Mapping[str, str | None] | None = None) -> None:
        """Rewrite the manifest whole."""
        text = render_manifest(self._entries, self._was | dict(announced or {}), self._lines)
        path = self.path / MANIFEST_NAME
        with write_temporary(path, [text], prefix=_TEMPORARY_PREFIX) as staged:
            staged.commit()
        self._is_dirty = False

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def find_kept(path: Path) -> Path | None:
    """The file at the path where a folder of downloads keeps it: a book of it, or a listed one."""
    from copper_cli.files.bundle import NOTE_NAME

    real = Path(os.path.realpath(path))
    if find_clash(real, real.parent, (*_BOOKS, NOTE_NAME)) or is_draft_name(real.name):
        return real
    for folder in (real.parent, real.parent.parent):
        with suppress(LocalError):  # no manifest of ours: it keeps nothing
            if name := find_clash(real, folder, read_names(folder / MANIFEST_NAME)):
                return folder / name
    return None


def _sweep(folder: Path) -> list[str]:
    """Remove temporary files; the names of the visible folders in it. Raises OSError."""
    inner = []
    with os.scandir(folder) as entries:
        for one in entries:
            if one.name.startswith("."):
                if _TEMPORARY.fullmatch(one.name):
                    Path(one.path).unlink()
            elif one.is_dir(follow_symlinks=False):
                inner.append(one.name)
    return inner


def _digest_of(entry: Entry | None) -> str | None:
    """What a file of ours should have; None where there should be none."""
    return None if entry is None else entry.sha256


def _judge_absent(entry: Entry | None, question: Question) -> Verdict:
    """The verdict where there is no file."""
    if entry is None or entry.question != question:
        return "new"
    if entry.sha256 is not None:
        return "missing"
    return "failed" if entry.state == "failed" else "complete"


def _outlives(before: Entry, entry: Entry) -> bool:
    """True where an earlier file of ours still stands for what the new entry says."""
    return entry.state == "failed" and before.question == entry.question


def _keep_file(before: Entry, entry: Entry) -> Entry:
    """The entry of a try that failed, where an earlier one's file stays."""
    return replace(
        entry,
        sha256=before.sha256,
        rows=before.rows,
        unfilled=before.unfilled,
        gaps=before.gaps,
        whole=before.whole,
        asked_utc=before.asked_utc,
        sum_from=before.sum_from,
        archive=before.archive,
    )
