"""premise, bulk, gateway, meter status, grid latest: what a person, a script and a file get."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import time_machine

from copper_cli.sandbox import Fault, Sandbox

from .conftest import NOW, Copper, FixedCloud

PREMISES = [
    {
        "id": "87c3ed9d",
        "created_at": "2020-02-09T16:21:55.000Z",
        "name": "Home 1",
        "street_address": "107 Main St",
        "suite_apartment_unit": None,
        "city_town": "Denver",
        "postal_code": "80202",
        "county_district": "Douglas",
        "state_region": "CO",
        "tags": ["pilot", "has_mobile_app", "pilot"],
        "timezone": "America/Denver",
        "user_list": [{"email": "user1@example.com"}],
    },
    {
        "id": "0f8a5f5e",
        "created_at": "2019-06-15T14:11:33.000Z",
        "name": "Home 2",
        "street_address": "114 Pearl St",
        "suite_apartment_unit": "Apt 0",
        "city_town": "Boulder",
        "postal_code": "2134",
        "county_district": "Douglas",
        "state_region": "CO",
        "tags": [],
        "timezone": "America/Denver",
        "user_list": [{"email": "user2@example.com"}, {}],
    },
]
METERS = [
    {
        "id": "07:57277300",
        "type": "power_net",
        "state": "connected",
        "premise_id": "0f8a5f5e",
        "uom": "kwh",
        "last_reading": {"value": 13170.38, "hw_timestamp": "2022-03-28T17:49:00.000Z"},
    },
    {
        "id": "12:62495036",
        "type": "gas",
        "state": "connected",
        "premise_id": "gone",
        "uom": "ccf",
        "last_reading": {"value": 2146.96, "hw_timestamp": "2022-03-28T17:22:00.000Z"},
    },
    {"id": "IQ:1", "type": "water", "state": "down", "premise_id": None, "last_reading": None},
]
BULK = [
    {
        "meter_id": "07:57277300",
        "meter_type": "power_net",
        "value": 13170.38,
        "timestamp": "2022-03-28T17:49:00.000Z",
    },
    {
        "meter_id": "12:62495036",
        "meter_type": "gas",
        "value": 2146.96,
        "timestamp": "2022-03-28T17:22:00.000Z",
    },
]


@pytest.fixture
def small(fixed: FixedCloud) -> FixedCloud:
    fixed.answers |= {
        "premise": PREMISES,
        "meter": METERS,
        "bulk": {"results": BULK, "next": None},
        "gateway": [
            {
                "id": "17e14b2eeba1",
                "premise_id": "0f8a5f5e",
                "state": "active",
                "model": "I2P1R5",
                "last_heard": "2022-03-28T17:53:00.000Z",
                "firmware_version": "1.2.0",
                "ports": [1, 2],
            },
            {"id": "6760f4cc", "state": "virgin", "premise_id": None, "last_heard": None},
        ],
        "grid/latest": {
            "results": [
                {
                    "premise_id": "0f8a5f5e",
                    "gateway_id": "17e14b2eeba1",
                    "hw_timestamp": "2022-03-28T17:56:00.000Z",
                    "voltage": 120.01,
                    "frequency": 60.031,
                },
                {
                    "premise_id": "gone",
                    "gateway_id": "ffff",
                    "hw_timestamp": "2022-03-28T17:56:00.500Z",
                    "voltage": None,
                    "frequency": 60.0,
                },
            ],
            "next": None,
        },
    }
    return fixed


def read(path: str) -> str:
    return Path(path).read_bytes().decode()


@time_machine.travel(NOW.timestamp(), tick=True)
def test_premise_as_the_reference_writes_it(small: FixedCloud, copper: Copper) -> None:
    """Oldest first; tags sorted without repeats; no email column filled; code as it came."""
    ended = copper("--csv-output-file", "generated/p.csv", "premise")
    assert (ended.code, ended.err) == (0, "")
    assert read("generated/p.csv") == (
        "ID,Created,Address,Suite/Apt,City,Postal Code,County,State,Tags,Email\r\n"
        "0f8a5f5e,2019-06-15T14:11:33.000Z,114 Pearl St,Apt 0,Boulder,2134,Douglas,CO,[],\r\n"
        "87c3ed9d,2020-02-09T16:21:55.000Z,107 Main St,,Denver,80202,Douglas,CO,"
        "\"['has_mobile_app', 'pilot']\",\r\n"
    )
    assert ended.lines[0] == "Building information for 2 premises on 2022-03-28..."
    assert ended.lines[0].split()[3] == "2"
    assert ended.lines[1:3] == ["", "Premise download (rows=2):"]
    assert ended.lines[3].split("  ")[0] == "ID"
    assert set(ended.lines[4]) == {"-", " "}
    assert ended.lines[5].startswith("0f8a5f5e  2019-06-15T14:11:33.000Z  114 Pearl St")
    assert ended.lines[-1] == "complete!"
    assert [query for name, query in small.asked] == [{}]


def test_premise_with_users_joins_emails(small: FixedCloud, copper: Copper) -> None:
    """Emails joined with `;`, one that is absent as `missing`."""
    ended = copper("premise", "--with-users", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["Email"] for row in rows] == ["user2@example.com;missing", "user1@example.com"]
    assert small.asked == [("premise", {"with_users": "True"})]


def test_premise_incomplete(small: FixedCloud, copper: Copper) -> None:
    """Without any meter, no `Cube:` name, no user of the vendor's test account."""
    base = {**PREMISES[0], "user_list": []}
    small.answers["premise"] = [
        {**base, "id": "metered", "created_at": "2020-01-01T00:00:00.000Z"},
        {**base, "id": "cube", "name": "Cube: 12"},
        {**base, "id": "inner-cube", "name": "My Cube: 12"},
        {**base, "id": "test", "user_list": [{"email": "x"}, {"email": "ma.baseline@gmail.com"}]},
        {**base, "id": "nameless", "name": None, "user_list": [{}]},
    ]
    small.answers["meter"] = [{"id": "07:1", "type": "power", "premise_id": "metered"}]
    ended = copper("premise", "--incomplete", "--format", "ndjson")
    rows = [json.loads(line) for line in ended.lines]
    assert [(row["id"], row["email"]) for row in rows] == [
        ("inner-cube", ""),
        ("nameless", "missing"),
    ]


