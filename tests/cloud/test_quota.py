"""The ledger: never above a limit, over threads, processes, forks and mishaps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copper_cli.cloud import quota
from copper_cli.cloud.quota import Ledger, LedgerUnwritableError, open_ledger
from copper_cli.config import Limit
from copper_cli.errors import LocalError, UsageError
from copper_cli.files.names import short_digest as digest

from .mini_cloud import make_settings

T0 = 1_700_000_000.0


class Hand:
    """A clock set by hand."""

    def __init__(self, now_s: float = T0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def make(tmp_path: Path, hand: Hand):
    made = []

    def ledger(*limits: Limit, name: str = "quota.sqlite", **more) -> Ledger:
        made.append(Ledger(tmp_path / "cache" / name, limits, **({"clock": hand} | more)))
        return made[-1]

    yield ledger
    for one in made:
        one.close()


def test_grants_up_to_the_limit_then_says_how_long(make, hand):
    """The third call of 2 in 10 s waits until the first has left the window, to the second."""
    ledger = make(Limit(2, 10))
    assert ledger.take("a") == 0.0
    hand.now_s += 3
    assert ledger.take("a") == 0.0
    assert ledger.take("a") == 7.0
    hand.now_s += 6.5
    assert ledger.take("a") == 0.5
    hand.now_s += 0.5
    assert ledger.take("a") == 0.0
    assert ledger.take("a") == 3.0


def test_several_limits_hold_at_once(make, hand):
    """The longest of the waits counts."""
    ledger = make(Limit(2, 10), Limit(3, 100))
    assert [ledger.take("a"), ledger.take("a")] == [0.0, 0.0]
    hand.now_s += 10
    assert ledger.take("a") == 0.0
    assert ledger.take("a") == 90.0


def test_a_refused_call_is_not_written_down(make):
    """Asking in vain costs nothing."""
    ledger = make(Limit(1, 10))
    ledger.take("a")
    for _ in range(5):
        assert ledger.take("a") == 10.0
    assert ledger.usage().limits[0].used == 1


def test_reserve_is_left_to_others(make):
    """With 2 of 5 reserved, three calls are granted; another run without reserve gets the rest."""
    careful, other = make(Limit(5, 10), reserve=2), make(Limit(5, 10))
    assert [careful.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]
    assert [other.take("b") for _ in range(3)] == [0.0, 0.0, 10.0]


def test_a_reserve_of_everything_is_refused(tmp_path):
    """A limit must keep one call, or a run would wait for ever."""
    with pytest.raises(UsageError, match="reserve of 5"):
        Ledger(tmp_path / "q", [Limit(100, 3600), Limit(5, 10)], reserve=5)


def test_hold_stops_everybody_and_only_for_so_long(make, hand):
    """A hold of one process binds another; it takes no calls out of the window."""
    one, other = make(Limit(5, 3600)), make(Limit(5, 3600))
    one.hold(30)
    assert other.take("a") == 30.0
    one.hold(10)  # a shorter one changes nothing
    assert other.take("a") == 30.0
    assert other.usage().held_until_utc == datetime.fromtimestamp(T0 + 30, UTC)
    assert other.resume_at(1) == T0 + 30
    hand.now_s += 30
    assert [other.take("a") for _ in range(5)] == [0.0] * 5
    assert other.usage().held_until_utc is None


@pytest.mark.parametrize("seconds", [0, -5, float("nan")])
def test_a_hold_of_nothing_is_none(make, seconds):
    """A Retry-After of 0 holds nobody."""
    ledger = make(Limit(5, 60))
    ledger.hold(seconds)
    assert ledger.take("a") == 0.0


def test_a_hold_lasts_no_longer_than_the_longest_window(make):
    """Nobody believes a Retry-After of a year."""
    ledger = make(Limit(5, 60))
    ledger.hold(float("inf"))
    assert ledger.take("a") == 60.0


def test_usage_says_used_left_when_and_by_whom(make, hand):
    """Used, left and the next free instants belong to the window that ends now."""
    ledger = make(Limit(3, 10), Limit(10, 100))
    ledger.take("meter usage")
    hand.now_s += 4
    ledger.take("meter usage")
    hand.now_s += 1
    ledger.take("premise")
    hand.now_s += 5
    short, long = ledger.usage().limits
    assert (short.used, short.left) == (2, 1)
    assert short.next_free_utc == (
        datetime.fromtimestamp(T0 + 14, UTC),
        datetime.fromtimestamp(T0 + 15, UTC),
    )
    assert short.by_command == {"meter usage": 1, "premise": 1}
    assert (long.used, long.left) == (3, 7)
    assert long.by_command == {"meter usage": 2, "premise": 1}


def test_usage_of_no_ledger_makes_no_file(make):
    """Looking leaves no trace."""
    ledger = make(Limit(3, 10))
    usage = ledger.usage()
    assert (usage.limits[0].used, usage.limits[0].left) == (0, 3)
    assert ledger.resume_at(3) == T0
    assert ledger.resume_at(4) == T0 + 10
    assert not ledger.path.exists()


def test_resume_at_is_when_n_more_calls_could_have_been_made(make, hand):
    """With 2 in 10 s and calls at 0 and 4: the first more at 10, then 14, 20, 24."""
    ledger = make(Limit(2, 10))
    ledger.take("a")
    hand.now_s += 4
    ledger.take("a")
    assert [ledger.resume_at(n) - T0 for n in range(5)] == [4, 10, 14, 20, 24]


def test_padding_lengthens_the_window_by_a_quarter_of_a_second_to_a_second(make):
    """A call is counted by the cloud when it arrives, by us when it leaves."""
    waits = [make(Limit(20, 1), name="c", pad=0.01).take("x") for _ in range(21)]
    assert waits == [*[0.0] * 20, 1.25]
    assert [make(Limit(1, 10), name="a", pad=0.01).take("x") for _ in range(2)] == [0.0, 10.25]
    assert [make(Limit(1, 3600), name="b", pad=0.01).take("x") for _ in range(2)] == [0.0, 3601.0]


def test_a_clock_set_back_costs_one_window_at_most(make, hand):
    """Entries two hours ahead count as made now: the wait is a window, then it is over."""
    ledger = make(Limit(2, 3600))
    ledger.take("a")
    ledger.take("a")
    ledger.hold(60)
    hand.now_s -= 7200
    assert ledger.usage().limits[0].next_free_utc[0] == datetime.fromtimestamp(T0 - 3600, UTC)
    assert ledger.resume_at(1) == T0 - 3600
    assert ledger.take("a") == 3600.0
    hand.now_s += 3600
    assert ledger.take("a") == 0.0


def test_a_hold_of_a_clock_set_back_keeps_its_length(make, hand):
    """Sixty seconds stay sixty seconds."""
    ledger = make(Limit(2, 3600))
    ledger.hold(60)
    hand.now_s -= 7200
    assert ledger.usage().held_until_utc == datetime.fromtimestamp(T0 - 7200 + 60, UTC)
    assert ledger.take("a") == 60.0


def test_a_clock_set_forward_frees_calls(make, hand):
    """Nothing waits for what the clock says is past."""
    ledger = make(Limit(1, 3600))
    ledger.take("a")
    hand.now_s += 3601
    assert ledger.take("a") == 0.0


def test_old_entries_are_dropped(make, hand):
    """After two days an entry is gone, so that the file does not grow for ever."""
    ledger = make(Limit(1, 10))
    for _ in range(3):
        ledger.take("a")
        hand.now_s += 86400
    ledger.take("a")
    ledger.close()
    db = sqlite3.connect(ledger.path)
    assert db.execute("SELECT count(*) FROM calls").fetchone() == (2,)
    db.close()


def test_other_limits_find_the_same_calls(make, hand):
    """A run with a short limit does not throw away what a run with a day's limit needs."""
    make(Limit(1, 10)).take("a")
    hand.now_s += 50_000
    make(Limit(1, 10)).take("a")
    assert make(Limit(2, 86400)).take("a") == 86400 - 50_000


