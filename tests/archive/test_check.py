"""What is wrong with an archive is found, and costs no more than its own spans."""

from __future__ import annotations

import random

import pytest
from month_rows import (
    ASKED,
    FAR,
    T0,
    H,
    assert_in_order,
    hours,
    instants_of,
    land,
    make_instants,
    make_series,
    open_archive,
    plain,
    rows_of,
)

from copper_cli.archive import SeriesKey, check, partitions
from copper_cli.archive.months import Month, find_files
from copper_cli.buckets import Grid
from copper_cli.records import Series

KEYS = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(4)]
HALF = SeriesKey("07:0", "usage", "hour", "1800")
READINGS = SeriesKey("07:1", "readings")
DAYS = SeriesKey("07:1", "usage", "day", "Europe/Berlin")
SPAN = T0, T0 + 1600 * H  # into March
JANUARY, FEBRUARY = (Month("usage", "hour", name) for name in ("2025-01", "2025-02"))


@pytest.fixture
def archive(tmp_path):
    found = open_archive(tmp_path / "archive")
    yield found
    found.close()


@pytest.fixture
def filled(archive):
    """Some series over three months, all published."""
    rng = random.Random(1)
    for key in KEYS:
        series = make_series(rng, hours(0, 1600), dull=True)
        total = round(sum(series.energy), 4)
        series = Series(
            series.times_s, series.energy, series.power, series.value, series.actual, total
        )
        land(archive, key, series, *SPAN)
    land(
        archive,
        HALF,
        make_series(rng, hours(0, 1600, 1800), dull=True),
        T0 + 1800,
        T0 + 1800 + 1600 * H,
    )
    archive.land_readings(READINGS, SPAN, make_instants(rng, *SPAN, 200), asked_s=ASKED)
    partitions.publish(archive)
    assert check.check(archive, repair=False) == []
    return archive


def lacking(archive, key, span=SPAN):
    return archive.lacking(key, span, now_s=ASKED)


def flip(path, at, bit=1):
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def kinds(found):
    return [one.what for one in found]


def test_an_archive_that_is_well(filled):
    assert check.check(filled, repair=True) == []
    assert all(lacking(filled, key) == [] for key in KEYS)


def test_an_empty_archive(archive):
    assert check.check(archive, repair=False) == check.check(archive, repair=True) == []


