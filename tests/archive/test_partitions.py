"""What is published is what was landed: every digit, each row once, in order."""

from __future__ import annotations

import random
import stat
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from month_rows import (
    ASKED,
    FAR,
    T0,
    H,
    actual,
    assert_in_order,
    hours,
    instants_of,
    land,
    make_instants,
    make_series,
    number,
    open_archive,
    plain,
    rows_of,
)

from copper_cli.archive import Archive, SeriesKey, arrays, partitions, published
from copper_cli.archive.columns import Block, BodyError, encode
from copper_cli.archive.months import (
    Month,
    find_boundary,
    find_files,
    find_start,
    month_bounds,
    month_span,
    months_of_ends,
)
from copper_cli.buckets import Grid
from copper_cli.errors import LocalError
from copper_cli.plan import grid_name, plan_series
from copper_cli.records import Series


@pytest.fixture
def archive(tmp_path):
    found = open_archive(tmp_path / "archive")
    yield found
    found.close()


# Publishing


def test_every_digit_comes_back(archive):
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n:02d}", "usage", "hour", "0") for n in range(6)]
    keys += [SeriesKey("07:03", "usage", "hour", "1800")]
    keys += [
        SeriesKey("07:01", kind, "hour", "0") for kind in ("baseline-series", "average-series")
    ]
    for key in keys:
        phase = int(key.grid)
        land(
            archive, key, make_series(rng, hours(0, 1000, phase)), T0 + phase, T0 + phase + 1000 * H
        )
    before = {key: rows_of(archive, key) for key in keys}
    done = partitions.publish(archive)
    assert done is not None
    assert (done.rows, done.answers, done.problems) == (9000, 9, [])
    assert archive.unpublished() == 0
    assert {key: rows_of(archive, key) for key in keys} == before
    archive.expect(keys)
    assert {key: rows_of(archive, key) for key in keys} == before
    assert len(plain(archive)) == 7000
    assert partitions.publish(archive).months == []


def test_later_answers_over_earlier_ones(archive):
    """Any number of answers, published now and then: always what the landing alone would say."""
    for seed in range(6):
        rng = random.Random(seed)
        key = SeriesKey(f"07:{seed}", "usage", "hour", "0")
        for _ in range(rng.randrange(2, 9)):
            first = rng.randrange(700, 1400)
            last = first + rng.randrange(1, 400)
            ends = [end for end in hours(first, last) if rng.random() < 0.8]
            land(archive, key, make_series(rng, ends), T0 + first * H, T0 + last * H)
            if rng.random() < 0.5:
                before = rows_of(archive, key)
                partitions.publish(archive)
                assert archive.unpublished() == 0
                assert rows_of(archive, key) == before
    assert len(plain(archive)) == len(set(plain(archive)))


def test_months_in_small_batches(archive, monkeypatch):
    monkeypatch.setattr(partitions, "BATCH_ROWS", 500)
    monkeypatch.setattr(partitions, "GROUP_ROWS", 3000)
    monkeypatch.setattr(published, "CHUNK_ROWS", 2000)
    rng = random.Random(2)
    keys = [
        SeriesKey(f"07:{n:02d}", "usage", "hour", grid) for n in range(5) for grid in ("0", "900")
    ]
    for round_ in range(2):
        for key in keys:
            phase, first = int(key.grid), round_ * 300
            series = make_series(rng, hours(first, first + 1000, phase))
            land(archive, key, series, series.times_s[0] - H, series.times_s[-1])
        before = {key: rows_of(archive, key) for key in keys}
        done = partitions.publish(archive)
        assert {month.name for month in done.months} == {"2025-01", "2025-02"}
        assert {key: rows_of(archive, key) for key in keys} == before
        archive.expect(keys)
        assert {key: rows_of(archive, key) for key in keys} == before
    assert_in_order(archive)


def test_a_large_month_is_in_order(archive):
    """More rows than a row group, more than one thread writes."""
    rng = random.Random(3)
    keys = [SeriesKey(f"07:{n:04x}", "usage", "minute", "0") for n in range(8)]
    ends = [T0 + 60 * place for place in range(1, 40_001)]
    series = make_series(rng, ends, dull=True)
    for key in keys:
        archive.land(
            key, (T0, ends[-1]), series, buckets=Grid((T0, ends[-1]), "minute"), asked_s=ASKED
        )
    partitions.publish(archive)
    assert_in_order(archive)
    assert len(plain(archive)) == len(set(plain(archive))) == 320_000
    found = list(archive.rows(keys[5], 0, FAR))
    assert [time for piece in found for time in piece.times_s] == ends
    assert [one for piece in found for one in piece.energy] == list(series.energy)


