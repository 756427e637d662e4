"""Whose credentials a run uses, and what is said where they are missing or wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from copper_cli.cli.settings import read_settings
from copper_cli.errors import CredentialsError, UsageError
from copper_cli.sandbox import Sandbox

from .conftest import Copper, FixedCloud
from .test_options import PROFILES

WriteConfig = Callable[[str], Path]

VALUES = {
    "profile": None,
    "sandbox": False,
    "enterprise_id": None,
    "quota": None,
    "timeout": 60.0,
    "wait": True,
    "reserve": 0,
    "cache": True,
    "query_limit": 1000,
    "jobs": 8,
    "debug": False,
}
EXPORTED = {
    "COPPER_CLIENT_ID": "id-env",
    "COPPER_CLIENT_SECRET": "secret-env",
    "COPPER_ENTERPRISE_ID": "ent-env",
}


@pytest.fixture
def settle(tmp_path: Path, write_config: WriteConfig) -> Callable[..., Any]:
    write_config(PROFILES)

    def settle(values: dict[str, Any], env: dict[str, str], **rest: Any) -> tuple[str, ...]:
        folders = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_CACHE_HOME": "c"}
        found = read_settings(VALUES | values, folders | env, command="premise", **rest)
        assert found.client_secret is not None
        return found.client_id, found.client_secret.reveal(), found.enterprise_id

    return settle


def test_exported_credentials_go_before_an_exported_profile(settle: Callable[..., Any]) -> None:
    """COPPER_PROFILE fills only what is not exported; its secret is not even looked for."""
    env = {**EXPORTED, "ACME_SECRET": ""}
    assert settle({"profile": "acme"}, env) == ("id-env", "secret-env", "ent-env")
    del env["COPPER_ENTERPRISE_ID"]
    assert settle({"profile": "acme"}, env) == ("id-env", "secret-env", "ent-acme")


def test_a_typed_profile_goes_before_exported_credentials(settle: Callable[..., Any]) -> None:
    """Whoever types --profile ACME must never get another partner's data."""
    env = {**EXPORTED, "ACME_SECRET": "secret-acme"}
    found = settle({"profile": "acme"}, env, profile_first=True)
    assert found == ("id-acme", "secret-acme", "ent-acme")


def test_a_typed_profile_s_secret_goes_to_its_own_host(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    """An exported address goes before an exported profile's, not before a typed one's."""
    write_config(
        "[profile.acme]\nclient_id = 'a'\nenterprise_id = 'e'\nclient_secret_env = 'S'\n"
        "api_url = 'https://acme.example'\n"
    )
    env = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "S": "secret",
        "COPPER_API_URL": "https://other.example",
    }
    values = VALUES | {"profile": "acme"}
    typed = read_settings(values, env, command="premise", profile_first=True)
    assert typed.api_url == "https://acme.example"
    assert read_settings(values, env, command="premise").api_url == "https://other.example"


def test_a_typed_enterprise_goes_before_all(settle: Callable[..., Any]) -> None:
    """Also where the same id happens to be exported."""
    env = {**EXPORTED, "ACME_SECRET": "s"}
    for typed in ("ent-typed", "ent-env"):
        found = settle(
            {"profile": "acme", "enterprise_id": typed},
            env,
            profile_first=True,
            enterprise_typed=True,
        )
        assert found[2] == typed


def test_an_exported_enterprise_does_not_follow_a_typed_profile(
    settle: Callable[..., Any],
) -> None:
    """click hands the exported id on as a value; it is still only exported."""
    env = {**EXPORTED, "ACME_SECRET": "s"}
    values = {"profile": "acme", "enterprise_id": "ent-env"}
    assert settle(values, env, profile_first=True)[2] == "ent-acme"


def test_a_secret_from_a_command(settle: Callable[..., Any]) -> None:
    """client_secret_command's output, stripped."""
    assert settle({"profile": "other"}, {}) == ("id-other", "other-secret", "ent-other")


def test_the_individual_has_no_secret_and_needs_none(tmp_path: Path) -> None:
    """The vendor's public client id, whatever is exported."""
    found = read_settings(VALUES, {"XDG_CACHE_HOME": "c"}, command="account", individual=True)
    assert found.client_id == "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA"
    assert (found.client_secret, found.enterprise_id) == (None, "")


