"""Runs of jobs against a local cloud, a clock that does not wait, and folders to compare."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from held import new_archive

from copper_cli.archive import Archive
from copper_cli.cloud import transport
from copper_cli.cloud.client import CloudClient
from copper_cli.cloud.events import CallDone, Event
from copper_cli.cloud.session import CloudSession
from copper_cli.cloud.spans import SpanBook
from copper_cli.config import Limit, Secret, Settings
from copper_cli.jobs.interval import download_series
from copper_cli.sandbox import Sandbox
from copper_cli.table import Table
from copper_cli.work.context import CallCounter, Context, Output, Silent
from copper_cli.work.meter_series import SeriesRequest

NOW = datetime(2021, 2, 1, 7, 0, tzinfo=UTC)
UNLIMITED = (Limit(1_000_000, 3600),)
PLENTY = SeriesRequest("usage", date(2021, 1, 10), date(2021, 1, 14), "hour", baseline=True)
"""Four days with their baseline: the job that most tests here do."""
PROGRAM = str(Path(sys.executable).with_name("copper"))
HOUSEKEEPING = {".copper.lock", ".manifest.stamps"}


class Clock:
    """Sleeping moves the time; nobody waits. Threads may share it."""

    def __init__(self, instant: datetime = NOW) -> None:
        self.now_s = instant.timestamp()
        self.slept_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.now_s

    def instant(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_s += seconds
            self.slept_s += seconds

    def set(self, instant: datetime) -> None:
        """Moves on to an instant that is still to come."""
        with self._lock:
            self.now_s = max(self.now_s, instant.timestamp())


class Said(Silent):
    """Keeps the lines that a person would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Machine:
    """One machine of a user: its cache folder, its clock, and a cloud to ask."""

    cloud: Sandbox
    cache_dir: Path
    clock: Clock
    stack: ExitStack
    archive: Archive = field(default_factory=new_archive)

    def settings(self, **changes: Any) -> Settings:
        config = self.cloud.config
        try:
            url = self.cloud.url
        except RuntimeError:  # asked in this process, without a socket
            url = "http://127.0.0.1:9"
        found = Settings(
            api_url=url,
            auth_url=url,
            client_id=config.client_id,
            client_secret=Secret(config.client_secret),
            enterprise_id=config.enterprise_id,
            cache_dir=self.cache_dir,
            quota=UNLIMITED,
            timeout_s=10.0,
        )
        return replace(found, **changes)

    def connect(
        self,
        jobs: int = 1,
        spans: SpanBook | None = None,
        *,
        apart: bool = False,
        **changes: Any,
    ) -> Context:
        """What a job works with; `changes` are settings. `apart`: nothing of it is held yet."""
        counter = CallCounter()

        def note(event: Event) -> None:
            if isinstance(event, CallDone) and not event.from_cache:
                counter.add()

        settings = self.settings(**changes)
        session = CloudSession(settings, clock=self.clock, on_event=note)
        self.stack.enter_context(session)
        return Context(
            client=CloudClient(session, settings.enterprise_id),
            session=session,
            spans=spans or SpanBook(None, self.clock.now),
            now=self.clock.now,
            sleep=self.clock.sleep,
            progress=Said(),
            archive=new_archive() if apart else self.archive,
            jobs=jobs,
            counter=counter,
        )

    def download(
        self,
        folder: Path,
        request: SeriesRequest = PLENTY,
        *,
        jobs: int = 1,
        overwrite: bool = False,
        apart: bool = False,
        **changes: Any,
    ) -> Table:
        """A whole run of a download, as the command does it."""
        context = self.connect(jobs, apart=apart, **changes)
        try:
            return download_series(context, request, Output(folder, overwrite=overwrite))
        finally:
            context.session.close()


def program_environment(cloud: Sandbox, home: Path) -> dict[str, str]:
    """The variables of a user who has nothing but this cloud's credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    folders = {
        "HOME": str(home / "home"),
        "XDG_CACHE_HOME": str(home / "their cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    return {**kept, **folders, **cloud.environment()}


def meter_ids(cloud: Sandbox) -> list[str]:
    """Every meter, in the cloud's order."""
    return [meter.id for meter in cloud.fleet.meters()]


def path_of(meter_id: str, kind: str = "usage") -> str:
    """A pattern for the calls of one meter."""
    return f"meter/{quote(meter_id, safe='')}/{kind}"


def read_folder(folder: Path) -> dict[str, Any]:
    """What a folder holds: bytes by name, the manifest as JSON without what each file cost, when it
    was asked for and what the archive held then.

    The lock and the digests' stamps, which say nothing of the data, are left out.
    """
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in HOUSEKEEPING:
            found[str(path.relative_to(folder))] = path.read_bytes()
    manifest = json.loads(found.pop("manifest.json"))
    for entry in manifest["files"].values():
        del entry["calls"], entry["asked_utc"], entry["archive"]
    found["manifest.json"] = manifest
    return found


def asked(cloud: Sandbox, since: int = 0) -> list[str]:
    """The calls that the cloud saw, as `meter/07:1/usage`; token requests left out."""
    root = f"/api/v2/partner/{cloud.config.enterprise_id}/"
    paths = [record.path for record in cloud.log[since:]]
    return [path.removeprefix(root) for path in paths if path.startswith(root)]


def break_limits(instants: Sequence[float], limits: Iterable[tuple[int, float]]) -> list[str]:
    """Every window, by brute force, that holds more calls than its limit allows."""
    found = []
    ordered = sorted(instants)
    for calls, period_s in limits:
        for first, last in zip(ordered, ordered[calls:], strict=False):
            # The call `calls` places later must lie a whole period later.
            if last - first < period_s:
                found.append(f"more than {calls} in {period_s} s from {first}")
    return found


class InProcess(requests.adapters.BaseAdapter):
    """Carries requests straight into a WSGI application: real sessions, no socket."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        super().__init__()
        self._application = application

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        head: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            head[:] = [status, headers]

        body = b"".join(self._application(_environ(request), start_response))
        response = requests.Response()
        response.status_code = int(head[0][:3])
        response.headers.update(dict(head[1]))
        response.url = request.url or ""
        response.request = request
        response._content = body
        response._content_consumed = True  # type: ignore[attr-defined]
        return response

    def close(self) -> None:
        """Nothing is open."""


def _environ(request: requests.PreparedRequest) -> dict[str, Any]:
    path, _, query = request.path_url.partition("?")
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": requests.compat.unquote(path),
        "QUERY_STRING": query,
        "REQUEST_URI": request.path_url,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "9",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
    }
    for name, value in request.headers.items():
        if name.lower() != "accept-encoding":  # nobody decompresses here
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def in_process(monkeypatch: Any, cloud: Sandbox) -> None:
    """From now on every session asks this cloud without a socket."""

    def make_session(
        timeout_s: float, session: requests.Session | None = None, **_: int
    ) -> requests.Session:
        session = session or requests.Session()
        session.mount("http://", InProcess(cloud.application))
        return session

    monkeypatch.setattr(transport, "make_session", make_session)


def temporaries(folder: Path) -> Iterator[Path]:
    """Files that only a run that is going on may have."""
    for path in folder.rglob("*"):
        if path.suffix == ".tmp" or path.name == ".manifest.journal":
            yield path
