import errno
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from copper_cli.errors import CloudError, LocalError
from copper_cli.files import whole as files
from copper_cli.files.opening import digest_file
from copper_cli.filling import Gap, Unfilled
from copper_cli.folders import manifest
from copper_cli.folders.entries import entry_to_json, parse_entry, read_manifest
from copper_cli.folders.manifest import Entry, Folder, Question
from copper_cli.records import Window

QUESTION = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "rows")
OTHER = Question("meter usage", "2021-03-01", "2021-03-02", "hour", None, "rows")
NAME = "07_1.usage.csv"


def entry(state="fetched", question=QUESTION, **kwargs):
    return Entry(question, "07:1", state, **kwargs)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "generated"


@pytest.fixture
def long_ago(monkeypatch):
    """Now is an hour later than the files."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)


def put(path, name=NAME, text="one\r\n", **kwargs):
    with Folder.open(path) as folder:
        return folder.write(name, [text], entry(**kwargs))


def check(path, question=QUESTION, name=NAME):
    with Folder.open(path) as folder:
        return folder.check(name, question)


def listing(path):
    return sorted(found.name for found in path.iterdir())


class TestQuestions:
    def test_descriptions(self):
        """As people say it: command, range, granularity."""
        assert QUESTION.describe() == "meter usage 2020-12-22 to 2021-01-12 (hour)"
        assert Question("meter readings", "2021-01-01", "2021-01-02").describe() == (
            "meter readings 2021-01-01 to 2021-01-02"
        )
        assert Question("meter \x1b[2J", "", "").describe() == r"meter \x1b[2J"

    def test_what_else_differs_is_named(self):
        """Same range, other layout or extras: said in words."""
        other = Question(
            "meter usage", "2020-12-22", "2021-01-12", "hour", "UTC", "plain", {"baseline": True}
        )
        assert other.describe_difference(QUESTION) == (
            "with --baseline, not without, layout plain, not rows, timezone UTC, not none"
        )
        assert QUESTION.describe_difference(QUESTION) == ""

    def test_questions_compare_as_they_come_back(self):
        """Equal by content, however the extras were written; a later change does not leak in."""
        extras = {"ids": ("a", "b")}
        one = Question("c", "", "", extras=extras)
        extras["more"] = 1
        assert one == Question("c", "", "", extras={"ids": ["a", "b"]})
        assert hash(one) == hash(Question("c", "", "", extras={}))
        assert one != Question("c", "", "")


class TestEntries:
    def test_an_entry_comes_back_as_it_was(self):
        """Through JSON, times in UTC whatever their zone."""
        mdt = timezone(timedelta(hours=-6))
        start, end = datetime(2021, 1, 1, 6, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=mdt)
        whole = entry(
            "to come",
            rows=5,
            unfilled=Unfilled(to_come=2, late=3, missing=4),
            gaps=(Gap(1_609_480_800, 1_609_498_800, 5),),
            asked_utc=end,
            windows=(Window(start, end),),
            sha256="ab",
            calls=3,
            reason="slow",
            facts={"sum_energy": 1.5},
        )
        found = json.loads(json.dumps(entry_to_json(whole)))
        assert found["windows"] == [["2021-01-01T06:00:00Z", "2021-01-02T06:00:00Z"]]
        assert (found["to_come"], found["late"], found["missing"]) == (2, 3, 4)
        assert found["gaps"] == [["2021-01-01T06:00:00Z", "2021-01-01T11:00:00Z", 5]]
        assert found["asked_utc"] == "2021-01-02T06:00:00Z"
        assert parse_entry(found) == whole

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("state", "done"),
            ("state", ["failed"]),
            ("rows", "5"),
            ("rows", True),
            ("sha256", 5),
            ("subject", None),
            ("windows", [["2021-01-01T00:00:00", "2021-01-01T00:00:00"]]),
            ("windows", 5),
            ("to_come", None),
            ("missing", "1"),
            ("asked_utc", "soon"),
            ("gaps", [["2021-01-01T00:00:00Z", "2021-01-01T00:00:00Z", 1]]),
            ("gaps", [["2021-01-01T00:00:00Z", "2021-01-01T01:00:00Z", -1]]),
            ("gaps", [["2021-01-01T00:00:00Z", "2021-01-01T01:00:00Z", "1"]]),
            ("gaps", [["2021-01-01T00:00:00Z"]]),
            ("gaps", 5),
            ("question", {}),
            ("question", []),
            ("facts", []),
        ],
    )
    def test_a_damaged_entry_is_never_half_understood(self, path, key, value):
        """One wrong field, and the whole manifest is refused rather than rewritten."""
        put(path)
        found = json.loads((path / "manifest.json").read_text())
        found["files"][NAME][key] = value
        (path / "manifest.json").write_text(json.dumps(found))
        with pytest.raises(LocalError, match="damaged or no manifest of this program"):
            Folder.open(path)


class TestVerdicts:
    def test_new_then_complete(self, path):
        """Nothing there; then what was asked for is."""
        assert check(path) == "new"
        written = put(path, rows=1)
        assert written.sha256 == digest_file(path / NAME)
        assert check(path) == "complete"
        with Folder.open(path) as folder:
            assert folder.state_of(NAME) == written
            assert folder.state_of("other.csv") is None
            assert folder.names() == [NAME]

    def test_to_come(self, path):
        """A file with buckets not yet filled is to be asked for again."""
        for state in ("to come", "late"):
            put(path, state=state, unfilled=Unfilled(3))
            assert check(path) == "to come"

    def test_a_file_that_is_gone_is_missing(self, path):
        """The manifest lists it: fetch it anew."""
        put(path)
        (path / NAME).unlink()
        assert check(path) == "missing"
        assert check(path, OTHER) == "new"

    @pytest.mark.parametrize("text", ["two\r\n", "longer\r\n", ""])
    def test_a_file_that_was_edited_is_changed(self, path, text):
        """Of another size or not."""
        put(path)
        (path / NAME).write_text(text)
        assert check(path) == "changed"

    def test_another_question(self, path):
        """A second date range into the same folder is refused, naming file and both ranges."""
        put(path)
        with Folder.open(path) as folder:
            assert folder.check(NAME, OTHER) == "other question"
            assert folder.refuse_message(NAME, OTHER) == (
                f"{path / NAME} holds meter usage 2020-12-22 to 2021-01-12 (hour), not "
                "meter usage 2021-03-01 to 2021-03-02 (hour). "
                "Choose another --output-dir, or --overwrite."
            )

    def test_another_layout(self, path):
        """The same range in another layout is another question, and the message says which."""
        put(path)
        plain = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "plain")
        with Folder.open(path) as folder:
            assert folder.check(NAME, plain) == "other question"
            assert folder.refuse_message(NAME, plain) == (
                f"{path / NAME} holds meter usage 2020-12-22 to 2021-01-12 (hour), layout rows, "
                "not plain. Choose another --output-dir, or --overwrite."
            )

    def test_a_stranger(self, path):
        """A file that no entry accounts for may be anybody's."""
        path.mkdir()
        (path / NAME).write_text("mine")
        with Folder.open(path) as folder:
            assert folder.check(NAME, QUESTION) == "stranger"
            assert folder.refuse_message(NAME, QUESTION) == (
                f"{path / NAME} is there, but manifest.json does not list it. "
                "Choose another --output-dir, or --overwrite."
            )
            folder.record(NAME, entry("failed"))
            assert folder.check(NAME, QUESTION) == "stranger"
        assert (path / NAME).read_text() == "mine"

    def test_a_path_that_cannot_be_read(self, path):
        """What the disk refuses is told, not guessed at."""
        path.mkdir()
        (path / NAME).symlink_to(NAME)
        with pytest.raises(LocalError, match="cannot be read: its links lead in a circle"):
            check(path)