def test_all_pages_are_read(small: FixedCloud, copper: Copper) -> None:
    """The reference read the first page only."""
    rows = [{**PREMISES[0], "id": f"p{n}"} for n in range(5)]
    small.answers["premise"] = lambda query: rows[int(query.get("offset", 0)) :][:2]
    ended = copper("premise", "--query-limit", "2", "--format", "json")
    assert [row["id"] for row in ended.json["rows"]] == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize("command", [("bulk",), ("meter", "status")])
def test_newest_readings_as_the_reference_writes_them(
    small: FixedCloud, copper: Copper, command: tuple[str, ...]
) -> None:
    """Three decimals, the machine's zone with its offset; what is not heard only in status."""
    ended = copper(*command, "--csv-output-file", "b.csv")
    silent = "IQ:1,water,,\r\n" if command[0] == "meter" else ""
    assert ended.code == 0
    assert read("b.csv") == (
        "ID,Type,Latest Timestamp,Latest Value\r\n"
        "07:57277300,power_net,2022-03-28 11:49:00-06:00,13170.380\r\n"
        "12:62495036,gas,2022-03-28 11:22:00-06:00,2146.960\r\n" + silent
    )
    count, title = ("3", "Meter download") if silent else ("2", "Bulk meter download")
    assert ended.lines[0].split()[:5] == ["Building", "information", "for", count, "meters"]
    assert f"{title} (rows={count}):" in ended.lines


@pytest.mark.parametrize("command", [("bulk",), ("meter", "status")])
def test_detailed_pads_postal_codes_and_leaves_unknown_places_blank(
    small: FixedCloud, copper: Copper, command: tuple[str, ...]
) -> None:
    """A meter whose premise is missing crashed the reference: its cells are blank."""
    copper(*command, "--detailed", "--csv-output-file", "b.csv")
    silent = "IQ:1,water,,,,,\r\n" if command[0] == "meter" else ""
    assert read("b.csv") == (
        "ID,Type,Address,City,Postal Code,Latest Timestamp,Latest Value\r\n"
        "07:57277300,power_net,114 Pearl St,Boulder,02134,2022-03-28 11:49:00-06:00,13170.380\r\n"
        "12:62495036,gas,,,,2022-03-28 11:22:00-06:00,2146.960\r\n" + silent
    )


