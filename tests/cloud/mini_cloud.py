"""A cloud of a few lines: canned answers over real sockets, and a clock that does not wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from copper_cli.config import Limit, Secret, Settings

START_S = 1_700_000_000.0


class FakeClock:
    """Sleeping moves the time; nobody waits."""

    def __init__(self, now_s: float = START_S) -> None:
        self.now_s = now_s
        self.slept: list[float] = []
        self.lock = threading.Lock()

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.slept.append(seconds)
            self.now_s += seconds


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    target: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass
class Said:
    """One answer: `raw` bytes go out as they are and the connection is closed."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    after: Callable[[Any], None] | None = None

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()


class MiniCloud:
    """Answers from a queue a path, then from a default a path; tokens `t1`, `t2` and so on."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.token_asked: list[Asked] = []
        self.queues: dict[str, list[Said]] = {}
        self.defaults: dict[str, Said | Callable[[Asked], Said]] = {}
        self.token_queue: list[Said] = []
        self.accepted: set[str] | None = None
        self.expires_in = 86400
        self.lock = threading.Lock()
        self.url = ""

    def say(self, path: str, *answers: Said | Any, default: Any = None) -> None:
        """Queues answers for a path; a plain value is a 200 with that body."""
        self.queues.setdefault(path, []).extend(
            answer if isinstance(answer, Said) else Said(body=answer) for answer in answers
        )
        if default is not None:
            self.defaults[path] = (
                default if isinstance(default, Said) or callable(default) else Said(body=default)
            )

    def answer(self, asked: Asked) -> Said:
        with self.lock:
            if asked.path == "/oauth/token":
                self.token_asked.append(asked)
                if self.token_queue:
                    return self.token_queue.pop(0)
                return Said(
                    body={
                        "access_token": f"t{len(self.token_asked)}",
                        "token_type": "Bearer",
                        "expires_in": self.expires_in,
                    }
                )
            self.asked.append(asked)
            token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
            if self.accepted is not None and token not in self.accepted:
                return Said(401, {"message": "bad token"})
            if queue := self.queues.get(asked.path):
                return queue.pop(0)
            default = self.defaults.get(asked.path)
        if default is None:
            return Said(404, {"message": "no such path"})
        return default if isinstance(default, Said) else default(asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        asked = Asked(
            self.command,
            parts.path,
            self.path,
            dict(parse_qsl(parts.query)),
            dict(self.headers.items()),
            self.rfile.read(length).decode(),
        )
        said = self.server.cloud.answer(asked)
        if said.raw is not None:
            self.wfile.write(said.raw)
            self.close_connection = True
        else:
            payload = b"" if said.status == 304 else said.payload()
            self.send_response(said.status)
            self.send_header("Content-Type", "application/json")
            if said.status != 304:
                self.send_header("Content-Length", str(len(payload)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)
        if said.after:
            said.after(self)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *args: Any) -> None:
        pass


def serve(cloud: MiniCloud) -> Iterator[MiniCloud]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.cloud = cloud
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_settings(url: str, folder: Path, **changes: Any) -> Settings:
    return Settings(
        **{
            "api_url": url,
            "auth_url": url,
            "client_id": "client-1",
            "client_secret": Secret("s3cret"),
            "enterprise_id": "ent",
            "cache_dir": folder / "cache",
            "quota": (Limit(100, 3600), Limit(1000, 86400)),
            "timeout_s": 5.0,
            "command": "test",
        }
        | changes
    )
