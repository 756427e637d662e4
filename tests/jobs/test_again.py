"""A finished folder asked for again: nothing is asked but the lists, nothing is written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile
from zoneinfo import ZoneInfo

import pytest
from held import assert_alike

from copper_cli.errors import LocalError
from copper_cli.jobs.dump import DumpRequest, dump_days, estimate_dump
from copper_cli.jobs.grid import GridRequest, download_grid_readings, estimate_grid_readings
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.jobs.readings import ReadingsRequest, download_readings, estimate_readings
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Context, Output
from copper_cli.work.meter_series import SeriesRequest

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
FIRST, LAST = date(2021, 3, 1), date(2021, 3, 3)
DUMP = DumpRequest("foo", FIRST, LAST, "hour", None, "plain")
USAGE = SeriesRequest("usage", FIRST, LAST, "hour")
READINGS = ReadingsRequest(FIRST, LAST)
JOBS: dict[str, tuple[Any, Any, Any]] = {
    "usage": (download_series, estimate_series, USAGE),
    "readings": (download_readings, estimate_readings, READINGS),
    "grid": (download_grid_readings, estimate_grid_readings, GridRequest(FIRST, LAST)),
    "dump": (dump_days, estimate_dump, DUMP),
}


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(quota=None, now=NOW, premises=2)) as found:
        yield found


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells that a file was written: by another inode, or at another time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".copper.lock"
    }


def edit(path: Path) -> None:
    """Another content of the same size, at a later time."""
    text = path.read_text()
    path.write_text(text[:-3] + ("8" if text[-3] != "8" else "9") + text[-2:])
    later_ns = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later_ns, later_ns))


@pytest.mark.parametrize("command", JOBS)
def test_nothing_is_written_again(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, command: str
) -> None:
    """Neither a file nor a book nor a bundle, by the run or by a dry run: two calls for the lists
    each, and the same table."""
    download, estimate, request = JOBS[command]
    out = tmp_path / "out"
    first = download(make_context(cloud), request, Output(out))
    before = stamps(out)
    since = cloud.calls
    assert download(make_context(cloud), request, Output(out)).rows == first.rows
    assert estimate(make_context(cloud), request, Output(out)).facts["to_ask"] == 0
    assert cloud.calls - since == 2 * 2
    assert stamps(out) == before


@pytest.mark.parametrize("command", JOBS)
def test_a_file_that_is_gone_costs_no_call(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, command: str
) -> None:
    """Nor does a folder that is gone, or another one: the same bytes, for the lists alone."""
    download, estimate, request = JOBS[command]
    out = tmp_path / "out"
    download(make_context(cloud), request, Output(out))
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.csv")}
    next(path for path in sorted(out.rglob("*.csv")) if path.name != "meter_summary.csv").unlink()
    assert estimate(make_context(cloud), request, Output(out)).facts["to_ask"] == 0
    for folder in (out, tmp_path / "other"):
        since = cloud.calls
        download(make_context(cloud), request, Output(folder))
        assert cloud.calls - since == 2
        after = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.csv")}
        assert after == before


VIEWS: dict[str, Any] = {
    "layout": (download_series, replace(USAGE, layout="columns")),
    "zone": (download_series, replace(USAGE, zone=ZoneInfo("America/Boise"))),
    "part": (download_series, replace(USAGE, end=date(2021, 3, 2))),
    "steps": (download_series, replace(USAGE, step_days=1)),
    "dump": (dump_days, replace(DUMP, finish=date(2021, 3, 2))),
}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_another_view_of_the_same_hours_costs_no_call(
    make_context: Callable[..., Context], tmp_path: Path, view: str, published: bool
) -> None:
    """But for the lists; and it is as if the cloud had been asked. Boise's days begin with
    Denver's."""
    config = SandboxConfig(quota=None, now=NOW, premises=2, zones=("America/Denver",))
    download, request = VIEWS[view]
    with Sandbox(config) as cloud:
        context = make_context(cloud)
        download_series(context, USAGE, Output(tmp_path / "first"))
        if published:
            context.archive.publish(force=True)
        since = cloud.calls
        download(make_context(cloud), request, Output(tmp_path / "view"))
        assert cloud.calls - since <= 2
        download(make_context(cloud, apart=True), request, Output(tmp_path / "fresh"))
    assert_alike(tmp_path / "view", tmp_path / "fresh")