def test_a_row_that_joins(small: FixedCloud, copper: Copper) -> None:
    """Programs get the premise's id always, a CSV only with --with-ids: columns stay as they were."""
    for command in (("meter", "status", "--detailed"), ("bulk", "--detailed")):
        rows = copper(*command, "--format", "json").json["rows"]
        assert [row["premise_id"] for row in rows] == ["0f8a5f5e", "gone", None][: len(rows)]
        lines = copper(*command, "--format", "ndjson").lines
        assert [json.loads(line) for line in lines] == rows
        plain = copper(*command, "--csv-output-file", "d.csv")
        assert read("d.csv").startswith("ID,Type,Address,City,")
        assert "0f8a5f5e" not in plain.out
        with_ids = copper(*command, "--with-ids", "--csv-output-file", "i.csv")
        assert [line.split(",")[:3] for line in read("i.csv").splitlines()[:3]] == [
            ["ID", "Type", "Premise ID"],
            ["07:57277300", "power_net", "0f8a5f5e"],
            ["12:62495036", "gas", "gone"],
        ]
        assert "0f8a5f5e" in with_ids.out


def test_premise_ids_without_the_places(small: FixedCloud, copper: Copper) -> None:
    """`meter status` knows them from the list it has; `bulk --with-ids` asks for that list."""
    ended = copper("meter", "status", "--with-ids", "--format", "csv")
    assert ended.lines[0] == "ID,Type,Premise ID,Latest Timestamp,Latest Value"
    assert sorted(name for name, _ in small.asked) == ["bulk", "meter"]
    rows = copper("meter", "status", "--format", "json").json["rows"]
    assert [row["premise_id"] for row in rows] == ["0f8a5f5e", "gone", None]
    small.asked.clear()
    ended = copper("bulk", "--with-ids", "--format", "csv")
    assert ended.lines[1].startswith("07:57277300,power_net,0f8a5f5e,2022-03-28 11:49:00-06:00,")
    assert sorted(name for name, _ in small.asked) == ["bulk", "meter"]


def test_premises_with_the_ids_of_their_meters(small: FixedCloud, copper: Copper) -> None:
    """One call more; as a list in JSON, joined with `;` in the CSV. Without it nothing is new."""
    small.answers["meter"] = [*METERS, {"id": "07:2", "type": "power", "premise_id": "0f8a5f5e"}]
    ended = copper("premise", "--with-ids", "--csv-output-file", "p.csv", "--format", "json")
    assert [row["meter_ids"] for row in ended.json["rows"]] == [["07:57277300", "07:2"], []]
    header, first, second = read("p.csv").splitlines()
    assert header.endswith(",Tags,Email,Meter IDs")
    assert first.endswith(",CO,[],,07:57277300;07:2")
    assert second.endswith(",")
    assert small.asked == [("premise", {}), ("meter", {"with_history": "false"})]
    assert "meter_ids" not in copper("premise", "--format", "json").json["rows"][0]
    small.asked.clear()
    ended = copper("premise", "--incomplete", "--with-ids", "--format", "json")
    assert [row["meter_ids"] for row in ended.json["rows"]] == [[]]
    assert len(small.asked) == 2


def test_status_asks_without_history(small: FixedCloud, copper: Copper) -> None:
    """The history is large and not shown."""
    copper("meter", "status")
    assert ("meter", {"with_history": "false"}) in small.asked


def test_unverified_values_are_marked_on_the_console_only(
    small: FixedCloud, copper: Copper
) -> None:
    """`?` in the table, a line on stderr, a field in JSON, no mark in the CSV."""
    small.answers["bulk"] = {"results": [], "next": None}
    ended = copper("meter", "status", "--csv-output-file", "s.csv")
    (line,) = [line for line in ended.lines if line.startswith("07:57277300")]
    assert line.endswith("13170.380 ?")
    assert ended.err == "2 values marked ? may not be in the standard unit.\n"
    assert "07:57277300,power_net,2022-03-28 11:49:00-06:00,13170.380\r\n" in read("s.csv")
    rows = copper("meter", "status", "--format", "json").json["rows"]
    assert [row["verified"] for row in rows] == [False, False, True]
    assert [row["unit"] for row in rows] == ["kwh", "ccf", "gal"]


def test_raw_registers_are_shown_in_the_standard_unit(small: FixedCloud, copper: Copper) -> None:
    """The decimal point that moved: 491.850 in bulk, 60201.000 in the meter list."""
    meter = {**METERS[0], "last_reading": {**METERS[0]["last_reading"], "value": 60201.0}}
    small.answers["meter"] = [meter]
    small.answers["bulk"] = {"results": [{**BULK[0], "value": 491.85}], "next": None}
    ended = copper("meter", "status", "--format", "csv")
    assert ended.lines[1].endswith(",602.010")


