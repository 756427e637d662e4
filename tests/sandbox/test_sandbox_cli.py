from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from copper_cli.cli import sandbox as command
from copper_cli.errors import LocalError
from copper_cli.sandbox import SandboxConfig
from copper_cli.sandbox.config import QUIRKS
from copper_cli.sandbox.faults import KINDS

METER_OF_SEED_3 = "07:5446728016"
SERIES = Path(__file__).parents[1] / "data" / "series"


@pytest.fixture
def run(monkeypatch):
    """Runs `serve` with a visitor in place of the wait, and gives the result and what the
    visitor saw."""

    def run_it(*args, visit=lambda url: None):
        seen = []
        started = []
        start = command._start
        monkeypatch.setattr(
            command, "_start", lambda config: started.append(start(config)) or started[0]
        )

        def wait():
            seen.append(started[0])
            seen.append(visit(started[0].url))
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "_wait", wait)
        return CliRunner().invoke(command.sandbox, ["serve", *args]), seen

    return run_it


def test_serve_prints_what_to_export(run, monkeypatch):
    """stdout can be sourced by a shell and nothing else is on it; Ctrl-C ends with 0."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    result, (cloud, _) = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "export COPPER_API_URL",
        "export COPPER_AUTH_URL",
        "export NO_PROXY",
        "export no_proxy",
        "export COPPER_CLIENT_ID",
        "export COPPER_CLIENT_SECRET",
        "export COPPER_ARCHIVE",
        "export COPPER_ENTERPRISE_ID",
    ]
    assert lines[0].startswith("export COPPER_API_URL=http://127.0.0.1:")
    assert [line for line in lines[2:] if "_ARCHIVE=" not in line] == [
        "export NO_PROXY=127.0.0.1,localhost,::1",
        "export no_proxy=127.0.0.1,localhost,::1",
        "export COPPER_CLIENT_ID=sandbox-client",
        "export COPPER_CLIENT_SECRET=sandbox-secret",
        "export COPPER_ENTERPRISE_ID=sandbox-enterprise",
    ]
    assert "12 premises, 25 meters and 13 gateways" in result.stderr
    assert "Stopped after 0 calls." in result.stderr
    with pytest.raises(RuntimeError):
        _ = cloud.url


def test_each_fleet_has_an_archive_of_its_own(run, monkeypatch, tmp_path):
    """Named by what decides the rows, in the cache folder; not by the clock, port or quota."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def archive(**settings):
        return command._find_archive(SandboxConfig(**settings))

    plain = archive()
    assert f"export COPPER_ARCHIVE={plain}" in run()[0].stdout.splitlines()
    assert plain.is_relative_to(tmp_path / "cache" / "copper")
    assert archive(now=datetime(2021, 2, 1, tzinfo=UTC), port=99, quota=None, late=("3",)) == plain
    others = [
        archive(seed=2),
        archive(premises=3),
        archive(zones=("UTC",)),
        archive(enterprise_id="other"),
        archive(series_dir=SERIES),
        archive(series_dir=SERIES, series_zone="America/Chicago"),
    ]
    assert len({plain, *others}) == 7
    assert not (tmp_path / "cache").exists()


def test_a_fault_that_never_fired_is_told_at_the_end(run):
    """One line on stderr, which names it; one that fired is not told."""
    result, _ = run(
        *("--fault", "status=503,path=/usage,times=2", "--fault", "status=500,path=oauth"),
        visit=lambda url: requests.post(url + "/oauth/token", timeout=10).status_code,
    )
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == (
        "The fault kind=status,path=/usage,times=2,status=503 never fired: no request met it."
    )
    assert result.stderr.count("never fired") == 1


