"""JSON to records: what is missing, strange or hostile."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copper_cli.cloud import parse
from copper_cli.cloud.parse import values
from copper_cli.errors import CloudError
from copper_cli.records import (
    Aggregate,
    BulkReading,
    Gateway,
    GatewayHistory,
    GridAnswer,
    GridReading,
    GridSeries,
    Instant,
    LastReading,
    Meter,
    Premise,
    Reading,
    Readings,
    StateChange,
)

AT = "2022-03-02T04:30:00.000Z"
AT_UTC = datetime(2022, 3, 2, 4, 30, tzinfo=UTC)
AT_S = 1646195400  # by `date -u -d 2022-03-02T04:30:00Z +%s`

ODD = [None, True, False, [], {}, "", "text", [1], {"a": 1}, -1, 1.5, 10**400, 1e999]


def test_a_premise_is_read_field_by_field():
    """Tags sorted without repeats; users only when asked for; unknown fields are ignored."""
    row = {
        "id": "p1",
        "created_at": "2019-06-15T14:11:33.000Z",
        "name": "Home",
        "street_address": "1 Main St",
        "suite_apartment_unit": None,
        "city_town": "Boulder",
        "postal_code": 1234,
        "county_district": "Boulder",
        "state_region": "CO",
        "tags": ["b", "a", "b", 7],
        "timezone": "America/Denver",
        "user_list": [{"email": "a@example.com"}, {}, {"email": ""}, 3],
        "new_field": 1,
    }
    expected = Premise(
        id="p1",
        created_at="2019-06-15T14:11:33.000Z",
        created_utc=datetime(2019, 6, 15, 14, 11, 33, tzinfo=UTC),
        name="Home",
        street_address="1 Main St",
        suite_apartment_unit=None,
        city_town="Boulder",
        postal_code="1234",
        county_district="Boulder",
        state_region="CO",
        tags=("a", "b"),
        timezone="America/Denver",
        emails=("a@example.com", None, None),
    )
    assert parse.parse_premises([row], with_users=True) == [expected]
    assert parse.parse_premises([row], with_users=False)[0].emails is None
    assert parse.parse_premises([{"id": "p"}], with_users=True)[0].emails == ()


def test_a_meter_is_read_field_by_field():
    """The register stays as the cloud wrote it; a change without a time is left out."""
    row = {
        "id": "07:1",
        "type": "power",
        "state": "connected",
        "premise_id": "p1",
        "created_at": AT,
        "premise_created_at": AT,
        "uom": "kwh",
        "last_reading": {"value": 104366.0, "hw_timestamp": AT, "extra": 1},
        "seven_day_history": [
            {"timestamp": AT, "from": "connected", "to": "degraded"},
            {"timestamp": "soon", "from": "degraded", "to": "connected"},
            {"timestamp": AT, "from": None},
            "x",
        ],
    }
    assert parse.parse_meters([row]) == [
        Meter(
            id="07:1",
            type="power",
            state="connected",
            premise_id="p1",
            created_utc=AT_UTC,
            uom="kwh",
            last_reading=LastReading(104366.0, AT_UTC),
            history=(
                StateChange(AT_UTC, "connected"),
                StateChange(AT_UTC, ""),
            ),
        )
    ]


def test_a_virgin_gateway_keeps_its_nulls():
    """Every field is there for JSON, in the cloud's order."""
    row = {"id": "aabb", "state": "virgin", "premise_id": None, "last_heard": None, "z": None}
    assert parse.parse_gateways([row]) == [
        Gateway("aabb", None, "virgin", None, None, None, fields=row)
    ]


def test_grid_readings_by_gateway_ascending():
    """Each instant once, the last of equals; to the microsecond, in any offset; what has no
    gateway or no readable time is left out, and what is no number is unknown."""

    def row(gateway, time, voltage=1.0, frequency=60):
        return {
            "gateway_id": gateway, "hw_timestamp": time, "voltage": voltage, "frequency": frequency
        }  # fmt: skip

    rows = [
        row("b", "1970-01-01T00:00:01.000Z", None),
        row("a", "1970-01-01T00:00:03.500Z", 4),
        row("a", "1970-01-01T00:00:02.000Z", 2),
        row("a", "1970-01-01T01:00:02+01:00", "x", 61),
        row("a", "yesterday"),
        row("a", None),
        row(None, "1970-01-01T00:00:01.000Z"),
        row(7, "1970-01-01T00:00:01.000Z"),
        "no row",
    ]
    assert parse.parse_grid_series(rows, "x") == GridAnswer(
        {
            # Of two at the same instant that with more numbers; what is lost of either is counted.
            "a": GridSeries([2_000_000, 3_500_000], [2, 4], [60, 60], (2_000_000,), lost=2),
            "b": GridSeries([1_000_000], [None], [60]),
            "7": GridSeries([1_000_000], [1.0], [60]),
        },
        unnamed=2,
    )