def test_gateways_as_the_reference_writes_them(small: FixedCloud, copper: Copper) -> None:
    """Last Heard as the cloud wrote it; a virgin gateway has blanks."""
    ended = copper("gateway", "--csv-output-file", "g.csv")
    assert read("g.csv") == (
        "ID,Premise ID,State,Model,Last Heard,Firmware Version\r\n"
        "17e14b2eeba1,0f8a5f5e,active,I2P1R5,2022-03-28T17:53:00.000Z,1.2.0\r\n"
        "6760f4cc,,virgin,,,\r\n"
    )
    assert ended.lines[0].split()[3:5] == ["2", "gateways"]
    assert "Gateway download (rows=2):" in ended.lines


def test_one_gateway_whole(small: FixedCloud, copper: Copper) -> None:
    """Every field the cloud has, nested ones as JSON, nulls named."""
    ended = copper("gateway", "17e14b2eeba1", "--format", "csv")
    assert 'ports,"[1, 2]"' in ended.lines
    assert "last_heard,null" in copper("gateway", "6760f4cc", "--format", "csv").lines
    assert copper("gateway", "17e14b2eeba1").lines[-1] == "complete!"


def test_an_unknown_gateway_is_told_with_the_closest(small: FixedCloud, copper: Copper) -> None:
    """After the list, exit 2."""
    ended = copper("gateway", "17e14b2eeba")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "copper: no gateway 17e14b2eeba in this enterprise. Closest: 17e14b2eeba1 (I2P1R5).\n"
    ).replace("copper:", "copper:")


def test_grid_latest_as_the_reference_writes_it(small: FixedCloud, copper: Copper) -> None:
    """Local to the premise without offset, padded code; an unknown premise is blank, in UTC."""
    ended = copper("grid", "latest", "--csv-output-file", "g.csv")
    assert read("g.csv") == (
        "Premise ID,Address,City,Postal Code,Gateway ID,Timestamp,Voltage,Frequency\r\n"
        "0f8a5f5e,114 Pearl St,Boulder,02134,17e14b2eeba1,2022-03-28 11:56:00,120.01,60.031\r\n"
        "gone,,,,ffff,2022-03-28 17:56:00,,60.0\r\n"
    )
    assert "Grid latest download (rows=2):" in ended.lines


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("premise", "0 premises"),
        ("bulk", "0 meters"),
        ("bulk --detailed", "0 meters"),
        ("gateway", "0 gateways"),
        ("meter status --detailed", "0 meters"),
        ("grid latest", None),
        ("report health", None),
        ("report monthly 2021-09 --include-per-meter-sum", None),
        ("meter check-for-water-reversals", None),
        ("meter usage 2021-01-01 2021-01-02", None),
        ("meter readings 2021-01-01 2021-01-02", None),
        ("grid readings 2021-01-01 2021-01-02", None),
        ("meter usage 2021-01-01 2021-01-02 --dry-run", "-"),
        ("grid readings 2021-01-01 2021-01-02 --dry-run", "-"),
        ("meter readings 2021-01-01 2021-01-02 --dry-run", "-"),
    ],
)
def test_an_empty_fleet_is_no_error(
    fixed: FixedCloud, copper: Copper, command: str, count: str | None
) -> None:
    """The reference crashed on zero meters; a header without rows is an answer."""
    ended = copper(*command.split())
    assert ended.code == 0, ended.err
    if count != "-":
        assert ended.lines[-1] == "complete!"
    if count and count != "-":
        assert ended.lines[0].startswith(f"Building information for {count} on ")


def test_quiet_drops_the_table_only(small: FixedCloud, copper: Copper) -> None:
    """The line that scripts count by, `complete!` and the file stay."""
    ended = copper("--quiet", "bulk", "--csv-output-file", "b.csv")
    assert [line.split()[0] for line in ended.lines] == ["Building", "complete!"]
    assert len(read("b.csv").splitlines()) == 3
    for name in ("csv", "json", "ndjson"):
        assert copper("--quiet", "bulk", "--format", name).out == ""


def test_every_format_says_the_same_and_stdout_holds_nothing_else(
    small: FixedCloud, copper: Copper
) -> None:
    """CSV, JSON and NDJSON parse whole; the CSV is that of the file, byte for byte."""
    as_csv = copper("bulk", "--csv-output-file", "b.csv", "--format", "csv")
    assert as_csv.out.replace("\r\n", "\n") == read("b.csv").replace("\r\n", "\n")
    as_json = copper("bulk", "--format", "json").json
    lines = [json.loads(line) for line in copper("bulk", "--format", "ndjson").lines]
    assert as_json["title"] == "Bulk meter download"
    assert as_json["rows"] == lines
    assert as_json["listed"] == 2
    assert lines[0] == {
        "id": "07:57277300",
        "type": "power_net",
        "latest_timestamp": "2022-03-28T11:49:00-06:00",
        "latest_value": 13170.38,
        "unit": "kwh",
        "verified": True,
    }


