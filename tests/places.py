"""Archives that are there before a command runs, so that it has no new one to tell of."""

from __future__ import annotations

from pathlib import Path

from copper_cli.archive.home import Marker, Owner, write_marker


def make_archive(path: Path, enterprise_id: str) -> None:
    """An archive of a local cloud; one that is there stays."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = Owner("http://127.0.0.1", enterprise_id)
    write_marker(path, Marker("0" * 32, owner, "2022-01-01T00:00:00Z", "00" * 32))
