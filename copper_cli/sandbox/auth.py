"""Tokens: every grant and the refresh, as the real cloud's Auth0 tenant gives them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from threading import Lock
from typing import Literal

from copper_cli.sandbox.answers import AuthError
from copper_cli.sandbox.clients import PUBLIC_CLIENTS, PublicClient
from copper_cli.sandbox.config import AUDIENCE, SandboxConfig
from copper_cli.sandbox.signing import Signer, make_challenge

CODE_TTL_S = 600
"""How long a code of a login can be exchanged."""

ONE_CALL_GRANT = "http://auth0.com/oauth/grant-type/passwordless/otp"

Api = Literal["partner", "app"]


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
    """A login: who, through which client, for what. Its refresh tokens live and die together."""

    client: PublicClient
    """The client it was begun with."""
    email: str
    """Who logged in."""
    scope: str
    """What was asked for; with `offline_access` a refresh token is given."""
    challenge: str
    """The S256 challenge, to be met by the verifier."""
    expires_s: float
    """Until when its code can be exchanged, UTC seconds."""

    @property
    def scopes(self) -> list[str]:
        """The words of the scope."""
        return self.scope.split()


class TokenDesk:
    """Gives, checks and revokes tokens; nothing of it is written anywhere. Safe between threads."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._signer = Signer()
        self._lock = Lock()
        self._grants: dict[str, Grant] = {}
        self._logins: dict[str, Login] = {}
        self._refresh: dict[str, _Family] = {}

    def check(self, token: str, now_s: float) -> Grant | None:
        """What a token allows; None: unknown, revoked or expired."""
        with self._lock:
            grant = self._grants.get(token)
        return grant if grant and now_s < grant.expires_s else None

    def revoke(self, token: str) -> None:
        """Makes a token worthless."""
        with self._lock:
            self._grants.pop(token, None)

    def log_in(self, query: Mapping[str, str], email: str, now_s: float) -> str:
        """The code of a new login, for a query that `check_login` has let through."""
        code = secrets.token_urlsafe(32)
        login = Login(
            client=PUBLIC_CLIENTS[query["client_id"]],
            email=email,
            scope=query["scope"],
            challenge=query["code_challenge"],
            expires_s=now_s + CODE_TTL_S,
        )
        with self._lock:
            self._logins[code] = login
        return code

    def exchange(self, fields: Mapping[str, str], issuer: str, now_s: float) -> dict[str, object]:
        """The answer of `POST /oauth/token`; `issuer` is this cloud's address. Raises AuthError."""
        grant_type = fields.get("grant_type", "")
        if grant_type == ONE_CALL_GRANT:
            refusal = f"Grant type '{grant_type}' not allowed for the client."
            raise AuthError(403, "unauthorized_client", refusal)
        exchanges = {
            "client_credentials": self._exchange_secret,
            "authorization_code": self._exchange_code,
            "refresh_token": self._exchange_refresh,
        }
        if grant_type not in exchanges:
            raise AuthError(403, "unsupported_grant_type", f"Unsupported grant type: {grant_type}")
        return exchanges[grant_type](fields, _Stamp(issuer, now_s, self._config.token_ttl))

    def _exchange_secret(self, fields: Mapping[str, str], stamp: _Stamp) -> dict[str, object]:
        config = self._config
        known = fields.get("client_id") == config.client_id
        if not known or not _is_same(fields.get("client_secret", ""), config.client_secret):
            raise AuthError(401, "access_denied", "Unauthorized")
        if fields.get("audience") != AUDIENCE:
            raise AuthError(403, "access_denied", f"audience must be {AUDIENCE}")
        claims = {
            "sub": f"{config.client_id}@clients",
            "aud": AUDIENCE,
            "azp": config.client_id,
            "gty": "client-credentials",
            "scope": "partner",
        }
        return self._issue("partner", stamp, claims)

    def _exchange_code(self, fields: Mapping[str, str], stamp: _Stamp) -> dict[str, object]:
        client = _find_client(fields)
        with self._lock:
            login = self._logins.pop(fields.get("code", ""), None)
        if login is None or login.client is not client or stamp.now_s >= login.expires_s:
            raise AuthError(403, "invalid_grant", "Invalid authorization code")
        if fields.get("redirect_uri") != client.redirect_uri:
            raise AuthError(403, "invalid_grant", "redirect_uri is not that of the login")
        if not _is_same(make_challenge(fields.get("code_verifier", "")), login.challenge):
            raise AuthError(403, "invalid_grant", "Failed to verify code verifier")
        answer = self._issue_to(login, stamp)
        if "offline_access" in login.scopes:
            answer["refresh_token"] = self._issue_refresh(_Family(login))
        return answer

    def _exchange_refresh(self, fields: Mapping[str, str], stamp: _Stamp) -> dict[str, object]:
        client = _find_client(fields)
        token = fields.get("refresh_token", "")
        rotate = "rotate-refresh-token" in self._config.quirks
        with self._lock:
            family = self._refresh.get(token)
            if family is None or family.login.client is not client:
                raise AuthError(403, "invalid_grant", _BAD_REFRESH)
            # who sends a token that was replaced may have stolen it: none of the login is good
            family.revoked |= token in family.replaced
            if family.revoked:
                raise AuthError(403, "invalid_grant", _BAD_REFRESH)
            if rotate:
                family.replaced.add(token)
        answer = self._issue_to(family.login, stamp)
        if rotate:
            answer["refresh_token"] = self._issue_refresh(family)
        return answer

    def _issue_to(self, login: Login, stamp: _Stamp) -> dict[str, object]:
        """The tokens of a login; for the scope `openid` there is an `id_token` among them."""
        subject = f"email|{blake2b(login.email.encode(), digest_size=12).hexdigest()}"
        client_id, named = login.client.id, "openid" in login.scopes
        # Auth0 names its own /userinfo as well where openid was asked for
        audience = [AUDIENCE, f"{stamp.issuer}userinfo"] if named else AUDIENCE
        claims = {"sub": subject, "aud": audience, "azp": client_id, "scope": login.scope}
        answer = self._issue("app", stamp, claims)
        if named:
            who: dict[str, object] = {"sub": subject, "aud": client_id}
            if "email" in login.scopes:
                who |= {"email": login.email, "email_verified": True}
            if "profile" in login.scopes:
                who |= {"name": login.email, "nickname": login.email.partition("@")[0]}
            answer["id_token"] = self._signer.sign({**stamp.claims(), **who})
        return answer

    def _issue(self, api: Api, stamp: _Stamp, claims: Mapping[str, object]) -> dict[str, object]:
        token = self._signer.sign({**stamp.claims(), **claims})
        grant = Grant(str(claims["azp"]), api, stamp.now_s + stamp.ttl)
        with self._lock:
            self._grants[token] = grant
        return {
            "access_token": token,
            "expires_in": stamp.ttl,
            "scope": claims["scope"],
            "token_type": "Bearer",
        }

    def _issue_refresh(self, family: _Family) -> str:
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._refresh[token] = family
        return token