def test_gateway_histories_by_id():
    """One entry a gateway, empty where nothing happened."""
    rows = [
        {"id": "a", "history": [{"timestamp": AT, "from": "active", "to": "down"}]},
        {"id": "b", "history": None},
        {"history": []},
    ]
    assert parse.parse_histories(rows) == [
        GatewayHistory("a", (StateChange(AT_UTC, "active"),)),
        GatewayHistory("b", ()),
    ]


def test_bulk_and_grid():
    """Rows without an id, and grid rows without a time, are left out."""
    bulk = [{"meter_id": "07:1", "meter_type": "power", "value": 1011.23, "timestamp": AT}, {}]
    assert parse.parse_bulk(bulk) == [BulkReading("07:1", "power", 1011.23, AT_UTC)]
    grid = [
        {"gateway_id": "g", "premise_id": "p", "hw_timestamp": AT, "voltage": 120.5},
        {"gateway_id": "g", "hw_timestamp": None},
        {"hw_timestamp": AT},
    ]
    assert parse.parse_grid(grid) == [GridReading("g", "p", AT_UTC, 120.5, None)]


def test_readings_come_out_sorted():
    """The cloud does not sort them."""
    body = {
        "results": [
            {"time": "2022-03-02T05:00:00.000Z", "actual": 2, "value": 0.02},
            {"time": AT, "actual": 1, "value": 0.01},
            {"time": None},
        ]
    }
    assert parse.parse_readings(body, "x") == Readings(
        [Reading(AT_UTC, 1, 0.01), Reading(datetime(2022, 3, 2, 5, tzinfo=UTC), 2, 0.02)], lost=1
    )


def test_aggregate():
    """A count and a sum, None where they are not numbers."""
    assert parse.parse_aggregate({"meter_count": 3, "sum_energy": 4.5}, "x") == Aggregate(3, 4.5)
    body = {"meter_count": "3", "sum_energy": "4.50"}
    assert parse.parse_aggregate(body, "x") == Aggregate(3, 4.5)
    assert parse.parse_aggregate({"meter_count": "many", "sum_energy": None}, "x") == Aggregate(
        None, None
    )


@pytest.mark.parametrize("body", [{"meter_count": 3}, {"error": "down"}, {"sum_energy": "much"}])
def test_an_aggregate_without_a_sum_is_no_aggregate(body):
    """A report must not leave its line out as if nobody reported."""
    with pytest.raises(CloudError, match=r"^x: "):
        parse.parse_aggregate(body, "x")


def test_app_state_and_instants():
    """Premises and what their meters show."""
    state = {
        "user": {},
        "premise_list": [
            {"id": "p1", "meter_list": [{"id": "07:1", "type": "power"}, 5]},
            {"id": "p2", "meter_list": None},
        ],
    }
    page = parse.parse_app_page(state)
    assert [row["id"] for row in page.rows] == ["p1", "p2"]
    body = {
        "results": [{"id": "07:1", "type": "power", "instant_power": 1.5, "updated_at": AT}, {}]
    }
    page = parse.parse_instant_page(body, "x")
    assert parse.parse_instants(page.rows) == [Instant("07:1", "power", 1.5, AT)]
    assert page.unread == 1


# Series


def row(at: str, usage=0.06, power=0.24, value=1660.26, actual=166026):
    return {"time": at, "usage": usage, "power": power, "value": value, "actual": actual}


def test_a_usage_row_as_seen_for_real():
    """The row of the vendor's example, as columns."""
    body = {"meter_type": "power", "sum_usage": 0.06, "results": [row(AT)]}
    series = parse.parse_series(body, "usage", "x")
    assert series.times_s == [AT_S]
    assert (series.energy, series.power) == ([0.06], [0.24])
    assert (series.value, series.actual) == ([1660.26], [166026])
    assert (series.sum_energy, series.meter_type) == (0.06, "power")


