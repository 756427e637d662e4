"""How much one answer may be and how long it may take, from its status line to its last byte.

A timeout on a socket bounds each silence, not the whole: a server that sends a header of a byte
a second, one `100 Continue` after another or a body without end is never silent. Here each read
of a socket is counted and timed, under everything that makes sense of it.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from copper_cli.config import size_text
from copper_cli.errors import CloudError

MIB = 1 << 20
MAX_HEAD_BYTES = MIB
"""Status lines and headers, those of a proxy and of `100 Continue` included."""
ENCODINGS = "gzip, deflate"
"""What is asked for; an answer in another encoding is not read."""
_STEP = 1 << 16
"""So much is read, and made of it, at once."""


class ReadingError(Exception):
    """The body could not be read to its end; a clause says why (`cut its answer short`)."""


class Bound:
    """What one try may receive and how long it may take."""

    def __init__(self, host: str, timeout_s: float, timeouts: float, max_bytes: int) -> None:
        """So many `timeouts` in all, and a second more for each MiB that has come."""
        self.max_bytes = max_bytes
        self._host = host
        self._ends_s = time.monotonic() + timeout_s * timeouts
        self._timeout_s = timeout_s
        self._received = 0
        self._most = MAX_HEAD_BYTES

    def wait_s(self) -> float:
        """How long the next bytes may take; TimeoutError where the time is up."""
        left_s = self._ends_s + self._received / MIB - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        return min(self._timeout_s, left_s)

    def is_over(self) -> bool:
        """True where the time is up."""
        return self._ends_s + self._received / MIB <= time.monotonic()

    def expect_body(self) -> None:
        """The head is read. What follows may be as long as the text, compressed or not."""
        self._most = self.max_bytes + MAX_HEAD_BYTES

    def count(self, received: int) -> None:
        """So many bytes more have come. Raises CloudError where that is too many."""
        self._received += received
        if self._received > self._most:
            raise self.head_error() if self._most == MAX_HEAD_BYTES else self.size_error()

    def head_error(self) -> CloudError:
        """The headers have no end."""
        return CloudError(f"{self._host} sent more headers than any answer has.")

    def size_error(self) -> CloudError:
        """The body is over its bound."""
        return CloudError(
            f"{self._host} sent an answer of more than {size_text(self.max_bytes)}, "
            "which is not read; COPPER_MAX_ANSWER sets another bound."
        )

    def encoding_error(self, name: str) -> CloudError:
        """Nobody asked for this encoding."""
        return CloudError(
            f"{self._host} sent its answer in an encoding that was not asked for ({name[:40]!r})."
        )


current_bound: ContextVar[Bound] = ContextVar("current_bound")
"""Of the try that this thread is at."""


class _BoundedReader(io.RawIOBase):
    """A socket's bytes as they come, counted and timed."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, bound: Bound) -> None:
        super().__init__()
        self._raw, self._sock, self._bound = raw, sock, bound

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._bound.wait_s())
        received = self._raw.readinto(buffer)
        self._bound.count(received or 0)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """Also what a proxy answers to CONNECT."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = cast(Any, self.fp).detach()
        self.fp = io.BufferedReader(_BoundedReader(raw, sock, current_bound.get()))


class _BoundedHTTPConnection(HTTPConnection):
    response_class = _BoundedResponse


class _BoundedHTTPSConnection(HTTPSConnection):
    response_class = _BoundedResponse

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException):
            self.close()  # a closed one has reached no further than the proxy: urllib3 says so
            raise


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _BoundedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedHTTPSConnection


POOLS: dict[str, Any] = {"http": _HTTPPool, "https": _HTTPSPool}
"""By scheme; whoever uses their connections sets `current_bound`."""


def read_body(raw: urllib3.response.BaseHTTPResponse, bound: Bound, most: int) -> bytes:
    """The body, decompressed; what is over `most` bytes is not read.

    Raises TimeoutError, ReadingError, CloudError for an encoding nobody asked for, and what
    urllib3 raises.
    """
    bound.expect_body()
    pieces: list[bytes] = []
    size = 0
    # read1 comes back with what is there; read would wait for a full piece however slow.
    wire = iter(lambda: raw.read1(_STEP, decode_content=False), b"")
    for piece in _decode(wire, _encoding(raw, bound)):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            break
        bound.wait_s()
    return b"".join(pieces)


def _encoding(raw: urllib3.response.BaseHTTPResponse, bound: Bound) -> str:
    """`gzip`, `deflate` or nothing."""
    said = raw.headers.get("Content-Encoding", "")
    names = [name.strip().lower() for name in said.split(",")]
    found = [name for name in names if name not in ("", "identity")]
    if not found:
        return ""
    if found[0] in ("gzip", "x-gzip", "deflate") and len(found) == 1:
        return found[0].removeprefix("x-")
    raise bound.encoding_error(said)


def _decode(wire: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    if not encoding:
        yield from wire
        return
    inflater = _Inflater(encoding)
    try:
        for piece in wire:
            yield from inflater.pieces(piece)
    except zlib.error:
        raise ReadingError(f"sent what is no {encoding}") from None
    if not inflater.is_whole():
        raise ReadingError("cut its answer short")


class _Inflater:
    """Decompresses piece by piece, a bounded one at a time: a byte may stand for a thousand."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding == "gzip"
        self._engine: Any = None
        self._head = b""

    def is_whole(self) -> bool:
        """True where the last stream has ended, or none began."""
        return not self._head if self._engine is None else bool(self._engine.eof)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the data stands for. Raises zlib.error."""
        while data:
            if self._engine is None:
                data, self._head = self._head + data, b""
                if len(data) < 2:
                    self._head = data
                    return
                self._engine = zlib.decompressobj(self._window(data))
            elif self._engine.eof:
                if not (self._is_gzip and data.startswith(b"\x1f")):
                    return  # padding after the end
                self._engine = None
                continue
            yield from self._inflate(data)
            data = self._engine.unused_data

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._engine.decompress(data, _STEP)
            data = self._engine.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < _STEP:
                return

    def _window(self, data: bytes) -> int:
        if self._is_gzip:
            return 16 + zlib.MAX_WBITS
        # Some servers send deflate without the header that RFC 9110 wants around it.
        has_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
