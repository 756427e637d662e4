"""Answers set down on disk as they come, and read back one at a time.

An append-only file: a line that tells whose answers they are, then for each a line with lengths
and checksum, what is known of it, and its body, both JSON. A run that is killed leaves at most its
last answer torn; what stands before it is good.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from copper_cli.files.opening import open_own
from copper_cli.files.reasons import local_errors

Head = Mapping[str, Any]
"""What is known of an answer without reading it; any JSON object."""
Place = tuple[int, int]
"""Where a body lies: from which byte on, and how many."""

_FORMAT = "copper-draft 1"


class Spool:
    """One such file. It is made at the first answer; one thread at a time writes it.

    `question` tells whether an earlier run's answers are to the same question: any JSON value.
    """

    def __init__(self, path: Path, question: Any) -> None:
        self.path = path
        self._first = json.dumps([_FORMAT, question]).encode() + b"\n"
        self._end = 0

    def earlier(self) -> Iterator[tuple[Head, Place]]:
        """What an earlier run left to the same question, in its order; to be read to its end."""
        with suppress(OSError), open_own(self.path) as stream:
            if stream.readline() == self._first:
                self._end = stream.tell()
                for head, place in self._scan(stream):
                    self._end = sum(place) + 1
                    yield head, place

    def cut(self, place: Place | None) -> None:
        """Forget what an earlier run left behind this place; all of it where there is none."""
        if self._end:
            self._end = len(self._first) if place is None else sum(place) + 1

    def append(self, answers: Iterable[tuple[Head, Any]]) -> list[Place]:
        """Set answers down, a head and a body each; where the bodies lie. Raises LocalError."""
        places = []
        with local_errors(self.path), self._open() as stream:
            for head, body in answers:
                about, data = json.dumps(head).encode(), json.dumps(body).encode()
                check = zlib.crc32(data, zlib.crc32(about))
                stream.write(b"%d %d %d\n" % (len(about), len(data), check) + about)
                places.append((stream.tell(), len(data)))
                stream.write(data + b"\n")
            stream.flush()
            self._end = stream.tell()
        return places

    def read(self, place: Place) -> Any:
        """The body at a place. Raises LocalError."""
        offset, length = place
        with local_errors(self.path, "read"), open_own(self.path) as stream:
            stream.seek(offset)
            return json.loads(stream.read(length))

    def _open(self) -> BinaryIO:
        """The file at its end; a torn answer there is cut off, other questions' are gone."""
        stream: BinaryIO = open_own(self.path, "r+b" if self._end else "wb")
        if not self._end:
            stream.write(self._first)
            return stream
        stream.seek(self._end)
        stream.truncate()
        return stream

    @staticmethod
    def _scan(stream: BinaryIO) -> Iterator[tuple[Head, Place]]:
        """The answers up to the first that is not whole."""
        size = os.fstat(stream.fileno()).st_size
        with suppress(ValueError):
            while line := stream.readline():
                before, length, check = map(int, line.split())
                if not (0 <= before <= size and 0 <= length <= size):
                    return
                about, place = stream.read(before), (stream.tell(), length)
                body = stream.read(length + 1)
                if body[-1:] != b"\n" or zlib.crc32(body[:-1], zlib.crc32(about)) != check:
                    return
                yield json.loads(about), place
