"""Several files as one ZIP, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from copper_cli.errors import LocalError
from copper_cli.files.opening import open_own
from copper_cli.files.reasons import local_errors
from copper_cli.files.whole import make_folder, replace_whole

NOTE_NAME = ".bundle.stamp"
_CHUNK_BYTES = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same content gives the same bundle, whenever it was made."""


def write_bundle(
    path: Path,
    members: Mapping[str, Path | Iterable[str]],
    on_member: Callable[[], None] = lambda: None,
) -> None:
    """A ZIP of the members in their order: a file on disk or text each, by name in the ZIP.

    `on_member` is called after each of them. Raises LocalError.
    """
    import tempfile

    with local_errors(path):
        make_folder(path.parent)
        # On the disk: a dump's ZIP may be larger than memory.
        with tempfile.TemporaryFile(dir=path.parent) as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
                for name, content in members.items():
                    info = zipfile.ZipInfo(name, _EPOCH)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.external_attr = 0o644 << 16
                    bundle.writestr(info, _read(content))
                    on_member()
            stream.seek(0)
            replace_whole(path, iter(partial(stream.read, _CHUNK_BYTES), b""))


class FolderBundle:
    """A ZIP of files of a folder, under the folder's name, and whether it must be made anew.

    A small file in the folder keeps a digest of the sizes and times that the ZIP and its files
    had when it was made; while they are the same, so is what it holds.
    """

    def __init__(self, path: Path, folder: Path, names: Iterable[str]) -> None:
        self._path = path
        self._folder = folder
        self._note = folder / NOTE_NAME
        self._files: dict[str, str] = {}
        for name in names:
            if stamp := _stamp(f"{folder}{os.sep}{name}"):
                self._files[name] = stamp

    def __len__(self) -> int:
        """How many of the files are there."""
        return len(self._files)

    def is_current(self) -> bool:
        """True where neither the ZIP nor one of its files has changed since it was made."""
        with suppress(OSError), open_own(self._note) as note:
            return note.read() == self._digest()
        return False

    def write(self, on_member: Callable[[], None]) -> None:
        """Make the ZIP; `on_member` is called after each file. Raises LocalError."""
        files = {f"{self._folder.name}/{name}": self._folder / name for name in self._files}
        write_bundle(self._path, files, on_member)
        with suppress(LocalError):  # without it the next run makes the ZIP anew
            replace_whole(self._note, self._digest())

    def _digest(self) -> bytes:
        told = [_stamp(str(self._path)), *map(" ".join, self._files.items())]
        return hashlib.sha256("\n".join(told).encode("utf-8", "surrogatepass")).hexdigest().encode()


def _stamp(path: str) -> str:
    """Size and both times of a file, as text; empty where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path of each file would double the time
    except OSError:
        return ""
    is_file = stat.S_ISREG(found.st_mode)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}" if is_file else ""


def _read(content: Path | Iterable[str]) -> bytes:
    if isinstance(content, Path):
        with local_errors(content, "read"):
            return content.read_bytes()
    return "".join(content).encode()
