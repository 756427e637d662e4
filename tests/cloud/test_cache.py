"""The cache: what Cache-Control allows, what it costs, and files that are broken."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from copper_cli.cloud import cache
from copper_cli.cloud.cache import CacheInfo, cache_info, cache_path, clear_cache, lifetime_s
from copper_cli.cloud.events import Warned
from copper_cli.config import Limit
from copper_cli.errors import LocalError, QuotaSpentError

from .mini_cloud import START_S, Said, make_settings

PATH = "/api/v2/partner/ent/premise"


def kept(body, control: str, **headers: str) -> Said:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(body=body, headers={"Cache-Control": control} | names)


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(START_S + seconds, UTC), usegmt=True)


def test_a_fresh_answer_costs_nothing(cloud, open_session, clock):
    """Neither call, nor quota, nor token; after max-age it is asked again."""
    cloud.say(PATH, default=kept([{"id": "p"}], "max-age=60"))
    open_session().get_json(PATH)
    session = open_session()
    clock.now_s += 59
    assert session.is_cached(PATH)
    assert session.get_json(PATH) == [{"id": "p"}]
    assert session.calls_used == 0
    assert session._ledger.usage().limits[0].used == 1
    clock.now_s += 2
    assert not session.is_cached(PATH)
    session.get_json(PATH)
    assert session.calls_used == 1


def test_a_fresh_answer_needs_no_credentials(cloud, open_session):
    """The token may be gone and the cloud too."""
    cloud.say(PATH, kept([1], "max-age=60"))
    first = open_session()
    first.get_json(PATH)
    for file in first.settings.cache_dir.glob("token.*"):
        file.unlink()
    assert open_session().get_json(PATH) == [1]
    assert len(cloud.token_asked) == 1


def test_a_fresh_answer_comes_even_when_the_quota_is_spent(cloud, open_session):
    """What is here need not be waited for."""
    cloud.say(PATH, kept([1], "max-age=60"))
    session = open_session(quota=(Limit(1, 10),), wait=False)
    session.get_json(PATH)
    assert session.get_json(PATH) == [1]
    with pytest.raises(QuotaSpentError):
        session.get_json("/other")


def test_other_parameters_are_another_question(cloud, open_session):
    """The query is part of what was asked."""
    cloud.say(PATH, default=lambda asked: kept(asked.query, "max-age=60"))
    session = open_session()
    assert session.get_json(PATH, {"offset": 1}) == {"offset": "1"}
    assert session.get_json(PATH, {"offset": 2}) == {"offset": "2"}
    assert session.is_cached(PATH, {"offset": 1})
    assert not session.is_cached(PATH)


def test_304_renews(cloud, open_session, clock):
    """Nothing changed: that costs a call and makes the answer fresh again."""
    cloud.say(
        PATH,
        kept([1], "max-age=60", ETag='"v1"', Last_Modified=date(-5)),
        Said(304, headers={"ETag": '"v1"', "Cache-Control": "max-age=100"}),
        Said(304),
        kept([2], "max-age=60", ETag='"v2"'),
    )
    session = open_session()
    answers = []
    for wait_s in (0, 61, 99, 2, 101, 59):
        clock.now_s += wait_s
        answers.append(session.get_json(PATH))
    assert answers == [[1], [1], [1], [1], [2], [2]]
    assert len(cloud.asked) == 4
    assert cloud.asked[1].headers["If-None-Match"] == '"v1"'
    assert cloud.asked[1].headers["If-Modified-Since"] == date(-5)
    assert session._ledger.usage().limits[0].used == len(cloud.asked)


def test_304_without_max_age_keeps_the_old_one(cloud, open_session, clock):
    """What a 304 does not repeat still holds."""
    cloud.say(PATH, kept([1], "max-age=60", ETag='"v1"'), Said(304))
    session = open_session()
    session.get_json(PATH)
    clock.now_s += 61
    assert session.get_json(PATH) == [1]
    assert session.is_cached(PATH)
    clock.now_s += 59
    assert session.get_json(PATH) == [1]
    assert len(cloud.asked) == 2


def test_a_304_that_nobody_asked_for_is_an_error_once_only(cloud, open_session):
    """No condition, no 304."""
    cloud.say(PATH, Said(304), kept([1], "max-age=60"))
    session = open_session()
    with pytest.raises(Exception, match="304"):
        session.get_json(PATH)
    assert session.get_json(PATH) == [1]


NOW = START_S


@pytest.mark.parametrize(
    ("headers", "age", "expected"),
    [
        ({"Cache-Control": "max-age=60"}, None, 60),
        ({"Cache-Control": "max-age=60"}, "20", 40),
        ({"Cache-Control": "max-age=60"}, "soon", 60),
        ({"Cache-Control": "max-age=60"}, "60", None),
        ({"Cache-Control": "max-age=60", "ETag": "x"}, "60", 0),
        ({"Cache-Control": "private, MAX-AGE=60"}, None, 60),
        ({"Cache-Control": "max-age=60, must-revalidate"}, None, 60),
        ({"Cache-Control": "max-age=60", "Vary": "Authorization"}, None, 60),
        ({"Cache-Control": "max-age=60", "Vary": "*"}, None, None),
        ({"Cache-Control": "max-age=60, no-store"}, None, None),
        ({"Cache-Control": "no-store", "ETag": "x"}, None, None),
        ({"Cache-Control": "no-cache, max-age=60"}, None, None),
        ({"Cache-Control": "no-cache, max-age=60", "ETag": "x"}, None, 0),
        ({"Cache-Control": "max-age=soon"}, None, None),
        ({"Cache-Control": "max-age=99999999999"}, None, 366 * 86400),
        ({}, None, None),
        ({"ETag": "x"}, None, 0),
        ({"Last-Modified": date(-5)}, None, 0),
        ({"Expires": date(50)}, None, 50),
        ({"Expires": date(50), "Date": date(10)}, None, 40),
        ({"Expires": "0"}, None, None),
        ({"Expires": date(50), "Cache-Control": "max-age=7"}, None, 7),
    ],
)
def test_how_long_an_answer_may_be_used(headers, age, expected):
    """RFC 9111, as far as a private cache needs it."""
    assert lifetime_s(headers, age, NOW) == expected


def test_age_is_subtracted(cloud, open_session, clock):
    """An answer that lay in a proxy for 50 of its 60 s is good for 10."""
    cloud.say(PATH, default=kept([1], "max-age=60", Age="50"))
    session = open_session()
    session.get_json(PATH)
    clock.now_s += 9
    assert session.is_cached(PATH)
    clock.now_s += 2
    assert not session.is_cached(PATH)


def test_without_cache_control_nothing_is_reused(cloud, open_session):
    """Unless the cloud itself says 304."""
    cloud.say(PATH, [1], [2])
    session = open_session()
    assert [session.get_json(PATH), session.get_json(PATH)] == [[1], [2]]


def test_an_answer_that_must_not_be_reused_is_not_kept(cloud, open_session):
    """The caller knows what the cloud does not say."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session.get_json(PATH, reuse=lambda body: False)
    assert not session.is_cached(PATH)
    session.get_json(PATH)
    assert session.is_cached(PATH)
    session.get_json(PATH, reuse=lambda body: False)  # kept by another, and not wanted here
    assert session.calls_used == 3
    assert "If-None-Match" not in cloud.asked[2].headers


