"""Answers of an unfinished meter, kept on disk for this run and the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from copper_cli.errors import LocalError
from copper_cli.folders.draft import Draft, GridDraft, discard_draft, draft_path, find_drafts
from copper_cli.folders.spool import Spool
from copper_cli.records import GridSeries, Series

ANSWER = Series([0, 3600], [None, 1.25], [None, 1.25], [10.0, 11], [1000, 1125], 1.25, "gas")
MORE = Series([3600, 7200], [1.25, 0], [1.25, 0.0], [11, None], [1125, 1125], None)


def write_two(path: Path, **about: bool) -> None:
    draft = Draft(path, {"start": "2021-01-01"})
    draft.add("usage", 0, 3600, ANSWER, **about)
    draft.add("usage", 3600, 7200, MORE)
    draft.save()


def test_answers_come_back_to_the_same_question(tmp_path: Path) -> None:
    """Whole, numbers as they were written, with the span they were asked for."""
    path = draft_path(tmp_path, "12_1.usage.csv")
    write_two(path)
    assert [one.name for one in tmp_path.iterdir()] == [".12_1.usage.csv.draft"]
    again = Draft(path, {"start": "2021-01-01"})
    found = again.find("usage", 0)
    assert found is not None
    assert (found.end_s, found.rows, found.sum_energy, found.is_filled) == (3600, 2, 1.25, True)
    assert repr(found.load()) == repr(ANSWER)
    later = again.find("usage", 3600)
    assert later is not None
    assert repr(later.load()) == repr(MORE)
    assert again.find("usage", 7200) is None
    assert again.find("baseline-series", 0) is None
    assert find_drafts(tmp_path) == {path.name}
    discard_draft(path)
    discard_draft(path)
    assert not list(tmp_path.iterdir())
    assert find_drafts(tmp_path / "nowhere") == set()


def test_another_question_has_its_own_answers(tmp_path: Path) -> None:
    """Rows of another granularity are never mixed in, and those of the old one go."""
    path = tmp_path / "a.draft"
    write_two(path)
    draft = Draft(path, {"granularity": "day"})
    assert draft.find("usage", 0) is None
    kept = draft.add("usage", 0, 3600, ANSWER)
    draft.save()
    assert kept.load() == ANSWER
    assert Draft(path, {"start": "2021-01-01"}).find("usage", 0) is None


def test_an_answer_is_written_only_when_it_is_saved(tmp_path: Path) -> None:
    """Most meters are one call, and need no draft."""
    draft = Draft(tmp_path / "a.draft", {})
    draft.save()
    kept = draft.add("usage", 0, 3600, ANSWER)
    assert kept.load() is ANSWER
    assert not list(tmp_path.iterdir())
    draft.save()
    assert kept.load() == ANSWER
    assert Draft(tmp_path / "a.draft", {}).find("usage", 0) is not None


def test_without_a_path_all_stays_in_memory() -> None:
    """For sums that are wanted once."""
    draft = Draft()
    kept = [draft.add("usage", n, n + 1, ANSWER) for n in range(3)]
    draft.save()
    assert all(one.load() is ANSWER for one in kept)


def test_what_can_still_change_is_for_this_run_only(tmp_path: Path) -> None:
    """A bucket to come must be asked for again."""
    path = tmp_path / "a.draft"
    write_two(path, settled=False)
    again = Draft(path, {"start": "2021-01-01"})
    assert again.find("usage", 0) is None
    assert again.find("usage", 3600) is not None


def test_what_is_known_from_elsewhere_is_found_at_once(tmp_path: Path) -> None:
    """Rows of a file that is gone on with; answers of this run are not."""
    draft = Draft(tmp_path / "a.draft", {})
    draft.add("usage", 0, 3600, ANSWER, known=True)
    draft.add("usage", 3600, 7200, MORE)
    found = draft.find("usage", 0)
    assert found is not None
    assert found.load() == ANSWER
    assert draft.find("usage", 3600) is None


def test_a_draft_cut_off_anywhere_holds_its_whole_answers(tmp_path: Path) -> None:
    """A kill or a full disk in the middle of the second answer: the first is good, and the next
    run writes on behind it."""
    path = tmp_path / "a.draft"
    write_two(path)
    whole = path.read_bytes()
    one = whole.index(b"\n", whole.index(b"]]")) + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        draft = Draft(path, {"start": "2021-01-01"})
        assert (draft.find("usage", 0) is not None) == (length >= one)
        assert draft.find("usage", 3600) is None
        if length % 7:
            continue
        draft.add("usage", 3600, 7200, MORE)
        draft.save()
        again = Draft(path, {"start": "2021-01-01"}).find("usage", 3600)
        assert again is not None
        assert again.load() == MORE


def test_a_broken_draft_is_as_none(tmp_path: Path) -> None:
    """What it held can be asked again, be it garbled by a byte or by all of them."""
    path = tmp_path / "a.draft"
    write_two(path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for place in range(first, whole.index(b"\n", whole.index(b"]]")), 11):
        path.write_bytes(whole[:place] + b"#" + whole[place + 1 :])
        assert Draft(path, {"start": "2021-01-01"}).find("usage", 0) is None
    for tail in (b"", b"1\n", b"a b c\n", b"-1 5 5\n{}", b"9 99999999999999999999 0\n{}"):
        path.write_bytes(whole[:first] + tail)
        assert Draft(path, {"start": "2021-01-01"}).find("usage", 0) is None


def test_a_draft_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """One line that names the file, as for any other file."""
    draft = Draft(tmp_path / "gone" / "a.draft", {})
    draft.add("usage", 0, 3600, ANSWER)
    with pytest.raises(LocalError, match=r"a\.draft cannot be written"):
        draft.save()


def test_a_full_disk_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two does not fit: what is down stays down, and with space back the other
    follows."""
    draft = Draft(tmp_path / "a.draft", {})
    draft.add("usage", 0, 3600, ANSWER)
    draft.add("usage", 3600, 7200, MORE)
    append, calls = Spool.append, []

    def full(spool: Spool, answers: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise LocalError("the disk is full")
        return append(spool, answers)

    monkeypatch.setattr(Spool, "append", full)
    with pytest.raises(LocalError):
        draft.save()
    draft.save()
    assert len(calls) == 3
    again = Draft(tmp_path / "a.draft", {})
    assert [again.find("usage", at) is not None for at in (0, 3600)] == [True, True]


# Grid readings: one answer for many gateways

DAY = {"a": GridSeries([0, 60_000_000], [1.5, None], [60, 60.5]), "b": GridSeries([7], [2], [3])}
NEXT = {"a": GridSeries([60_000_000, 90_000_000], [9, 4], [9, 61])}


def test_a_gateway_reads_its_part_of_every_answer(tmp_path: Path) -> None:
    """Ascending, from one instant up to another; a reading at a seam stands once."""
    draft = GridDraft(tmp_path / "grid.draft", None)
    draft.add(0, 60, DAY, settled=True)
    draft.add(60, 120, NEXT, settled=True)
    assert list(draft.read("a", 0, 90_000_001)) == [DAY["a"], GridSeries([90_000_000], [4], [61])]
    assert list(draft.read("a", 1, 90_000_000)) == [GridSeries([60_000_000], [None], [60.5])]
    assert list(draft.read("b", 0, 100)) == [DAY["b"]]
    assert list(draft.read("c", 0, 100)) == []


def test_a_later_run_takes_over_whole_settled_answers(tmp_path: Path) -> None:
    """Those that end in the range, are settled and were written to their end."""
    path = tmp_path / "grid.draft"
    draft = GridDraft(path, ["p", None])
    draft.add(0, 60, DAY, settled=True)
    draft.add(60, 120, NEXT, settled=False)
    again = GridDraft(path, ["p", None])
    assert again.recall(0, 59) is None
    assert again.recall(0, 200) == 60
    assert again.recall(60, 200) is None
    again.add(60, 200, NEXT, settled=True)
    assert [piece.times_us for piece in again.read("a", 0, 10**9)] == [
        [0, 60_000_000],
        [90_000_000],
    ]
    assert GridDraft(path, ["q", None]).recall(0, 200) is None

    last = GridDraft(path, ["p", None])
    assert (last.recall(0, 200), last.recall(60, 200)) == (60, 200)
    assert [piece.times_us for piece in last.read("a", 0, 10**9)] == [[0, 60_000_000], [90_000_000]]
    path.write_bytes(path.read_bytes()[:-10])
    torn = GridDraft(path, ["p", None])
    assert (torn.recall(0, 200), torn.recall(60, 200)) == (60, None)


def test_half_an_answer_is_no_part_of_the_next(tmp_path: Path) -> None:
    """A run was killed while it wrote the second; the next writes another one, and the run after
    that finds each where it belongs."""
    path = tmp_path / "grid.draft"
    late = {"a": GridSeries([900_000_000], [1], [2]), "b": GridSeries([900_000_001], [1], [2])}
    draft = GridDraft(path, None)
    draft.add(0, 60, DAY, settled=True)
    draft.add(600, 1200, late, settled=True)
    path.write_bytes(path.read_bytes()[:-20])
    second = GridDraft(path, None)
    assert (second.recall(0, 2000), second.recall(600, 2000)) == (60, None)
    second.add(60, 120, NEXT, settled=True)
    third = GridDraft(path, None)
    assert (third.recall(0, 2000), third.recall(60, 2000)) == (60, 120)
    assert list(third.read("a", 0, 10**9)) == [DAY["a"], GridSeries([90_000_000], [4], [61])]
    assert list(third.read("b", 0, 10**9)) == [DAY["b"]]

    path.write_bytes(path.read_bytes()[:60])  # within the first answer
    fourth = GridDraft(path, None)
    assert fourth.recall(0, 2000) is None
    fourth.add(0, 60, NEXT, settled=True)
    assert list(GridDraft(path, None).read("b", 0, 10**9)) == []