def test_ids_of_any_kind(archive):
    rng = random.Random(4)
    ids = [
        "07:1",
        "it's",
        'q"q',
        "ä",
        "日本",
        "\U0001f600",
        "~",
        " ",
        "A",
        "a",
        "\ufffd",
        "%s",
        "$1",
    ]
    keys = [SeriesKey(one, "usage", "hour", "0") for one in ids]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 20)), T0, T0 + 20 * H)
    before = {key: rows_of(archive, key) for key in keys}
    partitions.publish(archive)
    assert_in_order(archive)
    assert {key: rows_of(archive, key) for key in keys} == before
    archive.expect(sorted(keys, key=lambda key: key.subject, reverse=True))
    assert {key: rows_of(archive, key) for key in keys} == before


@pytest.mark.parametrize("name", ["with space", "it's", "a[b]c", "st*r?", "ü", "{x}", "%20"])
def test_folders_of_any_name(tmp_path, name):
    archive = open_archive(tmp_path / name)
    key = SeriesKey("07:1", "usage", "hour", "0")
    for first in (0, 10):
        land(
            archive,
            key,
            make_series(random.Random(first), hours(first, first + 20)),
            T0 + first * H,
            T0 + (first + 20) * H,
        )
        before = rows_of(archive, key)
        assert partitions.publish(archive).problems == []
        assert rows_of(archive, key) == before
    assert len(before) == 30
    archive.close()


@pytest.mark.parametrize("granularity", ["bihour", "day", "month"])
@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlin", "America/Denver", "Pacific/Auckland", "Asia/Kolkata", "America/Santiago"],
)
def test_buckets_of_local_days(archive, granularity, zone):
    """Each begins where the one before ends, and lies in the month of UTC in which it begins."""
    plan = plan_series(date(2024, 1, 1), date(2026, 1, 1), ZoneInfo(zone), granularity)
    grid = plan.buckets()
    ends, at_s = [], plan.start_s
    while at_s < plan.end_s:
        at_s = grid.after(at_s)
        ends.append(at_s)
    key = SeriesKey("07:1", "usage", granularity, plan.grid)
    series = make_series(random.Random(5), ends)
    archive.land(key, (plan.start_s, plan.end_s), series, buckets=grid, asked_s=ASKED)
    starts = [find_start(granularity, plan.grid, end_s) for end_s in ends]
    assert starts == [plan.start_s, *ends[:-1]]
    before = rows_of(archive, key)
    partitions.publish(archive)
    assert archive.unpublished() == 0
    assert rows_of(archive, key) == before
    assert_in_order(archive)
    for at_s in ends[3:400:37]:
        assert rows_of(archive, key, at_s, at_s) == [row for row in before if row[0] == at_s]
    for start_s, end_s in zip(starts, ends, strict=True):
        assert find_boundary(granularity, plan.grid, start_s + 1) == end_s
        assert find_boundary(granularity, plan.grid, end_s) == end_s
        low, high = month_bounds(
            "usage", granularity, plan.grid, f"{datetime.fromtimestamp(start_s, UTC):%Y-%m}"
        )
        assert low < end_s <= high


def test_a_part_of_a_month(archive):
    plan = plan_series(date(2025, 1, 10), date(2025, 3, 20), ZoneInfo("Europe/Berlin"), "month")
    for name, start_s, end_s in plan.stretches():
        key = SeriesKey("07:1", "usage", "month", name)
        ends = [plan.buckets().after(start_s), end_s]
        series = make_series(random.Random(6), sorted(set(ends)))
        archive.land(key, (start_s, end_s), series, buckets=plan.buckets(), asked_s=ASKED)
        before = rows_of(archive, key)
        partitions.publish(archive)
        assert rows_of(archive, key) == before


