"""The cloud is gone in the middle: what it costs, what is said, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import Copper

USAGE = ("meter", "usage", "2021-03-01", "2021-03-02")


def calls_used(copper: Copper) -> int:
    return int(copper("quota", "--format", "json").json["rows"][0]["used"])


@pytest.fixture
def gone(serve: Callable[..., Sandbox], copper: Copper) -> Sandbox:
    """A cloud of eight premises that has answered for the lists and one meter, then stopped."""
    cloud = serve(premises=8, max_age=3600)
    first = next(iter(cloud.fleet.meters())).id
    assert copper(*USAGE, "--meter-id", first).code == 0
    cloud.stop()
    return cloud


def test_what_never_reached_the_cloud_costs_nothing(gone: Sandbox, copper: Copper) -> None:
    """Three meters without a connection end the run: exit 4, the host named, no call counted."""
    before = calls_used(copper)
    ended = copper(*USAGE, "--quiet", "--jobs", "1")
    assert ended.code == 4
    lines = ended.err.splitlines()
    assert sum("failed: " in line and "cannot reach 127.0.0.1" in line for line in lines) == 3
    assert lines[-2].endswith(" files are safe on disk. The same command goes on from here.")
    assert lines[-2].startswith("1 of ")
    assert lines[-1].startswith("copper: ")
    assert "cannot reach 127.0.0.1: it refuses connections" in lines[-1]
    assert calls_used(copper) == before


def test_without_waiting_it_is_not_the_quota(gone: Sandbox, copper: Copper) -> None:
    """A spent quota would be blamed for an outage: exit 4, not 5."""
    ended = copper(*USAGE, "--quiet", "--no-wait", "--quota", "30/h")
    assert ended.code == 4


def test_several_meters_at_once(gone: Sandbox, copper: Copper) -> None:
    """The same with eight calls in flight."""
    before = calls_used(copper)
    ended = copper(*USAGE, "--quiet")
    assert ended.code == 4
    assert calls_used(copper) == before


@pytest.mark.parametrize(
    "command",
    [
        ("report", "monthly", "2022-02", "--include-per-meter-sum"),
        ("meter", "check-for-water-reversals"),
    ],
)
def test_a_report_is_no_report_without_a_cloud(
    serve: Callable[..., Sandbox], copper: Copper, command: tuple[str, ...]
) -> None:
    """Its lists come from the cache: no empty report, but exit 4 with the host's name."""
    cloud = serve(premises=8, max_age=3600)
    assert copper(*command, "--dry-run").code == 0
    cloud.stop()
    ended = copper(*command)
    assert ended.code == 4
    assert "cannot reach 127.0.0.1" in ended.err.splitlines()[-1]
    assert ended.out == ""


def test_the_same_command_goes_on(
    gone: Sandbox, copper: Copper, serve: Callable[..., Sandbox], work: Path
) -> None:
    """When the cloud is back all meters come, the one that is done is kept."""
    copper(*USAGE, "--quiet")
    cloud = serve(premises=8)
    ended = copper(*USAGE, "--format", "json")
    assert ended.code == 0
    assert ended.json["kept"] == 1
    files = json.loads((work / "generated" / "manifest.json").read_text())["files"]
    assert len(files) == len(list(cloud.fleet.meters()))


def test_a_refusal_promises_nothing(cloud: Sandbox, copper: Copper) -> None:
    """403 and 400: the same command again would not bring it."""
    meter = next(iter(cloud.fleet.meters())).id
    for status in (403, 400):
        cloud.faults.add(f"status={status},path={meter}/usage,times=99")
        ended = copper(*USAGE, "--quiet", "--output-dir", str(status))
        assert ended.code == 6
        assert ended.err.splitlines()[-1] == (
            "copper: 1 meter missing. The same command again would not bring it: see above why."
        )


def test_a_silent_meter_is_named(serve: Callable[..., Sandbox], copper: Copper) -> None:
    """A month without any data of one meter: it is named, with `--quiet` too, and in JSON."""
    cloud = serve(quirks=("absent-buckets",), late=("400",))
    ids = [meter.id for meter in cloud.fleet.meters()]
    line = ("meter", "usage", "2022-01-01", "2022-01-03", "--meter-id", ids[0])
    ended = copper(*line, "--quiet")
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == f"Without any data in this range: {ids[0]}."
    assert copper(*line, "--format", "json").json["empties"] == [{"id": ids[0], "reason": None}]