def test_peek_counts_as_usage_does(make, hand):
    """What each limit grants, less the reserve, never below nothing; as the calls grow old, too."""
    ledger = make(Limit(3, 10), Limit(5, 100), reserve=1)
    other = make(Limit(5, 100))
    assert ledger.peek() == [(Limit(3, 10), 2), (Limit(5, 100), 4)]
    assert not ledger.path.exists()
    for _ in range(2):
        ledger.take("a")
    assert ledger.peek() == [(Limit(3, 10), 0), (Limit(5, 100), 2)]
    hand.now_s += 10
    for _ in range(3):
        other.take("b")
    assert ledger.peek() == [(Limit(3, 10), 0), (Limit(5, 100), 0)]
    hand.now_s += 90
    assert ledger.peek() == [(Limit(3, 10), 2), (Limit(5, 100), 1)]


def test_peek_waits_for_nobody(make, monkeypatch):
    """Another process or thread is at the ledger: nothing is told, and the next call is granted."""
    ledger = make(Limit(3, 10), lock_timeout_s=0.0)
    ledger.take("a")
    monkeypatch.setattr(quota.time, "sleep", lambda s: pytest.fail("it waited"))
    monkeypatch.setattr(quota, "PEEK_TIMEOUT_S", 0.001)
    ledger.close()
    with sqlite3.connect(ledger.path, isolation_level=None) as db:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("DELETE FROM hold")
        assert ledger.peek() is None
        db.execute("ROLLBACK")
    db.close()
    told = []
    with quota._process_lock:
        thread = threading.Thread(target=lambda: told.append(ledger.peek()))
        thread.start()
        thread.join()
    assert told == [None]
    assert ledger.take("a") == 0.0
    assert ledger.peek() == [(Limit(3, 10), 1)]


