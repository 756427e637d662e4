"""An archive put elsewhere: whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from copper_cli.archive.home import (
    LANDING,
    MARKER,
    WRITER_LOCK,
    Marker,
    check_place,
    hold_alone,
    make_folders,
    read_marker,
)
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.text import clean

_CHUNK_BYTES = 1 << 20
_STAGED = ".copper-move"
_OF_SQLITE = tuple(f"{LANDING}-{ending}" for ending in ("wal", "shm", "journal"))


def move_archive(path: Path, target: Path, say: Callable[[str], None] = lambda line: None) -> None:
    """Put the archive of a folder into another, which is new or empty.

    On the same file system it takes the new name at once; else it is copied, what was copied is
    compared, and only then the old one is removed. Killed at any moment, the archive is whole at
    one of the two places, and the same command goes on. LocalError where another run uses it.
    """
    path, target = (Path(os.path.abspath(one)) for one in (path, target))  # noqa: PTH100
    with local_errors(path, "read"):
        marker = read_marker(path)
    if marker is None:
        _sweep(path)
        raise LocalError(f"There is no archive in {clean(str(path))}.")
    _check_apart(path, target)
    _sweep(path)
    _sweep(target)
    with hold_alone(path) as is_alone, _writer_lock(path) as is_writer:
        if not (is_alone and is_writer):
            raise LocalError(
                f"Another run uses the archive {clean(str(path))}; move it when that has ended."
            )
        with local_errors(target):
            if _is_same_archive(target, marker):
                say(f"{clean(str(target))} holds this archive from an earlier try; comparing.")
                _settle(path)
                _compare(path, target)
            else:
                check_place(target)
                _settle(path)
                make_folders(target.parent)
                if _rename(path, target):
                    return
                _copy(path, target)
    with local_errors(path, "removed"):
        _remove(path)


def _check_apart(path: Path, target: Path) -> None:
    real, wanted = (Path(os.path.realpath(one)) for one in (path, target))
    if wanted == real or wanted.is_relative_to(real) or real.is_relative_to(wanted):
        raise UsageError(
            f"{clean(str(target))} is not apart from the archive {clean(str(path))}; name another "
            "folder."
        )


def _is_same_archive(target: Path, marker: Marker) -> bool:
    found = read_marker(target)
    if found is not None and found.id != marker.id:
        raise UsageError(
            f"{clean(str(target))} is another archive, of {found.owner}; name an empty or a new "
            "folder."
        )
    return found is not None


@contextmanager
def _writer_lock(path: Path) -> Iterator[bool]:
    lock = FileLock(path / WRITER_LOCK, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _settle(path: Path) -> None:
    """Have all of the landing in its one file: nobody else has it open. Raises OSError."""
    try:
        db = sqlite3.connect(path / LANDING, isolation_level=None)
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
    except sqlite3.Error as error:
        raise LocalError(
            f"The archive {clean(str(path))} cannot be moved as it is ({clean(str(error))}); "
            "`copper archive check` says what can be mended."
        ) from None


def _rename(path: Path, target: Path) -> bool:
    """True where the folder has taken the new name. Raises OSError."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EBUSY):
            raise
        return False
    sync_folder(target.parent)
    sync_folder(path.parent)
    return True


def _copy(path: Path, target: Path) -> None:
    """The same files under another name, which they get when all are on the disk and compared."""
    staged = target.with_name(f".{target.name}{_STAGED}-{secrets.token_hex(8)}")
    try:
        staged.mkdir(mode=0o700)
        for name in _list(path):
            _copy_file(path / name, staged / name)
        _compare(path, staged)
        for folder in {staged, *(one.parent for one in staged.rglob("*"))}:
            sync_folder(folder)
        staged.rename(target)
        sync_folder(target.parent)
    finally:
        with suppress(OSError):
            shutil.rmtree(staged)


def _list(path: Path) -> list[Path]:
    """The files of an archive but for those of no account, in the order of their names."""
    left_out = {WRITER_LOCK, *_OF_SQLITE}
    found = (one.relative_to(path) for one in path.rglob("*") if one.is_file())
    return sorted(one for one in found if str(one) not in left_out and one.suffix != ".tmp")


def _copy_file(source: Path, target: Path) -> None:
    missing = [one for one in target.parents if not one.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as reader, os.fdopen(handle, "wb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def _compare(path: Path, other: Path) -> None:
    """LocalError unless both hold the same files."""
    names = _list(path)
    if names != _list(other) or any(
        _digest(path / name) != _digest(other / name) for name in names
    ):
        raise LocalError(
            f"{clean(str(other))} does not hold what {clean(str(path))} holds; the archive stays "
            "where it is. Name another folder."
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    """The old folder, of which no part is taken for an archive once the first is gone."""
    old = path.with_name(f".{path.name}{_STAGED}-{secrets.token_hex(8)}")
    try:
        path.rename(old)
    except OSError:  # a disk of its own, or one may not write above it
        old = path
        (path / MARKER).unlink()
        for one in path.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        with suppress(OSError):
            path.rmdir()
    else:
        sync_folder(path.parent)
        shutil.rmtree(old)
    sync_folder(path.parent)


def _sweep(path: Path) -> None:
    """What a move that was killed has left beside a folder."""
    for old in path.parent.glob(f".{path.name}{_STAGED}-*"):
        shutil.rmtree(old, ignore_errors=True)
