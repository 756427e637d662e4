"""A folder of the version before: its journal is applied once, what lay beside it is removed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copper_cli.errors import LocalError
from copper_cli.folders import contents, manifest
from copper_cli.folders.entries import Entry, Question, entry_to_json, read_manifest
from copper_cli.folders.manifest import Folder

QUESTION = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "rows")
OTHER = replace(QUESTION, start="2021-03-01", end="2021-03-02")
NAME = "07_1.usage.csv"
FIRST = {"op": "open", "format": "copper-manifest", "version": 2, "pid": 1, "command": "copper"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def told(entry: Entry) -> dict[str, Any]:
    """An entry as that version wrote it."""
    found = entry_to_json(entry)
    del found["sum_from"], found["archive"]
    return found


def fetched(text: str, question: Question = QUESTION) -> Entry:
    return Entry(question, "07:1", "fetched", rows=1, sha256=digest(text))


def list_files(path: Path, entries: dict[str, Entry]) -> None:
    files = {name: told(entry) for name, entry in entries.items()}
    text = json.dumps({"format": "copper-manifest", "version": 2, "files": files})
    (path / "manifest.json").write_text(text)


def note(path: Path, *lines: dict[str, Any], first: dict[str, Any] = FIRST, tail: str = "") -> None:
    text = "".join(json.dumps(line) + "\n" for line in (first, *lines))
    (path / ".manifest.journal").write_text(text + tail)


def written(text: str, name: str = NAME, question: Question = QUESTION) -> dict[str, Any]:
    return {"op": "write", "name": name, "entry": told(fetched(text, question)), "old": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "generated"
    found.mkdir()
    return found


def listing(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


def open_once(path: Path, question: Question = QUESTION) -> tuple[str, list[str]]:
    """The verdict on the file, alike for looking, and what is told."""
    verdict = Folder.look(path).check(NAME, question)
    with Folder.open(path) as folder:
        assert folder.check(NAME, question) == verdict
        return verdict, folder.notices


def test_a_folder_that_was_left_in_order(path: Path) -> None:
    """Its files are kept; the stamps go, and one line tells it, once."""
    (path / NAME).write_text("one")
    list_files(path, {NAME: fetched("one")})
    before = (path / "manifest.json").read_bytes()
    (path / ".manifest.stamps").write_text("{}")
    assert open_once(path) == (
        "complete",
        ["generated/ is of an earlier version and is taken over."],
    )
    assert listing(path) == [".copper.lock", NAME, "manifest.json"]
    assert (path / "manifest.json").read_bytes() == before
    assert open_once(path) == ("complete", [])


def test_a_folder_whose_run_was_killed(path: Path) -> None:
    """What the journal tells is in the manifest before the journal goes; drafts are removed."""
    (path / NAME).write_text("one")
    note(
        path,
        written("one"),
        {"op": "done", "name": NAME},
        {"op": "record", "name": "b.csv", "entry": told(Entry(QUESTION, "07:2", "empty"))},
    )
    for name in (".07_3.usage.csv.draft", ".grid.draft"):
        (path / name).write_text('["copper-draft 1", {"start": "2021-01-01"}]\n1 2 3\n')
    (path / ".07_4.usage.csv.draft").touch()
    (path / f".copper-folder-{'0' * 16}.tmp").write_text("half")
    assert open_once(path) == (
        "complete",
        [
            "generated/ is of an earlier version and is taken over: its journal is applied, "
            "3 drafts of unfinished files are removed."
        ],
    )
    assert listing(path) == [".copper.lock", NAME, "manifest.json"]
    entries, was = read_manifest(path / "manifest.json")
    assert entries == {NAME: fetched("one"), "b.csv": Entry(QUESTION, "07:2", "empty")}
    assert was == {}


def test_the_manifest_is_written_before_the_journal_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that fails nothing is lost, and the folder is let go."""
    (path / NAME).write_text("one")
    note(path, written("one"), {"op": "done", "name": NAME})
    before = (path / ".manifest.journal").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise LocalError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write_temporary", fail)
        with pytest.raises(LocalError, match="the disk is full"):
            Folder.open(path)
    assert (path / ".manifest.journal").read_bytes() == before
    assert open_once(path)[0] == "complete"


def test_records_alone(path: Path) -> None:
    """A journal that tells of no file is applied too."""
    entry = Entry(QUESTION, "07:1", "failed", reason="500")
    note(path, {"op": "record", "name": NAME, "entry": told(entry)})
    assert open_once(path)[0] == "failed"
    assert read_manifest(path / "manifest.json")[0] == {NAME: entry}


def test_a_run_that_had_done_nothing(path: Path) -> None:
    """No manifest comes of its journal."""
    note(path)
    assert open_once(path)[0] == "new"
    assert listing(path) == [".copper.lock"]


@pytest.mark.parametrize("tail", ['{"op": "do', "\x00" * 50, "5\n", '{"op": "x"}\n', "[" * 100_000])
def test_a_torn_tail_is_survived(path: Path, tail: str) -> None:
    """Whatever a power cut left behind the last whole line."""
    (path / NAME).write_text("one")
    note(path, written("one"), {"op": "done", "name": NAME}, tail=tail)
    assert open_once(path)[0] == "complete"


