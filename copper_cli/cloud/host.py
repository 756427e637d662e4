"""The API host that something was counted at or learned from."""

from __future__ import annotations

from urllib.parse import urlsplit

from copper_cli.config import is_loopback


def host_of(url: str) -> str:
    """Host and port of an address, one text for all ways to write them.

    What is counted or learned belongs to the host that answers, so this machine's own names are
    one, and a path is left out.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = "127.0.0.1" if is_loopback(host) else f"[{host}]" if ":" in host else host
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return host if port == 443 else f"{host}:{port}"
