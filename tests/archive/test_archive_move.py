"""An archive put elsewhere: whole or not at all, whatever happens on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copper_cli.archive import move
from copper_cli.archive.home import Owner, open_archive, open_existing, read_marker
from copper_cli.archive.move import move_archive
from copper_cli.errors import LocalError, UsageError

OWNER = Owner("https://h", "e")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with a file deep in it, and something in its landing."""
    path = tmp_path / "from here"
    with open_archive(OWNER, path) as archive:
        archive.set_note("kept", "yes")
        month = path / "usage" / "granularity=hour" / "month=2021-01"
        month.mkdir(parents=True)
        (month / "usage.parquet").write_bytes(b"rows" * 1000)
        (month / ".usage-1.tmp").write_bytes(b"of a publish that was killed")
    return path


@pytest.fixture
def two_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder takes no name on the other disk: only beside where it is."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "another disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)


def check_whole(path: Path) -> None:
    """The archive is there, and is one."""
    with open_archive(OWNER, path) as archive:
        assert archive.note("kept") == "yes"
    (month,) = path.rglob("*.parquet")
    assert month.relative_to(path).parts[0] == "usage"
    assert month.read_bytes() == b"rows" * 1000


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} - {"data", "home"}


def test_on_one_disk_it_takes_the_new_name(path: Path, tmp_path: Path) -> None:
    """Also in a folder that is to be made, and one that is there and empty."""
    number = path.stat().st_ino
    move_archive(path, tmp_path / "b" / "c")
    (tmp_path / "d").mkdir()
    move_archive(tmp_path / "b" / "c", tmp_path / "d")
    check_whole(tmp_path / "d")
    assert (tmp_path / "d").stat().st_ino == number
    assert names(tmp_path) == {"b", "d"}


@pytest.mark.usefixtures("two_disks")
def test_on_another_disk_it_is_copied_compared_and_removed(path: Path, tmp_path: Path) -> None:
    """With the modes it has; files that are no part of it stay behind and go."""
    (tmp_path / "b").mkdir()
    target = tmp_path / "b" / "to"
    move_archive(path, target)
    check_whole(target)
    modes = {one.stat().st_mode & 0o777 for one in target.rglob("*") if one.is_file()}
    assert modes == {0o600}
    assert {one.stat().st_mode & 0o777 for one in target.rglob("*") if one.is_dir()} == {0o700}
    assert not list(target.rglob("*.tmp"))
    assert names(tmp_path) == {"b"}
    assert names(tmp_path / "b") == {"to"}


class KilledError(BaseException):
    """The process is gone: nothing of it cleans up."""


STEPS = ("mkdir", "_copy_file", "_compare", "sync_folder", "rename", "_remove", "rmtree")


@pytest.mark.usefixtures("two_disks")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_at_any_step_it_is_whole_at_one_of_both(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    """And the same command brings it to its end, with nothing left behind."""
    (tmp_path / "b").mkdir()
    target = tmp_path / "b" / "to"
    with monkeypatch.context() as patch:
        _kill_at(patch, step, nth)
        with contextlib.suppress(KilledError):
            move_archive(path, target)
    places = [one for one in (path, target) if one.exists() and read_marker(one)]
    assert places
    if path in places:
        move_archive(path, target)
    else:
        with pytest.raises(LocalError, match="no archive"):
            move_archive(path, target)
    check_whole(target)
    assert names(tmp_path) == {"b"}
    assert names(tmp_path / "b") == {"to"}


def _kill_at(patch: pytest.MonkeyPatch, step: str, nth: int) -> None:
    """Kill at the nth call of a step; nothing that would clean up afterwards does."""
    place: Any = {"mkdir": Path, "rename": Path, "rmtree": shutil}.get(step, move)
    do: Callable[..., Any] = getattr(place, step)
    calls = 0
    is_dead = False

    def count(*words: Any, **more: Any) -> Any:
        nonlocal calls, is_dead
        calls += 1
        if is_dead and step == "rmtree":
            return None
        if calls == nth:
            is_dead = True
            patch.setattr(shutil, "rmtree", lambda *words, **more: None)
            raise KilledError
        return do(*words, **more)

    patch.setattr(place, step, count)


@pytest.mark.usefixtures("two_disks")
def test_a_copy_that_is_not_the_same_is_no_move(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that lies: the archive stays where it was, whole."""
    copy = move._copy_file

    def lose(source: Path, target: Path) -> None:
        copy(source, target)
        target.write_bytes(target.read_bytes()[:-1])

    monkeypatch.setattr(move, "_copy_file", lose)
    with pytest.raises(LocalError, match="does not hold what"):
        move_archive(path, tmp_path / "b" / "to")
    check_whole(path)
    assert names(tmp_path / "b") == set()


@pytest.mark.usefixtures("two_disks")
def test_a_full_disk_leaves_it_where_it_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(LocalError, match="the disk is full"):
        move_archive(path, tmp_path / "b" / "to")
    check_whole(path)
    assert names(tmp_path / "b") == set()


def test_while_another_run_uses_it_it_stays(path: Path, tmp_path: Path) -> None:
    with (
        open_archive(OWNER, path),
        pytest.raises(LocalError, match="Another run uses the archive"),
    ):
        move_archive(path, tmp_path / "b")
    check_whole(path)
    assert not (tmp_path / "b").exists()


def test_a_folder_that_is_its_own_disk_is_emptied(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be renamed, nor removed."""
    rename, rmdir = Path.rename, Path.rmdir

    def refuse(self: Path, target: Path) -> None:
        if self == path:
            raise OSError(errno.EBUSY, "it is a mount point")
        rename(self, target)

    def stay(self: Path) -> None:
        if self == path:
            raise OSError(errno.EBUSY, "it is a mount point")
        rmdir(self)

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "rmdir", stay)
    move_archive(path, tmp_path / "b")
    check_whole(tmp_path / "b")
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("target", ["from here", "from here/in", "."])
def test_it_cannot_be_moved_into_itself(path: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError, match="not apart"):
        move_archive(path, tmp_path / target)
    check_whole(path)


def test_what_lies_there_is_not_touched(path: Path, tmp_path: Path) -> None:
    """Neither other things, nor another archive, nor a file."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter").write_text("x")
    with open_archive(OWNER, tmp_path / "c"):
        pass
    (tmp_path / "d").write_text("x")
    for target, told in (("b", "not empty"), ("c", "is another archive"), ("d", "a file")):
        with pytest.raises((UsageError, LocalError), match=told):
            move_archive(path, tmp_path / target)
    check_whole(path)
    assert (tmp_path / "b" / "letter").read_text() == "x"


def test_where_there_is_none_nothing_is_moved(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no archive"):
        move_archive(tmp_path / "a", tmp_path / "b")


def test_it_can_be_used_at_once(path: Path, tmp_path: Path) -> None:
    """No lock and no log of the old place stays on."""
    move_archive(path, tmp_path / "b")
    with open_existing(tmp_path / "b", alone=True) as opened:
        assert opened.is_alone
        opened.archive.set_note("more", "1")


def test_a_damaged_landing_is_told(path: Path, tmp_path: Path) -> None:
    (path / "landing.sqlite").write_bytes(b"x" * 10_000)
    with pytest.raises(LocalError, match="copper archive check"):
        move_archive(path, tmp_path / "b")