def test_bit_rot_of_any_bit_costs_that_file_alone(filled):
    """A bit here and there: always seen, and always the spans of its own month alone."""
    file = JANUARY.file(filled.path)
    whole = file.read_bytes()
    february = FEBRUARY.file(filled.path).read_bytes()
    before = {key: rows_of(filled, key) for key in [*KEYS, HALF]}
    rng = random.Random(1)
    for at in [
        0,
        4,
        len(whole) - 1,
        len(whole) - 5,
        *(rng.randrange(len(whole)) for _ in range(30)),
    ]:
        flip(file, at, 1 << rng.randrange(8))
        assert kinds(check.check(filled, repair=False)) == ["month"]
        file.write_bytes(whole)
    states = {key: filled.state(key, SPAN) for key in KEYS}
    later = filled.state(KEYS[0], (T0 + 800 * H, T0 + 900 * H))
    flip(file, len(whole) // 2)
    (found,) = check.check(filled, repair=True)
    assert (found.what, found.where) == ("month", str(file))
    assert found.mended
    assert not file.exists()
    assert not any(filled.is_at(states[key], key, SPAN) for key in KEYS)
    assert filled.is_at(later, KEYS[0], (T0 + 800 * H, T0 + 900 * H))
    assert FEBRUARY.file(filled.path).read_bytes() == february
    first = T0 + 744 * H
    for key in KEYS:
        assert lacking(filled, key) == [(T0, first)]
        assert filled.sum_of(key, SPAN) is None
        assert rows_of(filled, key) == [row for row in before[key] if row[0] > first]
    half = T0 + 1800, T0 + 1800 + 1600 * H
    assert lacking(filled, HALF, half) == [(T0 + 1800, first + 1800)]
    assert filled.lacking(READINGS, SPAN, now_s=ASKED) == []
    assert check.check(filled, repair=False) == []
    # The next run fetches it.
    for key in KEYS:
        ends = hours(0, 744)
        rows = {row[0]: row for row in before[key]}
        columns = [[eval(rows[end][place]) for end in ends] for place in range(1, 5)]
        land(filled, key, Series(ends, *columns, None), T0, first)
    partitions.publish(filled)
    assert {key: rows_of(filled, key) for key in KEYS} == {key: before[key] for key in KEYS}
    assert all(lacking(filled, key) == [] for key in KEYS)
    assert check.check(filled, repair=False) == []


def test_a_month_that_is_gone(filled):
    FEBRUARY.file(filled.path).unlink()
    (found,) = check.check(filled, repair=False)
    assert (found.what, found.mended) == ("month", None)
    assert lacking(filled, KEYS[0]) == []
    check.check(filled, repair=True)
    assert lacking(filled, KEYS[0]) == [(T0 + 744 * H, T0 + (744 + 672) * H)]
    assert check.check(filled, repair=False) == []


def test_what_still_waits_is_published_again(filled):
    """The rows in the landing are not asked for again."""
    series = make_series(random.Random(5), hours(100, 200), dull=True)
    land(filled, KEYS[0], series, T0 + 100 * H, T0 + 200 * H)
    held = rows_of(filled, KEYS[0])
    flip(JANUARY.file(filled.path), 1000)
    assert kinds(check.check(filled, repair=True)) == ["month"]
    assert filled.unpublished() == 0
    assert lacking(filled, KEYS[0]) == [(T0, T0 + 100 * H), (T0 + 200 * H, T0 + 744 * H)]
    assert lacking(filled, KEYS[1]) == [(T0, T0 + 744 * H)]
    found = rows_of(filled, KEYS[0], T0, T0 + 744 * H)
    assert found == [row for row in held if T0 + 100 * H < row[0] <= T0 + 200 * H]
    assert check.check(filled, repair=False) == []
    assert_in_order(filled)


def test_readings_that_are_lost(filled):
    month = Month("readings", "", "2025-02")
    rows = instants_of(filled, READINGS)
    flip(month.file(filled.path), 500)
    assert kinds(check.check(filled, repair=True)) == ["month"]
    low, high = T0 + 744 * H, T0 + (744 + 672) * H
    assert filled.lacking(READINGS, SPAN, now_s=ASKED) == [(low, high)]
    assert instants_of(filled, READINGS) == [
        row for row in rows if not low <= row[0] // 10**6 < high
    ]
    assert check.check(filled, repair=False) == []


def test_days_that_are_lost(archive):
    from datetime import date
    from zoneinfo import ZoneInfo

    from copper_cli.plan import plan_series

    plan = plan_series(date(2025, 2, 1), date(2025, 5, 1), ZoneInfo("Europe/Berlin"), "day")
    ends, at_s = [], plan.start_s
    while at_s < plan.end_s:
        at_s = plan.buckets().after(at_s)
        ends.append(at_s)
    span = plan.start_s, plan.end_s
    archive.land(
        DAYS,
        span,
        make_series(random.Random(1), ends, dull=True),
        buckets=plan.buckets(),
        asked_s=ASKED,
    )
    partitions.publish(archive)
    assert check.check(archive, repair=False) == []
    Month("usage", "day", "2025-03").file(archive.path).unlink()
    assert kinds(check.check(archive, repair=True)) == ["month"]
    # Local days that begin in March of UTC: from midnight of March 2nd (23:00 on the 1st) on.
    (lost,) = archive.lacking(DAYS, span, now_s=ASKED)
    assert lost == (ends[28], ends[59])
    assert check.check(archive, repair=False) == []
    left = [row[0] for row in rows_of(archive, DAYS)]
    assert left == [end for end in ends if not lost[0] < end <= lost[1]]


def test_a_kill_between_name_and_note(filled):
    """The file is already the new one: nothing is wrong, and the next publish goes on from it."""
    series = make_series(random.Random(5), hours(100, 200), dull=True)
    land(filled, KEYS[0], series, T0 + 100 * H, T0 + 200 * H)
    before = rows_of(filled, KEYS[0])

    class KilledError(BaseException):
        pass

    def kill(*args):
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "note_month", kill)
        with pytest.raises(KilledError):
            partitions.publish(filled)
    assert rows_of(filled, KEYS[0]) == before
    assert check.check(filled, repair=False) == []
    assert check.check(filled, repair=True) == []
    assert rows_of(filled, KEYS[0]) == before
    assert filled.unpublished() == 0
    assert_in_order(filled)


def test_an_answer_that_cannot_be_read(filled):
    land(
        filled, KEYS[0], make_series(random.Random(5), hours(100, 200)), T0 + 100 * H, T0 + 200 * H
    )
    land(
        filled, KEYS[1], make_series(random.Random(6), hours(100, 200)), T0 + 100 * H, T0 + 200 * H
    )
    kept = rows_of(filled, KEYS[1])
    with filled.transaction() as db:
        db.execute(
            "UPDATE answers SET body = zeroblob(99) WHERE id = (SELECT min(id) FROM answers)"
        )
    (found,) = check.check(filled, repair=False)
    assert (found.what, found.mended) == ("answer", None)
    assert "07:0" in found.where
    (found,) = check.check(filled, repair=True)
    assert found.mended
    assert filled.unpublished() == 0
    assert lacking(filled, KEYS[0])[0][0] >= T0 + 100 * H
    assert lacking(filled, KEYS[0])[-1][1] <= T0 + 200 * H
    assert rows_of(filled, KEYS[1]) == kept
    assert check.check(filled, repair=False) == []