def test_grids_that_are_no_zones(archive):
    assert find_start("day", "Nowhere/At_All", T0) == T0 - 24 * H
    assert find_boundary("day", "Nowhere/At_All", T0 + 5) == T0 + 5
    key = SeriesKey("07:1", "usage", "day", "Nowhere/At_All")
    ends = [T0 + 24 * H * n for n in range(1, 60)]
    archive.land(
        key,
        (T0, ends[-1]),
        make_series(random.Random(7), ends),
        buckets=Grid((T0, ends[-1]), "day"),
        asked_s=ASKED,
    )
    before = rows_of(archive, key)
    partitions.publish(archive)
    assert rows_of(archive, key) == before


def test_months_by_ends():
    assert month_span("2024-12") == (1733011200, T0)
    assert list(months_of_ends(T0, T0, "hour")) == ["2024-12"]
    assert list(months_of_ends(T0 + 1, T0 + H, "hour")) == ["2024-12", "2025-01"]
    assert list(months_of_ends(T0 + H, T0 + H, "hour")) == ["2025-01"]
    assert list(months_of_ends(T0, T0, "")) == ["2025-01"]
    assert str(Month("usage", "hour", "2025-01")) == "usage hour 2025-01"
    assert grid_name(ZoneInfo("Asia/Kolkata"), "hour") == "1800"


# Readings


