"""Rows in few calls: limits are found, remembered and found anew; nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from held import fetch_series, new_archive

from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.jobs.interval import download_series
from copper_cli.plan import plan_series
from copper_cli.records import Series
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.series import EMPTY
from copper_cli.work.context import Context, Output, Silent
from copper_cli.work.fetch_rows import count_calls
from copper_cli.work.meter_series import SeriesRequest

PHOENIX = ZoneInfo("America/Phoenix")
DENVER = ZoneInfo("America/Denver")
NOW = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = 3600
YEAR = (date(2022, 1, 1), date(2023, 1, 1))
YEAR_ROWS = 365 * 24 + 1


def amount(time_s: int) -> float:
    """What is used in the hour that ends then: 1 to 11, no two neighbours alike."""
    return float(time_s // HOUR % 11 + 1)


class PlainCloud:
    """Hours in a few lines; counts what it is asked. `rows_at(time)` says None to leave it out."""

    def __init__(self, **options) -> None:
        self.options = SimpleNamespace(
            refuse_over=None, cap=None, sum_of_rows=False, until=None, gap=(0, 0),
            first_row=True, registers=True, sums=True, always_400=False,
        )  # fmt: skip
        self.__dict__["asked"] = []
        self.set(**options)

    def set(self, **options) -> None:
        self.options.__dict__.update(options)

    def fetch_series(self, meter_id, kind, window, granularity):
        o = self.options
        start, end = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        self.asked.append((start, end))
        if o.always_400 or (o.refuse_over and (end - start) // HOUR + 1 > o.refuse_over):
            raise BadRequestError("too much asked for")
        times = [
            t
            for t in range(start if o.first_row else start + HOUR, end + 1, HOUR)
            if (o.until is None or t <= o.until) and not o.gap[0] < t <= o.gap[1]
        ]
        whole = self.total(start, min(end, o.until or end))
        if o.cap and len(times) > o.cap:
            times = times[: o.cap]
            if o.sum_of_rows:
                whole = self.total(start, times[-1])
        energy = [amount(t) for t in times]
        value = [self.total(0, t) if o.registers else None for t in times]
        return Series(times, energy, energy, value, value, whole if o.sums else None)

    @staticmethod
    def total(start: int, end: int) -> float:
        """In closed form: 66 in each eleven hours."""

        def since_1970(time_s: int) -> float:
            whole, left = divmod(time_s // HOUR, 11)
            return 66 * whole + sum(n % 11 + 1 for n in range(1, left + 1))

        return float(since_1970(end) - since_1970(start))


def on(cloud, book=None, now=NOW, archive=None) -> Context:
    book, archive = book or SpanBook(None, now.timestamp), archive or new_archive()
    return Context(cloud, None, book, now.timestamp, lambda s: None, Silent(), archive)


def midnight(day: date) -> int:
    """In Phoenix, seven hours behind all year."""
    return int(datetime(day.year, day.month, day.day, 7, tzinfo=UTC).timestamp())


def fetch(cloud, book=None, days=YEAR, now=NOW, archive=None):
    """The year's rows, and what the cloud was asked for them."""
    before = len(cloud.asked)
    plan = plan_series(*days, PHOENIX, "hour")
    series = fetch_series(on(cloud, book, now, archive), "m", "usage", plan)
    return series, cloud.asked[before:]


def check_year(series, days=YEAR) -> None:
    first, last = midnight(days[0]), midnight(days[1])
    assert list(series.times_s) == list(range(first, last + 1, HOUR))
    assert list(series.energy) == [amount(t) for t in series.times_s]
    assert series.sum_energy == pytest.approx(PlainCloud.total(first, last), abs=1e-6)


@pytest.fixture
def book(tmp_path):
    return lambda now=NOW: SpanBook(tmp_path / "spans.json", now.timestamp)


def know(book, hours: int) -> None:
    """Have a book hold that so many are granted and not one more."""
    for _ in range(2):
        book.cut("hour", hours)


# One call where one will do


def test_a_year_is_one_call_where_the_cloud_allows_it():
    """8761 rows, one question."""
    cloud = PlainCloud()
    series, asked = fetch(cloud)
    check_year(series)
    assert len(asked) == 1


