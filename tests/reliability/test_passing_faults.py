"""Faults that pass: the folder ends exactly as if there had been none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from copper_cli.sandbox import Fault, Sandbox, SandboxConfig

from .runs import NOW, PLENTY, Clock, Machine, meter_ids, path_of, read_folder

REQUEST = replace(PLENTY, step_days=2)
TIMEOUT_S = 0.7

FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "502": {"status": 502, "body": "empty"},
    "503": {"status": 503, "body": "json"},
    "500 retry-after": {"status": 500, "retry_after": 3},
    "502 retry-after date": {"status": 502, "retry_after": 30, "retry_after_date": True},
    "503 retry-after": {"status": 503, "retry_after": 90},
    "429": {"status": 429},
    "429 retry-after": {"status": 429, "retry_after": 40},
    "429 retry-after date": {"status": 429, "retry_after": 40, "retry_after_date": True},
    "reset": {"kind": "reset"},
    "cut": {"kind": "cut"},
    "cut chunked": {"kind": "cut-chunked"},
    "hang": {"kind": "hang", "seconds": 2 * TIMEOUT_S},
    "revoke": {"kind": "revoke"},
    "html": {"kind": "html"},
    "cut json": {"kind": "cut-json"},
}
PLACES = {
    "lists": ("premises", "meters"),
    "first, middle and last meter": ("first meter", "middle meter", "last meter"),
    "later windows": ("second window", "baseline, second window"),
    "baseline": ("baseline",),
}


@dataclass(frozen=True)
class Truth:
    """A cloud, and the folder that a run without faults makes of it."""

    cloud: Sandbox
    folder: dict[str, Any]
    quota_clock: Clock

    def place(self, name: str) -> dict[str, Any]:
        """The settings of a fault that befalls one call at this place of the job."""
        ids = meter_ids(self.cloud)
        return {
            "premises": {"path": r"/premise(\?|$)"},
            "meters": {"path": r"/meter\?"},
            "first meter": {"path": path_of(ids[0])},
            "middle meter": {"path": path_of(ids[len(ids) // 2])},
            "last meter": {"path": path_of(ids[-1])},
            "second window": {"path": path_of(ids[1]), "skip": 1},
            "baseline": {"path": path_of(ids[0], "baseline-series")},
            "baseline, second window": {"path": path_of(ids[-1], "baseline-series"), "skip": 1},
        }[name]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    base = tmp_path_factory.mktemp("truth")
    quota_clock = Clock()
    config = SandboxConfig(premises=2, quota=None, now=NOW)
    with ExitStack() as stack:
        cloud = stack.enter_context(Sandbox(config, quota_clock=lambda: quota_clock.now_s))
        table = Machine(cloud, base / "cache", Clock(), stack).download(base / "out", REQUEST)
        assert table.facts["complete"]
        assert table.facts["calls"] == 2 + 4 * len(meter_ids(cloud))
        yield Truth(cloud, read_folder(base / "out"), quota_clock)


@pytest.fixture
def user(truth: Truth, tmp_path: Path) -> Iterator[Machine]:
    """A machine that begins with nothing, and a cloud without faults."""
    truth.cloud.faults.clear()
    with ExitStack() as stack:
        clock = truth.quota_clock
        yield Machine(truth.cloud, tmp_path / "cache", clock, stack)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_leaves_no_trace(
    truth: Truth, user: Machine, tmp_path: Path, fault: str, places: str
) -> None:
    """A call befallen anywhere: the same bytes, the same manifest but for its calls, nothing
    failed."""
    for place in PLACES[places]:
        truth.cloud.faults.add(Fault(**FAULTS[fault], **truth.place(place)))
    timeout_s = TIMEOUT_S if fault == "hang" else 10.0
    table = user.download(tmp_path / "out", REQUEST, timeout_s=timeout_s)
    assert truth.cloud.faults.left() == []
    assert table.facts["complete"]
    assert read_folder(tmp_path / "out") == truth.folder


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_faults_leaves_no_trace(
    truth: Truth, user: Machine, tmp_path: Path, seed: int
) -> None:
    """Every call of a run with four calls in flight has its own one to three faults."""
    chance = Random(seed)
    kinds = [settings for name, settings in FAULTS.items() if name not in ("hang", "revoke")]
    ids = meter_ids(truth.cloud)
    paths = [r"/premise(\?|$)", r"/meter\?"]
    paths += [path_of(one, kind) for one in ids for kind in ("usage", "baseline-series")]
    for path in paths:
        for settings in chance.choices(kinds, k=chance.randint(1, 3)):
            truth.cloud.faults.add(Fault(path=path, **settings))
    # Once: a new token that is refused too is believed to be refused.
    truth.cloud.faults.add(Fault(kind="revoke", path="/usage", skip=chance.randint(0, 7)))
    table = user.download(tmp_path / "out", REQUEST, jobs=4)
    assert truth.cloud.faults.left() == []
    assert table.facts["complete"]
    assert read_folder(tmp_path / "out") == truth.folder


@pytest.mark.parametrize("place", ["first meter", "middle meter", "second window", "baseline"])
@pytest.mark.parametrize("rows", [2, 30])
def test_fewer_rows_than_asked_are_asked_for_again(
    truth: Truth, user: Machine, tmp_path: Path, rows: int, place: str
) -> None:
    """An answer that ends early is gone on from, so that no file lacks a row."""
    fault = Fault(kind="fewer-rows", rows=rows, **truth.place(place))
    truth.cloud.faults.add(fault)
    table = user.download(tmp_path / "out", REQUEST)
    assert truth.cloud.faults.left() == []
    assert table.facts["complete"]
    assert read_folder(tmp_path / "out") == truth.folder


@pytest.mark.parametrize("path", ["usage", "baseline-series"])
@pytest.mark.parametrize("fault", ["503 retry-after", "429", "cut", "revoke", "cut json"])
def test_a_fault_in_a_later_part_of_a_limited_span(
    tmp_path: Path, machine: Any, fault: str, path: str
) -> None:
    """Where the cloud grants a day and a half a call, a fault in any part of a window passes
    too, and the files are those of a cloud without limit."""
    config = SandboxConfig(premises=1, quota=None, now=NOW)
    with Sandbox(config) as cloud:
        machine(cloud).download(tmp_path / "whole", apart=True)
        whole = read_folder(tmp_path / "whole")
    limited = replace(config, max_span={"hour": timedelta(hours=36)})
    with Sandbox(limited) as cloud:
        user = replace(machine(cloud), cache_dir=tmp_path / "other cache")
        for skip in (1, 3, 4):
            cloud.faults.add(Fault(path=f"/{path}", skip=skip, **FAULTS[fault]))
        table = user.download(tmp_path / "out")
        assert cloud.faults.left() == []
        assert table.facts["complete"]
        assert _rounded(read_folder(tmp_path / "out")) == _rounded(whole)


def _rounded(folder: dict[str, Any]) -> dict[str, Any]:
    """The folder with sums to nine places, and without the digests that hang on the rest.

    A sum put together from parts differs from the whole's in its last digits.
    """
    found: dict[str, Any] = {}
    for name, content in folder.items():
        if name == "manifest.json":
            for entry in content["files"].values():
                entry["sha256"] = entry["sum_from"] = None
                total = entry["facts"].get("sum_energy")
                entry["facts"] |= {"sum_energy": total and round(total, 9)}
            found[name] = content
            continue
        lines = content.decode().splitlines()
        found[name] = [
            [f"{float(c):.9f}" if "_summary__" in line and "." in c else c for c in line.split(",")]
            for line in lines
        ]
    return found
