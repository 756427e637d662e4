"""An archive whose marker or landing is lost: opened again, with what can be had of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from test_archive_forget import LONG, START, STAYS, fill, key, rows_of
from test_archive_lists import OWNER

from copper_cli.archive import partitions
from copper_cli.archive.check import check
from copper_cli.archive.home import Owner, open_archive, open_existing, read_marker
from copper_cli.archive.rescue import rescue
from copper_cli.errors import LocalError

HOUR = 3600
SPAN = START, START + HOUR * LONG


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with two months published and some rows that wait."""
    path = tmp_path / "a"
    with open_archive(OWNER, path) as archive:
        fill(archive)
        partitions.publish(archive)
        archive.set_note("kept", "yes")
    return path


def mend(path: Path, owner: Owner | None = OWNER) -> list[str]:
    """What `check --repair` does: why the archive could not be opened comes back."""
    faults = rescue(path, owner, repair=True)
    assert all(fault.mended for fault in faults)
    with open_existing(path) as opened:
        check(opened.archive, repair=True)
    assert rescue(path, owner, repair=False) == []
    with open_existing(path) as opened:
        assert [one for one in check(opened.archive, repair=False) if one.what != "leftover"] == []
    return [fault.where for fault in faults]


def test_a_sound_archive_needs_no_rescue(path: Path, tmp_path: Path) -> None:
    """Nor does one that is not there, or is new."""
    assert rescue(path, OWNER, repair=True) == []
    assert rescue(tmp_path / "none", OWNER, repair=True) == []
    (tmp_path / "empty").mkdir()
    assert rescue(tmp_path / "empty", OWNER, repair=True) == []


@pytest.mark.parametrize("text", [None, "", "{", "\x00" * 200])
def test_the_marker_is_written_again_from_its_copy(path: Path, text: str | None) -> None:
    """The same id and key: files need not be made anew, and forgotten stays forgotten."""
    before = read_marker(path)
    (path / "archive.json").unlink()
    if text is not None:
        (path / "archive.json").write_text(text)
    (fault,) = rescue(path, None, repair=False)
    assert fault.where == str(path / "archive.json")
    assert fault.mended is None
    assert mend(path, None) == [str(path / "archive.json")]
    assert read_marker(path) == before


def test_without_its_copy_the_marker_is_made_for_whom_the_settings_name(path: Path) -> None:
    """Where these name nobody, it is said what would."""
    (path / "archive.json").unlink()
    (path / "landing.sqlite").unlink()
    (fault,) = rescue(path, None, repair=True)
    assert fault.mended is None
    assert "COPPER_ENTERPRISE_ID" in fault.text
    assert len(mend(path)) == 2
    marker = read_marker(path)
    assert marker is not None
    assert marker.owner == OWNER
    with open_archive(OWNER, path) as archive:
        assert rows_of(archive, STAYS) == LONG


def test_a_newer_version_is_left_alone(path: Path) -> None:
    """Neither its marker nor its landing is touched."""
    with closing(sqlite3.connect(path / "landing.sqlite")) as db:
        db.execute("PRAGMA user_version=2")
    before = {one: one.read_bytes() for one in path.iterdir() if one.is_file()}
    assert rescue(path, OWNER, repair=True) == []
    text = (path / "archive.json").read_text().replace('"version": 1', '"version": 2')
    (path / "archive.json").write_text(text)
    with pytest.raises(LocalError, match="newer version"):
        rescue(path, OWNER, repair=True)
    before[path / "archive.json"] = text.encode()
    assert {one: one.read_bytes() for one in path.iterdir() if one.is_file()} == before


@pytest.mark.parametrize("how", ["gone", "empty head", "no database"])
def test_without_its_landing_months_are_known_from_their_rows(path: Path, how: str) -> None:
    """No call is needed for them; the lists and what waited are fetched again."""
    file = path / "landing.sqlite"
    if how == "gone":
        file.unlink()
    elif how == "empty head":
        file.write_bytes(bytes(16384) + file.read_bytes()[16384:])
    else:
        file.write_bytes(b"something else")
    assert rescue(path, OWNER, repair=False)[0].mended is None
    assert mend(path) == [str(file)]
    with open_archive(OWNER, path) as archive:
        assert rows_of(archive, STAYS) == LONG
        assert archive.lacking(key(STAYS), SPAN, now_s=SPAN[1]) == []
        assert archive.id == read_marker(path).id  # type: ignore[union-attr]
    aside = list(path.glob("set-aside-landing*"))
    assert len(aside) == (0 if how == "gone" else 1)


def test_whichever_page_rots_the_rest_is_carried_over(path: Path, tmp_path: Path) -> None:
    """Of the landing one page after the other: it opens, months stay, and all else is told."""
    file = path / "landing.sqlite"
    whole = file.read_bytes()
    pages = len(whole) // 16384
    assert pages > 10
    kept = 0
    for page in range(pages):
        for leftover in path.glob("*.tmp"):
            leftover.unlink()
        data = bytearray(whole)
        data[page * 16384 : (page + 1) * 16384] = b"\xa5" * 16384
        file.write_bytes(data)
        mend(path)
        with open_archive(OWNER, path) as archive:
            assert rows_of(archive, STAYS) in (LONG, LONG + 1), page  # perhaps without its edge
            kept += archive.note("kept") == "yes"
            with archive.reading() as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept >= pages - 3


def test_while_another_run_uses_it_nothing_is_made_anew(path: Path) -> None:
    with open_archive(OWNER, path):
        data = bytearray((path / "landing.sqlite").read_bytes())
        data[16384 : 2 * 16384] = b"\xa5" * 16384
        (path / "landing.sqlite").write_bytes(data)
        with pytest.raises(LocalError, match="Another run uses"):
            rescue(path, OWNER, repair=True)