def test_an_edge_and_a_pending_answer_that_cannot_be_read(archive):
    series = make_series(random.Random(1), hours(-1, 9), dull=True)
    land(archive, KEYS[0], series, T0, T0 + 9 * H)
    archive.land_pending(
        KEYS[1], (T0, T0 + 9 * H), make_series(random.Random(1), hours(0, 9)), asked_s=ASKED
    )
    with archive.transaction() as db:
        assert db.execute("UPDATE edges SET body = x'00'").rowcount == 1
        db.execute("UPDATE answers SET body = x'00' WHERE pending = 1")
    assert kinds(check.check(archive, repair=False)) == ["answer", "answer"]
    assert kinds(check.check(archive, repair=True)) == ["answer", "answer"]
    assert check.check(archive, repair=False) == []
    assert len(rows_of(archive, KEYS[0])) == 9


def test_amounts_that_are_not_there(filled):
    """Coverage that tells too much."""
    with filled.transaction() as db:
        db.execute(
            "UPDATE coverage SET end_s = end_s + 7200, buckets = buckets + 2 WHERE series = 1"
        )
    (found,) = check.check(filled, repair=False)
    assert (found.what, found.mended) == ("coverage", None)
    assert kinds(check.check(filled, repair=True)) == ["coverage"]
    assert filled.lacking(KEYS[0], (T0, T0 + 1602 * H), now_s=ASKED) == [
        (T0 + 1600 * H, T0 + 1602 * H)
    ]
    assert check.check(filled, repair=False) == []


def test_amounts_that_nobody_asked_for(filled):
    with filled.transaction() as db:
        db.execute(
            "UPDATE coverage SET end_s = end_s - 7200, buckets = buckets - 2 WHERE series = 1"
        )
        number = db.execute("SELECT id FROM series WHERE kind = 'readings'").fetchone()[0]
        db.execute("DELETE FROM coverage WHERE series = ?", (number,))
    assert kinds(check.check(filled, repair=False)) == ["coverage", "coverage"]
    check.check(filled, repair=True)
    assert lacking(filled, KEYS[0]) == [(T0 + 1598 * H, T0 + 1600 * H)]
    assert check.check(filled, repair=False) == []


def test_buckets_before_a_meter_came_are_no_loss(archive):
    """They count as known: nothing is to be had of them."""
    series = make_series(random.Random(1), hours(50, 90), dull=True)
    archive.land(
        KEYS[0],
        (T0, T0 + 90 * H),
        series,
        buckets=Grid((T0, T0 + 90 * H), "hour"),
        asked_s=ASKED,
        since_s=T0 + 50 * H,
    )
    assert check.check(archive, repair=False) == []
    with archive.transaction() as db:
        body = '{"created_at": "2025-01-03T02:10:00Z"}'
        db.execute("INSERT INTO seen VALUES ('meter', '07:0', 0, 0, ?)", (body,))
    assert check.check(archive, repair=False) == []
    with archive.transaction() as db:
        db.execute("UPDATE seen SET body = ?", (body.replace("03T02", "03T00"),))
    (found,) = check.check(archive, repair=False)
    assert found.what == "coverage"


def test_a_sum_that_is_not_that_of_the_rows(filled):
    with filled.transaction() as db:
        db.execute("UPDATE sums SET sum = sum * 1.05 WHERE series = 1")
    (found,) = check.check(filled, repair=True)
    assert (found.what, found.mended) == ("sum", None)
    assert "07:0" in found.where


