"""A folder of downloads: what it holds, for which question, and what is still missing.

`manifest.json` tells it to people and programs. Between its rewrites an append-only journal
holds what came since, so that ten thousand files cost ten thousand short lines and not as many
rewrites. Each file is announced in the journal, with its digest, before it takes its name:
whenever a run is killed, the next one knows its own files.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from errno import EINVAL
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from copper_cli.errors import CopperError, LocalError
from copper_cli.files.names import find_clash
from copper_cli.files.opening import digest_file, open_own
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import make_folder, sync_folder, write_temporary
from copper_cli.folders.entries import (
    FORMAT,
    VERSION,
    Entry,
    Question,
    State,
    check_format,
    entry_to_json,
    parse_entry,
    read_manifest,
    read_names,
    render_manifest,
)
from copper_cli.folders.journal import Journal, read_journal
from copper_cli.text import clean

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Entry", "Folder", "Question", "State", "Verdict"]

Verdict = Literal[
    "new", "complete", "to come", "failed", "changed", "missing", "other question", "stranger"
]

MANIFEST_NAME = "manifest.json"
JOURNAL_NAME = ".manifest.journal"
STAMPS_NAME = ".manifest.stamps"
LOCK_NAME = ".copper.lock"

_BOOKS = (MANIFEST_NAME, JOURNAL_NAME, STAMPS_NAME, LOCK_NAME)

_TEMPORARY_PREFIX = ".copper-folder-"
_TEMPORARY = re.compile(re.escape(_TEMPORARY_PREFIX) + r"[0-9a-f]{16}\.tmp")
_COMPACT_AFTER_LINES = 1000
_COMPACT_AFTER_S = 60.0
_QUIET_NS = 2_000_000_000
"""The coarsest clock of a file system ticks every two seconds."""
_COMMAND_SIGNS = 80
_DAMAGES = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)

_Stamp = tuple[int, int, int, str]
"""Size, both times in nanoseconds, and the digest a file had then."""


class Folder:
    """A folder of downloads and its manifest; one writer at a time, many threads in it.

    Open it with `Folder.open`, or for reading with `Folder.look`. It replaces what it is told
    to write, and removes only files that it wrote and nobody has changed since.
    """

    def __init__(self, path: Path, lock: BaseFileLock | None = None) -> None:
        self.path = path
        self._prefix = f"{path}{os.sep}"
        self._lock = lock
        self._mutex = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._announced: dict[str, dict[str, Any]] = {}
        self._inner: set[str] = set()
        self._journal = Journal(path / JOURNAL_NAME)
        self._stamps: dict[str, _Stamp] = {}
        self._stamps_changed = False
        self._compacted_s = time.monotonic()

    @classmethod
    def open(cls, path: Path, *, wait_s: float = 0) -> Folder:
        """The folder for this run alone, made if need be; a context manager.

        What a killed run left is put in order. Raises LocalError when another run holds it
        (after `wait_s`), when its manifest is not one of ours, or for the disk.
        """
        with local_errors(path):
            make_folder(path)
        folder = cls(path, _take_lock(path, wait_s))
        try:
            folder._load()
            folder._recover()
        except BaseException:
            folder._release()
            raise
        return folder

    @classmethod
    def look(cls, path: Path) -> Folder:
        """The folder as it stands, unlocked and unchanged; one that does not exist is empty.

        Raises LocalError for a manifest that is not one of ours.
        """
        folder = cls(path)
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
        # The journal has all of it, and what ended the run is what the user must hear.
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
        says; `new`;
        `missing` and `changed` where the file is not as it was written, so that it must be
        fetched anew; `other question`; `stranger` where no entry accounts for the file.

        A file counts as unchanged without being read while its size and both its times are
        those it had when its digest was known; else it is read.
        """
        with self._mutex:
            entry = self._entries.get(name)
            try:
                # Of ten thousand files that takes 40 ms; with a Path for each it took 70.
                stat = os.stat(self._prefix + name)  # noqa: PTH116
            except FileNotFoundError:
                return _judge_absent(entry, question)
            except OSError as error:
                with local_errors(self.path / name, "read"):
                    raise error
            if entry is None or entry.sha256 is None:
                return "stranger"
            if entry.question != question:
                return "other question"
            if not self._is_unchanged(name, stat, entry.sha256):
                return "changed"
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
        return f"{path} holds {held}, not {asked}. {remedy}"

    def write(self, name: str, chunks: Iterable[str], entry: Entry) -> Entry:
        """Write a file whole and enter it; the entry comes back with the digest.

        Safe from many threads: only giving the file its name is done one at a time. What
        `chunks` raises passes through and leaves folder and manifest as they were. Raises
        LocalError for the disk.
        """
        path = self._own_path(name)
        with write_temporary(path, chunks, prefix=_TEMPORARY_PREFIX) as staged:
            written = replace(entry, sha256=staged.sha256)
            with self._mutex:
                self._announce("write", name, written)
                staged.commit()
                self._enter(name, written)
                with suppress(OSError):
                    self._stamps[name] = _stamp(path.stat(), staged.sha256)
                    self._stamps_changed = True
        return written

    def record(self, name: str, entry: Entry) -> Entry:
        """Enter a state that brings no file, `empty` or `failed`; the entry as kept comes back.

        A file that the folder wrote and nobody has changed is removed where it would belie the
        entry: it answers another question, or the cloud now has nothing. After a failed try an
        earlier answer to the same question stays, and the entry keeps its digest and its
        rows. A file that is not ours is never touched. Raises LocalError for the disk.
        """
        path = self._own_path(name)
        with self._mutex:
            before = self._entries.get(name)
            is_ours = before is not None and _holds(path, before.sha256)
            if before is not None and is_ours and not _outlives(before, entry):
                kept = replace(entry, sha256=None)
                self._announce("remove", name, kept, old=before.sha256)
                with local_errors(path, "removed"):
                    path.unlink()
                    sync_folder(path.parent)
                self._enter(name, kept)
                return kept
            kept = replace(entry, sha256=None)
            if before is not None and is_ours:
                kept = replace(
                    entry,
                    sha256=before.sha256,
                    rows=before.rows,
                    unfilled=before.unfilled,
                    gaps=before.gaps,
                    whole=before.whole,
                    asked_utc=before.asked_utc,
                )
            elif before is not None and path.exists():
                # Somebody changed it: the old digest lets the next run see that.
                kept = replace(entry, sha256=before.sha256)
            self._announced.pop(name, None)
            self._say({"op": "record", "name": name, "entry": entry_to_json(kept)}, sync=True)
            self._entries[name] = kept
            self._compact_now_and_then()
        return kept

    def amend(self, name: str, entry: Entry) -> None:
        """Enter what is now known of a file that stays as it is.

        A folder that is only looked at stays as it is too. Raises LocalError for the disk.
        """
        if self._lock is None:
            return
        with self._mutex:
            # Lost with the machine it is found out again.
            self._say({"op": "record", "name": name, "entry": entry_to_json(entry)}, sync=False)
            self._entries[name] = entry
            self._compact_now_and_then()

    def close(self) -> None:
        """Bring `manifest.json` up to date, drop the journal, let the folder go.

        Raises LocalError for the disk; nothing is lost then, the journal stays.
        """
        if self._lock is None:
            return
        with self._mutex:
            try:
                if self._journal.lines:
                    self._compact()
                self._journal.remove()
                if self._stamps_changed:
                    with suppress(LocalError):
                        self._save(STAMPS_NAME, json.dumps(self._stamps, sort_keys=True) + "\n")
            finally:
                self._release()

    def _own_path(self, name: str) -> Path:
        """Where a file of that name lies. Raises ValueError for names that lead elsewhere."""
        if self._lock is None:
            raise ValueError(f"{self.path} is not open for writing")
        if not _is_name(name):
            raise ValueError(f"{name!r} is no name for a download")
        return self.path / name

    # From the disk

    def _load(self) -> None:
        """Read the manifest, and over it the journal."""
        self._entries = read_manifest(self.path / MANIFEST_NAME)
        self._stamps = _read_stamps(self.path / STAMPS_NAME)
        for line in read_journal(self.path / JOURNAL_NAME):
            with suppress(*_DAMAGES):
                self._replay(line)
        folders = {n.rpartition("/")[0] for n in (*self._entries, *self._announced) if "/" in n}
        self._inner = {folder for folder in folders if _is_name(f"{folder}/file")}

    def _replay(self, line: dict[str, Any]) -> None:
        """Take in a line of the journal. Raises one of _DAMAGES for a line not of ours."""
        operation = line["op"]
        if operation != "open" and not _is_name(line["name"]):
            raise ValueError(line["name"])
        if operation == "open":
            check_format(line, self.path / JOURNAL_NAME)
        elif operation == "record":
            self._announced.pop(line["name"], None)
            self._entries[line["name"]] = parse_entry(line["entry"])
        elif operation == "done":
            self._entries[line["name"]] = parse_entry(self._announced.pop(line["name"])["entry"])
        elif operation in ("write", "remove"):
            parse_entry(line["entry"])
            self._announced[line["name"]] = line

    def _settle(self, *, repair: bool) -> None:
        """Find out which announced steps were taken; finish removals if `repair`."""
        for name, line in self._announced.items():
            entry = parse_entry(line["entry"])
            path = self.path / name
            if line["op"] == "write":
                is_done = _holds(path, entry.sha256)
            else:
                if repair and _holds(path, line["old"]):
                    with suppress(OSError):
                        path.unlink()
                is_done = not path.exists()
            if is_done:
                self._entries[name] = entry
        self._announced.clear()

    def _recover(self) -> None:
        """Put in order what a killed run left, and begin a journal of our own."""
        with local_errors(self.path):
            for folder in (self.path, *self._inner_folders()):
                for found in os.scandir(folder):
                    if _TEMPORARY.fullmatch(found.name):
                        Path(found.path).unlink()
        if len(read_journal(self.path / JOURNAL_NAME)) > 1:
            self._compact()
        else:
            self._start_journal()

    def _inner_folders(self) -> list[Path]:
        """The folders in this one that hold files of ours, or were to."""
        return [path for name in sorted(self._inner) if (path := self.path / name).is_dir()]

    # To the disk

    def _announce(self, operation: str, name: str, entry: Entry, *, old: str | None = None) -> None:
        """Say what is about to happen, on the disk before it does."""
        line = {"op": operation, "name": name, "entry": entry_to_json(entry), "old": old}
        self._announced[name] = line
        self._say(line, sync=True)

    def _enter(self, name: str, entry: Entry) -> None:
        """What was announced has happened."""
        self._entries[name] = entry
        self._announced.pop(name, None)
        self._say({"op": "done", "name": name}, sync=False)
        self._compact_now_and_then()

    def _say(self, line: dict[str, Any], *, sync: bool) -> None:
        self._journal.append(line, sync=sync)

    def _compact_now_and_then(self) -> None:
        """So that the manifest of a long run is never far behind."""
        is_long = self._journal.lines >= max(_COMPACT_AFTER_LINES, len(self._entries))
        if is_long or time.monotonic() - self._compacted_s >= _COMPACT_AFTER_S:
            self._compact()

    def _compact(self) -> None:
        """Rewrite the manifest whole, then begin the journal anew."""
        self._settle(repair=True)
        self._save(MANIFEST_NAME, render_manifest(self._entries))
        self._start_journal()
        self._compacted_s = time.monotonic()

    def _start_journal(self) -> None:
        self._journal.start(
            {
                "op": "open",
                "format": FORMAT,
                "version": VERSION,
                "pid": os.getpid(),
                "command": _describe_command(sys.argv),
                "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            }
        )

    def _save(self, name: str, text: str) -> None:
        with write_temporary(self.path / name, [text], prefix=_TEMPORARY_PREFIX) as staged:
            staged.commit()

    def _is_unchanged(self, name: str, stat: os.stat_result, sha256: str) -> bool:
        stamp = _stamp(stat, sha256)
        if self._stamps.get(name) == stamp:
            return True
        path = self.path / name
        with local_errors(path, "read"):
            if digest_file(path) != sha256:
                return False
        # A file touched just now could change once more without its times telling.
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _QUIET_NS:
            self._stamps[name] = stamp
            self._stamps_changed = True
        return True

    def _release(self) -> None:
        self._journal.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def find_kept(path: Path) -> Path | None:
    """The file at the path where a folder of downloads keeps it: a book of it, or a listed one."""
    from copper_cli.files.bundle import NOTE_NAME
    from copper_cli.folders.draft import is_draft

    real = Path(os.path.realpath(path))
    if find_clash(real, real.parent, (*_BOOKS, NOTE_NAME)) or is_draft(real.name):
        return real
    for folder in (real.parent, real.parent.parent):
        with suppress(LocalError):  # no manifest of ours: it keeps nothing
            if name := find_clash(real, folder, read_names(folder / MANIFEST_NAME)):
                return folder / name
    return None


def _is_name(name: str) -> bool:
    """True for a visible file here or one folder down that is not one of our books."""
    parts = name.split("/")
    return (
        len(parts) <= 2
        and name != MANIFEST_NAME
        and "\\" not in name
        and all(p == Path(p).name and p != "" and not p.startswith(".") for p in parts)
    )


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


def _holds(path: Path, sha256: str | None) -> bool:
    """True when the file is there and has this content."""
    if sha256 is None:
        return False
    with suppress(OSError):
        return digest_file(path) == sha256
    return False


def _stamp(stat: os.stat_result, sha256: str) -> _Stamp:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sha256


def _read_stamps(path: Path) -> dict[str, _Stamp]:
    """The stamps by file name; none where they cannot be read: they only save time."""
    try:
        with open_own(path) as stream:
            found = json.loads(stream.read())
        return {
            name: (size, modified, changed, sha)
            for name, (size, modified, changed, sha) in found.items()
        }
    except (OSError, *_DAMAGES):
        return {}


def _take_lock(path: Path, wait_s: float) -> BaseFileLock:
    from filelock import FileLock, Timeout

    _check_lock(path / LOCK_NAME)
    # Not the thread's: the run's last thread may be another than its first.
    lock = FileLock(path / LOCK_NAME, timeout=wait_s, thread_local=False)
    with local_errors(path):
        try:
            lock.acquire()
        except Timeout:
            raise LocalError(
                f"{clean(str(path))} is being written by another run{_describe_holder(path)}. "
                "Wait for it, or choose another --output-dir."
            ) from None
    return lock


def _check_lock(path: Path) -> None:
    """LocalError where the lock is a link or no plain file: some other file would be the lock."""
    with local_errors(path), suppress(FileNotFoundError):
        if not S_ISREG(path.lstat().st_mode):
            raise OSError(EINVAL, "it is a link or no plain file; remove it")


def _describe_holder(path: Path) -> str:
    """`: copper meter usage … (process 4711, since 2026-11-23T06:00:04-07:00)`, if it says so."""
    with suppress(LocalError, *_DAMAGES, IndexError):
        first = read_journal(path / JOURNAL_NAME)[0]
        told = f"{first['command']} (process {first['pid']}, since {first['since']})"
        return f": {clean(told)}"
    return ""


def _describe_command(arguments: list[str]) -> str:
    """The command as typed, cut short."""
    text = " ".join([Path(arguments[0]).name, *arguments[1:]]) if arguments else ""
    return text if len(text) <= _COMMAND_SIGNS else text[: _COMMAND_SIGNS - 1] + "…"
