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
