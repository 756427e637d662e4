"""What is waited for, told and asked again: nothing is given up too early or believed too long."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from held import new_archive

from copper_cli.jobs.dump import DumpRequest, dump_days
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.jobs.monthly import report_monthly
from copper_cli.table import Table
from copper_cli.work.meter_series import SeriesRequest

from .test_answers import as_version_1
from .town import ROOT, H, Question, Town, body, row, whole

DAY = SeriesRequest("usage", date(2021, 3, 2), date(2021, 3, 3), "hour")
YESTERDAY = SeriesRequest("usage", date(2021, 5, 2), date(2021, 5, 3), "hour")


def download(town: Town, request: SeriesRequest, **how: Any) -> Table:
    return download_series(town.connect(), request, town.output(**how))


def later(town: Town, **time: float) -> None:
    town.clock.set(town.clock.instant() + timedelta(**time))


def left_out(*hours: int) -> Callable[[Question], Any]:
    """The whole answer without the rows of these hours."""

    def answer(asked: Question) -> dict[str, Any]:
        found = whole(asked)
        kept = [r for i, r in enumerate(found["results"]) if i not in hours]
        return body(kept, asked.start_s)

    return answer


def silent(asked: Question) -> dict[str, Any]:
    """A rightful answer without a row."""
    return body([], asked.start_s)


def of_days(amount: float | None) -> Callable[[Question], Any]:
    """A row at the start and one at the end of the window, as for `day` and `month`."""

    def answer(asked: Question) -> dict[str, Any]:
        return body([row(asked.start_s, amount), row(asked.end_s, amount)], asked.start_s)

    return answer


@pytest.mark.parametrize(
    ("command", "granularity"), [("usage", "day"), ("usage", "month"), ("dump", "day")]
)
@pytest.mark.parametrize("answer", [silent, of_days(None)])
def test_the_first_bucket_of_a_young_meter_comes_in_the_end(
    town: Town, command: str, granularity: str, answer: Callable[[Question], Any]
) -> None:
    """Created on the day, or in the month, that is asked for: without data yet it is to come, then
    late, and once the cloud has it, it is there."""
    town.created["07:1"] = "2021-05-02T18:00:00Z"
    town.settle("07:1")
    end = date(2021, 5, 3) if granularity == "day" else date(2021, 6, 1)
    usage = SeriesRequest("usage", date(2021, 5, 2), end, granularity)
    dump = DumpRequest("d", date(2021, 5, 2), date(2021, 5, 2), granularity, None, "rows")

    def run() -> Table:
        if command == "usage":
            return download(town, usage)
        return dump_days(town.connect(), dump, town.output())

    if granularity == "month":
        town.clock.set(datetime(2021, 6, 1, 12, tzinfo=UTC))
    town.answers["07:1"] = answer
    facts = run().facts
    assert (facts["waiting"], facts["to_come"]) == (1, 1)
    later(town, days=5)
    assert run().facts["late"] == 1
    town.answers["07:1"] = of_days(3.0)
    later(town, days=4)
    assert run().facts["done"] == 1


def test_the_odd_bihour_of_spring_is_waited_for(town: Town) -> None:
    """The last bucket of the day the clocks went forward is an hour long: null at first, it is to
    come, and asked for again."""
    town.clock.set(datetime(2021, 5, 3, tzinfo=UTC))
    request = SeriesRequest("usage", date(2022, 3, 13), date(2022, 3, 14), "bihour")
    town.clock.set(datetime(2022, 3, 14, 8, tzinfo=UTC))
    end_s = int(datetime(2022, 3, 14, 6, tzinfo=UTC).timestamp())
    has_last = False

    def answer(asked: Question) -> dict[str, Any]:
        ends = sorted({*asked.ends(2 * H), *([end_s] if asked.end_s == end_s else [])})
        rows = [row(t, 0.5 if has_last or t < end_s else None) for t in ends]
        for one in rows:
            one["value"] = None
        return {**body(rows, asked.start_s), "sum_usage": None}

    town.answers["07:1"] = answer
    assert download(town, request).facts["to_come"] == 1
    has_last = True
    assert download(town, request).facts["to_come"] == 0


class TestBaselines:
    """Beside the usage, by the same rule."""

    REQUEST = SeriesRequest("usage", DAY.start, DAY.end, "hour", baseline=True)

    def say(self, town: Town, answer: Callable[[Question], Any]) -> None:
        town.answers["07:1/baseline-series"] = answer

    @pytest.fixture
    def based(self, town: Town) -> Town:
        town.settle("07:1")
        return town

    @staticmethod
    def series(asked: Question, hours: Sequence[int]) -> dict[str, Any]:
        ends = asked.ends()
        rows = [
            {"time": row(ends[i])["time"], "energy": 0.4, "power": 0.4}
            for i in hours
            if i < len(ends)
        ]
        return {"sum_energy": 0.4 * len([i for i in hours if i]), "series": rows}

    def test_holes_are_counted_and_asked_for_again(self, based: Town) -> None:
        """8 hours of the baseline are absent; `--recheck` brings them."""
        self.say(based, lambda asked: self.series(asked, [*range(3), *range(11, 25)]))
        assert download(based, self.REQUEST).facts["missing"] == 8
        self.say(based, lambda asked: self.series(asked, range(25)))
        assert download(based, self.REQUEST, recheck=True).facts["missing"] == 0
        assert sum("baseline_result__" in line for line in based.lines()) == 25

    def test_one_that_is_not_there_is_no_loss_and_may_come(self, based: Town) -> None:
        """Nothing is told of it, and `--recheck` asks for it."""
        self.say(based, lambda _: {"series": None})
        facts = download(based, self.REQUEST).facts
        assert (facts["done"], facts["missing"], facts["late"]) == (1, 0, 0)
        self.say(based, lambda asked: self.series(asked, range(25)))
        download(based, self.REQUEST, recheck=True)
        assert sum("baseline_result__" in line for line in based.lines()) == 25


def test_a_meter_without_any_late_hour_is_told(town: Town) -> None:
    """It is `empty` so far, and its hours are late: they may still come."""
    town.answers["07:1"] = silent
    later(town, days=4)
    for _ in range(2):
        facts = download(town, YESTERDAY).facts
        assert (facts["empty"], facts["late"], facts["missing"]) == (1, 24, 0)
        assert facts["unfilled"] == [{"id": "07:1", "late": 24, "missing": 0}]
    later(town, days=40)
    facts = download(town, YESTERDAY).facts
    assert (facts["empty"], facts["late"], facts["missing"]) == (1, 0, 0)


def test_a_known_sum_is_not_replaced_by_nothing(town: Town) -> None:
    """The cloud has lost rows and sum: the file keeps both."""
    town.answers["07:1"] = left_out(10, 11, 12)
    download(town, DAY)
    assert town.entry()["facts"]["sum_energy"] == 10.5
    town.answers["07:1"] = lambda asked: {**silent(asked), "sum_usage": None}
    download(town, DAY, recheck=True)
    assert town.entry()["facts"]["sum_energy"] == 10.5
    assert len(town.lines()) == 22


def test_a_net_meters_lost_rows_count_with_their_sign(town: Town) -> None:
    """Twelve hours used and twelve given back: the rows that stay make the sum, not the larger."""

    noon_s = int(datetime(2021, 3, 2, 19, tzinfo=UTC).timestamp())

    def net(asked: Question, gone: bool) -> dict[str, Any]:
        ends = [t for t in asked.ends() if t != noon_s - 9 * H and not (gone and t > noon_s)]
        return body([row(t, 0.5 if t <= noon_s else -0.75) for t in ends], asked.start_s)

    town.answers["07:1"] = lambda asked: net(asked, gone=False)
    download(town, DAY)
    town.answers["07:1"] = lambda asked: net(asked, gone=True)
    download(town, DAY, recheck=True)
    assert len(town.lines()) == 24
    assert town.entry()["facts"]["sum_energy"] == pytest.approx(11 * 0.5 - 12 * 0.75)


class TestRecheck:
    """Whatever was kept is asked for again: in the archive, in a folder, after a failed try."""

    def fill(self, town: Town) -> None:
        town.answers["07:1"] = left_out(10, 11, 12)
        assert download(town, DAY).facts["missing"] == 3
        del town.answers["07:1"]

    def test_into_another_folder(self, town: Town) -> None:
        """The cache has the answer with the holes."""
        self.fill(town)
        output = town.output("other", recheck=True)
        assert download_series(town.connect(), DAY, output).facts["missing"] == 0

    def test_after_a_recheck_that_failed(self, town: Town) -> None:
        """The next one asks again."""
        self.fill(town)
        town.answers["07:1"] = lambda _: {"error": "down"}
        assert download(town, DAY, recheck=True).facts["failed"]
        del town.answers["07:1"]
        assert download(town, DAY, recheck=True).facts["missing"] == 0

    def test_after_a_run_that_was_not_finished(self, town: Town) -> None:
        """Days that it was answered lie in a draft, with their holes."""
        request = SeriesRequest("usage", date(2021, 3, 1), date(2021, 3, 4), "hour", step_days=1)
        days = 0

        def holed(asked: Question) -> Any:
            nonlocal days
            days += 1
            return left_out(10, 11)(asked) if days < 3 else {"error": "down"}

        town.answers["07:1"] = holed
        assert download(town, request).facts["failed"]
        del town.answers["07:1"]
        facts = download(town, request, recheck=True).facts
        assert (facts["missing"], facts["done"]) == (0, 1)

    def test_the_plan_knows(self, town: Town) -> None:
        """What it says is what is then done."""
        self.fill(town)
        plan = estimate_series(town.connect(), DAY, town.output(recheck=True)).facts
        before = town.asked()
        download(town, DAY, recheck=True)
        assert town.asked() - before == plan["to_ask"] == 1


@pytest.mark.parametrize("says_when", [True, False])
def test_a_folder_of_an_older_version_is_looked_through_for_holes(
    town: Town, says_when: bool
) -> None:
    """Its manifest says `fetched`, and nothing of what its files lack: what is younger than thirty
    days is asked for once."""
    town.settle("07:1", "07:2")
    town.answers["07:1"] = left_out(10, 11)
    later(town, days=4)
    download(town, YESTERDAY)
    path = town.folder / "out" / "manifest.json"
    old = as_version_1(json.loads(path.read_text()))
    for entry in old["files"].values():
        entry["state"] = "fetched"
        entry["windows"] = entry["windows"] if says_when else []
    path.write_text(json.dumps(old))
    del town.answers["07:1"]
    town.archive = new_archive()
    before = town.asked()
    facts = download_series(town.connect(use_cache=False), YESTERDAY, town.output()).facts
    assert town.asked() - before == 2
    assert facts["late"] == 0
    assert len(town.lines()) == 25
    download_series(town.connect(use_cache=False), YESTERDAY, town.output())
    assert town.asked() - before == 2


def test_a_failed_try_says_what_it_cost(town: Town) -> None:
    """In the manifest."""
    town.answers["07:1"] = lambda _: {"error": "down"}
    download(town, DAY)
    assert town.entry()["calls"] == 1


@pytest.mark.parametrize("lag", [8, 30])
def test_what_a_fleet_has_not_got_yet_is_asked_for_once(town: Town, lag: int) -> None:
    """A cloud that leaves out the last hours: that nothing comes after them is found out by the
    first meters, not by each of 25."""
    ids = [f"07:{n}" for n in range(1, 26)]
    town.settle(*ids)

    def lagging(asked: Question, hours: int) -> dict[str, Any]:
        rows = [row(t) for t in asked.ends() if t <= asked.now_s - hours * H]
        return body(rows, asked.start_s, None)

    for n, meter_id in enumerate(ids):
        hours = lag + n % 3
        town.answers[meter_id] = lambda asked, hours=hours: lagging(asked, hours)
    request = SeriesRequest("usage", date(2021, 5, 1), date(2021, 5, 3), "hour")
    town.clock.set(datetime(2021, 5, 3, 8, tzinfo=UTC))
    facts = download(town, request).facts
    assert facts["to_come"] > 0
    assert town.asked() <= 25 + 3


def test_registers_of_two_decimals_are_no_missing_hours(town: Town) -> None:
    """A gas meter's summer day: 24 × 0.0143 against a sum of 0.35."""
    town.answers["07:1"] = lambda asked: {
        **body([row(t, 0.0143) for t in asked.ends()], asked.start_s),
        "sum_usage": 0.35,
    }
    context = town.connect()
    assert download_series(context, DAY, town.output()).facts["missing"] == 0
    assert context.progress.lines == []  # type: ignore[attr-defined]


