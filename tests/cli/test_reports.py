"""report monthly, health, partner; quota, cache, meter check-for-water-reversals, as typed."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine

from copper_cli.sandbox import Fault, Sandbox

from .conftest import NOW, Copper, FixedCloud

LEGEND = (
    "Note,Description\r\n"
    "1,Number of elements in existence during the report window\r\n"
    "2,Sum of individual meter usages during the report window\r\n"
    "3,Number of currently-connected meters contributing to the aggregate usage\r\n"
    "4,Aggregate usage of currently-connected meters during the report window\r\n"
)


def test_monthly_with_its_legend(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """The notes under the table and in readme.txt, word for word as the reference's."""
    ended = copper(
        "--output-dir", "m", "--csv-output-file", "m.csv", "report", "monthly", "2021-09"
    )
    assert ended.code == 0, ended.err
    assert ended.lines[1] == "Monthly report for 2021-09 (rows=10):"
    assert (work / "m/readme.txt").read_bytes().decode() == LEGEND
    assert ended.lines[-5:] == [
        "  (1) Number of elements in existence during the report window",
        "  (2) Sum of individual meter usages during the report window",
        "  (3) Number of currently-connected meters contributing to the aggregate usage",
        "  (4) Aggregate usage of currently-connected meters during the report window",
        "complete!",
    ]
    rows = list(csv.reader((work / "m/m.csv").read_text().splitlines()))
    assert rows[:3] == [
        ["Statistic", "Value", "Units", "Note"],
        ["total homes", "2", "", "1"],
        ["total meters", "4", "", "1"],
    ]
    assert copper("--quiet", "report", "monthly", "2021-09").out == "complete!\n"
    whole = copper("report", "monthly", "2021-09", "--format", "json")
    assert [row["statistic"] for row in whole.json["rows"]][:2] == ["total homes", "total meters"]


def test_monthly_that_lacks_a_part(cloud: Sandbox, copper: Copper) -> None:
    """Exit 6, the part is named, no `complete!`."""
    cloud.faults.add(Fault(path="meter_type=gas", times=5))
    line = ["report", "monthly", "2021-09"]
    ended = copper(*line)
    assert ended.code == 6
    assert "complete!" not in ended.out
    first, last = ended.err.splitlines()
    assert first.startswith("gas aggregate usage failed: ")
    assert last.startswith("copper: 1 part missing. Run the same command again")
    assert copper(*line).code == 0


def test_health_as_the_reference_writes_it(fixed: FixedCloud, copper: Copper) -> None:
    """Lines of the golden report: 114 Pearl St's gateway and 121 Colfax Ave's."""
    fixed.answers |= {
        "premise": [
            {
                "id": "9e71645b",
                "created_at": "2020-05-22T16:12:57.000Z",
                "street_address": "121 Colfax Ave",
                "timezone": "America/Denver",
            },
            {
                "id": "0f8a5f5e",
                "created_at": "2019-06-15T14:11:33.000Z",
                "street_address": "114 Pearl St",
                "timezone": "America/Denver",
            },
        ],
        "gateway": [
            {"id": "1167c01444d1", "state": "down", "premise_id": "9e71645b"},
            {"id": "17e14b2eeba1", "state": "active", "premise_id": "0f8a5f5e"},
        ],
        "gateway/history": [
            {
                "id": "17e14b2eeba1",
                "history": [
                    {"timestamp": "2022-03-27T18:00:00.000Z", "from": "down", "to": "active"},
                    {"timestamp": "2022-03-26T18:00:00.000Z", "from": "active", "to": "down"},
                ],
            }
        ],
    }
    with time_machine.travel(NOW.timestamp(), tick=True):
        ended = copper("report", "health", "--csv-output-file", "h.csv")
    assert ended.code == 0, ended.err
    assert Path("h.csv").read_bytes().decode() == (
        "Premise ID,Address,Type,ID,State,03/28,03/27,03/26,03/25,03/24,03/23,03/22\r\n"
        "0f8a5f5e,114 Pearl St,gateway,17e14b2eeba1,active,.,?,?,.,.,.,.\r\n"
        "9e71645b,121 Colfax Ave,gateway,1167c01444d1,down,X,X,X,X,X,X,X\r\n"
    )
    assert "Premise Health (rows=2):" in ended.lines


