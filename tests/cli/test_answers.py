"""What commands say and how they end where the cloud's lists and zones are not as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from copper_cli.sandbox import Fault, Sandbox

from .conftest import Copper, FixedCloud

LISTS = {
    "premise": "premise",
    "gateway": "gateway",
    "meter status": "meter",
    "bulk": "bulk",
    "grid latest": "grid/latest",
    "report health": "gateway/history",
}


@pytest.mark.parametrize("line", LISTS)
@pytest.mark.parametrize(
    "body", [{"error": "upstream timed out", "code": 504}, {"results": None}, [None], ["x"], "x"]
)
def test_an_answer_that_is_no_list_is_an_error(
    fixed: FixedCloud, copper: Copper, line: str, body: Any
) -> None:
    """One line on stderr, exit 4, nothing on stdout; with the list back the command is whole."""
    name = LISTS[line]
    good = fixed.answers[name]
    fixed.answers[name] = body
    ended = copper(*line.split())
    assert (ended.code, ended.out) == (4, "")
    assert len(ended.err.splitlines()) == 1
    assert name in ended.err
    if "error" in body:
        assert "upstream timed out" in ended.err
    fixed.answers[name] = good
    assert copper(*line.split()).out.endswith("complete!\n")


def test_rows_that_cannot_be_read_end_with_exit_6(fixed: FixedCloud, copper: Copper) -> None:
    """The others are shown; how many are missing stands on stderr, with --quiet too, and in JSON."""
    fixed.answers["meter"] = [{"id": "07:1", "type": "power"}, None, {"type": "gas"}]
    fixed.answers["bulk"] = {"results": [{"meter_id": "07:1", "value": "12.5"}, "x"]}
    for line in (["meter", "status"], ["meter", "status", "--quiet"]):
        ended = copper(*line)
        assert ended.code == 6
        assert "complete!" not in ended.out
        assert sorted(ended.err.splitlines()) == [
            "bulk: 1 of 2 rows cannot be read; left out.",
            "copper: 3 rows of the cloud's lists could not be read; what stood there is missing.",
            "meter: 2 of 3 rows cannot be read; left out.",
        ]
    found = copper("meter", "status", "--format", "json").json
    assert found["unread_rows"] == 3
    assert [row["id"] for row in found["rows"]] == ["07:1"]


def test_a_download_of_a_list_with_unread_rows(fixed: FixedCloud, copper: Copper) -> None:
    """What the list still names is fetched; the exit code says that some meter is missing."""
    fixed.answers["premise"] = [{"id": "p", "timezone": "America/Denver"}]
    fixed.answers["meter"] = [{"id": "07:1", "type": "power", "premise_id": "p"}, {}]
    row = {"time": "2021-03-02T08:00:00Z", "usage": 1, "power": 1, "value": 1, "actual": 1}
    fixed.answers["meter/07:1/usage"] = {"results": [row], "sum_usage": 1}
    ended = copper("meter", "usage", "2021-03-02", "2021-03-03")
    assert ended.code == 6
    assert "1 meter done" in ended.err
    assert ended.err.splitlines()[-1].startswith("copper: 1 row of the cloud's lists")


@pytest.mark.parametrize("location", [None, {"timezone": None}, {"timezone": "Mars/Base"}, []])
def test_a_meter_without_a_zone_is_named(fixed: FixedCloud, copper: Copper, location: Any) -> None:
    """Exit 6; the last line does not promise what the same command cannot bring."""
    fixed.answers["premise"] = [{"id": "p", "timezone": "America/Denver"}, {"id": "q"}]
    fixed.answers["meter"] = [
        {"id": "07:1", "type": "power", "premise_id": "p"},
        {"id": "07:2", "type": "power", "premise_id": "q"},
    ]
    row = {"time": "2021-03-02T08:00:00Z", "usage": 1, "power": 1, "value": 1, "actual": 1}
    fixed.answers["meter/07:1/usage"] = {"results": [row], "sum_usage": 1}
    fixed.answers["meter/07:2/location"] = location
    ended = copper("meter", "usage", "2021-03-02", "2021-03-03")
    assert ended.code == 6
    first, *_, last = ended.err.splitlines()
    assert first.startswith("07:2 failed: ")
    assert "give --timezone" in first
    assert last == (
        "copper: 1 meter missing. The same command again would not bring it: see above why."
    )
    planned = copper("meter", "usage", "2021-03-02", "2021-03-03", "--dry-run")
    assert planned.code == 0
    assert planned.err.startswith("07:2 is not counted: ")
    fixed.answers["meter/07:2/usage"] = fixed.answers["meter/07:1/usage"]
    again = copper(
        *["meter", "usage", "2021-03-02", "2021-03-03", "--timezone", "America/Denver"],
        *["--output-dir", "forced"],
    )
    assert again.code == 0, again.err


def test_a_meter_that_the_cloud_does_not_know_any_more(cloud: Sandbox, copper: Copper) -> None:
    """404: that is said, and not that the same command helps but for what may pass."""
    line = ["meter", "usage", "2021-03-01", "2021-03-02"]
    cloud.faults.add(Fault(path=r"meter/12(:|%3A)6346999187/usage", status=404, times=None))
    ended = copper(*line)
    assert ended.code == 6
    first, *_, last = ended.err.splitlines()
    assert "the cloud does not know it any more (404" in first
    assert "The same command again would not bring it" in last
    other = next(m.id for m in cloud.fleet.meters() if m.id != "12:6346999187")
    cloud.faults.add(Fault(path=f"meter/{other.replace(':', '(:|%3A)')}/usage", times=None))
    last = copper(*line, "--output-dir", "other", "--fresh").err.splitlines()[-1]
    assert last == (
        "copper: 2 meters missing. "
        "Run the same command again to fetch all but 1 of them: see above why."
    )


def test_days_of_utc_are_told(fixed: FixedCloud, copper: Copper, work: Path) -> None:
    """Where no zone of a premise is known, the report's days are not its own."""
    fixed.answers["premise"] = [{"id": "p"}, {"id": "q", "timezone": "America/Denver"}]
    fixed.answers["gateway"] = [
        {"id": "g", "premise_id": "p", "state": "active"},
        {"id": "h", "premise_id": "q", "state": "active"},
    ]
    fixed.answers["grid/readings"] = []
    told = "1 premise without a time zone that is known here: days are of UTC."
    assert told in copper("report", "health").err.splitlines()
    assert told in copper("grid", "readings", "2021-03-01", "2021-03-01").err.splitlines()


