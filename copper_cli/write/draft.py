"""What came of a meter that could not be finished, kept beside the files for the next run.

A meter that needs many calls may meet the end of the quota or a fault half way. What its calls
brought waits in a hidden file; the file people use appears only when it is whole.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from copper_cli.records import Series, SeriesKind
from copper_cli.write.files import local_errors, write_whole

_Key = tuple[SeriesKind, int]


class Draft:
    """The answers of one file's calls, each with the span it was asked for.

    `question` tells whether an earlier run's answers are to the same question: any JSON value.
    """

    def __init__(self, file: Path, question: Any) -> None:
        self.path = file.with_name(f".{file.name}.draft")
        self._question = json.loads(json.dumps(question))
        self._answers: dict[_Key, tuple[int, Series]] = {}
        self._added = False
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            self._read()

    def find(self, kind: SeriesKind, start_s: int) -> tuple[int, Series] | None:
        """The answer to a call that began at an instant, with the instant it reached."""
        return self._answers.get((kind, start_s))

    def add(self, kind: SeriesKind, start_s: int, end_s: int, answer: Series) -> None:
        """Note the answer to a call from one instant to another."""
        self._answers[kind, start_s] = (end_s, answer)
        self._added = True

    def save(self) -> None:
        """Keep the answers for the next run; nothing where none came. Raises LocalError."""
        if not self._added:
            return
        answers = [
            {"kind": kind, "start_s": start_s, "end_s": end_s, "series": asdict(series)}
            for (kind, start_s), (end_s, series) in self._answers.items()
        ]
        write_whole(self.path, [json.dumps({"question": self._question, "answers": answers})])

    def discard(self) -> None:
        """The file is whole: nothing is left to remember. Raises LocalError."""
        with local_errors(self.path, "removed"):
            self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        found = json.loads(self.path.read_text(encoding="utf-8"))
        if found["question"] == self._question:
            self._answers = {
                (one["kind"], one["start_s"]): (one["end_s"], Series(**one["series"]))
                for one in found["answers"]
            }
