"""From what was typed, the environment and the profile to Settings."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from copper_cli.config import (
    DEFAULT_API_URL,
    DEFAULT_AUTH_URL,
    DEFAULT_QUOTA,
    INDIVIDUAL_CLIENT_ID,
    MAX_ANSWER_BYTES,
    Secret,
    Settings,
    cache_dir,
    check_url,
    parse_quota,
    parse_size,
    read_pasted,
    read_profile,
    read_secret,
    strip_pasted,
)
from copper_cli.errors import CredentialsError, UsageError

_NAME, _OFFSET = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)", r"[+-]?\d{1,3}(?::\d{1,2}){0,2}"
_RULE = re.compile(rf"{_NAME}{_OFFSET}(?:{_NAME}(?:{_OFFSET})?(?:,[^,]+,[^,]+)?)?", re.ASCII)
"""What POSIX lets TZ be besides a file."""
_VARIABLES = {
    "client_id": "COPPER_CLIENT_ID",
    "client_secret": "COPPER_CLIENT_SECRET",
    "enterprise_id": "COPPER_ENTERPRISE_ID",
}


def read_settings(
    values: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    command: str,
    individual: bool = False,
    profile_first: bool = False,
    enterprise_typed: bool = False,
    archive_typed: bool = False,
    needs_secret: bool = True,
) -> Settings:
    """The settings of a run.

    Environment goes before profile, but where the profile was named on the command line
    (`profile_first`): whoever types --profile ACME must never get another partner's data
    because a variable is still exported. An enterprise or archive that was typed
    (`enterprise_typed`, `archive_typed`) goes before both. The secret is not looked for where it
    is not needed. Raises CredentialsError for what is
    missing, UsageError for what is wrong.
    """
    profile = _read_profile(values, env)
    found = _credentials(env, profile, profile_first=profile_first, needs_secret=needs_secret)
    if values.get("enterprise_id") and (enterprise_typed or not found["enterprise_id"]):
        found["enterprise_id"] = values["enterprise_id"]
    if individual:
        found = {"client_id": INDIVIDUAL_CLIENT_ID, "client_secret": None, "enterprise_id": ""}
    needed = [name for name in _VARIABLES if needs_secret or name != "client_secret"]
    missing = [_VARIABLES[name] for name in needed if not individual and not found[name]]
    if missing:
        raise CredentialsError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. Export "
            f"{'it' if len(missing) == 1 else 'them'}, or name a profile (--profile), or try "
            f"`copper --sandbox {command}`."
        )
    api_url = _read_url("api_url", DEFAULT_API_URL, env, profile, profile_first=profile_first)
    auth_url = _read_url("auth_url", DEFAULT_AUTH_URL, env, profile, profile_first=profile_first)
    quota = values.get("quota") or profile.get("quota") or DEFAULT_QUOTA
    return Settings(
        api_url=api_url,
        auth_url=auth_url,
        client_id=found["client_id"],
        client_secret=found["client_secret"],
        enterprise_id=found["enterprise_id"],
        cache_dir=cache_dir(env),
        archive=_read_archive(values, profile, profile_first=profile_first, typed=archive_typed),
        use_archive=not values.get("no_archive"),
        quota=parse_quota(quota),
        timeout_s=values["timeout"],
        max_answer=parse_size(
            "COPPER_MAX_ANSWER", env.get("COPPER_MAX_ANSWER") or str(MAX_ANSWER_BYTES)
        ),
        wait=values["wait"],
        reserve=values["reserve"],
        use_cache=values["cache"],
        query_limit=values["query_limit"],
        jobs=values["jobs"],
        command=command,
    )


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """What there is to find an archive by, for a command that makes no call."""

    api_url: str
    """Scheme and host of the API."""
    enterprise_id: str
    """The partner; empty where nothing says which."""
    archive: Path | None
    """Its folder; None: the default place."""


def read_archive_place(
    values: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    profile_first: bool = False,
    enterprise_typed: bool = False,
    archive_typed: bool = False,
) -> ArchivePlace:
    """As `read_settings` finds them, without credentials. Raises UsageError."""
    profile = _read_profile(values, env)
    exported = read_pasted("COPPER_ENTERPRISE_ID", env.get("COPPER_ENTERPRISE_ID", ""))
    kept = read_pasted("the profile's enterprise_id", profile.get("enterprise_id", ""))
    enterprise = kept or exported if profile_first else exported or kept
    if values.get("enterprise_id") and (enterprise_typed or not enterprise):
        enterprise = values["enterprise_id"]
    return ArchivePlace(
        _read_url("api_url", DEFAULT_API_URL, env, profile, profile_first=profile_first),
        enterprise,
        _read_archive(values, profile, profile_first=profile_first, typed=archive_typed),
    )


def _read_profile(values: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    if values.get("sandbox") or not values.get("profile"):
        return {}
    return read_profile(values["profile"], env)


def _read_url(
    name: str,
    default: str,
    env: Mapping[str, str],
    profile: Mapping[str, Any],
    *,
    profile_first: bool,
) -> str:
    """A host. Like the credentials: a secret must not go to one that is another partner's."""
    exported, kept = env.get(f"COPPER_{name.upper()}"), profile.get(name)
    url = (kept or exported if profile_first else exported or kept) or default
    return check_url(f"COPPER_{name.upper()}" if exported == url else f"the profile's {name}", url)