@pytest.mark.parametrize("kind", ["readings", "grid"])
def test_readings(archive, kind):
    rng = random.Random(8)
    keys = [SeriesKey(f"07:{n}", kind) for n in range(4)]
    for round_ in range(3):
        for key in keys:
            start_s = T0 + 20 * 24 * H + round_ * 12 * 24 * H
            span = start_s, start_s + 25 * 24 * H
            rows = make_instants(rng, *span, 200)
            if kind == "grid":
                rows = make_instants(rng, *span, 9)
            archive.land_readings(key, span, rows, asked_s=ASKED)
        before = {key: instants_of(archive, key) for key in keys}
        partitions.publish(archive)
        assert archive.unpublished() == 0
        assert {key: instants_of(archive, key) for key in keys} == before
        archive.expect(keys)
        assert {key: instants_of(archive, key) for key in keys} == before
    middle = before[keys[0]][len(before[keys[0]]) // 2][0] // 10**6
    found = instants_of(archive, keys[0], middle, FAR)
    assert found == [row for row in before[keys[0]] if row[0] >= middle * 10**6]
    assert len(plain(archive, kind)) == sum(map(len, before.values()))
    assert_in_order(archive)


# What lies there


def test_files_are_for_nobody_elses_eyes(archive):
    land(
        archive,
        SeriesKey("07:1", "usage", "hour", "0"),
        make_series(random.Random(9), hours(0, 9)),
        T0,
        T0 + 9 * H,
    )
    partitions.publish(archive)
    for path in (archive.path / "usage").rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted
    names = {path.name for path in (archive.path / "usage").rglob("*") if path.is_file()}
    assert names == {"usage.parquet"}


def test_the_columns(archive):
    import duckdb

    key = SeriesKey("07:1", "usage", "hour", "0")
    series = Series(
        hours(0, 3), [1, 2.5, None], [1.0, 2, None], [3.0, 4.5, 5], [7, 8.5, None], None
    )
    land(archive, key, series, T0, T0 + 3 * H)
    partitions.publish(archive)
    with duckdb.connect() as db:
        found = db.execute(
            'SELECT meter_id, epoch(start)::BIGINT, epoch("end")::BIGINT, energy, power, value, actual,'
            " actual_float, integers, grid, granularity, month"
            f" FROM read_parquet('{archive.path}/usage/**/*.parquet')"
        ).fetchall()
    assert found == [
        ("07:1", T0, T0 + H, 1.0, 1.0, 3.0, 7, None, 1, "0", "hour", "2025-01"),
        ("07:1", T0 + H, T0 + 2 * H, 2.5, 2.0, 4.5, None, 8.5, 2, "0", "hour", "2025-01"),
        ("07:1", T0 + 2 * H, T0 + 3 * H, None, None, 5.0, None, None, 4, "0", "hour", "2025-01"),
    ]


def test_integers_beyond_64_bits(archive):
    key = SeriesKey("07:1", "usage", "hour", "0")
    series = Series(
        hours(0, 2), [10**30, 1], [2**62, None], [1.0, 2.0], [10**25, -(2**63) + 1], None
    )
    land(archive, key, series, T0, T0 + 2 * H)
    partitions.publish(archive)
    (found,) = archive.rows(key, 0, FAR)
    assert found.energy == [pytest.approx(1e30), 1]
    assert found.power == [2**62, None]
    assert found.actual == [pytest.approx(1e25), -(2**63) + 1]


# Others


def test_two_publishers(archive):
    land(
        archive,
        SeriesKey("07:1", "usage", "hour", "0"),
        make_series(random.Random(1), hours(0, 9)),
        T0,
        T0 + 9 * H,
    )
    with partitions.writer_lock(archive.path) as is_mine:
        assert is_mine
        assert partitions.publish(archive) is None
        assert partitions.compact(archive) is None
        with partitions.writer_lock(archive.path) as is_mine_too:
            assert not is_mine_too
    assert partitions.publish(archive).answers == 1


def test_the_lock_is_waited_for(archive, monkeypatch):
    monkeypatch.setattr(partitions, "LOCK_WAIT_S", 0.1)
    with (
        partitions.writer_lock(archive.path),
        pytest.raises(LocalError, match="Another run"),
        partitions.writer_lock(archive.path, wait=True),
    ):
        pass


def test_what_lands_while_a_month_is_written_waits_for_the_next(archive, monkeypatch):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    real = partitions.write_rows

    def write(*args, **more):
        land(archive, key, make_series(random.Random(2), hours(5, 14)), T0 + 5 * H, T0 + 14 * H)
        return real(*args, **more)

    monkeypatch.setattr(partitions, "write_rows", write)
    assert partitions.publish(archive).answers == 1
    monkeypatch.undo()
    assert archive.unpublished() > 0
    before = rows_of(archive, key)
    assert len(before) == 14
    partitions.publish(archive)
    assert rows_of(archive, key) == before


@pytest.mark.parametrize("is_all", [True, False])
def test_what_is_taken_back_meanwhile_is_not_published(archive, monkeypatch, is_all):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    real = partitions.write_rows
    calls = []

    def write(*args, **more):
        if not calls:
            archive.retract(key, (T0, T0 + 9 * H) if is_all else (T0 + 3 * H, T0 + 6 * H))
        calls.append(args)
        return real(*args, **more)

    monkeypatch.setattr(partitions, "write_rows", write)
    partitions.publish(archive)
    assert archive.unpublished() == 0
    assert [row[0] for row in rows_of(archive, key)] == (
        [] if is_all else [T0 + H * place for place in (1, 2, 3, 7, 8, 9)]
    )


def test_an_older_answer_never_comes_over_a_newer_one(archive, monkeypatch):
    """The older one spans two months, and only the first is written before the run ends."""
    key = SeriesKey("07:1", "usage", "hour", "0")
    old, new = (
        make_series(random.Random(1), hours(700, 800)),
        make_series(random.Random(2), hours(710, 720)),
    )
    land(archive, key, old, T0 + 700 * H, T0 + 800 * H)
    land(archive, key, new, T0 + 710 * H, T0 + 720 * H)
    before = rows_of(archive, key)
    stops = iter([False, True, True, True])
    done = partitions.publish(archive, is_stopped=lambda: next(stops))
    assert (len(done.months), done.answers) == (1, 0)
    assert rows_of(archive, key) == before
    done = partitions.publish(archive)
    assert done.answers == 2
    assert rows_of(archive, key) == before


def test_an_answer_that_cannot_be_read_stays(archive):
    good, bad = (SeriesKey(one, "usage", "hour", "0") for one in ("07:1", "07:2"))
    for key in (good, bad, bad):
        land(
            archive,
            key,
            make_series(random.Random(hash(key.subject) % 7), hours(0, 9)),
            T0,
            T0 + 9 * H,
        )
    land(archive, bad, make_series(random.Random(5), hours(4, 12)), T0 + 4 * H, T0 + 12 * H)
    with archive.transaction() as db:
        db.execute(
            "UPDATE answers SET body = zeroblob(length(body)) WHERE id = (SELECT min(a.id) FROM"
            " answers AS a JOIN series AS s ON s.id = a.series WHERE s.subject = '07:2')"
        )
    done = partitions.publish(archive)
    assert (done.answers, len(done.problems)) == (2, 1)
    assert "07:2" in done.problems[0]
    assert len(rows_of(archive, good)) == 9
    assert {row[0] for row in plain(archive)} == {"07:1", "07:2"}
    done = partitions.publish(archive)
    assert (done.months, len(done.problems)) == ([], 1)


def test_pending_answers_are_never_published(archive):
    key = SeriesKey("07:1", "usage", "hour", "0")
    archive.land_pending(
        key, (T0, T0 + 9 * H), make_series(random.Random(1), hours(0, 9)), asked_s=ASKED
    )
    assert partitions.publish(archive).months == []
    assert len(archive.pending(key)) == 1


def test_a_month_that_is_not_ours_is_left_alone(archive):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    partitions.publish(archive)
    file = Month("usage", "hour", "2025-01").file(archive.path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    land(archive, key, make_series(random.Random(2), hours(9, 20)), T0 + 9 * H, T0 + 20 * H)
    done = partitions.publish(archive)
    assert done.months == []
    assert "check --repair" in done.problems[0]
    assert file.read_bytes() == data
    file.unlink()
    assert partitions.publish(archive).months == []
    assert archive.unpublished() == 11


def test_an_answer_that_is_always_taken_back(archive, monkeypatch):
    key = SeriesKey("07:1", "usage", "hour", "0")
    real = partitions.write_rows

    def write(*args, **more):
        with archive.transaction() as db:
            db.execute("UPDATE answers SET rows = rows + 1")
        return real(*args, **more)

    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    monkeypatch.setattr(partitions, "write_rows", write)
    done = partitions.publish(archive)
    assert done.months == []
    assert "taken back" in done.problems[0]


def test_closed(archive):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    partitions.publish(archive)
    months = published.Published(archive)
    assert sum(len(piece.times_s) for piece in months.rows(key, 0, FAR)) == 9
    months.close()
    assert sum(len(piece.times_s) for piece in months.rows(key, 0, FAR)) == 9
    months.close()
    months.close()


def test_a_folder_that_never_rests(archive, monkeypatch):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    partitions.publish(archive)
    real = published.Published._query

    def query(self, *args):
        found = real(self, *args)
        Month("usage", "hour", "2025-01").file(archive.path).touch()
        return found

    monkeypatch.setattr(published.Published, "_query", query)
    with pytest.raises(LocalError, match="all the time"):
        rows_of(archive, key)


def test_on_a_network(tmp_path):
    """Without a write-ahead log."""
    (tmp_path / "archive").mkdir()
    archive = Archive(tmp_path / "archive", archive_id="0" * 32, wal=False)
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    before = rows_of(archive, key)
    assert partitions.publish(archive).answers == 1
    assert rows_of(archive, key) == before
    assert partitions.compact(archive).problems == []
    assert not (archive.path / "landing.sqlite-wal").exists()
    archive.close()


def test_nothing_waits(archive):
    assert partitions.publish(archive) == partitions.Publication()


def test_leftovers_go(archive):
    land(
        archive,
        SeriesKey("07:1", "usage", "hour", "0"),
        make_series(random.Random(1), hours(0, 9)),
        T0,
        T0 + 9 * H,
    )
    partitions.publish(archive)
    folder = archive.path / "usage/granularity=hour/month=2025-01"
    (folder / ".usage-00.tmp").write_text("half")
    (archive.path / ".spill-00.tmp").mkdir()
    (archive.path / ".spill-00.tmp/x").write_text("half")
    (folder / "mine.tmp").write_text("mine")
    partitions.publish(archive)
    assert {path.name for path in folder.iterdir()} == {"usage.parquet", "mine.tmp"}
    assert not (archive.path / ".spill-00.tmp").exists()


def test_compact_gives_room_back(archive):
    rng = random.Random(1)
    for n in range(20):
        land(
            archive,
            SeriesKey(f"07:{n}", "usage", "hour", "0"),
            make_series(rng, hours(0, 900), dull=True),
            T0,
            T0 + 900 * H,
        )
    with archive.outside() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (archive.path / "landing.sqlite").stat().st_size
    done = partitions.compact(archive)
    assert done.answers == 20
    assert (archive.path / "landing.sqlite").stat().st_size < before / 2
    assert (archive.path / "landing.sqlite-wal").stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(archive, monkeypatch):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 900)), T0, T0 + 900 * H)
    before = rows_of(archive, key)
    real = partitions._temporary_for

    def full(file):
        made = real(file)
        made.symlink_to("/dev/full")
        return made

    monkeypatch.setattr(partitions, "_temporary_for", full)
    with pytest.raises(LocalError, match="disk is full"):
        partitions.publish(archive)
    monkeypatch.undo()
    assert archive.unpublished() == 900
    assert list(find_files(archive.path)) == []
    assert rows_of(archive, key) == before
    assert partitions.publish(archive).answers == 1
    assert rows_of(archive, key) == before


