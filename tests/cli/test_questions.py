"""The questions of docs/query.md, asked of a local fleet; numbers are those of its closed form."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from places import make_archive

from copper_cli.cli import root, run
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.sandbox.fleet import Fleet, Meter

from .conftest import NOW, Copper

PAGE = Path(__file__).parents[2] / "docs" / "query.md"
LATE = "07:3597166776"
"""Its hours are filled three days after they end."""
SPRING, AUTUMN = (date(2022, 3, 1), date(2022, 3, 28)), (date(2021, 11, 5), date(2021, 11, 9))
BASE = (date(2022, 3, 1), date(2022, 3, 8))
HOUR = timedelta(hours=1)

Ask = Callable[[str], list[dict[str, Any]]]


def questions() -> dict[str, str]:
    """The headings of the page that have SQL below, and that SQL."""
    part = PAGE.read_text("utf-8").partition("## Twelve questions")[2].partition("\n## ")[0]
    return dict(re.findall(r"### ([^\n]+)\n\n```sql\n(.*?)```", part, re.S))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Path]]:
    """A fleet of twelve meters, and the archive of what was downloaded of it."""
    folder = tmp_path_factory.mktemp("questions")
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(NOW):
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("COPPER_QUOTA", "100000/h")
        patch.setenv("COPPER_QUIET", "1")
        config = {"quota": None, "premises": 6, "late": (f"{LATE}=3d",), "max_age": None}
        for now in (NOW, NOW + timedelta(days=1)):
            with Sandbox(SandboxConfig(now=now, **config)) as cloud:  # type: ignore[arg-type]
                for name, value in cloud.environment().items():
                    patch.setenv(name, value)
                patch.setenv("COPPER_ARCHIVE", str(folder / "archive"))
                if now != NOW:
                    assert run(root, ["bulk"]) == 0
                    continue
                make_archive(folder / "archive", cloud.config.enterprise_id)
                for kind, span, more in (
                    ("usage", SPRING, ("hour", "spring")),
                    ("usage", AUTUMN, ("hour", "autumn")),
                    ("usage", BASE, ("day", "days")),
                    ("usage", BASE, ("day", "utc", "--timezone", "UTC")),
                    ("baseline-series", BASE, ("hour", "baseline")),
                ):
                    words = ["meter", kind, *map(str, span), "--granularity", more[0]]
                    assert run(root, [*words, "--output-dir", more[1], *more[2:]]) == 0
                words = ["grid", "readings", "2022-03-01", "2022-03-02", "--output-dir", "grid"]
                assert run(root, words) == 0
                assert run(root, ["bulk"]) == 0
                assert run(root, ["gateway"]) == 0
                kept = cloud.fleet
        yield kept, folder / "archive"


@pytest.fixture
def ask(fleet: tuple[Fleet, Path], copper: Copper) -> Ask:
    """Answers one of the questions, or any SQL."""

    def answer(question: str) -> list[dict[str, Any]]:
        sql = questions().get(question, question)
        with time_machine.travel(NOW):
            ended = copper("query", sql, "--archive", str(fleet[1]), "--format", "json")
        assert ended.code == 0, ended.err
        rows: list[dict[str, Any]] = ended.json["rows"]
        return rows

    return answer


def meters(fleet: tuple[Fleet, Path]) -> list[Meter]:
    return sorted(fleet[0].meters(), key=lambda meter: meter.id)


def hours(meter: Meter, *spans: tuple[date, date]) -> Iterator[tuple[datetime, datetime]]:
    """The hours of local days, the end excluded, that hold an amount: start in UTC and local."""
    zone = ZoneInfo(meter.zone)
    for first, end in spans:
        at, until = (
            datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
            for day in (first, end)
        )
        while at < until:
            if meter.id != LATE or at + HOUR <= NOW - timedelta(days=3):
                yield at, at.astimezone(zone)
            at += HOUR


def used(fleet: tuple[Fleet, Path], meter: Meter, at: datetime, length: timedelta = HOUR) -> float:
    registers = fleet[0].register_at
    return registers(meter.id, at + length) - registers(meter.id, at)


def near(amount: float, rows: int = 1) -> Any:
    """The cloud rounds each row to four places."""
    return pytest.approx(amount, abs=rows * 0.00005 + 1e-6)


def test_there_are_twelve() -> None:
    """And each is tested below."""
    tested = re.findall(r'ask\("(.+\?)"\)', Path(__file__).read_text("utf-8"))
    assert len(questions()) == 12
    assert set(tested) == set(questions())


def test_use_in_a_month(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """March on the clock of each premise: its hours, and what the registers moved."""
    rows = ask("What did each meter use in March?")
    for row, meter in zip(rows, meters(fleet), strict=True):
        found = list(hours(meter, SPRING))
        total = sum(used(fleet, meter, at) for at, _ in found)
        assert (row["meter_id"], row["hours"]) == (meter.id, len(found))
        assert row["energy"] == pytest.approx(total, abs=0.05 + len(found) * 0.00005)


def test_local_days(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """Of 23 hours where clocks go forward, of 25 where they go back."""
    rows = ask("How much on each local day, and how many hours had it?")
    lengths = {row["day"]: row["hours"] for row in rows}
    assert [lengths[day] for day in ("2022-03-12", "2022-03-13", "2021-11-06", "2021-11-07")] == [
        24, 23, 24, 25,
    ]  # fmt: skip
    by_day = {(row["meter_id"], row["day"]): row for row in rows}
    for meter in meters(fleet):
        zone = ZoneInfo(meter.zone)
        for day in (date(2022, 3, 13), date(2021, 11, 7), date(2022, 3, 5)):
            at, end = (
                datetime(one.year, one.month, one.day, tzinfo=zone).astimezone(UTC)
                for one in (day, day + timedelta(days=1))
            )
            row = by_day[meter.id, day.isoformat()]
            assert row["energy"] == near(used(fleet, meter, at, end - at), row["hours"])


def test_load_shape(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """The mean of each hour of the local day, by type, workdays and weekends apart."""
    rows = ask("How does the load run through the day, on workdays and at weekends?")
    found = defaultdict(list)
    for meter in meters(fleet):
        for at, local in hours(meter, SPRING, AUTUMN):
            found[meter.type, local.isoweekday() > 5, local.hour].append(used(fleet, meter, at))
    assert len(rows) == len(found)
    for row in rows:
        amounts = found[row["meter_type"], row["weekend"], row["hour"]]
        assert row["hours"] == len(amounts)
        assert row["energy"] == near(mean(amounts))


def test_peak_of_each_meter(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """No hour holds more than the one that is told."""
    rows = ask("When did each meter use most?")
    for row, meter in zip(rows, meters(fleet), strict=True):
        most = max(used(fleet, meter, at) for at, _ in hours(meter, SPRING, AUTUMN))
        start = datetime.fromisoformat(row["start_utc"])
        assert row["most"] == near(most)
        assert used(fleet, meter, start) == near(most, 2)
        assert datetime.fromisoformat(row["end_utc"]) == start + HOUR
        local = start.astimezone(ZoneInfo(meter.zone)).replace(tzinfo=None)
        assert datetime.fromisoformat(row["local_start"]) == local


def test_peak_of_the_fleet(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """The hour in which all meters of the type together used most."""
    (row,) = ask("When was the electric fleet's peak?")
    totals: dict[datetime, list[float]] = defaultdict(list)
    for meter in meters(fleet):
        if meter.type == "power":
            for at, _ in hours(meter, SPRING, AUTUMN):
                totals[at].append(used(fleet, meter, at))
    most = max(totals.values(), key=sum)
    assert row["kw"] == near(sum(most), len(most))
    start = datetime.fromisoformat(row["start_utc"])
    assert row["meters"] == len(totals[start])
    assert sum(totals[start]) == near(sum(most), 2 * len(most))


def test_missing_hours(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """Late beyond two days of age, to come up to then, and what nobody asked for in between."""
    rows = ask("Which hours are missing?")
    ours = [row for row in rows if row["meter_id"] == LATE]
    told = [(row["state"], row["start_utc"], row["end_utc"], row["hours"]) for row in ours]
    winter = (datetime(2022, 3, 1, 7) - datetime(2021, 11, 9, 7)) // HOUR
    assert told == [
        ("never asked", "2021-11-09T07:00:00+00:00", "2022-03-01T07:00:00+00:00", winter),
        ("late", "2022-03-25T18:00:00+00:00", "2022-03-26T18:00:00+00:00", 24),
        ("to come", "2022-03-26T18:00:00+00:00", "2022-03-28T06:00:00+00:00", 36),
    ]
    assert {row["state"] for row in rows if row["meter_id"] != LATE} == {"never asked"}
    assert [row["asked_utc"][:13] for row in ours if row["asked_utc"]] == ["2022-03-28T18"] * 2


def test_share_that_is_known(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """Of what was asked for; and until when there is something."""
    rows = ask("What share of its hours is known of each meter?")
    for row, meter in zip(rows, meters(fleet), strict=True):
        known = len(list(hours(meter, SPRING, AUTUMN)))
        asked = known + (60 if meter.id == LATE else 0)
        assert (row["known"], row["asked"]) == (known, asked)
        assert row["percent"] == pytest.approx(100 * known / asked, abs=0.005)
    (late,) = (row for row in rows if row["meter_id"] == LATE)
    assert late["until_utc"] == "2022-03-25T18:00:00+00:00"


def test_join_to_tags(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """Every third premise has two tags; one with none is in no row."""
    rows = ask("What did the homes with a tag use?")
    tagged = {one.id for one in fleet[0].premises() if one.index % 3 == 0}
    found = defaultdict(list)
    for meter in meters(fleet):
        if meter.premise_id in tagged:
            found[meter.type].append(
                [used(fleet, meter, at) for at, _ in hours(meter, SPRING, AUTUMN)]
            )
    expected = {(tag, kind): all_ for tag in ("pilot", "sandbox") for kind, all_ in found.items()}
    assert {(row["tag"], row["meter_type"]) for row in rows} == set(expected)
    for row in rows:
        series = expected[row["tag"], row["meter_type"]]
        assert row["meters"] == len(series)
        assert row["energy"] == near(sum(map(sum, series)), sum(map(len, series)))


def test_baseline(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """A fixed share of the use, by meter."""
    rows = ask("How does it compare with the baseline?")
    for row, meter in zip(rows, meters(fleet), strict=True):
        factor = fleet[0].series_factor(meter.id, "baseline")
        found = [used(fleet, meter, at) for at, _ in hours(meter, BASE)]
        assert (row["meter_id"], row["hours"]) == (meter.id, len(found))
        assert row["energy"] == near(sum(found), len(found))
        assert row["baseline"] == near(sum(found) * factor, 2 * len(found))
        assert row["percent"] == pytest.approx(100 * (1 / factor - 1), abs=0.3)


def test_base_load(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """The median of the hours from one to five at night."""
    rows = {row["meter_id"]: row for row in ask("What runs all night?")}
    electric = [meter for meter in meters(fleet) if meter.type.startswith("power")]
    assert sorted(rows) == [meter.id for meter in electric]
    for meter in electric:
        found = [
            used(fleet, meter, at)
            for at, local in hours(meter, SPRING, AUTUMN)
            if 1 <= local.hour <= 4
        ]
        assert rows[meter.id]["hours"] == len(found)
        assert rows[meter.id]["base"] == near(median(found))


def test_use_between_snapshots(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """What the register moved between the two instants that are told, not a day's use."""
    rows = ask("What was used between two sweeps of the registers?")
    assert len(rows) > 6
    for row in rows:
        start, end = (datetime.fromisoformat(row[name]) for name in ("start_utc", "end_utc"))
        registers = [fleet[0].register_at(row["meter_id"], at) for at in (start, end)]
        assert row["energy"] == pytest.approx(registers[1] - registers[0], abs=0.02)
        days = (end - start) / timedelta(days=1)
        assert row["a_day"] == pytest.approx(row["energy"] / days)