def test_a_file_that_another_process_is_just_making(make):
    """It is locked and has no tables yet: it is opened anew, else it might be taken for broken."""
    ledger = make(Limit(3, 10), on_warning=pytest.fail)
    ledger.path.parent.mkdir()
    db = sqlite3.connect(ledger.path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    db.execute("CREATE TABLE other (a)")
    assert ledger.peek() is None
    assert ledger._connection is None
    db.execute("ROLLBACK")
    db.close()
    assert ledger.take("a") == 0.0


def test_peek_mends_nothing(make, tmp_path):
    """A broken file or a folder that takes none is for a call to find, not for a display."""
    ledger = make(Limit(3, 10), on_warning=pytest.fail)
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"this is no database" * 100)
    assert ledger.peek() is None
    assert ledger.path.read_bytes().startswith(b"this is no database")
    (tmp_path / "file").touch()
    assert Ledger(tmp_path / "file" / "q", [Limit(3, 10)]).peek() == [(Limit(3, 10), 3)]
    assert Ledger(tmp_path, [Limit(3, 10)]).peek() is None


def test_files_are_private(make):
    """Folder 0700; the ledger and what SQLite keeps beside it 0600."""
    ledger = make(Limit(5, 10))
    ledger.take("a")
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700
    files = list(ledger.path.parent.iterdir())
    assert len(files) >= 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# Mishaps


def test_a_broken_file_is_set_aside_with_a_warning(make):
    """Counting starts anew, the old file stays for who wants to look, the user is told."""
    warnings: list[str] = []
    ledger = make(Limit(5, 10), on_warning=warnings.append)
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"this is no database, whatever its name says" * 100)
    assert ledger.take("a") == 0.0
    assert ledger.usage().limits[0].used == 1
    assert ledger.path.with_name("quota.sqlite.broken").read_bytes().startswith(b"this is no")
    assert len(warnings) == 1
    assert "set aside" in warnings[0]


def test_a_file_broken_under_an_open_ledger_is_set_aside(make):
    """It need not be broken at the start."""
    warnings: list[str] = []
    ledger = make(Limit(5, 10), on_warning=warnings.append)
    ledger.take("a")
    ledger.close()
    data = bytearray(ledger.path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    ledger.path.write_bytes(data)
    assert ledger.take("a") == 0.0
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "script", ["PRAGMA user_version=99", "CREATE TABLE calls (other TEXT)", "CREATE TABLE hold (x)"]
)
def test_a_file_of_something_else_is_set_aside(make, script):
    """A good SQLite file that is not this ledger does not count calls."""
    warnings: list[str] = []
    ledger = make(Limit(5, 10), on_warning=warnings.append)
    ledger.path.parent.mkdir()
    db = sqlite3.connect(ledger.path)
    db.execute(script)
    db.commit()
    db.close()
    assert ledger.take("a") == 0.0
    assert len(warnings) == 1


