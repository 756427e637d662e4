"""Private files in the cache folder: their names, and how they are made for nobody else's eyes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from copper_cli.config import is_loopback


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


def make_private(path: Path) -> None:
    """The file, empty where it is new, with mode 0600 from its first moment. Raises OSError."""
    make_folder(path.parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


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
