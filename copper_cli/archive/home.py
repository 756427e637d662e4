"""Where an archive is, whose it is, and how it is made: the folder and `archive.json` in it."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from copper_cli.config import is_loopback
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.names import safe_name
from copper_cli.files.opening import open_plain
from copper_cli.files.private import make_private
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import sync_folder
from copper_cli.text import clean

if TYPE_CHECKING:
    from copper_cli.archive import Archive

MARKER = "archive.json"
"""Says that a folder is an archive, and whose."""
LANDING = "landing.sqlite"
"""What is not published yet, and all that is no row."""
MARKER_NOTE = "archive.json"
"""The landing's note that holds the same text: each can be made anew from the other."""
WRITER_LOCK = "writer.lock"
"""Held by whoever replaces files; landing needs it not."""
FORMAT = "copper-archive"
VERSION = 1
"""Of the folder; what is newer is left alone."""
ALONE_S = 30.0
"""So long a run waits for one that keeps the archive for itself."""
TEMPORARY_PREFIX = "copper-archive-"
_LEFT_AFTER_S = 600.0
"""A temporary archive that nobody uses is taken for left behind after so long."""

_MARKER_BYTES = 1 << 16
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_OF_NO_ACCOUNT = {"lost+found", ".DS_Store", WRITER_LOCK}
"""What an empty folder may hold: a disk's own, and what a run just beside us makes."""
_MOUNTS = Path("/proc/self/mounts")
_NETWORK_TYPES = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|ncpfs|afs|9p|davfs|coda|ceph|glusterfs|lustre|gpfs|beegfs|vboxsf"
    r"|vmhgfs|prl_fs|fuse\.(?:sshfs|rclone|s3fs|gcsfuse|davfs2?|curlftpfs|smbnetfs|ceph-fuse"
    r"|glusterfs|vmhgfs-fuse|blobfuse2?|goofys|mount-s3|juicefs|afp|cifs|nfs)"
)


class DamagedMarkerError(LocalError):
    """`archive.json` cannot be read as one."""


class Place(Protocol):
    """What of the settings says whose an archive is."""

    @property
    def api_url(self) -> str:
        """Scheme and host of the API."""

    @property
    def enterprise_id(self) -> str:
        """The partner."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows an archive holds."""

    api_host: str
    """Scheme and host of the API. On this machine itself without a port: that is any free one."""
    enterprise_id: str
    """The partner; empty for an individual's account."""
    user: str = ""
    """The individual; empty for a partner."""

    def __str__(self) -> str:
        whose = f"enterprise {self.enterprise_id}" if self.enterprise_id else f"user {self.user}"
        return f"{clean(whose)} at {clean(self.api_host)}"


@dataclass(frozen=True, slots=True)
class Marker:
    """What `archive.json` says."""

    id: str
    """Of this archive: another one with the same rows has another."""
    owner: Owner
    """Whose it is."""
    created: str
    """When it was made (`2026-11-23T13:00:04Z`)."""
    key: str
    """With which the ids of forgotten homes are hashed, hex."""

    def text(self) -> str:
        """As the file has it."""
        found = {
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "api_host": self.owner.api_host,
            "enterprise_id": self.owner.enterprise_id,
            "created": self.created,
            "key": self.key,
        }
        if self.owner.user:
            found["user"] = self.owner.user
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def find_owner(place: Place) -> Owner:
    """The partner of the settings, as archives name it."""
    parts = urlsplit(place.api_url.lower())
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if parts.port not in (None, _DEFAULT_PORTS.get(parts.scheme)) and not is_loopback(host):
        shown += f":{parts.port}"
    return Owner(f"{parts.scheme}://{shown}", place.enterprise_id)