def test_a_304_for_what_must_not_be_reused_renews_nothing(cloud, open_session, clock):
    """The body is used this once."""
    cloud.say(PATH, kept([1], "max-age=60", ETag='"v"'), Said(304))
    session = open_session()
    session.get_json(PATH)
    clock.now_s += 61
    assert session.get_json(PATH, reuse=lambda body: False) == [1]
    assert not session.is_cached(PATH)


def test_a_cut_answer_is_not_kept(cloud, open_session):
    """Only what was read to its end."""
    cloud.say(PATH, Said(body=b"[1, 2", headers={"Cache-Control": "max-age=60"}), default=[3])
    assert open_session().get_json(PATH) == [3]
    assert not open_session().is_cached(PATH)


def test_without_cache_nothing_is_read_or_written(cloud, open_session):
    """--no-cache."""
    cloud.say(PATH, default=kept([1], "max-age=60", ETag='"v"'))
    open_session().get_json(PATH)
    session = open_session(use_cache=False)
    assert not session.is_cached(PATH)
    session.get_json(PATH)
    assert "If-None-Match" not in cloud.asked[1].headers
    path = cache_path(session.settings)
    session.close()
    path.unlink()
    other = open_session(use_cache=False)
    other.get_json(PATH)
    assert not path.exists()


def test_another_client_enterprise_or_host_has_another_file(tmp_path):
    """Nobody gets another's answers."""
    url = "http://127.0.0.1:1"
    paths = {
        cache_path(make_settings(url, tmp_path)),
        cache_path(make_settings(url, tmp_path, client_id="client-2")),
        cache_path(make_settings(url, tmp_path, enterprise_id="other")),
        cache_path(make_settings("http://127.0.0.1:2", tmp_path)),
    }
    assert len(paths) == 4


