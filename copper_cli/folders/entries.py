"""What a manifest says, as values and as JSON: questions and the entries that answer them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

from copper_cli.errors import LocalError
from copper_cli.files.opening import open_plain
from copper_cli.files.reasons import local_errors
from copper_cli.filling import FINAL_S, Gap, Unfilled, count_unfilled, is_due
from copper_cli.records import Window
from copper_cli.text import clean

State = Literal["fetched", "to come", "late", "empty", "failed"]

MANIFEST_NAME = "manifest.json"
FORMAT = "copper-manifest"
VERSION = 2
DAMAGES = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What parsing raises where the JSON is not of ours."""
_STATES = frozenset(get_args(State))
_SCALARS = itemgetter("command", "start", "end", "granularity", "timezone", "layout")


@dataclass(frozen=True, slots=True)
class Question:
    """What a file answers. Two runs that ask the same are equal, whatever they get."""

    command: str
    """`meter usage`."""
    start: str
    """START as typed, YYYY-MM-DD; empty for a command without one."""
    end: str
    """END as typed."""
    granularity: str | None = None
    """`hour` and so on; None where there are no buckets."""
    timezone: str | None = None
    """The zone asked for; None (or `local`): each meter's own."""
    layout: str | None = None
    """Layout of the file; None where there is only one."""
    extras: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Whatever else changes the content, as JSON values (`baseline`: True)."""

    def __post_init__(self) -> None:
        # Own copy, in the form in which it comes back from the manifest: they must be equal.
        extras = json.loads(json.dumps(dict(self.extras))) if self.extras else {}
        object.__setattr__(self, "extras", extras)

    def describe(self) -> str:
        """`meter usage 2020-12-22 to 2021-01-12 (hour)`."""
        text = self.command
        if self.start or self.end:
            text += f" {self.describe_range()}"
        if self.granularity:
            text += f" ({self.granularity})"
        return clean(text)

    def describe_range(self) -> str:
        """`2020-12-22 to 2021-01-12`."""
        return clean(f"{self.start} to {self.end}")

    def is_same_kind(self, other: Question) -> bool:
        """True where the two differ in their range at most."""
        return replace(self, start=other.start, end=other.end) == other

    def describe_difference(self, other: Question) -> str:
        """How it differs beyond `describe`: `layout plain, not rows`; empty where it does not."""
        mine, theirs = self._details(), other._details()
        return clean(
            ", ".join(
                _describe_change(name, mine.get(name), theirs.get(name))
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            )
        )

    def _details(self) -> dict[str, Any]:
        return {**self.extras, "timezone": self.timezone, "layout": self.layout}


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one file name."""

    question: Question
    """What was asked."""
    subject: str
    """Meter or gateway id."""
    state: State
    """`fetched`: all that the cloud is believed to have. `to come`, `late`: with buckets that it
    may still fill, the youngest of them less than two days old, or more. `empty`: the cloud has
    nothing, so there is no file. `failed`: the last try did; there is a file only if an earlier
    try wrote one."""
    rows: int = 0
    """Rows in the file."""
    unfilled: Unfilled = field(default_factory=Unfilled)
    """Buckets without an amount by what they were called when last asked for."""
    gaps: Sequence[Gap] = ()
    """Where those lie that the cloud may still fill."""
    whole: bool = False
    """Nothing of it is null, absent or empty; False where nobody knows."""
    asked_utc: datetime | None = None
    """When the cloud was last asked for it; None where nobody knows, or it never was."""
    windows: Sequence[Window] = ()
    """The spans asked of the cloud."""
    sha256: str | None = None
    """Of the file; None where there is none. Filled in by `Folder.write`."""
    calls: int = 0
    """Calls spent on it."""
    reason: str | None = None
    """Why it failed."""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What a summary must know of a file that is kept (`sum_energy`), as JSON values."""
    sum_from: str | None = None
    """Where the sum is from: `cloud`, `cloud, added up` or `rows`; None where nobody says."""
    archive: str | None = None
    """The state of the archive that the file was made from; None where nobody says."""

    def unfilled_at(self, now_s: float) -> Unfilled:
        """The buckets without an amount by what they are called now: they age."""
        if not self.gaps or self.asked_utc is None:
            return self.unfilled
        then = count_unfilled(self.gaps, self.asked_utc.timestamp())
        closed = Unfilled(missing=max(0, self.unfilled.missing - then.missing))
        return closed + count_unfilled(self.gaps, now_s)

    def is_due(self, now_s: float) -> bool:
        """True where asking again may bring more, and it is time to."""
        if self.asked_utc is None:
            # Of an older version: that there was nothing was believed without evidence, and what
            # was to come was never asked for again unless the same command ran in time.
            is_nothing = self.rows == 0 and self.state in ("empty", "fetched")
            is_over = any(gap.until_s <= now_s for gap in self.gaps)
            # Nor did it say what its rows lack: of those that may still come nobody knows.
            ends_s = [window.end_utc.timestamp() for window in self.windows]
            is_young = self.state == "fetched" and max(ends_s, default=now_s) > now_s - FINAL_S
            return (
                is_nothing
                or is_young
                or (self.state == "to come" and is_over)
                or is_due(self.gaps, None, now_s)
            )
        return is_due(self.gaps, self.asked_utc.timestamp(), now_s)


def render_manifest(
    entries: Mapping[str, Entry],
    was: Mapping[str, str | None] | None = None,
    lines: dict[str, str] | None = None,
) -> str:
    """The manifest as JSON, one file a line, by name: equal entries give equal bytes.

    `was`: digests of what lies where an announced step has yet to be taken. `lines`: what was
    rendered before and need not be again; filled in here.
    """
    was = was or {}
    lines = {} if lines is None else lines
    found = []
    for name, entry in sorted(entries.items()):
        if name in was:
            found.append(_render(name, entry_to_json(entry) | {"was": was[name]}))
            continue
        line = lines.get(name)
        if line is None:
            line = lines[name] = _render(name, entry_to_json(entry))
        found.append(line)
    files = "{\n" + ",\n".join(found) + "\n  }" if found else "{}"
    return f'{{\n  "format": "{FORMAT}",\n  "version": {VERSION},\n  "files": {files}\n}}\n'


def _render(name: str, entry: Mapping[str, Any]) -> str:
    return f"    {json.dumps(name)}: {json.dumps(entry)}"


def read_manifest(path: Path) -> tuple[dict[str, Entry], dict[str, str | None]]:
    """The entries by file name, and the digests that `was` tells; none without a manifest.

    Raises LocalError for a file that is no manifest of this program, is damaged, or was
    written by a newer version.
    """
    found = _read_files(path)
    reader = EntryReader()
    try:
        entries = {name: reader.parse(entry) for name, entry in found.items()}
        was = {
            name: _take(entry, "was", str, type(None))
            for name, entry in found.items()
            if "was" in entry
        }
    except DAMAGES:
        raise _foreign(path) from None
    return entries, was


def read_names(path: Path) -> list[str]:
    """The file names alone, in half the time. Raises LocalError as `read_manifest` does."""
    return list(_read_files(path))


def _read_files(path: Path) -> dict[str, Any]:
    """The entries in JSON by file name, not looked into."""
    with local_errors(path, "read"):
        if not path.exists():
            return {}
        with open_plain(path) as stream:
            data = stream.read()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    check_format(found, path)
    files = found.get("files")
    if not isinstance(files, dict):
        raise _foreign(path)
    return files


def check_format(found: Any, path: Path) -> None:
    """Raises LocalError where the JSON does not say that it is a manifest we can read."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _foreign(path)
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise _foreign(path)
    if version > VERSION:
        raise LocalError(
            f"{clean(str(path))} was written by a newer version of this program. Update it, or "
            "choose another --output-dir."
        )


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """The entry as `parse_entry` takes it."""
    question = entry.question
    return {
        "question": {
            "command": question.command,
            "start": question.start,
            "end": question.end,
            "granularity": question.granularity,
            "timezone": question.timezone,
            "layout": question.layout,
            "extras": dict(sorted(question.extras.items())),
        },
        "subject": entry.subject,
        "state": entry.state,
        "rows": entry.rows,
        "to_come": entry.unfilled.to_come,
        "late": entry.unfilled.late,
        "missing": entry.unfilled.missing,
        "gaps": [
            [_instant_text(_utc(gap.after_s)), _instant_text(_utc(gap.until_s)), gap.count]
            + ([] if gap.told else [False])
            for gap in entry.gaps
        ],
        "whole": entry.whole,
        "asked_utc": _instant_text(entry.asked_utc) if entry.asked_utc else None,
        "windows": [
            [_instant_text(window.start_utc), _instant_text(window.end_utc)]
            for window in entry.windows
        ],
        "sha256": entry.sha256,
        "calls": entry.calls,
        "reason": entry.reason,
        "facts": dict(entry.facts),
        "sum_from": entry.sum_from,
        "archive": entry.archive,
    }