@pytest.mark.parametrize(
    ("had", "upper", "lower"),
    [
        ({"no_proxy": "corp.example"}, "corp.example,127.0.0.1,localhost,::1", None),
        ({"NO_PROXY": ".a, localhost,"}, ".a,localhost,127.0.0.1,::1", None),
        (
            {"NO_PROXY": "a", "no_proxy": "b"},
            "a,127.0.0.1,localhost,::1",
            "b,127.0.0.1,localhost,::1",
        ),
        ({"NO_PROXY": "127.0.0.1,::1,localhost"}, "127.0.0.1,::1,localhost", None),
        ({"NO_PROXY": "*"}, "'*'", None),
        ({"NO_PROXY": "it's.example"}, "'it'\"'\"'s.example,127.0.0.1,localhost,::1'", None),
    ],
)
def test_serve_spares_the_loopback_from_proxies(run, monkeypatch, had, upper, lower):
    """NO_PROXY and no_proxy keep the user's hosts and gain the loopback's; `*` is all already."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in had.items():
        monkeypatch.setenv(name, value)
    result, _ = run()
    lines = result.stdout.splitlines()
    assert f"export NO_PROXY={upper}" in lines
    assert f"export no_proxy={lower or upper}" in lines


def test_a_dead_proxy_is_not_asked(run, monkeypatch):
    """With what is exported, programs that obey a proxy reach the local cloud all the same."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    result, (cloud, _) = run()
    for line in result.stdout.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value)
    cloud.start()
    try:
        assert requests.get(cloud.url + "/api/v2/app", timeout=10).status_code == 200
    finally:
        cloud.stop()


def test_serve_takes_every_option(run, monkeypatch, tmp_path):
    """Each option reaches the cloud; the secret comes from the environment."""
    monkeypatch.setenv("COPPER_SANDBOX_CLIENT_SECRET", "it's")
    log = tmp_path / "log"
    result, (cloud, stats) = run(
        *("--premises", "1", "--seed", "3", "--zones", "Asia/Kolkata,Asia/Kathmandu"),
        *("--now", "2021-02-01T07:00:00Z", "--latency-ms", "0.5", "--quota", "none"),
        *("--no-retry-after", "--max-age", "none", "--token-ttl", "9", "--max-span", "hour=1d"),
        *("--cap-rows", "5", "--next-page", "2", "--missing-emails", "4", "--log", str(log)),
        *("--quirk", "capped-sum", "--quirk", "aligned-buckets", "--fault", "status=502"),
        *("--client-id", "me", "--enterprise-id", "us"),
        *("--max-page", "7", "--late", "2", "--late", f"{METER_OF_SEED_3}=36h"),
        visit=lambda url: requests.get(url + "/__sandbox__/stats", timeout=10).json(),
    )
    assert result.exit_code == 0, result.output
    config = cloud.config
    assert (config.seed, config.premises, config.zones) == (
        3,
        1,
        ("Asia/Kolkata", "Asia/Kathmandu"),
    )
    assert (config.quota, config.retry_after, config.latency_ms) == (None, False, 0.5)
    assert (config.max_age, config.app_max_age, config.token_ttl) == (0, 0, 9)
    assert (config.cap_rows, config.next_page, config.missing_emails) == (5, 2, 4)
    assert config.quirks == {"capped-sum", "aligned-buckets"}
    assert config.spans()["hour"].days == 1
    assert (config.max_page, config.late) == (7, ("2", f"{METER_OF_SEED_3}=36h"))
    assert stats["now"] == "2021-02-01T07:00:00+00:00"
    assert stats["faults"][0]["status"] == 502
    assert "COPPER_CLIENT_SECRET='it'\"'\"'s'" in result.stdout
    assert "1 premise, 2 meters" in result.stderr
    assert log.exists()


def test_serve_replays_series(run):
    """A folder of series makes the fleet."""
    result, (cloud, _) = run(
        "--series", str(SERIES), "--series-zone", "America/Chicago", "--max-age", "5"
    )
    assert result.exit_code == 0
    assert [meter.type for meter in cloud.fleet.meters()] == ["power", "gas"]
    assert cloud.config.max_age == cloud.config.app_max_age == 5