class TestRecords:
    def test_empty_is_complete(self, path):
        """Nothing to have, and known: no call is spent on it again."""
        with Folder.open(path) as folder:
            assert folder.record(NAME, entry("empty")) == entry("empty")
        assert check(path) == "complete"
        assert check(path, OTHER) == "new"
        assert not (path / NAME).exists()

    def test_failed_is_failed(self, path):
        """With its reason, for the next run and for people."""
        with Folder.open(path) as folder:
            folder.record(NAME, entry("failed", reason="the cloud answered 500"))
        assert check(path) == "failed"
        with Folder.open(path) as folder:
            assert folder.state_of(NAME).reason == "the cloud answered 500"

    @pytest.mark.parametrize(
        ("state", "question"), [("empty", QUESTION), ("empty", OTHER), ("failed", OTHER)]
    )
    def test_our_old_file_goes_where_it_would_lie(self, path, state, question):
        """It is empty now, or the file answers another question than the entry."""
        put(path)
        with Folder.open(path) as folder:
            assert folder.record(NAME, entry(state, question)).sha256 is None
            assert not (path / NAME).exists()
        assert check(path, question) == ("failed" if state == "failed" else "complete")

    def test_a_failed_try_does_not_cost_the_earlier_answer(self, path):
        """The file stays, and the entry says that the last try failed."""
        gaps = (Gap(0, 7200, 2),)
        written = put(path, state="to come", rows=5, unfilled=Unfilled(2), gaps=gaps)
        with Folder.open(path) as folder:
            kept = folder.record(NAME, entry("failed", reason="500"))
        assert (kept.state, kept.rows, kept.unfilled, kept.gaps, kept.sha256) == (
            "failed",
            5,
            Unfilled(2),
            gaps,
            written.sha256,
        )
        assert (path / NAME).exists()
        assert check(path) == "failed"

    @pytest.mark.parametrize("state", ["empty", "failed"])
    def test_a_file_that_somebody_changed_is_not_ours_to_remove(self, path, state):
        """It stays, and the next run still sees that it was changed."""
        put(path)
        (path / NAME).write_text("edited")
        with Folder.open(path) as folder:
            folder.record(NAME, entry(state))
        assert (path / NAME).read_text() == "edited"
        assert check(path) == "changed"

    def test_a_lost_file_is_forgotten(self, path):
        """Nothing is there any more: the entry holds no digest."""
        put(path)
        (path / NAME).unlink()
        with Folder.open(path) as folder:
            assert folder.record(NAME, entry("failed")).sha256 is None

    def test_what_cannot_be_removed_stays_listed(self, path, monkeypatch):
        """The error is told, and the entry still describes the file."""
        put(path)

        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "no")

        with Folder.open(path) as folder:
            monkeypatch.setattr(Path, "unlink", refuse)
            with pytest.raises(LocalError, match="cannot be removed: no permission"):
                folder.record(NAME, entry("empty"))
            monkeypatch.undo()
        assert check(path) == "complete"


