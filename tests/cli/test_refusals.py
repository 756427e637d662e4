"""What is refused before any call, and how each exit code is reached."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import Copper, FixedCloud

USAGE = "meter usage"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{USAGE} 2021-01-12 2020-12-22", "START 2021-01-12 is after END 2020-12-22."),
        (
            f"{USAGE} 2021-01-31 2021-01-31",
            "END is a midnight, so one day is 2021-01-31 2021-02-01.",
        ),
        (f"{USAGE} 2021-1-2 2021-01-03", "'2021-1-2' is not a date like 2020-12-22"),
        (f"{USAGE} tomorrow 2021-01-03", "'tomorrow' is not a date"),
        (f"{USAGE} 2021-02-29 2021-03-03", "'2021-02-29' is not a day of the calendar."),
        (f"{USAGE} ２021-02-20 2021-03-03", "is not a date"),
        (f"{USAGE} 1969-12-31 2021-03-03", "1969-12-31 lies outside 1970 to 2199."),
        (f"{USAGE} 2021-01-01 2200-01-01", "2200-01-01 lies outside 1970 to 2199."),
        (f"{USAGE} 2021-01-01", "Missing argument 'END'."),
        (f"{USAGE} 2021-01-01 2021-01-02 2021-01-03", "unexpected extra argument"),
        (f"{USAGE} 2021-01-01 2021-01-02 --granularity weekly", "'weekly' is not one of"),
        (f"{USAGE} 2021-01-01 2021-01-02 --timezone America/Denvr", "Closest: America/Denver"),
        (f"{USAGE} 2021-01-01 2021-01-02 --timezone ../../etc/passwd", "is not a zone"),
        (f"{USAGE} 2021-01-01 2021-01-02 --timezone qqqq", "Try America/Denver or UTC."),
        (f"{USAGE} 2021-01-01 2021-01-02 --step -1", "-1 is not in the range 1<=x<=36600."),
        (f"{USAGE} 2021-01-01 2021-01-02 --step 0", "0 is not in the range 1<=x<=36600."),
        (f"{USAGE} 2021-01-01 2021-01-02 --layout wide", "'wide' is not one of"),
        (f"{USAGE} 2021-01-01 2021-01-02 --jobs 0", "0 is not in the range"),
        (f"{USAGE} 2021-01-01 2021-01-02 --timeout 0", "0.0 is not in the range"),
        (f"{USAGE} 2021-01-01 2021-01-02 --query-limit 0", "0 is not in the range"),
        (f"{USAGE} 2021-01-01 2021-01-02 --quota 5", "--quota '5' is not like 100/h,1000/d"),
        (f"{USAGE} 2021-01-01 2021-01-02 --format xml", "'xml' is not one of"),
        (f"{USAGE} 2021-01-01 2021-01-02 --colour", "No such option"),
        ("meter readings 2021-01-02 2021-01-01", "START 2021-01-02 is after END 2021-01-01."),
        ("grid readings 2021-01-02 2021-01-01", "START 2021-01-02 is after END 2021-01-01."),
        ("dump foo 2021-01-02 2021-01-01 hour", "START 2021-01-02 is after END 2021-01-01."),
        ("dump foo 2021-01-01 2021-01-02 month", "'month' is not one of"),
        ("dump ../foo 2021-01-01 2021-01-02 hour", "NAME '../foo' cannot name a folder"),
        ("dump /tmp/foo 2021-01-01 2021-01-02 hour", "NAME '/tmp/foo' cannot name a folder"),
        ("dump .. 2021-01-01 2021-01-02 hour", "NAME '..' cannot name a folder"),
        ("report partner ../acme", "HANDLE '../acme' cannot name a folder"),
        ("report partner a/b", "HANDLE 'a/b' cannot name a folder"),
        ("report monthly 2021-13", "'2021-13' is not a month like 2021-09 (YYYY-MM)."),
        ("report monthly 2021-9", "'2021-9' is not a month"),
        ("report monthly 1969-09", "'1969-09' is not a month"),
        (
            "meter check-for-water-reversals --check-limit -1",
            "-1 is not in the range 0<=x<=1000000000.",
        ),
        ("meter check-for-water-reversals --method spring", "'spring' is not one of"),
        ("premis", "no such command 'premis' in "),
        (f"{USAGE} today yesterday", "START today is after END yesterday."),
        (f"{USAGE} -7d -8d", "START -7d is after END -8d."),
        (f"{USAGE} yesterday -1d", "START and END are both yesterday; END is a midnight"),
        (f"{USAGE} today today", "START and END are both today; END is a midnight"),
        (f"{USAGE} 2021-02 2021-01", "START 2021-02-01 is after END 2021-01-01."),
        (f"{USAGE} 2021-02 2021-02", "one day is 2021-02-01 2021-02-02."),
        (f"{USAGE} 2021-13 2022-01", "'2021-13' is not a date like 2020-12-22"),
        (f"{USAGE} 1969-12 2021-01", "1969-12 lies outside 1970 to 2199."),
        *(
            (f"{USAGE} {word} 2021-01-03", f"'{word}' is not a date like 2020-12-22")
            for word in ("Today", "-0d", "-07d", "-123456d", "7d", "+7d", "this-month", "2021")
        ),
        (f"{USAGE} -7w today", "No such option"),
        (f"{USAGE} -7D today", "No such option"),
        (f"{USAGE} -7d today --dryrun", "No such option"),
        (f"{USAGE} -7d today -x", "No such option"),
        ("premise -7d", "No such option"),
        ("report monthly today", "'today' is not a month like 2021-09 (YYYY-MM)."),
        ("report monthly 2021-09-01", "'2021-09-01' is not a month like"),
        ("help premis", "no such command 'premis' in "),
        ("help meter usges", "Did you mean usage"),
        ("help premise x", "premise has no commands."),
        ("meter usages 2021-01-01 2021-01-02", "Did you mean usage"),
        ("meter zzz", "One of average-series, baseline-series,"),
    ],
)
def test_mistakes_cost_no_call(fixed: FixedCloud, copper: Copper, line: str, told: str) -> None:
    """One line on stderr that says what is wrong, exit 2, nothing on stdout, no request."""
    ended = copper(*line.split())
    assert (ended.code, ended.out, fixed.asked) == (2, "", [])
    lines = ended.err.splitlines()
    assert lines[-1].startswith("copper: ")
    assert told in lines[-1]
    assert all(line.startswith("No profile ") for line in lines[:-1])
    assert not list(Path().iterdir())


def test_hostile_arguments_do_not_steer_the_terminal(fixed: FixedCloud, copper: Copper) -> None:
    """What was typed is repeated without control characters, on one line."""
    for line in (
        ["meter", "usage", "\x1b[2J\n2021", "2021-01-01"],
        ["dump", "a\x1b[31m\nb", "2021-01-01", "2021-01-02", "hour"],
        ["\x1b[2Jpremise"],
        ["grid", "latest", "--format", "\x1b[2J"],
    ):
        ended = copper(*line)
        assert ended.code == 2
        assert "\x1b" not in ended.err
        assert len(ended.err.splitlines()) == 1
    assert fixed.asked == []


def test_a_group_alone_shows_its_help(copper: Copper) -> None:
    """Exit 2, help on stderr, nothing on stdout."""
    for line in ([], ["meter"], ["grid"], ["report"], ["cache"]):
        ended = copper(*line)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"{USAGE} 2021-01-01 2021-01-02 --meter-id 07:359716677",
            "no meter 07:359716677 in this enterprise. Closest: 07:3597166776 (power)",
        ),
        (
            "meter readings 2021-01-01 2021-01-02 --meter-id xyz",
            "no meter xyz in this enterprise. It has 4 meters, none with an id like it.",
        ),
        (
            "grid readings 2021-01-01 2021-01-02 --gateway-id 9959f729483ab8c7",
            "no gateway 9959f729483ab8c7 in this enterprise. Closest: 9959f729483ab8c6 (CG-2)",
        ),
        (
            "grid readings 2021-01-01 2021-01-02 --premise-id 6e829e89",
            "no premise 6e829e89 in this enterprise.",
        ),
        (
            "grid readings 2021-01-01 2021-01-02 --gateway-id 9959f729483ab8c6 "
            "--premise-id 0ef8bbed-ee94-aaff-4f33-692b337ad084",
            "premise 0ef8bbed-ee94-aaff-4f33-692b337ad084 has no such gateway.",
        ),
    ],
)
def test_unknown_ids_are_told_after_the_lists(
    cloud: Sandbox, copper: Copper, line: str, told: str
) -> None:
    """Exit 2, one line with the closest ids, no call but the lists, nothing written."""
    ended = copper(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
    asked = {r.path.rpartition("/")[2] for r in cloud.log if "/partner/" in r.path}
    assert asked <= {"meter", "premise", "gateway"}
    assert not list(Path().iterdir())


# Exit codes


def test_0_done(cloud: Sandbox, copper: Copper) -> None:
    """All is there, and it says so."""
    ended = copper("premise")
    assert (ended.code, ended.lines[-1], ended.err) == (0, "complete!", "")


def test_1_a_bug(cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the place, no traceback, no `complete!`."""

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("of course\nnot \x1b[31m")

    monkeypatch.setattr("copper_cli.jobs.listing.list_premises", broken)
    ended = copper("premise")
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(
        r"copper: a bug of this program: ZeroDivisionError at test_refusals\.py:\d+: "
        r"of course not \\x1b\[31m\. Please report it\.\n",
        ended.err,
    )