@pytest.mark.parametrize("kind", ["baseline-series", "average-series"])
def test_baseline_and_average_have_no_register(kind):
    """`energy` and `power` in `series`; the sum is `sum_energy`."""
    body = {"sum_energy": 7, "series": [{"time": AT, "energy": 0.5, "power": 2.0}]}
    series = parse.parse_series(body, kind, "x")
    assert (series.energy, series.power, series.sum_energy) == ([0.5], [2.0], 7)
    assert (series.value, series.actual) == ([None], [None])


def test_rows_come_out_ascending_and_once():
    """Of a repeated instant the row with values wins over null, wherever it stands."""
    one, two, three = (f"2022-03-02T0{n}:00:00.000Z" for n in (1, 2, 3))
    body = {
        "results": [
            row(three, usage=3),
            row(one, None, None, None, None),
            row(two, usage=2),
            row(one, usage=1),
            row(two, None, None, None, None),
            row(two, usage=99),
        ]
    }
    series = parse.parse_series(body, "usage", "x")
    start = AT_S - 12600  # 01:00
    assert series.times_s == [start, start + 3600, start + 7200]
    assert series.energy == [1, 2, 3]


def test_numbers_stay_as_they_were_written():
    """0 stays an integer, so that files show what the cloud sent."""
    series = parse.parse_series({"results": [row(AT, usage=0)]}, "usage", "x")
    assert series.energy == [0]
    assert type(series.energy[0]) is int


def test_what_is_no_number_is_none():
    """Words, booleans, NaN, infinity and integers no float could hold."""
    odd = ["0,5", True, float("nan"), float("inf"), 1e999, 10**400, [1], {}, None]
    times = [f"2022-03-02T04:{n:02}:00.000Z" for n in range(len(odd) + 1)]
    rows = [row(at, usage=value) for at, value in zip(times, [*odd, 1.5], strict=True)]
    series = parse.parse_series({"results": rows}, "usage", "x")
    assert series.energy == [None] * len(odd) + [1.5]
    for value in odd:
        body = {"results": [row(AT, usage=value), row("2022-03-02T05:30:00.000Z", usage=0)]}
        assert parse.parse_series(body, "usage", "x").energy == [None, 0]
        if value is not None:
            with pytest.raises(CloudError, match=r"^x: its own sum cannot be read: "):
                parse.parse_series({**body, "sum_usage": value}, "usage", "x")
    mixed = {"results": [row(AT, usage=10**400), row("2022-03-02T05:30:00.000Z", usage=0.5)]}
    assert parse.parse_series(mixed, "usage", "x").energy == [None, 0.5]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2022-03-02T04:30:00.000Z", AT_S),
        ("2022-03-02T04:30:00Z", AT_S),
        ("2022-03-02T04:30Z", AT_S),
        ("2022-03-02T04:30:00.999Z", AT_S),
        ("2022-03-02T04:30:00.999999Z", AT_S),
        ("2022-03-01T21:30:00.000-07:00", AT_S),
        ("2022-03-02T10:00:00+05:30", AT_S),
        ("2022-03-02T04:30:00", AT_S),
        ("2022-03-02 04:30:00Z", AT_S),
        ("20220302T043000Z", AT_S),
        ("1970-01-01T00:00:00.500Z", 0),
        ("2199-12-31T23:59:59.999Z", 7258118399),
    ],
)
def test_times_in_series_round_down_to_seconds(text, seconds):
    """Whatever form of ISO 8601 the cloud uses; without an offset it is UTC."""
    assert parse.parse_series({"results": [row(text)]}, "usage", "x").times_s == [seconds]
    assert parse.to_epoch_s(text) == seconds