def test_meters_are_taken_out(archive):
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(4)]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 900)), T0, T0 + 900 * H)
    archive.land_readings(
        SeriesKey("07:1", "readings"),
        (T0, T0 + 9 * H),
        make_instants(rng, T0, T0 + 9 * H, 30),
        asked_s=ASKED,
    )
    archive.land_grid(
        SeriesKey("gw", "grid"),
        (T0, T0 + 9 * H),
        make_instants(rng, T0, T0 + 9 * H, 9),
        asked_s=ASKED,
    )
    before = {key: rows_of(archive, key) for key in keys}
    partitions.publish(archive)
    with partitions.writer_lock(archive.path):
        gone, months = partitions.rewrite_without(archive, {"07:1", "nobody"})
        assert partitions.rewrite_without(archive, {"07:1"}) == (0, 0)
        assert partitions.rewrite_without(archive, ()) == (0, 0)
    assert months == 3
    assert gone > 900
    assert {row[0] for row in plain(archive)} == {"07:0", "07:2", "07:3"}
    assert plain(archive, "readings") == []
    assert len(plain(archive, "grid")) > 0
    before[keys[1]] = []
    assert {key: rows_of(archive, key) for key in keys} == before
    assert_in_order(archive)
    land(archive, keys[1], make_series(rng, hours(0, 9)), T0, T0 + 9 * H)
    partitions.publish(archive)
    assert len(rows_of(archive, keys[1])) == 9


