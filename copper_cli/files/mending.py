"""The cache folder and what is kept there: private, or made so."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from copper_cli.errors import LocalError
from copper_cli.files.private import OTHERS_WRITE

SANDBOX_FOLDER = "sandbox-archives"
"""In the cache folder: what was fetched from local clouds, a folder a fleet."""
_OURS = re.compile(r"(token|answers|quota|spans)\.")
_OTHERS = 0o077


def mend_folder(folder: Path) -> list[str]:
    """Make the cache folder and the files in it private; what was wrong comes back, a line each.

    A token or answers that others could write are forgotten, and so is what is no plain file of
    this user's. Raises LocalError for a folder that is another user's, or that others can write
    to and that holds other things as well: who knows what else it is for.
    """
    try:
        found = folder.stat()
        entries = [one for one in os.scandir(folder) if _OURS.match(one.name)]
        names = set(os.listdir(folder)) - {SANDBOX_FOLDER}  # noqa: PTH208
        has_others = len(entries) < len(names)
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
    if found.st_mode & OTHERS_WRITE and has_others:
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
    if found.st_mode & OTHERS_WRITE and is_believed:
        path.unlink()
        return f"{path} could be changed by others; it is removed, and fetched anew."
    if found.st_mode & _OTHERS:
        return _make_private(path, found.st_mode, 0o600)
    return None


def _make_private(path: Path, before: int, mode: int) -> str:
    """Set the mode; a line that tells it."""
    with contextlib.suppress(OSError):
        path.chmod(mode)
    could = "changed" if before & OTHERS_WRITE else "read"
    if path.stat().st_mode & _OTHERS:
        return f"{path} can be {could} by others, and its file system does not let us change that."
    return f"{path} could be {could} by others; now it is yours alone."
