"""No answer is believed blindly: what a cloud says with status 200, and what becomes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from held import new_archive

from copper_cli.errors import CloudError
from copper_cli.jobs.dump import DumpRequest, dump_days
from copper_cli.jobs.grid import GridRequest, download_grid_readings
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.jobs.monthly import report_monthly
from copper_cli.jobs.readings import ReadingsRequest, download_readings
from copper_cli.records import Window
from copper_cli.table import Table
from copper_cli.work.meter_series import SeriesRequest

from .town import ROOT, H, Question, Town, body, row, text, whole

DAY = SeriesRequest("usage", date(2021, 3, 2), date(2021, 3, 3), "hour")
"""A day two months before the town's now."""
YESTERDAY = SeriesRequest("usage", date(2021, 5, 2), date(2021, 5, 3), "hour")
"""It ended nine hours ago."""
DAY_WINDOW = Window(datetime(2021, 3, 2, 7, tzinfo=UTC), datetime(2021, 3, 3, 7, tzinfo=UTC))
D = timedelta(days=1)


def download(town: Town, request: SeriesRequest = DAY, **how: Any) -> Table:
    return download_series(town.connect(), request, town.output(**how))


def shaped(change: Callable[[dict[str, Any], Question], Any]) -> Callable[[Question], Any]:
    """The whole answer, changed."""
    return lambda asked: change(whole(asked), asked)


def each_row(change: Callable[[dict[str, Any]], Any]) -> Callable[[Question], Any]:
    """The whole answer with each row changed."""
    return shaped(lambda found, asked: {**found, "results": [change(r) for r in found["results"]]})


def spaced(step_s: int) -> Callable[[Question], Any]:
    """Rows so far apart, whatever was asked for."""
    return lambda asked: body([row(t) for t in asked.ends(step_s)], asked.start_s)


def moved(days: int) -> Callable[[Question], Any]:
    """The rows of another time."""
    return lambda asked: body([row(t + days * 86400) for t in asked.ends()], asked.start_s)


def clocks(hours: float, *, first: int = 0) -> Callable[[Question], Any]:
    """Times without an offset, of a clock so many hours before that of UTC."""
    return shaped(
        lambda found, _: {
            **found,
            "results": [
                {**r, "time": moved_text(r["time"], hours)} for r in found["results"][first:]
            ],
        }
    )


def moved_text(time: str, hours: float) -> str:
    moment = datetime.fromisoformat(time) - timedelta(hours=hours)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def bare(**fields: Any) -> Callable[[Question], Any]:
    """No rows, and what else the answer says."""
    return shaped(lambda found, _: {**found, "results": [], "sum_usage": None, **fields})


def beside(**fields: Any) -> Callable[[Question], Any]:
    """The whole answer, and what else it says."""
    return shaped(lambda found, _: {**found, **fields})


DRESSES: dict[str, tuple[dict[str, Any], str]] = {
    "a status": ({"statusCode": 500, "message": "Internal server error"}, "Internal server error"),
    "a status as text": ({"status_code": "503"}, 'status_code "503"'),
    "a status with its name": ({"status": "502 Bad Gateway"}, "502 Bad Gateway"),
    "a code": ({"code": 504}, "code 504"),
    "a word as status": ({"status": "error"}, 'status "error"'),
    "a failure as status": ({"status": "FAILED"}, "FAILED"),
    "no success": ({"success": False}, "success false"),
    "not ok": ({"ok": False, "error_description": "worn out"}, "worn out"),
    "a message": ({"message": "upstream timed out"}, "upstream timed out"),
    "a message of a gateway": ({"Message": "upstream timed out"}, "upstream timed out"),
    "a function's error": ({"errorMessage": "Task timed out", "errorType": "x"}, "Task timed out"),
    "a detail": ({"title": "Gateway", "detail": "no route"}, "no route"),
    "a fault": ({"fault": {"faultstring": "spike arrest"}}, "spike arrest"),
    "an exception": ({"exception": "NullPointer"}, "NullPointer"),
    "errors": ({"errors": [{"message": "one of two"}]}, "one of two"),
    "a number as error": ({"error": 7}, "error 7"),
    "a part": ({"partial": True}, "partial true"),
    "a result that failed": ({"result": "failed"}, "result"),
    "a state that failed": ({"state": "FAILED"}, "state"),
    "warnings": ({"warnings": ["backend timed out"]}, "backend timed out"),
    "truncated": ({"truncated": "true"}, 'truncated "true"'),
}
"""What answers say beside an empty container, and what is told of it."""
SURE = ("a status", "a code", "no success", "not ok", "a fault", "an exception", "errors")
"""Those that nobody can mean otherwise, beside rows either."""

