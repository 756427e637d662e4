"""Settings, read when a command runs: option, then environment, then profile, then default."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from copper_cli.errors import CredentialsError, UsageError

DEFAULT_API_URL = "https://api.copperlabs.com"
DEFAULT_AUTH_URL = "https://auth.copperlabs.com"
INDIVIDUAL_CLIENT_ID = "RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA"
"""The vendor's public client for individual accounts."""
DEFAULT_QUOTA = "100/h,1000/d"
DEFAULT_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 256 << 20

_SIZE_BITS = {"": 0, "k": 10, "m": 20, "g": 30}
_PERIODS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_CALLS, _LONGEST_PERIOD_S = 10**9, 366 * 86400
_CONFIG_BYTES = 1 << 20
"""A file of profiles has some hundred."""
_EDGES = re.compile("^[\\s\u200b-\u200f\u2060\ufeff]+|[\\s\u200b-\u200f\u2060\ufeff]+$")
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»"}
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}")
_PROFILE_KEYS = {
    "client_id",
    "enterprise_id",
    "client_secret_env",
    "client_secret_command",
    "api_url",
    "auth_url",
    "archive",
    "quota",
    "defaults",
}


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that shows itself to nobody who does not ask by name."""

    _value: str

    def reveal(self) -> str:
        """The secret itself; never hand it to anything that prints."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any `period_s` seconds."""

    calls: int
    """Calls allowed."""
    period_s: int
    """Length of the sliding window in seconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the cloud package needs to know to make a call."""

    api_url: str
    """Scheme and host of the API, without a trailing slash."""
    auth_url: str
    """Scheme and host of the token issuer, without a trailing slash."""
    client_id: str
    """Whose quota is spent; also names the cache and ledger files."""
    client_secret: Secret | None
    """None for the individual account, which has no secret."""
    enterprise_id: str
    """Partner whose data is asked for; empty for the individual account."""
    cache_dir: Path
    """Folder of tokens, answers and ledger; made 0700."""
    archive: Path | None = None
    """Folder of the archive; None: the default place of this host and enterprise."""
    use_archive: bool = True
    """Keep what is answered; else a temporary archive."""
    quota: tuple[Limit, ...] = (Limit(100, 3600), Limit(1000, 86400))
    """Every limit holds at once."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """A server silent for this long has failed."""
    max_answer: int = MAX_ANSWER_BYTES
    """Bytes of an answer as text, decompressed; a longer one is not read."""
    wait: bool = True
    """Wait for a spent quota; else QuotaSpentError."""
    reserve: int = 0
    """Calls of each window left to others."""
    use_cache: bool = True
    """Reuse answers as Cache-Control allows."""
    query_limit: int = 1000
    """Rows a page in offset lists."""
    jobs: int = 8
    """Calls in flight at once, each on a connection of its own."""
    command: str = ""
    """Noted with each call in the ledger (`meter usage`)."""


def parse_quota(text: str) -> tuple[Limit, ...]:
    """The limits in e.g. `100/h,1000/d` (also `20/10s`, `500/2h`); UsageError otherwise."""
    limits = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]*)([smhd])\s*", part)
        if not found or not found[1].strip("0") or (found[2] and not found[2].strip("0")):
            raise UsageError(f"--quota {text!r} is not like 100/h,1000/d (units s, m, h, d).")
        if len(found[1]) + len(found[2]) > 30 or (
            int(found[1]) > _MOST_CALLS
            or int(found[2] or 1) * _PERIODS_S[found[3]] > _LONGEST_PERIOD_S
        ):
            raise UsageError(
                f"--quota {text[:40]!r} is too large: {_MOST_CALLS} calls and 366 days at most."
            )
        calls, period_s = int(found[1]), int(found[2] or 1) * _PERIODS_S[found[3]]
        limits.append(Limit(calls, period_s))
    return tuple(limits)


def limit_text(limit: Limit) -> str:
    """`100/h`, as `parse_quota` reads it."""
    unit_s, unit = max(
        (s, u)
        for s, u in ((1, "s"), (60, "m"), (3600, "h"), (86400, "d"))
        if limit.period_s % s == 0
    )
    count = limit.period_s // unit_s
    return f"{limit.calls}/{count if count > 1 else ''}{unit}"


def parse_size(name: str, text: str) -> int:
    """The bytes in e.g. `1000000` or `64MiB` (KiB, MiB, GiB); UsageError otherwise."""
    found = re.fullmatch(r"\s*([0-9]{1,15})\s*(?:([kmg])ib)?\s*", text, re.IGNORECASE)
    if not found or int(found[1]) < 1:
        raise UsageError(f"{name} {text!r} is no size like 1000000 or 64MiB (KiB, MiB, GiB).")
    return int(found[1]) << _SIZE_BITS[(found[2] or "").lower()]


def size_text(size: int) -> str:
    """`64 MiB`, or the bytes where that is no whole number."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size % (1 << bits) == 0:
            return f"{size >> bits} {unit}"
    return f"{size} bytes"


