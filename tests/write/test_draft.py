"""Answers of an unfinished meter, kept for the next run."""

from __future__ import annotations

from pathlib import Path

from copper_cli.records import Series
from copper_cli.write.draft import Draft

ANSWER = Series([0, 3600], [None, 1.25], [None, 1.25], [10.0, 11.25], [1000, 1125], 1.25, "gas")


def test_answers_come_back_to_the_same_question(tmp_path: Path) -> None:
    """Whole, with the instant they reached; the draft is hidden and goes when it is discarded."""
    file = tmp_path / "12_1.usage.csv"
    draft = Draft(file, {"start": "2021-01-01"})
    draft.add("usage", 0, 3600, ANSWER)
    draft.save()
    assert [path.name for path in tmp_path.iterdir()] == [".12_1.usage.csv.draft"]
    again = Draft(file, {"start": "2021-01-01"})
    assert again.find("usage", 0) == (3600, ANSWER)
    assert again.find("usage", 3600) is None
    assert again.find("baseline-series", 0) is None
    again.discard()
    again.discard()
    assert not list(tmp_path.iterdir())


def test_another_question_has_its_own_answers(tmp_path: Path) -> None:
    """Rows of another range or granularity are never mixed in."""
    draft = Draft(tmp_path / "a.csv", {"granularity": "hour"})
    draft.add("usage", 0, 3600, ANSWER)
    draft.save()
    assert Draft(tmp_path / "a.csv", {"granularity": "day"}).find("usage", 0) is None


def test_a_draft_without_answers_is_not_written(tmp_path: Path) -> None:
    """A meter that failed at its first call leaves nothing behind."""
    Draft(tmp_path / "a.csv", {}).save()
    assert not list(tmp_path.iterdir())


def test_a_broken_draft_is_as_none(tmp_path: Path) -> None:
    """What it held can be asked again."""
    for text in ("", "[]", "{", '{"question": {}, "answers": [{}]}', '{"question": {}}'):
        (tmp_path / ".a.csv.draft").write_text(text)
        assert Draft(tmp_path / "a.csv", {}).find("usage", 0) is None
