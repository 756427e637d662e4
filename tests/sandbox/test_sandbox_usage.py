from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from copper_cli.sandbox import ConfigError

START, END = "2020-12-22T07:00:00Z", "2020-12-23T07:00:00Z"


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def by_type(caller, meter_type):
    return next(meter for meter in caller.cloud.fleet.meters() if meter.type == meter_type)


@pytest.mark.parametrize("granularity", ["minute", "fifteenminute", "hour", "bihour", "day"])
def test_rows_are_the_register_in_closed_form(serve, granularity):
    """`time` is the end of its bucket; every number follows from the register at two instants."""
    caller = serve()
    fleet, meter = caller.cloud.fleet, by_type(caller, "gas")
    minutes = {"minute": 1, "fifteenminute": 15, "hour": 60, "bihour": 120, "day": 1440}[
        granularity
    ]
    step = timedelta(minutes=minutes)
    answer = caller.usage(meter, granularity, START, END)
    assert [row["time"] for row in answer["results"]] == [
        (instant(START) + step * i).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        for i in range(1440 // minutes + 1)
    ]
    for row in answer["results"]:
        after = fleet.register_at(meter.id, instant(row["time"]))
        before = fleet.register_at(meter.id, instant(row["time"]) - step)
        assert row["actual"] == int(after * 100)
        assert row["value"] == int(after * 100) / 100
        assert row["usage"] == round(after - before, 4)
        assert row["power"] == round(row["usage"] / (minutes / 60), 4)
    total = fleet.register_at(meter.id, instant(END)) - fleet.register_at(meter.id, instant(START))
    assert answer["sum_usage"] == total
    assert (answer["meter_id"], answer["meter_type"]) == (meter.id, "gas")


def test_months_take_the_register_a_calendar_month_before(serve):
    """December's row ends on 1 January at the same time of day; its power is per real hour."""
    caller = serve()
    fleet, meter = caller.cloud.fleet, by_type(caller, "power_net")
    answer = caller.usage(meter, "month", "2020-12-01T07:00:00Z", "2021-01-01T07:00:00Z")
    first, second = answer["results"]
    december = fleet.register_at(meter.id, instant("2021-01-01T07:00:00Z")) - fleet.register_at(
        meter.id, instant("2020-12-01T07:00:00Z")
    )
    assert second["usage"] == round(december, 4)
    assert second["power"] == round(round(december, 4) / 744, 4)
    assert first["time"] == "2020-12-01T07:00:00.000Z"


def test_rows_before_creation_are_null(serve):
    """The meter created between Christmas and mid January has nulls, then its first bucket."""
    caller = serve()
    fleet = caller.cloud.fleet
    meter = next(m for m in fleet.meters() if m.created_utc > datetime(2020, 12, 22, tzinfo=UTC))
    day = meter.created_utc.replace(hour=0, minute=0, second=0)
    answer = caller.usage(meter, "hour", day.isoformat(), (day + timedelta(days=1)).isoformat())
    nulls = [row for row in answer["results"] if row["value"] is None]
    rest = answer["results"][len(nulls) :]
    assert len(nulls) == meter.created_utc.hour + 1
    assert all(set(row.values()) == {None, row["time"]} for row in nulls)
    initial = fleet.register_at(meter.id, day)
    assert rest[0]["usage"] == round(
        fleet.register_at(meter.id, instant(rest[0]["time"])) - initial, 4
    )
    assert answer["sum_usage"] == fleet.register_at(meter.id, day + timedelta(days=1)) - initial


def test_buckets_to_come_are_null(serve):
    """With the clock at 07:00 on 1 February, rows after it are null and the sum ends there."""
    caller = serve()
    fleet, meter = caller.cloud.fleet, by_type(caller, "water")
    answer = caller.usage(meter, "hour", "2021-02-01T05:30:00Z", "2021-02-01T09:30:00Z")
    assert [row["usage"] is None for row in answer["results"]] == [False, False, True, True, True]
    begin, now = instant("2021-02-01T05:30:00Z"), instant("2021-02-01T07:00:00Z")
    expected = fleet.register_at(meter.id, now) - fleet.register_at(meter.id, begin)
    assert answer["sum_usage"] == expected
    future = caller.usage(meter, "day", "2021-03-01T00:00:00Z", "2021-03-02T00:00:00Z")
    assert future["sum_usage"] == 0
    assert [row["actual"] for row in future["results"]] == [None, None]


@pytest.mark.parametrize("late", ["2", "2d", "48h"])
def test_late_buckets_are_filled_days_after_their_end(serve, late):
    """Two days after: at 07:00 on 1 February the bucket that ended at 07:00 on 30 January is
    there and the next one null; the sum ends there. Then the clock goes on, and it is filled."""
    now = [datetime(2021, 2, 1, 7, 0, tzinfo=UTC)]
    caller = serve(late=(late,), clock=lambda: now[0])
    fleet, meter = caller.cloud.fleet, by_type(caller, "power")
    start, end = "2021-01-30T06:00:00Z", "2021-01-30T08:00:00Z"
    answer = caller.usage(meter, "hour", start, end)
    assert [row["value"] is None for row in answer["results"]] == [False, False, True]
    used = fleet.register_at(meter.id, instant("2021-01-30T07:00:00Z")) - fleet.register_at(
        meter.id, instant(start)
    )
    assert answer["sum_usage"] == used
    series = caller.get(
        f"meter/{meter.id}/baseline-series", granularity="hour", start=start, end=end
    ).json()
    assert [row["energy"] is None for row in series["series"]] == [False, False, True]
    now[0] += timedelta(hours=1)
    assert all(row["value"] for row in caller.usage(meter, "hour", start, end)["results"])


def test_one_meter_can_be_late(serve):
    """METER=DAYS goes before the days of the others; the aggregate counts what is filled."""
    meter = next(serve().cloud.fleet.meters())
    caller = serve(late=("1", f"{meter.id}=3"), premises=3)
    fleet = caller.cloud.fleet
    start, end = "2021-01-27T07:00:00Z", "2021-02-01T07:00:00Z"
    days = {}
    for one in fleet.meters():
        rows = caller.usage(one, "day", start, end)["results"]
        days[one.id] = [row["usage"] is None for row in rows].count(True)
    assert days.pop(meter.id) == 3
    assert set(days.values()) == {1}
    month = {"granularity": "month", "meter_type": "power", "start": start, "end": end}
    total = caller.get("aggregate/usage", **month).json()["sum_energy"]
    ends = {m.id: f"2021-01-{29 if m.id == meter.id else 31}T07:00:00Z" for m in fleet.meters()}
    assert total == pytest.approx(
        sum(
            fleet.register_at(m.id, instant(ends[m.id])) - fleet.register_at(m.id, instant(start))
            for m in fleet.meters()
            if m.type == "power"
        ),
        rel=1e-12,
    )


def test_a_meter_that_is_late_must_be_there(serve):
    """An id that the fleet does not have is refused, since nothing would be late."""
    with pytest.raises(ConfigError, match="07:1"):
        serve(late=("07:1=3",))


def test_a_meter_can_be_in_time_where_others_are_late(serve):
    """METER=0."""
    meter = next(serve().cloud.fleet.meters())
    caller = serve(late=("3", f"{meter.id}=0"))
    rows = caller.usage(meter, "hour", "2021-02-01T06:00:00Z", "2021-02-01T07:00:00Z")["results"]
    assert all(row["usage"] for row in rows)


def test_buckets_to_come_can_be_absent(serve):
    """With the quirk no row is null: those before creation, late and to come are left out."""
    caller = serve(late=("1",), quirks=frozenset({"absent-buckets"}))
    meter = by_type(caller, "power")
    query = {"granularity": "day", "start": "2021-01-30T07:00:00Z", "end": "2021-02-02T07:00:00Z"}
    for name, rows in (("usage", "results"), ("average-series", "series")):
        answer = caller.get(f"meter/{meter.id}/{name}", **query).json()
        assert [row["time"] for row in answer[rows]] == [
            "2021-01-30T07:00:00.000Z",
            "2021-01-31T07:00:00.000Z",
        ]
    early = caller.usage(meter, "day", "2018-01-01T00:00:00Z", "2018-01-03T00:00:00Z")
    assert (early["sum_usage"], early["results"]) == (0, [])


@pytest.mark.parametrize("path", ["baseline-series", "average-series"])
def test_series_are_the_usage_times_a_factor(serve, path):
    """Energy is usage times the meter's documented factor; null where usage is null."""
    caller = serve()
    fleet, meter = caller.cloud.fleet, by_type(caller, "power")
    query = {"granularity": "hour", "start": "2021-02-01T00:00:00Z", "end": "2021-02-01T12:00:00Z"}
    series = caller.get(f"meter/{meter.id}/{path}", **query).json()
    usage = caller.get(f"meter/{meter.id}/usage", **query).json()
    factor = fleet.series_factor(meter.id, path.removesuffix("-series"))
    assert 0.7 <= factor < 1.2
    assert series["sum_energy"] == usage["sum_usage"] * factor
    for row, other in zip(series["series"], usage["results"], strict=True):
        assert row["time"] == other["time"]
        if other["usage"] is None:
            assert row["energy"] is row["power"] is None
        else:
            assert row["energy"] == row["power"] == round(other["usage"] * factor, 4)


def test_series_before_creation_are_null(serve):
    """As in the usage."""
    caller = serve()
    meter = by_type(caller, "power")
    query = {"granularity": "day", "start": "2019-01-01T00:00:00Z", "end": "2019-01-02T00:00:00Z"}
    answer = caller.get(f"meter/{meter.id}/baseline-series", **query).json()
    assert [row["energy"] for row in answer["series"]] == [None, None]


def test_a_meter_id_may_be_encoded_in_the_path(serve):
    """`07%3A…` is the same meter as `07:…`."""
    caller = serve()
    meter = by_type(caller, "power")
    query = {"granularity": "day", "start": START, "end": END}
    raw = caller.get(f"meter/{meter.id}/usage", **query)
    encoded = caller.get(f"meter/{meter.id.replace(':', '%3A')}/usage", **query)
    assert raw.json() == encoded.json()


def test_an_id_encoded_twice_is_another_id(serve):
    """`07%253A…` is no meter: 404, and a fault for the meter does not befall it."""
    caller = serve()
    meter = by_type(caller, "power")
    caller.cloud.faults.add(f"status=502,path={meter.id}/usage")
    url = f"meter/{meter.id.replace(':', '%253A')}/usage"
    query = {"granularity": "day", "start": START, "end": END}
    assert caller.get(url, **query).status_code == 404
    assert caller.get(f"meter/{meter.id}/usage", **query).status_code == 502


def test_aligned_buckets_follow_the_meters_day(serve):
    """With the quirk the day of a clock change has 23 hours; power is per real hour."""
    clock = datetime(2021, 6, 1, tzinfo=UTC)
    caller = serve(now=clock, quirks=frozenset({"aligned-buckets"}), zones=("America/Denver",))
    fleet, meter = caller.cloud.fleet, by_type(caller, "power")
    denver = ZoneInfo("America/Denver")
    answer = caller.usage(meter, "day", "2021-03-14T00:00:00Z", "2021-03-16T00:00:00Z")
    first, second = answer["results"]
    assert [first["time"], second["time"]] == [
        "2021-03-14T07:00:00.000Z",
        "2021-03-15T06:00:00.000Z",
    ]
    used = fleet.register_at(meter.id, datetime(2021, 3, 15, tzinfo=denver)) - fleet.register_at(
        meter.id, datetime(2021, 3, 14, tzinfo=denver)
    )
    assert second["usage"] == round(used, 4)
    assert second["power"] == round(round(used, 4) / 23, 4)


def test_include_start_false_leaves_the_first_row_out(serve):
    """Then every row is a bucket within the window; rows that lie elsewhere stay."""
    caller = serve(quirks=frozenset({"aligned-buckets"}), zones=("America/Denver",))
    meter = by_type(caller, "power")
    query = {"granularity": "hour", "end": END, "include_start": "false"}
    path = f"meter/{meter.id}/usage"
    times = [row["time"] for row in caller.get(path, start=START, **query).json()["results"]]
    assert (len(times), times[0]) == (24, "2020-12-22T08:00:00.000Z")
    odd = caller.get(path, start="2020-12-22T06:30:00Z", **query).json()["results"]
    assert odd[0]["time"] == "2020-12-22T07:00:00.000Z"


@pytest.mark.parametrize(
    ("days", "rows"),
    [(1, 97), (10, 241), (100, 101), (700, 24)],
    ids=["15 min", "hour", "day", "month"],
)
def test_auto_takes_coarser_buckets_for_longer_windows(serve, days, rows):
    """Two days of quarters, a month of hours, a year of days, then months."""
    caller = serve()
    end = instant("2021-01-01T00:00:00Z")
    start = (end - timedelta(days=days)).isoformat()
    answer = caller.usage(by_type(caller, "power"), "auto", start, end.isoformat())
    assert len(answer["results"]) == rows


def test_capped_rows_keep_the_sum_of_the_window(serve):
    """The first rows only, no word of it, and the sum of all that was asked for."""
    caller = serve(cap_rows=10)
    meter = by_type(caller, "power")
    answer = caller.usage(meter, "hour", START, END)
    assert len(answer["results"]) == 10
    at = caller.cloud.fleet.register_at
    assert answer["sum_usage"] == at(meter.id, instant(END)) - at(meter.id, instant(START))
    assert len(caller.usage(meter, "hour", START, "2020-12-22T16:00:00Z")["results"]) == 10


def test_capped_sums_are_those_of_the_rows(serve):
    """With the quirk the sum ends where the rows end."""
    caller = serve(cap_rows=10, quirks=frozenset({"capped-sum"}))
    meter = by_type(caller, "power")
    answer = caller.usage(meter, "hour", START, END)
    at = caller.cloud.fleet.register_at
    assert answer["results"][-1]["time"] == "2020-12-22T16:00:00.000Z"
    assert answer["sum_usage"] == at(meter.id, instant("2020-12-22T16:00:00Z")) - at(
        meter.id, instant(START)
    )


def test_long_spans_are_refused_when_told(serve):
    """A day of hours is let through, a second more is a 400; other granularities are free."""
    caller = serve(max_span={"hour": timedelta(days=1), "readings": "1h", "grid": "1h"})
    meter = by_type(caller, "power")
    ask = {"granularity": "hour", "start": START}
    path = f"meter/{meter.id}/usage"
    assert caller.get(path, end=END, **ask).status_code == 200
    assert caller.get(path, end="2020-12-23T07:00:01Z", **ask).status_code == 400
    ask["granularity"] = "day"
    assert caller.get(path, end="2020-12-25T07:00:00Z", **ask).status_code == 200
    window = {"start": START, "end": END}
    assert caller.get(f"meter/{meter.id}/readings", **window).status_code == 400
    assert caller.get("grid/readings", **window).status_code == 400


@pytest.mark.parametrize("quirk", ["aligned-buckets", None])
@pytest.mark.parametrize("granularity", ["minute", "hour", "bihour", "day", "month", "auto"])
def test_a_window_without_length_gives_no_row(serve, granularity, quirk):
    """Usage, baseline and average, partner's and app's: no row and a sum of 0, at any instant."""
    caller = serve(quirks=frozenset({quirk} - {None}), zones=("America/Denver",))
    meter = by_type(caller, "power")
    for at in (START, "2020-12-22T07:13:05Z", "2020-12-22T00:00:00-07:00"):
        query = {"granularity": granularity, "start": at, "end": at}
        answer = caller.get(f"meter/{meter.id}/usage", **query).json()
        assert (answer["sum_usage"], answer["results"]) == (0, [])
        for name in ("baseline-series", "average-series"):
            answer = caller.get(f"meter/{meter.id}/{name}", **query).json()
            assert (answer["sum_energy"], answer["series"]) == (0, [])


def test_readings_of_a_window_without_length_are_none(serve):
    """Not even where a reading lies at that very instant; the grid's and the aggregate likewise."""
    caller = serve()
    meter = by_type(caller, "power")
    path = f"meter/{meter.id}/readings"
    at = caller.get(path, start=START, end=END).json()["results"][0]["time"]
    assert caller.get(path, start=at, end=at).json()["results"] == []
    assert caller.get("grid/readings", start=START, end=START).json() == []
    month = {"granularity": "month", "meter_type": "power", "start": START, "end": START}
    assert caller.get("aggregate/usage", **month).json()["sum_energy"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"granularity": "week"},
        {"granularity": ""},
        {"start": "2020-12-22"},
        {"start": "2020-12-22T07:00:00"},
        {"end": "x"},
        {"end": "2020-12-22T06:59:59Z"},
        {"granularity": "minute", "start": "2000-01-01T00:00:00Z"},
    ],
)
def test_wrong_windows_are_bad_requests(serve, change):
    """400 for what cannot be understood, ends before it starts, or is far too much."""
    caller = serve()
    query = {"granularity": "hour", "start": START, "end": END, **change}
    assert caller.get(f"meter/{by_type(caller, 'gas').id}/usage", **query).status_code == 400


