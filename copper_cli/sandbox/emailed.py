"""Logins by emailed code: codes sent, tried and used up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from copper_cli.sandbox.answers import AuthError
from copper_cli.sandbox.clients import PUBLIC_CLIENTS

CODE = "123456"
"""The code of every email."""

EMAIL_TTL_S = 180
"""How long an emailed code is good for (Auth0's default)."""

TRIES = 3
"""After so many wrong codes the right one is worth nothing either (Auth0's rule)."""


@dataclass(frozen=True)
class SentCode:
    """A code that was sent and not yet used."""

    expires_s: float
    """Until when it is good, UTC seconds."""
    failures: int = 0
    """How many wrong codes came for it."""


class Postbox:
    """Sends codes and knows those which are still good; safe between threads."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = Lock()
        self._sent: dict[str, SentCode] = {}

    def send(self, fields: Mapping[str, str], now_s: float) -> str:
        """Sends a code for the fields of `POST /passwordless/start`; gives the address.

        "Sends" means a line through `tell`. A code sent before is worth nothing from then on.
        Raises AuthError.
        """
        check_emailed_client(fields)
        _check_connection(fields)
        if fields.get("send") != "code":
            raise AuthError(400, "bad.send", "send must be code: links are not sent here")
        email = _read_email(fields)
        with self._lock:
            self._sent[email] = SentCode(now_s + EMAIL_TTL_S)
        self._tell(f"The code for {email} is {CODE}.")
        return email

    def verify(self, fields: Mapping[str, str], now_s: float, *, use_up: bool) -> str:
        """The address whose code it is; `use_up` makes the code worthless. Raises AuthError."""
        _check_connection(fields)
        email = _read_email(fields)
        with self._lock:
            sent = self._sent.pop(email, None)
            if sent is None or now_s >= sent.expires_s:
                raise AuthError(403, "access_denied", _WRONG)
            if fields.get("verification_code") != CODE:
                if sent.failures + 1 < TRIES:
                    self._sent[email] = replace(sent, failures=sent.failures + 1)
                raise AuthError(403, "access_denied", _WRONG)
            if not use_up:
                self._sent[email] = sent
        return email


_WRONG = "Wrong email or verification code."


def check_emailed_client(fields: Mapping[str, str]) -> None:
    """Refuses who may not log in by an emailed code, with AuthError."""
    client = PUBLIC_CLIENTS.get(fields.get("client_id", ""))
    if client is None or not client.emailed:
        raise AuthError(403, "unauthorized_client", "The client may not log in by emailed code.")


def _check_connection(fields: Mapping[str, str]) -> None:
    if fields.get("connection") != "email":
        raise AuthError(400, "bad.connection", "Connection does not exist")


def _read_email(fields: Mapping[str, str]) -> str:
    email = fields.get("email", "").strip().lower()
    if not re.fullmatch(r"[!-?A-~]{1,64}@[!-?A-~]{1,255}", email):
        raise AuthError(400, "bad.email", "error in email - email format validation failed")
    return email
