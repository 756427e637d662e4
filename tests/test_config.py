"""Settings: quotas, addresses, folders, profiles, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from copper_cli.config import (
    Limit,
    Secret,
    cache_dir,
    check_url,
    config_path,
    is_loopback,
    parse_quota,
    read_profile,
    read_secret,
)
from copper_cli.errors import CredentialsError, UsageError


def test_a_secret_shows_itself_to_nobody() -> None:
    """Neither str, repr nor formatting give it away."""
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("100/h,1000/d", [(100, 3600), (1000, 86400)]),
        ("20/10s", [(20, 10)]),
        (" 500 / 2h , 7/m", [(500, 7200), (7, 60)]),
    ],
)
def test_quotas_are_read(text: str, limits: list[tuple[int, int]]) -> None:
    """Calls, a slash, a number of units."""
    assert parse_quota(text) == tuple(Limit(*one) for one in limits)


@pytest.mark.parametrize("text", ["", "100", "0/h", "5/0h", "-1/h", "5/w", "5/h,", "5.5/h", "٥/h/"])
def test_quotas_that_are_none(text: str) -> None:
    """Are told with an example."""
    with pytest.raises(UsageError, match=r"is not like 100/h,1000/d \(units s, m, h, d\)\."):
        parse_quota(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "http://localhost:80",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_addresses_that_may_be(url: str) -> None:
    """https to anywhere, http to this machine; a trailing slash goes."""
    assert check_url("X", url + "/") == url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.com", "plain http to example.com"),
        ("http://127.0.0.1.example.com", "plain http to 127.0.0.1.example.com"),
        ("http://0.0.0.0", "plain http"),
        ("example.com", "not an address"),
        ("file:///etc/passwd", "not an address"),
        ("https://", "not an address"),
        ("https://me:pw@example.com", "user name or password"),
        ("http://localhost@example.com", "user name or password"),
    ],
)
def test_addresses_that_may_not_be(url: str, told: str) -> None:
    """One line that names the variable, without the password."""
    with pytest.raises(UsageError, match=told) as error:
        check_url("COPPER_API_URL", url)
    assert str(error.value).startswith("COPPER_API_URL ")
    assert "pw" not in str(error.value)


def test_loopback() -> None:
    """This machine by name or address; nothing that only looks like it."""
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("localhost.example.com")
    assert not is_loopback("8.8.8.8")


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG where it is set, else the user's own."""
    assert config_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/copper/config.toml")
    assert cache_dir({"COPPER_CACHE_DIR": "/d", "XDG_CACHE_HOME": "/k"}) == Path("/d")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert config_path({}) == tmp_path / ".config/copper/config.toml"
    assert cache_dir({"XDG_CACHE_HOME": "/k"}) == Path("/k/copper")
    assert tmp_path in cache_dir({}).parents


def write(tmp_path: Path, content: bytes) -> dict[str, str]:
    path = tmp_path / "copper" / "config.toml"
    path.parent.mkdir()
    path.write_bytes(content)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_a_profile(tmp_path: Path) -> None:
    """Its keys as they stand in the file."""
    env = write(tmp_path, b"[profile.a]\nclient_id='x'\ndefaults={jobs=3}\n[profile.b]\n")
    assert read_profile("a", env) == {"client_id": "x", "defaults": {"jobs": 3}}
    assert read_profile("b", env) == {}


def test_a_profile_that_cannot_be_read(tmp_path: Path) -> None:
    """Not UTF-8, or a folder: a line with the path."""
    env = write(tmp_path, b"\xff\xfe")
    with pytest.raises(UsageError, match="config.toml cannot be read"):
        read_profile("a", env)
    (tmp_path / "copper/config.toml").unlink()
    (tmp_path / "copper/config.toml").mkdir()
    with pytest.raises(UsageError, match="config.toml cannot be read"):
        read_profile("a", env)


def test_secrets_by_name_and_by_command() -> None:
    """A variable's name, or a command's output; neither: none."""
    found = read_secret({"client_secret_env": "S"}, {"S": "one"})
    assert found is not None
    assert found.reveal() == "one"
    found = read_secret({"client_secret_command": "printf ' two\\n'"}, {})
    assert found is not None
    assert found.reveal() == "two"
    assert read_secret({}, {}) is None


def test_a_command_that_fails_does_not_show_what_it_said() -> None:
    """It may have printed the secret."""
    with pytest.raises(CredentialsError, match="ended with code 1 and some output") as error:
        read_secret({"client_secret_command": "echo s3cret; echo s3cret >&2; false"}, {})
    assert "s3cret" not in str(error.value)
