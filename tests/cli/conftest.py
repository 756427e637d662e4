"""Fixtures: a clean folder and environment, clouds for them, and the program in this process."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from places import make_archive

from copper_cli.cli import root, run
from copper_cli.sandbox import Sandbox, SandboxConfig
from copper_cli.sandbox.server import Server

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
PROGRAM = Path(sys.executable).with_name("copper")


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stdout."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)


Copper = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty home and folder, no variable of the user's, Denver's zone, no waiting."""
    kept = {"COPPER_ARCHIVE", "XDG_DATA_HOME"}  # the test's own
    for name in set(os.environ) - kept:
        if name.startswith(("COPPER_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COPPER_QUOTA", "100000/h")
    monkeypatch.setattr("copper_cli.cloud.transport.backoff_s", lambda *a, **k: 0.0)
    monkeypatch.setattr("copper_cli.jobs.listing.HYDRATE_PAUSE_S", 0.0)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TZ", "America/Denver")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder in which commands are typed."""
    return tmp_path / "work"


@pytest.fixture
def copper(capsys: pytest.CaptureFixture[str]) -> Copper:
    """Types a command line in this process."""

    def type_line(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run(root, [str(one) for one in arguments])
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return type_line


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Starts a local cloud of two premises at NOW, and exports its variables."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Sandbox:
            config = SandboxConfig(**{"quota": None, "now": NOW, "premises": 2, **settings})
            cloud = stack.enter_context(Sandbox(config))
            for name, value in cloud.environment().items():
                monkeypatch.setenv(name, value)
            make_archive(tmp_path / "archive", config.enterprise_id)
            return cloud

        yield start


@pytest.fixture
def cloud(serve: Callable[..., Sandbox]) -> Sandbox:
    """A local cloud of two premises, four meters and three gateways, one of them virgin."""
    return serve()


@dataclass
class FixedCloud:
    """A cloud that answers each path of the partner API with a fixed body, or 404."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        if path == "/oauth/token":
            body: Any = {"access_token": "a-token", "token_type": "Bearer", "expires_in": 86400}
        else:
            query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
            name = re.sub("^/api/v2/partner/[^/]+/", "", path)
            self.asked.append((name, query))
            body = self.answers.get(name)
            body = body(query) if callable(body) else body
        status = "404 Not Found" if body is None else "200 OK"
        content = json.dumps(body).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        start_response(status, headers)
        return [content]


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FixedCloud]:
    """A cloud to be told what it answers: `fixed.answers["premise"] = [...]`."""
    cloud = FixedCloud({"premise": [], "meter": [], "gateway": [], "gateway/history": []})
    cloud.answers |= {name: {"results": [], "next": None} for name in ("bulk", "grid/latest")}
    server = Server(cloud, 0)  # type: ignore[arg-type]
    server.open()
    url = f"http://127.0.0.1:{server.port}"
    exported = {"API_URL": url, "AUTH_URL": url, "CLIENT_ID": "id", "CLIENT_SECRET": "secret"}
    for name, value in {**exported, "ENTERPRISE_ID": "ent"}.items():
        monkeypatch.setenv(f"COPPER_{name}", value)
    make_archive(tmp_path / "archive", "ent")
    yield cloud
    server.close()


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the file of profiles."""

    def write(text: str) -> Path:
        path = tmp_path / "config" / "copper" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