def test_missing_settings_are_bad_requests(serve):
    """A window needs both its ends."""
    caller = serve()
    path = f"meter/{by_type(caller, 'gas').id}/usage"
    assert caller.get(path, granularity="hour", start=START).status_code == 400
    assert caller.get(path, start=START, end=END).status_code == 400


def test_readings_come_unsorted_and_about_hourly(serve):
    """About one reading an hour, between its 10th and 50th minute, as the register had it."""
    caller = serve()
    fleet, meter = caller.cloud.fleet, by_type(caller, "power")
    answer = caller.get(f"meter/{meter.id}/readings", start=START, end=END).json()
    times = [instant(row["time"]) for row in answer["results"]]
    assert len(times) == 24
    assert times != sorted(times)
    assert sorted(t.replace(minute=0, second=0) for t in times) == [
        instant(START) + timedelta(hours=i) for i in range(24)
    ]
    assert all(600 <= t.minute * 60 + t.second < 3000 for t in times)
    for row in answer["results"]:
        assert row["actual"] == int(fleet.register_at(meter.id, instant(row["time"])) * 100)
        assert row["value"] == row["actual"] / 100


def test_readings_include_both_ends_and_nothing_after_now(serve):
    """A window from one reading to another holds both; there are none in the future."""
    caller = serve()
    meter = by_type(caller, "power")
    path = f"meter/{meter.id}/readings"
    times = sorted(r["time"] for r in caller.get(path, start=START, end=END).json()["results"])
    again = caller.get(path, start=times[3], end=times[4]).json()["results"]
    assert [row["time"] for row in again] == [times[4], times[3]]
    assert (
        caller.get(path, start="2021-03-01T00:00:00Z", end="2021-03-02T00:00:00Z").json()["results"]
        == []
    )
    assert caller.get(path, start="1800-01-01T00:00:00Z", end=END).status_code == 400


