"""--archive, --no-archive and `copper archive`, as they are typed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from copper_cli.archive.home import TEMPORARY_PREFIX, read_marker
from copper_cli.sandbox import Sandbox

from .conftest import PROGRAM, Copper, FixedCloud

USAGE = ("meter", "usage", "2022-03-01", "2022-03-08", "--granularity", "hour")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The test's own."""
    return tmp_path / "archive"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The temporary archives that are there now."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def find() -> list[str]:
        return [one.name for one in folder.iterdir() if one.name.startswith(TEMPORARY_PREFIX)]

    return find


def calls(cloud: Sandbox) -> Iterator[int]:
    """How many calls each step since the one before has taken."""
    before = cloud.calls
    while True:
        now = cloud.calls
        yield now - before
        before = now


# Where it is


def test_without_a_word_it_is_below_the_data_folder(
    cloud: Sandbox, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By host and enterprise; the run that makes it says where, in one line, and no other does."""
    monkeypatch.delenv("COPPER_ARCHIVE")
    place = tmp_path / "data/copper/archive/127.0.0.1/sandbox-enterprise"
    ended = copper("premise")
    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if str(place) in line] == [
        f"New archive: what is fetched is kept in {place} from now on."
    ]
    assert read_marker(place) is not None
    assert "archive" not in copper("premise").err


def test_the_client_id_is_no_part_of_it(
    serve: Callable[..., Sandbox], copper: Copper, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client of the same partner has the same archive."""
    cloud = serve()
    assert copper(*USAGE, "--output-dir", "a").code == 0
    monkeypatch.setattr(cloud, "config", cloud.config)
    count = calls(cloud)
    next(count)
    monkeypatch.setenv("COPPER_CACHE_DIR", str(archive.parent / "another user's cache"))
    assert copper(*USAGE, "--output-dir", "b").code == 0
    assert next(count) <= 2  # the lists


def test_the_stronger_source_names_it(
    cloud: Sandbox,
    copper: Copper,
    tmp_path: Path,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was typed, then the environment, then the profile; of a typed profile its own first."""
    profile = tmp_path / "of the profile"
    write_config(
        f"[profile.p]\nclient_id='sandbox-client'\nenterprise_id='sandbox-enterprise'\n"
        f"client_secret_env='COPPER_CLIENT_SECRET'\narchive='{profile}'\n"
    )
    exported, typed = tmp_path / "exported", tmp_path / "typed"
    monkeypatch.setenv("COPPER_ARCHIVE", str(exported))
    monkeypatch.setenv("COPPER_PROFILE", "p")
    assert copper("premise", "--archive", str(typed)).code == 0
    assert (typed.exists(), exported.exists(), profile.exists()) == (True, False, False)
    assert copper("premise").code == 0
    assert (exported.exists(), profile.exists()) == (True, False)
    assert copper("--profile", "p", "premise").code == 0
    assert profile.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("archive='relative/one'", "no whole path"), ("archive=1", "wrong type")],
)
def test_a_profiles_archive_is_a_whole_path(
    copper: Copper, fixed: FixedCloud, write_config: Callable[[str], Path], text: str, told: str
) -> None:
    """Else it would be another one in each folder where the program is started."""
    write_config(f"[profile.p]\n{text}\n")
    ended = copper("--profile", "p", "premise")
    assert (ended.code, fixed.asked) == (2, [])
    assert told in ended.err


def test_a_profiles_archive_may_be_in_the_home(
    cloud: Sandbox, copper: Copper, tmp_path: Path, write_config: Callable[[str], Path]
) -> None:
    write_config("[profile.p]\narchive='~/mine'\n")
    assert copper("--profile", "p", "premise").code == 0
    assert (tmp_path / "home" / "mine" / "archive.json").is_file()


@pytest.mark.parametrize("source", ["typed", "exported", "profile"])
def test_another_partners_archive_ends_the_run_before_any_call(
    fixed: FixedCloud,
    copper: Copper,
    archive: Path,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """However it was named: exit 2, both are told."""
    monkeypatch.setenv("COPPER_ENTERPRISE_ID", "other")
    words = ["premise"]
    if source != "exported":
        monkeypatch.delenv("COPPER_ARCHIVE")
    if source == "typed":
        words += ["--archive", str(archive)]
    if source == "profile":
        write_config(f"[profile.p]\narchive='{archive}'\n")
        words += ["--profile", "p"]
    ended = copper(*words)
    assert (ended.code, fixed.asked, ended.out) == (2, [], "")
    assert "enterprise ent at" in ended.err
    assert "enterprise other at" in ended.err


def test_a_folder_of_other_things_is_refused(
    fixed: FixedCloud, copper: Copper, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    ended = copper("premise", "--archive", str(tmp_path / "home"))
    assert (ended.code, fixed.asked) == (2, [])
    assert "not empty and no archive" in ended.err


def test_a_fleet_that_is_not_the_archives_ends_the_run(fixed: FixedCloud, copper: Copper) -> None:
    """A meter that was added at another time, in one line that names it; exit 2."""
    row = {"id": "07:1", "type": "power", "state": "connected", "premise_id": "p"}
    fixed.answers["meter"] = [{**row, "created_at": "2019-06-15T14:11:33Z"}]
    assert copper("meter", "status", "--no-cache").code == 0
    fixed.answers["meter"] = [{**row, "created_at": "2020-06-15T14:11:33Z"}]
    ended = copper("meter", "status", "--no-cache")
    assert ended.code == 2
    assert "Meter 07:1 was added to the cloud at 2019-06-15T14:11:33Z" in ended.err
    assert len(ended.err.splitlines()) == 1


# Without one


def test_no_archive_keeps_nothing(
    cloud: Sandbox, copper: Copper, archive: Path, temporary: Callable[[], list[str]]
) -> None:
    """Neither in the archive nor in a temporary place, and nothing is said of a new one."""
    before = {one.name: one.read_bytes() for one in archive.iterdir()}
    ended = copper("premise", "--no-archive")
    assert (ended.code, ended.err) == (0, "")
    assert {one.name: one.read_bytes() for one in archive.iterdir()} == before
    assert temporary() == []


def test_of_archive_and_no_archive_the_stronger_counts(
    cloud: Sandbox, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both typed contradict each other; what is typed goes before what is exported."""
    place = tmp_path / "place"
    ended = copper("premise", "--no-archive", "--archive", str(place))
    assert ended.code == 2
    assert "leave one out" in ended.err
    monkeypatch.setenv("COPPER_ARCHIVE", str(place))
    assert copper("premise", "--no-archive").code == 0
    assert not place.exists()
    monkeypatch.setenv("COPPER_NO_ARCHIVE", "1")
    assert copper("premise").code == 0
    assert not place.exists()
    assert copper("premise", "--archive", str(place)).code == 0
    assert place.exists()


def test_the_sandbox_has_a_throwaway_one(
    copper: Copper,
    tmp_path: Path,
    temporary: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is exported; one that is typed is taken."""
    exported = tmp_path / "exported"
    monkeypatch.setenv("COPPER_ARCHIVE", str(exported))
    ended = copper("--sandbox", "premise")
    assert (ended.code, ended.err) == (0, "")
    assert not exported.exists()
    assert not (tmp_path / "data").exists()
    assert temporary() == []
    assert copper("--sandbox", "premise", "--archive", str(tmp_path / "typed")).code == 0
    assert (tmp_path / "typed" / "archive.json").exists()
    ended = copper("--sandbox", "archive", "info")
    assert ended.code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_temporary_archive_is_gone_after_ctrl_c(
    serve: Callable[..., Sandbox], work: Path, tmp_path: Path, number: int
) -> None:
    """Also while calls are in flight."""
    serve(latency_ms=300, premises=30)
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    words = [PROGRAM, *USAGE, "--no-archive", "--jobs", "2"]
    process = subprocess.Popen(words, env=env, cwd=work, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "tmp").glob(f"{TEMPORARY_PREFIX}*/landing.sqlite")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.8)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert list((tmp_path / "tmp").iterdir()) == []


# copper archive


def test_info_tells_what_there_is(cloud: Sandbox, copper: Copper, archive: Path) -> None:
    """Where, whose, since when, rows by kind, what is not published yet."""
    assert copper(*USAGE).code == 0
    ended = copper("archive", "info", "--format", "json")
    assert ended.code == 0
    (row,) = ended.json["rows"]
    marker = read_marker(archive)
    assert marker is not None
    assert (row["folder"], row["id"]) == (str(archive), marker.id)
    assert (row["api_host"], row["enterprise_id"]) == ("http://127.0.0.1", "sandbox-enterprise")
    assert row["meters"] == 4
    assert row["not_published"] == row["rows"] >= 4 * 7 * 24
    assert row["last_publish"] is None
    size = sum(one.stat().st_size for one in archive.rglob("*") if one.is_file())
    assert row["bytes"] == pytest.approx(size, rel=0.5)
    (kind,) = ended.json["kinds"]
    assert (kind["kind"], kind["granularity"], kind["subjects"]) == ("usage", "hour", 4)
    assert kind["from"].startswith("2022-03-01T")
    assert kind["until"].startswith("2022-03-08T")
    lists = {one["list"]: one["count"] for one in ended.json["lists"]}
    assert lists["meter"] == 4
    shown = copper("archive", "info")
    assert shown.lines[-1] == "complete!"
    assert "Rows by kind" in shown.out


def test_compact_publishes_what_waits(cloud: Sandbox, copper: Copper, archive: Path) -> None:
    """Any program can read it then; info says so."""
    assert copper(*USAGE).code == 0
    ended = copper("archive", "compact")
    assert ended.code == 0
    assert "1 month written anew, 0 rows still to be published;" in ended.err
    (row,) = copper("archive", "info", "--format", "json").json["rows"]
    assert row["not_published"] == 0
    assert row["last_publish"] is not None
    assert len(list(archive.rglob("*.parquet"))) == 1


def test_check_finds_what_is_wrong(cloud: Sandbox, copper: Copper, archive: Path) -> None:
    """Exit 6 with a line for each, until it is mended; then the next run fetches what was lost."""
    assert copper(*USAGE, "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    ended = copper("archive", "check", "--format", "json")
    assert (ended.code, ended.json["rows"]) == (0, [])
    (month,) = archive.rglob("*.parquet")
    data = bytearray(month.read_bytes())
    data[len(data) // 2] ^= 1
    month.write_bytes(data)
    ended = copper("archive", "check", "--format", "json")
    assert ended.code == 6
    assert ended.json["rows"][0]["where"] == str(month)
    assert ended.json["rows"][0]["mended"] is None
    assert "copper archive check --repair" in ended.err
    ended = copper("archive", "check", "--repair")
    assert (ended.code, ended.lines[-1]) == (0, "complete!")
    assert str(month) in ended.out
    assert copper("archive", "check").code == 0
    count = calls(cloud)
    next(count)
    assert copper(*USAGE, "--output-dir", "b").code == 0
    assert next(count) >= 4
    for file in Path("a").glob("*.csv"):
        assert file.read_bytes() == (Path("b") / file.name).read_bytes()


def test_no_command_makes_an_archive_or_a_call(
    fixed: FixedCloud, copper: Copper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none it is said: exit 7."""
    monkeypatch.setenv("COPPER_ARCHIVE", str(tmp_path / "none"))
    for words in (
        ("info",),
        ("check",),
        ("compact",),
        ("forget", "--meter-id", "07:1", "--yes"),
        ("remember", "--meter-id", "07:1"),
        ("move", str(tmp_path / "to")),
    ):
        ended = copper("archive", *words)
        assert ended.code == 7, words
        assert "no archive in" in ended.err
    assert not (tmp_path / "none").exists()
    assert fixed.asked == []


def test_without_credentials_a_named_archive_can_be_looked_at(
    cloud: Sandbox, copper: Copper, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed or exported; where nothing names one it is said what would: exit 3."""
    for name in list(os.environ):
        if name.startswith("COPPER_") and name != "COPPER_ARCHIVE":
            monkeypatch.delenv(name)
    assert copper("archive", "info").code == 0
    monkeypatch.delenv("COPPER_ARCHIVE")
    assert copper("archive", "info", "--archive", str(archive)).code == 0
    ended = copper("archive", "info")
    assert ended.code == 3
    assert "--archive" in ended.err


def test_an_exported_archive_of_another_partner_is_not_looked_at(
    cloud: Sandbox, copper: Copper, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgetful export must not forget another's homes; typed it is meant."""
    monkeypatch.setenv("COPPER_ENTERPRISE_ID", "other")
    assert copper("archive", "info").code == 2
    assert copper("archive", "info", "--archive", str(archive)).code == 0


def test_forget_needs_a_yes(cloud: Sandbox, copper: Copper) -> None:
    """Without a terminal it is typed; what to forget is named."""
    assert copper(*USAGE).code == 0
    meter = next(cloud.fleet.meters()).id
    ended = copper("archive", "forget", "--meter-id", meter)
    assert ended.code == 2
    assert "--yes" in ended.err
    ended = copper("archive", "forget", "--yes")
    assert ended.code == 2
    assert "--meter-id or --premise-id" in ended.err
    ended = copper("archive", "forget", "--yes", "--meter-id", "07:none")
    assert ended.code == 2
    assert "no meter 07:none in this archive" in ended.err


class Typed(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_is_asked(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch, answer: str, goes: bool
) -> None:
    """What would go is told before; no answer is a no."""
    assert copper("meter", "status").code == 0
    meter = next(cloud.fleet.meters()).id
    monkeypatch.setattr("sys.stdin", Typed(f"{answer}\n"))
    ended = copper("archive", "forget", "--meter-id", meter)
    assert ended.code == 0
    assert f"Meters: {meter}" in ended.err
    assert ("Nothing was forgotten." in ended.err) is not goes
    lists = copper("archive", "info", "--format", "json").json["lists"]
    count = next(one["count"] for one in lists if one["list"] == "meter")
    assert count == (3 if goes else 4)


def test_a_forgotten_home_stays_forgotten(
    cloud: Sandbox, copper: Copper, archive: Path, work: Path, tmp_path: Path
) -> None:
    """In lists, downloads and the cache; its folder is told and stays; `remember` undoes it."""
    assert copper(*USAGE, "--output-dir", "out").code == 0
    assert copper("archive", "compact").code == 0
    meter = next(cloud.fleet.meters())
    premise = str(meter.premise_id)
    ended = copper("archive", "forget", "--premise-id", premise, "--yes")
    assert ended.code == 0, ended.err
    assert f"Premises: {premise}" in ended.err
    assert meter.id in ended.err
    assert str(work / "out") in ended.err
    assert (work / "out" / "manifest.json").exists()
    assert not list((tmp_path / "cache" / "copper").glob("answers.*"))
    for file in archive.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""
        assert premise.encode() not in data
        assert meter.id.encode() not in data

    def ids() -> set[str]:
        return {row["id"] for row in copper("meter", "status", "--format", "json").json["rows"]}

    left = ids()
    assert meter.id not in left
    assert premise not in copper("premise", "--format", "json").out
    assert meter.id not in copper("bulk", "--format", "json").out
    assert copper("grid", "latest", "--format", "json").code == 0
    ended = copper("archive", "remember", "--premise-id", premise)
    assert ended.code == 0
    assert re.search(r"\d ids may be named again", ended.err)
    assert copper("archive", "remember", "--premise-id", premise).code == 2
    assert meter.id in ids() > left


def test_move_puts_it_elsewhere(cloud: Sandbox, copper: Copper, archive: Path, work: Path) -> None:
    """And says how to name it from then on; no call is made anew."""
    assert copper(*USAGE, "--output-dir", "a").code == 0
    ended = copper("archive", "move", "there")
    assert ended.code == 0
    assert "COPPER_ARCHIVE" in ended.err
    assert not archive.exists()
    count = calls(cloud)
    next(count)
    assert copper(*USAGE, "--output-dir", "b", "--archive", str(work / "there")).code == 0
    assert next(count) <= 2


def test_the_archive_is_imported_when_it_is_used() -> None:
    """Neither SQLite nor DuckDB for --help, DuckDB for no small download."""
    code = (
        "import sys\n"
        "from copper_cli.cli import root, run\n"
        "assert run(root, ['archive', 'info', '--help']) == 0\n"
        "print([n for n in ('sqlite3', 'duckdb', 'numpy', 'copper_cli.archive') "
        "if n in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_a_small_download_does_without_duckdb(cloud: Sandbox, work: Path) -> None:
    code = (
        "import sys\n"
        "from copper_cli.cli import root, run\n"
        f"assert run(root, {[*USAGE, '--quiet']!r}) == 0\n"
        "print([n for n in ('duckdb', 'numpy') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_newer_and_damaged_ones_are_told(fixed: FixedCloud, copper: Copper, archive: Path) -> None:
    """Exit 7, one line, no call."""
    found: dict[str, Any] = json.loads((archive / "archive.json").read_text())
    (archive / "archive.json").write_text(json.dumps({**found, "version": 9}))
    ended = copper("premise")
    assert (ended.code, fixed.asked) == (7, [])
    assert "newer version" in ended.err
    (archive / "archive.json").write_text("{")
    ended = copper("premise")
    assert (ended.code, fixed.asked) == (7, [])
    assert "copper archive check" in ended.err
    assert len(ended.err.splitlines()) == 1


# What may have been lost


def test_a_landing_that_is_gone_is_never_taken_for_an_empty_one(
    cloud: Sandbox, copper: Copper, archive: Path
) -> None:
    """Months that nobody would know of, and homes that would come back: exit 7 and what mends it;
    then no call but the lists."""
    assert copper(*USAGE, "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    for path in archive.glob("landing.sqlite*"):
        path.unlink()
    for line in (USAGE, ("archive", "info"), ("premise",)):
        ended = copper(*line)
        assert (ended.code, ended.out) == (7, "")
        assert "landing.sqlite is gone" in ended.err
        assert "copper archive check" in ended.err
    assert copper("archive", "check", "--repair").code == 0
    count = calls(cloud)
    next(count)
    assert copper(*USAGE, "--output-dir", "b", "--no-cache").code == 0
    assert next(count) == 2


def test_a_marker_that_is_damaged_before_anything_is_held_is_mended(
    cloud: Sandbox, copper: Copper, archive: Path
) -> None:
    """No talk in a circle."""
    archive.mkdir(exist_ok=True)
    (archive / "archive.json").write_text("{")
    (archive / "landing.sqlite").unlink(missing_ok=True)
    assert copper("archive", "check").code != 0
    ended = copper("archive", "check", "--repair")
    assert ended.code == 0, ended.err
    assert copper(*USAGE).code == 0


@pytest.mark.parametrize("how", ["gone", "older", "cut", "noughts"])
def test_a_month_that_is_lost_names_what_mends_it(
    cloud: Sandbox, copper: Copper, archive: Path, how: str
) -> None:
    """Exit 7 and one line, whoever reads it: rows that are lost are never taken for none. Once
    mended, what was lost is asked for again, also into the folder that was begun."""
    assert copper("meter", "usage", "2022-03-01", "2022-03-04", "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    (month,) = archive.rglob("*.parquet")
    older = month.read_bytes()
    assert copper(*USAGE, "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    whole = month.read_bytes()
    if how == "gone":
        month.unlink()
    else:
        month.write_bytes({"older": older, "cut": whole[:-50], "noughts": bytes(len(whole))}[how])
    days = ("meter", "usage", "2022-03-02", "2022-03-04", "--granularity", "day", "--derive")
    for line in ((*USAGE, "--output-dir", "b"), (*days, "--output-dir", "d")):
        ended = copper(*line)
        assert ended.code == 7, ended.err
        assert "copper archive check" in ended.err.splitlines()[-1]
    assert copper("archive", "check", "--repair").code == 0
    count = calls(cloud)
    next(count)
    assert copper(*USAGE, "--output-dir", "b", "--no-cache").code == 0
    assert next(count) == 2 + len(list(cloud.fleet.meters()))
    assert copper("archive", "check").code == 0


def test_a_landing_that_has_lost_a_table_is_mended(
    cloud: Sandbox, copper: Copper, archive: Path
) -> None:
    """As one that is gone."""
    import sqlite3
    from contextlib import closing

    assert copper(*USAGE, "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    with closing(sqlite3.connect(archive / "landing.sqlite")) as db:
        db.execute("DROP TABLE months")
        db.commit()
    assert copper(*USAGE, "--output-dir", "b").code == 7
    ended = copper("archive", "check", "--repair")
    assert ended.code == 0, ended.err
    assert copper(*USAGE, "--output-dir", "b").code == 0


def test_what_could_not_be_compacted_is_not_complete(
    cloud: Sandbox, copper: Copper, archive: Path
) -> None:
    """An unsound month: it is named, and the exit code tells."""
    assert copper(*USAGE, "--output-dir", "a").code == 0
    assert copper("archive", "compact").code == 0
    for month in archive.rglob("*.parquet"):
        month.write_bytes(month.read_bytes()[:-100] + bytes(100))
    assert copper("meter", "usage", "2022-03-20", "2022-03-21", "--output-dir", "c").code == 7
    ended = copper("archive", "compact")
    assert (ended.code, ended.out) == (6, "")
    assert "usage.parquet" in ended.err
    assert "copper archive check" in ended.err.splitlines()[-1]


def test_a_forgotten_home_goes_into_no_new_bundle(
    cloud: Sandbox, copper: Copper, work: Path
) -> None:
    """Its files are left where they lie; what is zipped from then on lacks them."""
    from zipfile import ZipFile

    assert copper("dump", "d", "2022-03-01", "2022-03-02", "hour").code == 0
    meter = next(iter(cloud.fleet.meters())).id
    assert copper("archive", "forget", "--meter-id", meter, "--yes").code == 0
    assert copper("dump", "d", "2022-03-01", "2022-03-03", "hour").code == 0
    (bundle,) = work.rglob("*.zip")
    with ZipFile(bundle) as found:
        names = found.namelist()
        assert names
        assert not [name for name in names if meter.replace(":", "_") in name]
        assert not [name for name in names if meter.encode() in found.read(name)]


def test_a_temporary_archive_that_was_left_behind_goes(
    cloud: Sandbox, copper: Copper, temporary: Callable[[], list[str]], tmp_path: Path
) -> None:
    """It holds addresses. One that is in use, or just begun, stays."""
    for name, age_s in (("old", 3600), ("young", 0)):
        left = tmp_path / "tmp" / f"{TEMPORARY_PREFIX}{name}"
        left.mkdir()
        (left / "archive.json").write_text("{}")
        os.utime(left, (time.time() - age_s,) * 2)
    assert copper("premise", "--no-archive").code == 0
    assert temporary() == [f"{TEMPORARY_PREFIX}young"]


def test_half_hour_clock_changes_stop_no_repair(
    serve: Callable[..., Sandbox], copper: Copper, archive: Path
) -> None:
    """Lord Howe's hours follow the zone; a meter that is younger than the range among them."""
    cloud = serve(premises=3, zones=("Australia/Lord_Howe",))
    born = min(meter.created_utc for meter in cloud.fleet.meters())
    line = ("meter", "usage", f"{born:%Y-%m-%d}", "2021-10-20")
    assert copper("meter", "usage", "2021-09-20", "2021-10-20", "--output-dir", "a").code == 0
    assert copper(*line, "--granularity", "day", "--output-dir", "young").code == 0
    assert copper("archive", "compact").code == 0
    assert copper("archive", "check").code == 0
    month = next(path for path in archive.rglob("*.parquet") if "hour/month=2021-10" in str(path))
    data = bytearray(month.read_bytes())
    data[len(data) // 2] ^= 1
    month.write_bytes(data)
    assert copper("archive", "check", "--repair").code == 0
    assert copper("archive", "check").code == 0
    count = calls(cloud)
    next(count)
    assert copper("meter", "usage", "2021-09-20", "2021-10-20", "--output-dir", "b").code == 0
    assert next(count) >= 1
    assert copper("archive", "check").code == 0
