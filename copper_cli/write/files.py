"""Files that appear whole or not at all, and file names that no identifier can escape."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from copper_cli.errors import LocalError, UsageError
from copper_cli.write.cells import clean

_NAME_BYTES = 200
"""Longest name: every file system takes 255 bytes, and some tools add an ending of their own."""
_DIGEST_DIGITS = 40
_ODD_IN_HEAD = re.compile("[^A-Z0-9-]+")
_ODD_IN_TAIL = re.compile("[^a-z0-9:-]+")
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
_TYPED_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_STDOUT_NAMES = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
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


def safe_name(identifier: str, suffix: str) -> str:
    """A file name for any identifier: `07:57277300`, `.usage.csv` → `07_57277300.usage.csv`.

    A colon becomes `_`; ASCII letters, digits and inner hyphens stay; everything else (also
    `_`, `.` and `%`) is percent-encoded as UTF-8. Two identifiers never share a name, not even
    where names differ by more than case: letters in unusual case (lower before the colon,
    upper after it or without one) are encoded too. Names that Windows keeps for devices have
    their first letter encoded, over-long ones end in a digest.
    """
    head, colon, tail = identifier.partition(":")
    if not colon:
        head, tail = "", head
    body = _ODD_IN_HEAD.sub(_encode, head) + colon + _ODD_IN_TAIL.sub(_encode, tail)
    if body.startswith("-"):
        body = f"%2D{body[1:]}"
    if body.endswith("-"):
        body = f"{body[:-1]}%2D"
    body = body.replace(":", "_")
    if _WINDOWS_DEVICES.fullmatch(body):
        body = f"%{ord(body[0]):02X}{body[1:]}"
    if len(body) + len(suffix.encode()) > _NAME_BYTES:
        digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()
        kept = max(0, _NAME_BYTES - len(suffix.encode()) - _DIGEST_DIGITS - 2)
        body = f"{body[:kept]}%~{digest[:_DIGEST_DIGITS]}"
    return (body or "%") + suffix


def check_name(name: str, what: str) -> None:
    """UsageError where a name that was typed could not be one folder's or file's name."""
    if not _TYPED_NAME.fullmatch(name) or _WINDOWS_DEVICES.fullmatch(name):
        raise UsageError(
            f"{what} {clean(repr(name))} cannot name a folder; use letters, digits, - and _."
        )


def write_whole(path: Path, chunks: Iterable[str | bytes] | bytes) -> str:
    """Write a file that a person named, whole or not at all; its SHA-256 in hex comes back.

    Text is written as UTF-8 with its line ends as they are. Missing folders are made, a link is
    followed to its file, an existing file keeps its mode (a new one has 0644 less the umask).
    The new content is on the disk before it takes the name, so a kill or a power cut leaves the
    old file or the new one. `-` and `/dev/stdout` write to standard output, devices and pipes
    are written straight. Raises LocalError; what `chunks` raises passes through. Either way no
    temporary file stays.
    """
    if str(path) in _STDOUT_NAMES:
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
    if str(path) in _STDOUT_NAMES or _is_stream(path):
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


def find_clash(path: Path, folder: Path, names: Iterable[str]) -> str | None:
    """The one of the names in a folder that is the file at the path, however that is spelt.

    Names that differ by case alone are taken to be one: on some disks they are.
    """
    root = _fold(os.path.realpath(folder)).rstrip(os.sep) + os.sep
    real = _fold(os.path.realpath(path))
    if str(path) in _STDOUT_NAMES or not real.startswith(root):
        return None
    wanted = real.removeprefix(root).replace(os.sep, "/")
    return next((name for name in names if _fold(name) == wanted), None)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


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

    def commit(self) -> None:
        """Give the file its name, on the disk too."""
        with local_errors(self.path):
            self.temporary.replace(self.target)
            sync_folder(self.target.parent)


@contextmanager
def write_temporary(
    path: Path, chunks: Iterable[str | bytes] | bytes, *, prefix: str, follow: bool = False
) -> Iterator[Staged]:
    """The content on the disk under a temporary name, for the caller to commit.

    It replaces the file, or with `follow` the one that a link of that name leads to. The temporary
    file is gone afterwards, whether it was committed or not.
    """
    with local_errors(path):
        target = Path(os.path.realpath(path)) if follow else path
        mode = _existing_mode(path, follow=follow)
        make_folder(target.parent)
    temporary = _temporary_name(target.parent, prefix)
    try:
        with local_errors(path):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o644)
        with os.fdopen(handle, "wb", buffering=0) as stream:
            if mode is not None:
                with local_errors(path):
                    temporary.chmod(mode)
            sha256 = _pour(path, stream, chunks)
            with local_errors(path):
                os.fsync(stream.fileno())
        yield Staged(path, target, temporary, sha256)
    finally:
        with suppress(OSError):
            temporary.unlink()


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


def short_digest(parts: Iterable[str]) -> str:
    """16 hex digits that stand for the parts in a file name."""
    whole = "\n".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(whole).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """The SHA-256 of a file in hex, also of one that is linked to. Raises OSError."""
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_plain(path: Path) -> BufferedReader:
    """A file to be read, also one that is linked to.

    OSError for a pipe or device, which might hang for ever.
    """
    return open(path, "rb", opener=_open_plain)


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
    return _open_plain(path, flags | _O_NOFOLLOW)


def _open_plain(path: str, flags: int) -> int:
    handle = os.open(path, flags | _O_NONBLOCK, 0o666)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    raise OSError(errno.EINVAL, "it is no plain file")


@contextmanager
def local_errors(path: Path, verb: str = "written") -> Iterator[None]:
    """Turns an OSError into a LocalError of one line that names the path and the reason."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number) or (error.strerror or str(error)).lower()
        raise LocalError(f"{clean(str(path))} cannot be {verb}: {clean(reason)}.") from error


_O_BINARY: int = getattr(os, "O_BINARY", 0)
_O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
_O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_TEMPORARY_PREFIX = ".copper-file-"


def _temporary_name(folder: Path, prefix: str) -> Path:
    return folder / f"{prefix}{os.urandom(8).hex()}.tmp"


def _is_stream(path: Path) -> bool:
    """True for a pipe, a device and a descriptor that is open already."""
    with local_errors(path):
        is_other = path.exists() and not path.is_file() and not path.is_dir()
    return is_other or path.parent in (Path("/dev/fd"), Path("/proc/self/fd"))


def _encode(found: re.Match[str]) -> str:
    """Signs of an identifier that no file name has, percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


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