def test_aggregates_add_up_every_meter_of_the_type(serve):
    """The sum of the registers' differences, and how many meters; later meters do not count."""
    caller = serve(premises=24)
    fleet = caller.cloud.fleet
    start, end = "2020-11-01T06:00:00Z", "2020-12-01T07:00:00Z"
    query = {"granularity": "month", "start": start, "end": end}
    answer = caller.get("aggregate/usage", meter_type="power", **query).json()
    meters = [m for m in fleet.meters() if m.type == "power" and m.created_utc < instant(end)]
    expected = sum(
        fleet.register_at(m.id, instant(end)) - fleet.register_at(m.id, instant(start))
        for m in meters
    )
    assert answer["meter_count"] == len(meters)
    assert len(meters) < sum(m.type == "power" for m in fleet.meters())
    assert answer["sum_energy"] == pytest.approx(expected, rel=1e-12)


def test_aggregates_of_nothing_are_errors(serve):
    """404 when no meter of the type reports, 400 for an unknown type or granularity."""
    caller = serve(premises=1)
    query = {"start": START, "end": END}
    month = {"granularity": "month", **query}
    assert caller.get("aggregate/usage", meter_type="water", **month).status_code == 404
    assert caller.get("aggregate/usage", meter_type="steam", **month).status_code == 400
    hour = {"granularity": "hour", **query}
    assert caller.get("aggregate/usage", meter_type="gas", **hour).status_code == 400


def test_a_hundred_thousand_rows_come_in_one_answer(serve):
    """The longest question that a careful client asks."""
    caller = serve(now=datetime(2021, 6, 1, tzinfo=UTC))
    answer = caller.usage(
        by_type(caller, "power"), "minute", "2021-01-01T00:00:00Z", "2021-03-11T10:39:00Z"
    )
    assert len(answer["results"]) == 100_000
