"""Files for nobody else's eyes: tokens, answers, ledgers."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from copper_cli.files.opening import O_NOFOLLOW, open_regular

OTHERS_WRITE = 0o022
"""The bits of a mode that let others write."""


def make_private_folder(folder: Path) -> None:
    """The folder, readable by its owner only where it is new. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private(path: Path) -> None:
    """The file, empty where it is new, with mode 0600 from its first moment.

    Raises OSError, also for a link and what is no plain file.
    """
    make_private_folder(path.parent)
    os.close(_open_private(path, os.O_RDWR | os.O_CREAT))


def read_private(path: Path) -> str:
    """What a private file holds. Raises OSError, also where others could have written it."""
    with open(path, encoding="utf-8", opener=_open_private) as file:
        found = os.fstat(file.fileno())
        if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE):
            raise PermissionError(errno.EPERM, "others could have written it")
        return file.read()


def _open_private(path: str | Path, flags: int) -> int:
    return open_regular(path, flags | O_NOFOLLOW, 0o600)


def write_private(path: Path, text: str) -> None:
    """Replaces the file as a whole; mode 0600 from its first moment. Raises OSError."""
    import tempfile

    make_private_folder(path.parent)
    handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_database(path: Path) -> bool:
    """Removes an SQLite file and what SQLite keeps beside it; True if there was one."""
    existed = path.exists()
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return existed
