"""What becomes of readings and grid readings: asked again, unreadable, late, of another day."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import pytest
from cloud.mini_cloud import Asked, Said
from held import new_archive

from copper_cli.cloud.events import RowsLeftOut
from copper_cli.jobs.grid import GridRequest, download_grid_readings, estimate_grid_readings
from copper_cli.jobs.readings import ReadingsRequest, download_readings, estimate_readings
from copper_cli.table import Table

from .town import ROOT, H, Question, Town, text

MARCH = date(2021, 3, 2)
"""Two months before the town's now."""
YESTERDAY = date(2021, 5, 2)
"""It ended nine hours ago."""
D = timedelta(days=1)

Row = tuple[float, Any, Any]
"""Seconds since 1970, and two amounts."""
Rows = Callable[[Question], Sequence[Any]]
"""Rows, or whatever else stands in an answer in their place."""


def hourly(asked: Question) -> list[Row]:
    """A reading an hour from the start to before the end, a register that rises."""
    return [(t, 1000 + n, 10 + n / 100) for n, t in enumerate(asked.ends()[:-1])]


@dataclass
class Kind:
    """Readings of a meter or of a gateway: the same laws hold."""

    town: Town
    name: str
    latest: bool = False
    rows: Rows = hourly

    @property
    def file(self) -> str:
        return "07_1.csv" if self.name == "readings" else "g.csv"

    @property
    def subject(self) -> str:
        return "07:1" if self.name == "readings" else "g"

    def settle(self) -> None:
        """The cloud answers `rows`."""
        town = self.town
        town.answers["07:1"] = lambda asked: {"results": [_reading(r) for r in self.rows(asked)]}
        town.cloud.say(f"{ROOT}/gateway", default=[{"id": "g", "premise_id": "p0"}])
        town.cloud.say(f"{ROOT}/grid/readings", default=self._grid)

    def _grid(self, asked: Asked) -> Said:
        start_s, end_s = (
            int(datetime.fromisoformat(asked.query[name]).timestamp()) for name in ("start", "end")
        )
        question = Question(start_s, end_s, "", self.town.clock.now())
        body = [_grid_reading(row) for row in self.rows(question)]
        return Said(body=body, headers={"Cache-Control": "max-age=31536000"})

    def download(self, day: date = MARCH, *, days: int = 1, **how: Any) -> Table:
        context, last = self.town.connect(), day + (days - 1) * D
        self.context = context
        output = self.town.output(**how)
        if self.name == "grid":
            return download_grid_readings(context, GridRequest(day, last), output)
        request = ReadingsRequest(day, last, latest=self.latest)
        return download_readings(context, request, output)

    def plan(self, day: date, **how: Any) -> Any:
        """The calls that a dry run tells."""
        context, output = self.town.connect(), self.town.output(**how)
        if self.name == "grid":
            return estimate_grid_readings(context, GridRequest(day, day), output).facts["to_ask"]
        return estimate_readings(context, ReadingsRequest(day, day), output).facts["to_ask"]

    def calls(self) -> int:
        return self.town.asked("readings")

    def entry(self) -> dict[str, Any]:
        return self.town.entry(self.file)

    def cells(self) -> list[tuple[str, str, str]]:
        """Local time and both numbers of each row of the file, as they are written."""
        with (self.town.folder / "out" / self.file).open(newline="") as stream:
            return [tuple(line[-3:]) for line in list(csv.reader(stream))[1:]]  # type: ignore[misc]

    def has_file(self) -> bool:
        return (self.town.folder / "out" / self.file).exists()

    def later(self, delta: timedelta = timedelta(hours=1)) -> None:
        self.town.clock.set(self.town.clock.instant() + delta)


def _reading(row: Any) -> Any:
    if not isinstance(row, tuple):
        return row
    time, actual, value = row
    return {"time": _time(time), "actual": actual, "value": value}


def _grid_reading(row: Any) -> Any:
    if not isinstance(row, tuple):
        return row
    time, voltage, frequency = row
    found = {"hw_timestamp": _time(time), "voltage": voltage, "frequency": frequency}
    return found | {"gateway_id": "g"}


def _time(time: Any) -> Any:
    if not isinstance(time, int | float):
        return time
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")


@pytest.fixture(params=["readings", "grid"])
def kind(request: pytest.FixtureRequest, town: Town) -> Kind:
    found = Kind(town, request.param)
    found.settle()
    return found


