"""A request on its way through the cloud."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug import Request

from copper_cli.sandbox.faults import Fault


@dataclass
class Exchange:
    """A request, and what is known of it so far."""

    request: Request
    """The request."""
    client_id: str | None = None
    """Whose it is, once known."""
    fault: Fault | None = None
    """The fault that befalls it."""
    is_token: bool = False
    """Whether it is a token request or a login, not a call."""

    @property
    def target(self) -> str:
        """`path?query` as it came: what a fault's pattern is searched in."""
        environ = self.request.environ
        raw = environ.get("REQUEST_URI") or self.request.full_path.rstrip("?")
        return str(raw)