BAD: dict[str, tuple[Callable[[Question], Any], str]] = {
    "an error": (lambda _: {"error": "upstream timed out", "code": 504}, "upstream timed out"),
    "a message": (lambda _: {"message": "Internal\nServer Error"}, "Internal Server Error"),
    "nothing": (lambda _: {}, "nothing in the place of its rows"),
    "null": (lambda _: None, "null instead of an object"),
    "a list": (lambda _: [], "a list instead of an object"),
    "results null": (
        shaped(lambda found, _: {**found, "results": None}),
        "null in the place of its rows",
    ),
    "results missing": (
        shaped(lambda found, _: {k: v for k, v in found.items() if k != "results"}),
        "nothing in the place of its rows",
    ),
    "results an object": (
        shaped(lambda found, _: {**found, "results": {}}),
        "object in the place of its rows",
    ),
    "no rows and a sum": (shaped(lambda found, _: {**found, "results": []}), "own sum says 12"),
    "rows of junk": (each_row(lambda r: "x"), "none of the 25 rows"),
    "rows of null": (each_row(lambda r: None), "none of the 25 rows"),
    "no times": (each_row(lambda r: {**r, "time": "soon"}), "none of the 25 rows"),
    "amounts of junk": (each_row(lambda r: {**r, "usage": "n/a"}), "none of the 25 amounts"),
    "amounts true": (each_row(lambda r: {**r, "usage": True}), "none of the 25 amounts"),
    "only nulls and a sum": (
        shaped(lambda found, asked: {**found, "results": [row(t, None) for t in asked.ends()]}),
        "own sum says 12",
    ),
    "another year": (moved(-365), "outside the span"),
    "the day after": (moved(2), "outside the span"),
    "another meter": (shaped(lambda found, _: {**found, "meter_id": "07:2"}), "for 07:2"),
    "a meter's number": (shaped(lambda found, _: {**found, "meter_id": 12}), "for 12"),
    "quarters of an hour": (spaced(900), "finer than was asked for: 15 min apart, not 1 h"),
    "minutes": (spaced(60), "finer than was asked for: 1 min apart"),
    "two hours": (spaced(2 * H), "coarser than was asked for: 2 h apart, not 1 h"),
    "minutes and a hole": (
        lambda asked: body(
            [row(t) for t in [*range(asked.start_s, asked.start_s + 1440, 60), asked.end_s]],
            asked.start_s,
        ),
        "finer than was asked for: 1 min apart",
    ),
    **{f"no rows, {name}": (bare(**said), told) for name, (said, told) in DRESSES.items()},
    **{f"rows, {name}": (beside(**DRESSES[name][0]), DRESSES[name][1]) for name in SURE},
    "only nulls and a word": (
        shaped(
            lambda found, asked: {
                "results": [row(t, None) for t in asked.ends()],
                "status": "error",
            }
        ),
        'status "error"',
    ),
    **{
        f"a sum of {sent!r}": (beside(sum_usage=sent), "its own sum cannot be read")
        for sent in ("abc", "12,0", "NaN", [], True, float("nan"), float("inf"))
    },
    "no rows and a sum of junk": (bare(sum_usage="12,0"), 'cannot be read: "12,0"'),
    "amounts NaN": (each_row(lambda r: {**r, "usage": float("nan")}), "none of the 25 amounts"),
    "no amounts": (
        each_row(lambda r: {k: v for k, v in r.items() if k != "usage"}),
        "25 rows that the cloud",
    ),
    "amounts elsewhere": (
        each_row(lambda r: {"time": r["time"], "energy": r["usage"]}),
        "sent has usage",
    ),
    **{
        f"{hours} hours off": (
            lambda asked, hours=hours: body(  # type: ignore[misc]
                [row(t + hours * H) for t in asked.ends()], asked.start_s
            ),
            "outside the span",
        )
        for hours in (24, 25, -24, -25)
    },
    "the day before and nulls": (
        lambda asked: body(
            [
                row(t, 0.5 if t <= asked.start_s else None)
                for t in range(asked.start_s - 24 * H, asked.end_s + 1, H)
            ],
            asked.start_s,
        ),
        "the others hold no value",
    ),
    "registers and a sum": (
        shaped(
            lambda found, _: {
                **found,
                "results": [{**r, "usage": None} for r in found["results"]],
            }
        ),
        "own sum says 12",
    ),
    "an amount before the day and a sum": (
        shaped(
            lambda found, _: {
                **found,
                "results": [found["results"][0]]
                + [{**r, "usage": None} for r in found["results"][1:]],
            }
        ),
        "own sum says 12",
    ),
    "a clock of Denver": (clocks(7), "no offset and do not fit"),
    "a clock of the Azores": (clocks(1), "no offset and do not fit"),
    "a clock of the Azores, ends only": (clocks(1, first=1), "no offset and do not fit"),
    "a clock of Paris": (clocks(-1), "no offset and do not fit"),
    "a clock of India": (clocks(-5.5), "no offset and do not fit"),
    "dates alone": (each_row(lambda r: {**r, "time": r["time"][:10]}), "25 rows"),
    "zero times": (each_row(lambda r: {**r, "time": "0001-01-01T00:00:00Z"}), "25 rows"),
}

