"""What goes wrong on purpose: which requests, how often, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from threading import Lock
from urllib.parse import unquote

KINDS = {
    "status": "answers with `status`; `body` json, text or empty; `retry_after` N or date:N",
    "reset": "the connection is reset before an answer",
    "cut": "the right Content-Length, then only half of the body",
    "cut-chunked": "a chunked answer which ends before its last chunk",
    "hang": "nothing for `seconds`, then the true answer",
    "revoke": "401, and the token which was sent never works again",
    "html": "a page of HTML with status 200",
    "cut-json": "half of the JSON, with a Content-Length that fits it",
    "fewer-rows": "only the first `rows` rows of the true answer",
    "redirect": "302 to `location`, another host",
}
"""Each kind of fault and what it does."""

_EXAMPLE = "write it like status=500,path=/usage,times=2 or kind=reset,path=meter/.*/usage"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong for the requests that match; wrong values raise ValueError."""

    kind: str = "status"
    """A name out of KINDS."""
    path: str = "/api/v2/"
    """A regular expression, searched in `path?query` as it came and with what is
    percent-encoded decoded (but `/ ? # & = + %`): any call unless told; token requests are
    `/oauth/token`."""
    times: int | None = 1
    """How many requests it befalls; None (in text: `always`): every one."""
    skip: int = 0
    """How many matching requests go through first."""
    status: int = 500
    """For `status`: the HTTP status."""
    body: str = "text"
    """For `status`: what the error's body is: json, text or empty."""
    retry_after: int | None = None
    """For `status`: seconds in the Retry-After header; None: no header."""
    retry_after_date: bool = False
    """For `status`: whether Retry-After is written as an HTTP date instead of seconds."""
    seconds: float = 30.0
    """For `hang`: how long nothing comes."""
    rows: int = 1
    """For `fewer-rows`: how many rows are left."""
    location: str = "https://elsewhere.example/"
    """For `redirect`: the address it sends to."""

    def __post_init__(self) -> None:
        _check(self.kind in KINDS, f"no kind {self.kind!r}; there are {', '.join(KINDS)}")
        _check(self.times is None or self.times >= 1, "times is less than 1")
        _check(self.skip >= 0, "skip is less than 0")
        _check(200 <= self.status <= 599, "status is not between 200 and 599")
        _check(self.body in ("json", "text", "empty"), "body is not json, text or empty")
        _check(self.retry_after is None or self.retry_after >= 0, "retry_after is less than 0")
        _check(self.seconds >= 0, "seconds is less than 0")
        _check(self.rows >= 0, "rows is less than 0")
        try:
            re.compile(self.path)
            re.compile(_decode(self.path, re.escape))
        except re.error as error:
            raise ValueError(f"fault: path {self.path!r} is no pattern: {error}") from None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`status=500,path=/usage,times=2,skip=3` → a Fault.

        A comma starts a new setting only before `name=`, so a pattern may hold commas.
        Raises ValueError with one line that says what is wrong and how to write it.
        """
        known = {field.name for field in fields(cls)} - {"retry_after_date"}
        values: dict[str, object] = {}
        for part in re.split(r",(?=\s*[a-z_-]+=)", text):
            name, sign, value = part.partition("=")
            name = name.strip().replace("-", "_")
            if not sign or name not in known:
                raise ValueError(f"fault {text!r}: cannot read {part!r}; {_EXAMPLE}")
            try:
                values.update(_read_setting(name, value.strip()))
            except ValueError:
                raise ValueError(
                    f"fault {text!r}: {name} cannot be {value!r}; {_EXAMPLE}"
                ) from None
        return cls(**values)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Its text: `kind` and `path`, and what else is not the default, as `parse` reads it."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in ("kind", "path") or getattr(self, field.name) != field.default
        }
        if values.pop("retry_after_date", False):
            values["retry_after"] = f"date:{self.retry_after or 0}"
        if self.times is None:
            values["times"] = "always"
        return ",".join(f"{name}={value}" for name, value in values.items())


class FaultBook:
    """The faults still to come, and how often each has been met; safe between threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = Lock()
        self._entries: list[_Entry] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault | str) -> Fault:
        """Adds a fault (or its text) behind those that are there, and gives it back."""
        fault = Fault.parse(fault) if isinstance(fault, str) else fault
        with self._lock:
            self._entries.append(_Entry(fault))
        return fault

    def clear(self) -> None:
        """Forgets every fault."""
        with self._lock:
            self._entries.clear()

    def take(self, target: str) -> Fault | None:
        """The fault that befalls the request to `path?query`, or None; it is used up by one.

        The first that matches and is not used up counts; one that still lets requests through
        (`skip`) counts down and leaves the request to those behind it.
        """
        with self._lock:
            for entry in self._entries:
                if entry.befalls(target):
                    return entry.fault
        return None

    def left(self) -> list[Fault]:
        """The faults which still have requests to befall, in order."""
        with self._lock:
            return [entry.fault for entry in self._entries if not entry.is_spent()]

    def tell_unfired(self) -> list[str]:
        """A line for each fault that befell no request, in order: which, and why not."""
        with self._lock:
            return [
                f"The fault {entry.fault} never fired: {entry.tell_why()}."
                for entry in self._entries
                if entry.met <= entry.fault.skip
            ]


class _Entry:
    """A fault and how many matching requests it has met."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.met = 0
        self.pattern = re.compile(fault.path)
        self.plain = re.compile(_decode(fault.path, re.escape))

    def is_spent(self) -> bool:
        times = self.fault.times
        return times is not None and self.met >= self.fault.skip + times

    def befalls(self, target: str) -> bool:
        if self.is_spent() or not self._matches(target):
            return False
        self.met += 1
        return self.met > self.fault.skip

    def tell_why(self) -> str:
        if not self.met:
            return "no request met it"
        requests = "the one request" if self.met == 1 else f"the {self.met} requests"
        return f"it let {requests} that met it through (skip={self.fault.skip})"

    def _matches(self, target: str) -> bool:
        """A meter id stands raw or encoded in a path, and so it may in a fault's text."""
        return bool(self.pattern.search(target) or self.plain.search(_decode(target)))


def _decode(text: str, write: Callable[[str], str] = str) -> str:
    """A text with `%3A` as `:` and so on, what was decoded written by `write`.

    The characters that part an address stay encoded: an address in a query is no path.
    """

    def read(found: re.Match[str]) -> str:
        decoded = unquote(found[0], errors="replace")
        return "".join(f"%{ord(c):02X}" if c in _PARTING else write(c) for c in decoded)

    return re.sub("(?:%[0-9A-Fa-f]{2})+", read, text)


_PARTING = "/?#&=+%"


def _read_setting(name: str, value: str) -> dict[str, object]:
    """One setting of a fault's text as fields; raises ValueError."""
    if name == "times" and value == "always":
        return {"times": None}
    if name == "retry_after":
        kind, _, seconds = value.rpartition("date:")
        if kind:
            raise ValueError(value)
        return {"retry_after": int(seconds), "retry_after_date": value.startswith("date:")}
    if name in ("times", "skip", "status", "rows"):
        return {name: int(value)}
    return {name: float(value) if name == "seconds" else value}


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(f"fault: {otherwise}")