class TestManifestFile:
    def test_what_it_looks_like(self, path):
        """One file a line, by name; no clock and no process in it."""
        start = datetime(2020, 12, 22, 7, tzinfo=UTC)
        put(path, name="b.csv", text="", rows=1, calls=2, windows=(Window(start, start),))
        put(path, name="a.csv", text="")
        lines = (path / "manifest.json").read_text().splitlines()
        assert lines[:3] == ["{", '  "format": "copper-manifest",', '  "version": 2,']
        assert lines[3] == '  "files": {'
        assert lines[4].startswith('    "a.csv": {"question": {"command": "meter usage", ')
        assert json.loads((path / "manifest.json").read_text())["files"]["b.csv"] == {
            "question": {
                "command": "meter usage",
                "start": "2020-12-22",
                "end": "2021-01-12",
                "granularity": "hour",
                "timezone": None,
                "layout": "rows",
                "extras": {},
            },
            "subject": "07:1",
            "state": "fetched",
            "rows": 1,
            "to_come": 0,
            "late": 0,
            "missing": 0,
            "gaps": [],
            "whole": False,
            "asked_utc": None,
            "windows": [["2020-12-22T07:00:00Z", "2020-12-22T07:00:00Z"]],
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "calls": 2,
            "reason": None,
            "facts": {},
        }

    def test_equal_runs_leave_equal_bytes(self, tmp_path):
        """In whatever order the files came."""
        for folder, names in (("one", "ab"), ("two", "ba")):
            for name in names:
                put(tmp_path / folder, name=f"{name}.csv", text=name)
        one, two = (tmp_path / folder / "manifest.json" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()

    def test_commands_share_a_folder(self, path):
        """Each adds its files and keeps the others' entries."""
        put(path)
        readings = Question("meter readings", "2021-01-01", "2021-01-02")
        put(path, name="07_1.csv", question=readings)
        assert check(path) == "complete"
        assert check(path, readings, "07_1.csv") == "complete"

    def test_other_files_are_never_touched(self, path):
        """Neither visible nor hidden, nor what only looks like one of ours."""
        path.mkdir()
        others = ["notes.txt", ".hidden", ".copper-folder-x.tmp", "07_1.usage.csv.bak"]
        for name in others:
            (path / name).write_text(name)
        put(path)
        assert [(path / name).read_text() for name in others] == others

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "not JSON",
            "[]",
            "{}",
            '{"format": "copper-manifest"}',
            '{"format": "copper-manifest", "version": 0, "files": {}}',
            '{"format": "copper-manifest", "version": true, "files": {}}',
            '{"format": "copper-manifest", "version": 1, "files": []}',
            '{"format": "copper-manifest", "version": 1, "files": {"a": 5}}',
            '{"format": "webpack", "version": 1, "files": {}}',
            "[" * 100_000,
            "\ufeff\ud800",
        ],
    )
    def test_a_manifest_that_is_not_ours_is_left_alone(self, path, text):
        """Refused in one line; its bytes stay."""
        path.mkdir()
        data = text.encode("utf-8", "surrogatepass")
        (path / "manifest.json").write_bytes(data)
        with pytest.raises(LocalError, match="damaged or no manifest of this program") as caught:
            Folder.open(path)
        assert "\n" not in str(caught.value)
        assert (path / "manifest.json").read_bytes() == data
        with pytest.raises(LocalError):
            Folder.look(path)
        (path / "manifest.json").unlink()
        assert check(path) == "new"

    def test_a_newer_manifest_is_left_alone(self, path):
        """What a later version wrote, this one does not rewrite."""
        path.mkdir()
        (path / "manifest.json").write_text('{"format": "copper-manifest", "version": 3}')
        with pytest.raises(LocalError, match=r"newer version of this program\. Update it"):
            Folder.open(path)

    def test_an_unreadable_manifest(self, path):
        """A folder in its place is an error of the disk."""
        (path / "manifest.json").mkdir(parents=True)
        with pytest.raises(LocalError, match="cannot be read: it is a folder"):
            Folder.open(path)

    def test_names_that_lead_elsewhere_are_a_bug(self, path):
        """The folder writes into itself and never over its own books."""
        with Folder.open(path) as folder:
            for name in (
                "",
                "../x",
                "a/b/c",
                "a/../b",
                "a//b",
                "/b",
                "a/.b",
                "a\\b",
                "manifest.json",
                ".manifest.journal",
                "..",
            ):
                with pytest.raises(ValueError, match="no name for a download"):
                    folder.write(name, ["x"], entry())
        with pytest.raises(ValueError, match="not open for writing"):
            folder.write(NAME, ["x"], entry())

    def test_a_file_may_lie_one_folder_down(self, path):
        """A folder a day: one manifest for all, and what a killed run left there goes too."""
        name = "2020-10-01/07_1.usage.csv"
        with Folder.open(path) as folder:
            folder.write(name, ["x"], entry())
        left = path / "2020-10-01" / f".copper-folder-{'0' * 16}.tmp"
        left.write_text("half")
        with Folder.open(path) as folder:
            assert folder.check(name, QUESTION) == "complete"
        assert not left.exists()
        assert (path / name).read_text() == "x"

    def test_a_file_one_folder_down_can_be_removed(self, path):
        """As one beside the manifest, and its folder stays."""
        name = "2020-10-01/07_1.usage.csv"
        put(path, name=name)
        with Folder.open(path) as folder:
            folder.record(name, entry("empty"))
        assert listing(path / "2020-10-01") == []

    def test_a_forged_name_does_not_lead_out_of_the_folder(self, path, tmp_path):
        """What is tidied up lies within, whatever the manifest lists."""
        put(path)
        text = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(text.replace(NAME, "../x.csv"))
        outside = tmp_path / f".copper-folder-{'0' * 16}.tmp"
        outside.write_text("another run's")
        assert check(path) == "stranger"
        assert outside.exists()

    def test_looking_writes_nothing(self, path):
        """A folder may be looked at without being made, or while another run holds it."""
        assert Folder.look(path).check(NAME, QUESTION) == "new"
        assert not path.exists()
        with Folder.open(path) as folder:
            folder.write(NAME, ["x"], entry())
            before = listing(path)
            with Folder.look(path) as looked:
                assert looked.check(NAME, QUESTION) == "complete"
                with pytest.raises(ValueError, match="not open for writing"):
                    looked.record(NAME, entry("failed"))
            assert listing(path) == before

    def test_what_is_left_in_the_folder(self, path):
        """The manifest, the files, and two hidden ones: a lock and the stamps."""
        put(path)
        assert listing(path) == [".copper.lock", ".manifest.stamps", NAME, "manifest.json"]
        assert (path / ".copper.lock").read_bytes() == b""

    def test_opening_alone_leaves_no_manifest(self, path):
        """A run that wrote nothing has nothing to tell."""
        assert check(path) == "new"
        assert listing(path) == [".copper.lock"]