def parse_entry(found: Any) -> Entry:
    """The entry in JSON of ours. Raises one of DAMAGES for anything else."""
    return EntryReader().parse(found)


class EntryReader:
    """Parses many entries. What they have in common is parsed once and shared by them.

    The files of a run answer one question and ask for few spans: of ten thousand entries that
    saves 30 of 120 ms, and half of their memory.
    """

    def __init__(self) -> None:
        self._questions: dict[Any, Question] = {}
        self._windows: dict[Any, tuple[Window, ...]] = {}

    def parse(self, found: Any) -> Entry:
        """As `parse_entry`."""
        if found["state"] not in _STATES:
            raise ValueError(found["state"])
        asked = _take(found, "asked_utc", str, type(None)) if "asked_utc" in found else None
        return Entry(
            question=self._question(found["question"]),
            subject=_take(found, "subject", str),
            state=found["state"],
            rows=_take(found, "rows", int),
            unfilled=_parse_unfilled(found),
            gaps=_parse_gaps(found),
            whole=_take(found, "whole", bool) if "whole" in found else False,
            asked_utc=_parse_instant(asked) if asked else None,
            windows=self._spans(found["windows"]),
            sha256=_take(found, "sha256", str, type(None)),
            calls=_take(found, "calls", int),
            reason=_take(found, "reason", str, type(None)),
            facts=_take(found, "facts", dict),
            sum_from=_take_or_none(found, "sum_from"),
            archive=_take_or_none(found, "archive"),
        )

    def _question(self, found: Any) -> Question:
        key = _SCALARS(found), repr(found["extras"])
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _parse_question(found)
        return question

    def _spans(self, found: Any) -> tuple[Window, ...]:
        key = tuple(map(tuple, found))
        windows = self._windows.get(key)
        if windows is None:
            windows = self._windows[key] = tuple(
                Window(_parse_instant(start), _parse_instant(end)) for start, end in found
            )
        return windows