def test_no_token_in_any_file_but_its_own(cloud, open_session):
    """Decompressed too; and every file is private."""
    cloud.say(PATH, kept(["x" * 1000], "max-age=60", Vary="Authorization"))
    session = open_session()
    session.get_json(PATH)
    session._cache._give_back()
    path = cache_path(session.settings)
    db = sqlite3.connect(path)
    (value,) = db.execute("SELECT value FROM responses").fetchone()
    db.close()
    content = zlib.decompress(base64.b64decode(json.loads(value)["_content"]))
    text = value + content
    assert b"xxxx" in content
    assert b"Bearer" not in text
    assert b"Authorization" not in text
    assert len(value) < 700
    assert session.is_cached(PATH)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in session.settings.cache_dir.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(session.settings.cache_dir.stat().st_mode) == 0o700


def broken(path: Path) -> None:
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.write_bytes(b"no database at all " * 300)


def test_a_corrupt_file_is_thrown_away(cloud, open_session):
    """It costs a call, and then there is a cache again."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    first = open_session()
    first.get_json(PATH)
    first.close()
    broken(cache_path(first.settings))
    session = open_session()
    assert session.get_json(PATH) == [1]
    assert session.is_cached(PATH)
    assert [event for event in session.events if isinstance(event, Warned)] == []


def test_a_file_of_something_else_is_thrown_away(cloud, open_session):
    """A database with other columns."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    path = cache_path(session.settings)
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE responses (other TEXT)")
    db.close()
    assert session.get_json(PATH) == [1]
    assert session.is_cached(PATH)


def test_a_file_that_cannot_be_opened_is_done_without(cloud, open_session):
    """One warning, however many calls."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    cache_path(session.settings).mkdir(parents=True)
    for _ in range(3):
        assert session.get_json(PATH) == [1]
    warnings = [event for event in session.events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "without the cache" in warnings[0].text


def test_a_corrupt_file_that_cannot_be_removed_is_done_without(cloud, open_session, monkeypatch):
    """Somebody else's file, say."""

    def refuse(path):
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(cache, "remove_database", refuse)
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session.settings.cache_dir.mkdir()
    broken(cache_path(session.settings))
    assert session.get_json(PATH) == [1]
    assert not session.is_cached(PATH)


@pytest.mark.parametrize(
    "value", [b"", b"garbage", zlib.compress(b"no json"), zlib.compress(b'{"a": 1}'), "text", None]
)
def test_a_broken_entry_is_a_miss(cloud, open_session, value):
    """It is asked again and kept anew."""
    cloud.say(PATH, kept([1], "max-age=60"), kept([2], "max-age=60"))
    session = open_session()
    session.get_json(PATH)
    with session._cache._store.connection(commit=True) as db:
        db.execute("UPDATE responses SET value = ?", (value,))
    assert session.get_json(PATH) == [2]
    assert session.get_json(PATH) == [2]


def test_an_entry_that_is_no_json_is_a_miss(cloud, open_session, monkeypatch):
    """Whoever wrote it."""
    cloud.say(PATH, kept([1], "max-age=60"), kept([2], "max-age=60"))
    session = open_session()
    session.get_json(PATH)
    request = session._prepare(PATH, None).request
    session._cache.keep(request, b"[cut", {"Cache-Control": "max-age=60"})
    assert session.get_json(PATH) == [2]


def test_an_entry_from_a_clock_ahead_is_not_fresh(cloud, open_session, clock):
    """Kept by a clock that was a day ahead: ask."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    clock.now_s += 86400
    session.get_json(PATH)
    clock.now_s -= 86400
    assert not session.is_cached(PATH)


def test_a_locked_file_is_a_miss(cloud, open_session, monkeypatch):
    """Another process in a long write: no error, and the cache is used again afterwards."""
    monkeypatch.setattr(cache, "BUSY_TIMEOUT_S", 0.01)
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session._cache._open()
    other = sqlite3.connect(cache_path(session.settings), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert session.get_json(PATH) == [1]
    assert not session.is_cached(PATH)
    other.execute("ROLLBACK")
    other.close()
    session.get_json(PATH)
    assert session.is_cached(PATH)


def test_a_file_closed_by_a_sibling_is_opened_again(cloud, open_session):
    """One thread mends the file while another reads."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session.get_json(PATH)
    session._cache._store._connection.close()
    assert session.is_cached(PATH)
    store = session._cache._store
    store.close()
    store.init_db = lambda: None
    assert session.is_cached(PATH)


