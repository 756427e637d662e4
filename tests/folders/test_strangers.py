"""Links, pipes and devices in the place of the program's files: never written through, no hang."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.errors import LocalError
from copper_cli.files.bundle import FolderBundle, write_bundle
from copper_cli.files.opening import digest_file
from copper_cli.files.whole import check_writable, renew_whole, replace_whole
from copper_cli.folders.manifest import Entry, Folder, Question, State

QUESTION = Question("meter usage", "2021-01-01", "2021-01-02", "hour")
FETCHED = Entry(QUESTION, "07:1", "fetched", rows=1)
NAME = "07_1.usage.csv"
THEIRS = "somebody else's\n"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A file elsewhere that is not ours to write."""
    path = tmp_path / "elsewhere" / "theirs.txt"
    path.parent.mkdir()
    path.write_text(THEIRS)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


Put = Callable[[Path], None]


@pytest.fixture(params=["link", "dangling link", "pipe"])
def put(request: pytest.FixtureRequest, theirs: Path) -> Put:
    """Puts something that is no plain file under a name."""

    def place(path: Path) -> None:
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(theirs if request.param == "link" else theirs.with_name("new.txt"))

    return place


@pytest.fixture(autouse=True)
def untouched(theirs: Path) -> object:
    """Whatever a test does, what a link leads to is as it was and nothing new is beside it."""
    yield
    assert theirs.read_text() == THEIRS
    assert list(theirs.parent.iterdir()) == [theirs]


@pytest.mark.parametrize("name", [".copper.lock.json", NAME])
def test_a_folder_s_files_give_way(folder: Path, put: Put, name: str) -> None:
    """A download into the folder goes on as if nothing stood there, and replaces it."""
    put(folder / name)
    with Folder.open(folder) as opened:
        path = folder / ".copper.lock.json"
        assert path.is_file()
        assert not path.is_symlink()
        assert opened.write(NAME, ["x\n"], FETCHED).sha256
    assert (folder / NAME).read_text() == "x\n"
    assert not (folder / NAME).is_symlink()
    with Folder.open(folder) as opened:
        assert opened.check(NAME, QUESTION) == "complete"


@pytest.mark.parametrize("name", [".manifest.journal", ".manifest.stamps", ".x.csv.draft"])
def test_what_only_has_the_name_of_an_older_version_s(folder: Path, put: Put, name: str) -> None:
    """Is neither read nor removed, and the folder is not taken for an older one."""
    put(folder / name)
    mode = (folder / name).lstat().st_mode
    with Folder.open(folder) as opened:
        opened.write(NAME, ["x\n"], FETCHED)
        assert opened.notices == []
    assert (folder / name).lstat().st_mode == mode
    assert Folder.look(folder).names() == [NAME]


def test_a_manifest_that_is_linked_to_is_read_and_replaced(folder: Path, tmp_path: Path) -> None:
    """What it says counts; what is written is a file of the folder, not of where it led."""
    with Folder.open(folder) as opened:
        opened.write(NAME, ["x\n"], FETCHED)
    elsewhere = tmp_path / "manifest.json"
    (folder / "manifest.json").rename(elsewhere)
    before = elsewhere.read_bytes()
    (folder / "manifest.json").symlink_to(elsewhere)
    with Folder.open(folder) as opened:
        assert opened.check(NAME, QUESTION) == "complete"
        opened.write("07_2.usage.csv", ["y\n"], FETCHED)
    assert elsewhere.read_bytes() == before
    assert not (folder / "manifest.json").is_symlink()
    assert Folder.look(folder).names() == [NAME, "07_2.usage.csv"]


def test_a_manifest_that_is_a_pipe(folder: Path) -> None:
    """Is told, not waited for; nothing is written."""
    os.mkfifo(folder / "manifest.json")
    for open_folder in (Folder.open, Folder.look):
        with pytest.raises(LocalError, match=r"manifest.json cannot be read: it is no plain file"):
            open_folder(folder)


def test_a_lock_that_is_not_ours(folder: Path, put: Put) -> None:
    """Two runs that lock what a link leads to, or nothing, would both think they are alone."""
    put(folder / ".copper.lock")
    with pytest.raises(LocalError, match="is a link or no plain file; remove it"):
        Folder.open(folder)


def test_a_data_file_that_became_a_pipe(folder: Path) -> None:
    """Is told, not waited for."""
    with Folder.open(folder) as opened:
        opened.write(NAME, ["x\n"], FETCHED)
    (folder / NAME).unlink()
    os.mkfifo(folder / NAME)
    with (
        Folder.open(folder) as opened,
        pytest.raises(LocalError, match="cannot be read: it is no plain file"),
    ):
        opened.check(NAME, QUESTION)


@pytest.mark.parametrize("state", ["empty", "failed"])
def test_a_data_file_that_became_a_pipe_is_not_removed(folder: Path, state: State) -> None:
    """Nor waited for: it is not what was written."""
    with Folder.open(folder) as opened:
        opened.write(NAME, ["x\n"], FETCHED)
    (folder / NAME).unlink()
    os.mkfifo(folder / NAME)
    with Folder.open(folder) as opened:
        opened.record(NAME, Entry(QUESTION, "07:1", state))
    assert (folder / NAME).is_fifo()


def test_other_files_that_the_program_names(folder: Path, put: Put) -> None:
    """A summary, a report's notes, a ZIP and the note beside it."""
    for name in ("meter_summary.csv", "readme.txt", "x.zip", ".bundle.stamp"):
        put(folder / name)
    renew_whole(folder / "meter_summary.csv", "x")
    replace_whole(folder / "readme.txt", ["x"])
    write_bundle(folder / "x.zip", {"a": ["text"]})
    bundle = FolderBundle(folder / "x.zip", folder, ["readme.txt"])
    assert not bundle.is_current()
    bundle.write(lambda: None)
    assert bundle.is_current()
    assert all(p.is_file() and not p.is_symlink() for p in folder.iterdir())


def test_a_pipe_has_no_digest(folder: Path) -> None:
    """It would be waited for."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="it is no plain file"):
        digest_file(folder / "pipe")


class TestWhetherItCanBeWritten:
    """`check_writable`: the same line that writing would end with, before any call is spent."""

    def test_it_can(self, folder: Path, theirs: Path) -> None:
        """New, old, in folders to be made, a link, a pipe, stdout; nothing is left behind."""
        (folder / "link").symlink_to(theirs)
        os.mkfifo(folder / "pipe")
        names = ["new", "a/b/c", "link", "pipe"]
        for path in (*(folder / name for name in names), theirs, Path("-"), Path("/dev/null")):
            check_writable(path)
        assert sorted(p.name for p in folder.iterdir()) == ["link", "pipe"]

    def test_it_cannot(self, folder: Path) -> None:
        """A folder, below a file, where a link leads in a circle, where nothing can be made."""
        (folder / "file").write_text("")
        (folder / "loop").symlink_to("loop")
        told = {
            folder: "it is a folder",
            folder / "file" / "x": "a part of the path is a file",
            folder / "loop": "its links lead in a circle",
            Path("/proc/x.csv"): "cannot be written",
        }
        for path, reason in told.items():
            with pytest.raises(LocalError, match=reason):
                check_writable(path)