def test_quota_comes_from_option_profile_default(settle: Callable[..., Any]) -> None:
    """`500/2h,20/10s` is read as two limits; the profile's is used where none is typed."""
    import copper_cli.cli.settings as module

    env = {**EXPORTED}
    found = module.read_settings(VALUES | {"quota": "500/2h,20/10s"}, env, command="x")
    assert [(one.calls, one.period_s) for one in found.quota] == [(500, 7200), (20, 10)]
    found = module.read_settings(VALUES, env, command="x")
    assert [(one.calls, one.period_s) for one in found.quota] == [(100, 3600), (1000, 86400)]


# Through the program


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (("ID", "SECRET"), "COPPER_CLIENT_ID, COPPER_CLIENT_SECRET are not set. Export them,"),
        (("SECRET",), "COPPER_CLIENT_SECRET is not set. Export it,"),
    ],
)
def test_missing_credentials_name_their_variables(
    fixed: FixedCloud,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, ...],
    told: str,
) -> None:
    """Exit 3, one line that says what to do, no call."""
    for name in missing:
        monkeypatch.delenv(f"COPPER_CLIENT_{name}")
    ended = copper("premise")
    assert (ended.code, ended.out, fixed.asked) == (3, "", [])
    assert ended.err == (
        f"copper: {told} or name a profile (--profile), or try `copper --sandbox premise`.\n"
    )


def test_wrong_credentials(cloud: Sandbox, copper: Copper, monkeypatch: Any) -> None:
    """Exit 3; the secret is not shown, with --debug neither."""
    monkeypatch.setenv("COPPER_CLIENT_SECRET", "wr0ng-s3cret")
    ended = copper("premise", "--debug")
    assert ended.code == 3
    assert "wr0ng-s3cret" not in ended.out + ended.err
    assert ended.err.splitlines()[-1].startswith("copper: No token: the client id and secret")