def test_what_a_sibling_has_mended_is_left_alone(make):
    """Two processes find the same broken file; the second does not throw away the new one."""
    warnings: list[str] = []
    ledger = make(Limit(5, 10), on_warning=warnings.append)
    ledger.take("a")
    ledger._set_aside()
    assert warnings == []
    assert ledger.usage().limits[0].used == 1


def test_a_removed_file_is_made_again(make):
    """Who empties the cache folder meanwhile loses the count, not the run."""
    ledger = make(Limit(1, 10))
    ledger.take("a")
    ledger.path.unlink()
    assert ledger.take("a") == 0.0
    assert ledger.path.exists()


def test_a_locked_file_is_waited_for_then_given_up(make):
    """LocalError after the time allowed, saying what to do."""
    ledger = make(Limit(5, 10), lock_timeout_s=0.1)
    ledger.take("a")
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LocalError, match="stayed locked by another program"):
        ledger.take("a")
    other.execute("ROLLBACK")
    other.close()
    assert ledger.take("a") == 0.0


def test_a_lock_that_goes_is_waited_out(make):
    """Another process in its transaction only delays."""
    ledger = make(Limit(5, 10))
    ledger.take("a")
    other = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.05, lambda: other.execute("ROLLBACK"))
    timer.start()
    assert ledger.take("a") == 0.0
    timer.join()
    other.close()


def test_a_folder_that_takes_no_file_is_a_local_error(tmp_path):
    """The path's folder is a file: exit code 7, and what to do."""
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "quota.sqlite", [Limit(5, 10)])
    with pytest.raises(LedgerUnwritableError, match="COPPER_CACHE_DIR"):
        ledger.take("a")


def test_a_folder_in_the_ledgers_place_is_a_local_error(tmp_path):
    """What cannot be opened is not thrown away."""
    ledger = Ledger(tmp_path, [Limit(5, 10)])
    with pytest.raises(LocalError):
        ledger.take("a")
    assert tmp_path.is_dir()


def test_a_broken_file_that_cannot_be_set_aside_is_a_local_error(make, monkeypatch):
    """Renaming fails: say so rather than go on uncounted."""
    ledger = make(Limit(5, 10))
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"no database" * 1000)

    def refuse(self, target):
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(LocalError, match="not yours"):
        ledger.take("a")


def test_an_error_within_a_transaction_leaves_nothing(make):
    """An interrupt between asking and writing takes the whole step back."""
    ledger = make(Limit(5, 10))
    ledger.take("a")

    def work(db):
        db.execute("INSERT INTO calls VALUES (1, 'x')")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger._transact(work)
    assert ledger.take("a") == 0.0
    assert ledger.usage().limits[0].used == 2


def test_a_full_disk_is_a_local_error(make):
    """What is neither locked nor broken is told as it is."""
    ledger = make(Limit(5, 10))

    def work(db):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with pytest.raises(LocalError, match="disk is full"):
        ledger._transact(work)


# Threads, processes, forks


def _take_for(path: str, limits: list[tuple[int, int]], seconds: float, out) -> None:
    ledger = Ledger(Path(path), [Limit(*limit) for limit in limits])
    end = time.time() + seconds
    granted = []
    while time.time() < end:
        wait = ledger.take("p")
        if wait == 0.0:
            granted.append(time.time())
        else:
            time.sleep(min(wait, max(end - time.time(), 0)))
    ledger.close()
    out.put(granted)


