"""JSON web tokens, signed with a key that nobody has."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping


class Signer:
    """Signs tokens with a random key of its own (HS256)."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sign(self, claims: Mapping[str, object]) -> str:
        """`header.payload.signature`, each part base64url without padding; no two are alike."""
        header = {"alg": "HS256", "typ": "JWT"}
        payload = {**claims, "jti": secrets.token_urlsafe(16)}
        signed = f"{_encode_json(header)}.{_encode_json(payload)}"
        return f"{signed}.{encode(hmac.digest(self._key, signed.encode(), 'sha256'))}"


def make_challenge(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636)."""
    return encode(hashlib.sha256(verifier.encode()).digest())


def encode(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _encode_json(content: Mapping[str, object]) -> str:
    return encode(json.dumps(content, separators=(",", ":")).encode())