def test_another_partners_enterprise(
    cloud: Sandbox, copper: Copper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403: exit 3, one line."""
    monkeypatch.delenv("COPPER_ARCHIVE")  # of this partner
    ended = copper("premise", "--enterprise-id", "not-mine")
    assert ended.code == 3
    assert "no permission (403" in ended.err
    assert copper("--enterprise_id", "sandbox-enterprise", "premise").code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "does not exist"),
        (PROFILES, "Known: acme, other."),
        ("", "Known: none."),
        ("[profile.nope", "is not valid TOML"),
        ("profile = 3", "Known: none."),
        ("[profile.nope]\nclient_secret = 's3cr3t'", "holds a client_secret"),
        ("[profile.nope]\nclientid = 'x'", "unknown key 'clientid'. Accepted: api_url,"),
        ("[profile.nope]\nclient_id = 3", "client_id has the wrong type"),
        ("[profile.nope]\ndefaults = 3", "defaults has the wrong type"),
        ("[profile.nope.defaults]\noutputdir = 'x'", "no option is called 'outputdir'"),
    ],
)
def test_a_wrong_profile_is_a_usage_error(
    fixed: FixedCloud,
    copper: Copper,
    write_config: WriteConfig,
    text: str | None,
    told: str,
) -> None:
    """One line, exit 2, no call, and a secret written in the file is not repeated."""
    if text is not None:
        write_config(text)
    ended = copper("--profile", "nope", "premise")
    assert (ended.code, ended.out, fixed.asked) == (2, "", [])
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
    assert "s3cr3t" not in ended.err


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("client_secret_env = 'UNSET'", "UNSET is not set"),
        ("client_secret_command = 'echo no; exit 3'", "ended with code 3 and some output"),
        ("client_secret_command = 'true'", "ended with code 0 and no output"),
        ("", "COPPER_CLIENT_SECRET is not set"),
    ],
)
def test_a_profile_whose_secret_cannot_be_had(
    fixed: FixedCloud,
    copper: Copper,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    told: str,
) -> None:
    """Exit 3, and the exported secret of another partner is not sent instead."""
    monkeypatch.delenv("COPPER_CLIENT_SECRET")
    write_config(f"[profile.p]\nclient_id = 'a'\nenterprise_id = 'e'\n{secret}\n")
    ended = copper("--profile", "p", "premise")
    assert (ended.code, fixed.asked) == (3, [])
    assert told in ended.err


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("COPPER_API_URL", "http://example.com", "COPPER_API_URL is plain http to example.com"),
        ("COPPER_AUTH_URL", "http://10.0.0.1", "COPPER_AUTH_URL is plain http to 10.0.0.1"),
        ("COPPER_API_URL", "ftp://example.com", "is not an address"),
        ("COPPER_API_URL", "https://u:pw@example.com", "holds a user name or password"),
        ("COPPER_QUOTA", "lots", "--quota 'lots' is not like 100/h,1000/d"),
        ("COPPER_QUOTA", "0/h", "--quota '0/h' is not like"),
        ("COPPER_QUOTA", "5/0h", "--quota '5/0h' is not like"),
    ],
)
def test_wrong_addresses_and_quotas(
    fixed: FixedCloud,
    copper: Copper,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    told: str,
) -> None:
    """One line, exit 2, no call; a password is not repeated."""
    monkeypatch.setenv(name, value)
    ended = copper("premise")
    assert (ended.code, ended.out, fixed.asked) == (2, "", [])
    assert told in ended.err
    assert "pw" not in ended.err


def test_settings_errors_are_of_the_tree(settle: Callable[..., Any]) -> None:
    """For those who use it without a shell."""
    with pytest.raises(CredentialsError):
        settle({}, {})
    with pytest.raises(UsageError):
        settle({"profile": "unknown"}, EXPORTED)


@pytest.mark.parametrize("text", ["64MB", "-1", "0", "inf", "many"])
def test_a_wrong_bound_of_answers_is_a_usage_error(
    fixed: FixedCloud, copper: Copper, monkeypatch: Any, text: str
) -> None:
    """COPPER_MAX_ANSWER is read before anything is asked."""
    monkeypatch.setenv("COPPER_MAX_ANSWER", text)
    ended = copper("premise")
    assert ended.code == 2
    assert "COPPER_MAX_ANSWER" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert fixed.asked == []


def test_an_answer_over_its_bound_is_a_cloud_error(
    fixed: FixedCloud, copper: Copper, monkeypatch: Any
) -> None:
    """Exit code 4 and one line, after one call."""
    monkeypatch.setenv("COPPER_MAX_ANSWER", "1KiB")
    fixed.answers["premise"] = [{"id": "x" * 2000}]
    ended = copper("premise")
    assert ended.code == 4
    assert "more than 1 KiB" in ended.err
    assert len(fixed.asked) == 1


PASTED = [" {} ", "{}\n", "\u00a0{}\u00a0", "{}\r\n", '"{}"', "\u201c{}\u201d", "\ufeff{}\u200b"]


@pytest.mark.parametrize("around", PASTED)
def test_credentials_as_they_are_pasted(
    settle: Callable[..., Any], write_config: WriteConfig, around: str
) -> None:
    """Blanks, invisible signs and quotes around them are not part of them, wherever they stand."""
    env = {name: around.format(value) for name, value in EXPORTED.items()}
    assert settle({}, env) == ("id-env", "secret-env", "ent-env")
    if "\n" not in around and '"' not in around:
        write_config(
            f'[profile.acme]\nclient_id = "{around.format("id")}"\n'
            f'enterprise_id = "{around.format("ent")}"\nclient_secret_env = "S"\n'
        )
        found = settle({"profile": "acme"}, {"S": around.format("s")}, profile_first=True)
        assert found == ("id", "s", "ent")


@pytest.mark.parametrize("name", list(EXPORTED))
def test_credentials_of_several_lines(settle: Callable[..., Any], name: str) -> None:
    """Are refused by their variable's name, and not shown."""
    with pytest.raises(UsageError) as error:
        settle({}, EXPORTED | {name: "first\nsecond"})
    assert str(error.value) == (f"{name} holds a line break or another sign that cannot be shown.")


def test_the_address_that_is_wrong_is_named(tmp_path: Path, write_config: WriteConfig) -> None:
    """The variable, or the profile's key."""
    write_config("[profile.acme]\nclient_secret_env = 'S'\napi_url = 'https://a:99999'\n")
    env = EXPORTED | {"XDG_CONFIG_HOME": str(tmp_path / "config"), "S": "s"}
    with pytest.raises(UsageError, match="^the profile's api_url is not an address"):
        read_settings(VALUES | {"profile": "acme"}, env, command="premise")
    env["COPPER_API_URL"] = "https://b:99999"
    with pytest.raises(UsageError, match="^COPPER_API_URL is not an address"):
        read_settings(VALUES | {"profile": "acme"}, env, command="premise")