class TestUnchanged:
    def test_a_known_file_is_not_read_again(self, path, monkeypatch):
        """Size and times as when it was written: ten thousand files need no reading."""
        put(path)
        monkeypatch.setattr(manifest, "digest_file", lambda _: pytest.fail("read"))
        assert check(path) == "complete"

    def test_a_touched_file_is_read_once(self, path, monkeypatch, long_ago):
        """Its content decides; then it is known again."""
        put(path)
        os.utime(path / NAME)
        assert check(path) == "complete"
        monkeypatch.setattr(manifest, "digest_file", lambda _: pytest.fail("read"))
        assert check(path) == "complete"

    def test_a_file_touched_just_now_is_not_trusted(self, path, monkeypatch):
        """It could change again within the same tick of the clock."""
        put(path)
        os.utime(path / NAME)
        assert check(path) == "complete"
        read = []
        monkeypatch.setattr(manifest, "digest_file", lambda p: read.append(p) or digest_file(p))
        assert check(path) == "complete"
        assert read == [path / NAME]

    @pytest.mark.parametrize("text", ["", "[]", '{"07_1.usage.csv": 5}', "\x00", "[" * 100_000])
    def test_stamps_that_cannot_be_read_cost_only_time(self, path, text):
        """They save reading, nothing else."""
        put(path)
        (path / ".manifest.stamps").write_text(text)
        assert check(path) == "complete"

    def test_stamps_that_cannot_be_written_cost_only_time(self, path, monkeypatch):
        """The run is done all the same."""
        (path / ".manifest.stamps").mkdir(parents=True)
        put(path)
        assert check(path) == "complete"

    def test_stamps_of_another_digest_prove_nothing(self, path):
        """A stamp vouches for one content only."""
        put(path)
        stamps = json.loads((path / ".manifest.stamps").read_text())
        stamps[NAME][3] = "0" * 64
        (path / ".manifest.stamps").write_text(json.dumps(stamps))
        assert check(path) == "complete"
        found = json.loads((path / "manifest.json").read_text())
        found["files"][NAME]["sha256"] = "0" * 64
        (path / "manifest.json").write_text(json.dumps(found))
        assert check(path) == "complete"  # stamp and manifest agree
        stamps[NAME][3] = "1" * 64
        (path / ".manifest.stamps").write_text(json.dumps(stamps))
        assert check(path) == "changed"


