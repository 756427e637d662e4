"""Many entries of one manifest: what they share is parsed once, what differs never mixed."""

import json
from contextlib import suppress

import pytest

from copper_cli.errors import LocalError
from copper_cli.folders.entries import (
    Entry,
    Question,
    entry_to_json,
    read_manifest,
    read_names,
    render_manifest,
)

QUESTION = Question("meter usage", "2020-12-22", "2021-01-12", "hour", None, "rows")
WINDOW = ["2020-12-22T07:00:00Z", "2020-12-23T07:00:00Z"]


def write(path, **changes):
    """A manifest of two entries, the second with changes."""
    entry = entry_to_json(Entry(QUESTION, "07:1", "fetched")) | {"windows": [WINDOW]}
    files = {"a.csv": entry, "b.csv": entry | changes}
    path.write_text(json.dumps({"format": "copper-manifest", "version": 1, "files": files}))
    return path


def test_equal_questions_and_windows_are_shared(tmp_path):
    """Ten thousand entries hold one question and one span, not as many."""
    found = read_manifest(write(tmp_path / "manifest.json"))[0]
    assert found["a.csv"].question == QUESTION
    assert found["a.csv"].question is found["b.csv"].question
    assert found["a.csv"].windows is found["b.csv"].windows


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("command", "dump"),
        ("start", "2020-12-21"),
        ("end", "2021-01-13"),
        ("granularity", None),
        ("timezone", "UTC"),
        ("layout", "plain"),
        ("extras", {"baseline": True}),
    ],
)
def test_questions_that_differ_anywhere_stay_apart(tmp_path, key, value):
    """Each entry comes back with its own."""
    question = entry_to_json(Entry(QUESTION, "", "fetched"))["question"] | {key: value}
    found = read_manifest(write(tmp_path / "manifest.json", question=question))[0]
    assert found["a.csv"].question == QUESTION
    assert getattr(found["b.csv"].question, key) == value


@pytest.mark.parametrize("one", [True, 1, 1.0])
def test_extras_come_back_as_they_were_written(tmp_path, one):
    """Equal values of other kinds are not taken for each other: the bytes stay as they were."""
    first = Entry(Question("c", "", "", extras={"x": 1}), "", "fetched")
    other = Entry(Question("c", "", "", extras={"x": one}), "", "fetched")
    path = tmp_path / "manifest.json"
    text = render_manifest({"a.csv": first, "b.csv": other})
    path.write_text(text)
    assert render_manifest(*read_manifest(path)) == text


@pytest.mark.parametrize(
    "windows",
    [
        [WINDOW, WINDOW],
        [[WINDOW[0], WINDOW[0]]],
        [],
    ],
)
def test_windows_that_differ_stay_apart(tmp_path, windows):
    """One more, another end, none."""
    found = read_manifest(write(tmp_path / "manifest.json", windows=windows))[0]
    assert entry_to_json(found["a.csv"])["windows"] == [WINDOW]
    assert entry_to_json(found["b.csv"])["windows"] == windows


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("windows", [[WINDOW]]),
        ("windows", [WINDOW, {}]),
        ("windows", ["".join(WINDOW)]),
        ("question", None),
        ("question", {"command": []}),
        ("question", entry_to_json(Entry(QUESTION, "", "fetched"))["question"] | {"start": []}),
        ("question", entry_to_json(Entry(QUESTION, "", "fetched"))["question"] | {"extras": []}),
    ],
)
def test_a_second_entry_is_checked_as_the_first(tmp_path, key, value):
    """What was parsed before makes nothing else right."""
    with pytest.raises(LocalError, match="damaged or no manifest of this program"):
        read_manifest(write(tmp_path / "manifest.json", **{key: value}))


def test_deep_nesting_is_no_bug(tmp_path):
    """However deep: it is read, or told as damage where that goes too deep."""
    path = write(tmp_path / "manifest.json")
    text = path.read_text()
    for depth in range(850, 1050):
        nested = '{"x":' * depth + "1" + "}" * depth
        path.write_text(text.replace('"extras": {}', f'"extras": {nested}'))
        with suppress(LocalError):
            read_manifest(path)


def test_names_alone(tmp_path):
    """As the manifest has them; none without one; what is no manifest is told as ever."""
    path = tmp_path / "manifest.json"
    assert read_names(path) == []
    assert read_names(write(path)) == ["a.csv", "b.csv"]
    path.write_text('{"format": "copper-manifest", "version": 1, "files": []}')
    with pytest.raises(LocalError, match="damaged or no manifest of this program"):
        read_names(path)