def default_path(data_folder: Path, owner: Owner) -> Path:
    """The folder of an owner's archive below the user's data folder: `archive/HOST/ENTERPRISE`."""
    parts = urlsplit(owner.api_host)
    host = parts.hostname or ""
    name = host if _HOST.fullmatch(host) else safe_name(host, "")
    if parts.port is not None:
        name += f"_{parts.port}"
    # An individual's beside the partners, under a sign that no partner's name keeps.
    last = safe_name(owner.enterprise_id, "")
    whose = Path(last) if owner.enterprise_id else Path("@account", safe_name(owner.user, ""))
    return data_folder / "archive" / name / whose


# Opening


@contextmanager
def open_archive(
    owner: Owner, path: Path, *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Archive]:
    """The archive in a folder, made where there is none; closed afterwards.

    A new one is told to `say`, and so is that it lies on a network. What cannot be written is told
    and done without: a temporary one is given instead. UsageError for another owner's archive and
    for a folder that holds other things, LocalError for a newer version, for one that is damaged,
    and where the disk is full.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - links stay: people know them by that name
    try:
        marker, is_new = _find_or_make(path, owner)
    except _UnwritableError as error:
        say(
            f"The archive {clean(str(path))} cannot be written: {error}. What is fetched now is "
            "kept for this run only; make it writable, or name another folder with --archive."
        )
        with open_temporary(owner) as archive:
            yield archive
        return
    with _opened(path, marker, is_temporary=False) as archive:
        if is_new:
            say(f"New archive: what is fetched is kept in {clean(str(path))} from now on.")
        _tell_network(archive, path, say)
        yield archive


@contextmanager
def open_temporary(owner: Owner) -> Iterator[Archive]:
    """An archive in a folder of its own, which is removed afterwards. Raises LocalError."""
    import shutil
    import tempfile

    with local_errors(Path(tempfile.gettempdir())):
        _sweep_temporary(Path(tempfile.gettempdir()))
        path = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    try:
        marker, _ = _find_or_make(path, owner)
        with _opened(path, marker, is_temporary=True) as archive:
            yield archive
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep_temporary(folder: Path) -> None:
    """Remove what killed runs left: it holds addresses. Others' stay, and those in use."""
    import shutil

    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError, LocalError):
            stat = path.lstat()
            is_own = not hasattr(os, "getuid") or stat.st_uid == os.getuid()
            if not (is_own and path.is_dir()) or path.is_symlink():
                continue
            if time.time() - stat.st_mtime < _LEFT_AFTER_S:
                continue  # it may be just beginning
            with hold_alone(path) as is_alone:
                if is_alone:
                    shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive that was there, whosever it is."""

    archive: Archive
    """Itself."""
    marker: Marker
    """Whose it is, and since when."""
    is_alone: bool
    """No other run uses it, nor begins to."""


@contextmanager
def open_existing(path: Path, *, alone: bool = False) -> Iterator[Opened]:
    """The archive in a folder, where possible `alone`; closed afterwards.

    Raises LocalError where there is none, or none that can be written.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100
    with local_errors(path, "read"):
        marker = read_marker(path)
    if marker is None:
        raise LocalError(f"There is no archive in {clean(str(path))}: the first download makes it.")
    try:
        _check_writable(path)
    except _UnwritableError as error:
        raise LocalError(f"The archive {clean(str(path))} cannot be written: {error}.") from None
    with _hold(path, alone=alone) as is_alone, _connected(path, marker) as archive:
        yield Opened(archive, marker, is_alone)


@contextmanager
def _opened(path: Path, marker: Marker, *, is_temporary: bool) -> Iterator[Archive]:
    with _hold(path), _connected(path, marker, is_temporary=is_temporary) as archive:
        yield archive


