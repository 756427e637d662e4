"""Faults that stay: the rest is done, what failed is told, and a later run fetches only that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from copper_cli.errors import CredentialsError
from copper_cli.jobs.monthly import report_monthly
from copper_cli.jobs.reversals import check_water_reversals
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig

from .runs import NOW, PLENTY, Machine, asked, meter_ids, path_of, read_folder, temporaries

LASTING: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503 retry-after": {"status": 503, "retry_after": 5},
    "404": {"status": 404},
    "400": {"status": 400},
    "403": {"status": 403},
    "429": {"status": 429, "retry_after": 60},
    "reset": {"kind": "reset"},
    "cut": {"kind": "cut"},
    "html": {"kind": "html"},
    "redirect": {"kind": "redirect"},
}


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(premises=3, quota=None, now=NOW, max_age=0)) as found:
        yield found


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("fault", LASTING)
def test_one_meter_that_fails_for_ever_stops_no_other(
    cloud: Sandbox,
    machine: Callable[[Sandbox], Machine],
    tmp_path: Path,
    fault: str,
    jobs: int,
) -> None:
    """The other meters are done; that one is `failed` with its reason in manifest and facts, and
    has no file. Once the fault is gone the same command asks the lists and that meter alone, and
    the folder is that of a run without faults."""
    user = machine(cloud)
    request = replace(PLENTY, baseline=False)
    user.download(tmp_path / "whole", request, use_cache=False, apart=True)
    whole = read_folder(tmp_path / "whole")
    ids = meter_ids(cloud)
    broken = ids[3]
    cloud.faults.add(Fault(path=path_of(broken), times=None, **LASTING[fault]))
    table = user.download(tmp_path / "out", request, jobs=jobs)

    assert [one["id"] for one in table.facts["failed"]] == [broken]
    assert not table.facts["complete"]
    assert table.facts["done"] == len(ids) - 1
    reason = table.facts["failed"][0]["reason"]
    assert broken in reason
    assert "\n" not in reason
    partial = read_folder(tmp_path / "out")
    name = request.file_name(broken)
    assert name not in partial
    entry = partial["manifest.json"]["files"].pop(name)
    assert (entry["state"], entry["sha256"], entry["reason"]) == ("failed", None, reason)
    expected = {k: v for k, v in whole.items() if k != name}
    expected["manifest.json"] = json.loads(json.dumps(whole["manifest.json"]))
    del expected["manifest.json"]["files"][name]
    assert partial == expected

    cloud.faults.clear()
    before = len(cloud.log)
    table = user.download(tmp_path / "out", request, jobs=jobs)
    assert sorted(asked(cloud, before)) == sorted(["meter", "premise", f"meter/{broken}/usage"])
    assert table.facts["complete"]
    assert table.facts["kept"] == len(ids) - 1
    assert read_folder(tmp_path / "out") == whole
    assert list(temporaries(tmp_path / "out")) == []


def test_an_earlier_answer_outlives_a_failed_renewal(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """A file whose rows to come cannot be fetched now stays, as the manifest says."""
    user = machine(cloud)
    request = replace(PLENTY, start=date(2021, 1, 30), end=date(2021, 2, 2), baseline=False)
    user.download(tmp_path, request)
    before = read_folder(tmp_path)
    broken = meter_ids(cloud)[0]
    cloud.faults.add(Fault(path=path_of(broken), times=None))
    user.clock.sleep(2 * 3600)
    table = user.download(tmp_path, request)
    assert [one["id"] for one in table.facts["failed"]] == [broken]
    name = request.file_name(broken)
    after = read_folder(tmp_path)
    assert after[name] == before[name]
    entry = after["manifest.json"]["files"][name]
    assert entry["state"] == "failed"
    assert entry["sha256"] == before["manifest.json"]["files"][name]["sha256"]


def test_refused_meters_in_a_row_end_the_run(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path
) -> None:
    """Three meters refused one after the other for want of permission (403): the run ends with
    the error itself instead of asking them all; what was fetched before is safe."""
    user = machine(cloud)
    request = replace(PLENTY, baseline=False)
    cloud.faults.add(Fault(path="/usage", status=403, skip=2, times=None))
    with pytest.raises(CredentialsError):
        user.download(tmp_path, request)
    assert len(list(tmp_path.glob("*.csv"))) == 2
    cloud.faults.clear()
    assert user.download(tmp_path, request).facts["kept"] == 2


@pytest.mark.parametrize("jobs", [1, 4])
def test_refused_meters_keep_no_run_from_the_others(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path, jobs: int
) -> None:
    """The first three meters are refused for ever: the first run ends at them, the next asks
    them last, so that all others are done."""
    user = machine(cloud)
    request = replace(PLENTY, baseline=False)
    ids = meter_ids(cloud)
    for one in ids[:3]:
        cloud.faults.add(Fault(path=path_of(one), status=403, times=None))
    for _ in range(2):
        with suppress(CredentialsError):  # others in between may have kept the run alive
            user.download(tmp_path, request, jobs=jobs)
    files = read_folder(tmp_path)["manifest.json"]["files"]
    states = [files[request.file_name(one)]["state"] for one in ids]
    assert states == ["failed"] * 3 + ["fetched"] * (len(ids) - 3)


@pytest.mark.parametrize("what", ["/meter\\?", r"/premise(\?|$)", "/oauth/token"])
def test_lists_that_fail_write_nothing(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], tmp_path: Path, what: str
) -> None:
    """Without its lists, or without a token, a run ends before it touches the folder."""
    cloud.faults.add(Fault(path=what, times=None, status=503))
    with pytest.raises(Exception, match="503"):
        machine(cloud).download(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("fault", ["500", "404", "cut"])
def test_no_monthly_total_is_made_of_half_the_meters(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine], fault: str, jobs: int
) -> None:
    """`report monthly --include-per-meter-sum` leaves out the total of a type of which a meter
    failed and names the meter; every other line is as without the fault."""
    user = machine(cloud)
    month = date(2020, 12, 1)
    whole = report_monthly(
        user.connect(jobs, apart=True, use_cache=False), month, include_per_meter_sum=True
    ).table
    broken = next(meter for meter in cloud.fleet.meters() if meter.type == "gas")
    cloud.faults.add(Fault(path=path_of(broken.id), times=None, **LASTING[fault]))
    table = report_monthly(user.connect(jobs), month, include_per_meter_sum=True).table
    assert [one["id"] for one in table.facts["failed"]] == [broken.id]
    left_out = "gas cumulative per-meter usage"
    assert left_out in [row[0] for row in whole.rows]
    assert table.rows == [row for row in whole.rows if row[0] != left_out]


def test_a_monthly_aggregate_that_fails_is_left_out(
    cloud: Sandbox, machine: Callable[[Sandbox], Machine]
) -> None:
    """The aggregate of one type fails: its line is missing and told of, no other changes."""
    user = machine(cloud)
    whole = report_monthly(user.connect(), date(2020, 12, 1)).table
    cloud.faults.add(Fault(path="aggregate/usage.*meter_type=gas", times=None))
    table = report_monthly(user.connect(), date(2020, 12, 1)).table
    assert [one["id"] for one in table.facts["failed"]] == ["gas aggregate usage"]
    assert table.rows == [row for row in whole.rows if row[0] != "gas aggregate usage"]


@pytest.mark.parametrize("side", ["water_indoor", "water_outdoor"])
def test_no_water_verdict_is_made_of_one_side(
    machine: Callable[[Sandbox], Machine], side: str
) -> None:
    """`check-for-water-reversals` leaves out a premise of which a meter failed and names the
    meter; the others are judged as without the fault."""
    config = SandboxConfig(premises=52, quota=None, now=NOW, max_age=0)
    with Sandbox(config) as cloud:
        user = machine(cloud)
        whole = check_water_reversals(user.connect(apart=True), method="winter")
        assert len(whole.rows) >= 2
        premise = whole.rows[0][0]
        broken = next(m for m in cloud.fleet.meters() if m.premise_id == premise and m.type == side)
        cloud.faults.add(Fault(path=path_of(broken.id), times=None))
        table = check_water_reversals(user.connect(), method="winter")
    assert [one["id"] for one in table.facts["failed"]] == [broken.id]
    assert table.rows == [row for row in whole.rows if row[0] != premise]