def test_nothing_to_ask_costs_nothing():
    """An empty plan is an empty series."""
    cloud = PlainCloud()
    assert fetch(cloud, days=(date(2022, 1, 1), date(2022, 1, 1)))[0] == EMPTY
    assert cloud.asked == []


def test_a_question_never_holds_more_rows_than_memory_bears():
    """Twelve years of hours are 105,192 rows: two calls."""
    cloud = PlainCloud()
    days = (date(2010, 1, 1), date(2022, 1, 1))
    series, asked = fetch(cloud, days=days)
    check_year(series, days)
    assert [round((end - start) / HOUR) + 1 for start, end in asked] == [99_985, 5209]


# Refusals


@pytest.mark.parametrize("limit", [24, 101, 499, 743, 744, 999, 2879, 4379, 8759])
def test_a_refused_window_is_asked_in_parts(book, limit):
    """Same rows, same sum. The first year takes eleven calls more than the fewest at most, twenty
    years, each by a run of its own, 18 more; what is planned then are the fewest."""
    cloud = PlainCloud(refuse_over=limit + 1)
    runs = [fetch(cloud, book()) for _ in range(20)]
    check_year(runs[0][0])
    check_year(runs[-1][0])
    fewest = -(-365 * 24 // limit)
    assert len(runs[0][1]) <= fewest + 11
    assert sum(len(asked) for _, asked in runs) <= 20 * fewest + 18
    plan = plan_series(*YEAR, PHOENIX, "hour")
    assert count_calls(on(cloud, book()), "m", "usage", plan).calls == fewest


def test_a_month_a_call_is_found_in_seventeen_calls(book):
    """31 days: 12 calls are needed; with the search 17, next time 12, and none is refused."""
    cloud = PlainCloud(refuse_over=745)
    assert len(fetch(cloud, book())[1]) <= 17
    _, asked = fetch(cloud, book())
    assert len(asked) == 12
    assert max((end - start) // HOUR + 1 for start, end in asked) <= 745
    plan = plan_series(*YEAR, PHOENIX, "hour")
    assert count_calls(on(cloud, book()), "m", "usage", plan).calls == 12


def test_parts_begin_at_the_midnight_of_the_window_where_they_can():
    """Where that costs no call: 20 days and 20 hours need 18 calls a year, 20 days 19, but 31 days
    and an hour no fewer than 31 days."""
    for limit, whole in ((745, True), (500, False)):
        book = SpanBook(None, NOW.timestamp)
        know(book, limit)
        _, asked = fetch(PlainCloud(refuse_over=limit + 1), book)
        assert len(asked) == -(-365 * 24 // limit)
        assert all((start - asked[0][0]) % 86400 == 0 for start, _ in asked) is whole


def test_the_limit_is_found_anew_when_the_cloud_becomes_stricter(book):
    """From 90 days to 10: the refusals cost few calls, the limit then holds."""
    know(book(), 90 * 24)
    cloud = PlainCloud(refuse_over=10 * 24 + 1)
    runs = [fetch(cloud, book()) for _ in range(10)]
    check_year(runs[0][0])
    assert len(runs[0][1]) <= 37 + 11
    assert sum(len(asked) for _, asked in runs) <= 10 * 37 + 18


def test_a_more_generous_cloud_is_noticed_within_a_week(book):
    """After seven days a longer part is asked for; granted, the rest is asked at once, and then
    there is no limit."""
    know(book(), 744)
    cloud = PlainCloud()
    assert len(fetch(cloud, book())[1]) == 12
    later = NOW + timedelta(days=7, seconds=1)
    assert len(fetch(cloud, book(later))[1]) == 2
    assert len(fetch(cloud, book(later))[1]) == 1


def test_a_limit_that_still_holds_after_a_week_costs_one_refusal(book):
    """What was granted before is asked at once after it."""
    know(book(), 744)
    cloud = PlainCloud(refuse_over=745)
    later = NOW + timedelta(days=7, seconds=1)
    assert len(fetch(cloud, book(later))[1]) == 13


def test_a_meter_refused_at_any_length_teaches_nothing(book):
    """It fails once a window of one bucket is refused (ten calls), and the others
    are asked as before; where others were granted some, two calls tell."""
    sick = PlainCloud(always_400=True)
    with pytest.raises(BadRequestError):
        fetch(sick, book())
    assert len(sick.asked) <= 10
    assert len(fetch(PlainCloud(), book())[1]) == 1
    well = PlainCloud(refuse_over=745)
    know(book(), 744)
    before = len(sick.asked)
    with pytest.raises(BadRequestError):
        fetch(sick, book())
    assert len(sick.asked) == before + 2
    assert len(fetch(well, book())[1]) == 12


def test_refused_months_are_not_split():
    """Their rows are few: the length is not what the cloud minds."""
    cloud = PlainCloud(always_400=True)
    plan = plan_series(*YEAR, PHOENIX, "month")
    with pytest.raises(BadRequestError):
        fetch_series(on(cloud), "m", "usage", plan)
    assert len(cloud.asked) == 1


# Answers cut short


@pytest.mark.parametrize("sum_of_rows", [True, False])
@pytest.mark.parametrize("registers", [True, False])
@pytest.mark.parametrize("cap", [100, 745, 1000, 2921, 4381, 8760])
def test_a_cut_answer_is_continued(book, cap, registers, sum_of_rows):
    """Same rows and sum, whether the sum is of the rows or of the window; a call a `cap` rows."""
    cloud = PlainCloud(cap=cap, registers=registers, sum_of_rows=sum_of_rows)
    series, asked = fetch(cloud, book())
    check_year(series)
    bound = -(-(YEAR_ROWS - 1) // (cap - 1))
    assert len(asked) == bound
    again, asked = fetch(cloud, book())
    check_year(again)
    assert len(asked) == bound


def test_a_cut_is_remembered_and_met(book):
    """After two equal lengths the next run asks for what it gets: 31 days, each whole."""
    cloud = PlainCloud(cap=745)
    fetch(cloud, book())
    plan = plan_series(*YEAR, PHOENIX, "hour")
    assert count_calls(on(cloud, book()), "m", "usage", plan).calls == 12
    _, asked = fetch(cloud, book())
    assert {(end - start) // HOUR + 1 for start, end in asked[:-1]} == {745}


@pytest.mark.parametrize("sum_of_rows", [True, False])
def test_a_cut_limit_that_changes_is_learned_anew(book, sum_of_rows):
    """Stricter at once; more generous after a week."""
    cloud = PlainCloud(cap=745, sum_of_rows=sum_of_rows)
    fetch(cloud, book())
    cloud.set(cap=241)
    check_year(fetch(cloud, book())[0])
    assert len(fetch(cloud, book())[1]) == 37
    cloud.set(cap=None)
    later = NOW + timedelta(days=7, seconds=1)
    check_year(fetch(cloud, book(later))[0])
    assert len(fetch(cloud, book(later))[1]) == 1


@pytest.mark.parametrize("sum_of_rows", [True, False])
def test_the_sum_of_cut_answers_counts_a_gap_once(sum_of_rows):
    """400 hours are missing in the first part; the cloud's sums hold them. The registers tell
    that the rows' own sums are meant, or the window's."""
    first = midnight(YEAR[0])
    days = (date(2022, 1, 1), date(2022, 3, 1))
    cloud = PlainCloud(
        cap=745, sum_of_rows=sum_of_rows, gap=(first + 10 * HOUR, first + 410 * HOUR)
    )
    series, _ = fetch(cloud, days=days)
    assert len(series.times_s) == 59 * 24 + 1 - 400
    assert series.sum_energy == PlainCloud.total(first, midnight(days[1]))


@pytest.mark.parametrize("sum_of_rows", [True, False])
def test_the_sum_of_cut_answers_without_the_row_at_the_start(sum_of_rows):
    """Whether or not the cloud gives that row, it belongs to no sum."""
    cloud = PlainCloud(cap=745, sum_of_rows=sum_of_rows, first_row=False, registers=False)
    series, _ = fetch(cloud)
    first, last = (midnight(day) for day in YEAR)
    assert list(series.times_s) == list(range(first + HOUR, last + 1, HOUR))
    assert series.sum_energy == PlainCloud.total(first, last)


def test_cut_answers_without_sums_have_none():
    """Unknown is not 0."""
    series, _ = fetch(PlainCloud(cap=745, sums=False))
    assert len(series.times_s) == YEAR_ROWS
    assert series.sum_energy is None


def test_gaps_and_no_registers_leave_the_known_amounts():
    """Then the nearest sum is told from the amounts there are: a gap of 20 hours misleads none."""
    first = midnight(YEAR[0])
    for sum_of_rows in (True, False):
        cloud = PlainCloud(
            cap=745, registers=False, sum_of_rows=sum_of_rows,
            gap=(first + 10 * HOUR, first + 30 * HOUR),
        )  # fmt: skip
        null_gap = cloud.fetch_series

        def with_nulls(*question, ask=null_gap, **how):
            answer = ask(*question, **how)
            hole = range(first + 11 * HOUR, first + 30 * HOUR + 1, HOUR)
            rows = sorted([*zip(answer.times_s, answer.energy, strict=True),
                           *((t, None) for t in hole if answer.times_s[0] < t)])  # fmt: skip
            times, energy = [t for t, _ in rows], [e for _, e in rows]
            none = [None] * len(rows)
            return Series(times, energy, energy, none, none, answer.sum_energy)

        cloud.fetch_series = with_nulls
        series, _ = fetch(cloud)
        assert series.sum_energy == PlainCloud.total(first, midnight(YEAR[1]))


# Data that end


def test_data_that_end_early_cost_one_call_more(book):
    """Nothing later comes: that is the cloud's end, and no limit."""
    end = midnight(date(2022, 6, 1))
    cloud = PlainCloud(until=end)
    series, asked = fetch(cloud, book())
    assert series.times_s[-1] == end
    assert asked == [(midnight(YEAR[0]), midnight(YEAR[1])), (end, midnight(YEAR[1]))]
    assert series.sum_energy == PlainCloud.total(midnight(YEAR[0]), end)
    assert book().expect("hour", YEAR_ROWS) == YEAR_ROWS


def test_a_meter_with_no_row_but_the_first_is_not_asked_twice():
    """What lies after the window's own start has just been asked."""
    cloud = PlainCloud(until=midnight(YEAR[0]))
    _, asked = fetch(cloud)
    assert len(asked) == 1
    cloud = PlainCloud(until=midnight(YEAR[0]) - 1)
    assert not fetch(cloud)[0].times_s
    assert len(cloud.asked) == 1


def test_a_gap_inside_an_answer_is_no_reason_to_ask_again():
    """A hundred hours in the middle that the cloud leaves out stay out."""
    first = midnight(YEAR[0])
    series, asked = fetch(PlainCloud(gap=(first + 1000 * HOUR, first + 1100 * HOUR)))
    assert len(asked) == 1
    assert len(series.times_s) == YEAR_ROWS - 100


def test_nothing_is_asked_of_hours_to_come():
    """Now is 2022-06-01 00:30 in Phoenix: rows end at midnight, and that is no cut."""
    end = midnight(date(2022, 6, 1))
    now = datetime.fromtimestamp(end + 1800, UTC)
    _, asked = fetch(PlainCloud(until=end), now=now)
    assert len(asked) == 1


def test_a_row_that_comes_in_between_two_calls_is_no_limit(book):
    """The data ended, and a moment later there is an hour more: nothing is learned from it."""
    end = midnight(date(2022, 1, 2))
    cloud = PlainCloud(until=end)
    ask = cloud.fetch_series

    def growing(*question, **how):
        answer = ask(*question, **how)
        cloud.set(until=cloud.options.until + HOUR)
        return answer

    cloud.fetch_series = growing
    now = datetime.fromtimestamp(end + 1.5 * HOUR, UTC)
    series, asked = fetch(cloud, book(), now=now)
    assert len(asked) == 2
    assert series.times_s[-1] == end + HOUR
    assert book().expect("hour", YEAR_ROWS) == YEAR_ROWS


# Going on from what is held


def test_what_is_held_is_not_asked_again():
    """Half the year is there: the other half is asked, and the sum is the year's."""
    half, archive = date(2022, 7, 1), new_archive()
    fetch(PlainCloud(), days=(YEAR[0], half), archive=archive)
    series, asked = fetch(PlainCloud(), archive=archive)
    check_year(series)
    assert asked == [(midnight(half), midnight(YEAR[1]))]


def test_what_lies_between_is_asked_alone():
    """Spring and autumn are there: what is asked is what lies before, between and behind."""
    archive = new_archive()
    spring, autumn = (date(2022, 3, 1), date(2022, 6, 1)), (date(2022, 9, 1), date(2022, 12, 1))
    for days in (autumn, spring):
        fetch(PlainCloud(), days=days, archive=archive)
    series, asked = fetch(PlainCloud(), archive=archive)
    check_year(series)
    edges = [YEAR[0], *spring, *autumn, YEAR[1]]
    assert asked == [
        (midnight(a), midnight(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def test_a_gap_is_asked_for_again_and_nothing_else():
    """The cloud sent no row for some hours: when they are four days old they are due."""
    now = datetime(2022, 3, 2, 12, tzinfo=UTC)
    days = (date(2022, 1, 1), date(2022, 3, 1))
    end = midnight(days[1])
    gap = end - 40 * HOUR, end - 35 * HOUR
    archive = new_archive()
    fetch(PlainCloud(gap=gap), days=days, now=now, archive=archive)
    later = now + timedelta(days=2)
    series, asked = fetch(PlainCloud(), days=days, now=later, archive=archive)
    assert asked == [gap]
    assert list(series.energy) == [amount(t) for t in series.times_s]
    assert series.sum_energy is None  # its rows have changed since the cloud gave one


def test_all_is_held():
    """No call."""
    archive = new_archive()
    fetch(PlainCloud(), archive=archive)
    series, asked = fetch(PlainCloud(), archive=archive)
    check_year(series)
    assert asked == []


# Against the local cloud


def local_cloud(**options) -> Sandbox:
    now = options.pop("now", NOW)
    return Sandbox(
        SandboxConfig(premises=12, zones=("America/Denver",), now=now, quota=None, **options)
    )


def exact(cloud, meter, a: int, b: int) -> float:
    before, after = (
        cloud.fleet.register_at(meter.id, datetime.fromtimestamp(t, UTC)) for t in (a, b)
    )
    return after - before


def younger(cloud):
    """A meter born between 22 December 2020 and 12 January 2021."""
    christmas, new_year = (datetime(2020, 12, 22, tzinfo=UTC), datetime(2021, 1, 13, tzinfo=UTC))
    return next(m for m in cloud.fleet.meters() if christmas <= m.created_utc < new_year)


LIMITS = {
    "31 days": {"max_span": {"hour": "31d"}},
    "745 rows, the window's sum": {"cap_rows": 745},
    "745 rows and their sum": {"cap_rows": 745, "quirks": frozenset({"capped-sum"})},
}


@pytest.mark.parametrize("kind", ["usage", "baseline-series"])
@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_the_local_cloud(make_context, limit, kind):
    """A year of hours under each limit: every row and the sum as in closed form; 19 calls at
    most the first time, 12 the second, by another run."""
    plan = plan_series(*YEAR, DENVER, "hour")
    times = range(plan.start_s, plan.end_s + 1, HOUR)
    with local_cloud(**LIMITS[limit]) as cloud:
        meter = cloud.fleet.meter_at(0)
        registers = [exact(cloud, meter, 0, time_s) for time_s in times]
        factor = 1.0 if kind == "usage" else cloud.fleet.series_factor(meter.id, "baseline")
        for bound in (19, 12):
            before = cloud.calls
            series = fetch_series(make_context(cloud), meter.id, kind, plan)
            assert cloud.calls - before <= bound
            assert list(series.times_s) == list(times)
            wrong = [
                time_s
                for time_s, got, (a, b) in zip(
                    times[1:], series.energy[1:], pairwise(registers), strict=True
                )
                if abs(got - (b - a) * factor) > 1e-3
            ]
            assert wrong == []
            total = (registers[-1] - registers[0]) * factor
            assert series.sum_energy == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("quirk", ["capped-sum", "aligned-buckets"])
@pytest.mark.parametrize("granularity", ["bihour", "day"])
def test_limits_and_clock_changes_together(make_context, granularity, quirk):
    """100 rows an answer, over both changes of Denver: the rows and sum of no limit."""
    plan = plan_series(*YEAR, DENVER, granularity)
    with local_cloud(quirks=frozenset({quirk})) as free:
        meter = free.fleet.meter_at(0)
        expected = fetch_series(make_context(free), meter.id, "usage", plan)
    with local_cloud(quirks=frozenset({quirk}), cap_rows=100) as cloud:
        series = fetch_series(make_context(cloud), meter.id, "usage", plan)
        assert cloud.calls <= plan_rows(granularity) // 99 + 3
        assert list(series.times_s) == list(expected.times_s)
        assert list(series.energy) == pytest.approx(list(expected.energy), abs=0.011)
        total = exact(cloud, meter, plan.start_s, plan.end_s)
        assert series.sum_energy == pytest.approx(total, abs=1e-6)


def plan_rows(granularity: str) -> int:
    return {"bihour": 365 * 12, "day": 365}[granularity]


def test_a_meter_born_within_the_range(make_context):
    """It is asked from the local midnight of its first day; rows before its birth are null, the
    first amount is what it used since, and the sum is all it used."""
    with local_cloud() as cloud:
        meter = younger(cloud)
        created = meter.created_utc
        plan = plan_series(date(2020, 12, 1), date(2021, 2, 1), DENVER, "hour", created_utc=created)
        series = fetch_series(make_context(cloud), meter.id, "usage", plan)
        day = created.astimezone(DENVER).replace(hour=0, minute=0, second=0, microsecond=0)
        assert series.times_s[0] == day.timestamp()
        for time_s, energy in zip(series.times_s, series.energy, strict=True):
            if time_s < created.timestamp():
                assert energy is None
            else:
                assert energy == pytest.approx(exact(cloud, meter, time_s - HOUR, time_s), abs=1e-3)
        total = exact(cloud, meter, series.times_s[0], plan.end_s)
        assert series.sum_energy == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("quirk", [set(), {"aligned-buckets"}])
def test_a_younger_meters_months_are_those_of_the_others(make_context, quirk):
    """The first row is the midnight of its first day, then 1 February and 1 March; its first
    month holds what it used since it was born."""
    with local_cloud(quirks=frozenset(quirk)) as cloud:
        meter = younger(cloud)
        plan = plan_series(
            date(2020, 12, 1), date(2021, 3, 1), DENVER, "month", created_utc=meter.created_utc
        )
        series = fetch_series(make_context(cloud), meter.id, "usage", plan)
        firsts = [datetime(2021, m, 1, 7, tzinfo=UTC) for m in (1, 2, 3)]
        wanted = [int(t.timestamp()) for t in firsts if t > meter.created_utc]
        energies = dict(zip(series.times_s, series.energy, strict=True))
        assert energies.pop(plan.start_s, None) is None  # no local month ends there
        assert list(energies) == wanted
        for a, b in pairwise([plan.start_s, *wanted]):
            assert energies[b] == pytest.approx(exact(cloud, meter, a, b), abs=0.011)


@pytest.mark.parametrize("created_day", [date(2022, 3, 12), date(2022, 3, 13)])
@pytest.mark.parametrize("kind", ["usage", "baseline-series"])
def test_a_first_day_that_is_odd(make_context, monkeypatch, created_day, kind):
    """Born at 10 in the morning on or before the day of 23 hours: that day's row holds what
    it used of it, registers or not."""
    born = datetime(*created_day.timetuple()[:3], 17, tzinfo=UTC)
    with local_cloud() as cloud:
        find = cloud.fleet.find_meter
        monkeypatch.setattr(cloud.fleet, "find_meter", lambda i: replace(find(i), created_utc=born))
        meter = cloud.fleet.find_meter(cloud.fleet.meter_at(0).id)
        factor = 1.0 if kind == "usage" else cloud.fleet.series_factor(meter.id, "baseline")
        plan = plan_series(date(2022, 3, 1), date(2022, 3, 16), DENVER, "day", created_utc=born)
        series = fetch_series(make_context(cloud), meter.id, kind, plan)
        assert series.times_s[0] == plan.start_s
        assert series.energy[0] is None
        for (a, b), energy in zip(pairwise(series.times_s), series.energy[1:], strict=True):
            assert energy == pytest.approx(exact(cloud, meter, a, b) * factor, abs=0.011)
        short = plan_series(date(2022, 3, 1), date(2022, 3, 14), DENVER, "day", created_utc=born)
        series = fetch_series(make_context(cloud), meter.id, kind, short)
        used = exact(cloud, meter, *series.times_s[-2:]) * factor
        assert series.energy[-1] == pytest.approx(used, abs=0.011)


def test_a_meter_born_after_the_end_costs_no_call(make_context, tmp_path):
    """Twelve premises, two meters born later: a call for the meters, one for the premises' zones
    and one for each of the others."""
    request = SeriesRequest("usage", date(2020, 12, 1), date(2020, 12, 8), "hour")
    with local_cloud() as cloud:
        older = [
            m for m in cloud.fleet.meters() if m.created_utc < datetime(2020, 12, 8, 7, tzinfo=UTC)
        ]
        assert len(older) == cloud.fleet.meter_count - 2
        table = download_series(make_context(cloud), request, Output(tmp_path / "out"))
        assert cloud.calls == 2 + len(older)
        assert {row[0] for row in table.rows} == {meter.id for meter in older}


@pytest.mark.parametrize("quirk", [set(), {"aligned-buckets"}])
@pytest.mark.parametrize(
    ("granularity", "now"),
    [
        ("hour", datetime(2023, 3, 11, 18, 30, tzinfo=UTC)),
        ("bihour", datetime(2023, 3, 13, 5, 30, tzinfo=UTC)),
        ("day", datetime(2023, 3, 12, 18, 0, tzinfo=UTC)),
        ("day", datetime(2023, 11, 6, 6, 30, tzinfo=UTC)),
        ("month", datetime(2023, 3, 20, tzinfo=UTC)),
    ],
)
def test_buckets_to_come_are_null_rows_at_the_end(make_context, granularity, now, quirk):
    """Now stands within the odd bucket or before it: what is filled is right, what is not is
    null to END, whose own row is there, and no call is made to mend it."""
    start = date(now.year, 1, 1) if granularity == "month" else now.date() - timedelta(days=3)
    end = {3: date(2023, 3, 13), 11: date(2023, 11, 6)}[now.month]
    end = date(2023, 4, 1) if granularity == "month" else end
    with local_cloud(now=now, quirks=frozenset(quirk)) as cloud:
        meter = cloud.fleet.meter_at(0)
        plan = plan_series(start, end, DENVER, granularity)
        series = fetch_series(make_context(cloud), meter.id, "usage", plan)
        assert cloud.calls == len(plan.windows)
        assert series.times_s[-1] == plan.end_s
        filled = [t <= now.timestamp() for t in series.times_s]
        assert filled[-1] is False
        assert [energy is not None for energy in series.energy] == filled
        assert [value is not None for value in series.value] == filled
        for (a, b), energy in zip(pairwise(series.times_s), series.energy[1:], strict=True):
            if energy is not None:
                assert energy == pytest.approx(exact(cloud, meter, a, b), abs=0.011)


@pytest.mark.parametrize("granularity", ["bihour", "day", "month"])
@pytest.mark.parametrize("quirk", [set(), {"aligned-buckets"}])
def test_a_silent_meters_odd_bucket_is_not_made_up(make_context, granularity, quirk):
    """Born long after the windows begin, by a plan that does not know it: nothing is known, and
    the bucket beyond is not asked."""
    with local_cloud(quirks=frozenset(quirk)) as cloud:
        meter = cloud.fleet.meter_at(0)
        start, end = date(2018, 3, 1), date(2018, 3, 12)
        if granularity == "month":
            end = date(2018, 4, 1)
        plan = plan_series(start, end, DENVER, granularity)
        series = fetch_series(make_context(cloud), meter.id, "usage", plan)
        assert cloud.calls == len(plan.windows)
        assert set(series.energy) <= {None}