class TestBundles:
    def bundle(self, out: Path) -> Path:
        (found,) = out.glob("*.zip")
        return found

    def test_a_changed_file_is_fetched_and_bundled_anew(
        self, cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
    ) -> None:
        """As if nobody had touched it: the same ZIP, but another file on the disk."""
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        bundle = self.bundle(tmp_path)
        content, inode = bundle.read_bytes(), bundle.stat().st_ino
        edit(next((tmp_path / "foo/2021-03-02").glob("07*.csv")))
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        assert bundle.read_bytes() == content
        assert bundle.stat().st_ino != inode

    def test_a_file_of_an_earlier_dump_goes_as_it_is(
        self, cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
    ) -> None:
        """A day that this run does not ask for is bundled with what somebody made of it."""
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        later = replace(DUMP, start=LAST)
        dump_days(make_context(cloud), later, Output(tmp_path))
        edited = next((tmp_path / "foo/2021-03-01").glob("07*.csv"))
        edit(edited)
        dump_days(make_context(cloud), later, Output(tmp_path))
        with ZipFile(self.bundle(tmp_path)) as bundle:
            assert bundle.read(f"foo/2021-03-01/{edited.name}") == edited.read_bytes()

    @pytest.mark.parametrize("damage", ["gone", "changed"])
    def test_a_bundle_that_is_not_as_it_was_is_made_anew(
        self,
        cloud: Sandbox,
        make_context: Callable[..., Context],
        tmp_path: Path,
        damage: str,
    ) -> None:
        """Whatever became of it."""
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        bundle = self.bundle(tmp_path)
        content = bundle.read_bytes()
        if damage == "gone":
            bundle.unlink()
        else:
            bundle.write_bytes(content[:-1] + b"x")
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        assert bundle.read_bytes() == content

    def test_a_summary_that_was_changed_is_put_right(
        self, cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
    ) -> None:
        """It is made from what the manifest says, in the folder and in the ZIP."""
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        content = self.bundle(tmp_path).read_bytes()
        summary = tmp_path / "foo/2021-03-02/meter_summary.csv"
        before = summary.read_bytes()
        edit(summary)
        dump_days(make_context(cloud), DUMP, Output(tmp_path))
        assert summary.read_bytes() == before
        assert self.bundle(tmp_path).read_bytes() == content


def test_many_rows_are_published_and_what_cannot_be_ends_nothing(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A download that leaves much in the landing publishes; where the disk does not take it the
    files are there, one line says so, and the next run publishes."""
    monkeypatch.setattr("copper_cli.archive.PUBLISH_ROWS", 10)
    context = make_context(cloud)
    lines: list[str] = []
    context.progress.say = lines.append  # type: ignore[method-assign]
    with monkeypatch.context() as patched:

        def full(*args: Any, **how: Any) -> None:
            raise LocalError("the disk is full.")

        patched.setattr("copper_cli.archive.partitions.publish", full)
        assert download_series(context, USAGE, Output(tmp_path / "a")).facts["complete"]
    assert any("the disk is full. What was fetched is kept" in line for line in lines)
    assert context.archive.unpublished() > 10
    download_series(make_context(cloud), USAGE, Output(tmp_path / "b"))
    assert context.archive.unpublished() == 0
    assert list((tmp_path / "archive").rglob("*.parquet"))


def test_a_disk_that_was_full_for_a_moment_ends_the_run(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files that take their names while others are fetched: what was lost is never told as done."""
    from copper_cli.folders.manifest import Folder

    real, failed = Folder.flush, []

    def flush(folder: Folder) -> None:
        if not failed and threading.current_thread().name == "copper-folder":
            failed.append(True)
            raise LocalError("the disk is full.")
        real(folder)

    monkeypatch.setattr(Folder, "flush", flush)
    monkeypatch.setattr("copper_cli.work.download._SHOW_S", 0.01)
    cloud.faults.add(Fault(kind="hang", path="/usage", seconds=0.2, times=1, skip=2))
    with pytest.raises(LocalError, match="the disk is full"):
        download_series(make_context(cloud), USAGE, Output(tmp_path / "out"))
    monkeypatch.undo()
    cloud.faults.clear()
    assert download_series(make_context(cloud), USAGE, Output(tmp_path / "out")).facts["complete"]


def test_files_of_this_archive_follow_it(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """What was marked as never asked is asked for again, also where a file is there of it."""
    context = make_context(cloud)
    download_series(context, USAGE, Output(tmp_path / "out"))
    (key, span), *_ = [
        (held.key, (held.start_s, held.end_s)) for held in context.archive.held("usage")
    ]
    context.archive.retract(key, span)
    calls = cloud.calls
    download_series(make_context(cloud), USAGE, Output(tmp_path / "out"))
    assert cloud.calls - calls == 2 + 1