GOOD: dict[str, Callable[[Question], Any]] = {
    "numbers as text": each_row(lambda r: {**r, "usage": "0.500000", "power": "0.500000"}),
    "a sum as text": shaped(lambda found, _: {**found, "sum_usage": "12.000000"}),
    "another offset": each_row(
        lambda r: {**r, "time": r["time"].replace("T", "T").replace(".000Z", ".000+00:00")}
    ),
    "local times with offset": each_row(
        lambda r: {
            **r,
            "time": (datetime.fromisoformat(r["time"]) - timedelta(hours=7))
            .replace(tzinfo=None)
            .isoformat()
            + "-07:00",
        }
    ),
    "seconds since 1970": each_row(
        lambda r: {**r, "time": int(datetime.fromisoformat(r["time"]).timestamp())}
    ),
    "milliseconds since 1970": each_row(
        lambda r: {**r, "time": int(datetime.fromisoformat(r["time"]).timestamp() * 1000)}
    ),
    "rows twice and upside down": shaped(
        lambda found, _: {**found, "results": found["results"][::-1] * 2}
    ),
    "an encoded id": shaped(lambda found, _: {**found, "meter_id": "07%3A1"}),
    "no id and no type": shaped(
        lambda found, _: {"sum_usage": found["sum_usage"], "results": found["results"]}
    ),
    "a row at either end more": lambda asked: {
        **whole(asked),
        "results": [row(t) for t in range(asked.start_s - H, asked.end_s + H + 1, H)],
    },
    "a word besides": beside(message="deprecated", detail="see the docs"),
    "no error besides": beside(
        error=None,
        errors=[],
        success=True,
        ok=True,
        status="ok",
        code=200,
        statusCode="200",
        fault="",
        partial=False,
    ),
    "part of more": beside(partial=True, status="error"),
    "a clock of UTC": clocks(0),
}


