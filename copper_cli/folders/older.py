"""What the version before left in a folder beside its manifest: read once, then removed.

It noted what came since the manifest's last rewrite in a journal, kept the times of files whose
digest it knew, and set answers down in drafts until a file was whole.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

from copper_cli.files.opening import open_own
from copper_cli.files.reasons import local_errors
from copper_cli.folders.contents import Stamp
from copper_cli.folders.entries import DAMAGES, Entry, check_format, is_file_name, parse_entry

JOURNAL_NAME = ".manifest.journal"
STAMPS_NAME = ".manifest.stamps"

_DRAFT = re.compile(r"\..+\.draft")
_DRAFT_START = b'["copper-draft '


@dataclass(slots=True)
class Leftovers:
    """The files of the version before that are still in a folder."""

    journal: Path | None = None
    stamps: Path | None = None
    drafts: list[Path] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.journal or self.stamps or self.drafts)

    def remove(self) -> None:
        """Delete them. Raises LocalError."""
        for path in (self.journal, self.stamps, *self.drafts):
            if path is not None:
                with local_errors(path, "removed"):
                    path.unlink(missing_ok=True)

    def describe(self) -> str:
        """`its journal is applied, 2 drafts of unfinished files are removed`; or nothing."""
        told = []
        if self.journal:
            told.append("its journal is applied")
        if count := len(self.drafts):
            noun = "1 draft of an unfinished file is" if count == 1 else f"{count} drafts of "
            told.append(noun if count == 1 else f"{noun}unfinished files are")
            told[-1] += " removed"
        return ", ".join(told)


def is_draft_name(name: str) -> bool:
    """True for what a draft may be called."""
    return _DRAFT.fullmatch(name) is not None


def find_leftovers(folder: Path) -> Leftovers:
    """What of it is there. Links, and what only has such a name, are somebody else's."""
    found = Leftovers()
    with local_errors(folder, "read"), os.scandir(folder) as entries:
        for one in entries:
            if not one.name.startswith(".") or not one.is_file(follow_symlinks=False):
                continue
            if one.name == JOURNAL_NAME:
                found.journal = Path(one.path)
            elif one.name == STAMPS_NAME:
                found.stamps = Path(one.path)
            elif is_draft_name(one.name) and _is_draft(Path(one.path)):
                found.drafts.append(Path(one.path))
    return found


def _is_draft(path: Path) -> bool:
    with suppress(OSError), open_own(path) as stream:
        start = stream.read(len(_DRAFT_START))
        return start == _DRAFT_START or (not start and path.name.endswith(".csv.draft"))
    return False


def replay_journal(folder: Path, entries: dict[str, Entry]) -> dict[str, str | None]:
    """Bring the entries up to date with the journal.

    What it announced without telling that it was done comes back as `was` does in a manifest:
    the digest of what lay there before. Raises LocalError for a newer version's journal.
    """
    path = folder / JOURNAL_NAME
    was: dict[str, str | None] = {}
    for line in _read_lines(path):
        with suppress(*DAMAGES):
            _replay(line, path, entries, was)
    return was


def _replay(
    line: dict[str, Any], path: Path, entries: dict[str, Entry], was: dict[str, str | None]
) -> None:
    operation = line["op"]
    if operation == "open":
        check_format(line, path)
        return
    name = line["name"]
    if not is_file_name(name):
        return
    if operation == "done":
        was.pop(name, None)
        return
    entry = parse_entry(line["entry"])
    if operation == "record":
        was.pop(name, None)
    elif operation == "remove":
        was[name] = line["old"]
    elif operation == "write":
        before = entries.get(name)
        was[name] = before.sha256 if before else None
    else:
        return
    entries[name] = entry


def read_stamps(folder: Path) -> dict[str, Stamp]:
    """The stamps by file name; none where they cannot be read: they only save time."""
    try:
        with open_own(folder / STAMPS_NAME) as stream:
            found = json.loads(stream.read())
        return {
            name: (size, modified, changed, sha)
            for name, (size, modified, changed, sha) in found.items()
        }
    except (OSError, *DAMAGES):
        return {}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines, in order; those that were cut off or garbled are left out. Raises LocalError.

    A link, pipe or device of that name is not ours and has none.
    """
    with local_errors(path, "read"):
        try:
            if not S_ISREG(path.lstat().st_mode):
                return []
        except FileNotFoundError:
            return []
        with open_own(path) as stream:
            data = stream.read()
    lines = []
    for text in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict):
                lines.append(line)
    return lines
