"""A threaded HTTP/1.1 server on the loopback address, for one WSGI application.

Werkzeug's own server closes the connection after each answer; clients which keep theirs open,
as most do, would be measured and tested wrongly.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOST = "127.0.0.1"
MAX_BODY = 1 << 20


class Server(ThreadingMixIn, TCPServer):
    """Serves an application in background threads until `close`; raises OSError at the bind."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, application: WSGIApplication, port: int) -> None:
        self.application = application
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)
        self._thread = Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def open(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stops, and ends the connections which clients keep open."""
        self.shutdown()
        self.server_close()
        self._thread.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Notes the connection and hands it to a thread."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection that is done."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One connection: request after request until the client has enough."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Nothing: the application keeps the log."""

    def run(self) -> None:
        """Answers one request through the application."""
        body = self._read_body()
        if body is None:
            return
        head: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            head[:] = [status, headers]

        try:
            chunks = self.server.application(self._make_environ(body), start_response)
            content = b"".join(chunks)
        except ConnectionResetError:
            self._reset()
            return
        self._send(head[0], head[1], content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = run  # noqa: N815

    def _read_body(self) -> bytes | None:
        """The request's body; None when it was refused."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send_error(411)
        elif int(length) > MAX_BODY:
            self.send_error(413)
        else:
            return self.rfile.read(int(length))
        self.close_connection = True
        return None

    def _make_environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": self.path,
            "SERVER_NAME": HOST,
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            environ.setdefault("HTTP_" + name.upper().replace("-", "_"), value)
        return environ

    def _send(self, status: str, headers: list[tuple[str, str]], content: bytes) -> None:
        """Sends the answer; one that is shorter than it says ends the connection."""
        self.send_response(int(status[:3]))
        for name, value in headers:
            self.send_header(name, value)
            if name.lower() == "content-length" and self.command != "HEAD":
                self.close_connection |= int(value) != len(content)
            self.close_connection |= name.lower() == "transfer-encoding"
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        """Ends the connection with a TCP reset instead of a farewell."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