@contextmanager
def _connected(path: Path, marker: Marker, *, is_temporary: bool = False) -> Iterator[Archive]:
    from copper_cli.archive import Archive
    from copper_cli.archive.lists import tell_forgotten
    from copper_cli.archive.months import find_files
    from copper_cli.archive.schema import damaged

    with local_errors(path):
        if not (path / LANDING).exists() and any(True for _ in find_files(path)):
            # A new one would know of nothing that is published, nor of what was forgotten.
            raise LocalError(damaged(path, f"its {LANDING} is gone"))
        make_private(path / LANDING)
    is_local = find_network_type(path) is None
    archive = Archive(path, archive_id=marker.id, temporary=is_temporary, wal=is_local)
    archive.is_forgotten = tell_forgotten(archive, bytes.fromhex(marker.key))
    try:
        if not is_temporary and archive.note(MARKER_NOTE) != marker.text():
            archive.set_note(MARKER_NOTE, marker.text())
        yield archive
    finally:
        archive.close()


@contextmanager
def hold_alone(path: Path) -> Iterator[bool]:
    """Whether no other run uses the archive; none begins to while inside, where that is so.

    Not for a run that has it open itself.
    """
    with _locked_marker(path) as take:
        yield take(True)


@contextmanager
def _hold(path: Path, *, alone: bool = False) -> Iterator[bool]:
    """Others can tell that the archive is in use; whether it is this run's alone.

    LocalError where another keeps it for itself for long.
    """
    with _locked_marker(path) as take:
        if alone and take(True):
            yield True
            return
        deadline = time.monotonic() + ALONE_S
        while not take(False):
            if time.monotonic() > deadline:
                raise LocalError(
                    f"The archive {clean(str(path))} is being moved, or something is being "
                    "forgotten there; run this again when that has ended."
                )
            time.sleep(0.05)
        yield False


@contextmanager
def _locked_marker(path: Path) -> Iterator[Callable[[bool], bool]]:
    """Gives what locks `archive.json`, for this run alone or beside others; True where it is."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows moves nothing that is open anyway
        yield lambda alone: True
        return
    with local_errors(path / MARKER, "read"):
        handle = os.open(path / MARKER, os.O_RDONLY)

    def take(alone: bool) -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)  # it has no such thing
        return True

    try:
        yield take
    finally:
        os.close(handle)


class _UnwritableError(Exception):
    """The folder is there, or could be, and nothing can be written to it; says why."""


@contextmanager
def _unwritable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        is_fixed = error.errno == errno.EROFS
        raise _UnwritableError(
            "the file system is read-only" if is_fixed else "no permission"
        ) from error


def _find_or_make(path: Path, owner: Owner) -> tuple[Marker, bool]:
    """What the folder's marker says, and whether it was made just now."""
    with local_errors(path), _unwritable():
        marker = read_marker(path)
        is_new = marker is None
        if marker is None:
            check_place(path)
            make_folders(path)
            marker = _make_marker(path, owner)
    if marker.owner != owner:
        raise UsageError(
            f"{clean(str(path))} is the archive of {marker.owner}; this run asks for {owner}. "
            "Name this partner's own with --archive, or leave it out for the default place."
        )
    with local_errors(path):
        _check_writable(path)
        _mend_mode(path)
    return marker, is_new


def _check_writable(path: Path) -> None:
    """Raises _UnwritableError for an archive in which nothing can be kept."""
    for one in (path, path / LANDING):
        if os.access(one, os.F_OK) and not os.access(one, os.W_OK):
            is_fixed = _is_read_only(one)
            raise _UnwritableError("the file system is read-only" if is_fixed else "no permission")


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def check_place(path: Path) -> None:
    """UsageError where other things lie in the folder that an archive is to be."""
    try:
        names = {one.name for one in os.scandir(path)} - _OF_NO_ACCOUNT
    except FileNotFoundError:
        return
    if LANDING in names:
        raise LocalError(
            f"The archive {clean(str(path))} has lost its {MARKER}; run "
            f"`copper archive check --repair` with --archive {clean(str(path))}."
        )
    if any(not name.startswith(f"{MARKER}.") for name in names):
        raise UsageError(
            f"{clean(str(path))} is not empty and no archive; name an empty or a new folder with "
            "--archive."
        )