def test_four_processes_never_exceed_a_limit(tmp_path):
    """At most 20 of all entries lie in any second, 30 in any two, as the file has them."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    path = tmp_path / "quota.sqlite"
    processes = [
        context.Process(target=_take_for, args=(str(path), [(20, 1), (30, 2)], 2.2, out))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    granted = sum(len(out.get(timeout=60)) for _ in processes)
    for process in processes:
        process.join()
    db = sqlite3.connect(path)
    times = [row[0] for row in db.execute("SELECT at_us FROM calls ORDER BY at_us")]
    db.close()
    assert granted == len(times) >= 30
    for allowed, period_us in ((20, 1_000_000), (30, 2_000_000)):
        pairs = zip(times, times[allowed:], strict=False)
        assert all(later - earlier >= period_us for earlier, later in pairs)


def test_sixteen_threads_get_exactly_the_limit(tmp_path):
    """One ledger or several in a process, the count is one."""
    ledgers = [Ledger(tmp_path / "quota.sqlite", [Limit(50, 3600)]) for _ in range(4)]
    results: list[float] = []

    def work(ledger: Ledger) -> None:
        for _ in range(10):
            results.append(ledger.take("t"))

    threads = [threading.Thread(target=work, args=(ledgers[n % 4],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.close()
    assert results.count(0.0) == 50
    assert len(results) == 160


def test_kill_leaves_a_usable_ledger(tmp_path):
    """kill -9 in the middle of taking: every granted call is there, and the next is granted."""
    path = tmp_path / "quota.sqlite"
    script = (
        "import sys; from pathlib import Path; from copper_cli.cloud.quota import Ledger\n"
        "from copper_cli.config import Limit\n"
        "ledger = Ledger(Path(sys.argv[1]), [Limit(10**6, 3600)])\n"
        "n = 0\n"
        "while True:\n"
        "    ledger.take('k'); n += 1; print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 50:
            break
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    process.wait()
    said = max([50, *(int(word) for word in rest.split())])
    ledger = Ledger(path, [Limit(10**6, 3600)])
    used = ledger.usage().limits[0].used
    assert said <= used <= said + 1
    assert ledger.take("a") == 0.0
    ledger.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_of_a_busy_process_neither_hang_nor_share(tmp_path):
    """Twenty children forked while three threads take: each takes its own call."""
    ledger = Ledger(tmp_path / "quota.sqlite", [Limit(10**6, 3600)])
    stop = threading.Event()
    taken = [0, 0, 0]

    def work(n: int) -> None:
        while not stop.is_set():
            ledger.take("parent")
            taken[n] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            code = 1
            try:
                code = 0 if ledger.take("child") == 0.0 else 2
                ledger.close()
            finally:
                os._exit(code)
        codes.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    by_command = ledger.usage().limits[0].by_command
    ledger.close()
    assert codes == [0] * 20
    assert by_command == {"parent": sum(taken), "child": 20}


def test_a_forgotten_ledger_closes_its_file(tmp_path):
    """No ResourceWarning where nobody called close."""
    ledger = Ledger(tmp_path / "quota.sqlite", [Limit(5, 10)])
    ledger.take("a")
    connection = ledger._connection
    del ledger
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


# The model


class Model:
    """The rule itself, without any economy: count what lies in each window."""

    def __init__(self, limits: list[Limit]) -> None:
        self.limits = limits
        self.calls: list[float] = []
        self.hold: tuple[float, float] | None = None

    def mend(self, now: float) -> None:
        self.calls = [min(at, now) for at in self.calls]
        if self.hold and self.hold[0] > now:
            self.hold = (now, now + self.hold[1] - self.hold[0])

    def free(self, now: float) -> bool:
        held = self.hold is not None and now < self.hold[1]
        return not held and all(
            sum(at > now - limit.period_s for at in self.calls) < limit.calls
            for limit in self.limits
        )

    def take(self, now: float) -> float:
        self.mend(now)
        if self.free(now):
            self.calls.append(now)
            return 0.0
        ends = [at + limit.period_s for at in self.calls for limit in self.limits]
        ends += [self.hold[1]] if self.hold else []
        return min(end for end in ends if end > now and self.free(end)) - now


_limits = st.lists(st.builds(Limit, st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=3)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("tick"), st.integers(-60, 60)),
        st.tuples(st.just("hold"), st.integers(1, 100)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(limits=_limits, steps=_steps)
def test_agrees_with_the_rule_counted_by_hand(tmp_path_factory, limits, steps):
    """Whatever the limits, steps of the clock and holds: the same grants and the same waits."""
    hand = Hand()
    ledger = Ledger(tmp_path_factory.mktemp("model") / "q.sqlite", limits, clock=hand)
    model = Model(limits)
    longest = max(limit.period_s for limit in limits)
    try:
        for step, amount in steps:
            if step == "tick":
                hand.now_s += amount / 2
            elif step == "hold":
                ledger.hold(amount)
                model.mend(hand.now_s)
                until = hand.now_s + min(amount, longest)
                if model.hold is None or until > max(model.hold[1], hand.now_s):
                    model.hold = (hand.now_s, until)
            else:
                expected = model.take(hand.now_s)
                forecast = ledger.resume_at(1) - hand.now_s
                assert ledger.take("m") == expected == forecast
                assert ledger.usage().limits[0].used == sum(
                    at > hand.now_s - limits[0].period_s for at in model.calls
                )
    finally:
        ledger.close()


# Where it is


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://api.example.com", True),
        ("https://API.example.com", True),
        ("https://api.example.com.:443/v3", True),
        ("https://api.example.com:8443", False),
        ("https://api.example.org", False),
    ],
)
def test_the_file_belongs_to_host_and_client_id(tmp_path, url, same):
    """However the host is written; another port is another host. The id is not in the name."""
    first = quota.ledger_path(make_settings("https://api.example.com", tmp_path))
    assert (first == quota.ledger_path(make_settings(url, tmp_path))) == same
    assert first != quota.ledger_path(make_settings(url, tmp_path, client_id="client-2"))
    assert "client" not in first.name


def test_two_clouds_on_this_machine_have_a_quota_each(tmp_path, hand):
    """By their ports; the names of this machine are one host."""
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://localhost:1", "http://[::1]:2"]
    waits = []
    for url in urls:
        ledger = open_ledger(make_settings(url, tmp_path, quota=(Limit(1, 10),)), clock=hand)
        waits.append(ledger.take("a"))
        ledger.close()
    assert waits == [0.0, 0.0, 10.25, 10.25]


# What an older version has left


def make_older(settings, calls, hold=None) -> Path:
    """A ledger of the client id alone, as it was kept before."""
    path = settings.cache_dir / f"quota.{digest(settings.client_id)}.sqlite"
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE calls (at_us INTEGER NOT NULL, command TEXT NOT NULL)")
    db.execute("CREATE INDEX calls_at ON calls (at_us)")
    db.execute("CREATE TABLE hold (set_us INTEGER NOT NULL, until_us INTEGER NOT NULL)")
    db.execute("PRAGMA user_version=1")
    for at_s in calls:
        db.execute("INSERT INTO calls VALUES (?, 'old')", (int(at_s * 1e6),))
    if hold:
        db.execute("INSERT INTO hold VALUES (?, ?)", tuple(int(at_s * 1e6) for at_s in hold))
    db.commit()
    db.close()
    return path


URLS = ["https://api.copperlabs.com", "https://api.example.com", "http://127.0.0.1:1"]


@pytest.mark.parametrize("url", URLS)
def test_what_an_older_version_counted_goes_on(tmp_path, hand, url):
    """Nobody knows for which host it was: each begins with it, so that none grants too many."""
    settings = make_settings(url, tmp_path, quota=(Limit(3, 3600),))
    make_older(settings, [T0 - 3000, T0 - 600])
    ledger = open_ledger(settings, clock=hand)
    assert ledger.usage().limits[0].by_command == {"old": 2}
    assert ledger.peek() == [(Limit(3, 3600), 1)]
    assert ledger.resume_at(2) == T0 + 601
    assert [ledger.take("a") for _ in range(2)] == [0.0, 601.0]
    ledger.close()


def test_before_the_first_call_too_the_old_ones_are_shown(tmp_path, hand):
    """A display that looks first counts them as well."""
    settings = make_settings("https://api.example.com", tmp_path, quota=(Limit(3, 3600),))
    make_older(settings, [T0 - 600])
    ledger = open_ledger(settings, clock=hand)
    assert ledger.peek() == [(Limit(3, 3600), 2)]
    ledger.close()


def test_it_is_taken_over_once(tmp_path, hand):
    """Opened again, nothing is counted twice."""
    settings = make_settings("https://api.example.com", tmp_path, quota=(Limit(9, 3600),))
    make_older(settings, [T0 - 600])
    for used in (2, 3):
        ledger = open_ledger(settings, clock=hand)
        assert ledger.take("a") == 0.0
        assert ledger.usage().limits[0].used == used
        ledger.close()


def test_a_broken_older_ledger_counts_nothing(tmp_path, hand):
    """As an older version would have set it aside."""
    settings = make_settings("https://api.example.com", tmp_path, quota=(Limit(1, 3600),))
    make_older(settings, []).write_bytes(b"no database" * 500)
    ledger = open_ledger(settings, clock=hand, on_warning=pytest.fail)
    assert ledger.take("a") == 0.0
    ledger.close()


def test_an_older_hold_of_a_day_counts_as_an_hour(tmp_path, hand):
    """From when it was set; then one call tries."""
    settings = make_settings("https://api.example.com", tmp_path)
    make_older(settings, [], hold=(T0 - 1000, T0 + 85400))
    ledger = open_ledger(settings, clock=hand)
    assert ledger.usage().held_until_utc == datetime.fromtimestamp(T0 + 2600, UTC)
    assert ledger.take("a") == 2600.0
    hand.now_s += 2600
    assert ledger.take("a") == 0.0
    ledger.release()
    assert in_thread(lambda: [ledger.take("b") for _ in range(3)]) == [0.0] * 3
    ledger.close()


def in_thread(work):
    """What another thread gets."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


