"""Questions in SQL to an archive: what they see, and what they cannot reach."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from month_rows import T0, H, hours, make_series, open_archive

from copper_cli.archive import Archive, SeriesKey
from copper_cli.archive import query as query_module
from copper_cli.archive.months import Month
from copper_cli.archive.query import Queries
from copper_cli.archive.views import VIEWS
from copper_cli.buckets import DAY_S, Grid
from copper_cli.errors import LocalError, UsageError
from copper_cli.filling import Gap, count_unfilled
from copper_cli.jobs.query import own_grid
from copper_cli.records import Series

NOW = T0 + 60 * DAY_S
KEY = SeriesKey("07:01", "usage", "hour", "0")


@pytest.fixture
def archive(tmp_path):
    found = open_archive(tmp_path / "archive")
    yield found
    found.close()


def queries(archive: Archive, memory: str = "200MB") -> Queries:
    return Queries(archive, own_grid=own_grid, now_s=lambda: NOW, memory=memory)


def ask(archive: Archive, sql: str, **how: Any) -> list[tuple[Any, ...]]:
    asked = queries(archive, **how)
    asked.publish()
    (statement,) = asked.split(sql)
    with asked.ask(statement) as answer:
        return [row for rows in answer.rows for row in rows]


def land(
    archive: Archive,
    key: SeriesKey,
    energy: dict[int, float | None],
    span: tuple[int, int],
    asked_s: int = NOW,
):
    ends = sorted(energy)
    none = [None] * len(ends)
    series = Series(ends, [energy[end] for end in ends], none, none, none, None)
    archive.land(key, span, series, buckets=Grid(span, key.granularity), asked_s=asked_s)


# What they see


def test_the_columns_are_those_that_are_told(archive):
    """Names and types of each view, also where the archive is empty."""
    names = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
    for view in VIEWS:
        found = ask(archive, f"DESCRIBE {view.name}")
        told = [(one.name, names.get(one.type, one.type)) for one in view.columns]
        assert [row[:2] for row in found] == told, view.name


def test_rows_are_published_before_they_are_asked_for(archive):
    """And there once, whatever was landed over them."""
    span = (T0, T0 + 3 * H)
    land(archive, KEY, {T0 + H: 1.0, T0 + 2 * H: 2.0, T0 + 3 * H: 3.0}, span)
    assert ask(archive, "SELECT sum(energy), count(*) FROM usage") == [(6.0, 3)]
    land(archive, KEY, {T0 + 2 * H: 2.5}, (T0 + H, T0 + 2 * H))
    assert ask(archive, "SELECT sum(energy), count(*) FROM usage") == [(6.5, 3)]


def test_it_says_how_many_rows_are_not_in_the_answer(archive):
    """Where another run writes months."""
    from copper_cli.archive.partitions import writer_lock

    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    with writer_lock(archive.path):
        assert queries(archive).publish() == 1
    assert queries(archive).publish() == 0


@pytest.mark.parametrize("age_days", [0, 1, 2, 3, 29, 30, 31, 45])
def test_gaps_are_called_as_everywhere(archive, age_days):
    """By the one rule: to come, late, missing, bucket by bucket; null and absent alike."""
    start_s = NOW - age_days * DAY_S - 40 * H
    span = (start_s, start_s + 80 * H)
    energy: dict[int, float | None] = {start_s + H: 1.0, start_s + 80 * H: 1.0}
    energy |= {start_s + n * H: None for n in range(20, 50)}
    land(archive, KEY, energy, span)
    found = dict(ask(archive, "SELECT state, sum(buckets) FROM gaps GROUP BY 1"))
    # A bucket that is not over when it is asked for may still change, whatever it holds.
    last = 79 if span[1] <= NOW else 80
    expected = count_unfilled([Gap(start_s + H, start_s + last * H, last - 1)], NOW)
    assert found == {
        word: count
        for word, count in (
            ("to come", expected.to_come), ("late", expected.late), ("missing", expected.missing),
        )
        if count
    }  # fmt: skip
    # Neighbours that are called alike are one, whether null or absent.
    assert len(ask(archive, "FROM gaps")) == len(found)
    states = ask(
        archive, "SELECT state, count(*) FROM usage WHERE energy IS NULL GROUP BY 1 ORDER BY 1"
    )
    nulls = count_unfilled([Gap(start_s + 19 * H, start_s + 49 * H, 30)], NOW)
    assert dict(states) == {
        word: count
        for word, count in (
            ("to come", nulls.to_come), ("late", nulls.late), ("missing", nulls.missing),
        )
        if count
    }  # fmt: skip


def test_gaps_that_failed_or_were_never_asked_for(archive):
    """Each with its hours; what lies outside all that was asked is no gap."""
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    archive.fail(KEY, (T0 + H, T0 + 4 * H), NOW)
    land(archive, KEY, {T0 + 9 * H: 1.0}, (T0 + 8 * H, T0 + 9 * H))
    sql = "SELECT state, epoch(start_utc)::BIGINT, epoch(end_utc)::BIGINT, buckets, hours FROM gaps ORDER BY 2"
    assert ask(archive, sql) == [
        ("failed", T0 + H, T0 + 4 * H, 3, 3.0),
        ("never asked", T0 + 4 * H, T0 + 8 * H, 4, 4.0),
    ]


def test_a_meter_of_several_grids_is_there_once(archive):
    """Without its zone the grid of which most is known; other meters keep the only one they have."""
    half = SeriesKey("07:01", "usage", "hour", "1800")
    only = SeriesKey("07:02", "usage", "hour", "1800")
    land(archive, KEY, {T0 + H: 1.0, T0 + 2 * H: 1.0}, (T0, T0 + 2 * H))
    land(archive, half, {T0 + 1800 + H: 5.0}, (T0 + 1800, T0 + 1800 + H))
    land(archive, only, {T0 + 1800 + H: 7.0}, (T0 + 1800, T0 + 1800 + H))
    sql = "SELECT meter_id, grid, sum(energy) FROM usage GROUP BY ALL ORDER BY 1"
    assert ask(archive, sql) == [("07:01", "0", 2.0), ("07:02", "1800", 7.0)]


def test_the_zones_own_grid_goes_before_a_fuller_one(archive):
    """As soon as anything of it is known."""
    import json

    with archive.transaction() as db:
        for kind, one, body in (
            ("meter", "07:01", {"type": "power", "premise_id": "p", "uom": "kwh"}),
            ("premise", "p", {"timezone": "Asia/Kolkata", "tags": ["a"]}),
        ):
            db.execute("INSERT INTO seen VALUES (?, ?, 1, 2, ?)", (kind, one, json.dumps(body)))
    half = SeriesKey("07:01", "usage", "hour", "1800")
    land(archive, KEY, {T0 + H: 1.0, T0 + 2 * H: 1.0}, (T0, T0 + 2 * H))
    archive.fail(half, (T0 + 1800, T0 + 1800 + H), NOW)
    assert ask(archive, "SELECT DISTINCT grid FROM usage") == [("0",)]
    land(archive, half, {T0 + 1800 + H: 5.0}, (T0 + 1800, T0 + 1800 + H))
    found = ask(
        archive,
        "SELECT grid, energy, timezone, local_start = start_utc AT TIME ZONE 'Asia/Kolkata' FROM usage",
    )
    assert found == [("1800", 5.0, "Asia/Kolkata", True)]


def test_a_zone_that_duckdb_does_not_know_is_none(archive):
    """It does not end every question on local time."""
    with archive.transaction() as db:
        db.execute(
            """INSERT INTO seen VALUES ('premise', 'p', 1, 2, '{"timezone": "Mars/Base"}')"""
        )
        db.execute("""INSERT INTO seen VALUES ('meter', '07:01', 1, 2, '{"premise_id": "p"}')""")
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    assert ask(archive, "SELECT timezone, local_start, energy FROM usage") == [(None, None, 1.0)]


def test_registers_and_the_use_between(archive):
    """Use is told with the instants that it lies between; what has no time is in no difference."""
    with archive.transaction() as db:
        for time_s, value in ((T0, 10), (T0 + 90, 12.5), (None, 99.0), (T0 + 7200.5, 11.0)):
            db.execute(
                "INSERT INTO snapshots VALUES (?, '12:1', 'gas', ?, ?)", (T0 + 9999, value, time_s)
            )
    sql = "SELECT epoch(start_utc), epoch(end_utc), energy FROM register_use ORDER BY 1"
    assert ask(archive, sql) == [(T0, T0 + 90, 2.5), (T0 + 90, T0 + 7200.5, -1.5)]
    assert ask(archive, "SELECT count(*), count(time_utc) FROM registers") == [(4, 3)]


def test_views_are_filled_however_they_are_named(archive):
    """What a question does not spell out is there too."""
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    for name in ('"usage"', "USAGE", "query_table('us' || 'age')", "query('FROM us' || 'age')"):
        assert ask(archive, f"SELECT count(*) FROM {name}") == [(1,)], name


def test_a_month_that_is_replaced_meanwhile_is_read_as_it_was(archive):
    """Until the end of the answer."""
    ends = hours(1, 400)
    series = make_series(random.Random(3), ends)
    archive.land(KEY, (T0, ends[-1]), series, buckets=Grid((T0, ends[-1]), "hour"), asked_s=NOW)
    asked = queries(archive)
    asked.publish()
    (statement,) = asked.split("SELECT a.energy FROM usage a, range(200) ORDER BY a.end_utc")
    with asked.ask(statement) as answer:
        first = next(answer.rows)
        for file in archive.path.rglob("*.parquet"):
            other = file.with_suffix(".tmp")
            other.write_bytes(b"no parquet at all")
            other.replace(file)
        count = len(first) + sum(len(rows) for rows in answer.rows)
    assert count == 200 * sum(1 for _ in series.times_s)


def test_a_month_that_cannot_be_read_is_told(archive):
    """As what lies on the disk, not as a mistake in the SQL."""
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    queries(archive).publish()
    for file in archive.path.rglob("*.parquet"):
        file.write_bytes(b"no parquet at all")
    with pytest.raises(LocalError):
        ask(archive, "FROM usage")


# What they cannot reach


HOSTILE = (
    "COPY usage TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT csv)",
    "ATTACH '{out}'",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP VIEW usage",
    "INSERT INTO kept.meters (meter_id) VALUES ('x')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_external_access = true",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{archive}/landing.sqlite')",
    "SELECT * FROM read_text('{archive}/archive.json')",
    "SELECT * FROM read_json('{archive}/archive.json')",
    "SELECT * FROM '{archive}/archive.json'",
    "SELECT * FROM read_text('{archive}/usage/../archive.json')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('https://127.0.0.1:9/x.parquet')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM asked",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "SELECT 1) TO '{out}' (FORMAT csv) --",
    "SELECT getenv('HOME')",
)


@pytest.mark.parametrize("sql", HOSTILE)
def test_nothing_but_the_archives_rows_can_be_had(archive, tmp_path, sql):
    """Nor can anything be written or changed; one line says so."""
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    before = {
        one: one.stat().st_mtime_ns for one in tmp_path.rglob("*") if "landing" not in one.name
    }
    with pytest.raises(UsageError) as caught:
        ask(archive, sql.format(out=tmp_path / "out", archive=archive.path))
    assert "\n" not in str(caught.value)
    after = {
        one: one.stat().st_mtime_ns for one in tmp_path.rglob("*") if "landing" not in one.name
    }
    assert not (tmp_path / "out").exists()
    assert {one for one in after if one not in before and "archive/" not in f"{one}/"} == set()


@pytest.mark.parametrize("sql", HOSTILE)
def test_duckdb_itself_refuses_them(archive, tmp_path, sql, monkeypatch):
    """Also what is taken for a question: the list of allowed statements is not what holds it."""
    monkeypatch.setattr(query_module, "_check_kind", lambda statement: None)
    harmless = ("CREATE TABLE t", "DROP", "INSERT INTO", "PRAGMA database", "CALL", "EXPLAIN")
    if sql.startswith(harmless):  # in memory alone, and gone with the question
        return
    with pytest.raises((UsageError, LocalError)):
        ask(archive, sql.format(out=tmp_path / "out", archive=archive.path))
    assert not (tmp_path / "out").exists()


def test_a_question_cannot_end_the_copy_around_it(archive, tmp_path):
    """What goes into a Parquet file is a whole question by itself, or nothing."""
    asked = queries(archive)
    with pytest.raises(UsageError):
        asked.split(f"SELECT 1) TO '{tmp_path}/x' (FORMAT csv); --")
    (statement,) = asked.split("SELECT 1 AS a -- and no more")
    count, data = asked.write_parquet(statement)
    assert (count, b"".join(data)[:4]) == (1, b"PAR1")
    assert not list(tmp_path.glob("x"))


def test_memory_is_bounded_and_nothing_is_left(archive, tmp_path, monkeypatch):
    """What does not fit goes to the temporary folder, and what cannot is told; both leave nothing."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    many = "SELECT count(*) FROM (SELECT DISTINCT hash(i), i::VARCHAR || repeat('x', 30) FROM range(3000000) t(i))"
    assert ask(archive, many, memory="100MB") == [(3_000_000,)]
    with pytest.raises(UsageError, match="--memory"):
        ask(
            archive,
            "SELECT length(string_agg(i::VARCHAR, ',')) FROM range(60000000) t(i)",
            memory="64MB",
        )
    assert not list(folder.iterdir())


