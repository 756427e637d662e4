"""What was asked and answered: a record a request, in memory and as JSON lines; no secrets."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qsl, urlencode

KEPT = 200_000
"""So many records stay in memory, the newest ones."""

SECRET_FIELDS = frozenset(
    {
        "access_token",
        "client_secret",
        "code",
        "code_challenge",
        "code_verifier",
        "refresh_token",
        "state",
        "token",
        "verification_code",
    }
)


@dataclass(frozen=True)
class RequestRecord:
    """One request and what came of it."""

    time: str
    """When it was answered, UTC, by the quota's clock."""
    method: str
    """The HTTP method."""
    path: str
    """The path, percent-decoded."""
    query: str
    """The query as it came; codes and other secrets are stars."""
    status: int | None
    """The HTTP status; None: none was sent."""
    client_id: str | None
    """Whose token or credentials they were; None: nobody's that is known."""
    bytes: int
    """The length of the body as sent."""
    fault: str | None
    """The kind of the fault that befell it; None: none."""


class Journal:
    """The records of a cloud, newest last; safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: deque[RequestRecord] = deque(maxlen=KEPT)
        self._file: TextIOWrapper | None = None
        self.calls = 0
        self.token_calls = 0

    def open_file(self, path: Path) -> None:
        """Appends records to a file from now on; raises OSError."""
        with self._lock:
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def close_file(self) -> None:
        """Leaves the file, if there is one."""
        with self._lock:
            if self._file:
                self._file.close()
            self._file = None

    def add(self, record: RequestRecord, *, is_token: bool) -> None:
        """Notes a request; token requests and logins are counted apart from calls."""
        with self._lock:
            self._records.append(record)
            if is_token:
                self.token_calls += 1
            else:
                self.calls += 1
            if self._file:
                self._file.write(json.dumps(asdict(record)) + "\n")

    def list_records(self) -> list[RequestRecord]:
        """The records, oldest first."""
        with self._lock:
            return list(self._records)

    def clear(self) -> None:
        """Forgets records and counts; what is in the file stays."""
        with self._lock:
            self._records.clear()
            self.calls = self.token_calls = 0


def hide_secrets(query: str) -> str:
    """A query with the values of secret fields replaced by stars."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(name in SECRET_FIELDS for name, _ in pairs):
        return query
    return urlencode([(n, "***" if n in SECRET_FIELDS else v) for n, v in pairs], safe="*")