class TestUsage:
    @pytest.mark.parametrize("name", BAD)
    def test_what_contradicts_its_question_fails(self, town: Town, name: str) -> None:
        """One call, the state `failed`, no file, one line that says what was wrong. Nothing of it
        is kept: when the cloud is well again the same command makes it whole."""
        town.answers["07:1"], told = BAD[name]
        table = download(town)
        (failure,) = table.facts["failed"]
        assert failure["id"] == "07:1"
        assert told in failure["reason"]
        assert "\n" not in failure["reason"]
        assert town.asked() == 1
        assert town.entry()["state"] == "failed"
        assert not (town.folder / "out" / "07_1.usage.csv").exists()
        del town.answers["07:1"]
        assert download(town).facts["complete"]
        assert len(town.lines()) == 25
        assert town.entry()["state"] == "fetched"

    @pytest.mark.parametrize("name", GOOD)
    def test_what_can_be_read_safely_is_read(self, town: Town, name: str) -> None:
        """25 rows, the sum 12: the same file as from the plain answer, but for its registers."""
        town.answers["07:1"] = GOOD[name]
        table = download(town)
        assert [(r[0], r[2]) for r in table.rows] == [("07:1", 12)]
        entry = town.entry()
        assert (entry["state"], entry["rows"], entry["missing"]) == ("fetched", 25, 0)
        mine = [line.split(",")[9:12] for line in town.lines()]
        del town.answers["07:1"]
        (town.folder / "out" / "07_1.usage.csv").unlink()
        town.clock.set(datetime(2023, 1, 1, tzinfo=UTC))  # the cache has forgotten it
        download(town)
        assert mine == [line.split(",")[9:12] for line in town.lines()]

    def test_an_answer_that_was_believed_before_is_asked_for_again(self, town: Town) -> None:
        """One in the cache that nobody would believe today is a miss."""
        context = town.connect()
        path = f"{ROOT}/meter/07%3A1/usage"
        params = {
            "granularity": "hour", "start": "2021-03-02T07:00:00Z", "end": "2021-03-03T07:00:00Z"
        }  # fmt: skip
        town.answers["07:1"] = lambda _: {"error": "upstream timed out"}
        assert context.session.get_json(path, params) == {"error": "upstream timed out"}
        del town.answers["07:1"]
        assert download(town).facts["complete"]
        assert town.asked() == 2

    def test_one_row_of_junk_stops_one_row(self, town: Town) -> None:
        """The others are there, and its hour is missing."""
        town.answers["07:1"] = shaped(
            lambda found, _: {
                **found,
                "results": [*found["results"][:9], 7, *found["results"][10:]],
            }
        )
        facts = download(town).facts
        assert (facts["complete"], facts["missing"]) == (True, 1)
        assert len(town.lines()) == 24

    def test_hours_absent_are_counted(self, town: Town) -> None:
        """8 of 24 hours of a past day: 17 rows, exit 0; in the manifest and in the facts."""
        town.answers["07:1"] = shaped(
            lambda found, _: {**found, "results": found["results"][:3] + found["results"][11:]}
        )
        facts = download(town).facts
        assert facts["complete"]
        assert (facts["to_come"], facts["late"], facts["missing"]) == (0, 0, 8)
        assert facts["unfilled"] == [{"id": "07:1", "late": 0, "missing": 8}]
        entry = town.entry()
        assert (entry["state"], entry["rows"], entry["missing"]) == ("fetched", 17, 8)
        again = download(town)
        assert again.facts["missing"] == 8
        assert town.asked() == 1

    @pytest.mark.parametrize(
        ("days", "expected"),
        [(1, ("to come", 8, 0, 0)), (5, ("late", 0, 8, 0)), (40, ("fetched", 0, 0, 8))],
    )
    def test_absent_and_null_are_the_same(
        self, town: Town, days: int, expected: tuple[str, int, int, int]
    ) -> None:
        """To come, late, missing by age, whether a row is null or left out."""
        start = date(2021, 5, 3) - days * D
        for kind in ("null", "absent"):
            request = SeriesRequest("usage", start, start + D, "hour", layout="plain")

            def holes(found: dict[str, Any], asked: Question, kind: str = kind) -> Any:
                rows = found["results"]
                gap = [row(t, None) for t in asked.ends()[3:11]] if kind == "null" else []
                return {**found, "results": rows[:3] + gap + rows[11:]}

            town.answers["07:1"] = shaped(holes)
            found = download_series(town.connect(apart=True), request, town.output(overwrite=True))
            facts = found.facts
            assert (facts["to_come"], facts["late"], facts["missing"]) == expected[1:]
            assert town.entry()["state"] == expected[0]
            (town.folder / "out" / "manifest.json").unlink()

    def test_rows_that_fall_short_of_the_sum_are_told(self, town: Town) -> None:
        """18 where the cloud says 36, and no hour is seen to be absent: one stands for the
        unknown number, and the two sums are named."""
        town.answers["07:1"] = lambda asked: {
            **body([row(t, 0.75) for t in asked.ends()], asked.start_s),
            "sum_usage": 36.0,
        }
        context = town.connect()
        facts = download_series(context, DAY, town.output()).facts
        assert facts["missing"] == 1
        assert context.progress.lines == [  # type: ignore[attr-defined]
            "07:1: its rows add up to 18, the cloud's own sum says 36."
        ]
        assert town.entry()["missing"] == 1

    def test_another_type_is_told_and_no_more(self, town: Town) -> None:
        """The list says power, the answer gas."""
        town.answers["07:1"] = shaped(lambda found, _: {**found, "meter_type": "gas"})
        context = town.connect()
        assert download_series(context, DAY, town.output()).facts["complete"]
        (line,) = context.progress.lines  # type: ignore[attr-defined]
        assert "07:1" in line
        assert "gas" in line
        assert "power" in line

    def test_rows_far_outside_are_left_out(self, town: Town) -> None:
        """A cloud that sends a week for a day: 25 rows, and the day's own sum."""
        town.answers["07:1"] = lambda asked: body(
            [row(t) for t in range(asked.start_s - 72 * H, asked.end_s + 72 * H + 1, H)],
            asked.start_s - 72 * H,
        )
        table = download(town)
        assert len(town.lines()) == 25
        assert [r[2] for r in table.rows] == [None]
        assert table.facts["missing"] == 0

    @pytest.mark.parametrize("behind", [2, 30])
    def test_a_right_sum_stays_though_rows_lie_behind_the_end(
        self, town: Town, behind: int
    ) -> None:
        """The sum is of the rows in the span, and not of the one in the margin after it."""
        town.answers["07:1"] = lambda asked: {
            **whole(asked),
            "results": [row(t) for t in range(asked.start_s, asked.end_s + behind * H + 1, H)],
        }
        table = download(town)
        assert [r[2] for r in table.rows] == [12]
        assert len(town.lines()) == 25

    def test_times_without_offset_of_an_answer_cut_short(self, town: Town) -> None:
        """A cloud that grants two days a call, in UTC without saying so: the rest is asked for."""
        request = SeriesRequest("usage", date(2021, 3, 2), date(2021, 3, 7), "hour")

        def short(asked: Question) -> Any:
            rows = [row(t) for t in asked.ends()[:49]]
            rows = [{**r, "time": moved_text(r["time"], 0)} for r in rows]
            return body(rows, asked.start_s)

        town.answers["07:1"] = short
        assert download(town, request).facts["complete"]
        assert len(town.lines()) == 5 * 24 + 1

    def test_times_without_offset_of_yesterday(self, town: Town) -> None:
        """Rows that are not there yet are no sign of another zone; rows before the span are."""

        nine_utc = int(datetime(2021, 5, 2, 14, tzinfo=UTC).timestamp())

        def until_9(hours: float) -> Callable[[Question], Any]:
            def answer(asked: Question) -> Any:
                rows = [row(t) for t in asked.ends() if t <= nine_utc]
                return body(
                    [{**r, "time": moved_text(r["time"], hours)} for r in rows], asked.start_s
                )

            return answer

        town.answers["07:1"] = until_9(0)
        assert download(town, YESTERDAY).facts["to_come"] == 16
        (town.folder / "out" / "manifest.json").unlink()
        town.answers["07:1"] = until_9(6)
        facts = download(town, YESTERDAY, overwrite=True).facts
        assert "no offset and do not fit" in facts["failed"][0]["reason"]