def make_folders(path: Path) -> None:
    """The folder and those above it that are missing, for nobody else's eyes. Raises OSError."""
    missing = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def _make_marker(path: Path, owner: Owner) -> Marker:
    """A new `archive.json`, or what it says where another run was faster. Raises OSError."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_marker(path, Marker(os.urandom(16).hex(), owner, now, os.urandom(32).hex()))
    marker = read_marker(path)
    assert marker is not None  # it is there whole once it has its name
    return marker


def write_marker(path: Path, marker: Marker) -> None:
    """Make `archive.json`, on the disk when it has its name; one that is there stays.

    Raises OSError.
    """
    temporary = path / f"{MARKER}.{os.urandom(8).hex()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(marker.text().encode())
            file.flush()
            os.fsync(file.fileno())
        _give_name(temporary, path / MARKER)
        sync_folder(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _give_name(temporary: Path, target: Path) -> None:
    """Of two that make an archive at once, one does; its name is never given twice."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not target.exists():
            temporary.rename(target)


def _mend_mode(path: Path) -> None:
    """It holds addresses: what is ours is ours alone."""
    if os.name == "nt":  # pragma: no cover - permissions are others there
        return
    for one, mode in ((path, 0o700), (path / MARKER, 0o600), (path / LANDING, 0o600)):
        with suppress(OSError):  # none yet; and some file systems have no modes
            found = one.stat(follow_symlinks=False)
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                one.chmod(mode)


# Reading the marker


def read_marker(path: Path) -> Marker | None:
    """What the `archive.json` of a folder says; None where there is none.

    Raises LocalError for a newer version and for what cannot be read as one, OSError.
    """
    try:
        with open_plain(path / MARKER) as file:
            data = file.read(_MARKER_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file") from None
        return None
    return parse_marker(path, data)


def parse_marker(path: Path, text: str | bytes) -> Marker:
    """What such a text says. Raises DamagedMarkerError, LocalError for a newer version."""
    try:
        return _parse_marker(path, json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedMarkerError(
            f"{clean(str(path / MARKER))} is damaged; run `copper archive check --repair` with "
            f"--archive {clean(str(path))}."
        ) from None


def _parse_marker(path: Path, found: Any) -> Marker:
    if found["format"] != FORMAT:
        raise ValueError(found["format"])
    version = int(found["version"])
    if version > VERSION:
        raise LocalError(
            f"The archive {clean(str(path))} was written by a newer version of this program "
            f"(its format is {version}, ours {VERSION}); it is left as it is. Update this program, "
            "or name another folder with --archive."
        )
    texts = [found[name] for name in ("id", "api_host", "enterprise_id", "created", "key")]
    texts.append(found.get("user", ""))
    if not all(isinstance(text, str) for text in texts) or not re.fullmatch(
        "[0-9a-f]{32}", found["id"]
    ):
        raise ValueError("not a text")
    bytes.fromhex(found["key"])
    archive_id, host, enterprise, created, key, user = texts
    return Marker(archive_id, Owner(host, enterprise, user), created, key)


# Networks


def find_network_type(path: Path) -> str | None:
    """The type of the network file system that a path lies on, None where it is none."""
    real = os.path.realpath(path)
    if real.startswith(("\\\\", "//")):
        return "network share"
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    longest, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescape(fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):
            longest, kind = point, fields[2]  # of two at one place the later hides the other
    return kind if _NETWORK_TYPES.fullmatch(kind) else None


def _unescape(text: str) -> str:
    r"""A mount point as the system lists it: blanks are `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _tell_network(archive: Archive, path: Path, say: Callable[[str], None]) -> None:
    """Once an archive: that it lies where several machines may write, and what is better."""
    kind = find_network_type(path)
    if kind is None or archive.note("told_network") == kind:
        return
    archive.set_note("told_network", kind)
    say(
        f"The archive {clean(str(path))} lies on a network file system ({clean(kind)}): it is "
        "slower there, and only one machine may write to it at a time. Better keep it on a disk "
        "of this machine (--archive DIR) and copy it to the network as a backup."
    )