@pytest.mark.parametrize(
    "args",
    [
        ["--quota", "lots"],
        ["--now", "2021-02-01"],
        ["--now", "today"],
        ["--max-age", "long"],
        ["--fault", "status=1"],
        ["--zones", "Nowhere/Land"],
        ["--quirk", "odd"],
        ["--max-span", "1d"],
        ["--port", "70000"],
        ["--premises", "0"],
        ["--series", str(SERIES), "--premises", "3"],
        ["--series", str(SERIES), "--zones", "UTC"],
        ["--series", str(SERIES), "--series-zone", "Nowhere/Land"],
        ["--series-zone", "UTC"],
        ["--late", "07:1=3"],
        ["--late", "soon"],
        ["--max-page", "0"],
        ["--series-unit", "therm"],
    ],
)
def test_wrong_options_are_a_matter_of_usage(run, args):
    """Exit code 2, one line that says what to write."""
    result, seen = run(*args)
    assert result.exit_code == 2
    assert result.stderr.count("Error: ") == 1
    assert seen == []


def test_serve_leaves_a_bad_series_out_and_says_so(run, tmp_path):
    """A line on stderr names the file; units that were not said are told; the rest is served."""
    text = "start,value\n2020-01-01 00:00,1\n2020-01-01 01:00,0.17099999999999999\n"
    (tmp_path / "a-gas.csv").write_text(text)
    (tmp_path / "b.csv").write_text(text)
    (tmp_path / "c.csv").write_text("nonsense")
    args = (
        "--series",
        str(tmp_path),
        "--series-zone",
        "America/Denver",
        "--series-unit",
        "a*=therm",
    )
    result, (cloud, _) = run(*args)
    assert result.exit_code == 0
    assert [(meter.type, meter.uom) for meter in cloud.fleet.meters()] == [
        ("gas", "therm"),
        ("power", "kwh"),
    ]
    assert result.stderr.splitlines()[:2] == [
        "Left out: c.csv: the first line is not start,value",
        "b.csv is taken for power in kwh; --series-unit says another unit.",
    ]


def test_serve_needs_one_good_series(run, tmp_path):
    """Exit code 2 and one line, for a folder with bad files only, with none, or wrong units."""
    (tmp_path / "bad.csv").write_text("nonsense")
    (tmp_path / "none").mkdir()
    for folder, more, what in (
        (tmp_path, (), "bad.csv: the first line"),
        (tmp_path / "none", (), "put the series there"),
        (SERIES, ("--series-unit", "gal"), "series-unit gal"),
    ):
        result, _ = run("--series", str(folder), *more)
        assert result.exit_code == 2
        assert what in result.stderr
        assert result.stderr.count("Error: ") == 1


def test_local_trouble_is_told_in_one_line(run, tmp_path):
    """A taken port, a missing folder, a log that cannot be written: LocalError."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for args, what in (
            (["--port", port], f"port {port}"),
            (["--series", str(tmp_path / "none")], "series folder"),
            (["--log", str(tmp_path / "none" / "log")], "cannot write the log"),
        ):
            result, _ = run(*args)
            assert isinstance(result.exception, LocalError)
            assert what in str(result.exception)
            assert "\n" not in str(result.exception)


def test_the_help_names_every_quirk_and_fault():
    """What can be asked for stands in the help, after one sentence."""
    text = " ".join(CliRunner().invoke(command.sandbox, ["serve", "--help"]).output.split())
    assert "Serve a local Copper Cloud until Ctrl-C, and print the variables to export." in text
    # the help breaks lines within names at their hyphens
    squeezed = text.replace("- ", "-")
    for name in (*QUIRKS, *KINDS):
        assert name in squeezed
    assert "Run a local Copper Cloud" in CliRunner().invoke(command.sandbox, ["--help"]).output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(number, tmp_path):
    """Ctrl-C and a request to terminate: exit code 0, no traceback, and it did serve."""
    code = "from copper_cli.cli.sandbox import sandbox; sandbox(prog_name='copper sandbox')"
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--log", str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        exports = []
        for line in process.stdout:
            exports.append(line)
            if "COPPER_ENTERPRISE_ID" in line:
                break
        url = exports[0].strip().partition("=")[2]
        assert requests.get(url + "/api/v2/app", timeout=10).status_code == 200
        process.stderr.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors == "Stopped after 0 calls.\n"
    assert json.loads((tmp_path / "log").read_text())["status"] == 200