class TestEmpty:
    def test_nothing_of_yesterday_is_to_come(self, town: Town) -> None:
        """Not empty: it is asked for again by each run, and whole in the end."""
        town.answers["07:1"] = lambda asked: body([], asked.start_s)
        for calls in (1, 2):
            facts = download(town, YESTERDAY).facts
            assert (facts["done"], facts["waiting"], facts["empty"]) == (0, 1, 0)
            assert facts["to_come"] == 24
            assert town.entry()["state"] == "to come"
            assert town.asked() == calls
        del town.answers["07:1"]
        assert download(town, YESTERDAY).facts["done"] == 1
        assert len(town.lines()) == 25

    @pytest.mark.parametrize("rows", ["none", "nulls"])
    def test_a_sum_of_yesterday_without_rows_is_to_come(self, town: Town, rows: str) -> None:
        """The sum may be there before the rows; two days later it contradicts them."""
        town.answers["07:1"] = lambda asked: {
            **body([] if rows == "none" else [row(t, None) for t in asked.ends()], asked.start_s),
            "sum_usage": 12,
        }
        facts = download(town, YESTERDAY).facts
        assert (facts["failed"], facts["waiting"], facts["to_come"]) == ([], 1, 24)
        town.clock.set(town.clock.instant() + 3 * D)
        assert "own sum says 12" in download(town, YESTERDAY).facts["failed"][0]["reason"]

    def test_in_a_dump_too(self, town: Town) -> None:
        """The day without data has no file yet; the day before has."""
        midnight_s = int(datetime(2021, 5, 2, 6, tzinfo=UTC).timestamp())
        town.answers["07:1"] = lambda asked: body(
            [row(t) for t in asked.ends() if t <= midnight_s], asked.start_s
        )
        request = DumpRequest("d", date(2021, 5, 1), date(2021, 5, 2), "hour", None, "rows")
        table = dump_days(town.connect(), request, town.output())
        assert [tuple(r) for r in table.rows] == [
            ("2021-05-01", 1, 25, 0, 0, 0),
            ("2021-05-02", 1, 1, 24, 0, 0),
        ] or [tuple(r)[3] for r in table.rows] == [0, 24]
        del town.answers["07:1"]
        table = dump_days(town.connect(), request, town.output())
        assert [tuple(r) for r in table.rows] == [
            ("2021-05-01", 1, 25, 0, 0, 0),
            ("2021-05-02", 1, 25, 0, 0, 0),
        ]

    @pytest.mark.parametrize("rows", ["none", "nulls"])
    def test_nothing_of_a_past_day_is_empty(self, town: Town, rows: str) -> None:
        """The cloud answered rightly, without a value, its sum 0, months later: believed for good."""
        town.answers["07:1"] = lambda asked: body(
            [] if rows == "none" else [row(t, None) for t in asked.ends()], asked.start_s
        )
        for _ in range(2):
            facts = download(town).facts
            assert (facts["complete"], facts["empty"], facts["missing"]) == (True, 1, 0)
        assert town.asked() == 1
        download(town, recheck=True)
        assert town.asked() == 2

    def test_an_empty_of_an_older_version_is_asked_for_once_more(self, town: Town) -> None:
        """It was believed without evidence."""
        town.answers["07:1"] = lambda asked: body([], asked.start_s)
        download(town)
        path = town.folder / "out" / "manifest.json"
        path.write_text(json.dumps(as_version_1(json.loads(path.read_text()))))
        del town.answers["07:1"]
        town.archive = new_archive()
        town.clock.set(datetime(2023, 1, 1, tzinfo=UTC))
        assert download(town).facts["done"] == 1

    @pytest.mark.parametrize("job", ["usage", "readings", "dump"])
    def test_a_meter_created_after_the_range_is_empty(self, town: Town, job: str) -> None:
        """With that reason and without a file or a call; once the list says otherwise, asked."""
        town.created["07:1"] = "2021-04-01T00:00:00Z"
        town.settle("07:1")
        for _ in range(2):
            table = run(town, job)
            assert not list((town.folder / "out").rglob("07_1*.csv"))
            assert town.asked("usage") + town.asked("readings") == 0
            if job != "dump":
                assert table.facts["empty"] == 1
                (entry,) = json.loads((town.folder / "out/manifest.json").read_text())[
                    "files"
                ].values()
                assert entry["state"] == "empty"
                assert entry["reason"] == "created 2021-03-31, after the range"
        town.created.clear()
        town.settle("07:1")
        if job == "readings":
            town.answers["07:1"] = read_hourly
        run(town, job, use_cache=False)
        assert list((town.folder / "out").rglob("07_1*.csv"))


def run(town: Town, job: str, **settings: Any) -> Table:
    """A download of DAY by one of the three commands."""
    context = town.connect(**settings)
    if job == "usage":
        return download_series(context, DAY, town.output())
    if job == "dump":
        request = DumpRequest("d", DAY.start, DAY.start, "hour", None, "rows")
        return dump_days(context, request, town.output())
    return download_readings(context, ReadingsRequest(DAY.start, DAY.start), town.output())