def at_hours(hours: Sequence[float], first: Any = 5, second: Any = 0.5) -> Rows:
    """Readings so many hours after the start."""
    return lambda asked: [(asked.start_s + h * H, first, second) for h in hours]


def put(place: int, *rows: Any) -> Rows:
    """The hourly readings with others in the place of some."""
    return lambda asked: [*hourly(asked)[:place], *rows, *hourly(asked)[place + len(rows) :]]


class TestAskedAgain:
    """Yesterday is asked for again by the next run."""

    LOST: ClassVar[dict[str, Rows]] = {
        "nulls": lambda asked: [(t, None, None) for t, _, _ in hourly(asked)],
        "no row": lambda asked: [],
        "some nulls": lambda asked: [
            (t, *((None, None) if n % 3 else (a, v))) for n, (t, a, v) in enumerate(hourly(asked))
        ],
        "one of two null": lambda asked: [(t, None, v) for t, _, v in hourly(asked)],
        "texts": lambda asked: [(t, a, "1,5") for t, a, v in hourly(asked)],
        "fewer": lambda asked: hourly(asked)[5:9],
        "texts only": lambda asked: [(t, "1,5", "1,5") for t, _, _ in hourly(asked)],
    }

    @pytest.mark.parametrize("lost", LOST)
    def test_nothing_replaces_a_number(self, kind: Kind, lost: str) -> None:
        """Every cell of the file stays, whatever the cloud has lost."""
        kind.download(YESTERDAY)
        before = kind.cells()
        assert len(before) == 24
        kind.rows = self.LOST[lost]
        kind.later()
        facts = kind.download(YESTERDAY).facts
        assert kind.cells() == before
        assert facts["changed"] == 0
        assert kind.calls() == 2
        assert bool(facts["failed"]) == (lost == "texts only")

    def test_other_times_come_in(self, kind: Kind) -> None:
        """Those of the half hours, and those of the hours stay: in their order."""
        kind.download(YESTERDAY)
        before = kind.cells()
        kind.rows = lambda asked: [(t + H // 2, a, v) for t, a, v in hourly(asked)]
        kind.later()
        assert kind.download(YESTERDAY).facts["changed"] == 0
        after = kind.cells()
        assert after[::2] == before
        assert after[1::2] == [(t.replace(":00:00", ":30:00"), a, v) for t, a, v in before]
        assert kind.entry()["rows"] == 48

    def test_what_changed_is_taken_over_and_told(self, kind: Kind) -> None:
        """Two rows, one of them in both numbers; a null filled is no change."""
        kind.rows = lambda asked: [(t, None if n == 9 else a, v) for n, (t, a, v) in _n(asked)]
        kind.download(YESTERDAY)
        before = kind.cells()
        kind.rows = lambda asked: [
            (t, 7 if n in (2, 4) else a, 0.25 if n == 4 else v) for n, (t, a, v) in _n(asked)
        ]
        kind.later()
        assert kind.download(YESTERDAY).facts["changed"] == 2
        expected = [list(cells) for cells in before]
        expected[2][1] = expected[4][1] = "7"
        expected[4][2], expected[9][1] = "0.25", "1009"
        assert kind.cells() == [tuple(cells) for cells in expected]

    def test_a_part_of_a_second_is_an_instant_of_its_own(self, kind: Kind) -> None:
        """Asked for again it is the same row."""
        kind.rows = lambda asked: [(asked.start_s + 0.25, 5, 0.5), (asked.start_s + 1, 6, 0.6)]
        kind.download(YESTERDAY)
        kind.later()
        kind.rows = lambda asked: [(asked.start_s + 0.25, 5, None), (asked.start_s + 2, 7, 0.7)]
        kind.download(YESTERDAY)
        assert kind.cells() == [
            ("2021-05-02 00:00:00.250000", "5", "0.5"),
            ("2021-05-02 00:00:01", "6", "0.6"),
            ("2021-05-02 00:00:02", "7", "0.7"),
        ]

    def test_days_of_another_zone_are_other_instants(self, kind: Kind) -> None:
        """The meter's zone is another one now: what is held stands at its local times there."""
        kind.download(YESTERDAY)
        premise = {"id": "p0", "created_at": "2020-01-01T00:00:00Z", "timezone": "America/Chicago"}
        kind.town.cloud.say(f"{ROOT}/premise", default=[premise])
        kind.rows = lambda asked: hourly(asked)[:3]
        kind.town.clock.set(datetime(2021, 5, 3, 16, tzinfo=UTC))
        context = kind.town.connect(use_cache=False)
        output = kind.town.output()
        if kind.name == "grid":
            download_grid_readings(context, GridRequest(YESTERDAY, YESTERDAY), output)
        else:
            download_readings(context, ReadingsRequest(YESTERDAY, YESTERDAY), output)
        hours = [f"2021-05-02 {hour:02d}:00:00" for hour in range(24)]
        assert [time for time, _, _ in kind.cells()] == hours

    @pytest.mark.parametrize(
        ("newest", "expected"),
        [
            ([(24, None, None)], ("23:00:00", "1023", "10.23")),
            ([], ("23:00:00", "1023", "10.23")),
            ([(23, None, None)], ("23:00:00", "1023", "10.23")),
            ([(23, 5, 0.5)], ("23:00:00", "5", "0.5")),
            ([(23.5, None, None)], ("23:00:00", "1023", "10.23")),
            ([(23.5, 6, 0.6)], ("23:30:00", "6", "0.6")),
        ],
    )
    def test_the_latest_never_grows_older(
        self, town: Town, newest: list[Any], expected: tuple[str, str, str]
    ) -> None:
        """Nor does a null take its place."""
        kind = Kind(town, "readings", latest=True)
        kind.settle()
        kind.download(YESTERDAY)
        kind.later()
        kind.rows = lambda asked: [
            *hourly(asked)[:20],
            *((asked.start_s + h * H, a, v) for h, a, v in newest),
        ]
        kind.download(YESTERDAY)
        time, actual, value = expected
        assert kind.cells() == [(f"2021-05-02 {time}", actual, value)]

    def test_after_a_failed_try_the_next_one_counts(self, kind: Kind) -> None:
        """The state is the last answer's, also where the cloud now has fewer rows; no run ends
        well while an entry says `failed`."""
        kind.download(YESTERDAY)
        good = kind.rows
        kind.later()
        kind.rows = lambda asked: ["junk"]
        assert kind.download(YESTERDAY).facts["failed"]
        assert kind.entry()["state"] == "failed"
        kind.rows = lambda asked: good(asked)[:2]
        kind.later()
        asked_utc = kind.town.clock.instant()
        assert kind.download(YESTERDAY).facts["complete"]
        entry = kind.entry()
        assert (entry["state"], entry["rows"]) == ("to come", 24)
        assert datetime.fromisoformat(entry["asked_utc"]) == asked_utc.replace(microsecond=0)


def _n(asked: Question) -> Iterator[tuple[int, Row]]:
    return enumerate(hourly(asked))


class TestDoubledHour:
    """In Denver 01:00 to 02:00 came twice on the 7th of November 2021."""

    DAY = date(2021, 11, 7)

    @pytest.fixture(autouse=True)
    def in_autumn(self, town: Town) -> None:
        town.clock.set(datetime(2021, 11, 8, 15, tzinfo=UTC))

    EVERY: ClassVar = [(0, 9), (1, 10), (1.5, 11), (2, 12), (2.5, 13), (4, 14)]
    AGAIN: ClassVar[dict[str, list[tuple[float, Any]]]] = {
        "all": EVERY,
        "nulls": [(h, None) for h in (0, 1, 1.5, 2, 2.5, 4)],
        "nothing": [],
        "summer": EVERY[:3],
        "winter": EVERY[3:],
    }
    TOLD_BY_THE_FILE: ClassVar = [
        [(1, 10), (2, 12)],
        [(1, 10), (1.5, 11), (2, 12), (2.5, 13)],
        [(0, 9), (1.5, 11), (2.5, 13), (4, 14)],
        [(1.5, 11), (2, 12)],
    ]
    TOLD_BY_THE_CLOUD: ClassVar = [
        [(1, 10), (1.5, 11)],  # summer time alone
        [(2, 12), (2.5, 13)],  # winter time alone
        [(1, 10), (2.5, 13)],
    ]

    @pytest.mark.parametrize("first", TOLD_BY_THE_FILE)
    @pytest.mark.parametrize("again", AGAIN)
    def test_no_row_is_doubled_or_lost(
        self, kind: Kind, first: list[tuple[float, Any]], again: str
    ) -> None:
        """What was there and what comes are one file in the order of time."""
        kind.rows = at_hours_each(first)
        kind.download(self.DAY)
        kind.rows = at_hours_each(self.AGAIN[again])
        kind.later()
        assert kind.download(self.DAY).facts["changed"] == 0
        found = [int(actual) for _, actual, _ in kind.cells() if actual]
        assert found == sorted({v for _, v in (*first, *self.AGAIN[again]) if v is not None})
        if again == "nulls":
            assert len(kind.cells()) == len(self.EVERY)

    @pytest.mark.parametrize("first", TOLD_BY_THE_CLOUD)
    @pytest.mark.parametrize("again", ["all", "nulls", "nothing"])
    def test_what_the_cloud_says_tells_the_hour(
        self, kind: Kind, first: list[tuple[float, Any]], again: str
    ) -> None:
        """Where the file's own order does not."""
        self.test_no_row_is_doubled_or_lost(kind, first, again)

    def test_a_changed_number_doubles_no_row(self, kind: Kind) -> None:
        """Two rows of the hour that comes again, both changed."""
        kind.rows = at_hours_each([(2, 12), (2.5, 13)])
        kind.download(self.DAY)
        kind.rows = at_hours_each([(2, 22), (2.5, 23)])
        kind.later()
        assert kind.download(self.DAY).facts["changed"] == 2
        assert [actual for _, actual, _ in kind.cells()] == ["22", "23"]


def at_hours_each(pairs: Sequence[tuple[float, Any]]) -> Rows:
    """Readings so many hours after the start, each with its own number."""
    return lambda asked: [(asked.start_s + h * H, value, value) for h, value in pairs]


UNREAD: dict[str, Any] = {
    "a gateway alone": {"gateway_id": "g"},
    "no time": ("x", 5, 0.5),
    "a time null": (None, 5, 0.5),
}


class TestUnreadable:
    @pytest.mark.parametrize("junk", UNREAD)
    def test_rows_among_good_ones_are_counted(self, kind: Kind, junk: str) -> None:
        """Missing: in the manifest, in the facts, by name; --recheck asks; no answer is kept."""
        kind.rows = put(4, UNREAD[junk], UNREAD[junk])
        facts = kind.download().facts
        assert (facts["complete"], facts["missing"]) == (True, 2)
        assert facts["unfilled"] == [{"id": kind.subject, "late": 0, "missing": 2}]
        entry = kind.entry()
        assert (entry["missing"], entry["rows"], entry["whole"]) == (2, 22, False)
        assert kind.download().facts["missing"] == 2
        assert kind.calls() == 1
        assert kind.plan(MARCH, recheck=True) == 1
        kind.rows = hourly
        assert kind.download(recheck=True).facts["missing"] == 0
        assert (kind.calls(), len(kind.cells())) == (2, 24)
        assert kind.entry()["whole"]
        kind.download(recheck=True)
        assert kind.calls() == 2

    @pytest.mark.parametrize("junk", [None, "junk", {}, 5, []])
    def test_what_is_no_row_is_counted(self, town: Town, junk: Any) -> None:
        """Among the readings of a meter: whose they are is known."""
        kind = Kind(town, "readings", rows=put(4, junk))
        kind.settle()
        facts = kind.download().facts
        assert (facts["complete"], facts["missing"], kind.entry()["rows"]) == (True, 1, 23)

    def test_another_folder_tells_them_too(self, kind: Kind) -> None:
        """Without a call; --recheck asks."""
        kind.rows = put(4, ("x", 5, 0.5))
        kind.download()
        (kind.town.folder / "out").rename(kind.town.folder / "first")
        kind.rows = hourly
        assert kind.download().facts["missing"] == 1
        assert kind.calls() == 1
        assert kind.download(recheck=True).facts["missing"] == 0
        assert kind.calls() == 2

    def test_cells_are_counted_by_the_row(self, kind: Kind) -> None:
        """A comma in one number and in both: two rows, three empty cells."""
        kind.rows = lambda asked: [
            (t, "1,5" if n == 4 else a, "1,5" if n in (4, 7) else v) for n, (t, a, v) in _n(asked)
        ]
        assert kind.download().facts["missing"] == 2
        cells = kind.cells()
        assert (cells[4][1:], cells[7][1:]) == (("", ""), ("1007", ""))
        assert sum(cell == "" for row in cells for cell in row) == 3

    def test_a_row_at_the_end_is_the_next_days(self, kind: Kind) -> None:
        """It is in the answer, and not in the file: nothing of the day is missing."""
        kind.rows = lambda asked: [*hourly(asked), (asked.end_s, "1,5", "1,5")]
        assert kind.download().facts["missing"] == 0

    @pytest.mark.parametrize("amount", ["1,5", "n/a", True, [], "NaN"])
    def test_numbers_of_which_none_is_one_fail(self, kind: Kind, amount: Any) -> None:
        """As in usage; told so that a person understands."""
        kind.rows = lambda asked: [(t, amount, amount) for t, _, _ in hourly(asked)]
        (failure,) = kind.download().facts["failed"]
        assert "none of the 24 readings" in failure["reason"]
        assert "number" in failure["reason"]
        assert not kind.has_file()

    @pytest.mark.parametrize("junk", ["junk", ("x", 5, 0.5)])
    def test_rows_of_which_none_is_one_fail(self, kind: Kind, junk: Any) -> None:
        """In words that a person understands."""
        kind.rows = lambda asked: [junk] * 24
        (failure,) = kind.download().facts["failed"]
        assert "none of the 24 readings that the cloud sent has a" in failure["reason"]
        assert "time that can be read" in failure["reason"]

    def test_junk_and_nulls_are_no_evidence_of_nothing(self, kind: Kind) -> None:
        """Not empty: something was there."""
        kind.rows = lambda asked: [("x", 1, 1), *((t, None, None) for t, _, _ in hourly(asked))]
        (failure,) = kind.download().facts["failed"]
        assert "1 of" in failure["reason"]
        assert kind.entry()["state"] == "failed"


class TestGateways:
    """Several share the calls."""

    @pytest.fixture
    def grid(self, town: Town) -> Kind:
        found = Kind(town, "grid")
        found.settle()
        town.cloud.say(
            f"{ROOT}/gateway",
            default=[{"id": "g", "premise_id": "p0"}, {"id": "h", "premise_id": "p0"}],
        )
        return found

    @staticmethod
    def of(gateway_id: str, row: Row) -> dict[str, Any]:
        return {**_grid_reading(row), "gateway_id": gateway_id}

    def both(self, asked: Question) -> list[Any]:
        return [*hourly(asked), *(self.of("h", row) for row in hourly(asked))]

    def test_readings_that_name_no_gateway_are_told(self, grid: Kind) -> None:
        """Nobody knows whose they are: counted for the exit code; --recheck asks for all again."""
        grid.rows = lambda asked: [
            *self.both(asked),
            None,
            {"hw_timestamp": text(asked.start_s), "voltage": 1},
        ]
        facts = grid.download().facts
        assert grid.context.session.unread_rows == 2
        assert (facts["done"], facts["missing"]) == (2, 0)
        assert not grid.entry()["whole"]
        assert grid.plan(MARCH, recheck=True) == 1
        grid.rows = self.both
        grid.download(recheck=True)
        assert grid.context.session.unread_rows == 0
        assert grid.entry()["whole"]
        assert grid.calls() == 2

    def test_readings_of_a_gateway_that_is_not_listed_are_told(self, grid: Kind) -> None:
        """There is no file for them."""
        grid.rows = lambda asked: [
            *self.both(asked),
            *(self.of("x", row) for row in hourly(asked)),
        ]
        assert grid.download().facts["done"] == 2
        (line,) = grid.context.progress.lines  # type: ignore[attr-defined]
        assert line.startswith("24 grid readings are of gateways that the cloud does not list (x)")

    def test_where_one_gateway_is_asked_for_they_are_its(self, grid: Kind) -> None:
        """Counted as missing."""
        grid.rows = put(4, {"hw_timestamp": text(0), "voltage": 1})
        request = GridRequest(MARCH, MARCH, gateway_id="g")
        facts = download_grid_readings(grid.town.connect(), request, grid.town.output()).facts
        assert facts["unfilled"] == [{"id": "g", "late": 0, "missing": 1}]

    @pytest.mark.parametrize("row", [("x", 5, 0.5), (0, "1,5", "1,5")])
    def test_one_that_cannot_be_read_stops_one(self, grid: Kind, row: Row) -> None:
        """It failed, the other is done."""
        grid.rows = lambda asked: [
            *hourly(asked),
            self.of("h", (row[0] if row[0] == "x" else asked.start_s, row[1], row[2])),
        ]
        facts = grid.download().facts
        assert [failure["id"] for failure in facts["failed"]] == ["h"]
        assert (facts["done"], facts["missing"]) == (1, 0)

    def test_a_null_of_the_same_instant_replaces_nothing(self, grid: Kind) -> None:
        """The number stays, whichever comes first."""
        grid.rows = lambda asked: [
            *self.both(asked),
            *((t, None, None) for t, _, _ in hourly(asked)),
        ]
        grid.download()
        assert all(volts and hertz for _, volts, hertz in grid.cells())


class TestAnotherDay:
    @pytest.mark.parametrize("hours", [-24, -0.75, 24.5, 48])
    def test_readings_all_outside_fail(self, kind: Kind, hours: float) -> None:
        """Within an hour or a day of it: none is of the day."""
        kind.rows = at_hours([hours])
        (failure,) = kind.download().facts["failed"]
        assert "outside the span" in failure["reason"]
        assert kind.entry()["state"] == "failed"

    @pytest.mark.parametrize("hours", [0, 24])
    def test_both_ends_are_of_the_span(self, kind: Kind, hours: int) -> None:
        """The one at its end is the next day's: nothing of this one, rightly answered."""
        kind.rows = at_hours([hours])
        facts = kind.download().facts
        assert facts["complete"]
        assert facts["done"] == (hours == 0)

    @pytest.mark.parametrize("hours", [-24, -23, -14, 14, 23, 24])
    def test_a_day_that_is_moved_fails(self, kind: Kind, hours: int) -> None:
        """A clock that is wrong by a day touches the span at one end."""
        kind.rows = at_hours([hours + n for n in range(25)])
        (failure,) = kind.download().facts["failed"]
        assert "outside the span" in failure["reason"]

    @pytest.mark.parametrize("hours", [-7, -1, 2, 9])
    def test_times_without_offset_of_another_zone_fail(self, kind: Kind, hours: int) -> None:
        """Read as UTC they would be hours off."""
        kind.rows = lambda asked: [
            (text(t + hours * H).removesuffix(".000Z"), *amounts) for t, *amounts in hourly(asked)
        ]
        (failure,) = kind.download().facts["failed"]
        assert "no offset" in failure["reason"]
        assert not kind.has_file()

    def test_times_without_offset_that_fit_are_utc(self, kind: Kind) -> None:
        kind.rows = lambda asked: [
            (text(t).removesuffix(".000Z"), *amounts) for t, *amounts in hourly(asked)
        ]
        kind.download()
        times = [cells[0] for cells in kind.cells()]
        assert (times[0], times[-1], len(times)) == (
            "2021-03-02 00:00:00",
            "2021-03-02 23:00:00",
            24,
        )

    def test_one_that_comes_late_in_the_day_is_of_the_day(self, kind: Kind) -> None:
        """A reading a day, and that of the next day too."""
        kind.rows = at_hours([20, 44])
        kind.download()
        assert len(kind.cells()) == 1

    def test_some_outside_are_left_out_and_counted(self, kind: Kind) -> None:
        """A month before, and more than an hour; those within an hour without a word."""
        kind.rows = lambda asked: [
            *hourly(asked),
            *at_hours([-720, -2, -1, 25, 26.5, 24 * 30])(asked),
        ]
        kind.download()
        assert len(kind.cells()) == 24
        (told,) = [event for event in kind.town.told if isinstance(event, RowsLeftOut)]
        assert told.rows == 4


class TestYoung:
    def test_recheck_asks_until_thirty_days_are_over(self, kind: Kind) -> None:
        """Without it a day is asked for again for two days; with it until nothing is expected."""
        asked, rechecked = [], []
        first = kind.town.clock.instant()
        for day in range(36):
            for recheck, found in ((False, asked), (True, rechecked)):
                kind.town.clock.set(first + day * D + timedelta(hours=recheck))
                before = kind.calls()
                assert kind.plan(YESTERDAY, recheck=recheck) in (0, 1)
                kind.download(YESTERDAY, recheck=recheck)
                if kind.calls() > before:
                    found.append(day)
        # Yesterday ended at 06:00 UTC of the first day, nine hours before.
        # The last time without --recheck is the first run after it has become two days old.
        assert asked == [0, 1, 2]
        assert rechecked == list(range(30))

    def test_another_folder_costs_no_call(self, kind: Kind) -> None:
        """Five days after its end more may have come: --recheck brings it."""
        day = YESTERDAY - 5 * D
        kind.rows = lambda asked: hourly(asked)[:3]
        kind.download(day)
        (kind.town.folder / "out").rename(kind.town.folder / "first")
        kind.rows = hourly
        assert kind.plan(day) == 0
        kind.download(day)
        assert len(kind.cells()) == 3
        assert kind.plan(day, recheck=True) == 1
        kind.download(day, recheck=True)
        assert len(kind.cells()) == 24

    def test_an_old_day_is_held(self, kind: Kind) -> None:
        """Nothing more is expected of it."""
        kind.download()
        (kind.town.folder / "out").rename(kind.town.folder / "first")
        assert kind.plan(MARCH) == 0
        kind.download()
        assert kind.calls() == 1


class TestNothing:
    @pytest.mark.parametrize("rows", [lambda asked: [], TestAskedAgain.LOST["nulls"]])
    def test_of_a_past_day_is_empty(self, kind: Kind, rows: Rows) -> None:
        """No file, no row or no number; --recheck asks again."""
        kind.rows = rows
        facts = kind.download().facts
        assert (facts["done"], facts["empty"], facts["waiting"]) == (0, 1, 0)
        assert kind.entry()["state"] == "empty"
        assert not kind.has_file()
        kind.download()
        assert kind.calls() == 1
        kind.rows = hourly
        kind.download(recheck=True)
        assert len(kind.cells()) == 24

    def test_of_yesterday_is_to_come(self, kind: Kind) -> None:
        """No file; asked for by the next run."""
        kind.rows = lambda asked: []
        facts = kind.download(YESTERDAY).facts
        assert (facts["done"], facts["empty"], facts["waiting"]) == (0, 0, 1)
        assert kind.entry()["state"] == "to come"
        assert not kind.has_file()
        kind.rows = hourly
        kind.download(YESTERDAY)
        assert len(kind.cells()) == 24

    @pytest.mark.parametrize("created", ["2020-01-01T00:00:00Z", "2021-04-01T00:00:00Z"])
    def test_a_header_of_an_older_version_becomes_empty(self, town: Town, created: str) -> None:
        """Version 1 wrote a header, and believed it for good: for a meter without readings, which
        is asked for once more, and for one created after the range, which is not."""
        kind = Kind(town, "readings")
        kind.settle()
        kind.rows = at_hours([1])
        kind.download()
        forge_header_of_version_1(kind)
        town.created["07:1"] = created
        town.settle("07:1")
        kind.settle()
        kind.rows = lambda asked: []
        town.clock.set(datetime(2023, 1, 1, tzinfo=UTC))
        before = kind.calls()
        assert kind.download().facts["empty"] == 1
        assert not kind.has_file()
        assert kind.entry()["state"] == "empty"
        assert kind.calls() - before == created.startswith("2020")


def forge_header_of_version_1(kind: Kind) -> None:
    """A folder as the version before left it: a file of a header alone, `fetched`."""
    from hashlib import sha256

    folder = kind.town.folder / "out"
    path = folder / kind.file
    header = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(header)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["files"][kind.file]
    for name in ("late", "missing", "gaps", "asked_utc", "whole"):
        del entry[name]
    entry |= {"rows": 0, "to_come": 0, "first_to_come": None, "sha256": sha256(header).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 1}))
    kind.town.archive = new_archive()


def test_a_long_file_is_put_over_in_one_go(town: Town) -> None:
    """Forty days of minutes, asked for again: 57,600 rows in seconds, not in hours."""
    kind = Kind(town, "grid")
    kind.settle()
    kind.rows = lambda asked: [(t, 120, 60) for t in range(asked.start_s, asked.end_s, 60)]
    first = date(2021, 3, 24)
    kind.download(first, days=40)
    before = kind.cells()
    kind.rows = lambda asked: [(t, 120, None) for t in range(asked.start_s, asked.end_s, 120)]
    kind.later()
    kind.download(first, days=40)
    assert kind.cells() == before
    assert len(before) == 57_600
