"""Files take their names in batches that the manifest announces: what is seen when, and what a
kill, a full disk or Ctrl-C in between leaves."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from copper_cli.errors import CloudError, LocalError
from copper_cli.files import whole as files
from copper_cli.files.opening import digest_file
from copper_cli.folders import manifest
from copper_cli.folders.entries import Entry, Question, read_manifest
from copper_cli.folders.manifest import Folder

QUESTION = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "rows")
OTHER = replace(QUESTION, start="2021-03-01", end="2021-03-02")
DAILY = replace(QUESTION, granularity="day")
NAME = "07_1.usage.csv"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def entry(question: Question = QUESTION, state: Any = "fetched", **about: Any) -> Entry:
    return Entry(question, "07:1", state, **about)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "generated"


@pytest.fixture(autouse=True)
def nothing_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, batches end where a test says so."""
    monkeypatch.setattr(manifest, "_FLUSH_S", 3600.0)


def put(path: Path, text: str = "old", name: str = NAME, question: Question = QUESTION) -> None:
    with Folder.open(path) as folder:
        folder.write(name, [text], entry(question))


def on_disk(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text())["files"]
    return found


def listing(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


def temporaries(path: Path) -> list[Path]:
    return list(path.rglob(".copper-folder-*.tmp"))


def kill(folder: Folder) -> None:
    """As if the process ended here: nothing is put in order, the lock is free."""
    assert folder._lock is not None
    folder._lock._lock.release()
    folder._lock = None


def verdicts(path: Path, *questions: Question, name: str = NAME) -> list[str]:
    """What a run finds, and one that only looks."""
    looked = [Folder.look(path).check(name, question) for question in questions]
    with Folder.open(path) as folder:
        assert [folder.check(name, question) for question in questions] == looked
    return [str(found) for found in looked]


class TestWhenTheyTakeTheirNames:
    def test_staged_is_as_good_as_done_for_this_run(self, path: Path) -> None:
        """Asked before the batch ends, it says what the entry says."""
        put(path)
        with Folder.open(path) as folder:
            written = folder.write(NAME, ["new"], entry(OTHER))
            folder.write("b.csv", ["b"], entry(state="late"))
            assert (path / NAME).read_text() == "old"
            assert not (path / "b.csv").exists()
            assert folder.state_of(NAME) == written
            assert folder.names() == [NAME, "b.csv"]
            assert folder.check(NAME, OTHER) == "complete"
            assert folder.check(NAME, QUESTION) == "other range"
            assert folder.check(NAME, DAILY) == "other question"
            assert folder.check("b.csv", QUESTION) == "to come"
            folder.flush()
            assert (path / NAME).read_text() == "new"
            assert temporaries(path) == []
        assert written.sha256 == digest_file(path / NAME)

    def test_a_removal_too(self, path: Path) -> None:
        """The file is there until the batch ends."""
        put(path)
        with Folder.open(path) as folder:
            folder.record(NAME, entry(state="empty"))
            assert (path / NAME).exists()
            assert folder.check(NAME, QUESTION) == "complete"
            assert folder.check(NAME, OTHER) == "new"
            folder.flush()
            assert not (path / NAME).exists()

    def test_many_files(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As soon as so many are staged."""
        monkeypatch.setattr(manifest, "_FLUSH_FILES", 3)
        with Folder.open(path) as folder:
            for number, there in enumerate([0, 0, 3, 3, 3, 6]):
                folder.write(f"{number}.csv", ["x"], entry())
                assert len(list(path.glob("*.csv"))) == there

    def test_more_files_where_there_are_more(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A manifest of many files is not rewritten for each few of them."""
        monkeypatch.setattr(manifest, "_FLUSH_FILES", 2)
        monkeypatch.setattr(manifest, "_FLUSH_SHARE", 10)
        with Folder.open(path) as folder:
            for number in range(60):
                folder.record(f"{number}.csv", entry(state="empty"))
            for number in range(60, 65):
                folder.write(f"{number}.csv", ["x"], entry())
                assert list(path.glob("*.csv")) == []
            folder.write("66.csv", ["x"], entry())
            assert len(list(path.glob("*.csv"))) == 6

    def test_after_a_while(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of days does not leave readers with nothing until its end."""
        now = 1000.0
        monkeypatch.setattr(manifest.time, "monotonic", lambda: now)
        monkeypatch.setattr(manifest, "_FLUSH_S", 1.0)
        with Folder.open(path) as folder:
            folder.write("a.csv", ["x"], entry())
            now += 0.5
            folder.record("b.csv", entry(state="empty"))
            assert not (path / "manifest.json").exists()
            now += 0.5
            folder.write("c.csv", ["x"], entry())
            assert sorted(on_disk(path)) == ["a.csv", "b.csv", "c.csv"]
            assert (path / "c.csv").exists()
            now += 1.0
            folder.record("d.csv", entry(state="failed"))
            assert "d.csv" in on_disk(path)

    def test_rewriting_costs_a_few_percent(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where it takes long, it is done less often."""
        now = 1000.0
        really = files.Staged.commit

        def commit(staged: files.Staged) -> None:
            nonlocal now
            now += 2.0
            really(staged)

        monkeypatch.setattr(manifest.time, "monotonic", lambda: now)
        monkeypatch.setattr(files.Staged, "commit", commit)
        monkeypatch.setattr(manifest, "_FLUSH_S", 1.0)
        rewritten = 0
        with Folder.open(path) as folder:
            for number in range(1000):
                before = now
                folder.write(f"{number}.csv", ["x"], entry())
                rewritten += now > before
                now += 0.5
        assert 5 <= rewritten <= 0.05 * 1000 * 0.5 / 2 + 1

    def test_at_the_end_of_a_run_that_fails(self, path: Path) -> None:
        """An error or Ctrl-C loses nothing that was written."""

        def run(name: str, error: BaseException) -> None:
            with Folder.open(path) as folder:
                folder.write(name, ["x"], entry())
                raise error

        for number, error in enumerate((CloudError("gone"), KeyboardInterrupt(), SystemExit())):
            with pytest.raises(type(error)):
                run(f"{number}.csv", error)
        assert sorted(on_disk(path)) == ["0.csv", "1.csv", "2.csv"]
        assert all((path / f"{number}.csv").exists() for number in range(3))

    def test_a_file_written_twice(self, path: Path) -> None:
        """The last word counts, in a batch or not."""
        with Folder.open(path) as folder:
            folder.write(NAME, ["one"], entry())
            folder.write(NAME, ["two"], entry(OTHER))
            folder.record(NAME, entry(OTHER, "failed"))
            assert folder.check(NAME, OTHER) == "failed"
            folder.record("b.csv", entry())
            folder.write("b.csv", ["b"], entry())
            folder.record("b.csv", entry(state="empty"))
            folder.write("c.csv", ["c"], entry())
            folder.record("c.csv", entry(state="empty"))
            folder.write("c.csv", ["d"], entry())
        assert temporaries(path) == []
        assert (path / NAME).read_text() == "two"
        assert not (path / "b.csv").exists()
        assert (path / "c.csv").read_text() == "d"
        assert verdicts(path, OTHER) == ["failed"]

    def test_many_threads_write(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every file and every entry is there in the end."""
        monkeypatch.setattr(manifest, "_FLUSH_FILES", 7)
        with Folder.open(path) as folder:

            def work(first: int) -> None:
                for number in range(first, first + 20):
                    folder.write(f"{number}.csv", [str(number)] * 3, entry(rows=number))

            threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        with Folder.open(path) as folder:
            assert len(folder.names()) == 120
            assert all(folder.check(name, QUESTION) == "complete" for name in folder.names())
            found = folder.state_of("77.csv")
            assert found is not None
            assert found.rows == 77


class TestWhatTheManifestAnnounces:
    def test_what_comes_and_what_is_there(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before the first file takes its name, the digests of both; afterwards no more."""
        put(path)
        put(path, "gone", "gone.csv")
        (path / "mine.csv").write_text("mine")
        seen: list[dict[str, Any]] = []
        really = files.Staged.rename

        def rename(staged: files.Staged) -> None:
            if staged.path.name != "manifest.json":
                seen.append(on_disk(path))
            really(staged)

        with Folder.open(path) as folder:
            for name in (NAME, "b.csv", "mine.csv"):
                folder.write(name, ["new"], entry(OTHER))
            folder.record("gone.csv", entry(state="empty"))
            monkeypatch.setattr(files.Staged, "rename", rename)
        assert [found == seen[0] for found in seen] == [True] * 3
        told = {name: (one["sha256"], one["was"]) for name, one in seen[0].items()}
        assert told == {
            NAME: (digest("new"), digest("old")),
            "b.csv": (digest("new"), None),
            "mine.csv": (digest("new"), digest("mine")),
            "gone.csv": (None, digest("gone")),
        }
        assert all("was" not in one for one in on_disk(path).values())

    def test_a_run_that_changes_nothing_writes_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ten thousand files that are kept cost no rewriting, nor does a failure told again."""
        put(path)
        with Folder.open(path) as folder:
            folder.record("b.csv", entry(state="failed"))
        monkeypatch.setattr(Folder, "_save", lambda *_: pytest.fail("written"))
        with Folder.open(path) as folder:
            assert folder.check(NAME, QUESTION) == "complete"
            folder.record("b.csv", entry(state="failed"))
            folder.flush()

    def test_power_may_fail_at_any_time(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Content is on the disk before it is announced, the announcement before the first name,
        the names before the manifest stops announcing them."""
        day = "2021-03-01/e.csv"
        put(path)
        put(path, "gone", "gone.csv")
        happened: list[str] = []
        really_sync, really_replace, really_unlink = os.fsync, Path.replace, Path.unlink

        def name_of(one: Path) -> str:
            return "temporary" if one.name.startswith(".copper-folder-") else one.name

        def sync(handle: int) -> None:
            happened.append(f"sync {name_of(Path(f'/proc/self/fd/{handle}').readlink())}")
            really_sync(handle)

        def rename(one: Path, target: Path) -> Path:
            happened.append(f"name {target.name}")
            return really_replace(one, target)

        def unlink(one: Path, **options: Any) -> None:
            if one.suffix == ".csv":
                happened.append(f"remove {one.name}")
            really_unlink(one, **options)

        folder = Folder.open(path)
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", rename)
        monkeypatch.setattr(Path, "unlink", unlink)
        folder.write(NAME, ["new"], entry(OTHER))
        folder.write(day, ["day"], entry())
        folder.record("gone.csv", entry(state="empty"))
        folder.close()
        saved = ["sync temporary", "name manifest.json", "sync generated"]
        assert happened == [
            "sync temporary",
            "sync generated",  # it holds a new folder
            "sync temporary",
            *saved,
            f"name {NAME}",
            "name e.csv",
            "remove gone.csv",
            "sync generated",
            "sync 2021-03-01",
            *saved,
        ]


class TestKilled:
    def announced(self, path: Path, work: Callable[[Folder], Any]) -> None:
        """A run that is killed when it has announced its batch."""
        folder = Folder.open(path)
        work(folder)
        folder._announce()
        kill(folder)

    def test_before_the_batch_is_announced(self, path: Path) -> None:
        """All is as it was before the run; temporary files go, also in new folders."""
        put(path)
        folder = Folder.open(path)
        folder.write(NAME, ["new"], entry(OTHER))
        folder.write("2021-03-01/e.csv", ["e"], entry())
        kill(folder)
        assert len(temporaries(path)) == 2
        assert verdicts(path, QUESTION, OTHER) == ["complete", "other range"]
        assert temporaries(path) == []
        assert verdicts(path, QUESTION, name="2021-03-01/e.csv") == ["new"]

    def test_before_a_file_takes_its_name(self, path: Path) -> None:
        """The old one is ours, and what was announced is written anew."""
        put(path)
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry(OTHER)))
        for _ in range(2):  # it does not become a stranger's by being opened
            assert verdicts(path, OTHER, QUESTION) == ["behind", "other range"]
            assert verdicts(path, DAILY) == ["other question"]
        assert (path / NAME).read_text() == "old"
        put(path, "new", question=OTHER)
        assert verdicts(path, OTHER) == ["complete"]
        assert "was" not in on_disk(path)[NAME]

    def test_after_a_file_took_its_name(self, path: Path) -> None:
        """The new one is known, and the manifest stops announcing it."""
        put(path)
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry(OTHER)))
        (path / NAME).write_text("new")
        assert Folder.look(path).check(NAME, OTHER) == "complete"
        assert "was" in on_disk(path)[NAME]
        assert verdicts(path, OTHER) == ["complete"]
        assert "was" not in on_disk(path)[NAME]

    def test_a_new_file_that_never_came(self, path: Path) -> None:
        """Nobody is told that it is gone, and whatever else gets that name is not ours."""
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry()))
        assert verdicts(path, QUESTION) == ["new"]
        assert NAME not in on_disk(path)
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry()))
        (path / NAME).write_text("mine")
        assert verdicts(path, QUESTION) == ["stranger"]

    def test_before_a_file_is_removed(self, path: Path) -> None:
        """The next run removes it; looking does not, and says the same."""
        put(path)
        self.announced(path, lambda folder: folder.record(NAME, entry(OTHER, "empty")))
        assert Folder.look(path).check(NAME, OTHER) == "complete"
        assert Folder.look(path).check(NAME, QUESTION) == "new"
        assert (path / NAME).exists()
        with Folder.open(path) as folder:
            assert not (path / NAME).exists()
            assert folder.check(NAME, OTHER) == "complete"
        assert verdicts(path, OTHER, QUESTION) == ["complete", "new"]
        assert "was" not in on_disk(path)[NAME]

    @pytest.mark.parametrize("state", ["fetched", "empty"])
    def test_and_then_somebody_edits_it(self, path: Path, state: str) -> None:
        """It is changed, as ever: never removed, and told before it is replaced."""
        put(path)
        if state == "fetched":
            self.announced(path, lambda folder: folder.write(NAME, ["new"], entry()))
        else:
            self.announced(path, lambda folder: folder.record(NAME, entry(state=state)))
        (path / NAME).write_text("edited")
        assert verdicts(path, QUESTION, OTHER) == ["changed", "other question"]
        assert (path / NAME).read_text() == "edited"

    def test_and_then_somebody_removes_it(self, path: Path) -> None:
        """It is missing, as ever."""
        put(path)
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry()))
        (path / NAME).unlink()
        assert verdicts(path, QUESTION) == ["missing"]

    @pytest.mark.parametrize("state", ["empty", "failed"])
    @pytest.mark.parametrize("question", [QUESTION, OTHER])
    def test_a_file_that_is_behind_and_then_not_wanted(
        self, path: Path, state: str, question: Question
    ) -> None:
        """It is ours: removed where it would belie the entry, else still to be written anew."""
        put(path)
        self.announced(path, lambda folder: folder.write(NAME, ["new"], entry(OTHER)))
        with Folder.open(path) as folder:
            folder.record(NAME, entry(question, state))
        stays = (state, question) == ("failed", OTHER)
        assert (path / NAME).exists() == stays
        expected = "behind" if stays else "failed" if state == "failed" else "complete"
        assert verdicts(path, question) == [expected]

    def test_a_forged_name_is_not_followed(self, path: Path, tmp_path: Path) -> None:
        """A manifest somebody changed cannot make us remove a file outside."""
        outside = tmp_path / "outside.csv"
        outside.write_text("old")
        put(path)
        self.announced(path, lambda folder: folder.record(NAME, entry(state="empty")))
        text = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(text.replace(f'"{NAME}"', '"../outside.csv"'))
        Folder.open(path).close()
        assert outside.read_text() == "old"

    def test_temporary_files_of_other_runs_stay(self, path: Path) -> None:
        """A folder in it that is one of downloads by itself may be held by another run."""
        inner = path / "inner"
        path.mkdir()
        with Folder.open(inner) as other:
            other.write(NAME, ["x"], entry())
            put(path)
            assert len(temporaries(inner)) == 1
        assert verdicts(inner, QUESTION) == ["complete"]

    def test_a_folder_that_cannot_be_looked_into(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is somebody else's, and nothing of ours is in it."""
        (path / "closed").mkdir(parents=True)
        really = os.scandir

        def scan(folder: Path) -> Any:
            if folder.name == "closed":
                raise PermissionError(errno.EACCES, "no")
            return really(folder)

        monkeypatch.setattr(os, "scandir", scan)
        put(path)
        assert verdicts(path, QUESTION) == ["complete"]

    @pytest.mark.parametrize("number", [-1, *range(8)])
    def test_at_every_step(self, tmp_path: Path, number: int) -> None:
        """kill -9 before each open, rename, remove and sync, and again while the next run puts
        things in order: nothing is lost, halved or orphaned, no stranger's file touched, and the
        next run leaves the bytes of a run that was never killed. -1: a folder of the version
        before is taken over."""
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("kill_sweep.py"), tmp_path, str(number)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 30


class TestInterrupted:
    def test_an_error_in_the_source_leaves_all_as_it_was(self, path: Path) -> None:
        """No file, no entry, no temporary."""

        def chunks() -> Iterator[str]:
            yield "half"
            raise CloudError("gone")

        with Folder.open(path) as folder:
            with pytest.raises(CloudError):
                folder.write(NAME, chunks(), entry())
            assert folder.check(NAME, QUESTION) == "new"
        assert listing(path) == [".copper.lock"]

    def test_ctrl_c_at_every_step_of_a_batch(self, path: Path) -> None:
        """Wherever it comes, closing still gives each file its name and enters it."""
        at = 0
        while self.interrupt(path, at):
            shutil.rmtree(path)
            at += 1
        assert at > 12

    def test_ctrl_c_while_the_folder_is_closed(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody is in a hurry: nothing is left lying about, and the folder is let go."""
        put(path)
        folder = Folder.open(path)
        folder.write(NAME, ["new"], entry(OTHER))

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Folder, "_save", interrupt)
            with pytest.raises(KeyboardInterrupt):
                folder.close()
        assert listing(path) == [".copper.lock", NAME, "manifest.json"]
        assert verdicts(path, QUESTION) == ["complete"]

    def interrupt(self, path: Path, at: int) -> bool:
        """A run interrupted at a call of the system; False where it came to its end."""
        put(path)
        put(path, "gone", "gone.csv")
        left, is_on = at, False

        def step(event: str, arguments: Any) -> None:
            nonlocal left, is_on
            if is_on and (event in ("os.rename", "os.remove") or event == "open"):
                left -= 1
                if left < 0:
                    is_on = False
                    raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patched:
            for module, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
                really = getattr(module, name)

                def wrapped(*arguments: Any, really: Any = really, **more: Any) -> Any:
                    step("os.rename", ())
                    done = really(*arguments, **more)
                    step("os.rename", ())
                    return done

                patched.setattr(module, name, wrapped)
            try:
                with Folder.open(path) as folder:
                    folder.write(NAME, ["new"], entry(OTHER))
                    folder.write("b.csv", ["b"], entry())
                    folder.record("gone.csv", entry(state="empty"))
                    is_on = True
                    folder.flush()
                    is_on = False
            except KeyboardInterrupt:
                pass
        assert (path / NAME).read_text() == "new", at
        assert (path / "b.csv").read_text() == "b", at
        assert not (path / "gone.csv").exists(), at
        assert listing(path) == [".copper.lock", NAME, "b.csv", "manifest.json"], at
        assert all("was" not in one for one in on_disk(path).values()), at
        return left < 0


class TestAFullDisk:
    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        """So many bytes are left on it; what is removed makes room."""
        room = {"left": 1 << 30}
        really_write, really_discard = files._write_all, files.Staged.discard

        def write_all(stream: Any, data: bytes) -> None:
            fits = min(len(data), room["left"])
            really_write(stream, data[:fits])
            room["left"] -= fits
            if fits < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def discard(staged: files.Staged) -> None:
            if staged.temporary.exists():
                room["left"] += staged.temporary.stat().st_size
            really_discard(staged)

        monkeypatch.setattr(files, "_write_all", write_all)
        monkeypatch.setattr(files.Staged, "discard", discard)
        return room

    def test_with_room_for_the_manifest(self, path: Path, disk: dict[str, int]) -> None:
        """What was staged before gets its names, whoever catches the error."""
        with Folder.open(path) as folder:
            folder.write(NAME, ["x" * 1000], entry())
            disk["left"] = 2000
            with pytest.raises(LocalError, match=r"b.csv cannot be written: the disk is full"):
                folder.write("b.csv", ["y" * 3000], entry())
            assert (path / NAME).exists()
            assert temporaries(path) == []
        assert verdicts(path, QUESTION) == ["complete"]
        assert sorted(on_disk(path)) == [NAME]

    def test_without(self, path: Path, disk: dict[str, int]) -> None:
        """What was staged goes, so that there is room again; the folder is as it was before."""
        put(path)
        before = (path / "manifest.json").read_bytes()
        with Folder.open(path) as folder:
            folder.write(NAME, ["x" * 1000], entry(OTHER))
            folder.write("c.csv", ["x" * 1000], entry())
            folder.record("d.csv", entry(state="failed"))
            disk["left"] = 100
            with pytest.raises(LocalError, match=r"b.csv cannot be written: the disk is full"):
                folder.write("b.csv", ["y" * 3000], entry())
            assert temporaries(path) == []
            assert disk["left"] == 2100
            assert folder.check(NAME, QUESTION) == "complete"
            assert folder.check("c.csv", QUESTION) == "new"
            assert (path / "manifest.json").read_bytes() == before
        # There was room in the end for what needs no file.
        assert sorted(on_disk(path)) == [NAME, "d.csv"]
        assert verdicts(path, QUESTION) == ["complete"]

    def test_at_the_end(self, path: Path, disk: dict[str, int]) -> None:
        """The error is told; the folder is as before, and free for the next run."""
        put(path)
        folder = Folder.open(path)
        folder.write(NAME, ["new"], entry(OTHER))
        disk["left"] = 0
        with pytest.raises(LocalError, match=r"manifest.json cannot be written: the disk is full"):
            folder.close()
        assert temporaries(path) == []
        disk["left"] = 1 << 30
        assert verdicts(path, QUESTION) == ["complete"]

    def test_what_ended_the_run_is_what_is_raised(self, path: Path, disk: dict[str, int]) -> None:
        """An error on the way out does not hide the one that mattered."""

        def run() -> None:
            with Folder.open(path) as folder:
                folder.write(NAME, ["x"], entry())
                disk["left"] = 0
                raise CloudError("gone")

        with pytest.raises(CloudError, match="gone"):
            run()
        disk["left"] = 1 << 30
        assert verdicts(path, QUESTION) == ["new"]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    def test_a_disk_that_tells_only_when_synced(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Each time on from which it does: the folder is whole, and the next run completes it."""
        for nth in range(12):
            put(path)
            times = 0
            really = os.fsync

            def sync(handle: int, nth: int = nth, really: Any = really) -> None:
                nonlocal times
                times += 1
                if times > nth:
                    raise OSError(number, os.strerror(number))
                really(handle)

            def run() -> None:
                with Folder.open(path) as folder:
                    folder.write(NAME, ["new"], entry(OTHER))
                    folder.write("b.csv", ["b"], entry(OTHER))

            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", sync)
                try:
                    run()
                    break
                except LocalError as error:
                    assert "\n" not in str(error)
            assert verdicts(path, OTHER)[0] in ("complete", "behind", "other range"), nth
            assert verdicts(path, OTHER, name="b.csv")[0] in ("complete", "new"), nth
            assert temporaries(path) == []
            run()
            assert verdicts(path, OTHER) == ["complete"]
            assert verdicts(path, OTHER, name="b.csv") == ["complete"]
            shutil.rmtree(path)
        assert nth >= 7

    def test_one_that_cannot_take_its_name(self, path: Path) -> None:
        """Does not keep the others from theirs; the error is told."""
        put(path)
        folder = Folder.open(path)
        for name in ("a.csv", "b.csv", "c.csv"):
            folder.write(name, [name], entry())
        (path / "b.csv").mkdir()
        with pytest.raises(LocalError, match=r"b.csv cannot be written: it is a folder"):
            folder.flush()
        assert folder.names() == [NAME, "a.csv", "c.csv"]
        folder.close()
        assert (path / "c.csv").read_text() == "c.csv"
        assert temporaries(path) == []
        entries, was = read_manifest(path / "manifest.json")
        assert sorted(entries) == [NAME, "a.csv", "c.csv"]
        assert was == {}
