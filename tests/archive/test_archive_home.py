"""Where an archive is, whose it is, and what happens where it cannot be."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from copper_cli.archive import home
from copper_cli.archive.home import (
    Marker,
    Owner,
    default_path,
    find_network_type,
    find_owner,
    hold_alone,
    open_archive,
    open_existing,
    open_temporary,
    read_marker,
)
from copper_cli.errors import LocalError, UsageError

ACME = Owner("https://api.copperlabs.com", "ent-9")


@pytest.fixture
def told() -> list[str]:
    return []


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_archive_is_private_and_says_whose_it_is(tmp_path: Path, told: list[str]) -> None:
    """0700 and 0600, also the folders above that were missing; told once, in one line."""
    path = tmp_path / "a" / "b"
    with open_archive(ACME, path, say=told.append) as archive:
        assert archive.path == path
        archive.set_note("x", "y")
        modes = {mode_of(one) for one in path.iterdir()}
    assert modes == {0o600}
    assert (mode_of(path), mode_of(path.parent)) == (0o700, 0o700)
    assert len(told) == 1
    assert str(path) in told[0]
    found = json.loads((path / "archive.json").read_text())
    assert re.fullmatch("[0-9a-f]{32}", found["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["created"])
    assert {name: found[name] for name in ("format", "version", "api_host", "enterprise_id")} == {
        "format": "copper-archive",
        "version": 1,
        "api_host": "https://api.copperlabs.com",
        "enterprise_id": "ent-9",
    }
    with open_archive(ACME, path, say=told.append) as archive:
        assert (archive.id, archive.note("x")) == (found["id"], "y")
    assert len(told) == 1


def test_an_individuals_archive_names_the_user(tmp_path: Path) -> None:
    with open_archive(Owner("https://api.x", "", "auth0|7"), tmp_path / "a"):
        pass
    marker = read_marker(tmp_path / "a")
    assert marker is not None
    assert marker.owner == Owner("https://api.x", "", "auth0|7")
    with (
        pytest.raises(UsageError, match="archive of user auth0"),
        open_archive(ACME, tmp_path / "a"),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.copperlabs.com", "https://api.copperlabs.com"),
        ("https://API.CopperLabs.com:443", "https://api.copperlabs.com"),
        ("https://api.x:8443", "https://api.x:8443"),
        ("http://127.0.0.1:40123", "http://127.0.0.1"),
        ("http://[::1]:9", "http://[::1]"),
    ],
)
def test_the_host_is_one_however_it_is_written(url: str, host: str) -> None:
    """On this machine itself any port will do: a local cloud takes a free one each time."""
    assert find_owner(SimpleNamespace(api_url=url, enterprise_id="e")).api_host == host


@pytest.mark.parametrize(
    ("owner", "below"),
    [
        (ACME, "api.copperlabs.com/ent-9"),
        (Owner("https://api.x:8443", "ent"), "api.x_8443/ent"),
        (Owner("http://127.0.0.1", "../x"), "127.0.0.1/%2E%2E%2Fx"),
        (Owner("https://api.x", "a/b"), "api.x/a%2Fb"),
        (Owner("https://api.x", "CON"), "api.x/%43ON"),
        (Owner("https://api.x", "", "auth0|7"), "api.x/@account/auth0%7C7"),
    ],
)
def test_the_default_folder_is_named_by_host_and_enterprise(owner: Owner, below: str) -> None:
    """No id leads anywhere else, and an individual's is never a partner's."""
    found = default_path(Path("/d/copper"), owner)
    assert found.relative_to("/d/copper/archive").parts[0] == below.split("/", maxsplit=1)[0]
    assert ".." not in found.parts
    if "%43" not in below:
        assert found == Path("/d/copper/archive", below)


@pytest.mark.parametrize(
    "other", [Owner("https://api.copperlabs.com", "ent-8"), Owner("https://api.x", "ent-9")]
)
def test_another_partners_archive_is_refused(tmp_path: Path, told: list[str], other: Owner) -> None:
    """Both are named, nothing is changed."""
    with open_archive(ACME, tmp_path / "a"):
        pass
    before = {one.name: one.read_bytes() for one in (tmp_path / "a").iterdir()}
    with (
        pytest.raises(UsageError, match="ent-9 at https://api.copperlabs.com.*--archive") as found,
        open_archive(other, tmp_path / "a", say=told.append),
    ):
        pass
    assert f"{other.enterprise_id} at {other.api_host}" in str(found.value)
    assert {one.name: one.read_bytes() for one in (tmp_path / "a").iterdir()} == before
    assert told == []


def test_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with open_archive(ACME, tmp_path):
        pass
    text = (tmp_path / "archive.json").read_text().replace('"version": 1', '"version": 2')
    (tmp_path / "archive.json").write_text(text)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(LocalError, match="newer version.*Update"), open_archive(ACME, tmp_path):
        pass
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "null",
        '{"format": "copper-archive"}',
        '{"format": "other", "version": 1}',
        "\x00\xff",
        '{"format": "copper-archive", "version": 1, "id": "x", "api_host": "h", '
        '"enterprise_id": "e", "created": "c", "key": "00"}',
        '{"format": "copper-archive", "version": 1, "id": "00000000000000000000000000000000", '
        '"api_host": "h", "enterprise_id": "e", "created": "c", "key": "not hex"}',
    ],
)
def test_a_damaged_marker_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    """It names what mends it, and nothing is made over it."""
    (tmp_path / "archive.json").write_text(text, "latin-1")
    with (
        pytest.raises(LocalError, match="damaged.*copper archive check") as found,
        open_archive(ACME, tmp_path),
    ):
        pass
    assert "\n" not in str(found.value)
    assert [one.name for one in tmp_path.iterdir()] == ["archive.json"]


def test_a_folder_of_other_things_is_no_archive(tmp_path: Path) -> None:
    """UsageError, and nothing is put among them."""
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty and no archive"), open_archive(ACME, tmp_path):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["letter.txt"]


def test_an_archive_without_its_marker_is_not_made_over(tmp_path: Path) -> None:
    with open_archive(ACME, tmp_path):
        pass
    (tmp_path / "archive.json").unlink()
    with pytest.raises(LocalError, match="lost its archive.json"), open_archive(ACME, tmp_path):
        pass


@pytest.mark.parametrize("name", ["lost+found", "writer.lock", "archive.json.0123.tmp"])
def test_an_empty_folder_may_hold_what_a_disk_or_a_killed_run_left(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).touch()
    with open_archive(ACME, tmp_path) as archive:
        assert not archive.is_temporary


def test_a_file_is_no_place_for_an_archive(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for path in (tmp_path / "f", tmp_path / "f" / "a"):
        with pytest.raises(LocalError, match="is a file"), open_archive(ACME, path):
            pass


def test_two_that_make_one_at_once_make_one(tmp_path: Path) -> None:
    """Every run has the same archive; nothing is left beside it."""
    script = (
        "import sys; from pathlib import Path\n"
        "from copper_cli.archive.home import Owner, open_archive\n"
        "with open_archive(Owner('https://h', 'e'), Path(sys.argv[1])) as archive:\n"
        "    print(archive.id)\n"
    )

    def start(_: int) -> str:
        words = [sys.executable, "-c", script, str(tmp_path / "a")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1
    assert not list((tmp_path / "a").glob("*.tmp"))


def test_without_hard_links_the_marker_is_whole_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with open_archive(ACME, tmp_path / "a") as archive:
        found = read_marker(tmp_path / "a")
        assert found is not None
        assert found.id == archive.id


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the test's disk refuse that folders are made."""

    def start(number: int) -> None:
        make = Path.mkdir

        def fail(self: Path, **words: Any) -> None:
            if self.is_relative_to(tmp_path):
                raise OSError(number, os.strerror(number))
            make(self, **words)

        monkeypatch.setattr(Path, "mkdir", fail)

    return start


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_cannot_be_written_is_done_without(
    tmp_path: Path, told: list[str], refuse: Callable[[int], None], number: int
) -> None:
    """A temporary archive and a warning that says why; nothing of it stays."""
    refuse(number)
    with open_archive(ACME, tmp_path / "a", say=told.append) as archive:
        assert archive.is_temporary
        path = archive.path
        assert path.is_dir()
    assert not path.exists()
    (line,) = told
    assert f"{tmp_path / 'a'} cannot be written" in line
    assert "--archive" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run(
    tmp_path: Path, refuse: Callable[[int], None], number: int
) -> None:
    """Exit 7: a temporary archive would only fill another disk."""
    refuse(number)
    with pytest.raises(LocalError, match="full|used up"), open_archive(ACME, tmp_path / "a"):
        pass