def _parse_unfilled(found: Any) -> Unfilled:
    to_come = _take(found, "to_come", int)
    if "asked_utc" not in found:  # version 1 counted no others
        return Unfilled(to_come)
    return Unfilled(to_come, _take(found, "late", int), _take(found, "missing", int))


def _parse_gaps(found: Any) -> tuple[Gap, ...]:
    if "asked_utc" in found:
        return tuple(_parse_gap(*gap) for gap in found["gaps"])
    # Version 1 knew only from when on something was to come.
    first = _take(found, "first_to_come", str, type(None))
    if first is None:
        return ()
    first_s = _parse_seconds(first)
    return (Gap(first_s - 1, first_s, max(1, _take(found, "to_come", int))),)


def _parse_gap(after: Any, until: Any, count: Any, told: Any = True) -> Gap:
    gap = Gap(_parse_seconds(after), _parse_seconds(until), count, told)
    if type(count) is not int or type(told) is not bool or count < 0 or gap.until_s <= gap.after_s:
        raise ValueError(gap)
    return gap


def _parse_question(found: Any) -> Question:
    return Question(
        command=_take(found, "command", str),
        start=_take(found, "start", str),
        end=_take(found, "end", str),
        granularity=_take(found, "granularity", str, type(None)),
        timezone=_take(found, "timezone", str, type(None)),
        layout=_take(found, "layout", str, type(None)),
        extras=_take(found, "extras", dict),
    )


def _take(found: Any, key: str, *kinds: type) -> Any:
    """The value of a key, which must be of one of the kinds."""
    value = found[key]
    if type(value) not in kinds:
        raise TypeError(key)
    return value


def _take_or_none(found: Any, key: str) -> Any:
    """The text of a key that older versions did not write."""
    return _take(found, key, str, type(None)) if key in found else None


def _instant_text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(text)
    return instant.astimezone(UTC)


def _parse_seconds(text: str) -> int:
    return int(_parse_instant(text).timestamp())


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _describe_change(name: str, mine: Any, theirs: Any) -> str:
    """`layout plain, not rows`; of a flag `with --latest, not without`."""
    if True in (mine, theirs):
        return f"with --{name}, not without" if mine else f"without --{name}, not with it"
    return f"{name} {_or_none(mine)}, not {_or_none(theirs)}"


def _or_none(value: Any) -> str:
    return "none" if value is None or value is False else str(value)


def is_file_name(name: str) -> bool:
    """True for a visible file of a folder, or one folder down, that is not its manifest."""
    parts = name.split("/")
    return (
        len(parts) <= 2
        and name != MANIFEST_NAME
        and "\\" not in name
        and all(p == Path(p).name and p != "" and not p.startswith(".") for p in parts)
    )


def _foreign(path: Path) -> LocalError:
    return LocalError(
        f"{clean(str(path))} is damaged or no manifest of this program. Move it away, or choose "
        "another --output-dir."
    )
