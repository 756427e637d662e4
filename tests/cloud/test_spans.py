"""How many rows a call may ask for: learned from what the cloud grants and refuses."""

from __future__ import annotations

import pytest

from copper_cli.cloud.spans import SpanBook

from .mini_cloud import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def book(tmp_path, clock):
    return SpanBook(tmp_path / "new" / "spans.json", clock.now)


def test_nothing_is_limited_before_a_refusal(book):
    """A call that was answered limits nothing."""
    assert book.limit("hour") is None
    book.accepted("hour", 1000)
    assert book.limit("hour") is None
    assert book.allowed_rows("hour") is None


def test_the_limit_is_searched_by_halves(book):
    """Refused 1000: 500. Granted 500: 750. Refused 750, granted 625: 687."""
    book.refused("hour", 1000)
    assert book.limit("hour") == 500
    book.accepted("hour", 500)
    assert book.limit("hour") == 750
    book.refused("hour", 750)
    book.accepted("hour", 625)
    assert book.limit("hour") == 687
    assert book.allowed_rows("hour") == 625
    assert book.limit("day") is None


def test_near_is_near_enough(book):
    """Within 5 % of the refusal the granted length is used."""
    book.refused("hour", 1000)
    book.accepted("hour", 960)
    assert book.limit("hour") == 960


def test_a_cut_tells_the_limit_exactly(book):
    """744 rows came although there are more."""
    book.cut("hour", 744)
    assert book.limit("hour") == 744


def test_the_cloud_may_change_its_mind(book):
    """More generous: no limit any more. Stricter: search anew below."""
    book.refused("hour", 1000)
    book.accepted("hour", 1200)
    assert book.limit("hour") is None
    book.refused("hour", 600)
    assert book.limit("hour") == 300
    assert book.allowed_rows("hour") is None


def test_a_limit_is_forgotten_after_a_week(book, clock):
    """Then it is tried again."""
    book.refused("hour", 1000)
    clock.now_s += 7 * 86400
    assert book.limit("hour") == 500
    clock.now_s += 1
    assert book.limit("hour") is None


def test_what_was_learned_is_kept(book, tmp_path, clock):
    """The next run starts from it."""
    book.cut("hour", 744)
    assert SpanBook(tmp_path / "new" / "spans.json", clock.now).limit("hour") == 744


@pytest.mark.parametrize("text", ["", "[]", "{", '{"hour": 5}', '{"hour": {"odd": 1}}'])
def test_a_broken_file_is_ignored(tmp_path, clock, text):
    """It can be learned again."""
    (tmp_path / "spans.json").write_text(text)
    book = SpanBook(tmp_path / "spans.json", clock.now)
    assert book.limit("hour") is None
    book.refused("hour", 10)
    assert book.limit("hour") == 5


def test_without_a_file_it_learns_for_this_run(tmp_path, clock):
    """No path, or one that takes no writing."""
    (tmp_path / "file").write_text("")
    for book in (SpanBook(None, clock.now), SpanBook(tmp_path / "file" / "x.json", clock.now)):
        book.refused("hour", 10)
        assert book.limit("hour") == 5


def test_after_a_refusal_comes_what_was_granted_else_half(book):
    """500 of 1000 are known to be granted; of 400 nothing is known but that they are refused."""
    assert book.after_refusal("hour", 1000) == 500
    book.accepted("hour", 500)
    assert book.after_refusal("hour", 1000) == 500
    assert book.after_refusal("hour", 500) == 250
    assert book.after_refusal("hour", 3) == 2
    assert book.after_refusal("day", 1000) == 500


def test_after_a_refusal_fewer_rows_are_asked_always(book):
    """However often a call is refused, the next is shorter, down to two rows."""
    for granted in (0, 1, 2, 700):
        book.accepted("hour", granted)
        rows = 100_000
        while rows > 2:
            assert 2 <= book.after_refusal("hour", rows) < rows
            rows = book.after_refusal("hour", rows)


def test_a_cut_replaces_what_was_granted(book):
    """745 rows came of 8761 that were granted without a word."""
    book.accepted("hour", 8761)
    book.cut("hour", 745)
    assert (book.limit("hour"), book.allowed_rows("hour")) == (745, 745)
    book.cut("hour", 241)
    assert book.limit("hour") == 241


def test_granularities_are_apart(book):
    """Minutes may be limited where days are not."""
    book.cut("minute", 1441)
    assert book.limit("day") is None
    assert book.allowed_rows("day") is None


def test_a_clock_set_back_keeps_no_limit_for_ever(book, clock):
    """A limit learned in the future was learned by a wrong clock: it is tried again."""
    book.refused("hour", 1000)
    clock.now_s -= 3600
    assert book.limit("hour") is None


@pytest.mark.parametrize(
    "span",
    [
        '{"allowed": "x", "refused": 5}',
        '{"allowed": 1, "refused": null}',
        '{"allowed": 1.5, "refused": 9}',
        '{"allowed": true, "refused": 9}',
        '{"allowed": 1, "refused": 9, "learned_s": null}',
        '{"allowed": 1, "refused": 9, "learned_s": "x"}',
    ],
)
def test_a_file_with_odd_values_is_ignored(tmp_path, clock, span):
    """What cannot be compared would fail at every call."""
    (tmp_path / "spans.json").write_text(f'{{"hour": {span}}}')
    book = SpanBook(tmp_path / "spans.json", clock.now)
    assert book.limit("hour") is None
    book.accepted("hour", 100)
    book.refused("hour", 200)
    assert book.limit("hour") == 150
