"""How long a span a call may ask for: learned from what the cloud grants and refuses."""

from __future__ import annotations

import json
import threading
from math import ceil
from statistics import mean

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copper_cli.cloud import spans
from copper_cli.cloud.span_lengths import choose_probe
from copper_cli.cloud.spans import (
    SpanBook,
    forget_spans,
    look_at_spans,
    open_spans,
)

from .mini_cloud import FakeClock, make_settings

YEAR = 8760
WEEK_S = 7 * 86400


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "spans.json"


@pytest.fixture
def book(path, clock):
    return SpanBook(path, clock.now)


def ask(book, left, limit, *, even=1, name="hour", most=None) -> list[int]:
    """What a window's calls asked for, where a cloud refuses all that is longer than `limit`."""
    asked = []
    while left > 0:
        with book.attempt(name, left, most=most, even=even) as attempt:
            asked.append(attempt.length)
            while attempt.length > limit:
                assert attempt.refuse()
                asked.append(attempt.length)
            attempt.grant()
        left -= attempt.length
    return asked


def know(book, granted, refused, name="hour") -> None:
    book.granted(name, granted)
    book.refused(name, refused)


def next_length(book, left=YEAR, **options) -> int:
    with book.attempt("hour", left, **options) as attempt:
        return attempt.length


# In how many calls


def test_without_a_refusal_all_is_asked_at_once(book):
    """A call that was answered limits nothing."""
    assert next_length(book) == YEAR
    book.granted("hour", 1000)
    assert next_length(book) == YEAR
    assert book.expect("hour", YEAR) == YEAR


@pytest.mark.parametrize(
    ("left", "granted", "refused", "even", "length"),
    [
        # 16 calls or 5; half way by ratio are 9: 974 hours, in whole days 984
        (8760, 548, 2190, 1, 974),
        (8760, 548, 2190, 24, 984),
        # 13 calls or 12: 730 hours would do, unless 31 days are granted, which read better
        (8760, 720, 790, 24, 744),
        # but where 31 days are refused there are still the 730 hours
        (8760, 720, 744, 24, 730),
        # 730 hours and 743 both need 12 calls: nothing to be gained
        (8760, 730, 744, 24, 730),
        # 31 days cost no more calls than 31 days and an hour
        (8760, 745, 746, 24, 744),
        # 2,879 minutes need 4 calls a week, whole days 7
        (10080, 2879, 2880, 1440, 2879),
        # where one call would do, one is tried
        (100, 50, 101, 1, 100),
    ],
)
def test_only_lengths_that_save_a_call_are_tried(left, granted, refused, even, length):
    """Numbers by hand."""
    assert choose_probe(left, granted, refused, even) == length


@given(
    left=st.integers(1, 600_000),
    granted=st.integers(1, 100_000),
    more=st.integers(1, 100_000),
    even=st.sampled_from([1, 12, 24, 96, 1440]),
)
def test_a_length_that_is_tried_lies_between_and_saves_a_call(left, granted, more, even):
    """Else it is one that is granted, and takes as few calls as the longest that is."""
    refused = granted + more
    length = choose_probe(left, granted, refused, even)
    assert 1 <= length < refused
    if length > granted and length < left:
        assert ceil(left / length) < ceil(left / granted)
    elif length <= granted:
        assert ceil(left / length) == ceil(left / granted) == ceil(left / max(granted, refused - 1))


@settings(max_examples=60, deadline=None)
@given(
    left=st.integers(1, 50_000),
    share=st.floats(0.002, 1),
    even=st.sampled_from([1, 24, 1440]),
)
@example(left=8760, share=743 / 8760, even=24)
@example(left=8760, share=4380 / 8760, even=24)
@example(left=8760, share=4379 / 8760, even=24)
@example(left=10080, share=2879 / 10080, even=1440)
@example(left=365, share=122 / 365, even=1)
def test_many_windows_take_the_fewest_calls_whatever_the_limit(left, share, even):
    """A hundred windows cost 30 calls more than they must at most, and the last ones none."""
    book, limit = SpanBook(None, lambda: 0.0), max(1, int(left * share))
    fewest = ceil(left / limit)
    counts = [len(ask(book, left, limit, even=even)) for _ in range(100)]
    assert sum(counts) <= 100 * fewest + 30
    assert counts[-10:] == [fewest] * 10
    assert ceil(left / book.expect("hour", left, even=even)) == fewest


