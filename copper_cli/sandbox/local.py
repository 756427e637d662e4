"""The local Copper Cloud as one object: start it, ask it, stop it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from copper_cli.sandbox.config import ConfigError, SandboxConfig, parse_quota
from copper_cli.sandbox.faults import FaultBook
from copper_cli.sandbox.fleet import Fleet, GeneratedFleet
from copper_cli.sandbox.journal import Journal, RequestRecord
from copper_cli.sandbox.quota import Quota

if TYPE_CHECKING:
    from copper_cli.sandbox.application import Application
    from copper_cli.sandbox.server import Server


class Sandbox:
    """A Copper Cloud on 127.0.0.1, served by background threads within `with` or start…stop.

    `clock` gives the cloud's instant (aware): readings end there and tokens expire by it; None:
    `config.now`, else the end of the series, else the machine's clock. `quota_clock` gives the
    seconds by which the quota's windows slide; None: `time.time`. Where the clock stands still
    (`config.now`, a series), tokens begin by it and grow old by the seconds of `quota_clock`.
    Raises SeriesError when the series folder cannot be used, ConfigError when a setting does
    not fit the fleet.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        clock: Callable[[], datetime] | None = None,
        quota_clock: Callable[[], float] | None = None,
    ) -> None:
        self.config = config or SandboxConfig()
        self.fleet = _make_fleet(self.config)
        for meter_id in self.config.delays():
            if meter_id and self.fleet.find_meter(meter_id) is None:
                raise ConfigError(f"late: there is no meter {meter_id} in this fleet")
        self.faults = FaultBook(self.config.planned_faults())
        self._frozen = self.config.now or self.fleet.default_now
        self._clock = clock or self._read_clock
        self._quota_clock = quota_clock or time.time
        self._token_clock = clock or self._read_token_clock
        self._opened_s = self._quota_clock()
        self._journal = Journal()
        self._stopped = Event()
        self._server: Server | None = None

    @cached_property
    def application(self) -> Application:
        """The WSGI application: callable in process, without a socket and without `start`."""
        from copper_cli.sandbox.application import Application

        quota = Quota(parse_quota(self.config.quota))
        return Application(
            config=self.config,
            fleet=self.fleet,
            clock=self._clock,
            token_clock=self._token_clock,
            quota=quota,
            quota_clock=self._quota_clock,
            faults=self.faults,
            journal=self._journal,
            stopped=self._stopped,
            tell=_tell,
        )

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; raises RuntimeError while it does not serve."""
        if self._server is None:
            raise RuntimeError("the sandbox does not serve; call start() first")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def log(self) -> list[RequestRecord]:
        """The requests answered so far, oldest first (the newest 200,000)."""
        return self._journal.list_records()

    @property
    def calls(self) -> int:
        """API calls answered so far, refused and faulted ones included, token requests not."""
        return self._journal.calls

    @property
    def token_calls(self) -> int:
        """Token requests and logins answered so far."""
        return self._journal.token_calls

    def environment(self) -> dict[str, str]:
        """The variables with which a client talks to this cloud, past any proxy."""
        return {
            "COPPER_API_URL": self.url,
            "COPPER_AUTH_URL": self.url,
            **spare_loopback(os.environ),
            "COPPER_CLIENT_ID": self.config.client_id,
            "COPPER_CLIENT_SECRET": self.config.client_secret,
            "COPPER_ENTERPRISE_ID": self.config.enterprise_id,
        }

    def start(self) -> Self:
        """Begins to serve; raises OSError when the port is taken or the log cannot be written."""
        from copper_cli.sandbox.server import Server

        self._stopped.clear()
        server = Server(self.application, self.config.port)
        try:
            if self.config.log_file:
                self._journal.open_file(Path(self.config.log_file))
        except OSError:
            server.server_close()
            raise
        server.open()
        self._server = server
        return self

    def stop(self) -> None:
        """Stops serving, ends what hangs, and closes the log; what was logged can be read on."""
        self._stopped.set()
        if self._server:
            self._server.close()
            self._server = None
        self._journal.close_file()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _read_clock(self) -> datetime:
        return self._frozen or datetime.now(UTC)

    def _read_token_clock(self) -> datetime:
        """A clock that stands still would let no token grow old: for them it runs on."""
        if self._frozen is None:
            return datetime.now(UTC)
        return self._frozen + timedelta(seconds=self._quota_clock() - self._opened_s)


def _tell(line: str) -> None:
    """A line on stderr, where that can be written to."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def spare_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """`NO_PROXY` and `no_proxy` with the loopback hosts behind what an environment has there.

    Each keeps its own hosts; one that is not set has the other's. Programs read one or the
    other. `*`, which spares every host but only where it stands alone, stays alone.
    """
    spared = {}
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        text = environ.get(name) or environ.get(other, "")
        hosts = [host for part in text.split(",") if (host := part.strip())]
        if hosts != ["*"]:
            hosts += [host for host in _LOOPBACK if host not in hosts]
        spared[name] = ",".join(hosts)
    return spared


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _make_fleet(config: SandboxConfig) -> Fleet:
    if config.series_dir is None:
        return GeneratedFleet(config.premises, config.seed, config.zones)
    from copper_cli.sandbox.series import ReplayedFleet, read_folder

    zone = ZoneInfo(config.series_zone) if config.series_zone else None
    folder = read_folder(Path(config.series_dir), zone, config.series_units)
    return ReplayedFleet(folder, config.seed, config.series_zone or "UTC")
