"""Several files as one ZIP, whole or not at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from copper_cli.write.files import local_errors, write_whole

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same content gives the same bundle, whenever it was made."""


def write_bundle(path: Path, members: Mapping[str, Path | Iterable[str]]) -> None:
    """A ZIP of the members in their order: a file on disk or text each, by name in the ZIP.

    Raises LocalError.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            bundle.writestr(info, _read(content))
    write_whole(path, buffer.getvalue())


def _read(content: Path | Iterable[str]) -> bytes:
    if isinstance(content, Path):
        with local_errors(content, "read"):
            return content.read_bytes()
    return "".join(content).encode()
