import errno
import json
import os
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from copper_cli.errors import LocalError
from copper_cli.files.opening import digest_file
from copper_cli.filling import Gap, Unfilled
from copper_cli.folders import contents, lock
from copper_cli.folders.entries import entry_to_json, parse_entry
from copper_cli.folders.manifest import Entry, Folder, Question
from copper_cli.records import Window

QUESTION = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "rows")
OTHER = Question("meter usage", "2021-03-01", "2021-03-02", "hour", None, "rows")
"""Another range of the same kind."""
DAILY = replace(OTHER, granularity="day")
"""Another kind."""
NAME = "07_1.usage.csv"


def entry(state="fetched", question=QUESTION, **kwargs):
    return Entry(question, "07:1", state, **kwargs)


class Memory:
    """Keeps stamps from run to run, as the archive does."""

    def __init__(self):
        self.known = {}

    def stamp_get(self, path):
        return self.known.get(path)

    def stamp_put(self, path, stamp):
        self.known[path] = stamp


@pytest.fixture
def path(tmp_path):
    return tmp_path / "generated"


@pytest.fixture
def long_ago(monkeypatch):
    """Now is an hour later than the files."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)


def put(path, name=NAME, text="one\r\n", stamps=None, **kwargs):
    with Folder.open(path, stamps=stamps) as folder:
        return folder.write(name, [text], entry(**kwargs))


def check(path, question=QUESTION, name=NAME, stamps=None):
    with Folder.open(path, stamps=stamps) as folder:
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
            sum_from="cloud, added up",
            archive="ab:1:5",
        )
        found = json.loads(json.dumps(entry_to_json(whole)))
        assert found["windows"] == [["2021-01-01T06:00:00Z", "2021-01-02T06:00:00Z"]]
        assert (found["to_come"], found["late"], found["missing"]) == (2, 3, 4)
        assert found["gaps"] == [["2021-01-01T06:00:00Z", "2021-01-01T11:00:00Z", 5]]
        assert found["asked_utc"] == "2021-01-02T06:00:00Z"
        assert (found["sum_from"], found["archive"]) == ("cloud, added up", "ab:1:5")
        assert parse_entry(found) == whole

    def test_an_entry_of_the_version_before(self):
        """Says neither where its sum is from nor of which archive it is."""
        found = entry_to_json(entry(sum_from="cloud", archive="ab:1:5"))
        del found["sum_from"], found["archive"]
        assert parse_entry(found) == entry()

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
            ("sum_from", 1),
            ("archive", True),
            ("was", 5),
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
        """Another granularity into the same folder is refused, naming file and both questions."""
        put(path)
        with Folder.open(path) as folder:
            assert folder.check(NAME, DAILY) == "other question"
            assert folder.refuse_message(NAME, DAILY) == (
                f"{path / NAME} holds meter usage 2020-12-22 to 2021-01-12 (hour), not "
                "meter usage 2021-03-01 to 2021-03-02 (day). "
                "Choose another --output-dir, or --overwrite."
            )

    @pytest.mark.parametrize(
        "change",
        [
            {"command": "dump"},
            {"granularity": "minute"},
            {"timezone": "UTC"},
            {"layout": "plain"},
            {"extras": {"baseline": True}},
        ],
    )
    def test_only_the_range_may_differ(self, path, change):
        """Whatever else does makes it another question, with or without another range."""
        put(path)
        with Folder.open(path) as folder:
            assert folder.check(NAME, replace(QUESTION, **change)) == "other question"
            assert folder.check(NAME, replace(OTHER, **change)) == "other question"

    @pytest.mark.parametrize("state", ["fetched", "to come", "late"])
    def test_another_range(self, path, state):
        """Our own file as it was written may be replaced, and one line says so."""
        put(path, state=state)
        put(path, name="07_2.usage.csv")
        longer = replace(QUESTION, end="2021-01-13")
        with Folder.open(path) as folder:
            for question in (OTHER, longer, replace(QUESTION, start="2020-12-21")):
                assert folder.check(NAME, question) == "other range"
            assert folder.range_message([NAME], longer) == (
                "generated/: 1 file of meter usage 2020-12-22 to 2021-01-12 (hour) is replaced by "
                "2020-12-22 to 2021-01-13."
            )
            assert folder.range_message([NAME, "07_2.usage.csv"], longer) == (
                "generated/: 2 files of meter usage 2020-12-22 to 2021-01-12 (hour) are replaced "
                "by 2020-12-22 to 2021-01-13."
            )
            folder.write(NAME, ["two"], entry(question=OTHER))
            assert folder.check(NAME, OTHER) == "complete"
            assert folder.check(NAME, longer) == "other range"
            assert folder.range_message([NAME, "07_2.usage.csv"], longer) == (
                "generated/: 2 files of other ranges of meter usage are replaced by 2020-12-22 to "
                "2021-01-13."
            )
        assert (path / NAME).read_text() == "two"

    def test_another_range_of_a_file_whose_last_try_failed(self, path):
        """It is our own as well."""
        put(path)
        with Folder.open(path) as folder:
            folder.record(NAME, entry("failed"))
            assert folder.check(NAME, OTHER) == "other range"

    def test_another_range_of_a_changed_file(self, path):
        """Somebody's work is not replaced: refused, and the line says why."""
        put(path)
        (path / NAME).write_text("edited")
        with Folder.open(path) as folder:
            assert folder.check(NAME, OTHER) == "other question"
            assert folder.refuse_message(NAME, OTHER) == (
                f"{path / NAME} holds meter usage 2020-12-22 to 2021-01-12 (hour), not "
                "meter usage 2021-03-01 to 2021-03-02 (hour), and was changed since. "
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
            verdict = folder.check(NAME, question)
        assert verdict == ("failed" if state == "failed" else "complete")
        assert not (path / NAME).exists()
        assert check(path, question) == ("failed" if state == "failed" else "complete")

    def test_a_failed_try_does_not_cost_the_earlier_answer(self, path):
        """The file stays, and the entry says that the last try failed."""
        gaps = (Gap(0, 7200, 2),)
        about = {"rows": 5, "unfilled": Unfilled(2), "gaps": gaps, "archive": "a", "whole": True}
        about |= {"asked_utc": datetime(2021, 1, 1, tzinfo=UTC), "sum_from": "cloud"}
        written = put(path, state="to come", **about)
        with Folder.open(path) as folder:
            kept = folder.record(NAME, entry("failed", reason="500"))
        assert kept == replace(written, state="failed", reason="500")
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

    def test_a_file_that_is_changed_before_it_is_removed(self, path):
        """It was ours when that was decided, and is not when it is done: it stays."""
        put(path)
        with Folder.open(path) as folder:
            folder.record(NAME, entry("empty"))
            (path / NAME).write_text("edited")
        assert (path / NAME).read_text() == "edited"
        assert check(path) == "changed"

    def test_a_file_that_is_gone_before_it_is_removed(self, path):
        """That is as well."""
        put(path)
        with Folder.open(path) as folder:
            folder.record(NAME, entry("empty"))
            (path / NAME).unlink()
        assert check(path) == "complete"
        assert "was" not in (path / "manifest.json").read_text()

    def test_a_lost_file_is_forgotten(self, path):
        """Nothing is there any more: the entry holds no digest."""
        put(path)
        (path / NAME).unlink()
        with Folder.open(path) as folder:
            assert folder.record(NAME, entry("failed")).sha256 is None

    def test_what_cannot_be_removed_stays_listed(self, path, monkeypatch):
        """The error is told, nothing takes the file for a stranger's, and the next run tries
        again."""
        put(path)
        really = Path.unlink

        def refuse(one, **kwargs):
            if one.name == NAME:
                raise PermissionError(errno.EACCES, "no")
            really(one, **kwargs)

        monkeypatch.setattr(Path, "unlink", refuse)
        with Folder.open(path) as folder:
            folder.record(NAME, entry("empty"))
            with pytest.raises(LocalError, match="cannot be removed: no permission"):
                folder.flush()
            assert folder.check(NAME, QUESTION) == "complete"
            assert folder.check(NAME, OTHER) == "new"
        with Folder.open(path) as folder:
            assert folder.check(NAME, QUESTION) == "complete"
            folder.record(NAME, entry("failed"))
        assert (path / NAME).exists()
        monkeypatch.undo()
        assert check(path) == "failed"
        assert not (path / NAME).exists()


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
            "sum_from": None,
            "archive": None,
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
                ".copper.lock",
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
            assert Folder.look(path).check(NAME, QUESTION) == "new"  # it has no name yet
            assert listing(path) == before
            folder.flush()
            before = listing(path)
            with Folder.look(path) as looked:
                assert looked.check(NAME, QUESTION) == "complete"
                with pytest.raises(ValueError, match="not open for writing"):
                    looked.record(NAME, entry("failed"))
                looked.flush()
            assert listing(path) == before
            assert Folder.look(path).check(NAME, QUESTION) == "complete"

    def test_what_is_left_in_the_folder(self, path):
        """The manifest, the files, and a lock."""
        put(path)
        assert listing(path) == [".copper.lock", NAME, "manifest.json"]
        assert (path / ".copper.lock").read_bytes() == b""

    def test_opening_alone_leaves_no_manifest(self, path):
        """A run that wrote nothing has nothing to tell."""
        assert check(path) == "new"
        assert listing(path) == [".copper.lock"]


class TestUnchanged:
    @pytest.fixture
    def stamps(self):
        return Memory()

    @pytest.fixture
    def read(self, monkeypatch):
        """The files that are read from now on."""
        found = []
        monkeypatch.setattr(contents, "digest_file", lambda p: found.append(p) or digest_file(p))
        return found

    def test_a_known_file_is_not_read_again(self, path, stamps, read):
        """Size and times as when it was written: ten thousand files need no reading."""
        put(path, stamps=stamps)
        assert check(path, stamps=stamps) == "complete"
        assert check(path, OTHER, stamps=stamps) == "other range"
        assert Folder.look(path, stamps=stamps).check(NAME, QUESTION) == "complete"
        put(path, stamps=stamps, text="two", question=OTHER)
        with Folder.open(path, stamps=stamps) as folder:
            folder.record(NAME, entry("empty"))
        assert read == []

    def test_a_folder_is_known_however_it_is_named(self, path, stamps, read, monkeypatch):
        """By a relative path, through a link."""
        put(path, stamps=stamps)
        monkeypatch.chdir(path.parent)
        assert check(Path(path.name), stamps=stamps) == "complete"
        Path("link").symlink_to(path)
        assert check(Path("link"), stamps=stamps) == "complete"
        assert read == []

    def test_nobody_remembers(self, path, read, long_ago):
        """Each file is read once a run."""
        put(path)
        for _ in range(2):
            with Folder.open(path) as folder:
                assert folder.check(NAME, QUESTION) == "complete"
                assert folder.check(NAME, QUESTION) == "complete"
        assert read == [path / NAME] * 2

    def test_a_touched_file_is_read_once(self, path, stamps, read, long_ago):
        """Its content decides; then it is known again."""
        put(path, stamps=stamps)
        os.utime(path / NAME)
        assert check(path, stamps=stamps) == "complete"
        assert check(path, stamps=stamps) == "complete"
        assert read == [path / NAME]

    def test_a_file_touched_just_now_is_not_trusted(self, path, stamps, read):
        """It could change again within the same tick of the clock."""
        put(path, stamps=stamps)
        os.utime(path / NAME)
        assert check(path, stamps=stamps) == "complete"
        assert check(path, stamps=stamps) == "complete"
        assert read == [path / NAME] * 2

    def test_a_file_that_was_edited(self, path, stamps):
        """Of the same size too."""
        put(path, stamps=stamps)
        (path / NAME).write_text("two\r\n")
        assert check(path, stamps=stamps) == "changed"

    def test_stamps_of_another_digest_prove_nothing(self, path, stamps):
        """A stamp vouches for one content only."""
        put(path, stamps=stamps)
        ((key, stamp),) = stamps.known.items()
        stamps.known[key] = (*stamp[:3], "0" * 64)
        assert check(path, stamps=stamps) == "complete"
        stamps.known[key] = (*stamp[:3], "0" * 64)
        found = json.loads((path / "manifest.json").read_text())
        found["files"][NAME]["sha256"] = "0" * 64
        (path / "manifest.json").write_text(json.dumps(found))
        assert check(path, stamps=stamps) == "complete"  # stamp and manifest agree
        stamps.known[key] = (*stamp[:3], "1" * 64)
        assert check(path, stamps=stamps) == "changed"

    def test_stamps_that_cannot_be_had_cost_only_time(self, path):
        """They save reading, nothing else."""

        class Broken:
            def stamp_get(self, path):
                raise LocalError("damaged")

            def stamp_put(self, path, stamp):
                raise LocalError("the disk is full")

        put(path, stamps=Broken())
        assert check(path, stamps=Broken()) == "complete"


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
        """Without a word of it the message is shorter."""
        with Folder.open(path):
            (path / ".copper.lock.json").write_text("")
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

    def test_what_a_killed_run_said_of_itself(self, path):
        """Is overwritten by the next, and gone with it."""
        path.mkdir()
        told = {"command": "copper old", "pid": 1, "since": "then"}
        (path / ".copper.lock.json").write_text(json.dumps(told))
        with Folder.open(path):
            with pytest.raises(LocalError, match=rf"\(process {os.getpid()}, since 2"):
                Folder.open(path)
            with pytest.raises(LocalError, match=rf"\(process {os.getpid()}, since 2"):
                Folder.open(path)
        assert listing(path) == [".copper.lock"]

    def test_a_disk_without_room_for_a_word(self, path, monkeypatch):
        """It would have none for files either: told now, and the folder is let go."""

        def refuse(*_):
            raise OSError(errno.ENOSPC, "full")

        with monkeypatch.context() as patched:
            patched.setattr(lock, "open_own", refuse)
            with pytest.raises(LocalError, match="the disk is full") as caught:
                Folder.open(path)
        assert check(path) == "new"
        assert caught.value.__traceback__  # whoever keeps the error does not keep the folder

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
