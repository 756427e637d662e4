"""Tokens: both grants and the refresh, as the real cloud's Auth0 tenant gives them."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from threading import Lock
from typing import Literal

from copper_cli.sandbox.config import APP_CLIENT_ID, APP_REDIRECT_URI, AUDIENCE, SandboxConfig

CODE_TTL_S = 600

Api = Literal["partner", "app"]


class AuthError(Exception):
    """A refused token or login: status, OAuth error word, sentence."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error


@dataclass(frozen=True)
class Grant:
    """What an access token allows."""

    client_id: str
    """Whose calls it makes: the quota is this one's."""
    api: Api
    """The half of the API it opens."""
    expires_s: float
    """Until when, UTC seconds of the cloud's clock."""


@dataclass(frozen=True)
class Login:
    """A login that waits for its code to be exchanged."""

    challenge: str
    """The S256 challenge, to be met by the verifier."""
    scope: str
    """What was asked for; with `offline_access` a refresh token is given."""
    expires_s: float
    """Until when the code can be exchanged, UTC seconds."""


class TokenDesk:
    """Gives, checks and revokes tokens; nothing of it is written anywhere. Safe between threads."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._lock = Lock()
        self._grants: dict[str, Grant] = {}
        self._logins: dict[str, Login] = {}
        self._refresh: dict[str, str] = {}

    def check(self, token: str, now_s: float) -> Grant | None:
        """What a token allows; None: unknown, revoked or expired."""
        with self._lock:
            grant = self._grants.get(token)
        return grant if grant and now_s < grant.expires_s else None

    def revoke(self, token: str) -> None:
        """Makes a token worthless."""
        with self._lock:
            self._grants.pop(token, None)

    def authorize(self, query: Mapping[str, str], now_s: float) -> str:
        """The code of a new login, for the query of `GET /authorize`; raises AuthError."""
        wanted = {
            "response_type": "code",
            "client_id": APP_CLIENT_ID,
            "code_challenge_method": "S256",
            "redirect_uri": APP_REDIRECT_URI,
            "audience": AUDIENCE,
        }
        for name, value in wanted.items():
            if query.get(name) != value:
                raise AuthError(400, "invalid_request", f"{name} must be {value}")
        if len(query.get("code_challenge", "")) != 43:
            raise AuthError(400, "invalid_request", "code_challenge must be an S256 challenge")
        scope = query.get("scope", "")
        if "app" not in scope.split():
            raise AuthError(400, "invalid_scope", "scope must name app")
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._logins[code] = Login(query["code_challenge"], scope, now_s + CODE_TTL_S)
        return code

    def exchange(self, fields: Mapping[str, str], now_s: float) -> dict[str, object]:
        """The answer of `POST /oauth/token`; raises AuthError."""
        grant_type = fields.get("grant_type", "")
        exchanges = {
            "client_credentials": self._exchange_secret,
            "authorization_code": self._exchange_code,
            "refresh_token": self._exchange_refresh,
        }
        if grant_type not in exchanges:
            raise AuthError(403, "unsupported_grant_type", f"Unsupported grant type: {grant_type}")
        return exchanges[grant_type](fields, now_s)

    def _exchange_secret(self, fields: Mapping[str, str], now_s: float) -> dict[str, object]:
        config = self._config
        known = fields.get("client_id") == config.client_id
        if not known or not _is_same(fields.get("client_secret", ""), config.client_secret):
            raise AuthError(401, "access_denied", "Unauthorized")
        if fields.get("audience") != AUDIENCE:
            raise AuthError(403, "access_denied", f"audience must be {AUDIENCE}")
        return self._issue(config.client_id, "partner", "partner", now_s)

    def _exchange_code(self, fields: Mapping[str, str], now_s: float) -> dict[str, object]:
        self._check_app_client(fields)
        with self._lock:
            login = self._logins.pop(fields.get("code", ""), None)
        if login is None or now_s >= login.expires_s:
            raise AuthError(403, "invalid_grant", "Invalid authorization code")
        if fields.get("redirect_uri") != APP_REDIRECT_URI:
            raise AuthError(403, "invalid_grant", "redirect_uri is not that of the login")
        if not _is_same(make_challenge(fields.get("code_verifier", "")), login.challenge):
            raise AuthError(403, "invalid_grant", "Failed to verify code verifier")
        answer = self._issue(APP_CLIENT_ID, "app", login.scope, now_s)
        if "offline_access" in login.scope.split():
            answer["refresh_token"] = self._issue_refresh(login.scope)
        return answer

    def _exchange_refresh(self, fields: Mapping[str, str], now_s: float) -> dict[str, object]:
        self._check_app_client(fields)
        token = fields.get("refresh_token", "")
        rotate = "rotate-refresh-token" in self._config.quirks
        with self._lock:
            scope = self._refresh.pop(token, None) if rotate else self._refresh.get(token)
        if scope is None:
            raise AuthError(403, "invalid_grant", "Unknown or invalid refresh token.")
        answer = self._issue(APP_CLIENT_ID, "app", scope, now_s)
        if rotate:
            answer["refresh_token"] = self._issue_refresh(scope)
        return answer

    def _check_app_client(self, fields: Mapping[str, str]) -> None:
        if fields.get("client_id") != APP_CLIENT_ID:
            raise AuthError(401, "invalid_client", "Unknown client")

    def _issue(self, client_id: str, api: Api, scope: str, now_s: float) -> dict[str, object]:
        token, ttl = secrets.token_urlsafe(32), self._config.token_ttl
        with self._lock:
            self._grants[token] = Grant(client_id, api, now_s + ttl)
        return {
            "access_token": token,
            "expires_in": ttl,
            "scope": scope,
            "token_type": "Bearer",
        }

    def _issue_refresh(self, scope: str) -> str:
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._refresh[token] = scope
        return token


def make_challenge(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_same(one: str, other: str) -> bool:
    return compare_digest(one.encode(), other.encode())