def test_an_archive_that_became_read_only_is_done_without(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that cannot be made; but of another partner's it is said whose it is."""
    with open_archive(ACME, tmp_path):
        pass
    really = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: really(path, mode) and (mode == os.F_OK or path != tmp_path),
    )
    with open_archive(ACME, tmp_path, say=told.append) as archive:
        assert archive.is_temporary
    assert len(told) == 1
    with pytest.raises(UsageError), open_archive(Owner("https://h", "e"), tmp_path):
        pass
    with pytest.raises(LocalError, match="cannot be written"), open_existing(tmp_path):
        pass


def test_a_folder_that_others_can_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir(mode=0o755)
    with open_archive(ACME, path):
        assert mode_of(path) == 0o700
    for one in (path, *path.iterdir()):
        one.chmod(0o755)  # as a backup may have brought it back
    with open_archive(ACME, path):
        assert mode_of(path) == 0o700
        assert {mode_of(one) for one in path.iterdir()} == {0o600}


def test_a_temporary_archive_is_gone_afterwards() -> None:
    """However the run ends."""
    paths = []
    for error in (KeyboardInterrupt, LocalError("x"), None):
        try:
            with open_temporary(ACME) as archive:
                paths.append(archive.path)
                assert archive.is_temporary
                assert mode_of(archive.path) == 0o700
                if error is not None:
                    raise error
        except (KeyboardInterrupt, LocalError):
            pass
    assert len(set(paths)) == 3
    assert not any(path.exists() for path in paths)