def test_1_a_bug_without_a_trace(copper: Copper) -> None:
    """Also an error that was never raised can be described."""
    from copper_cli.cli import _describe_bug

    assert _describe_bug(ValueError("x")) == (
        "a bug of this program: ValueError: x. Please report it."
    )


@pytest.mark.parametrize("kind", ["status=500", "kind=reset", "kind=cut", "kind=html"])
def test_4_the_cloud_fails(cloud: Sandbox, copper: Copper, kind: str) -> None:
    """After every retry: one line, nothing on stdout."""
    cloud.faults.add(f"{kind},path=/premise,times=always")
    ended = copper("premise")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("copper: premise: ")
    assert len(ended.err.splitlines()) == 1
    assert cloud.calls == 5


def test_4_nobody_listens(serve: Callable[..., Sandbox], copper: Copper) -> None:
    """A cloud that cannot be reached is exit 4, with the host named."""
    serve().stop()
    ended = copper("premise")
    assert (ended.code, ended.out) == (4, "")
    assert "cannot reach 127.0.0.1" in ended.err


def test_a_fault_that_passes_is_not_seen(cloud: Sandbox, copper: Copper) -> None:
    """Two 500s, a reset, a cut body: the answer is whole in the end, exit 0."""
    for text in ("status=500,times=2", "kind=reset", "kind=cut"):
        cloud.faults.add(f"{text},path=/premise")
    ended = copper("premise", "--format", "json")
    assert (ended.code, len(ended.json["rows"]), cloud.calls) == (0, 2, 5)