def test_nothing_is_taken_out_of_a_month_that_is_not_ours(archive):
    land(
        archive,
        SeriesKey("07:1", "usage", "hour", "0"),
        make_series(random.Random(1), hours(0, 9)),
        T0,
        T0 + 9 * H,
    )
    partitions.publish(archive)
    file = Month("usage", "hour", "2025-01").file(archive.path)
    file.write_bytes(b"PAR1")
    with pytest.raises(LocalError, match="check --repair"):
        partitions.rewrite_without(archive, {"07:1"})


# Reading


def test_what_is_read_ahead_is_never_stale(archive):
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(4)]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 99)), T0, T0 + 99 * H)
    partitions.publish(archive)
    archive.expect(keys)
    assert len(rows_of(archive, keys[0])) == 99
    other = open_archive(archive.path)
    for key in keys:
        land(other, key, make_series(rng, hours(50, 150)), T0 + 50 * H, T0 + 150 * H)
    partitions.publish(other)
    for key in keys:
        assert rows_of(archive, key) == rows_of(other, key)
        assert len(rows_of(archive, key)) == 150
    other.close()


def test_ranges_that_were_not_expected(archive):
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(4)]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 1500)), T0, T0 + 1500 * H)
    before = {key: rows_of(archive, key) for key in keys}
    partitions.publish(archive)
    archive.expect(
        [*keys, keys[0], SeriesKey("nobody", "usage", "hour", "0"), SeriesKey("07:1", "readings")]
    )
    for first, last in ((700, 710), (0, 1), (710, 1500), (-50, 3000), (744, 744)):
        for key in [keys[2], keys[0], keys[3], keys[0]]:
            low, high = T0 + first * H, T0 + last * H
            assert rows_of(archive, key, low, high) == [
                row for row in before[key] if low <= row[0] <= high
            ]
    assert rows_of(archive, SeriesKey("nobody", "usage", "hour", "0")) == []


def test_a_month_that_is_replaced_while_it_is_read(archive):
    """DuckDB opens a file more than once. What is read is the month before or the one after."""
    key = SeriesKey("07:1", "usage", "hour", "0")
    others = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(1, 40)]
    for one in others:
        land(archive, one, make_series(random.Random(1), hours(0, 700)), T0, T0 + 700 * H)
    partitions.publish(archive)
    file = Month("usage", "hour", "2025-01").file(archive.path)
    before, after = file.read_bytes(), None
    rows = {repr(rows_of(archive, key))}
    for one in others:
        land(archive, one, make_series(random.Random(2), hours(0, 650)), T0, T0 + 650 * H)
    partitions.publish(archive)
    after = file.read_bytes()
    rows.add(repr(rows_of(archive, key)))
    assert len(rows) == 2
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for data in (before, after):
                spare = file.with_name("spare")
                spare.write_bytes(data)
                spare.replace(file)
                stop.wait(0.01)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(100):
            assert repr(rows_of(archive, key)) in rows
    finally:
        stop.set()
        thread.join()