@pytest.mark.parametrize(
    "odd",
    [
        *[None, 5, "", "soon", "2022-13-01T00:00:00Z", [], "2022-03-02T25:00Z"],
        *["2022-03-02", "20220302", "2022-W09-3", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
        *["1969-12-31T23:59:59.500Z", "2200-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01"],
    ],
)
def test_rows_without_a_time_are_left_out(odd):
    """The others stay. A date alone is a day somewhere, no instant; nor is what lies outside 1970
    to 2199, such as a zero time, which not every zone's calendar can bear."""
    series = parse.parse_series({"results": [row(odd), row(AT), 7]}, "usage", "x")
    assert series.times_s == [AT_S]
    assert parse.to_utc(odd) is None


def test_an_empty_answer_is_an_empty_series():
    """No rows; of a baseline the list may be missing altogether, if there is no sum of it."""
    for body, kind in (
        ({"results": []}, "usage"),
        ({"results": [], "sum_usage": 0}, "usage"),
        ({"series": []}, "baseline-series"),
        ({"series": None}, "baseline-series"),
        ({"sum_energy": None}, "average-series"),
    ):
        series = parse.parse_series(body, kind, "x")
        assert (series.times_s, series.energy, series.actual) == ([], [], [])


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31)))
def test_any_instant_is_read_as_datetime_does(instant):
    """The fast reading of a time agrees with the plain one, to the second below."""
    text = instant.isoformat() + "Z"
    expected = (instant.replace(microsecond=0) - datetime(1970, 1, 1)).total_seconds()
    assert parse.parse_series({"results": [row(text)]}, "usage", "x").times_s == [expected]


def test_the_memory_of_times_is_bounded(monkeypatch):
    """A hostile answer cannot fill the memory with texts."""
    monkeypatch.setattr(values, "_MEMO_SIZE", 0)
    before = len(values._days), len(values._times)
    parse.parse_series({"results": [row("1999-01-01T03:03:03.123Z")]}, "usage", "x")
    assert (len(values._days), len(values._times)) == before


# Wrong shapes


@pytest.mark.parametrize("odd", [value for value in ODD if not isinstance(value, list)])
def test_a_list_must_be_a_list(odd):
    """One line that names what was asked."""
    match = r"^meter: the cloud answered .* instead of a list(: text)?\.$"
    with pytest.raises(CloudError, match=match):
        parse.parse_offset_page(odd, "meter")


@pytest.mark.parametrize("odd", [value for value in ODD if not isinstance(value, dict)])
def test_an_object_must_be_an_object(odd):
    """For series, readings, sums and pages alike."""
    for read in (
        lambda body: parse.parse_series(body, "usage", "x"),
        lambda body: parse.parse_readings(body, "x"),
        lambda body: parse.parse_aggregate(body, "x"),
        lambda body: parse.parse_next_page(body, "x", parse.is_bulk_row),
        lambda body: parse.parse_instant_page(body, "x"),
        parse.parse_app_page,
    ):
        with pytest.raises(CloudError, match="instead of an object"):
            read(odd)


@pytest.mark.parametrize("odd", [5, {"a": 1}, "text", True])
def test_rows_must_be_a_list(odd):
    """A text where the rows should be is an error, not an empty series."""
    with pytest.raises(CloudError, match=r"^x: .* in the place of its rows \(results\)"):
        parse.parse_series({"results": odd}, "usage", "x")


def test_next_pages():
    """A text leads on; null, nothing and an empty text end; anything else is an error."""

    def read(body):
        return parse.parse_next_page(body, "x", parse.is_bulk_row)

    page = read({"results": [{"meter_id": "a"}, 2], "next": "/n"})
    assert (page.rows, page.length, page.unread) == ([{"meter_id": "a"}], 2, 1)
    assert page.following == "/n"
    for last in ({"results": []}, {"results": [], "next": None}, {"results": [], "next": ""}):
        assert read(last) == parse.Page([], 0, None)
    for odd in (5, True, False, 1.5, ["/n"], {"href": "/n"}):
        with pytest.raises(CloudError, match="^x: .* as its next page"):
            read({"results": [], "next": odd})