# Holds


@pytest.mark.parametrize("seconds", [3601, 86400, 1e9, float("inf")])
def test_a_hold_lasts_an_hour_at_most(make, hand, seconds):
    """Whatever the cloud asks for; the end that is told is the end that holds."""
    ledger = make(Limit(100, 3600), Limit(1000, 86400))
    ledger.hold(seconds)
    assert ledger.usage().held_until_utc == datetime.fromtimestamp(T0 + 3600, UTC)
    assert ledger.resume_at(1) == T0 + 3600
    assert ledger.take("a") == 3600.0


def test_after_a_cut_hold_one_call_tries(make, hand):
    """Of threads and processes the first goes out; the others look each second, until the cloud
    has answered it or two minutes are over."""
    first, other = (make(Limit(100, 3600), Limit(1000, 86400)) for _ in range(2))
    first.hold(1e9)
    hand.now_s += 3600
    assert first.take("a") == 0.0
    assert first.take("a") == 0.0  # it may try again itself
    assert in_thread(lambda: first.take("b")) == 1.0
    assert other.take("c") == 1.0
    hand.now_s += 120
    assert other.take("c") == 0.0
    assert in_thread(lambda: first.take("b")) == 1.0
    other.release()
    assert [in_thread(lambda: first.take("b")) for _ in range(3)] == [0.0] * 3