def test_finding_out_costs_a_single_window_little():
    """A year of hours, limits of 1 to 52 weeks as likely from 2 to 4 as from 4 to 8: less than
    five calls more than the fewest on average; a month, limits of 1 to 31 days: less than four."""
    for left, least, bound in ((YEAR, 168, 5), (744, 24, 4)):
        limits = [round(least * (left / least) ** (n / 99)) for n in range(100)]
        more = [
            len(ask(SpanBook(None, lambda: 0.0), left, limit, even=24)) - ceil(left / limit)
            for limit in limits
        ]
        assert mean(more) < bound


def test_one_window_tries_what_pays_for_itself_and_more_windows_the_rest(book):
    """12 calls or 11, and 797 to 899 hours lie above the 797 that would do it, three in four by
    ratio: tried at once. With 797 to 805 it is one in thirteen: only some windows later."""
    know(book, 744, 900)
    assert next_length(book) == 797
    book.refused("hour", 806)
    assert next_length(book) == 744
    tried = [max(ask(book, YEAR, 796)) for _ in range(12)]
    assert 797 in tried
    assert tried[-1] == 744


def test_no_call_asks_for_more_than_is_wanted(book):
    """Six calls of at most 99,999 minutes make up a year, of 69 whole days each."""
    most = 99_999
    assert ask(book, 525_600, most, even=1440, most=most) == [*[99_360] * 5, 28_800]
    book.refused("hour", 300_000)
    assert next_length(book, 525_600, most=most, even=1440) == 99_360


def test_names_are_apart(book):
    """Minutes may be limited where days are not."""
    ask(book, 1440, 100, name="minute")
    assert book.expect("day", 365) == 365


# What a refusal says


def test_a_meter_refused_at_any_length_teaches_nothing(book, path):
    """From a year down to an hour in ten calls at most; then the others are asked as before."""
    lengths = []
    with book.attempt("hour", YEAR) as attempt:
        lengths.append(attempt.length)
        while attempt.refuse():
            lengths.append(attempt.length)
    assert lengths == sorted(set(lengths), reverse=True)
    assert lengths[-1] == 1
    assert len(lengths) <= 10
    assert next_length(book) == YEAR
    assert not path.exists()


def test_a_meter_refused_at_what_others_were_granted_costs_two_calls(book):
    """The shortest tells at once whose fault it is."""
    know(book, 744, 745)
    with book.attempt("hour", YEAR) as attempt:
        assert attempt.length == 744
        assert attempt.refuse()
        assert attempt.length == 1
        assert not attempt.refuse()
    assert next_length(book) == 744


def test_after_a_refusal_what_is_granted_is_asked(book):
    """A year is refused, 31 days were granted."""
    book.granted("hour", 744)
    with book.attempt("hour", YEAR) as attempt:
        assert attempt.length == YEAR
        assert attempt.refuse()
        assert attempt.length == 744


@pytest.mark.parametrize("limit", [1, 24, 300])
def test_one_odd_meter_does_not_make_the_cloud_stricter(book, limit):
    """What others were granted is tried once more by the next; granted, all is as it was."""
    know(book, 744, 745)
    ask(book, 2000, limit)
    assert ask(book, YEAR, 744) == [*[744] * 11, 576]
    assert ask(book, YEAR, 744) == [*[744] * 11, 576]


def test_the_second_refusal_of_what_was_granted_is_believed(book):
    """From 31 days to 10: 37 calls a year again after the third window."""
    know(book, 744, 745)
    assert len(ask(book, YEAR, 240)) <= 37 + 12
    for _ in range(3):
        ask(book, YEAR, 240)
    assert len(ask(book, YEAR, 240)) == 37