class TestLock:
    def test_one_writer_at_a_time(self, path):
        """The second is told who holds the folder and since when."""
        with Folder.open(path), pytest.raises(LocalError) as caught:
            Folder.open(path)
        told = str(caught.value)
        assert told.startswith(f"{path} is being written by another run: ")
        assert f"(process {os.getpid()}, since 2" in told
        assert told.endswith("Wait for it, or choose another --output-dir.")
        assert check(path) == "new"

    def test_a_holder_that_says_nothing(self, path):
        """Without a readable journal the message is shorter."""
        with Folder.open(path):
            (path / ".manifest.journal").write_text("")
            with pytest.raises(LocalError, match=r"another run\. Wait for it"):
                Folder.open(path)

    def test_waiting_for_the_other(self, path):
        """The folder is had as soon as the other lets go."""
        first = Folder.open(path)
        first.write(NAME, ["x"], entry())
        found = []

        def wait():
            with Folder.open(path, wait_s=30) as folder:
                found.append(folder.check(NAME, QUESTION))

        waiting = threading.Thread(target=wait)
        waiting.start()
        first.close()
        waiting.join(30)
        assert found == ["complete"]

    def test_a_long_command_is_cut(self, path, monkeypatch):
        """The program's name without its folder, and not a screenful."""
        monkeypatch.setattr(sys, "argv", ["/usr/bin/copper", "meter", "x" * 100])
        with Folder.open(path), pytest.raises(LocalError, match=r": copper meter x{66}… \(process"):
            Folder.open(path)

    def test_closing_twice(self, path):
        """The second time there is nothing to do."""
        folder = Folder.open(path)
        folder.close()
        folder.close()

    def test_a_folder_that_cannot_be(self, tmp_path):
        """A file is in its place."""
        (tmp_path / "file").write_text("")
        with pytest.raises(LocalError, match="cannot be written: a part of the path is a file"):
            Folder.open(tmp_path / "file")