def test_gas_as_energy_is_not_added_to_gas_as_volume(town: Town) -> None:
    """Two meters of one type, two units: a line each."""
    town.settle("07:1", "07:2")
    meters = [
        dict(m, type="gas", uom=u) for m, u in zip(town.meters, ("therm", "ccf"), strict=True)
    ]
    town.cloud.say(f"{ROOT}/meter", default=meters)
    town.cloud.say(f"{ROOT}/aggregate/usage", default={"meter_count": 2, "sum_energy": 5})
    for meter_id, used in (("07:1", 2.0), ("07:2", 3.0)):
        town.answers[meter_id] = lambda asked, used=used: {"sum_usage": used, "results": []}
    town.answers["07:1"] = lambda asked: body(
        [row(asked.start_s), row(asked.end_s, 2.0)], asked.start_s
    )
    town.answers["07:2"] = lambda asked: body(
        [row(asked.start_s), row(asked.end_s, 3.0)], asked.start_s, "07:2"
    )
    report = report_monthly(town.connect(), date(2021, 3, 1), include_per_meter_sum=True)
    found = [tuple(r[:3]) for r in report.table.rows if "usage" in r[0]]
    assert found == [
        ("gas cumulative per-meter usage", 2.0, "therm"),
        ("gas cumulative per-meter usage", 3.0, "ccf"),
        ("gas aggregate usage", 5, None),
    ]