def _read_archive(
    values: Mapping[str, Any], profile: Mapping[str, Any], *, profile_first: bool, typed: bool
) -> Path | None:
    """The folder of the archive, from the first place that names one."""
    named: Path | None = values.get("archive")
    kept = profile.get("archive")
    if typed or not kept or (named is not None and not profile_first):
        return named
    path = Path(kept)
    with suppress(RuntimeError):  # no home
        path = path.expanduser()
    if not path.is_absolute():
        raise UsageError(
            f"The profile's archive {kept!r} is no whole path, such as ~/archives/acme: it would "
            "be another folder wherever the program is started."
        )
    return path


def _credentials(
    env: Mapping[str, str],
    profile: Mapping[str, Any],
    *,
    profile_first: bool,
    needs_secret: bool,
) -> dict[str, Any]:
    """Client id, secret and enterprise id, each from the first place that has it."""
    exported: dict[str, Any] = {
        name: read_pasted(variable, env.get(variable, "")) for name, variable in _VARIABLES.items()
    }
    if exported["client_secret"]:
        exported["client_secret"] = Secret(exported["client_secret"])
    kept: dict[str, Any] = {
        name: read_pasted(f"the profile's {name}", profile.get(name, "")) for name in _VARIABLES
    }
    if needs_secret and (profile_first or not exported["client_secret"]):
        kept["client_secret"] = read_secret(profile, env)
    places = (kept, exported) if profile_first else (exported, kept)
    return {name: places[0][name] or places[1][name] for name in _VARIABLES}


def check_machine_zone() -> None:
    """UsageError where TZ is set to what is no time zone: the system would tell UTC, or nothing."""
    text = os.environ.get("TZ", "")
    name = strip_pasted(text)
    if name != text:
        os.environ["TZ"] = name
        if hasattr(time, "tzset"):
            time.tzset()
    try:
        datetime.now().astimezone()
    except (ValueError, OverflowError, OSError):
        known = False
    else:
        known = _is_zone(name.removeprefix(":"))
    if not known:
        raise UsageError(
            f"TZ is {name!r}, which is no time zone. Set it to a name of the IANA list, such as "
            "America/Denver, or unset it."
        )


def _is_zone(name: str) -> bool:
    """True for what TZ may be: nothing, a file, a rule such as EST5EDT, or a zone's name."""
    if not name or name == "UTC" or _RULE.fullmatch(name):
        return True
    if name.startswith("/"):
        return os.path.isfile(name)  # noqa: PTH113 - pathlib costs the start
    if name.replace("/", "").replace("_", "").isalpha() and (time.timezone or time.altzone):
        return True  # the system knows it; to read it once more would cost the start
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
