"""What an endpoint is asked and what it answers, before HTTP has its say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A call that is let in: who asks, and the query."""

    client_id: str
    """Whose token it is."""
    path: str
    """The path, percent-decoded."""
    query: Mapping[str, str]
    """The query's fields, percent-decoded."""
    now_s: int
    """The cloud's clock, whole UTC seconds."""


@dataclass(frozen=True)
class Answer:
    """Status, body and headers."""

    status: int
    """HTTP status."""
    body: bytes = b""
    """The body, not yet compressed."""
    content_type: str = "application/json"
    """Its type."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Other headers."""


class ApiError(Exception):
    """A refused call: status, sentence, and in which of the real cloud's ways it is said."""

    def __init__(
        self,
        status: int,
        message: str,
        style: str = "json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.answer = answer_error(status, message, style, headers)


class AuthError(Exception):
    """A refused token or login: status, OAuth error word, sentence."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        content = {"error": error, "error_description": description}
        body = json.dumps(content, separators=(",", ":")).encode()
        self.answer = Answer(status, body)


def answer_error(
    status: int, message: str, style: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error as JSON, as plain text or with an empty body: the real cloud has all three."""
    headers = headers or {}
    if style == "json":
        body = json.dumps({"error": message, "statusCode": status}).encode()
        return Answer(status, body, "application/json", headers)
    body = message.encode() if style == "text" else b""
    return Answer(status, body, "text/plain; charset=utf-8", headers)


def answer_json(content: object) -> Answer:
    """200 with JSON."""
    return Answer(200, json.dumps(content, separators=(",", ":")).encode())