def test_threads_share_the_cache(cloud, open_session):
    """Many reads and writes at once: every answer is right."""
    cloud.say(PATH, default=lambda asked: kept(asked.query, "max-age=60"))
    session = open_session(quota=(Limit(10_000, 10),))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: session.get_json(PATH, {"n": n % 10}), range(200)))
    assert answers == [{"n": str(n % 10)} for n in range(200)]
    assert session.calls_used < 100


def test_expired_entries_do_not_pile_up(cloud, open_session, clock):
    """A month after they expired they go: of days 0, 20, 40, 60 two are left on day 60."""
    cloud.say(PATH, default=lambda asked: kept([1], "max-age=60"))
    entries = []
    for n in range(4):
        session = open_session()
        session.get_json(PATH, {"n": n})
        session.close()
        entries.append(cache_info(session.settings, now=clock.now).entries)
        clock.now_s += 20 * 86400
    assert entries == [1, 2, 2, 2]


def test_pruning_is_looked_at_once_a_day(cloud, open_session, clock):
    """Not at every opening."""
    cloud.say(PATH, default=kept([1], "max-age=60"))

    def pruned_s() -> int:
        session = open_session()
        session._cache._open()
        session.close()
        db = sqlite3.connect(cache_path(session.settings))
        (found,) = db.execute("PRAGMA user_version").fetchone()
        db.close()
        return found - int(START_S)

    found = []
    for wait_s in (0, 80_000, 10_000):
        clock.now_s += wait_s
        found.append(pruned_s())
    assert found == [0, 0, 90_000]


def test_info_and_clearing(cloud, open_session, settings, clock):
    """How many, how many of them fresh; then none, and no file."""
    assert cache_info(settings) == CacheInfo(cache_path(settings), 0, 0, 0)
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session.get_json(PATH)
    clock.now_s += 100
    session.get_json(PATH, {"n": 1})
    session.close()
    info = cache_info(settings, now=clock.now)
    assert (info.entries, info.fresh) == (2, 1)
    assert info.size_bytes > 1000
    assert clear_cache(settings)
    assert not clear_cache(settings)
    assert list(settings.cache_dir.glob("answers.*")) == []


def test_info_of_a_broken_file(settings):
    """Nothing in it, however large."""
    settings.cache_dir.mkdir()
    broken(cache_path(settings))
    info = cache_info(settings)
    assert (info.entries, info.fresh, info.size_bytes) == (0, 0, 5700)


def test_clearing_what_cannot_be_removed_is_a_local_error(settings):
    """Exit code 7."""
    cache_path(settings).mkdir(parents=True)
    with pytest.raises(LocalError, match="cannot be removed"):
        clear_cache(settings)


def test_a_cut_of_the_file_while_it_is_open(cloud, open_session):
    """Damaged under an open session: thrown away, asked again, kept again."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session.get_json(PATH)
    store = session._cache._store
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def fail(key):
        raise error

    store.get = fail
    assert session.get_json(PATH) == [1]
    assert session._cache._store is not store
    assert session.is_cached(PATH)


def test_a_write_that_fails_is_taken_back(cloud, open_session, clock):
    """A full disk in the middle of keeping: the answer is there, the cache is done without."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    assert not session.is_cached(PATH)
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    store = session._cache._open()

    def fail(key, value):
        with store.connection(commit=True):
            raise error

    store._write = fail
    assert session.get_json(PATH) == [1]
    assert session.get_json(PATH) == [1]
    warnings = [event.text for event in session.events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "disk is full" in warnings[0]


def test_a_store_closed_in_the_middle_of_a_write(cloud, open_session):
    """A sibling closes it between opening and writing: opened again."""
    cloud.say(PATH, default=kept([1], "max-age=60"))
    session = open_session()
    session._cache._open()
    store = session._cache._store
    store.connection().__enter__()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError), store._acquire_sqlite_lock():
        pass
    session.get_json(PATH)
    assert session.is_cached(PATH)


def test_a_closed_cache_is_never_opened_again(cloud, open_session):
    """A thread that still runs when the session is closed finds nothing: SQLite would die of it."""
    session = open_session()
    cloud.say("/a", Said(200, b"[1]", {"Cache-Control": "max-age=60"}))
    session.get_json("/a")
    assert session.is_cached("/a")
    session.close()
    assert not session.is_cached("/a")
    assert session._cache._store is None
