"""One run at a time writes a folder; another is told which one it is, and since when."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from errno import EINVAL
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from copper_cli.errors import LocalError
from copper_cli.files.opening import open_own
from copper_cli.files.reasons import local_errors
from copper_cli.text import clean

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_NAME = ".copper.lock"
HOLDER_NAME = ".copper.lock.json"
"""Beside the lock, which whoever tries to take it empties."""

_COMMAND_SIGNS = 80


class FolderLock:
    """The right to write a folder, from its making until `release`."""

    def __init__(self, folder: Path, wait_s: float) -> None:
        """Raises LocalError where another run holds it (after `wait_s`), or for the disk."""
        from filelock import FileLock, Timeout

        _check_plain(folder / LOCK_NAME)
        self._holder = folder / HOLDER_NAME
        # Not the thread's: the run's last thread may be another than its first.
        self._lock: BaseFileLock = FileLock(folder / LOCK_NAME, timeout=wait_s, thread_local=False)
        with local_errors(folder):
            try:
                self._lock.acquire()
            except Timeout:
                raise LocalError(
                    f"{clean(str(folder))} is being written by another run"
                    f"{_describe_holder(self._holder)}. Wait for it, or choose another "
                    "--output-dir."
                ) from None
        try:
            self._tell()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the folder go."""
        with suppress(OSError):
            self._holder.unlink()
        self._lock.release()

    def _tell(self) -> None:
        told = {
            "command": _describe_command(sys.argv),
            "pid": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        with local_errors(self._holder), open_own(self._holder, "wb") as stream:
            stream.write(json.dumps(told).encode() + b"\n")


def _check_plain(path: Path) -> None:
    """LocalError where the lock is a link or no plain file: some other file would be the lock."""
    with local_errors(path), suppress(FileNotFoundError):
        if not S_ISREG(path.lstat().st_mode):
            raise OSError(EINVAL, "it is a link or no plain file; remove it")


def _describe_holder(path: Path) -> str:
    """`: copper meter usage … (process 4711, since 2026-11-23T06:00:04-07:00)`, if it says so."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open_own(path) as stream:
            found = json.loads(stream.read())
        told = f"{found['command']} (process {found['pid']}, since {found['since']})"
        return f": {clean(told)}"
    return ""


def _describe_command(arguments: list[str]) -> str:
    """The command as typed, cut short."""
    text = " ".join([Path(arguments[0]).name, *arguments[1:]]) if arguments else ""
    return text if len(text) <= _COMMAND_SIGNS else text[: _COMMAND_SIGNS - 1] + "…"