NO_INSTANTS = (
    *["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-12:00"],
    *["2200-01-01T00:00:00Z", "1969-12-31T23:59:59Z"],
)


@pytest.mark.parametrize("time", NO_INSTANTS)
@pytest.mark.parametrize("zone", ["America/Denver", "Pacific/Kiritimati"])
def test_instants_that_no_calendar_bears(
    fixed: FixedCloud, copper: Copper, time: str, zone: str
) -> None:
    """Go's zero time and its like, wherever an instant may stand: as if it were not there. What
    else the cloud says is shown and fetched."""
    row = {"time": "2021-03-02T08:00:00Z", "usage": 1, "power": 1, "value": 1, "actual": 1}
    odd = {**row, "time": time}
    history = [{"timestamp": time, "from": "down"}]
    fixed.answers["premise"] = [{"id": "p", "created_at": time, "timezone": zone}]
    fixed.answers["meter"] = [
        {
            "id": "07:1",
            "type": "power",
            "state": "connected",
            "premise_id": "p",
            "created_at": time,
            "last_reading": {"value": 1, "hw_timestamp": time},
            "seven_day_history": history,
        }
    ]
    fixed.answers["gateway"] = [{"id": "g", "premise_id": "p", "state": "active"}]
    fixed.answers["gateway/history"] = [{"id": "g", "history": history}]
    fixed.answers["bulk"] = {"results": [{"meter_id": "07:1", "value": 1, "timestamp": time}]}
    grid = [
        {"gateway_id": "g", "hw_timestamp": time, "voltage": 1},
        {"gateway_id": "g", "hw_timestamp": "2021-03-02T18:00:00Z", "voltage": 120.5},
    ]
    fixed.answers["grid/latest"] = {"results": grid}
    fixed.answers["grid/readings"] = grid

    def answer(query: dict[str, str]) -> dict[str, Any]:
        times = [f"2021-03-{day:02}T{hour:02}:00:00Z" for day in (1, 2, 3) for hour in range(24)]
        kept = [{**row, "time": t} for t in times if query["start"] <= t <= query["end"]]
        return {"results": [odd, *kept]}

    fixed.answers["meter/07:1/usage"] = fixed.answers["meter/07:1/readings"] = answer
    fixed.answers["aggregate/usage"] = {"sum_energy": 1}
    days = ["2021-03-02", "2021-03-03"]
    for line in (
        ["premise"],
        ["meter", "status"],
        ["bulk"],
        ["report", "health"],
        ["report", "monthly", "2021-03"],
        ["meter", "usage", *days],
        ["meter", "readings", *days, "--output-dir", "r"],
        ["grid", "readings", *days, "--output-dir", "g"],
    ):
        ended = copper(*line)
        assert ended.code == 0, (line, ended.err)
    latest = copper("grid", "latest")
    assert latest.code == 6
    assert "120.5" in latest.out
    assert "1 of 2 rows cannot be read" in latest.err
