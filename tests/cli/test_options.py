"""Where an option may stand, what sets it, and what goes before what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import Copper, FixedCloud

WriteConfig = Callable[[str], Path]

PROFILES = """
[profile.acme]
client_id = "id-acme"
enterprise_id = "ent-acme"
client_secret_env = "ACME_SECRET"

[profile.acme.defaults]
output-dir = "from-profile"
format = "csv"
quiet = false
jobs = 2
granularity = "day"
meter-id = "07:3597166776"

[profile.other]
client_id = "id-other"
enterprise_id = "ent-other"
client_secret_command = "echo other-secret"
quota = "7/h"
"""


@pytest.mark.parametrize(
    "line",
    [
        "--csv-output-file x.csv --output-dir o grid latest",
        "grid --csv-output-file x.csv --output-dir o latest",
        "grid latest --csv-output-file x.csv --output-dir o",
        "--output-dir o grid latest --csv-output-file x.csv",
        "--output-dir wrong grid --output-dir o latest --csv-output-file x.csv",
        "--output-dir wrong --csv-output-file w.csv grid latest --output-dir o "
        "--csv-output-file x.csv",
    ],
)
def test_program_options_stand_anywhere(
    fixed: FixedCloud, copper: Copper, work: Path, line: str
) -> None:
    """Before the group, between group and command, after it; the last on the line counts."""
    assert copper(*line.split()).code == 0
    assert [p.relative_to(work).as_posix() for p in work.rglob("*.csv")] == ["o/x.csv"]


def test_an_early_flag_is_not_undone_by_a_later_default(fixed: FixedCloud, copper: Copper) -> None:
    """`copper --quiet grid latest` stays quiet although the command has its own --quiet."""
    assert copper("--quiet", "grid", "latest").out == "complete!\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COPPER_OUTPUT_DIR", "o"),
        ("COPPER_CSV_OUTPUT_FILE", "x.csv"),
        ("COPPER_FORMAT", "json"),
        ("COPPER_QUIET", "1"),
        ("COPPER_METER_ID", "07:3597166776"),
        ("COPPER_GRANULARITY", "day"),
        ("COPPER_DRY_RUN", "true"),
        ("COPPER_TIMEZONE", "UTC"),
        ("COPPER_LAYOUT", "plain"),
    ],
)
def test_a_variable_an_option(
    cloud: Sandbox,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    name: str,
    value: str,
) -> None:
    """Each option has the variable of its name and does the same by either."""
    option = "--" + name.removeprefix("COPPER_").lower().replace("_", "-")
    typed = [option] if option in ("--quiet", "--dry-run") else [option, value]
    line = ["meter", "usage", "2021-03-01", "2021-03-02"]

    def outcome(*more: str) -> tuple[int, str, list[str]]:
        ended = copper(*line, "--no-cache", *more)
        files = sorted(p.relative_to(work).as_posix() for p in work.rglob("*.csv"))
        for path in sorted(work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out = "\n".join(x for x in ended.lines if not x.startswith(("done by", "to ask")))
        return ended.code, out.replace('"calls": 4', ""), files

    plain = outcome()
    by_option = outcome(*typed)
    monkeypatch.setenv(name, value)
    by_variable = outcome()
    drop = ("quota_left", "done_by")
    assert [by_option[0], by_option[2]] == [by_variable[0], by_variable[2]]
    strip = [
        [x for x in o[1].splitlines() if not any(d in x for d in drop)]
        for o in (by_option, by_variable)
    ]
    assert strip[0] == strip[1]
    if name not in ("COPPER_TIMEZONE", "COPPER_LAYOUT", "COPPER_GRANULARITY"):
        assert by_variable != plain


def test_several_ids_in_one_variable(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COPPER_METER_ID holds ids with spaces between them."""
    monkeypatch.setenv("COPPER_METER_ID", "07:3597166776 12:6346999187")
    ended = copper("meter", "usage", "2021-03-01", "2021-03-02", "--format", "csv")
    assert [line.split(",")[0] for line in ended.lines] == [
        "ID",
        "07:3597166776",
        "12:6346999187",
    ]