def check_url(name: str, url: str) -> str:
    """The url without blanks around it and without a trailing slash.

    Scheme, host and perhaps a port; http is accepted for loopback hosts only. Raises UsageError.
    """
    url = strip_pasted(url)
    what = f"{name} is not an address like https://api.example.com"
    if any(sign.isspace() or not sign.isprintable() or sign in '\\"<>^`{|}' for sign in url):
        raise UsageError(f"{what}: there is a sign in it that no address has.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"{what}; a port is a number from 1 to 65535.") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _is_host(host) or port == 0:
        raise UsageError(f"{what}; a port is a number from 1 to 65535.")
    if "@" in parts.netloc:
        raise UsageError(f"{name} holds a user name or password; leave them out.")
    if parts.path.strip("/") or "?" in url or "#" in url:
        raise UsageError(f"{what}: leave out what follows the host and port.")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"{name} is plain http to {host}; use https (http is for this machine only)."
        )
    return url.rstrip("/")


def strip_pasted(text: str) -> str:
    """The text without what comes along when it is pasted: blanks, invisible signs, quotes."""
    before = None
    while text != before:
        before = text
        text = _EDGES.sub("", text)
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1]
    return text


def read_pasted(name: str, text: str) -> str:
    """`strip_pasted`; UsageError, without the text, where a sign is left that no key has."""
    text = strip_pasted(text)
    if not text.isprintable():
        raise UsageError(f"{name} holds a line break or another sign that cannot be shown.")
    return text


def _is_host(host: str) -> bool:
    """True for an address in figures and for a name that could be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    labels = name.removesuffix(".").split(".")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where profiles live: `~/.config/copper/config.toml`, XDG_CONFIG_HOME heeded."""
    base = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "copper" / "config.toml"


def cache_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where tokens, answers and the ledger live: the user's cache folder for `copper`.

    COPPER_CACHE_DIR names another, XDG_CACHE_HOME another parent.
    """
    if env.get("COPPER_CACHE_DIR"):
        return Path(env["COPPER_CACHE_DIR"])
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"]) / "copper"
    from platformdirs import user_cache_path

    return user_cache_path("copper", appauthor=False)


def data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where archives live unless told otherwise: the user's data folder for `copper`.

    XDG_DATA_HOME names another parent.
    """
    if env.get("XDG_DATA_HOME"):
        return Path(env["XDG_DATA_HOME"]) / "copper"
    from platformdirs import user_data_path

    return user_data_path("copper", appauthor=False)


def read_profile(handle: str, env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The keys of `[profile.HANDLE]` in the config file.

    Raises UsageError for a missing file, an unknown handle (the known ones are named), an
    unknown key or a secret written out in the file.
    """
    import tomllib

    path = config_path(env)
    text = _read_config(handle, path)
    try:
        profiles = tomllib.loads(text).get("profile", {})
    except RecursionError:
        raise UsageError(f"{path} is not valid TOML: it is nested too deep.") from None
    except ValueError as error:  # also a number of thousands of digits
        raise UsageError(f"{path} is not valid TOML: {error}.") from None
    if not isinstance(profiles, dict) or not isinstance(profiles.get(handle), dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) else ""
        raise UsageError(f"No profile {handle!r} in {path}. Known: {known or 'none'}.")
    profile: dict[str, Any] = profiles[handle]
    if "client_secret" in profile:
        raise UsageError(
            f"{path} holds a client_secret. Name where it comes from instead: "
            "client_secret_env or client_secret_command."
        )
    unknown = sorted(set(profile) - _PROFILE_KEYS)
    if unknown:
        raise UsageError(
            f"Profile {handle!r}: unknown key {unknown[0]!r}. "
            f"Accepted: {', '.join(sorted(_PROFILE_KEYS))}."
        )
    for key, value in profile.items():
        if not isinstance(value, dict if key == "defaults" else str):
            raise UsageError(f"Profile {handle!r}: {key} has the wrong type.")
    return profile


def _read_config(handle: str, path: Path) -> str:
    """The file of profiles as text; a mark of its encoding at its begin is passed over."""
    import stat

    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer would hang
    try:
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(_CONFIG_BYTES + 1) if is_file else b""
    except FileNotFoundError:
        raise UsageError(f"No profile {handle!r}: {path} does not exist.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not is_file:
        raise UsageError(f"{path} cannot be read: it is no plain file.")
    if len(data) > _CONFIG_BYTES:
        raise UsageError(f"{path} cannot be read: it is too large for a file of profiles.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} cannot be read: it is not text in UTF-8.") from None


def read_secret(profile: Mapping[str, Any], env: Mapping[str, str] = os.environ) -> Secret | None:
    """The secret from where the profile says it is; None where the profile does not say.

    Raises CredentialsError when the variable is empty or the command fails.
    """
    if name := profile.get("client_secret_env"):
        if not (secret := read_pasted(name, env.get(name, ""))):
            raise CredentialsError(f"{name} is not set; the profile takes its secret from there.")
        return Secret(secret)
    if command := profile.get("client_secret_command"):
        from copper_cli.subprogram import run_secret_command

        # What is exported may be another partner's; the command has no need of it.
        kept = {name: value for name, value in env.items() if name != "COPPER_CLIENT_SECRET"}
        return Secret(run_secret_command(command, kept))
    return None
