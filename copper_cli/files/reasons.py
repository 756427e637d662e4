"""Why a file cannot be had, in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from copper_cli.errors import LocalError
from copper_cli.text import clean

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ELOOP: "its links lead in a circle",
    errno.EBADF: "it is closed",
}


@contextmanager
def local_errors(path: Path, verb: str = "written") -> Iterator[None]:
    """Turns an OSError into a LocalError of one line that names the path and the reason."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number) or (error.strerror or str(error)).lower()
        raise LocalError(f"{clean(str(path))} cannot be {verb}: {clean(reason)}.") from error