def lists(fixed: FixedCloud) -> None:
    users = [{"email": "a@example.com"}]
    fixed.answers |= {
        "premise": [
            {"id": "p1", "tags": ["has_mobile_app", "pilot"], "user_list": users},
            {"id": "p2", "tags": ["has_mobile_app_not"], "user_list": users},
        ],
        "gateway": [{"id": f"g{n}", "state": s} for n, s in enumerate(GATEWAYS)],
        "meter": [{"id": f"m{n}", "type": t, "state": s} for n, (t, s) in enumerate(METERS)],
    }


GATEWAYS = ["active", "inactive", "active", "down", "virgin", None]
METERS = [
    ("power", "connected"),
    ("power_net", "disconnected"),
    ("power_gen", "connected"),
    ("gas", "connected"),
    ("gas", "degraded"),
    ("gas", None),
    ("water", "disconnected"),
    ("water_indoor", "connected"),
    ("steam", "connected"),
]


def test_partner_counts(fixed: FixedCloud, copper: Copper, work: Path) -> None:
    """Counted by state, not by grep: `inactive` is not active, `disconnected` not connected."""
    lists(fixed)
    with time_machine.travel(NOW.timestamp(), tick=True):
        ended = copper("report", "partner", "acme_1", "--format", "csv")
    assert ended.code == 0, ended.err
    assert ended.lines == [
        "Statistic,Count",
        "prems created,2",
        "mobile users,1",
        "total gateways,6",
        "active gateways,2",
        "disconnected gateways,1",
        "total meters,9",
        "connected meters,5",
        "other meters,4",
        "total electric meters,3",
        "connected electric meters,2",
        "other electric meters,1",
        "total gas meters,3",
        "connected gas meters,1",
        "other gas meters,2",
        "total water meters,2",
        "connected water meters,1",
        "other water meters,1",
    ]
    assert ended.err.splitlines() == [
        "No profile acme_1; using the exported credentials.",
        "Bundle: generated/acme_1.reports.20220328.zip",
    ]
    with zipfile.ZipFile(work / "generated/acme_1.reports.20220328.zip") as bundle:
        assert bundle.namelist() == [
            "premises.acme_1.20220328.csv",
            "health_history.acme_1.20220328.csv",
        ]
        premises, health = (bundle.read(name).decode() for name in bundle.namelist())
    rows = list(csv.DictReader(io.StringIO(premises)))
    assert [row["Email"] for row in rows] == ["a@example.com"] * 2
    assert health.startswith("Premise ID,Address,Type,ID,State,03/28,")
    assert [p.name for p in (work / "generated").iterdir()] == ["acme_1.reports.20220328.zip"]


def test_partner_with_emails_missing(
    serve: Callable[..., Sandbox], copper: Copper, work: Path
) -> None:
    """Ten tries; the bundle is made, but the code says that some is missing."""
    cloud = serve(missing_emails=99)
    ended = copper("report", "partner", "acme", "--output-dir", "o")
    assert ended.code == 6
    assert "complete!" not in ended.out
    assert "1 emails are still missing; try again later." in ended.err.splitlines()[-1]
    assert sum("with_users" in r.query for r in cloud.log) == 10
    assert len(list((work / "o").glob("acme.reports.*.zip"))) == 1