# Answers cut short


def test_the_second_answer_cut_at_a_length_is_a_limit(book):
    """Once may be chance."""
    book.granted("hour", YEAR)
    book.cut("hour", 743)
    assert next_length(book) == YEAR
    book.cut("hour", 240)
    book.cut("hour", 743)
    assert next_length(book) == YEAR
    book.cut("hour", 743)
    assert next_length(book) == 743
    assert book.expect("hour", YEAR) == 743


def test_an_answer_without_rows_lifts_no_limit(book):
    """What has no rows cannot be cut; a long answer with all its rows shows that none is."""
    for _ in range(2):
        book.cut("hour", 743)
    book.granted("hour", YEAR, whole=False)
    assert next_length(book) == 743
    book.granted("hour", YEAR)
    assert next_length(book) == YEAR


# Time


def test_after_a_week_the_next_length_that_saves_a_call_is_tried(book, clock):
    """12 calls of 744 hours: 11 of 797 would be fewer. Refused, 744 hold for another week."""
    know(book, 744, 745)
    clock.now_s += WEEK_S
    assert next_length(book) == 744
    clock.now_s += 1
    assert next_length(book) == 797
    assert next_length(book, even=24) == 816
    assert ask(book, YEAR, 744) == [797, *[744] * 11, 576]
    assert ask(book, YEAR, 744) == [*[744] * 11, 576]
    clock.now_s += WEEK_S + 1
    assert ask(book, YEAR, YEAR) == [797, YEAR - 797]
    assert ask(book, YEAR, YEAR) == [YEAR]


def test_a_cloud_half_as_strict_is_noticed_after_a_week(book, clock):
    """From 31 days to 90: 5 calls instead of 12."""
    know(book, 744, 745)
    clock.now_s += WEEK_S + 1
    for _ in range(12):
        asked = ask(book, YEAR, 2160)
    assert len(asked) == 5


def test_a_clock_set_back_keeps_no_limit_for_ever(book, clock):
    """A limit learned in the future was learned by a wrong clock: it is tried again."""
    know(book, 744, 745)
    clock.now_s -= 3600
    assert next_length(book) == 797


# The file


def test_what_was_learned_is_kept(book, path, clock):
    """The next run starts from it."""
    assert len(ask(book, YEAR, 744, even=24)) > 12
    for _ in range(5):
        ask(book, YEAR, 744, even=24)
    again = SpanBook(path, clock.now)
    assert ask(again, YEAR, 744, even=24) == [*[744] * 11, 576]


def test_two_processes_keep_what_either_has_learned(path, clock):
    """Of other names, and of the same: the longest granted and the shortest refused."""
    first, second = SpanBook(path, clock.now), SpanBook(path, clock.now)
    know(first, 744, 745)
    know(second, 31, 32, name="day")
    know(second, 500, 1000)
    for name, left, limit in (("hour", YEAR, 744), ("day", 365, 31)):
        fresh = SpanBook(path, clock.now)
        assert len(ask(fresh, left, limit, name=name)) == 12


def test_another_process_is_asked_before_a_length_is_tried(path, clock):
    """It may have found out since this one began: then no call is refused."""
    second = SpanBook(path, clock.now)
    ask(SpanBook(path, clock.now), YEAR, 744)
    assert len(ask(second, YEAR, 744)) == 12


def test_of_two_that_contradict_each_other_the_later_holds(path, clock):
    """31 days were learned, then another process was granted a year."""
    first, second = SpanBook(path, clock.now), SpanBook(path, clock.now)
    know(first, 744, 745)
    clock.now_s += 1
    know(second, 500, 600)
    second.granted("hour", YEAR)
    assert SpanBook(path, clock.now).expect("hour", YEAR) == YEAR
    first.granted("hour", 745)
    assert SpanBook(path, clock.now).expect("hour", YEAR) == YEAR


