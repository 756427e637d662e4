"""File names: that no identifier can escape, that stand for a text, that mean the same file."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from copper_cli.errors import UsageError
from copper_cli.text import clean

_NAME_BYTES = 200
"""Longest name: every file system takes 255 bytes, and some tools add an ending of their own."""
_DIGEST_DIGITS = 40
_ODD_IN_HEAD = re.compile("[^A-Z0-9-]+")
_ODD_IN_TAIL = re.compile("[^a-z0-9:-]+")
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
_TYPED_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
STDOUT_NAMES = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
"""How people and systems call standard output."""


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


def short_digest(*parts: str) -> str:
    """16 hex digits that stand for the parts in a file name."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def find_clash(path: Path, folder: Path, names: Iterable[str]) -> str | None:
    """The one of the names in a folder that is the file at the path, however that is spelt.

    Names that differ by case alone are taken to be one: on some disks they are.
    """
    root = _fold(os.path.realpath(folder)).rstrip(os.sep) + os.sep
    real = _fold(os.path.realpath(path))
    if str(path) in STDOUT_NAMES or not real.startswith(root):
        return None
    wanted = real.removeprefix(root).replace(os.sep, "/")
    return next((name for name in names if _fold(name) == wanted), None)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _encode(found: re.Match[str]) -> str:
    """Signs of an identifier that no file name has, percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))