def test_only_what_is_there_is_opened_as_it_is(tmp_path: Path) -> None:
    """Whosever it is; where there is none it is not made."""
    with pytest.raises(LocalError, match="no archive"), open_existing(tmp_path / "a"):
        pass
    assert not (tmp_path / "a").exists()
    with open_archive(ACME, tmp_path / "a"):
        pass
    with open_existing(tmp_path / "a") as opened:
        assert (opened.archive.id, opened.marker.owner) == (opened.marker.id, ACME)


def test_one_run_can_have_an_archive_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While any other has it open it cannot; while it does, none is let in."""
    monkeypatch.setattr(home, "ALONE_S", 0.1)
    with open_archive(ACME, tmp_path):
        with open_archive(ACME, tmp_path), hold_alone(tmp_path) as is_alone:
            assert not is_alone
        with open_existing(tmp_path, alone=True) as opened:
            assert not opened.is_alone
    with hold_alone(tmp_path) as is_alone:
        assert is_alone
        with pytest.raises(LocalError, match="being moved"), open_archive(ACME, tmp_path):
            pass
    with open_existing(tmp_path, alone=True) as opened:
        assert opened.is_alone
        with pytest.raises(LocalError, match="forgotten"), open_archive(ACME, tmp_path):
            pass
    with open_archive(ACME, tmp_path):
        pass


def test_who_comes_meanwhile_waits_for_the_one_that_is_alone(tmp_path: Path) -> None:
    with open_archive(ACME, tmp_path):
        pass

    def come() -> str:
        with open_archive(ACME, tmp_path) as archive:
            return archive.id

    with ThreadPoolExecutor(1) as pool:
        with open_existing(tmp_path, alone=True) as opened:
            coming = pool.submit(come)
            time.sleep(0.2)
            assert not coming.done()
        assert coming.result(10) == opened.marker.id


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/x /net nfs4 rw 0 0
me@host: /net/my\\040disk fuse.sshfs rw 0 0
/dev/sdb1 /net/local xfs rw 0 0
//host/share /smb cifs rw 0 0
/dev/sdc1 /media/usb fuseblk rw 0 0
under /twice nfs rw 0 0
over /twice ext4 rw 0 0
odd
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", None),
        ("/net/a", "nfs4"),
        ("/net", "nfs4"),
        ("/network", None),
        ("/net/my disk/archive", "fuse.sshfs"),
        ("/net/local/a", None),
        ("/smb/a/b/c", "cifs"),
        ("/media/usb/a", None),
        ("/twice/a", None),
        ("//host/share", "network share"),
    ],
)
def test_network_file_systems_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    """By the mount that a path lies on; of two at one place the later hides the other."""
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(home, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(os.path, "realpath", str)
    assert find_network_type(path) == kind  # type: ignore[arg-type]


def test_without_a_list_of_mounts_nothing_is_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_MOUNTS", tmp_path / "none")
    assert find_network_type(tmp_path) is None


def test_on_a_network_there_is_no_write_ahead_log(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shared memory works on one machine only; told once, with what is better."""
    monkeypatch.setattr(home, "find_network_type", lambda path: "nfs4")
    for _ in range(2):
        with open_archive(ACME, tmp_path / "a", say=told.append) as archive:
            archive.set_note("x", "y")
            assert not (tmp_path / "a" / "landing.sqlite-wal").exists()
            with archive.outside() as db:
                assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    _, line = told
    assert "network file system (nfs4)" in line
    assert "--archive DIR" in line


def test_the_marker_holds_what_it_is_given() -> None:
    marker = Marker("0" * 32, ACME, "2026-11-23T13:00:04Z", "ab")
    assert "user" not in json.loads(marker.text())
