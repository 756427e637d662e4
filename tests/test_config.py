"""Settings: quotas, addresses, folders, profiles, secrets."""

from __future__ import annotations

import os
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
        ("https://@example.com", "user name or password"),
        ("https://example.com:99999", "a port is a number from 1 to 65535"),
        ("https://example.com:0", "a port is a number from 1 to 65535"),
        ("https://example.com:-1", "a port is a number from 1 to 65535"),
        ("https://example.com:http", "a port is a number from 1 to 65535"),
        ("https://[::1", "not an address"),
        ("https://example..com", "not an address"),
        ("https://-example.com", "not an address"),
        (f"https://{'a' * 64}.com", "not an address"),
        ("https://exa mple.com", "a sign in it that no address has"),
        ("https://example.com\n.other.example", "a sign in it that no address has"),
        ("https://example.com\\@other.example", "a sign in it that no address has"),
        ("https:\\\\example.com", "a sign in it that no address has"),
        ("https://example.com/api/v2", "leave out what follows the host and port"),
        ("https://example.com?x=1", "leave out what follows the host and port"),
        ("https://example.com/?", "leave out what follows the host and port"),
        ("https://example.com#x", "leave out what follows the host and port"),
    ],
)
def test_addresses_that_may_not_be(url: str, told: str) -> None:
    """One line that names the variable, without the password."""
    with pytest.raises(UsageError, match=told) as error:
        check_url("COPPER_API_URL", url)
    assert str(error.value).startswith("COPPER_API_URL ")
    assert "pw" not in str(error.value)


@pytest.mark.parametrize(
    "around", [" {} ", "{}\n", "\u00a0{}\u00a0", "\ufeff{}", '"{}"', " '{}'\r\n"]
)
def test_addresses_as_they_are_pasted(around: str) -> None:
    """Blanks, invisible signs and quotes around one do no harm."""
    url = "https://api.example.com:8443"
    assert check_url("X", around.format(url)) == url


def test_a_name_in_another_script() -> None:
    """Is an address too."""
    assert check_url("X", "https://bücher.example") == "https://bücher.example"


@pytest.mark.parametrize(
    "text", ["1000000001/h", "1/367d", "9" * 5000 + "/h", "1/" + "9" * 5000 + "h"]
)
def test_quotas_that_are_too_large(text: str) -> None:
    """No clock could count them; the most is said."""
    with pytest.raises(UsageError, match="too large: 1000000000 calls and 366 days at most"):
        parse_quota(text)


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


@pytest.mark.parametrize("sign", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_profile_from_another_editor(tmp_path: Path, sign: bytes, ending: bytes) -> None:
    """A mark of UTF-8 at its begin and line ends of Windows are read."""
    lines = [b"[profile.a]", b"client_id = 'x'", b'quota = """5/h"""', b""]
    env = write(tmp_path, sign + ending.join(lines))
    assert read_profile("a", env) == {"client_id": "x", "quota": "5/h"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[profile.a]".encode("utf-16"), "cannot be read: it is not text in UTF-8."),
        (b"x" * 2_000_000, "cannot be read: it is too large for a file of profiles."),
        (b"x = " + b"[" * 100_000, "is not valid TOML: it is nested too deep."),
        (b"x = " + b"9" * 5000, "is not valid TOML: "),
        (b"x = \x00", "is not valid TOML: "),
    ],
)
def test_a_file_that_holds_no_profiles(tmp_path: Path, content: bytes, told: str) -> None:
    """One line that says why."""
    env = write(tmp_path, content)
    with pytest.raises(UsageError) as error:
        read_profile("a", env)
    assert str(error.value).startswith(f"{tmp_path}/copper/config.toml {told}")


def test_a_pipe_in_the_file_s_place(tmp_path: Path) -> None:
    """Nobody will ever write to it: it is not waited for."""
    env = write(tmp_path, b"")
    path = tmp_path / "copper/config.toml"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot be read: it is no plain file"):
        read_profile("a", env)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="cannot be read: it is no plain file"):
        read_profile("a", env)


def test_a_file_that_is_linked_to(tmp_path: Path) -> None:
    """Is read: people keep such files in a folder of their own."""
    env = write(tmp_path, b"[profile.a]\nclient_id='x'\n")
    path = tmp_path / "copper/config.toml"
    path.rename(tmp_path / "real.toml")
    path.symlink_to(tmp_path / "real.toml")
    assert read_profile("a", env) == {"client_id": "x"}


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