GOOD = {"granted": 744, "refused": 745, "before": None, "learned_s": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"hour": 5}',
        '{"hour": {"odd": 1}}',
        '{"hour": {"allowed": 745, "refused": 746, "learned_s": 0.0}}',
        *(
            json.dumps({"hour": GOOD | odd})
            for odd in (
                {"granted": "x"},
                {"refused": None},
                {"granted": 1.5},
                {"granted": True},
                {"granted": -1},
                {"granted": 745},
                {"before": 5},
                {"before": [1]},
                {"before": [1, "x"]},
                {"learned_s": None},
                {"learned_s": "x"},
            )
        ),
    ],
)
def test_a_broken_file_is_ignored(tmp_path, clock, text):
    """It can be learned again; what cannot be compared would fail at every call."""
    (tmp_path / "spans.json").write_text(text)
    book = SpanBook(tmp_path / "spans.json", clock.now)
    assert next_length(book) == YEAR
    know(book, 744, 745)
    assert SpanBook(tmp_path / "spans.json", clock.now).expect("hour", YEAR) == 744


def test_a_good_file_is_read(tmp_path, clock):
    """So that the test above shows what it says."""
    good = GOOD | {"learned_s": clock.now_s, "before": [800, 900]}
    (tmp_path / "spans.json").write_text(json.dumps({"hour": good}))
    assert next_length(SpanBook(tmp_path / "spans.json", clock.now)) == 800


def test_without_a_file_it_learns_for_this_run(tmp_path, clock):
    """No path, or one that takes no writing."""
    (tmp_path / "file").write_text("")
    for book in (SpanBook(None, clock.now), SpanBook(tmp_path / "file" / "x.json", clock.now)):
        ask(book, YEAR, 744)
        assert len(ask(book, YEAR, 744)) == 12


# Threads


