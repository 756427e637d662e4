"""The answer of the token endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from copper_cli.cloud.parse.values import to_number, to_text


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token endpoint answered."""

    value: str
    """The access token."""
    lifetime_s: float | None
    """How long it lasts; None where the answer does not say."""
    refresh: str | None
    """A refresh token, if there is one."""

    def __repr__(self) -> str:
        return "TokenAnswer(***)"


def parse_token(body: object) -> TokenAnswer | None:
    """The token in an answer; None where there is none that could go into a header."""
    if not isinstance(body, dict):
        return None
    value = body.get("access_token")
    if not isinstance(value, str) or not value or not all("!" <= sign <= "~" for sign in value):
        return None
    lifetime_s = body.get("expires_in")
    if isinstance(lifetime_s, str) and lifetime_s.isascii() and lifetime_s.isdigit():
        lifetime_s = int(lifetime_s[:12])
    lifetime_s = to_number(lifetime_s)
    if lifetime_s is not None and lifetime_s <= 0:
        lifetime_s = None
    return TokenAnswer(value, lifetime_s, to_text(body.get("refresh_token")) or None)