def test_cut_off_anywhere(path: Path) -> None:
    """However much of the last line reached the disk, our file is not a stranger's."""
    (path / NAME).write_text("one")
    note(path, written("one"), {"op": "done", "name": NAME})
    data = (path / ".manifest.journal").read_bytes()
    for length in range(data.index(b'{"op": "done"'), len(data)):
        (path / ".manifest.journal").write_bytes(data[:length])
        assert Folder.look(path).check(NAME, QUESTION) == "complete"


def test_announced_but_not_done(path: Path) -> None:
    """An old file that was to be replaced is ours, and written anew; a new one never came."""
    (path / NAME).write_text("old")
    list_files(path, {NAME: fetched("old")})
    note(path, written("new", question=OTHER), written("new", "b.csv"))
    assert open_once(path, OTHER)[0] == "behind"
    assert open_once(path, QUESTION)[0] == "other range"
    with Folder.open(path) as folder:
        assert folder.names() == [NAME]
        folder.write(NAME, ["new"], fetched("new", OTHER))
    assert open_once(path, OTHER)[0] == "complete"


def test_a_file_that_was_edited_after_the_run(path: Path) -> None:
    """It is told as changed, be it a new one or one that was replaced."""
    (path / NAME).write_text("edited")
    note(path, written("one"), {"op": "done", "name": NAME})
    assert open_once(path)[0] == "changed"
    list_files(path, {NAME: fetched("old")})
    note(path, written("one"), {"op": "done", "name": NAME})
    assert open_once(path)[0] == "changed"


@pytest.mark.parametrize("text", ["old", None, "edited"])
def test_a_removal_that_was_announced(path: Path, text: str | None) -> None:
    """It is finished if the file is still ours; a file somebody changed since stays."""
    list_files(path, {NAME: fetched("old")})
    empty = told(Entry(QUESTION, "07:1", "empty"))
    note(path, {"op": "remove", "name": NAME, "entry": empty, "old": digest("old")})
    if text is not None:
        (path / NAME).write_text(text)
    assert open_once(path)[0] == ("changed" if text == "edited" else "complete")
    assert (path / NAME).exists() == (text == "edited")


def test_a_name_that_leads_elsewhere_is_not_followed(path: Path, tmp_path: Path) -> None:
    """A journal somebody forged cannot make us remove a file outside."""
    outside = tmp_path / "outside.csv"
    outside.write_text("precious")
    empty = told(Entry(QUESTION, "07:1", "empty"))
    note(
        path, {"op": "remove", "name": "../outside.csv", "entry": empty, "old": digest("precious")}
    )
    assert Folder.look(path).names() == []
    assert open_once(path)[0] == "new"
    assert outside.read_text() == "precious"


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"op": "open", "format": "copper-manifest", "version": 3}, "newer version"),
        ({"op": "open", "format": "else"}, "no manifest of this program"),
    ],
)
def test_a_journal_that_is_not_ours(path: Path, first: dict[str, Any], message: str) -> None:
    """Refused like a manifest that is not, and left alone."""
    note(path, first=first)
    for open_folder in (Folder.open, Folder.look):
        with pytest.raises(LocalError, match=message):
            open_folder(path)
    assert (path / ".manifest.journal").exists()


def test_other_hidden_files_stay(path: Path) -> None:
    """What only ends as a draft does, and drafts that lie elsewhere."""
    others = [".letter.draft", "x.draft", ".draft", "sub/.x.csv.draft"]
    (path / "sub").mkdir()
    for name in others:
        (path / name).write_text("mine")
    (path / ".empty.draft").touch()
    with Folder.open(path) as folder:
        assert folder.notices == []
    assert all((path / name).read_text() == "mine" for name in others)
    assert (path / ".empty.draft").exists()


class TestStamps:
    def put(self, path: Path) -> None:
        (path / NAME).write_text("one")
        found = (path / NAME).stat()
        stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, digest("one")]
        list_files(path, {NAME: fetched("one")})
        stamps = {NAME: stamp, "gone.csv": stamp}
        (path / ".manifest.stamps").write_text(json.dumps(stamps))

    def test_they_are_handed_on(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten thousand files are not read again because the version is another."""
        self.put(path)
        known: dict[str, tuple[Any, ...]] = {}

        class Stamps:
            def stamp_get(self, path: str) -> tuple[Any, ...] | None:
                return known.get(path)

            def stamp_put(self, path: str, stamp: tuple[Any, ...]) -> None:
                known[path] = stamp

        monkeypatch.setattr(contents, "digest_file", lambda _: pytest.fail("read"))
        assert Folder.look(path).check(NAME, QUESTION) == "complete"
        with Folder.open(path, stamps=Stamps()) as folder:
            assert folder.check(NAME, QUESTION) == "complete"
        assert list(known) == [str(path.resolve() / NAME)]
        with Folder.open(path, stamps=Stamps()) as folder:
            assert folder.check(NAME, QUESTION) == "complete"

    @pytest.mark.parametrize("text", ["", "[]", '{"07_1.usage.csv": 5}', "\x00", "[" * 100_000])
    def test_those_that_cannot_be_read_cost_only_time(self, path: Path, text: str) -> None:
        """They saved reading, nothing else."""
        self.put(path)
        (path / ".manifest.stamps").write_text(text)
        assert open_once(path)[0] == "complete"
        assert not (path / ".manifest.stamps").exists()