class Others:
    """Threads that each ask for one span, told when they have one."""

    def __init__(self, book, count, limit) -> None:
        self.got: list[list[int]] = []
        self.threads = [
            threading.Thread(target=lambda: self.got.append(ask(book, YEAR, limit)))
            for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def join(self) -> list[list[int]]:
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        return self.got


def test_others_wait_for_what_one_thread_tries(book):
    """A year is refused, then shorter lengths: none is asked for by two."""
    with book.attempt("hour", YEAR) as attempt:
        others = Others(book, 4, 744)
        while attempt.length > 744:
            assert attempt.refuse()
        attempt.grant()
    asked = others.join()
    assert all(max(lengths) < YEAR for lengths in asked)
    refused = [length for lengths in asked for length in lengths if length > 744]
    assert len(refused) == len(set(refused))


def test_others_do_not_wait_for_ever(book, monkeypatch):
    """An answer may take minutes: meanwhile they take what is granted."""
    monkeypatch.setattr(spans, "_PATIENCE_S", 0.001)
    know(book, 744, 1000)
    book.granted("hour", 750)
    with book.attempt("hour", YEAR) as attempt:
        assert attempt.length > 750
        for asked in Others(book, 4, 750).join():
            assert asked == [*[750] * 11, 510]


@pytest.mark.parametrize("fails", [True, False])
def test_a_thread_that_ends_without_an_answer_lets_others_try(book, fails):
    """An error, or a meter refused at any length."""
    others = None
    try:
        with book.attempt("hour", YEAR) as attempt:
            others = Others(book, 2, YEAR)
            if fails:
                raise OSError
            while attempt.refuse():
                pass
    except OSError:
        pass
    assert others is not None
    assert others.join() == [[YEAR], [YEAR]]


# Whose limit it is


def meter_ask(book, meter, left, *, refused_above=1 << 40, rows=1 << 40, name="hour") -> int:
    """The calls of one meter's window, where more is refused, or answered with fewer rows."""
    calls = 0
    while left > 0:
        with book.attempt(name, left, meter=meter) as attempt:
            calls += 1
            while attempt.length > refused_above:
                assert attempt.refuse()
                calls += 1
            part = attempt.length
            if part <= rows:
                attempt.grant()
            else:
                rest = part
                while rest > rows:  # what an answer leaves out is asked for until it is whole
                    attempt.cut(rows)
                    calls += 1
                    rest -= rows
        left -= part
    return calls


LIMITS = [{"refused_above": 5}, {"rows": 5}]
ODD = {"refused": LIMITS[0], "cut": LIMITS[1]}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("first", [True, False])
def test_one_odd_meter_makes_no_other_dear(path, clock, odd, first):
    """Of 25 meters one is granted 5 hours a call for ever: the others' days take one call each on
    every later day, and so says the plan; the odd one's take five."""
    fleet = [f"m{n}" for n in range(25)]
    strange = fleet[0] if first else fleet[12]
    for day in range(6):
        book = SpanBook(path, clock.now)
        calls = {one: meter_ask(book, one, 24, **(odd if one == strange else {})) for one in fleet}
        others = sum(calls.values()) - calls[strange]
        assert others <= (26 if day == 0 else 24)
        assert calls[strange] <= (12 if day == 0 else 6)
        plan = SpanBook(path, clock.now)
        assert [plan.expect("hour", 24, meter=one) for one in fleet if one != strange] == [24] * 24
        assert plan.expect("hour", 24, meter=strange) == 5
        assert plan.expect("hour", 24, meter="new") == 24
        clock.now_s += 86400


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_odd_meters_at_the_head_of_a_list(path, clock, odd, count):
    """The others may be wrong about it for a while: a few calls, not five times as many."""
    fleet = [f"m{n}" for n in range(200)]
    book = SpanBook(path, clock.now)
    calls = [meter_ask(book, one, 24, **(odd if n < count else {})) for n, one in enumerate(fleet)]
    assert sum(calls[count:]) <= 200 + 50
    book = SpanBook(path, clock.now)
    calls = [meter_ask(book, one, 24, **(odd if n < count else {})) for n, one in enumerate(fleet)]
    assert sum(calls[count:]) <= 200
    assert max(calls[:count]) <= 12


@pytest.mark.parametrize("limit", [{"refused_above": 744}, {"rows": 744}], ids=["refused", "cut"])
def test_a_limit_of_all_is_learned_from_several_meters(path, clock, limit):
    """A year of hundred meters: hardly more than the fewest calls; the plan of any meter, and of
    one that was never asked, is the fewest."""
    book = SpanBook(path, clock.now)
    calls = sum(meter_ask(book, f"m{n}", YEAR, **limit) for n in range(100))
    assert calls <= 100 * 12 + 25
    assert ceil(YEAR / book.expect("hour", YEAR, meter="never asked")) == 12
    (known,) = book.limits()
    assert (known.name, known.meter) == ("hour", "")
    assert known.seen > 2


def test_a_single_meter_s_limit_is_doubted_by_the_next(book):
    """It tries the least that would save a call, and is granted: the first one is odd."""
    meter_ask(book, "m1", 24, refused_above=5)
    assert book.expect("hour", 24, meter="m1") == 5
    assert meter_ask(book, "m2", 24) <= 2
    assert book.expect("hour", 24, meter="m3") == 24
    assert book.expect("hour", 24, meter="m1") == 5


def test_an_oddity_that_ends_is_forgotten(book, clock):
    """After a week it is tried again, and then the meter is like the others."""
    meter_ask(book, "m1", 24)
    meter_ask(book, "m2", 24, refused_above=5)
    for _ in range(4):
        meter_ask(book, "m2", 24, refused_above=5)
    assert book.expect("hour", 24, meter="m2") == 5
    clock.now_s += WEEK_S + 1
    meter_ask(book, "m2", 24)
    assert book.expect("hour", 24, meter="m2") == 24
    assert book.limits() == []


def test_a_cloud_that_is_stricter_is_believed_after_two_meters(book):
    """From a month to ten days: the third meter takes no more calls than it must and a few."""
    meter_ask(book, "m1", YEAR, refused_above=744)
    meter_ask(book, "m2", YEAR, refused_above=744)
    for n in range(3, 30):
        calls = meter_ask(book, f"m{n}", YEAR, refused_above=240)
    assert calls <= 37 + 2
    assert [one.meter for one in book.limits()] == [""]


# Whose book it is


def test_another_host_or_partner_has_another_book(tmp_path):
    """What a local cloud grants says nothing of the real one, nor a partner's contract of another's."""
    settings = [
        make_settings("http://127.0.0.1:1", tmp_path),
        make_settings("http://127.0.0.1:2", tmp_path),
        make_settings("http://127.0.0.1:1", tmp_path, enterprise_id="other"),
        make_settings("http://127.0.0.1:1", tmp_path, enterprise_id="", client_id="app"),
    ]
    know(open_spans(settings[0], FakeClock().now), 744, 745)
    expected = [open_spans(one, FakeClock().now).expect("hour", YEAR) for one in settings]
    assert expected == [744, YEAR, YEAR, YEAR]
    same = make_settings("http://localhost:1/", tmp_path, client_id="another")
    assert open_spans(same, FakeClock().now).expect("hour", YEAR) == 744


def test_what_an_older_version_learned_goes_on_for_the_first_that_asks(tmp_path, clock):
    """One file stood for all hosts and partners; for any other it counts no more."""
    first = make_settings("https://api.example.com", tmp_path)
    second = make_settings("https://api.example.com", tmp_path, enterprise_id="other")
    first.cache_dir.mkdir()
    old = GOOD | {"learned_s": clock.now_s, "hope": 0.5}
    (first.cache_dir / "spans.json").write_text(json.dumps({"hour": old}))
    assert open_spans(first, clock.now).expect("hour", YEAR, meter="m1") == 744
    assert open_spans(second, clock.now).expect("hour", YEAR, meter="m1") == YEAR
    assert open_spans(first, clock.now).expect("hour", YEAR, meter="m1") == 744


def test_what_an_older_version_learned_wrongly_is_found_out(tmp_path, clock):
    """One meter had taught it 5 hours: the next meter doubts it."""
    settings = make_settings("https://api.example.com", tmp_path)
    settings.cache_dir.mkdir()
    old = GOOD | {"granted": 5, "refused": 6, "learned_s": clock.now_s}
    (settings.cache_dir / "spans.json").write_text(json.dumps({"hour": old}))
    book = open_spans(settings, clock.now)
    assert sum(meter_ask(book, f"m{n}", 24) for n in range(25)) <= 26


def test_looking_takes_nothing_over(tmp_path, clock):
    """Whoever only looks sees what an older version learned, and leaves it where it is."""
    settings = make_settings("https://api.example.com", tmp_path)
    settings.cache_dir.mkdir()
    older = settings.cache_dir / "spans.json"
    older.write_text(json.dumps({"hour": GOOD}))
    assert [one.granted for one in look_at_spans(settings, clock.now).limits()] == [744]
    assert older.exists()
    assert forget_spans(settings)
    assert not forget_spans(settings)
    assert open_spans(settings, clock.now).expect("hour", YEAR) == YEAR


@pytest.mark.parametrize(
    "odd", [{"seen": -1}, {"seen": "x"}, {"meters": "m1"}, {"meters": [1]}, {"doubt": "x"}]
)
def test_a_broken_book_is_ignored(tmp_path, clock, odd):
    """As a broken older one is."""
    path = tmp_path / "spans.json"
    path.write_text(json.dumps({"host": "h", "partner": "p", "spans": {"hour": GOOD | odd}}))
    assert next_length(SpanBook(path, clock.now)) == YEAR
    path.write_text(json.dumps({"host": "h", "partner": "p", "spans": {"hour": GOOD}}))
    assert SpanBook(path, clock.now).expect("hour", YEAR) == 744


def test_a_full_disk_loses_what_was_learned_and_no_more(path, clock, monkeypatch):
    """It is known for this run."""

    def no_room(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", no_room)
    book = SpanBook(path, clock.now)
    ask(book, YEAR, 744)
    assert len(ask(book, YEAR, 744)) == 12
    assert SpanBook(path, clock.now).expect("hour", YEAR) == YEAR
