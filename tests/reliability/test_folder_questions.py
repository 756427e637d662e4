"""A folder that holds something already: refused or fetched anew, never mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from held import assert_alike

from copper_cli.errors import LocalError, UsageError
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.work.context import Output
from copper_cli.work.meter_series import SeriesRequest

from .runs import NOW, PLENTY, Machine, asked, meter_ids, read_folder

REQUEST = replace(PLENTY, baseline=False)
OTHERS = {
    "granularity": replace(REQUEST, granularity="day"),
    "layout": replace(REQUEST, layout="plain"),
    "baseline": replace(REQUEST, baseline=True),
}
LISTS = ["meter", "premise"]


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(premises=2, quota=None, now=NOW, max_age=0)) as found:
        yield found


@pytest.fixture
def user(cloud: Sandbox, machine: Callable[[Sandbox], Machine]) -> Machine:
    return machine(cloud)


@pytest.mark.parametrize("difference", OTHERS)
def test_a_folder_with_another_question_is_refused(
    cloud: Sandbox, user: Machine, tmp_path: Path, difference: str
) -> None:
    """One line that names the file and both questions, before any call but the lists, and
    nothing changes; --dry-run refuses alike. `--overwrite` puts the new answer in its place, as
    if the folder had been empty."""
    other = OTHERS[difference]
    user.download(tmp_path / "out", REQUEST)
    before = read_folder(tmp_path / "out")
    since = len(cloud.log)
    with pytest.raises(UsageError) as refusal:
        user.download(tmp_path / "out", other)
    with pytest.raises(UsageError):
        estimate_series(user.connect(), other, Output(tmp_path / "out"))
    assert asked(cloud, since) == LISTS * 2
    assert REQUEST.file_name(meter_ids(cloud)[0]) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert read_folder(tmp_path / "out") == before
    table = user.download(tmp_path / "out", other, overwrite=True)
    assert table.facts["complete"]
    user.download(tmp_path / "fresh", other, apart=True)
    assert read_folder(tmp_path / "out") == read_folder(tmp_path / "fresh")


def test_another_range_takes_the_place_of_the_first(
    cloud: Sandbox, user: Machine, tmp_path: Path
) -> None:
    """The next day into the same folder: only that day is asked for, one line says what becomes of
    the files, and they are as a folder of its own would have them. A file that was changed since
    stays, and is named."""
    longer = replace(REQUEST, end=date(2021, 1, 15))
    user.download(tmp_path / "out", REQUEST)
    since = len(cloud.log)
    context = user.connect()
    table = download_series(context, longer, Output(tmp_path / "out"))
    assert table.facts["complete"]
    ids = meter_ids(cloud)
    assert sorted(asked(cloud, since)) == sorted([*LISTS, *(f"meter/{one}/usage" for one in ids)])
    starts = {
        record.query.split("start=")[1][:10]
        for record in cloud.log[since:]
        if "start=" in record.query
    }
    assert starts == {"2021-01-14"}
    (line,) = [line for line in context.progress.lines if "replaced" in line]  # type: ignore[attr-defined]
    assert f"{len(ids)} files of meter usage 2021-01-10 to 2021-01-14" in line
    download_series(user.connect(apart=True), longer, Output(tmp_path / "fresh"))
    assert_alike(tmp_path / "out", tmp_path / "fresh")
    path = tmp_path / "out" / REQUEST.file_name(ids[0])
    path.write_text(path.read_text() + "mine\n")
    with pytest.raises(UsageError, match="was changed since"):
        user.download(tmp_path / "out", REQUEST)


def test_a_strangers_file_is_refused(cloud: Sandbox, user: Machine, tmp_path: Path) -> None:
    """A file of a name of ours that no manifest lists stops the run before any call but the
    lists; only `--overwrite` replaces it."""
    stranger = tmp_path / REQUEST.file_name(meter_ids(cloud)[-1])
    stranger.write_text("mine\n")
    with pytest.raises(UsageError, match="does not list it"):
        user.download(tmp_path, REQUEST)
    assert asked(cloud) == LISTS
    assert stranger.read_text() == "mine\n"
    assert list(tmp_path.glob("*.csv")) == [stranger]
    assert user.download(tmp_path, REQUEST, overwrite=True).facts["complete"]
    assert stranger.read_text() != "mine\n"


@pytest.mark.parametrize("damage", ["changed", "missing", "cut short", "emptied"])
def test_a_damaged_file_is_fetched_anew(
    cloud: Sandbox, user: Machine, tmp_path: Path, damage: str
) -> None:
    """A file that is not as it was written is written anew, without a call but the lists."""
    user.download(tmp_path / "out", REQUEST)
    before = read_folder(tmp_path / "out")
    damaged = meter_ids(cloud)[1]
    path = tmp_path / "out" / REQUEST.file_name(damaged)
    text = path.read_text()
    if damage == "missing":
        path.unlink()
    else:
        # The same size, too: nothing but the content tells.
        sign = "8" if text[-3] == "9" else "9"
        changed = {"changed": text[:-3] + sign + text[-2:], "cut short": text[:40], "emptied": ""}
        path.write_text(changed[damage])
    since = len(cloud.log)
    assert user.download(tmp_path / "out", REQUEST).facts["complete"]
    assert asked(cloud, since) == LISTS
    assert read_folder(tmp_path / "out") == before


def test_other_files_stay_untouched(cloud: Sandbox, user: Machine, tmp_path: Path) -> None:
    """Whatever else lies in the folder is neither read into the manifest nor changed, whatever
    the run is told to overwrite."""
    others = {"notes.txt": "mine", "07_1.usage.csv.bak": "mine", "sub/x.usage.csv": "mine"}
    (tmp_path / "sub").mkdir()
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    user.download(tmp_path, REQUEST)
    user.download(tmp_path, OTHERS["granularity"], overwrite=True)
    assert {name: (tmp_path / name).read_text() for name in others} == others
    names = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert sorted(names) == sorted(REQUEST.file_name(one) for one in meter_ids(cloud))


def test_meters_and_commands_share_a_folder(cloud: Sandbox, user: Machine, tmp_path: Path) -> None:
    """Meters asked one after the other and other commands add to the manifest; none loses an
    entry or a file, and the whole fetches what is missing alone."""
    download_series(user.connect(apart=True), REQUEST, Output(tmp_path / "whole"))
    whole = read_folder(tmp_path / "whole")
    ids = meter_ids(cloud)
    for one in ids[:2]:
        user.download(tmp_path / "out", replace(REQUEST, meter_ids=(one,)))
    average = SeriesRequest("average-series", REQUEST.start, REQUEST.end, "hour")
    user.download(tmp_path / "out", average)
    since = len(cloud.log)
    table = user.download(tmp_path / "out", REQUEST)
    assert asked(cloud, since) == [*LISTS, *(f"meter/{one}/usage" for one in ids[2:])]
    assert table.facts["kept"] == 2
    found = read_folder(tmp_path / "out")
    averages = {average.file_name(one) for one in ids}
    assert averages < found.keys()
    files = found["manifest.json"]["files"]
    assert {k: v for k, v in files.items() if k not in averages} == whole["manifest.json"]["files"]
    assert {k: found[k] for k in whole if k != "manifest.json"} == {
        k: v for k, v in whole.items() if k != "manifest.json"
    }


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"files": {"a": 1}}'])
def test_a_manifest_that_is_not_ours_is_refused(
    cloud: Sandbox, user: Machine, tmp_path: Path, text: str
) -> None:
    """A damaged or foreign manifest.json: one line, no call but the lists, nothing written."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LocalError, match="no manifest of this program"):
        user.download(tmp_path, REQUEST, overwrite=True)
    assert asked(cloud) == LISTS
    assert (tmp_path / "manifest.json").read_text() == text
    assert list(tmp_path.glob("*.csv")) == []
