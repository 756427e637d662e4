"""Files opened so that no pipe hangs, and no link leads into a stranger's file."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

_O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
"""Of a link nothing is opened; 0 where the system has no such thing."""


def digest_file(path: Path) -> str:
    """The SHA-256 of a file in hex, also of one that is linked to. Raises OSError."""
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_plain(path: Path) -> BufferedReader:
    """A file to be read, also one that is linked to.

    OSError for a pipe or device, which might hang for ever.
    """
    return open(path, "rb", opener=open_regular)


def open_own(path: Path, mode: Literal["rb", "r+b", "wb"] = "rb") -> BinaryIO:
    """One of the program's own books: no link is followed.

    What is no plain file was put there by somebody else: OSError to read it; where a new file is
    to be made it gives way, and what it leads to stays as it was.
    """
    return open(path, mode, opener=own_opener)


def own_opener(path: str, flags: int) -> int:
    """`open_own` for `open(…, opener=own_opener)`."""
    if flags & os.O_CREAT:
        with suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                os.unlink(path)  # noqa: PTH108 - open gives text
    return open_regular(path, flags | O_NOFOLLOW)


def open_regular(path: str | Path, flags: int, mode: int = 0o666) -> int:
    """A descriptor of a plain file; a pipe is not waited for. `mode` is a new file's."""
    handle = os.open(path, flags | _O_NONBLOCK, mode)
    found = os.fstat(handle).st_mode
    if stat.S_ISREG(found):
        return handle
    os.close(handle)
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    raise OSError(errno.EINVAL, "it is no plain file")