def test_voltage(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """How often, how low and how high, for each gateway that ever is."""
    rows = {row["gateway_id"]: row for row in ask("Where does the voltage leave 119 to 121 volts?")}
    all_ = ask("SELECT gateway_id, time_utc, voltage FROM grid")
    assert all_
    out: dict[str, list[float]] = defaultdict(list)
    for row in all_:
        at_s = int(datetime.fromisoformat(row["time_utc"]).timestamp())
        volts = fleet[0].grid_at(row["gateway_id"], at_s)[0]
        assert row["voltage"] == pytest.approx(volts, abs=0.06)
        if not 119 <= row["voltage"] <= 121:
            out[row["gateway_id"]].append(row["voltage"])
    assert out
    assert {one: (row["readings"], row["low"], row["high"]) for one, row in rows.items()} == {
        one: (len(found), min(found), max(found)) for one, found in out.items()
    }


def test_each_meter_in_its_own_grid(fleet: tuple[Fleet, Path], ask: Ask) -> None:
    """Days of its own zone, though those of UTC are held too; without them those of UTC."""
    rows = ask(
        "SELECT meter_id, grid, count(*) AS days FROM usage WHERE granularity = 'day' GROUP BY ALL ORDER BY 1"
    )
    assert rows == [
        {"meter_id": meter.id, "grid": meter.zone, "days": 7} for meter in meters(fleet)
    ]
    grids = ask("SELECT DISTINCT grid, own FROM coverage WHERE granularity = 'day' ORDER BY ALL")
    assert {"grid": "UTC", "own": False} in grids