def test_mistakes_have_a_place(archive):
    """Line and column of what was typed, of the second question too, signs of two bytes counted once."""
    for sql, place in (
        ("SELEC 1", "line 1, column 1"),
        ("SELECT 1,\n  foo FROM usage", "line 2, column 3"),
        ("SELECT 'ü', foo FROM usage", "line 1, column 13"),
        ("SELECT 1;\nSELECT foo FROM usage", "line 2, column 8"),
    ):
        asked = queries(archive)
        with pytest.raises(UsageError, match=f"SQL, {place}: "):  # noqa: PT012
            for statement in asked.split(sql):
                with asked.ask(statement) as answer:
                    list(answer.rows)


def test_only_the_months_in_question_are_opened(archive, monkeypatch):
    """A question on meters opens no file, however many there are."""
    land(archive, KEY, {T0 + H: 1.0}, (T0, T0 + H))
    queries(archive).publish()
    opened: list[Month] = []
    real = query_module._open_month
    monkeypatch.setattr(
        query_module,
        "_open_month",
        lambda stack, file, month: opened.append(month) or real(stack, file, month),
    )
    ask(archive, "FROM meters")
    assert opened == []
    ask(archive, "FROM usage")
    assert len(opened) == 1
    assert not [
        one
        for one in Path("/proc/self/fd").iterdir()
        if str(os.path.realpath(one)).endswith(".parquet")
    ]
