"""The cache folder: whose it is, who can read it, and what is believed that lies in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from copper_cli.errors import LocalError
from copper_cli.files.mending import mend_folder
from copper_cli.files.private import make_private, read_private, write_private

KINDS = ["token.1.json", "answers.1.sqlite", "quota.1.sqlite", "spans.json"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    for name in KINDS:
        write_private(path / name, "{}")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """Nothing is told, nothing changed; nor where there is none yet."""
    assert mend_folder(folder) == []
    assert mend_folder(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    assert mend_folder(tmp_path / "file") == []


@pytest.mark.parametrize(
    ("open_mode", "could"),
    [(0o755, "read"), (0o750, "read"), (0o777, "changed"), (0o770, "changed")],
)
def test_a_folder_that_others_can_use(folder: Path, open_mode: int, could: str) -> None:
    """Is made 0700 and told, once."""
    folder.chmod(open_mode)
    assert mend_folder(folder) == [f"{folder} could be {could} by others; now it is yours alone."]
    assert mode(folder) == 0o700
    assert mend_folder(folder) == []
    assert sorted(p.name for p in folder.iterdir()) == sorted(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_others_can_read(folder: Path, name: str) -> None:
    """Is made 0600 and told; what it holds is kept."""
    (folder / name).chmod(0o644)
    told = f"{folder / name} could be read by others; now it is yours alone."
    assert mend_folder(folder) == [told]
    assert (mode(folder / name), (folder / name).read_text()) == (0o600, "{}")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_others_can_change(folder: Path, name: str) -> None:
    """Token and answers are not believed; calls that were counted stay counted."""
    (folder / name).chmod(0o666)
    (told,) = mend_folder(folder)
    assert told.startswith(f"{folder / name} could be changed by others; ")
    if name.startswith(("token", "answers")):
        assert not (folder / name).exists()
    else:
        assert (mode(folder / name), (folder / name).read_text()) == (0o600, "{}")


@pytest.mark.parametrize("name", KINDS)
def test_links_and_pipes_go(folder: Path, tmp_path: Path, name: str) -> None:
    """What they lead to stays as it was."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    for put in (lambda path: path.symlink_to(theirs), os.mkfifo):
        (folder / name).unlink()
        put(folder / name)
        (told,) = mend_folder(folder)
        assert told == f"{folder / name} was a link or another user's file; it is removed."
        write_private(folder / name, "ours")
    assert theirs.read_text() == "theirs"


@needs_root
@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_user_goes(folder: Path, name: str) -> None:
    """It was put there while others could."""
    os.chown(folder / name, 12345, 12345)
    assert len(mend_folder(folder)) == 1
    assert not (folder / name).exists()


@needs_root
def test_a_folder_of_another_user(folder: Path) -> None:
    """Is refused, and nothing in it touched: exit 7."""
    os.chown(folder, 12345, 12345)
    (folder / KINDS[0]).chmod(0o666)
    with pytest.raises(LocalError, match=r"belongs to another user \(uid 12345\)") as error:
        mend_folder(folder)
    assert error.value.exit_code == 7
    assert mode(folder / KINDS[0]) == 0o666


def test_a_folder_that_holds_other_things(folder: Path) -> None:
    """Its mode is left alone: it is not ours alone. Where others can write to it, it is refused."""
    (folder / "thesis.tex").write_text("")
    folder.chmod(0o755)
    assert mend_folder(folder) == []
    assert mode(folder) == 0o755
    folder.chmod(0o1777)
    with pytest.raises(LocalError, match="is not for this program alone"):
        mend_folder(folder)
    assert mode(folder) == 0o1777


def test_a_folder_that_is_linked_to(folder: Path, tmp_path: Path) -> None:
    """Counts as the folder it is: people keep caches on another disk."""
    link = tmp_path / "link"
    link.symlink_to(folder)
    folder.chmod(0o755)
    assert len(mend_folder(link)) == 1
    assert mode(folder) == 0o700


def test_what_is_read_and_made(folder: Path, tmp_path: Path) -> None:
    """Neither follows a link nor waits for a pipe, nor believes what others could have written."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    for put in (lambda path: path.symlink_to(theirs), os.mkfifo):
        path = folder / "token.2.json"
        put(path)
        with pytest.raises(OSError, match=r"."):
            read_private(path)
        with pytest.raises(OSError, match=r"."):
            make_private(path)
        path.unlink()
    assert theirs.read_text() == "theirs"
    write_private(path, "ours")
    assert read_private(path) == "ours"
    path.chmod(0o622)
    with pytest.raises(PermissionError):
        read_private(path)
