"""A ZIP of a folder's files: made anew exactly when it would hold something else."""

import os
import tracemalloc
from zipfile import ZipFile

import pytest

from copper_cli.files.bundle import FolderBundle, write_bundle

NAMES = ["1/a.csv", "1/b.csv", "2/gone.csv"]


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "foo"
    (found / "1").mkdir(parents=True)
    (found / "1/a.csv").write_text("a")
    (found / "1/b.csv").write_text("b")
    return found


def bundle(folder, names=NAMES, path="foo.zip"):
    return FolderBundle(folder.parent / path, folder, names)


def make(folder):
    made = bundle(folder)
    told = []
    made.write(lambda: told.append(1))
    return made, len(told)


def read(folder):
    with ZipFile(folder.parent / "foo.zip") as found:
        return {name: found.read(name) for name in found.namelist()}


def test_it_holds_the_files_that_are_there(folder):
    """Under the folder's name; one that is gone, or is no file, is left out."""
    (folder / "2/gone.csv").mkdir(parents=True)
    made, told = make(folder)
    assert len(made) == told == 2
    assert read(folder) == {"foo/1/a.csv": b"a", "foo/1/b.csv": b"b"}


def test_it_is_current_until_something_changes(folder):
    """Not before it is made; then for every later run."""
    assert not bundle(folder).is_current()
    made, _ = make(folder)
    assert made.is_current()
    assert bundle(folder).is_current()


def touch(path):
    """The same content, written at another time."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "1/a.csv").write_text("longer"),
        lambda folder: touch(folder / "1/a.csv"),
        lambda folder: (folder / "1/a.csv").unlink(),
        lambda folder: [(folder / "2").mkdir(), (folder / "2/gone.csv").write_text("back")],
        lambda folder: touch(folder.parent / "foo.zip"),
        lambda folder: (folder.parent / "foo.zip").unlink(),
        lambda folder: (folder / ".bundle.stamp").unlink(),
        lambda folder: (folder / ".bundle.stamp").write_bytes(b"\xff"),
    ],
    ids=["longer", "touched", "gone", "back", "zip touched", "zip gone", "no note", "bad note"],
)
def test_any_change_makes_it_old(folder, change):
    """Of a file, of which files there are, of the ZIP, of the note."""
    make(folder)
    change(folder)
    assert not bundle(folder).is_current()
    make(folder)
    assert bundle(folder).is_current()


def test_another_day_is_another_zip(folder):
    """The note speaks of one ZIP, and of the names that it was made of."""
    make(folder)
    (folder.parent / "foo.zip").rename(folder.parent / "later.zip")
    assert not bundle(folder, path="later.zip").is_current()
    assert not bundle(folder, NAMES[:1]).is_current()


def test_a_folder_that_takes_no_note(folder):
    """The ZIP is what counts: it is there, and the next run makes it anew."""
    (folder / ".bundle.stamp").mkdir()
    make(folder)
    assert read(folder)["foo/1/a.csv"] == b"a"
    assert not bundle(folder).is_current()


def test_a_bundle_is_not_held_in_memory(tmp_path):
    """Twenty files that do not compress: a fraction of them at once."""
    size = 1_000_000
    members = {}
    for number in range(20):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(os.urandom(size))
        members[path.name] = path
    tracemalloc.start()
    try:
        write_bundle(tmp_path / "b.zip", members)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * size
    with ZipFile(tmp_path / "b.zip") as bundle:
        assert all(bundle.read(name) == path.read_bytes() for name, path in members.items())
    assert len(list(tmp_path.iterdir())) == 21