def test_many_threads_read_and_one_publishes(archive):
    rng = random.Random(1)
    keys = [SeriesKey(f"07:{n}", "usage", "hour", "0") for n in range(6)]
    for key in keys:
        land(archive, key, make_series(rng, hours(0, 900)), T0, T0 + 900 * H)
    before = {key: rows_of(archive, key) for key in keys}
    archive.expect(keys)
    wrong = []

    def read(key):
        for _ in range(10):
            if rows_of(archive, key) != before[key]:
                wrong.append(key)

    threads = [threading.Thread(target=read, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    partitions.publish(archive)
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_damaged_month_is_told_when_it_is_read(archive):
    key = SeriesKey("07:1", "usage", "hour", "0")
    land(archive, key, make_series(random.Random(1), hours(0, 9)), T0, T0 + 9 * H)
    partitions.publish(archive)
    Month("usage", "hour", "2025-01").file(archive.path).write_bytes(
        b"PAR1 nothing of the kind PAR1"
    )
    with pytest.raises(LocalError, match="usage"):
        rows_of(archive, key)


# Bodies


def test_bodies_are_decoded_as_the_landing_does():
    rng = random.Random(1)
    for seed in range(60):
        count = rng.randrange(0, 40)
        times = sorted(rng.sample(range(10**6), count))
        if seed % 2:
            times = list(range(50, 50 + 3600 * count, 3600))
        pick = [
            lambda: None,
            lambda: 1.5,
            lambda: rng.randrange(99),
            lambda: 2**40,
            lambda: number(rng),
        ]
        kinds = [rng.choice(pick) for _ in range(4)]
        block = Block(times, tuple([kind() for _ in times] for kind in kinds))
        rows = arrays.decode(encode(block), arrays.INTERVAL)
        assert rows.times.tolist() == times
        assert repr(arrays.plain_columns(rows, arrays.INTERVAL)) == repr(
            tuple(map(list, block.columns))
        )
    body = bytearray(encode(Block([1, 2], ([1.0, 2.0],) * 4)))
    for at in range(len(body)):
        body[at] ^= 4
        with pytest.raises(BodyError):
            arrays.decode(bytes(body), arrays.INTERVAL)
        body[at] ^= 4
    with pytest.raises(BodyError):
        arrays.decode(bytes(body), arrays.READINGS)


# One over the other


def lay_over_plainly(layers):
    """The same with tuples: by series and time the last row, its holes filled from earlier ones."""
    held = {}
    for layer in layers:
        for code, time, energy, power, value, register in layer:
            old = held.get((code, time), (None,) * 4)
            is_kept = energy is None and old[0] is not None
            held[code, time] = (
                *(old[:2] if is_kept else (energy, power)),
                old[2] if value is None else value,
                old[3] if register is None else register,
            )
    return [(*key, *held[key]) for key in sorted(held)]


@pytest.mark.parametrize("many", [0, 4, 10**9])
def test_layers(monkeypatch, many):
    """The quick way for a night in a month and the thorough one do the same."""
    import numpy as np

    monkeypatch.setattr(arrays, "_MANY", many)
    rng = random.Random(1)
    for _ in range(200):
        layers, rows = [], []
        for size in (rng.randrange(1, 60), *(rng.randrange(1, 9) for _ in range(rng.randrange(4)))):
            keys = sorted({(rng.randrange(3), rng.randrange(40)) for _ in range(size)})
            only = rng.choice([number, lambda rng: None, lambda rng: 2.5, lambda rng: 3])
            layers.append(
                [(*key, number(rng), only(rng), number(rng), actual(rng)) for key in keys]
            )
            body = encode(Block([0] * len(keys), tuple(zip(*layers[-1], strict=True))[2:]))
            part = arrays.decode(body, arrays.INTERVAL)
            part.codes, part.times = (np.array([key[at] for key in keys]) for at in (0, 1))
            rows.append(part)
        found = arrays.lay_over(rows, is_instants=False)
        columns = found.codes.tolist(), found.times.tolist()
        columns += arrays.plain_columns(found, arrays.INTERVAL)
        assert repr(list(zip(*columns, strict=True))) == repr(lay_over_plainly(layers))
