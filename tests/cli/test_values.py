"""Values that cannot be meant: refused in one line that says what is accepted, or read rightly."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import PROGRAM, Copper, FixedCloud

WriteConfig = Callable[[str], Path]
PASTED = [" {} ", "\u00a0{}", "{}\n", '"{}"', "\u2018{}\u2019", "\u200b{}\ufeff"]
SECONDS = "0.001<=x<=86400."


def refused(copper: Copper, fixed: FixedCloud, *line: str) -> str:
    """The one line that is said of a command that costs no call."""
    ended = copper(*line)
    assert (ended.code, ended.out, fixed.asked) == (2, "", [])
    (told,) = ended.err.splitlines()
    return told.removeprefix("copper: ")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "0", "-1", "1e300", "1e-300"])
def test_timeouts_that_no_clock_counts(copper: Copper, fixed: FixedCloud, value: str) -> None:
    """Typed, exported or of a profile: the range is said."""
    assert refused(copper, fixed, "premise", "--timeout", value).endswith(f"in the range {SECONDS}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("premise --timeout 5s", "'5s' is not a valid number of seconds from 0.001 to 86400."),
        ("premise --jobs 1e30", "'1e30' is not a valid whole number from 1 to 64."),
        (f"premise --jobs {10**40}", "is not in the range 1<=x<=64."),
        (f"premise --query-limit {10**12}", "is not in the range 1<=x<=100000."),
        (f"premise --reserve {10**20}", "is not in the range 0<=x<=1000000000."),
        (f"premise --quota {10**12}/h", "too large: 1000000000 calls and 366 days at most."),
        ("premise --quota 1/999999999d", "too large: 1000000000 calls and 366 days at most."),
        (f"meter usage 2021-01-01 2021-01-02 --step {10**12}", "is not in the range 1<=x<=36600."),
        ("meter usage 2021-02-30 2021-03-02", "'2021-02-30' is not a day of the calendar."),
        ("meter usage 0001-01-01 2021-03-02", "0001-01-01 lies outside 1970 to 2199."),
        ("meter usage 2021-01-01 9999-12-31", "9999-12-31 lies outside 1970 to 2199."),
    ],
)
def test_numbers_and_days_beyond_all_use(
    copper: Copper, fixed: FixedCloud, line: str, told: str
) -> None:
    """Refused before anything is asked."""
    assert refused(copper, fixed, *line.split()).endswith(told)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize(
    ("start", "end"), [("1970-01-01", "1970-01-02"), ("2199-12-30", "2199-12-31")]
)
def test_the_first_and_the_last_day(
    cloud: Sandbox, copper: Copper, zone: str, start: str, end: str
) -> None:
    """A midnight before 1970 in UTC, and one after 2199: days like any other."""
    ended = copper("meter", "usage", start, end, "--timezone", zone, "--dry-run")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("option", ["--csv-output-file", "--output-dir"])
def test_an_empty_path(copper: Copper, fixed: FixedCloud, option: str) -> None:
    """An unset variable in quotes does not mean: no file, or the folder one is in."""
    assert refused(copper, fixed, "premise", option, "") == (
        f"Invalid value for '{option}': '' is no path."
    )


@pytest.mark.parametrize(
    "zone",
    [
        "../etc/passwd",
        "/etc/localtime",
        "localtime",
        "posix/UTC",
        "right/UTC",
        "Factory",
        "America",
        "",
    ],
)
def test_what_is_no_zone(copper: Copper, fixed: FixedCloud, zone: str) -> None:
    """Names of the IANA list only: not files, not this machine's own, no other counting."""
    line = ("meter", "usage", "2021-01-01", "2021-01-02", "--timezone", zone)
    assert f"{zone!r} is not a zone of the IANA list." in refused(copper, fixed, *line)


@pytest.mark.parametrize("zone", ["america/denver", "AMERICA/DENVER", " America/Denver\u00a0"])
def test_a_zone_in_any_case(cloud: Sandbox, copper: Copper, work: Path, zone: str) -> None:
    """Is the list's, and so are the files."""
    line = ("meter", "usage", "2021-03-01", "2021-03-02")
    assert copper(*line, "--timezone", "America/Denver").code == 0
    ended = copper(*line, "--timezone", zone)
    assert (ended.code, "(4 kept from before)" in ended.err) == (0, True)


@pytest.mark.parametrize("around", PASTED)
def test_ids_as_they_are_pasted(cloud: Sandbox, copper: Copper, around: str) -> None:
    """Blanks, invisible signs and quotes around an id are not part of it."""
    meter, gateway = next(iter(cloud.fleet.meters())), next(iter(cloud.fleet.gateways()))
    usage = ("meter", "usage", "2021-03-01", "2021-03-02")
    assert "1 meter done" in copper(*usage, "--meter-id", around.format(meter.id)).err
    readings = ("meter", "readings", "2021-03-01", "2021-03-02", "--output-dir", "r")
    assert "1 meter done" in copper(*readings, "--meter-id", around.format(meter.id)).err
    assert copper("gateway", around.format(gateway.id)).code == 0
    grid = ("grid", "readings", "2021-03-01", "2021-03-01", "--output-dir", "g", "--dry-run")
    assert copper(*grid, "--gateway-id", around.format(gateway.id)).code == 0
    assert copper(*grid, "--premise-id", around.format(meter.premise_id)).code == 0


