"""An append-only file of JSON lines that survives being cut off anywhere."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

from copper_cli.files.opening import open_own, own_opener
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder


class Journal:
    """What came since the last whole rewrite of the manifest; one process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: FileIO | None = None
        self._size = 0
        self.lines = 0
        """Lines after the first."""

    def start(self, first: dict[str, Any]) -> None:
        """Begin anew with this line; what the file held is gone. Raises LocalError."""
        self.close()
        with local_errors(self._path):
            self._stream = FileIO(self._path, "wb", opener=own_opener)
        self._size = self.lines = 0
        self._append(first)
        with local_errors(self._path):
            sync_folder(self._path.parent)

    def append(self, line: dict[str, Any], *, sync: bool) -> None:
        """Add a line, on the disk before this returns if `sync`. Raises LocalError."""
        self._append(line)
        self.lines += 1
        if sync and self._stream is not None:
            with local_errors(self._path):
                os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Let the file go; its lines stay for the next run."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Close and delete: the manifest has it all. Raises LocalError."""
        self.close()
        with local_errors(self._path, "removed"):
            self._path.unlink(missing_ok=True)

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        stream = self._stream
        if stream is None:
            raise AssertionError("the journal is not open")
        try:
            with local_errors(self._path):
                written = stream.write(data)
                while written < len(data):
                    written += stream.write(data[written:])
        except BaseException:
            # Half a line would spoil the next one too.
            with suppress(OSError):
                stream.truncate(self._size)
                stream.seek(self._size)
            raise
        self._size += len(data)


def read_journal(path: Path) -> list[dict[str, Any]]:
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