def test_short_answers_of_another_granularity_fail(town: Town) -> None:
    """Two rows a call, a quarter of an hour apart: the whole is not by the hour."""
    town.answers["07:1"] = lambda asked: body(
        [row(t) for t in asked.ends(900)[:2]], asked.start_s, None
    )
    request = SeriesRequest("usage", date(2021, 3, 2), date(2021, 3, 3), "hour")
    (failure,) = download(town, request).facts["failed"]
    assert "finer than was asked for" in failure["reason"]


def test_a_row_before_the_range_is_no_evidence_for_it(town: Town) -> None:
    """Only the row at START, and a sum of 12: the cloud has more than it says."""
    town.answers["07:1"] = lambda asked: {
        **body([row(asked.start_s)], asked.start_s),
        "sum_usage": 12.0,
    }
    facts = download(town, DAY).facts
    assert "own sum says 12" in facts["failed"][0]["reason"]
    del town.answers["07:1"]
    assert download(town, DAY).facts["done"] == 1


@pytest.mark.parametrize("granularity", ["day", "month"])
def test_a_bucket_that_is_not_over_is_asked_for_again(town: Town, granularity: str) -> None:
    """Today's amount grows: it is to come until its day is over, asked for by each run an hour
    later or more, and that it grows is no correction."""

    def growing(asked: Question) -> dict[str, Any]:
        start = datetime.fromtimestamp(asked.start_s, UTC)
        rows = [row(asked.end_s, (asked.now_s - asked.start_s) / H)]
        return body(rows, int(start.timestamp()))

    town.answers["07:1"] = growing
    request = SeriesRequest("usage", date(2021, 5, 3), date(2021, 5, 4), granularity)
    if granularity == "month":
        request = replace(request, start=date(2021, 5, 1), end=date(2021, 6, 1))
    first = download(town, request)
    assert (first.facts["to_come"], town.asked()) == (1, 1)
    assert download(town, request).facts["calls"] <= 2  # a moment later it is not asked for
    assert town.asked() == 1
    amounts = [town.lines()[-1].split(",")[10]]
    for _ in range(2):
        later(town, hours=2)
        facts = download(town, request).facts
        assert (facts["changed"], facts["to_come"]) == (0, 1)
        amounts.append(town.lines()[-1].split(",")[10])
    assert town.asked() == 3
    assert len(set(amounts)) == 3
    later(town, days=40)
    assert download(town, request).facts["to_come"] == 0
    asked = town.asked()
    later(town, days=1)
    download(town, request)
    assert town.asked() == asked