def as_version_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as the version before wrote it."""
    files = {}
    for name, entry in manifest["files"].items():
        old = {k: v for k, v in entry.items() if k not in ("late", "missing", "gaps", "asked_utc")}
        files[name] = {**old, "first_to_come": None, "to_come": 0}
    return {**manifest, "version": 1, "files": files}


def read_hourly(asked: Question) -> dict[str, Any]:
    rows = [{"time": text(t), "actual": t % 1000, "value": 1.0} for t in asked.ends()]
    return {"meter_id": "07:1", "meter_type": "power", "results": rows}


class TestLate:
    def test_late_hours_are_asked_for_at_their_ages(self, town: Town) -> None:
        """A day of which noon never comes. Run every morning for forty days: daily while it is to
        come, then when it is 2, 4, 8, 16 and 30 days old; from then on it is missing."""

        def holed(asked: Question) -> dict[str, Any]:
            rows = [row(t) for t in asked.ends() if t != noon.timestamp()]
            return body(rows, asked.start_s)

        noon = datetime(2021, 5, 2, 18, tzinfo=UTC)
        town.answers["07:1"] = holed
        first = town.clock.instant()
        asked = []
        for day in range(40):
            town.clock.set(first + day * D)
            before = town.asked()
            facts = download(town, YESTERDAY).facts
            if town.asked() > before:
                asked.append(day)
            age = town.clock.instant() - noon
            word = "to_come" if age < 2 * D else "late" if age < 30 * D else "missing"
            assert {w: facts[w] for w in ("to_come", "late", "missing")} == {
                "to_come": 0, "late": 0, "missing": 0, word: 1
            }  # fmt: skip
        # The first morning it is 21 hours old.
        assert asked == [0, 1, 2, 4, 8, 16, 30]

    def test_recheck_asks_at_once_and_passes_the_cache(self, town: Town) -> None:
        """What is missing for good is there when somebody asks explicitly."""
        town.answers["07:1"] = shaped(
            lambda found, _: {**found, "results": found["results"][:3] + found["results"][11:]}
        )
        assert download(town).facts["missing"] == 8
        del town.answers["07:1"]
        assert download(town).facts["missing"] == 8
        plan = estimate_series(town.connect(), DAY, town.output(recheck=True))
        assert plan.facts["to_ask"] == 1
        facts = download(town, recheck=True).facts
        assert (facts["missing"], facts["calls"] > 0) == (0, True)
        assert len(town.lines()) == 25
        assert town.asked() == 2
        download(town, recheck=True)
        assert town.asked() == 2

    @pytest.mark.parametrize("layout", ["rows", "columns", "plain"])
    @pytest.mark.parametrize("lost", ["null", "absent", "all null", "no row"])
    def test_nothing_never_replaces_a_value(self, town: Town, layout: Any, lost: str) -> None:
        """A later answer that has lost hours: the file keeps them, gains what is new, and takes
        over what was changed, which is told."""
        request = SeriesRequest("usage", YESTERDAY.start, YESTERDAY.end, "hour", layout=layout)

        def first(asked: Question) -> dict[str, Any]:
            ends = asked.ends()
            return body([row(t, None if i > 20 else 0.5) for i, t in enumerate(ends)], ends[0])

        def second(asked: Question) -> dict[str, Any]:
            ends = asked.ends()
            amounts: list[Any] = [0.5] * len(ends)
            amounts[5] = 0.75
            amounts[6:9] = [None] * 3
            rows = [row(t, e) for t, e in zip(ends, amounts, strict=True)]
            if lost == "absent":
                rows = [r for r in rows if r["usage"] is not None]
            elif lost == "all null":
                rows = [row(t, None) for t in ends]
            elif lost == "no row":
                rows = []
            return body(rows, ends[0])

        town.answers["07:1"] = first
        assert download(town, request).facts["to_come"] == 4
        old = amounts_of(town)
        town.answers["07:1"] = second
        town.clock.set(town.clock.instant() + timedelta(hours=2))
        facts = download(town, request, fresh=True).facts
        new = amounts_of(town)
        is_gone = lost in ("all null", "no row")
        assert facts["changed"] == (0 if is_gone else 1)
        assert facts["to_come"] == (4 if is_gone else 0)
        assert facts["withdrawn"] == (20 if is_gone else 3)
        expected = dict(old)
        if not is_gone:
            expected |= dict.fromkeys(list(new)[21:], 0.5)
            expected[list(new)[5]] = 0.75
        assert {time: e for time, e in new.items() if e} == {t: e for t, e in expected.items() if e}
        assert len([e for e in new.values() if e]) == (21 if is_gone else 25)
        total = 24 * 0.5 + 0.25 if not is_gone else 20 * 0.5
        assert town.entry()["facts"]["sum_energy"] == pytest.approx(total)

    def test_a_failed_recheck_keeps_the_file(self, town: Town) -> None:
        """And says that it failed."""
        town.answers["07:1"] = shaped(
            lambda found, _: {**found, "results": found["results"][:3] + found["results"][11:]}
        )
        download(town)
        before = town.lines()
        town.answers["07:1"] = lambda _: {"error": "no"}
        facts = download(town, recheck=True).facts
        assert len(facts["failed"]) == 1
        assert town.lines() == before


def amounts_of(town: Town) -> dict[str, float | None]:
    """The amounts of the file by the text of their times, in whatever layout."""
    with (town.folder / "out" / "07_1.usage.csv").open(newline="") as stream:
        found = {}
        for line in csv.DictReader(stream):
            time = line.get("timestamp") or line.get("usage_result__time")
            amount = line.get("energy") or line.get("usage_result__usage")
            if time:
                found[time] = float(amount) if amount else None
    return found


class TestOthers:
    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            ({"error": "upstream timed out"}, "upstream timed out"),
            ({"results": None}, "null in the place of its rows"),
            ({"results": [1, None, {}]}, "none of the 3 readings"),
            ({"meter_id": "07:2", "results": []}, "for 07:2"),
            ({"results": [{"time": "2020-03-02T08:00:00Z", "actual": 1}]}, "outside the span"),
            *(({"results": [], **said}, told) for said, told in DRESSES.values()),
        ],
    )
    def test_readings_by_the_same_rule(self, town: Town, answer: Any, told: str) -> None:
        """Failed, one line, asked again next time."""
        town.answers["07:1"] = lambda _: answer
        request = ReadingsRequest(DAY.start, DAY.start)
        table = download_readings(town.connect(), request, town.output())
        (failure,) = table.facts["failed"]
        assert told in failure["reason"]
        town.answers["07:1"] = read_hourly
        table = download_readings(town.connect(), request, town.output())
        assert table.facts["complete"]
        assert town.entry("07_1.csv")["rows"] == 24

    def test_fewer_readings_do_not_replace_a_file(self, town: Town) -> None:
        """Of yesterday the cloud had twenty-four; now it says it has two, with other registers."""
        request = ReadingsRequest(YESTERDAY.start, YESTERDAY.start)
        town.answers["07:1"] = read_hourly
        download_readings(town.connect(), request, town.output())
        before = town.lines("07_1.csv")
        town.answers["07:1"] = lambda asked: {
            "results": [{"time": text(t), "actual": 1} for t in asked.ends()[1:3]]
        }
        facts = download_readings(town.connect(), request, town.output()).facts
        after = town.lines("07_1.csv")
        assert facts["changed"] == 2
        assert after[2:] == before[2:]
        assert [line.split(",")[3] for line in after[:2]] == ["1", "1"]

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            ({"error": "upstream timed out"}, "upstream timed out"),
            (None, "null instead of a list"),
            ([1, {}, {"gateway_id": "g"}], "none of the 3 readings"),
            ([{"gateway_id": "g2", "hw_timestamp": "2021-03-02T08:00:00Z"}], "for g2"),
            ([{"gateway_id": "g", "hw_timestamp": "2020-03-02T08:00:00Z"}], "outside the span"),
        ],
    )
    def test_grid_readings_by_the_same_rule(self, town: Town, answer: Any, told: str) -> None:
        """Failed, one line, asked again next time."""
        town.cloud.say(f"{ROOT}/gateway", default=[{"id": "g", "premise_id": "p0"}])
        town.cloud.defaults[f"{ROOT}/grid/readings"] = said(answer)
        request = GridRequest(DAY.start, DAY.start, gateway_id="g")
        table = download_grid_readings(town.connect(), request, town.output())
        (failure,) = table.facts["failed"]
        assert told in failure["reason"]
        good = [{"gateway_id": "g", "hw_timestamp": "2021-03-02T08:00:00Z", "voltage": 120.5}]
        town.cloud.defaults[f"{ROOT}/grid/readings"] = said(good)
        table = download_grid_readings(town.connect(), request, town.output())
        assert table.facts["done"] == 1

    @pytest.mark.parametrize("kind", ["baseline-series", "average-series"])
    def test_a_baseline_may_be_left_out(self, town: Town, kind: Any) -> None:
        """`series` missing or null without a sum is no rows; with a sum it is an error."""
        path = f"{ROOT}/meter/07%3A1/{kind}"
        request = SeriesRequest(kind, DAY.start, DAY.end, "hour")
        for answer in ({"series": None}, {"sum_energy": None}, {"series": []}):
            town.cloud.defaults[path] = said(answer)
            facts = download_series(town.connect(apart=True), request, town.output()).facts
            assert (facts["empty"], facts["complete"]) == (1, True)
            (town.folder / "out" / "manifest.json").unlink()
        town.cloud.defaults[path] = said({"series": None, "sum_energy": 3.5})
        facts = download_series(town.connect(apart=True), request, town.output()).facts
        assert "null in the place of its rows (series)" in facts["failed"][0]["reason"]

    @pytest.mark.parametrize("dress", DRESSES)
    def test_an_error_is_no_missing_baseline(self, town: Town, dress: str) -> None:
        """Whatever stands in the place of the rows."""
        said_besides, told = DRESSES[dress]
        path = f"{ROOT}/meter/07%3A1/baseline-series"
        request = SeriesRequest("baseline-series", DAY.start, DAY.end, "hour")
        for answer in ({}, {"series": None}, {"series": []}, {"sum_energy": None}):
            town.cloud.defaults[path] = said({**answer, **said_besides})
            facts = download_series(town.connect(), request, town.output()).facts
            assert told in facts["failed"][0]["reason"]

    @pytest.mark.parametrize("dress", DRESSES)
    def test_an_error_is_no_end_of_a_list(self, town: Town, dress: str) -> None:
        """Nor an empty one: pages by next, and a total that nobody could make."""
        said_besides, told = DRESSES[dress]
        client = town.connect().client
        town.cloud.say(f"{ROOT}/bulk", default={"results": [], **said_besides})
        town.cloud.say(f"{ROOT}/grid/latest", default={"results": [], **said_besides})
        town.cloud.say(
            f"{ROOT}/aggregate/usage",
            default={"sum_energy": None, "meter_count": 0, **said_besides},
        )
        for fetch in (
            client.fetch_bulk,
            client.fetch_grid_latest,
            lambda: client.fetch_aggregate("power", DAY_WINDOW),
        ):
            with pytest.raises(CloudError) as caught:
                fetch()
            assert told in str(caught.value)

    @pytest.mark.parametrize(
        "answer",
        [
            {"error": "partial", "sum_energy": 1.0},
            {"partial": True, "sum_energy": 1.0},
            {"statusCode": 500, "sum_energy": 1.0},
            {"sum_energy": float("nan")},
            {"sum_energy": "12,0"},
        ],
    )
    def test_a_total_of_a_part_or_of_junk_is_none(self, town: Town, answer: Any) -> None:
        """The line is left out of the report, and told."""
        town.cloud.say(f"{ROOT}/aggregate/usage", default=answer)
        report = report_monthly(town.connect(), date(2021, 3, 1))
        assert [f["id"] for f in report.table.facts["failed"]] == ["power aggregate usage"]
        assert "power aggregate usage" not in [row[0] for row in report.table.rows]

    def test_a_sum_without_rows_of_a_short_month_is_not_believed(self, town: Town) -> None:
        """February has 28 days, and is a whole month."""
        town.cloud.say(f"{ROOT}/aggregate/usage", default={"meter_count": 1, "sum_energy": 5})
        town.answers["07:1"] = lambda _: {"results": [], "sum_usage": 12}
        report = report_monthly(town.connect(), date(2021, 2, 1), include_per_meter_sum=True)
        (failure,) = report.table.facts["failed"]
        assert "own sum says 12" in failure["reason"]

    def test_a_report_leaves_out_what_it_cannot_believe(self, town: Town) -> None:
        """A total of which one meter's answer is none is not made."""
        town.cloud.say(f"{ROOT}/aggregate/usage", default={"meter_count": 1, "sum_energy": 5})
        town.answers["07:1"] = lambda _: {"error": "upstream timed out"}
        report = report_monthly(town.connect(), date(2021, 3, 1), include_per_meter_sum=True)
        assert [f["id"] for f in report.table.facts["failed"]] == ["07:1"]
        assert "power cumulative per-meter usage" not in [row[0] for row in report.table.rows]

    def test_a_sum_that_is_left_out_is_added_up(self, town: Town) -> None:
        """Rows without a sum are no meter without use."""
        town.cloud.say(f"{ROOT}/aggregate/usage", default={"meter_count": 1, "sum_energy": 5})
        town.answers["07:1"] = lambda asked: {
            "results": [row(t, 2.0) for t in (asked.start_s, asked.end_s)]
        }
        report = report_monthly(town.connect(), date(2021, 3, 1), include_per_meter_sum=True)
        sums = {row[0]: row[1] for row in report.table.rows}
        assert sums["power cumulative per-meter usage"] == 2.0