def test_partner_by_profile(
    fixed: FixedCloud,
    copper: Copper,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HANDLE is used as --profile, before exported credentials; without either it is told."""
    lists(fixed)
    monkeypatch.delenv("COPPER_ARCHIVE")  # of another partner
    write_config(
        "[profile.acme]\nclient_id='i'\nenterprise_id='e'\nclient_secret_command='echo s'\n"
    )
    ended = copper("report", "partner", "acme")
    assert ended.code == 0
    assert "exported" not in ended.err
    for name in ("CLIENT_ID", "CLIENT_SECRET", "ENTERPRISE_ID"):
        monkeypatch.delenv(f"COPPER_{name}")
    assert copper("report", "partner", "acme").code == 0
    ended = copper("report", "partner", "other")
    assert (ended.code, "Known: acme." in ended.err) == (2, True)


def test_reversals_in_every_form(cloud: Sandbox, copper: Copper) -> None:
    """No water meter in this fleet: a title, a header, `complete!`."""
    ended = copper("meter", "check-for-water-reversals", "--method", "winter")
    assert ended.lines[1:3] == [
        "Suspect water meter reversals (rows=0):",
        "Address    Indoor Usage    Outdoor Usage",
    ]
    assert ended.lines[-1] == "complete!"


def test_quota_tells_who_used_it(cloud: Sandbox, copper: Copper, monkeypatch: Any) -> None:
    """Two calls of `premise`, one of `gateway`, without a call of its own."""
    monkeypatch.setenv("COPPER_QUOTA", "100/h,1000/d")
    for line in ("premise", "premise", "gateway"):
        copper(line, "--no-cache", "--quiet")
    ended = copper("quota")
    assert ended.code == 0
    hour = next(line for line in ended.lines if line.startswith("100/h"))
    assert hour.split()[:3] == ["100/h", "3", "97"]
    assert "premise 2, gateway 1" in hour
    facts = copper("quota", "--format", "json").json
    assert [row["limit"] for row in facts["rows"]] == ["100/h", "1000/d"]
    assert facts["rows"][1]["left"] == 997
    assert facts["rows"][0]["used_by"] == {"premise": 2, "gateway": 1}
    assert facts["held_until"] is None
    assert cloud.calls == 3


def test_quota_shows_a_hold_and_its_end(
    serve: Callable[..., Sandbox], copper: Copper, monkeypatch: Any
) -> None:
    """A Retry-After of thirty years holds for an hour: in the table beside the calls left, and
    in JSON."""
    monkeypatch.setenv("COPPER_QUOTA", "100/h,1000/d")
    cloud = serve(faults=(Fault(status=429, retry_after=1_000_000_000, times=None),))
    with time_machine.travel("2022-03-28T18:00:00Z", tick=False):
        ended = copper("premise", "--no-wait")
        assert ended.code == 5
        assert "resume at 2022-03-28T13:00:00-06:00" in ended.err
        ended = copper("quota")
        assert "Held Until" in ended.lines[2]
        hour = next(line for line in ended.lines if line.startswith("100/h"))
        assert hour.split()[:3] == ["100/h", "1", "99"]
        assert hour.endswith("2022-03-28 13:00:00-06:00")
        facts = copper("quota", "--format", "json").json
        assert facts["held_until"] == "2022-03-28T13:00:00-06:00"
        assert {row["held_until"] for row in facts["rows"]} == {"2022-03-28T13:00:00-06:00"}
        assert copper("premise", "--no-wait").code == 5
        assert cloud.calls == 1
    with time_machine.travel("2022-03-28T19:00:01Z", tick=False):
        assert copper("premise", "--no-wait").code == 5
        assert cloud.calls == 2


def test_two_clouds_on_two_ports_have_a_quota_each(
    serve: Callable[..., Sandbox], copper: Copper, monkeypatch: Any
) -> None:
    """With the same client id; and none is given the other's answers or its token."""
    monkeypatch.setenv("COPPER_QUOTA", "2/h")
    first = serve(premises=1)
    assert copper("premise", "--no-wait", "--quiet").code == 0
    assert copper("gateway", "--no-wait", "--quiet").code == 0
    assert copper("meter", "status", "--no-wait").code == 5
    second = serve(premises=3)
    ended = copper("premise", "--no-wait", "--format", "json")
    assert ended.code == 0
    assert len(ended.json["rows"]) == 3
    assert (first.calls, second.calls) == (2, 1)
    assert any(record.path == "/oauth/token" for record in second.log)


def test_a_plan_says_that_it_is_dear_for_what_was_learned(
    serve: Callable[..., Sandbox], copper: Copper
) -> None:
    """A cloud that grants a week a call: cache info names host, partner, limit and instant; the
    plan of another month says how many calls are due to it; cache clear forgets it."""
    cloud = serve(max_span={"hour": "7d"}, premises=6)
    line = ["meter", "usage", "2021-03-01", "2021-04-01", "--granularity", "hour"]
    first = copper(*line, "--dry-run", "--format", "json").json
    assert first["dear"] == 0
    meters = first["calls"]
    assert copper(*line, "--quiet").code == 0
    other = ["meter", "usage", "2021-05-01", "2021-05-29", "--granularity", "hour", "--dry-run"]
    other += ["--output-dir", "other"]
    plan = copper(*other, "--format", "json").json
    assert (plan["calls"], plan["dear"]) == (4 * meters, 3 * meters)
    (row,) = (line for line in copper(*other).lines if line.startswith("of them for short"))
    assert f" {3 * meters} " in row
    assert "hour: 168 a call" in row
    ended = copper("cache", "info")
    assert "Longest Spans (rows=1):" in ended.lines
    (span,) = copper("cache", "info", "--format", "json").json["spans"]
    assert span["host"] == cloud.url.removeprefix("http://")
    assert (span["partner"], span["name"], span["meter"]) == ("sandbox-enterprise", "hour", None)
    assert (span["granted"], span["refused"] > 168, span["seen"] > 1) == (168, True, True)
    copper("cache", "clear")
    assert copper("cache", "info", "--format", "json").json["spans"] == []
    assert copper(*other, "--format", "json").json["dear"] == 0


def test_one_meter_s_short_answers_make_no_other_dear(
    serve: Callable[..., Sandbox], copper: Copper
) -> None:
    """It gives 5 rows a call for ever: on the next day the others cost one call each, and the plan
    names the one that is dear."""
    odd = Fault(kind="fewer-rows", path="3597166776/usage", rows=5, times=None)
    cloud = serve(premises=12, faults=(odd,))
    for day in (1, 2, 3):
        calls = {"other": 0, "odd": 0}
        before = len(cloud.log)
        days = [f"2021-03-{day:02d}", f"2021-03-{day + 1:02d}"]
        line = ["meter", "usage", *days, "--granularity", "hour", "--output-dir", f"d{day}"]
        plan = copper(*line, "--dry-run", "--format", "json").json
        assert copper(*line, "--quiet").code == 0
        asked = [record.path for record in cloud.log[before:] if record.path.endswith("/usage")]
        for path in asked:
            calls["odd" if "3597166776" in path else "other"] += 1
        meters = len(set(asked))
        assert meters > 20
        assert calls["other"] <= meters - 1 + (day == 1)  # the second one finds out
        if day > 1:
            assert plan["calls"] - plan["dear"] == meters
            assert 4 <= plan["dear"] <= 6
    (span,) = copper("cache", "info", "--format", "json").json["spans"]
    assert span["meter"].endswith("3597166776")
    assert "3597166776" in "".join(copper("cache", "info").lines)


def test_cache_info_and_clear(cloud: Sandbox, copper: Copper) -> None:
    """One answer kept, then none; clearing twice says so."""
    assert copper("cache", "clear").err == "Nothing was kept.\n"
    copper("premise")
    (row,) = copper("cache", "info", "--format", "json").json["rows"]
    assert (row["answers"], row["fresh"]) == (1, 1)
    ended = copper("cache", "clear")
    assert (ended.out, ended.err) == ("complete!\n", "Cleared.\n")
    assert json.loads(copper("cache", "info", "--format", "ndjson").out)["answers"] == 0
    assert cloud.calls == 1