@dataclass(frozen=True)
class _Stamp:
    """What every token of one exchange bears: where it comes from, since when, how long."""

    issuer: str
    now_s: float
    ttl: int

    def claims(self) -> dict[str, object]:
        """The claims, times in whole UTC seconds."""
        return {"iss": self.issuer, "iat": int(self.now_s), "exp": int(self.now_s) + self.ttl}


class _Family:
    """The refresh tokens of one login."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.replaced: set[str] = set()
        self.revoked = False


_BAD_REFRESH = "Unknown or invalid refresh token."


def check_login(query: Mapping[str, str]) -> PublicClient:
    """The client of a login's query, whose every field is right; raises AuthError otherwise."""
    client = PUBLIC_CLIENTS.get(query.get("client_id", ""))
    if client is None:
        raise AuthError(400, "invalid_request", f"Unknown client: {query.get('client_id', '')}")
    wanted = {
        "response_type": "code",
        "code_challenge_method": "S256",
        "redirect_uri": client.redirect_uri,
    }
    if client.names_audience or "audience" in query:
        wanted["audience"] = AUDIENCE
    for name, value in wanted.items():
        if query.get(name) != value:
            raise AuthError(400, "invalid_request", f"{name} must be {value}")
    if len(query.get("code_challenge", "")) != 43:
        raise AuthError(400, "invalid_request", "code_challenge must be an S256 challenge")
    if client.scope not in query.get("scope", "").split():
        raise AuthError(400, "invalid_scope", f"scope must name {client.scope}")
    return client


def _find_client(fields: Mapping[str, str]) -> PublicClient:
    client = PUBLIC_CLIENTS.get(fields.get("client_id", ""))
    if client is None:
        raise AuthError(401, "invalid_client", "Unknown client")
    return client


def _is_same(one: str, other: str) -> bool:
    return compare_digest(one.encode(), other.encode())
