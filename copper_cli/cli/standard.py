"""The process's three standard streams, whatever whoever started it did with them.

What was asked for goes to stdout: where that takes no writing, the program ends with one line
and exit code 7. What is told on the way goes to stderr: where that takes none, it is as if it were
/dev/null. A stream that was closed is opened anew, so that no data file takes its number.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def guard_standard_streams() -> None:
    """Replace what cannot be used by what behaves as said above; to be called once and early."""
    if os.name == "nt":  # pragma: no cover - a console there is no file
        return
    # Each takes the lowest free number: in this order its own.
    _open_where_closed(_STDIN, os.O_RDONLY)
    _open_where_closed(_STDOUT, os.O_RDONLY)  # it must still take no writing
    _open_where_closed(_STDERR, os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _wrap(_Stdout(), sys.stdout)
    sys.stderr = _wrap(_Stderr(), sys.stderr)


def drop_stdout() -> None:
    """Let what is still to be written to stdout vanish: its reader has gone."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_where_closed(number: int, flags: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


class _Stdout(io.FileIO):
    """Raises LocalError for what it cannot write, once; the rest is dropped.

    BrokenPipeError stays what it is: a reader that has read enough is nothing to tell of.
    """

    def __init__(self) -> None:
        super().__init__(_STDOUT, "wb", closefd=False)
        self._failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        if self._failed:
            return size  # at its end Python writes out what is left, and would complain again
        try:
            return _write(super().write, self.fileno(), data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed = True
            from copper_cli.files.reasons import local_errors

            with local_errors(Path("standard output")):
                raise error


class _Stderr(io.FileIO):
    """Drops what it cannot write."""

    def __init__(self) -> None:
        super().__init__(_STDERR, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return _write(super().write, self.fileno(), data)
        except OSError:
            return memoryview(data).nbytes


def _write(write: Callable[[ReadableBuffer], int | None], number: int, data: ReadableBuffer) -> int:
    """Write what can be, after waiting where another program made the stream non-blocking."""
    while (written := write(data)) is None:
        import select

        select.select([], [number], [])
    return written


def _wrap(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """The stream as text, as Python had made it."""
    unbuffered = bool(getattr(before, "write_through", False))
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=getattr(before, "errors", None) or "backslashreplace",
        line_buffering=bool(getattr(before, "line_buffering", False)),
        write_through=unbuffered,
    )
