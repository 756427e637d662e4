"""The shell scripts, in a copy of the project's folder, on a local cloud."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from places import make_archive

from copper_cli.sandbox import Sandbox, SandboxConfig

PROJECT = Path(__file__).parent.parent
SCRIPTS = [*sorted(PROJECT.glob("*.sh")), *sorted((PROJECT / "scripts").glob("*.sh"))]

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts as they lie in the project, with this environment as their ./venv."""
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    for script in SCRIPTS:
        shutil.copy(script, folder / script.relative_to(PROJECT))
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/copper").symlink_to(Path(sys.executable).with_name("copper"))
    return folder


@pytest.fixture
def script(checkout: Path, tmp_path: Path) -> Script:
    """Runs a script from another folder, with no variable of the user's."""

    def run(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        make_archive(home / "the archive", "sandbox-enterprise")
        clean = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}
        if env.get("COPPER_ENTERPRISE_ID") == "sandbox-enterprise":
            clean["COPPER_ARCHIVE"] = str(home / "the archive")
        return subprocess.run(
            [checkout / name, *words],
            cwd=tmp_path,
            env=clean | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    now = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
    with Sandbox(SandboxConfig(premises=2, now=now, missing_emails=0)) as found:
        yield found


def export(cloud: Sandbox) -> str:
    return "".join(f"export {name}='{value}'\n" for name, value in cloud.environment().items())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_posix_shell(path: Path) -> None:
    """They parse, fail early, and can be run (the one that is sourced is not)."""
    assert subprocess.run(["sh", "-n", path]).returncode == 0
    if path.name == "copper.sh":
        return
    text = path.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "set -eu\n" in text
    assert os.access(path, os.X_OK)


def test_shellcheck_finds_nothing() -> None:
    """In no script."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], cwd=PROJECT, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("name", "words", "usage"),
    [
        ("data_dump.sh", [], "NAME START FINISH GRANULARITY"),
        ("data_dump.sh", ["foo", "2020-10-01", "2020-10-31"], "NAME START FINISH GRANULARITY"),
        ("partner_report.sh", [], "HANDLE"),
        ("partner_report.sh", ["a", "b"], "HANDLE"),
        ("scripts/monthly_report.sh", ["acme"], "HANDLE YYYY-MM"),
        ("scripts/hydrate_emails.sh", ["a", "b"], "[HANDLE]"),
    ],
)
def test_wrong_words_show_the_usage(
    script: Script, name: str, words: list[str], usage: str
) -> None:
    """Exit 2, one line."""
    done = script(name, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
    assert usage in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "handle", ["", "../x", ".hidden", "-x", "a b", "a;touch x", "$(touch x)", "a/b", "a\nb"]
)
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("partner_report.sh", []),
        ("scripts/monthly_report.sh", ["2021-09"]),
        ("scripts/hydrate_emails.sh", []),
    ],
)
def test_a_hostile_handle_is_refused(
    script: Script, checkout: Path, handle: str, name: str, more: list[str]
) -> None:
    """Before anything is read, run or written: exit 2."""
    done = script(name, handle, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a handle; use letters, digits, _ and -." in done.stderr
    assert not (checkout / "generated").exists()
    assert not (checkout / "x").exists()


def test_data_dump(script: Script, checkout: Path, cloud: Sandbox) -> None:
    """generated/NAME/DAY/ for START through FINISH, and NAME.YYYYMMDD.zip of today."""
    done = script("data_dump.sh", "foo", "2021-03-01", "2021-03-02", "day", **cloud.environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "complete!"
    days = sorted(p.name for p in (checkout / "generated/foo").iterdir() if p.is_dir())
    assert days == ["2021-03-01", "2021-03-02"]
    (zipped,) = (checkout / "generated").glob("foo.*.zip")
    assert zipped.name.split(".")[1] in {f"{date.today():%Y%m%d}", f"{datetime.now(UTC):%Y%m%d}"}
    with zipfile.ZipFile(zipped) as bundle:
        assert len(bundle.namelist()) == 2 * (4 + 1)


def test_data_dump_takes_the_words_for_days(script: Script, checkout: Path, cloud: Sandbox) -> None:
    """As the program: -7d is no option, a month is all of it."""
    today = datetime.now(ZoneInfo("America/Denver")).date()  # where the meters are
    back = (today - date(2021, 2, 27)).days
    done = script("data_dump.sh", "foo", f"-{back}d", "2021-02", "day", **cloud.environment())
    assert done.returncode == 0, done.stderr
    days = sorted(p.name for p in (checkout / "generated/foo").iterdir() if p.is_dir())
    assert days == ["2021-02-27", "2021-02-28"]


def test_data_dump_passes_the_exit_code_on(script: Script, cloud: Sandbox) -> None:
    """A wrong date is the program's own complaint."""
    done = script("data_dump.sh", "foo", "2021-03-02", "2021-03-01", "day", **cloud.environment())
    assert done.returncode == 2
    assert done.stderr == "copper: START 2021-03-02 is after END 2021-03-01.\n"


def test_monthly_report_with_an_envrc(script: Script, checkout: Path, cloud: Sandbox) -> None:
    """.envrc.HANDLE is read as the vendor's scripts do, and goes before what is exported."""
    (checkout / ".envrc.acme").write_text(export(cloud))
    wrong = {"COPPER_CLIENT_ID": "wrong", "COPPER_CLIENT_SECRET": "wrong", "profile": "wrong"}
    done = script("scripts/monthly_report.sh", "acme", "2021-09", **wrong)
    assert done.returncode == 0, done.stderr
    report = checkout / "generated/acme/monthly_report.acme.2021-09.csv"
    rows = list(csv.reader(report.read_text().splitlines()))
    assert rows[:3] == [
        ["Statistic", "Value", "Units", "Note"],
        ["total homes", "2", "", "1"],
        ["total meters", "4", "", "1"],
    ]
    assert (checkout / "generated/acme/readme.txt").read_text().startswith("Note,Description")


def test_an_envrc_need_not_export(script: Script, checkout: Path, cloud: Sandbox) -> None:
    """Plain assignments reach the program too."""
    (checkout / ".envrc.acme").write_text(export(cloud).replace("export ", ""))
    assert script("scripts/hydrate_emails.sh", "acme").returncode == 0


@pytest.mark.parametrize("head", ["[profile.acme]", "[profile.'acme']", '  [profile."acme"]'])
def test_a_handle_is_a_profile(script: Script, tmp_path: Path, cloud: Sandbox, head: str) -> None:
    """However TOML spells it; it goes before exported credentials, which may be another's."""
    env = cloud.environment()
    config = tmp_path / "config/copper/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"{head}\nclient_id = '{env['COPPER_CLIENT_ID']}'\nclient_secret_env = 'ACME'\n"
        f"enterprise_id = '{env['COPPER_ENTERPRISE_ID']}'\n"
        f"api_url = '{cloud.url}'\nauth_url = '{cloud.url}'\n"
    )
    exported = {"COPPER_CLIENT_ID": "wrong", "COPPER_CLIENT_SECRET": "wrong"}
    done = script(
        "scripts/hydrate_emails.sh",
        "acme",
        XDG_CONFIG_HOME=str(tmp_path / "config"),
        ACME=env["COPPER_CLIENT_SECRET"],
        **exported,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["Building", "complete!"]


def test_exported_credentials_come_last_and_that_is_said(script: Script, cloud: Sandbox) -> None:
    """No .envrc and no profile of the handle."""
    done = script("scripts/hydrate_emails.sh", "acme", **cloud.environment())
    assert done.returncode == 0
    assert "no .envrc.acme and no profile acme; using the exported credentials." in done.stderr


def test_nobody_s_credentials(script: Script) -> None:
    """Neither of the three: the program says which profile it looked for, exit 2."""
    done = script("partner_report.sh", "acme")
    assert done.returncode == 2
    assert "No profile 'acme'" in done.stderr


def test_hydrate_without_a_handle(script: Script, cloud: Sandbox) -> None:
    """As the vendor's: with whatever is exported."""
    done = script("scripts/hydrate_emails.sh", **cloud.environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_partner_report(script: Script, checkout: Path, cloud: Sandbox) -> None:
    """Counts on stdout, both CSVs in the ZIP and nowhere else."""
    (checkout / ".envrc.acme_1").write_text(export(cloud))
    done = script("partner_report.sh", "acme_1")
    assert done.returncode == 0, done.stderr
    (zipped,) = (checkout / "generated").iterdir()
    handle, reports, day, ending = zipped.name.split(".")
    assert (handle, reports, len(day), ending) == ("acme_1", "reports", 8, "zip")
    with zipfile.ZipFile(zipped) as bundle:
        assert bundle.namelist() == [
            f"premises.acme_1.{day}.csv",
            f"health_history.acme_1.{day}.csv",
        ]
    assert "prems created" in done.stdout


def test_an_envrc_goes_before_a_profile_of_its_name(
    script: Script, checkout: Path, cloud: Sandbox, tmp_path: Path
) -> None:
    """The vendor's file is what the scripts read first; nothing is said of other credentials."""
    (checkout / ".envrc.acme").write_text(export(cloud))
    (tmp_path / "config" / "copper").mkdir(parents=True)
    (tmp_path / "config" / "copper" / "config.toml").write_text(
        "[profile.acme]\nclient_id = 'wrong'\nenterprise_id = 'wrong'\nclient_secret_env = 'NO'\n"
    )
    done = script("partner_report.sh", "acme", XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert done.returncode == 0, done.stderr
    assert "credentials" not in done.stderr


# setup.sh, with a stand-in for pip


@pytest.fixture
def fake_venv(checkout: Path) -> Path:
    """A ./venv whose python only notes what it is asked to do."""
    log = checkout / "asked"
    shutil.copy(PROJECT / "pyproject.toml", checkout)
    python = checkout / "venv/bin/python"
    python.write_text(f'#!/bin/sh\necho "$*" >>"{log}"\n')
    python.chmod(0o755)
    return log


def test_setup_twice_installs_once(script: Script, checkout: Path, fake_venv: Path) -> None:
    """The second run does nothing; a changed pyproject.toml or --dev installs again."""
    for _ in range(3):
        assert script("setup.sh", PYTHON=sys.executable).returncode == 0
    install = "-m pip install --quiet --disable-pip-version-check --editable"
    assert fake_venv.read_text().splitlines() == [f"{install} ."]
    (checkout / "pyproject.toml").write_text("changed")
    assert script("setup.sh", "--dev", PYTHON=sys.executable).returncode == 0
    assert script("setup.sh", PYTHON=sys.executable).returncode == 0
    assert fake_venv.read_text().splitlines()[1:] == [f"{install} .[dev]", f"{install} ."]


def test_setup_that_fails_is_not_taken_as_done(
    script: Script, checkout: Path, fake_venv: Path
) -> None:
    """pip's exit code passes through, and the next run tries again."""
    python = checkout / "venv/bin/python"
    python.write_text("#!/bin/sh\nexit 7\n")
    for _ in range(2):
        assert script("setup.sh", PYTHON=sys.executable).returncode == 7


def test_setup_needs_a_new_python(script: Script, checkout: Path, tmp_path: Path) -> None:
    """One that is too old is passed over; without any: exit 1, one line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    for name in ("dirname", "cksum", "cat", "sh"):
        (folder / name).symlink_to(shutil.which(name) or "")
    done = script("setup.sh", PATH=str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith("setup.sh: Python 3.11 or newer is needed; none was found.")