def test_a_trial_that_is_refused_holds_again(make, hand):
    """Another hour, then another call tries."""
    first, other = (make(Limit(100, 3600), Limit(1000, 86400)) for _ in range(2))
    first.hold(1e9)
    hand.now_s += 3600
    assert first.take("a") == 0.0
    first.hold(1e9)
    assert other.take("b") == 3600.0
    assert first.take("a") == 3600.0
    hand.now_s += 3600
    assert other.take("b") == 0.0
    assert first.take("a") == 1.0


def test_a_clock_set_back_in_a_trial_holds_nobody_for_long(make, hand):
    """The others wait two minutes at most."""
    first, other = (make(Limit(100, 3600), Limit(1000, 86400)) for _ in range(2))
    first.hold(1e9)
    hand.now_s += 3600
    assert first.take("a") == 0.0
    hand.now_s -= 100_000
    assert other.take("b") == 3600.0  # the hold keeps its length
    hand.now_s += 3600
    assert other.take("b") == 0.0


def test_open_ledger_takes_limits_and_reserve_from_the_settings(tmp_path, hand):
    """3 in 10 s with one reserved: two calls, then a wait of the padded window."""
    ledger = open_ledger(
        make_settings("http://x", tmp_path, quota=(Limit(3, 10),), reserve=1), clock=hand
    )
    assert [ledger.take("a") for _ in range(3)] == [0.0, 0.0, 10.25]
    ledger.close()


def test_importing_the_ledger_imports_no_http(tmp_path):
    """`copper quota` starts fast."""
    code = "import sys, copper_cli.cloud.quota; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