class TestJournal:
    def abandon(self, path, *, text="one\r\n", state="fetched"):
        """A run that wrote a file and never came to its end."""
        folder = Folder.open(path)
        folder.write(NAME, [text], entry(state))
        folder.record("empty.csv", entry("empty"))
        folder._release()

    def test_what_a_killed_run_did_is_known(self, path):
        """The journal tells the next one, which brings the manifest up to date."""
        self.abandon(path)
        assert not (path / "manifest.json").exists()
        assert Folder.look(path).check(NAME, QUESTION) == "complete"
        assert check(path) == "complete"
        assert check(path, name="empty.csv") == "complete"
        assert sorted(read_manifest(path / "manifest.json")) == [NAME, "empty.csv"]
        assert not (path / ".manifest.journal").exists()

    @pytest.mark.parametrize(
        "tail", [b'{"op": "do', b"\x00" * 50, b"5\n", b"\xff\xfe\n", b'{"op": "x"}\n']
    )
    def test_a_torn_tail_is_survived(self, path, tail):
        """Whatever a power cut leaves behind the last whole line."""
        self.abandon(path)
        with (path / ".manifest.journal").open("ab") as stream:
            stream.write(tail)
        assert check(path) == "complete"

    def test_cut_off_anywhere(self, path):
        """However much of the last line reached the disk, our file is not a stranger's."""
        self.abandon(path)
        data = (path / ".manifest.journal").read_bytes()
        announced = data.index(b'{"op": "done"')
        for length in range(announced, len(data)):
            (path / ".manifest.journal").write_bytes(data[:length])
            assert Folder.look(path).check(NAME, QUESTION) == "complete"

    def test_announced_but_not_done(self, path):
        """The old file and its entry hold when the new one never got its name."""
        put(path)
        self.abandon(path, text="two\r\n")
        lines = (path / ".manifest.journal").read_bytes().splitlines(keepends=True)
        (path / ".manifest.journal").write_bytes(b"".join(lines[:2]))
        (path / NAME).write_text("one\r\n")
        with Folder.open(path) as folder:
            assert folder.check(NAME, QUESTION) in ("complete", "changed")
            assert folder.state_of(NAME).sha256 != json.loads(lines[1])["entry"]["sha256"]

    @pytest.mark.parametrize("text", ["one\r\n", None, "edited"])
    def test_a_removal_that_was_announced(self, path, text):
        """It is finished if the file is still ours; a file somebody changed since stays."""
        put(path)
        folder = Folder.open(path)
        folder.record(NAME, entry("empty"))
        folder._release()
        lines = (path / ".manifest.journal").read_bytes().splitlines(keepends=True)
        (path / ".manifest.journal").write_bytes(b"".join(lines[:2]))
        if text is not None:
            (path / NAME).write_bytes(text.encode())
        with Folder.open(path) as folder:
            verdict = folder.check(NAME, QUESTION)
        assert verdict == ("changed" if text == "edited" else "complete")
        assert (path / NAME).exists() == (text == "edited")

    def test_a_name_that_leads_elsewhere_is_not_followed(self, path, tmp_path):
        """A journal somebody forged cannot make us remove a file outside."""
        outside = tmp_path / "outside.csv"
        outside.write_text("precious")
        self.abandon(path)
        line = {
            "op": "remove",
            "name": "../outside.csv",
            "entry": entry_to_json(entry("empty")),
            "old": digest_file(outside),
        }
        with (path / ".manifest.journal").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        assert check(path) == "complete"
        assert outside.read_text() == "precious"

    @pytest.mark.parametrize(
        ("first", "told"),
        [
            ({"op": "open", "format": "copper-manifest", "version": 3}, "newer version"),
            ({"op": "open", "format": "else"}, "no manifest of this program"),
        ],
    )
    def test_a_journal_that_is_not_ours(self, path, first, told):
        """Refused like a manifest that is not."""
        path.mkdir()
        (path / ".manifest.journal").write_text(json.dumps(first) + "\n")
        with pytest.raises(LocalError, match=told):
            Folder.open(path)

    def test_the_manifest_follows_now_and_then(self, path, monkeypatch):
        """A run of days does not leave readers with nothing until its end."""
        monkeypatch.setattr(manifest, "_COMPACT_AFTER_LINES", 4)
        with Folder.open(path) as folder:
            for number in range(3):
                folder.write(f"{number}.csv", ["x"], entry())
            assert sorted(read_manifest(path / "manifest.json")) == ["0.csv", "1.csv"]
            monkeypatch.setattr(manifest, "_COMPACT_AFTER_S", 0)
            folder.record("3.csv", entry("empty"))
            assert len(read_manifest(path / "manifest.json")) == 4

    def test_the_disk_is_full_for_the_journal(self, path, monkeypatch):
        """Half a line is taken back, so that what comes later is still read."""
        with Folder.open(path) as folder:
            folder.write(NAME, ["x"], entry())
            stream = folder._journal._stream

            class Full:
                def write(self, data):
                    if data[:1] != b"{":
                        raise OSError(errno.ENOSPC, "full")
                    return stream.write(data[:5])

                def __getattr__(self, name):
                    return getattr(stream, name)

            folder._journal._stream = Full()
            with pytest.raises(LocalError, match="the disk is full"):
                folder.record("a.csv", entry("empty"))
            folder._journal._stream = stream
            folder.record("b.csv", entry("empty"))
            folder._release()
        assert check(path, name="a.csv") == "new"
        assert check(path, name="b.csv") == "complete"
        assert check(path) == "complete"

    def test_the_disk_is_full_for_the_manifest(self, path, monkeypatch):
        """The error is told; the journal stays and the next run has everything."""
        folder = Folder.open(path)
        folder.write(NAME, ["x"], entry())

        def fail(*_):
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(files, "_write_all", fail)
        with pytest.raises(LocalError, match=r"manifest.json cannot be written: the disk is full"):
            folder.close()
        monkeypatch.undo()
        assert check(path) == "complete"

    def test_what_ended_the_run_is_what_is_raised(self, path, monkeypatch):
        """An error on the way out does not hide the one that mattered."""

        def fail(*_):
            raise OSError(errno.ENOSPC, "full")

        def run():
            with Folder.open(path) as folder:
                folder.write(NAME, ["x"], entry())
                monkeypatch.setattr(files, "_write_all", fail)
                raise CloudError("gone")

        with pytest.raises(CloudError, match="gone"):
            run()
        monkeypatch.undo()
        assert check(path) == "complete"

    def test_an_error_in_the_source_leaves_all_as_it_was(self, path):
        """No file, no entry, no temporary."""

        def chunks():
            yield "half"
            raise CloudError("gone")

        with Folder.open(path) as folder:
            with pytest.raises(CloudError):
                folder.write(NAME, chunks(), entry())
            assert folder.check(NAME, QUESTION) == "new"
        assert listing(path) == [".copper.lock"]

    def test_interrupted_between_name_and_entry(self, path, monkeypatch):
        """Ctrl-C right after the file got its name: closing still enters it."""

        def interrupt(_):
            raise KeyboardInterrupt

        def run():
            with Folder.open(path) as folder:
                monkeypatch.setattr(files, "sync_folder", interrupt)
                try:
                    folder.write(NAME, ["x"], entry())
                finally:
                    monkeypatch.undo()

        with pytest.raises(KeyboardInterrupt):
            run()
        assert check(path) == "complete"
        assert list(read_manifest(path / "manifest.json")) == [NAME]

    def test_many_threads_write(self, path):
        """Every file and every entry is there in the end."""
        with Folder.open(path) as folder:

            def work(first):
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
            assert folder.state_of("77.csv").rows == 77

    def test_killed_at_every_step(self, tmp_path):
        """kill -9 before each open, rename, remove and sync: nothing is lost, halved or orphaned,
        and the next run leaves the bytes of a run that was never killed."""
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("kill_sweep.py"), tmp_path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 30