def said(answer: Any) -> Any:
    from cloud.mini_cloud import Said

    return Said(body=answer)


def test_the_reason_names_no_address(town: Town) -> None:
    """Only what was asked and what was wrong with the answer."""
    town.answers["07:1"] = lambda _: {"error": "x"}
    with pytest.raises(CloudError) as caught:
        town.connect().client.fetch_series("07:1", "usage", DAY_WINDOW, "hour")
    assert str(caught.value) == (
        "usage of meter 07:1 from 2021-03-02T07:00:00Z to 2021-03-03T07:00:00Z: "
        "the cloud answered 200 with an error: x."
    )


def test_a_meter_that_moved_keeps_its_instants(town: Town) -> None:
    """Its zone changed between two runs: what is held stands at the local times of the new one."""
    request = SeriesRequest("usage", YESTERDAY.start, YESTERDAY.end, "hour", layout="plain")

    def until(hour: int) -> Callable[[Question], Any]:
        end_s = int(datetime(2021, 5, 2, hour, tzinfo=UTC).timestamp())
        return lambda asked: body([row(t) for t in asked.ends() if t <= end_s], asked.start_s)

    town.answers["07:1"] = until(23)
    assert download(town, request).facts["to_come"] == 7
    premise = {"id": "p0", "created_at": "2020-01-01T00:00:00Z", "timezone": "America/Chicago"}
    town.cloud.say(f"{ROOT}/premise", default=[premise])
    town.answers["07:1"] = until(13)
    facts = download_series(town.connect(use_cache=False), request, town.output()).facts
    assert facts["to_come"] == 6  # the day of Chicago ends an hour earlier
    assert [time for time, amount in amounts_of(town).items() if amount] == [
        f"2021-05-02 {hour:02d}:00:00" for hour in range(19)
    ]