def test_csv_file_lies_within_the_output_folder(
    small: FixedCloud, copper: Copper, work: Path
) -> None:
    """Joined when both are given; missing folders are made; an absolute path stays."""
    copper("--output-dir", "a/b", "--csv-output-file", "c/x.csv", "bulk")
    assert (work / "a/b/c/x.csv").is_file()
    copper("--output-dir", "a", "--csv-output-file", str(work / "y.csv"), "bulk")
    assert (work / "y.csv").is_file()


def test_hydrate_asks_until_no_email_is_missing(
    serve: Callable[..., Sandbox], copper: Copper
) -> None:
    """Two answers with missing emails, the third whole: three calls, two lines on stderr."""
    cloud = serve(missing_emails=2)
    ended = copper("premise", "--hydrate", "--quiet")
    assert ended.code == 0
    assert ended.lines[-1] == "complete!"
    assert ended.err.splitlines() == [
        "1 emails are still missing; asking again (9 left).",
        "1 emails are still missing; asking again (8 left).",
    ]
    assert cloud.calls == 3


def test_hydrate_ends_after_ten_tries(serve: Callable[..., Sandbox], copper: Copper) -> None:
    """Each try costs quota: ten calls, then exit 6 without `complete!`, the list still shown."""
    cloud = serve(missing_emails=99)
    ended = copper("premise", "--hydrate")
    assert (ended.code, cloud.calls) == (6, 10)
    assert "Premise download (rows=2):" in ended.lines
    assert "complete!" not in ended.out
    assert ended.err.splitlines()[-1].endswith("1 emails are still missing; try again later.")


HOSTILE = "\x1b[2J=cmd|'/c calc'!A1\r\n../../etc\u202e\x07"


def test_hostile_texts_steer_neither_terminal_nor_spreadsheet(
    small: FixedCloud, copper: Copper
) -> None:
    """What the cloud says is shown escaped, and defused in CSV; JSON stays the text itself."""
    small.answers["premise"] = [
        {**PREMISES[0], "street_address": HOSTILE, "city_town": "=1+1", "tags": [HOSTILE]}
    ]
    ended = copper("premise", "--csv-output-file", "p.csv")
    assert ended.code == 0
    for text in (ended.out, ended.err, read("p.csv").replace("\r\n", "")):
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)
    assert ",'=1+1," in read("p.csv")
    assert len(read("p.csv").splitlines()) == 2
    raw = copper("premise", "--format", "csv", "--raw-cells")
    assert ",=1+1," in raw.out
    (row,) = copper("premise", "--format", "json").json["rows"]
    assert row["address"] == HOSTILE
    assert not {"\x1b", "\u202e"} & set(copper("premise", "--format", "json").out)


def test_hostile_ids_stay_in_the_folder(small: FixedCloud, copper: Copper, work: Path) -> None:
    """An id like a path names a file within the folder, and a segment of the address."""
    meter_id = "../../07:1\n\x1b[31m"
    small.answers["premise"] = PREMISES
    small.answers["meter"] = [{**METERS[0], "id": meter_id}]
    reading = {"time": "2022-01-01T12:00:00Z", "actual": 1, "value": 0.01}
    small.answers[f"meter/{meter_id}/readings"] = {"results": [reading]}
    ended = copper("meter", "readings", "2022-01-01", "2022-01-01", "--output-dir", "out")
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    files = [p for p in work.parent.rglob("*") if p.suffix == ".csv"]
    assert [p.parent for p in files] == [work / "out"]


def test_a_list_that_fails_midway_gives_nothing(
    serve: Callable[..., Sandbox], copper: Copper, work: Path
) -> None:
    """Half a list is no list: exit 4, one line, no file, no `complete!`."""
    cloud = serve(premises=12)
    cloud.faults.add(Fault(path="offset=5", times=None))
    ended = copper("premise", "--query-limit", "5", "--csv-output-file", "p.csv")
    assert (ended.code, ended.out) == (4, "")
    assert len(ended.err.splitlines()) == 1
    assert "rows from 5 on" in ended.err
    assert not (work / "p.csv").exists()