PAGES = {
    "results": lambda body: parse.parse_next_page(body, "x", parse.is_bulk_row),
    "results of instants": lambda body: parse.parse_instant_page(body, "x"),
    "premise_list": parse.parse_app_page,
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("odd", ["missing", None, 5, "text", {"a": 1}, True])
def test_the_container_of_rows_may_not_be_missing(name, odd):
    """An answer that has none is no empty list; what the cloud said stands in the message."""
    field = name.partition(" ")[0]
    body = {"error": "upstream\ntimed out.", "code": 504} | (
        {} if odd == "missing" else {field: odd}
    )
    said = r"^(x|the account): the cloud answered 200 with an error: upstream timed out\.$"
    with pytest.raises(CloudError, match=said):
        PAGES[name](body)


@pytest.mark.parametrize("name", PAGES)
def test_an_error_beside_no_rows_is_an_error(name):
    """No rows are a rightful answer only where nothing says that it went wrong."""
    field = name.partition(" ")[0]
    assert PAGES[name]({field: []}).rows == []
    assert PAGES[name]({field: [], "error": None, "errors": []}).rows == []
    for body in ({"error": "down"}, {"errors": [{"message": "down"}]}):
        with pytest.raises(CloudError, match=r"answered 200 with an error: down\.$"):
            PAGES[name]({field: []} | body)


@pytest.mark.parametrize("junk", [None, 7, "row", [], {}, {"error": "down"}, {"id": None}])
def test_rows_of_which_none_can_be_read_are_no_list(junk):
    """Junk is not an empty list, in whatever list; the message names the first of it."""
    lists = [
        lambda: parse.parse_offset_page([junk, junk], "x"),
        lambda: parse.parse_next_page({"results": [junk, junk]}, "x", parse.is_grid_row),
        lambda: parse.parse_instant_page({"results": [junk, junk]}, "x"),
        lambda: parse.parse_app_page({"premise_list": [junk, junk]}),
    ]
    for read in lists:
        with pytest.raises(CloudError, match="none can be read: the first of 2 is"):
            read()


def test_grid_rows_without_a_reading_are_rows():
    """A gateway that has sent nothing yet has a null time; a time that means nothing is junk."""
    null = {"gateway_id": "g", "hw_timestamp": None}
    odd = {"gateway_id": "h", "hw_timestamp": "soon"}
    page = parse.parse_next_page({"results": [null, odd]}, "x", parse.is_grid_row)
    assert (page.rows, page.unread) == ([null], 1)
    assert parse.parse_grid(page.rows) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(AT),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "results",
                    "series",
                    "next",
                    "time",
                    "usage",
                    "energy",
                    "power",
                    "value",
                    "actual",
                    "user_list",
                    "email",
                    "tags",
                    "last_reading",
                    "hw_timestamp",
                    "seven_day_history",
                    "history",
                    "timestamp",
                    "from",
                    "to",
                    "meter_id",
                    "gateway_id",
                    "premise_list",
                    "meter_list",
                    "access_token",
                    "expires_in",
                    "message",
                    "error",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(_json)
def test_no_json_whatever_ends_in_a_traceback(body):
    """Any JSON gives records or one CloudError."""
    for read in (
        lambda: parse.parse_premises(parse.parse_offset_page(body, "x").rows, with_users=True),
        lambda: parse.parse_meters(parse.parse_offset_page(body, "x").rows),
        lambda: parse.parse_gateways(parse.parse_offset_page(body, "x").rows),
        lambda: parse.parse_histories(parse.parse_offset_page(body, "x").rows),
        lambda: parse.parse_bulk(parse.parse_next_page(body, "x", parse.is_bulk_row).rows),
        lambda: parse.parse_grid(parse.parse_next_page(body, "x", parse.is_grid_row).rows),
        lambda: parse.parse_grid_series(body, "x"),
        lambda: parse.parse_series(body, "usage", "x"),
        lambda: parse.parse_series(body, "average-series", "x"),
        lambda: parse.parse_readings(body, "x"),
        lambda: parse.parse_aggregate(body, "x"),
        lambda: parse.parse_instants(parse.parse_instant_page(body, "x").rows),
        lambda: parse.parse_premises(parse.parse_app_page(body).rows, with_users=False),
        lambda: parse.parse_token(body),
        lambda: parse.parse_error_text(body),
    ):
        with contextlib.suppress(CloudError):
            read()


# Single values, tokens, errors


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.854000", 0.854),
        ("0.500000", 0.5),
        ("100350", 100350),
        ("00042", 42),
        ("-3.25", -3.25),
        ("+7", 7),
        ("0", 0),
        ("1e-05", 0.00001),
        ("1.5E+3", 1500.0),
    ],
)
def test_numbers_as_text_are_read(text, number):
    """With the digits' meaning: a whole number stays one."""
    found = parse.to_number(text)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "soon", "NaN", "nan", "inf", "-Infinity", "0x1F", "1_000", "1,000", "0,854"],
        *["1 000", " 1", "1\n", "--1", "1e999", "1.", ".5", "1e", "٣", "9" * 41, "1e5000000000"],
    ],
)
def test_texts_that_are_not_surely_numbers_are_none(text):
    """What people or programs read in two ways is not read at all."""
    assert parse.to_number(text) is None


