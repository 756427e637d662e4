"""What became of each meter of a download, and what is said of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["fetched", "kept", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One meter or gateway after its download."""

    subject: str
    """Its id."""
    state: State
    """`kept`: an earlier run had fetched it."""
    file: str | None = None
    """Name of its file in the folder; None where there is none."""
    rows: int = 0
    """Rows in the file."""
    to_come: int = 0
    """Rows whose bucket is still to be filled."""
    first_to_come: int | None = None
    """Instant of the first of them, seconds since 1970 UTC."""
    sum_energy: float | None = None
    """The cloud's sum over the range, in the standard unit."""
    reason: str | None = None
    """Why it failed."""


def summarise(outcomes: Sequence[Outcome], calls: int) -> dict[str, Any]:
    """The facts of a whole download, as JSON shows them and the last line says them."""
    failed = [o for o in outcomes if o.state == "failed"]
    return {
        "done": sum(1 for o in outcomes if o.state in ("fetched", "kept")),
        "kept": sum(1 for o in outcomes if o.state == "kept"),
        "empty": sum(1 for o in outcomes if o.state == "empty"),
        "to_come": sum(o.to_come for o in outcomes),
        "failed": [{"id": o.subject, "reason": o.reason} for o in failed],
        "files": sum(1 for o in outcomes if o.file and o.state in ("fetched", "kept")),
        "calls": calls,
    }