def test_profile_defaults_stand_between_environment_and_default(
    cloud: Sandbox,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    write_config: WriteConfig,
    work: Path,
) -> None:
    """option > environment > profile > default, for the program's options and a command's own."""
    write_config(PROFILES)
    monkeypatch.setenv("COPPER_PROFILE", "acme")
    monkeypatch.setenv("ACME_SECRET", "unused")
    line = ["meter", "usage", "2021-03-01", "2021-03-02"]
    ended = copper(*line)
    assert ended.lines[0] == "ID,Type,Sum Usage"  # the profile's csv
    assert [row.split(",")[0] for row in ended.lines[1:]] == ["07:3597166776"]
    (file,) = (work / "from-profile").glob("*.csv")
    assert ",day," in file.read_text()
    monkeypatch.setenv("COPPER_OUTPUT_DIR", "from-env")
    monkeypatch.setenv("COPPER_GRANULARITY", "bihour")
    copper(*line)
    (file,) = (work / "from-env").glob("*.csv")
    assert ",bihour," in file.read_text()
    copper(*line, "--output-dir", "typed", "--granularity", "hour")
    (file,) = (work / "typed").glob("*.csv")
    assert ",hour," in file.read_text()


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_profile_typed_anywhere_brings_its_defaults(
    fixed: FixedCloud,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    write_config: WriteConfig,
    where: str,
) -> None:
    """--profile may stand behind the command like any other option."""
    write_config(PROFILES)
    monkeypatch.delenv("COPPER_ARCHIVE")  # of another partner
    monkeypatch.setenv("ACME_SECRET", "s")
    line = ["grid", "latest"]
    line[{"before": 0, "between": 1, "after": 2}[where] : 0] = ["--profile", "acme"]
    assert copper(*line).lines[0].startswith("Premise ID,Address")


def test_a_typed_profile_is_not_mixed_with_the_exported_one(
    fixed: FixedCloud,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    write_config: WriteConfig,
) -> None:
    """With COPPER_PROFILE=acme, `--profile other` takes nothing of acme's, not even defaults."""
    write_config(PROFILES)
    monkeypatch.delenv("COPPER_ARCHIVE")  # of another partner
    monkeypatch.setenv("COPPER_PROFILE", "acme")
    ended = copper("--profile", "other", "grid", "latest")
    assert ended.code == 0, ended.err
    assert ended.lines[-1] == "complete!"  # a table, not acme's csv
    monkeypatch.setenv("COPPER_PROFILE", "unknown")
    assert copper("--profile", "other", "grid", "latest").code == 0


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("format", '"xml"', "xml"),
        ("jobs", "4.5", "4.5"),
        ("output-dir", "[1]", None),
        ("quiet", '"perhaps"', "perhaps"),
        ("query-limit", "0", "0 is not in the range"),
    ],
)
def test_a_wrong_default_in_a_profile_is_a_usage_error(
    fixed: FixedCloud,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    write_config: WriteConfig,
    key: str,
    value: str,
    told: str | None,
) -> None:
    """One line, exit 2 and no call; never a bug."""
    write_config(f"[profile.p]\nclient_id='a'\n[profile.p.defaults]\n{key} = {value}\n")
    ended = copper("grid", "latest", "--profile", "p")
    if told is None:
        assert ended.code in (0, 2)
        return
    assert ended.code == 2
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
    assert fixed.asked == []


def test_a_sandbox_option_takes_nothing_of_the_users(
    copper: Copper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exported credentials, an exported enterprise and a proxy are not the local cloud's."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "ENTERPRISE_ID"):
        monkeypatch.setenv(f"COPPER_{name}", "real")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.com")
    monkeypatch.setenv("COPPER_CACHE_DIR", str(tmp_path / "mine"))
    ended = copper("--sandbox", "premise", "--format", "json")
    assert ended.code == 0, ended.err
    assert len(ended.json["rows"]) == 12
    import os

    assert os.environ["no_proxy"] == "example.com"
    assert not (tmp_path / "cache" / "copper").exists()
    assert not (tmp_path / "mine").exists()


def test_sandbox_runs_without_any_credentials(copper: Copper, work: Path) -> None:
    """`copper --sandbox …` needs nothing; the quota shown is the local cloud's own."""
    assert copper("quota", "--sandbox", "--format", "json").json["rows"][0]["used"] == 0
    ended = copper("--sandbox", "account", "--format", "json")
    assert ended.code == 0
    assert len(ended.json["rows"]) == 7  # of the pattern's first three premises


def test_csv_to_standard_output(fixed: FixedCloud, copper: Copper) -> None:
    """`--csv-output-file -` is standard output, where no folder is given."""
    ended = copper("grid", "latest", "--csv-output-file", "-", "--quiet")
    assert ended.lines[0].startswith("Premise ID,Address")
