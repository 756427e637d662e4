"""A town of few meters whose cloud answers what a test wants, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloud.mini_cloud import Asked, MiniCloud, Said, make_settings
from held import new_archive

from copper_cli.archive import Archive
from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.events import CallDone, Event
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.spans import SpanBook
from copper_cli.config import Limit
from copper_cli.work.context import Asking, CallCounter, Context, Output

from .runs import Clock
from .runs import Said as Lines

ROOT = "/api/v2/partner/ent"
ZONE = "America/Denver"
H = 3600

Answer = Callable[["Question"], Any]


@dataclass(frozen=True)
class Question:
    """What a meter is asked."""

    start_s: int
    end_s: int
    granularity: str
    now_s: float

    def ends(self, step: int = H) -> list[int]:
        """The bucket ends of the window, that at its start too."""
        return list(range(self.start_s, self.end_s + 1, step))


def text(seconds: float) -> str:
    """An instant as the cloud writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def row(end_s: int, usage: Any = 0.5) -> dict[str, Any]:
    """A row of half a unit an hour, or without any amount."""
    value = None if usage is None else 1000 + end_s % 10**6 / 7200
    return {"time": text(end_s), "usage": usage, "power": usage, "value": value, "actual": None}


def body(rows: list[dict[str, Any]], start_s: int, meter_id: str | None = "07:1") -> dict[str, Any]:
    """A whole answer; its sum leaves out the row at the start."""
    total = sum(r["usage"] or 0 for r in rows if r["time"] > text(start_s))
    return {
        "meter_id": meter_id,
        "meter_type": "power",
        "sum_usage": total,
        "results": rows,
    }


def whole(asked: Question) -> dict[str, Any]:
    """Every bucket holds half a unit; those of the future are null."""
    rows = [row(t, 0.5 if t <= asked.now_s else None) for t in asked.ends()]
    return body(rows, asked.start_s, None)


@dataclass
class Town:
    """Meters `07:1` and on, at one premise each, and the folder they are downloaded into."""

    cloud: MiniCloud
    folder: Path
    clock: Clock
    stack: ExitStack
    archive: Archive
    answers: dict[str, Answer] = field(default_factory=dict)
    created: dict[str, str] = field(default_factory=dict)
    meters: list[dict[str, Any]] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    """What sessions told besides their calls."""

    def settle(self, *meter_ids: str) -> None:
        """The meters that the lists name."""
        premises = [
            {"id": f"p{n}", "created_at": "2020-01-01T00:00:00Z", "timezone": ZONE}
            for n, _ in enumerate(meter_ids)
        ]
        self.meters = [
            {
                "id": meter_id,
                "type": "power",
                "premise_id": f"p{n}",
                "created_at": self.created.get(meter_id, "2020-01-01T00:00:00Z"),
            }
            for n, meter_id in enumerate(meter_ids)
        ]
        self.cloud.say(f"{ROOT}/premise", default=premises)
        self.cloud.say(f"{ROOT}/meter", default=self.meters)
        for meter_id in meter_ids:
            for kind in ("usage", "readings", "baseline-series"):
                name = f"{meter_id}/{kind}" if kind == "baseline-series" else meter_id
                path = f"{ROOT}/meter/{quote(meter_id, safe='')}/{kind}"
                self.cloud.say(path, default=lambda asked, i=name: self._answer(i, asked))

    def _answer(self, meter_id: str, asked: Asked) -> Said:
        start_s, end_s = (
            int(datetime.fromisoformat(asked.query[name]).timestamp()) for name in ("start", "end")
        )
        question = Question(start_s, end_s, asked.query.get("granularity", ""), self.clock.now())
        found = self.answers.get(meter_id, whole)(question)
        headers = {"Cache-Control": "max-age=31536000"}
        return found if isinstance(found, Said) else Said(body=found, headers=headers)

    def connect(self, *, apart: bool = False, **settings: Any) -> Context:
        """What a job works with. `apart`: nothing of it is held yet."""
        counter = CallCounter()

        def note(event: Event) -> None:
            if not isinstance(event, CallDone):
                self.told.append(event)
            elif not event.from_cache:
                counter.add()

        chosen = make_settings(
            self.cloud.url, self.folder, **{"quota": (Limit(10**6, 3600),)} | settings
        )
        session = CloudSession(chosen, clock=self.clock, on_event=note)
        self.stack.enter_context(session)
        return Context(
            client=CloudClient(session, chosen.enterprise_id),
            session=session,
            spans=SpanBook(None, self.clock.now),
            now=self.clock.now,
            sleep=self.clock.sleep,
            progress=Lines(),
            archive=new_archive() if apart else self.archive,
            counter=counter,
        )

    def output(
        self, name: str = "out", *, recheck: bool = False, fresh: bool = False, **how: Any
    ) -> Output:
        return Output(self.folder / name, asking=Asking(recheck, fresh), **how)

    def asked(self, kind: str = "usage") -> int:
        """Calls for meters so far."""
        return sum(asked.path.endswith(f"/{kind}") for asked in self.cloud.asked)

    def entry(self, name: str = "07_1.usage.csv") -> dict[str, Any]:
        """What the manifest says of a file."""
        found = json.loads((self.folder / "out" / "manifest.json").read_text())
        return dict(found["files"][name])

    def lines(self, name: str = "07_1.usage.csv") -> list[str]:
        """A file's rows."""
        return (self.folder / "out" / name).read_text().splitlines()[2:]