def test_files_that_nobody_listed(filled, tmp_path):
    other = open_archive(tmp_path / "other")
    land(
        other,
        KEYS[0],
        make_series(random.Random(1), hours(3000, 3100), dull=True),
        T0 + 3000 * H,
        T0 + 3100 * H,
    )
    partitions.publish(other)
    (file,) = (file for _, file in find_files(other.path))
    target = filled.path / file.relative_to(other.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
    broken = filled.path / "usage/granularity=hour/month=2031-01/usage.parquet"
    broken.parent.mkdir()
    broken.write_text("PAR1 no")
    stranger = target.with_name("mine.parquet")
    stranger.write_bytes(file.read_bytes())
    leftover = target.with_name(".usage-0123.tmp")
    leftover.write_text("half")
    assert kinds(check.check(filled, repair=False)) == [
        "leftover",
        "unlisted",
        "unlisted",
        "stranger",
    ]
    assert kinds(check.check(filled, repair=True)) == [
        "leftover",
        "unlisted",
        "unlisted",
        "stranger",
        "coverage",
    ]
    assert check.check(filled, repair=False) == []
    assert len(rows_of(filled, KEYS[0], T0 + 3000 * H + 1, FAR)) == 100
    assert filled.lacking(KEYS[0], (T0 + 3000 * H, T0 + 3100 * H), now_s=ASKED) == [
        (T0 + 3000 * H, T0 + 3100 * H)
    ]
    assert len(plain(filled)) == len(set(plain(filled))) + 0
    assert sorted(path.suffix for path in target.parent.iterdir()) == [".parquet", ".tmp"]
    other.close()


@pytest.mark.parametrize("fault", ["columns", "order", "twice", "count", "month", "null"])
def test_files_that_are_written_wrong(filled, fault):
    """Were our own writing ever wrong: the digest holds, and yet it is seen."""
    import duckdb

    from copper_cli.files.opening import digest_file

    file = JANUARY.file(filled.path)
    source = f"read_parquet('{file}', hive_partitioning=false)"
    query = {
        "columns": f"SELECT * EXCLUDE (power) FROM {source}",
        "order": f'SELECT * FROM {source} ORDER BY "end" DESC',
        "twice": f'SELECT * FROM (FROM {source} UNION ALL FROM {source}) ORDER BY meter_id, grid, "end"',
        "count": f'SELECT * FROM {source} ORDER BY meter_id, grid, "end" LIMIT 100',
        "month": f'SELECT * REPLACE (start + INTERVAL 40 DAY AS start) FROM {source} ORDER BY meter_id, grid, "end"',
        "null": f'SELECT * REPLACE (NULL::TIMESTAMPTZ AS start) FROM {source} ORDER BY meter_id, grid, "end"',
    }[fault]
    spare = file.with_name("spare")
    with duckdb.connect() as db:
        db.execute("SET TimeZone='UTC'")
        db.execute(f"COPY ({query}) TO '{spare}' (FORMAT parquet)")
    spare.replace(file)
    count = {"twice": 2, "count": 1}.get(fault, 1)
    with filled.transaction() as db:
        db.execute(
            "UPDATE months SET sha256 = ?, rows = rows * ? WHERE kind = 'usage' AND month = '2025-01'",
            (digest_file(file), count),
        )
    (found,) = check.check(filled, repair=True)
    assert found.what == "month"
    assert lacking(filled, KEYS[0]) == [(T0, T0 + 744 * H)]
    assert check.check(filled, repair=False) == []


def test_a_large_month_is_not_taken_for_unordered(archive):
    ends = [T0 + 60 * place for place in range(1, 40_001)]
    series = make_series(random.Random(3), ends, dull=True)
    for n in range(8):
        key = SeriesKey(f"07:{n}", "usage", "minute", "0")
        archive.land(
            key, (T0, ends[-1]), series, buckets=Grid((T0, ends[-1]), "minute"), asked_s=ASKED
        )
    partitions.publish(archive)
    assert check.check(archive, repair=False) == []


def test_an_index_that_lacks_rows(filled):
    """SQLite sees it, and makes it anew."""
    with filled.outside() as db:
        where = "FROM sqlite_master WHERE name = 'changes_of'"
        index = db.execute(f"SELECT type, name, tbl_name, rootpage, sql {where}").fetchone()
        db.execute("PRAGMA writable_schema=ON")
        db.execute(f"DELETE {where}")
        db.execute("PRAGMA writable_schema=RESET")
        db.execute("INSERT INTO changes VALUES (1, 2, '[]', NULL, 0, 0)")
        db.execute("PRAGMA writable_schema=ON")
        db.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)
        db.execute("PRAGMA writable_schema=RESET")
    assert kinds(check.check(filled, repair=False)) == ["landing"]
    (found,) = check.check(filled, repair=True)
    assert found.mended
    assert check.check(filled, repair=False) == []


def test_readings_that_cannot_be_read(filled):
    """A file that the disk no longer gives is as good as gone."""
    file = FEBRUARY.file(filled.path)
    file.unlink()
    file.mkdir()
    (found,) = check.check(filled, repair=True)
    assert "cannot be read" in found.text
    assert check.check(filled, repair=False) == []


@pytest.mark.parametrize("repair", [False, True])
def test_what_lands_meanwhile_is_not_wrong(filled, monkeypatch, repair):
    """Rows are read, then coverage: another run may land in between."""
    calls = []
    real_rows = filled.rows

    def rows(key, start_s, end_s):
        found = list(real_rows(key, start_s, end_s))
        if key == KEYS[0] and not calls:
            calls.append(1)
            series = make_series(random.Random(9), hours(1600, 1700), dull=True)
            land(filled, KEYS[0], series, T0 + 1600 * H, T0 + 1700 * H)
        return iter(found)

    monkeypatch.setattr(filled, "rows", rows)
    assert check.check(filled, repair=repair) == []
    assert calls
    assert lacking(filled, KEYS[0], (T0, T0 + 1700 * H)) == []