@pytest.mark.parametrize("value", ["", "  ", "07:\x07", "\u200b"])
def test_what_is_no_id(copper: Copper, fixed: FixedCloud, value: str) -> None:
    """Nothing, or a sign that cannot be shown."""
    line = ("meter", "usage", "2021-01-01", "2021-01-02", "--meter-id", value)
    assert refused(copper, fixed, *line).endswith("is not an id, such as 07:57277300.")


# TZ


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    return set_zone


@pytest.mark.parametrize(
    "name", ["UTC+25", "UTC-24", "Nonsense/Zone", "../etc/passwd", "UTC+5x", "/etc/passw"]
)
def test_a_machine_s_zone_that_is_none(
    copper: Copper, fixed: FixedCloud, in_zone: Callable[[str], None], name: str
) -> None:
    """Refused: the days of this machine would be others than its user thinks."""
    in_zone(name)
    assert refused(copper, fixed, "premise") == (
        f"TZ is {name!r}, which is no time zone. Set it to a name of the IANA list, such as "
        "America/Denver, or unset it."
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "UTC",
        ":America/Denver",
        "America/Denver ",
        "EST5EDT",
        "<+03>-3",
        "EST5EDT,M3.2.0,M11.1.0",
        "Etc/GMT+5",
        "GMT",
    ],
)
def test_a_machine_s_zone(
    copper: Copper, fixed: FixedCloud, in_zone: Callable[[str], None], name: str
) -> None:
    """By name or by rule, and none."""
    in_zone(name)
    assert copper("premise").code == 0


def test_without_the_system_s_zones(cloud: Sandbox) -> None:
    """The time zones come with the program: a machine without any has them too."""
    line = [PROGRAM, "meter", "usage", "2021-03-01", "2021-03-02", "--timezone", "America/Denver"]
    env = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "complete!")
    assert "2021-03-01T00:00:00-07:00" in next(Path("generated").glob("07*.csv")).read_text()


# Of a profile, of the environment


PROFILE = "[profile.acme]\nclient_secret_env = 'S'\n[profile.acme.defaults]\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("timeout = inf", f"inf is not in the range {SECONDS}"),
        ("timeout = nan", f"nan is not in the range {SECONDS}"),
        ("timeout = 'soon'", "'soon' is not a valid number of seconds from 0.001 to 86400."),
        ("timeout = true", "True is of the wrong type."),
        ("jobs = 0", "0 is not in the range 1<=x<=64."),
        ("jobs = 2.5", "'2.5' is not a valid whole number from 1 to 64."),
        ("layout = 'table'", "'table' is not one of 'rows', 'columns', 'plain'."),
        ("layout = ['rows']", "['rows'] is of the wrong type."),
        ("granularity = 'week'", "'week' is not one of 'minute', "),
        ("step = -1", "-1 is not in the range 1<=x<=36600."),
        ("timezone = 'Mars/Base'", "'Mars/Base' is not a zone of the IANA list."),
        ("output_dir = ['a']", "['a'] is of the wrong type."),
        ("output_dir = 2021-01-01", "is of the wrong type."),
        ("output_dir = ''", "'' is no path."),
        ("csv-output-file = ''", "'' is no path."),
        ("quiet = 'maybe'", "'maybe' is not a valid boolean."),
        ("quiet = 1.0", "1.0 is of the wrong type."),
        ("meter_id = [['a']]", "['a'] is of the wrong type."),
        ("meter_id = ['']", "'' is not an id, such as 07:57277300."),
        ("check_limit = -2", "-2 is not in the range 0<=x<=1000000000."),
    ],
)
@pytest.mark.parametrize("command", ["premise", "quota"])
def test_a_profile_s_wrong_defaults(
    copper: Copper, fixed: FixedCloud, write_config: WriteConfig, command: str, line: str, told: str
) -> None:
    """Found whatever command is run, also one that has no such option: the key is named."""
    write_config(PROFILE + line)
    name = line.partition(" ")[0].replace("-", "_")
    said = refused(copper, fixed, "--profile", "acme", command)
    assert said.startswith(f"profile 'acme': {name} in its defaults: ")
    assert told in said


def test_a_profile_s_quota_in_its_defaults(
    copper: Copper, fixed: FixedCloud, write_config: WriteConfig
) -> None:
    """Is read by the same rule as a typed one."""
    write_config(PROFILE + "quota = '5/w'")
    assert "--quota '5/w' is not like" in refused(copper, fixed, "--profile", "acme", "premise")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LAYOUT", "table", "'table' is not one of 'rows', 'columns', 'plain'."),
        ("STEP", "-1", "-1 is not in the range 1<=x<=36600."),
        ("TIMEZONE", "Mars/Base", "'Mars/Base' is not a zone of the IANA list."),
        ("OVERWRITE", "maybe", "'maybe' is not a valid boolean."),
        ("CHECK_LIMIT", "all", "'all' is not a valid whole number from 0 to 1000000000."),
        ("TIMEOUT", "inf", f"inf is not in the range {SECONDS}"),
    ],
)
def test_an_exported_option_that_is_wrong(
    copper: Copper,
    fixed: FixedCloud,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    told: str,
) -> None:
    """Found too where this command has no such option."""
    monkeypatch.setenv(f"COPPER_{name}", value)
    assert told in refused(copper, fixed, "premise")


def test_other_variables_of_ours_are_nobody_s_business(
    copper: Copper, fixed: FixedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of no option, and a good one of another command, do no harm."""
    monkeypatch.setenv("COPPER_SHIPMENT", "x")
    monkeypatch.setenv("COPPER_LAYOUT", "plain")
    monkeypatch.setenv("COPPER_METER_ID", "07:1 07:2")
    assert copper("premise").code == 0
