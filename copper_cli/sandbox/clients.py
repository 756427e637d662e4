"""The public clients which log an individual in, each with its own scope and redirect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublicClient:
    """A client without a secret: what it is known for, and how it may log in."""

    id: str
    """Its client id."""
    redirect_uri: str
    """The only address a login of it is sent to."""
    scope: str
    """What a login must ask for, at least."""
    names_audience: bool
    """Whether a login must name the audience (where it may be left out, it is the same)."""
    emailed: bool
    """Whether it may log in by an emailed code."""


BROWSER_CLIENT = PublicClient(
    id="RvXeGVUtzcz9iWnP4QJFwnVwCHVUoMIA",
    redirect_uri="https://api.copperlabs.com/api/v2/app",
    scope="app",
    names_audience=True,
    emailed=False,
)
"""The vendor's script: a browser, and a code out of its address bar."""

PHONE_CLIENT = PublicClient(
    id="l8aJ85JrIRq44CWDEcAlHLqR5wUl8Hjh",
    redirect_uri=(
        "com.copperlabs.copper.rn://auth.copperlabs.com/ios/com.copperlabs.copper.rn/callback"
    ),
    scope="openid",
    names_audience=False,
    emailed=True,
)
"""The vendor's telephone app, and those who log in as it does: an emailed code, no browser."""

PUBLIC_CLIENTS = {client.id: client for client in (BROWSER_CLIENT, PHONE_CLIENT)}
"""Each public client by its id."""