@pytest.mark.parametrize(
    "value",
    [
        *[AT_S, float(AT_S), AT_S * 1000, AT_S * 1000.0],
        *[str(AT_S), f"{AT_S}.0", str(AT_S * 1000)],
        *["2022-03-01T21:30:00-07:00", "2022-03-02T04:30:00+00:00", "2022-03-02T04:30:00"],
    ],
)
def test_instants_that_can_be_read_safely_are_read(value):
    """Any offset, none for UTC, seconds and milliseconds since 1970, also as text."""
    assert parse.to_utc(value) == AT_UTC
    assert parse.to_epoch_s(value) == AT_S
    assert parse.to_epoch_us(value) == AT_S * 1_000_000
    series = parse.parse_series({"results": [row(value)]}, "usage", "x")
    assert series.times_s == [AT_S]


def test_epochs_keep_their_fraction():
    """To the microsecond as seconds, to the millisecond as milliseconds."""
    assert parse.to_epoch_us(AT_S + 0.5) == AT_S * 1_000_000 + 500_000
    assert parse.to_epoch_us(f"{AT_S}.000001") == AT_S * 1_000_000 + 1
    assert parse.to_epoch_us(AT_S * 1000 + 250) == AT_S * 1_000_000 + 250_000
    assert parse.to_epoch_s(AT_S * 1000 + 999) == AT_S


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (946684800, datetime(2000, 1, 1, tzinfo=UTC)),
        (946684799, None),
        (4102444799, datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (4102444800, None),
        (946684800000, datetime(2000, 1, 1, tzinfo=UTC)),
        (946684799999, None),
        (4102444799000, datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (4102444800000, None),
        ("20220302", None),
        ("2001010100830", datetime(2033, 5, 29, 20, 8, 20, 830_000, tzinfo=UTC)),
        *[(odd, None) for odd in (0, 1, -AT_S, AT_S * 1_000_000, 20220302, True, 1e999)],
        *[(odd, None) for odd in ("946684799", "200101010830", "-1646195400", "1.6e9", [AT_S])],
        *[(odd, None) for odd in ("9" * 5000, "", {}, float("nan"))],
    ],
)
def test_epochs_are_believed_within_this_century_only(value, instant):
    """Anything else may be a counter, a year or a date without its dashes."""
    assert parse.to_utc(value) == instant


def test_ids():
    """Texts and whole numbers; nothing else names a thing."""
    assert [parse.to_id(value) for value in ("07:1", 12, "", True, 1.5, None, [])] == [
        "07:1",
        "12",
        None,
        None,
        None,
        None,
        None,
    ]


def test_tokens():
    """A lifetime may be missing, a text or nonsense; the token must fit into a header."""
    good = parse.parse_token({"access_token": "a.b-c", "expires_in": 86400, "refresh_token": "r"})
    assert good is not None
    assert (good.value, good.lifetime_s, good.refresh) == ("a.b-c", 86400, "r")
    assert "a.b-c" not in repr(good)
    for lifetime, expected in (("60", 60), (None, None), (True, None), (-5, None), (0, None)):
        found = parse.parse_token({"access_token": "t", "expires_in": lifetime})
        assert found is not None
        assert found.lifetime_s == expected
    for body in (
        None,
        [],
        {},
        {"access_token": ""},
        {"access_token": "a\r\nb"},
        {"access_token": 5},
    ):
        assert parse.parse_token(body) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "bad", "error_description": "very bad"}, "very bad"),
        ({"message": "no"}, "no"),
        ({"error": {"message": "deep"}}, "deep"),
        ({"errors": ["first", "second"]}, "first"),
        ({"errors": [{"message": "in a list"}]}, "in a list"),
        ({"errors": []}, None),
        ({"message": " ", "detail": "d"}, "d"),
        ("plain", "plain"),
        ({"other": 1}, None),
        ([], None),
    ],
)
def test_error_texts(body, text):
    """The first field that says something in words."""
    assert parse.parse_error_text(body) == text
