"""Files that appear whole or not at all: for people, and the program's own."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from copper_cli.errors import LocalError
from copper_cli.files.names import STDOUT_NAMES
from copper_cli.files.opening import open_own
from copper_cli.files.reasons import local_errors

_O_BINARY: int = getattr(os, "O_BINARY", 0)
_TEMPORARY_PREFIX = ".copper-file-"


def write_whole(path: Path, chunks: Iterable[str | bytes] | bytes) -> str:
    """Write a file that a person named, whole or not at all; its SHA-256 in hex comes back.

    Text is written as UTF-8 with its line ends as they are. Missing folders are made, a link is
    followed to its file, an existing file keeps its mode (a new one has 0644 less the umask).
    The new content is on the disk before it takes the name, so a kill or a power cut leaves the
    old file or the new one. `-` and `/dev/stdout` write to standard output, devices and pipes
    are written straight. Raises LocalError; what `chunks` raises passes through. Either way no
    temporary file stays.
    """
    if str(path) in STDOUT_NAMES:
        return _write_stdout(chunks)
    if _is_stream(path):
        with local_errors(path):
            stream = path.open("wb", buffering=0)
        with stream:
            return _pour(path, stream, chunks)
    with write_temporary(path, chunks, prefix=_TEMPORARY_PREFIX, follow=True) as staged:
        staged.commit()
    return staged.sha256


def replace_whole(path: Path, chunks: Iterable[str | bytes] | bytes) -> None:
    """Write a file that the program named, as `write_whole` does.

    But a link, a pipe or a device of that name gives way; what it leads to stays as it was.
    """
    with write_temporary(path, chunks, prefix=_TEMPORARY_PREFIX) as staged:
        staged.commit()


def check_writable(path: Path) -> None:
    """LocalError where `write_whole` could not write now; nothing is left behind."""
    if str(path) in STDOUT_NAMES or _is_stream(path):
        return
    with local_errors(path):
        target = Path(os.path.realpath(path))
        _existing_mode(path, follow=True)
        folder = target.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a part of it is no folder")
        probe = _temporary_name(folder, _TEMPORARY_PREFIX)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()


def renew_whole(path: Path, text: str) -> None:
    """Write a file as `replace_whole` does, unless it holds the text: its times tell of changes."""
    data = text.encode("utf-8", "replace")
    with suppress(OSError), open_own(path) as stream:
        if stream.read() == data:
            return
    replace_whole(path, data)


@dataclass(slots=True)
class Staged:
    """A file written whole under a temporary name beside the one it is meant for."""

    path: Path
    """The name people know."""
    target: Path
    """Where the file is to lie: `path`, or what that links to."""
    temporary: Path
    """Where the content is now."""
    sha256: str
    """Of the content."""
    is_kept: bool = False
    """Whoever set it to True commits or discards the file later."""

    def commit(self) -> None:
        """Give the file its name, on the disk too."""
        with local_errors(self.path):
            self.rename()
            sync_folder(self.target.parent)

    def rename(self) -> None:
        """Give the file its name, which is on the disk once its folder is synced. OSError."""
        self.temporary.replace(self.target)

    def discard(self) -> None:
        """Have no temporary file any more."""
        with suppress(OSError):
            self.temporary.unlink()


@contextmanager
def write_temporary(
    path: Path, chunks: Iterable[str | bytes] | bytes, *, prefix: str, follow: bool = False
) -> Iterator[Staged]:
    """The content on the disk under a temporary name, for the caller to commit.

    It replaces the file, or with `follow` the one that a link of that name leads to. The temporary
    file is gone afterwards, whether it was committed or not, unless `is_kept` says otherwise.
    """
    with local_errors(path):
        target = Path(os.path.realpath(path)) if follow else path
        mode = _existing_mode(path, follow=follow)
        make_folder(target.parent)
    temporary = _temporary_name(target.parent, prefix)
    staged = Staged(path, target, temporary, "")
    try:
        with local_errors(path):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o644)
        with os.fdopen(handle, "wb", buffering=0) as stream:
            if mode is not None:
                with local_errors(path):
                    temporary.chmod(mode)
            staged.sha256 = _pour(path, stream, chunks)
            with local_errors(path):
                os.fsync(stream.fileno())
        yield staged
    finally:
        if not staged.is_kept:
            staged.discard()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each noted on the disk in the one that holds it."""
    missing = []
    folder = path
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk; nothing where the system has no such thing."""
    if os.name == "nt":  # pragma: no cover
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _temporary_name(folder: Path, prefix: str) -> Path:
    return folder / f"{prefix}{os.urandom(8).hex()}.tmp"


def _is_stream(path: Path) -> bool:
    """True for a pipe, a device and a descriptor that is open already."""
    with local_errors(path):
        is_other = path.exists() and not path.is_file() and not path.is_dir()
    return is_other or path.parent in (Path("/dev/fd"), Path("/proc/self/fd"))


def _existing_mode(path: Path, *, follow: bool) -> int | None:
    """The mode of the file that will be replaced, None without one or for what is no plain file.

    Raises IsADirectoryError, and PermissionError for a file that its owner made read-only:
    replacing it would need no permission on the file itself.
    """
    try:
        mode = path.stat(follow_symlinks=follow).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "no permission")
    return stat.S_IMODE(mode)


def _pour(path: Path, stream: BinaryIO, chunks: Iterable[str | bytes] | bytes) -> str:
    """Write everything; the digest of it comes back. Only the writing raises LocalError."""
    digest = hashlib.sha256()
    for data in _as_bytes(chunks):
        digest.update(data)
        with local_errors(path):
            _write_all(stream, data)
    return digest.hexdigest()


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write to a raw stream, which may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def _as_bytes(chunks: Iterable[str | bytes] | bytes) -> Iterator[bytes]:
    if isinstance(chunks, bytes):
        yield chunks
        return
    for chunk in chunks:
        yield chunk if isinstance(chunk, bytes) else chunk.encode("utf-8", "replace")


def _write_stdout(chunks: Iterable[str | bytes] | bytes) -> str:
    """Standard output takes the bytes; a reader that went away is a BrokenPipeError."""
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    digest = hashlib.sha256()
    for data in _as_bytes(chunks):
        digest.update(data)
        with _stdout_errors():
            if stream is None:
                sys.stdout.write(data.decode())
            else:
                sys.stdout.flush()
                stream.write(data)
    with _stdout_errors():
        sys.stdout.flush()
    return digest.hexdigest()


@contextmanager
def _stdout_errors() -> Iterator[None]:
    try:
        with local_errors(Path("standard output")):
            yield
    except LocalError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        raise