def test_5_the_quota_is_spent(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    """With --no-wait: exit 5, when to resume, done files are safe, the next run goes on."""
    line = ["meter", "usage", "2021-03-01", "2021-03-02", "--no-cache"]
    ended = copper(*line, "--no-wait", "--quota", "4/h")
    assert (ended.code, ended.out) == (5, "")
    told, last = ended.err.splitlines()
    assert told == "2 of 4 files are safe on disk. The same command goes on from here."
    assert re.fullmatch(
        r"copper: No call is free: resume at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-0[67]:00\.", last
    )
    assert cloud.calls == 4
    assert len(list(work.glob("generated/*.csv"))) == 2
    again = copper(*line)
    assert (again.code, again.lines[-1]) == (0, "complete!")
    assert "4 meters done (2 kept from before), 0 empty, 0 failed. 4 calls used;" in again.err
    assert cloud.calls == 8  # two lists and two meters more


def test_5_a_reserve_is_left_to_others(cloud: Sandbox, copper: Copper) -> None:
    """`--reserve 3` of 4 leaves one call."""
    line = ("--no-wait", "--no-cache", "--quota", "4/h", "--reserve", "3")
    assert copper("premise", *line).code == 0
    assert copper("premise", *line).code == 5


@pytest.mark.parametrize(
    "line", ["report monthly 2021-03 --include-per-meter-sum", "report monthly 2021-03"]
)
def test_5_a_report_without_quota_is_no_report(cloud: Sandbox, copper: Copper, line: str) -> None:
    """A total that lacks meters is not shown as one: exit 5, nothing on stdout."""
    ended = copper(*line.split(), "--no-wait", "--quota", "3/h")
    assert (ended.code, ended.out) == (5, "")
    assert "resume at" in ended.err


def test_7_the_folder_cannot_be_written(cloud: Sandbox, copper: Copper, work: Path) -> None:
    """Where a file stands in the folder's place: exit 7, one line with the reason."""
    (work / "taken").write_text("a file")
    ended = copper("premise", "--csv-output-file", "taken/x.csv")
    assert ended.code == 7
    assert "complete!" not in ended.out
    assert "taken/x.csv cannot be written: a part of the path is a file" in ended.err
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--output-dir", "taken/x")
    assert ended.code == 7


def test_130_interrupted(cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of anything: one line, exit 130."""

    def pressed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("copper_cli.jobs.listing.list_premises", pressed)
    ended = copper("premise")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "copper: interrupted; the same command goes on from here.\n"


def test_130_a_prompt_that_is_left(copper: Copper, monkeypatch: pytest.MonkeyPatch) -> None:
    """click's own Abort is the same."""
    import click

    def left(*args: object, **kwargs: object) -> None:
        raise click.Abort

    monkeypatch.setattr("copper_cli.cli.account.Run.log_in", left)
    assert copper("account", "login").code == 130


def test_141_the_reader_has_gone(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`copper premise | head -1` ends quietly, as other programs do."""

    def gone(*args: object, **kwargs: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    ends = []
    monkeypatch.setattr("copper_cli.cli.screen.click.echo", gone)
    monkeypatch.setattr("copper_cli.cli.os.dup2", lambda *fds: ends.append(fds))
    monkeypatch.setattr("copper_cli.cli.sys.stdout.fileno", lambda: 1, raising=False)
    ended = copper("premise")
    assert (ended.code, ended.out, ended.err) == (141, "", "")
    assert [pair[1] for pair in ends] == [1]


def test_an_unwritable_value_in_json_does_not_end_it(fixed: FixedCloud, copper: Copper) -> None:
    """A lone surrogate in a name, which no encoding can write, is shown escaped."""
    fixed.answers["gateway"] = [{"id": "g1", "model": "\ud800x"}]
    for form in ("table", "csv", "json", "ndjson"):
        ended = copper("gateway", "--format", form)
        assert ended.code == 0, ended.err
