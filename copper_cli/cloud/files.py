"""Private files in the cache folder: their names, and how they are made for nobody else's eyes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from copper_cli.config import is_loopback
from copper_cli.errors import LocalError

_OURS = re.compile(r"(token|answers|quota|spans)\.")
_OTHERS, _OTHERS_WRITE = 0o077, 0o022


def digest(*parts: str) -> str:
    """16 hex digits that stand for the parts in a file name."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def host_of(url: str) -> str:
    """Host and port of an address, one text for all ways to write them.

    What is counted or learned belongs to the host that answers, so this machine's own names are
    one, and a path is left out.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = "127.0.0.1" if is_loopback(host) else f"[{host}]" if ":" in host else host
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return host if port == 443 else f"{host}:{port}"


def make_folder(folder: Path) -> None:
    """The folder, readable by its owner only where it is new. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def mend_folder(folder: Path) -> list[str]:
    """Make the cache folder and the files in it private; what was wrong comes back, a line each.

    A token or answers that others could write are forgotten, and so is what is no plain file of
    this user's. Raises LocalError for a folder that is another user's, or that others can write
    to and that holds other things as well: who knows what else it is for.
    """
    try:
        found = folder.stat()
        entries = [one for one in os.scandir(folder) if _OURS.match(one.name)]
        has_others = len(entries) < len(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return []  # there is none yet; else whoever needs it says so
    if os.name == "nt":  # pragma: no cover - permissions are others there
        return []
    _check_owner(folder, found, has_others=has_others)
    told: list[str] = []
    if found.st_mode & _OTHERS and not has_others:
        told.append(_make_private(folder, found.st_mode, 0o700))
    for one in sorted(entries, key=lambda one: one.name):
        with contextlib.suppress(OSError):  # it may be gone by now
            if line := _mend_file(Path(one.path), one.stat(follow_symlinks=False)):
                told.append(line)
    return told


def _check_owner(folder: Path, found: os.stat_result, *, has_others: bool) -> None:
    """LocalError where the folder cannot be trusted."""
    if found.st_uid != os.geteuid():
        raise LocalError(
            f"The cache folder {folder} belongs to another user (uid {found.st_uid}), who could "
            "read and change what is kept there. Name one of your own with COPPER_CACHE_DIR."
        )
    if found.st_mode & _OTHERS_WRITE and has_others:
        raise LocalError(
            f"The cache folder {folder} can be written to by others and is not for this program "
            "alone. Name one of your own with COPPER_CACHE_DIR."
        )


def _mend_file(path: Path, found: os.stat_result) -> str | None:
    """What was wrong with a file and is no more; None where it is as it must be."""
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        path.unlink()
        return f"{path} was a link or another user's file; it is removed."
    is_believed = path.name.startswith(("token.", "answers."))
    if found.st_mode & _OTHERS_WRITE and is_believed:
        path.unlink()
        return f"{path} could be changed by others; it is removed, and fetched anew."
    if found.st_mode & _OTHERS:
        return _make_private(path, found.st_mode, 0o600)
    return None


def _make_private(path: Path, before: int, mode: int) -> str:
    """Set the mode; a line that tells it."""
    with contextlib.suppress(OSError):
        path.chmod(mode)
    could = "changed" if before & _OTHERS_WRITE else "read"
    if path.stat().st_mode & _OTHERS:
        return f"{path} can be {could} by others, and its file system does not let us change that."
    return f"{path} could be {could} by others; now it is yours alone."


def make_private(path: Path) -> None:
    """The file, empty where it is new, with mode 0600 from its first moment.

    Raises OSError, also for a link and what is no plain file.
    """
    make_folder(path.parent)
    os.close(_open_private(path, os.O_RDWR | os.O_CREAT))


def read_private(path: Path) -> str:
    """What a private file holds. Raises OSError, also where others could have written it."""
    with open(path, encoding="utf-8", opener=_open_private) as file:
        found = os.fstat(file.fileno())
        if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE):
            raise PermissionError(errno.EPERM, "others could have written it")
        return file.read()


def _open_private(path: str | Path, flags: int) -> int:
    """A descriptor of a plain file; nothing is followed, and a pipe is not waited for."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no plain file")
    return handle


def write_private(path: Path, text: str) -> None:
    """Replaces the file as a whole; mode 0600 from its first moment. Raises OSError."""
    import tempfile

    make_folder(path.parent)
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
