"""copper account: login, summary, dump, logout."""

from __future__ import annotations

import io
import json
import sys
from urllib.request import urlopen

import pytest

from copper_cli.cli import main, main_account
from copper_cli.sandbox import Fault, Sandbox

from .conftest import Copper


class Person(io.StringIO):
    """Sits at the terminal: opens the address shown on stderr and pastes where it ends."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, whole: bool = True) -> None:
        super().__init__()
        self.capsys = capsys
        self.whole = whole
        self.seen = ""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1) -> str:
        self.seen = self.capsys.readouterr().err
        (address,) = [line for line in self.seen.splitlines() if line.startswith("http")]
        with urlopen(address) as page:
            end = page.geturl()
        return (end if self.whole else end.partition("code=")[2].partition("&")[0]) + "\n"


@pytest.mark.parametrize("whole", [True, False])
def test_login_summary_dump_logout(
    cloud: Sandbox,
    copper: Copper,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
) -> None:
    """The whole address or its code can be pasted; then no terminal is needed until logout."""
    person = Person(capsys, whole=whole)
    monkeypatch.setattr(sys, "stdin", person)
    ended = copper("account", "login")
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[-1] == "Logged in."
    assert "Open this address in a browser and log in:" in person.seen
    assert ended.out == ""
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    ended = copper("account")
    assert ended.code == 0, ended.err
    title, header = ended.lines[1:3]
    assert title.startswith("Summary Table as of 20")
    assert title.endswith(" (rows=4):")
    assert header.split("  ")[0] == "Premise Name"
    assert [c.strip() for c in header.split("  ") if c.strip()] == [
        "Premise Name",
        "Meter ID",
        "Meter Type",
        "Current Value",
        "Time Received",
    ]
    assert ended.lines[-1] == "complete!"
    rows = copper("account", "summary", "--format", "json").json["rows"]
    assert [row["meter_id"] for row in rows] == [m.id for m in cloud.fleet.meters()]
    for row, meter in zip(rows, cloud.fleet.meters(), strict=True):
        second = cloud.fleet.last_reading_s(meter, int(cloud.config.now.timestamp()))  # type: ignore[union-attr]
        used = cloud.fleet.register_of(meter).total(second - 300, second)  # type: ignore[operator]
        assert row["current_value"] == pytest.approx(used * 12, abs=1e-4)

    dumped = json.loads(copper("account", "dump").out)
    assert set(dumped) == {"state", "instant"}
    assert dumped["state"]["user"]["email"] == "user@example.com"
    assert set(dumped["instant"]) == {p.id for p in cloud.fleet.premises()}

    assert copper("account", "logout").err == "Logged out.\n"
    assert copper("account", "logout").err == "Nobody was logged in.\n"
    assert copper("account").code == 3


@pytest.mark.parametrize("line", ["account", "account summary", "account dump"])
def test_nobody_logged_in_and_no_terminal(cloud: Sandbox, copper: Copper, line: str) -> None:
    """Never a prompt where no person is: exit 3, one line, no call."""
    ended = copper(*line.split())
    assert (ended.code, ended.out) == (3, "")
    assert len(ended.err.splitlines()) == 1
    assert cloud.log == []


def test_login_without_a_terminal(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3, and says what to do."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    ended = copper("account", "login")
    assert ended.code == 3
    assert ended.err == "copper: nobody is logged in; run `copper account login` on a terminal.\n"


def test_a_summary_asks_whoever_is_at_the_terminal(
    cloud: Sandbox,
    copper: Copper,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the vendor's script: the first use logs in, then shows the table."""
    monkeypatch.setattr(sys, "stdin", Person(capsys))
    ended = copper("account")
    assert ended.code == 0, ended.err
    assert ended.lines[-1] == "complete!"


def test_a_wrong_code(
    cloud: Sandbox,
    copper: Copper,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 3, one line that says to log in again."""
    person = Person(capsys)
    monkeypatch.setattr(person, "readline", lambda size=-1: "nonsense\n")
    monkeypatch.setattr(sys, "stdin", person)
    ended = copper("account", "login")
    assert ended.code == 3
    assert "log in again" in ended.err.splitlines()[-1]


def test_credentials_of_a_partner_are_not_needed(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An individual has none."""
    for name in ("CLIENT_ID", "CLIENT_SECRET", "ENTERPRISE_ID"):
        monkeypatch.delenv(f"COPPER_{name}")
    ended = copper("account")
    assert (ended.code, ended.err.startswith("copper: ")) == (3, True)
    assert "COPPER_CLIENT" not in ended.err


def test_the_programs_end_with_the_exit_code(
    cloud: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`main` and `main_account` hand the code to the shell, with typed or given words."""
    with pytest.raises(SystemExit) as ended:
        main(["premise", "--quiet"])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main_account([])
    assert ended.value.code == 3
    monkeypatch.setattr(sys, "argv", ["copper", "nonsense"])
    for program in (main, main_account):
        with pytest.raises(SystemExit) as ended:
            program()
        assert ended.value.code == 2


class TestOnePremiseThatFails:
    """It stops no other."""

    @pytest.fixture
    def half(
        self,
        cloud: Sandbox,
        copper: Copper,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> Sandbox:
        """A cloud that never answers for the first of two premises; somebody is logged in."""
        monkeypatch.setattr(sys, "stdin", Person(capsys))
        assert copper("account", "login").code == 0
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        first = next(iter(cloud.fleet.premises())).id
        cloud.faults.add(Fault.parse(f"status=418,path=/instant/{first}"))
        return cloud

    def test_in_the_summary(self, half: Sandbox, copper: Copper) -> None:
        """The other's meters are shown, exit 6."""
        ended = copper("account")
        first, second = (premise.id for premise in half.fleet.premises())
        assert ended.code == 6
        assert "rows=" in ended.lines[1]
        assert f"{first} failed: " in ended.err
        assert second not in ended.err
        assert "complete!" not in ended.out

    def test_in_the_dump(self, half: Sandbox, copper: Copper) -> None:
        """The state and the other's readings are printed, exit 6."""
        ended = copper("account", "dump")
        first, second = (premise.id for premise in half.fleet.premises())
        assert ended.code == 6
        assert set(ended.json["instant"]) == {second}
        assert f"{first} failed: " in ended.err

    def test_a_table_s_file_is_refused(self, half: Sandbox, copper: Copper) -> None:
        """A dump is no table: the option would be ignored in silence."""
        ended = copper("account", "dump", "--csv-output-file", "x.csv")
        assert ended.code == 2
        assert "redirect" in ended.err
