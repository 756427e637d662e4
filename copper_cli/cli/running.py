"""One run of a command: its settings, its cloud, and how its table is shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from copper_cli.cli.options import check_environment, is_typed, outranks, program_values
from copper_cli.cli.screen import Screen
from copper_cli.errors import CredentialsError, LocalError, UsageError

if TYPE_CHECKING:
    from copper_cli.archive import Archive
    from copper_cli.archive.home import Owner
    from copper_cli.cloud.app import AppClient
    from copper_cli.cloud.session import CloudSession
    from copper_cli.cloud.token import Grant
    from copper_cli.config import Settings
    from copper_cli.table import Table
    from copper_cli.work.context import CallCounter, Context, Output

F = TypeVar("F", bound=Callable[..., Any])


class Run:
    """What a command works with. Nothing is read or opened before it is needed."""

    def __init__(self, ctx: click.Context) -> None:
        self.command = ctx.command_path.partition(" ")[2] or "account"
        self._ctx = ctx
        self._values = program_values(ctx)
        self._env: Mapping[str, str] = os.environ
        self._stack = ExitStack()
        self._handle: str | None = None
        self._session: CloudSession | None = None
        self._archive: Archive | None = None
        self._context: Context | None = None
        self.screen = Screen(self._values, self._watch, self._count_unread)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    # What was typed

    @property
    def waits(self) -> bool:
        """A spent quota is waited for."""
        return bool(self._values["wait"])

    def export_file(self, name: Path | None) -> Path | None:
        """Where -o writes, within --output-dir where that is given; without it the table's file.

        UsageError and LocalError as check_table_file, which looks at that one.
        """
        if name is None:
            return self.screen.csv_output_file
        folder = self._values["output_dir"]
        path = Path(folder) / name if folder else name
        from copper_cli.files.whole import check_writable
        from copper_cli.folders.manifest import find_kept

        if path.is_dir():
            raise UsageError(f"--output {path} is a folder; name a file.")
        if kept := find_kept(path):
            raise UsageError(
                f"--output is {kept}, which a download keeps there; give it another name."
            )
        check_writable(path)
        return path

    def output(
        self, *, overwrite: bool = False, recheck: bool = False, fresh: bool = False
    ) -> Output:
        """Where a download's files go, how they look, and what is asked for again."""
        from copper_cli.work.context import Asking, Output

        raw_cells = self._values["raw_cells"]
        return Output(
            self.screen.folder,
            overwrite=overwrite,
            asking=Asking(recheck=recheck, fresh=fresh),
            raw_cells=raw_cells,
            table=self.screen.csv_output_file,
        )

    def check_table_file(self) -> None:
        """Whether --csv-output-file could be written now, before any call is spent.

        UsageError for a folder and for a file that a folder of downloads keeps, LocalError for
        what the disk refuses.
        """
        path = self.screen.csv_output_file
        if path is None:
            return
        from copper_cli.files.whole import check_writable
        from copper_cli.folders.manifest import find_kept

        if path.is_dir():
            raise UsageError(f"--csv-output-file {path} is a folder; name a file.")
        if kept := find_kept(path):
            raise UsageError(
                f"--csv-output-file is {kept}, which a download keeps there; give it another name."
            )
        check_writable(path)

    def refuse_table_file(self) -> None:
        """UsageError where --csv-output-file is typed for a command that has no table."""
        if is_typed(self._ctx, "csv_output_file"):
            raise UsageError("--csv-output-file takes a table; this prints JSON, so redirect it.")

    def settings(self, *, individual: bool = False, needs_secret: bool = True) -> Settings:
        """Option, environment, profile, default; CredentialsError names what is missing.

        The cache folder is private afterwards; LocalError where it cannot be trusted.
        """
        from copper_cli.cli.settings import read_settings
        from copper_cli.files.mending import mend_folder

        self._choose_archive()
        if self._values["sandbox"]:
            self._start_sandbox()
        settings = read_settings(
            self._values,
            self._env,
            command=self.command,
            individual=individual,
            profile_first=self._handle is not None or is_typed(self._ctx, "profile"),
            enterprise_typed=is_typed(self._ctx, "enterprise_id"),
            archive_typed=is_typed(self._ctx, "archive"),
            needs_secret=needs_secret,
        )
        for line in mend_folder(settings.cache_dir):
            self.say(line)
        return settings

    def archive(self, settings: Settings) -> Archive:
        """What this partner's cloud has answered so far; opened once, closed when the run ends.

        UsageError for another partner's, LocalError where nothing can be kept.
        """
        if self._archive is None:
            from copper_cli.archive.home import (
                default_path,
                find_owner,
                open_archive,
                open_temporary,
            )
            from copper_cli.config import data_dir

            owner = find_owner(settings)
            if settings.use_archive:
                path = settings.archive or default_path(data_dir(self._env), owner)
                opened = open_archive(owner, path, say=self.say)
            else:
                opened = open_temporary(owner)
            self._archive = self._stack.enter_context(opened)
        return self._archive

    def archive_place(self) -> tuple[Path, Owner | None]:
        """Where the archive is, for a command that makes no call, and whose it must be.

        Typed, it may be anybody's. CredentialsError where nothing says which it is.
        """
        from copper_cli.archive.home import default_path, find_owner
        from copper_cli.cli.settings import read_archive_place
        from copper_cli.config import data_dir

        is_typed_here = is_typed(self._ctx, "archive")
        if self._values["sandbox"] and not is_typed_here:
            raise UsageError("--sandbox has no archive that stays; name one with --archive.")
        place = read_archive_place(
            self._values,
            self._env,
            profile_first=is_typed(self._ctx, "profile"),
            enterprise_typed=is_typed(self._ctx, "enterprise_id"),
            archive_typed=is_typed_here,
        )
        owner = find_owner(place) if place.enterprise_id else None
        if place.archive is not None:
            return place.archive, None if is_typed_here else owner
        if owner is None:
            raise CredentialsError(
                "COPPER_ENTERPRISE_ID is not set, which says whose archive is meant. Export it, "
                "name a profile (--profile), or name the archive (--archive)."
            )
        return default_path(data_dir(self._env), owner), owner

    def ledger_settings(self) -> Settings | None:
        """By what the ledger of calls is found, for a command that makes none; without the secret.

        None where nothing says who makes them.
        """
        if self._values["sandbox"]:
            return None
        try:
            return self.settings(needs_secret=False)
        except CredentialsError:
            return None

    def cache_folder(self) -> Path:
        """Where answers and tokens are kept."""
        from copper_cli.config import cache_dir

        return cache_dir(self._env)

    # The cloud

    def context(self, profile: str | None = None) -> Context:
        """The partner's cloud, ready to be asked; closed when the run ends.

        `profile` is used where no other is named: it goes before exported credentials, which
        may be another partner's, where there is such a profile. An empty COPPER_PROFILE says
        that what is exported is this partner's. The same for the whole run.
        """
        if self._context is None:
            self._context = self._open_context(profile)
        return self._context

    def _open_context(self, profile: str | None) -> Context:
        from copper_cli.archive.lists import ListBook
        from copper_cli.cloud.client import CloudClient
        from copper_cli.cloud.spans import open_spans
        from copper_cli.work.context import CallCounter, Context

        named = self._values["profile"] or self._values["sandbox"] or "COPPER_PROFILE" in self._env
        if profile and not named:
            self._values["profile"] = self._choose_profile(profile)
        settings = self.settings()
        archive = self.archive(settings)  # before any call: another partner's ends the run
        counter = CallCounter()
        session = self.session(settings, counter=counter)
        return Context(
            client=CloudClient(
                session,
                settings.enterprise_id,
                settings.query_limit,
                on_list=ListBook(archive).take,
            ),
            session=session,
            archive=archive,
            spans=open_spans(settings, time.time),
            now=time.time,
            sleep=time.sleep,
            progress=self._watch(),
            jobs=int(self._values["jobs"]),
            counter=counter,
        )

    def session(
        self,
        settings: Settings,
        grant: Grant = "enterprise",
        counter: CallCounter | None = None,
    ) -> CloudSession:
        """A session that tells this run what happens."""
        from copper_cli.cloud.events import CallDone, Event, RowsLeftOut
        from copper_cli.cloud.session import CloudSession

        watcher = self._watch()

        def note(event: Event) -> None:
            is_call = isinstance(event, CallDone) and not event.from_cache and event.counted
            if counter is not None and is_call:
                counter.add()
            if isinstance(event, RowsLeftOut):
                self.screen.left_out[event.what] = event.rows
            else:
                watcher.note(event)

        session = self._session = CloudSession(settings, grant=grant, on_event=note)
        self._stack.enter_context(session)
        self._stack.callback(watcher.stop)  # before the session closes: it is asked for the quota
        watcher.watch_quota(session.peek_quota, session.free_at)
        watcher.start("", 0, "reading lists")  # what a job does until it says otherwise
        return session

    def app(self) -> AppClient:
        """The individual's cloud; on a terminal whoever is not logged in is asked to."""
        from copper_cli.cloud.app import AppClient, is_logged_in

        settings = self.settings(individual=True)
        if not is_logged_in(settings) and (self._values["sandbox"] or sys.stdin.isatty()):
            self.log_in()
        return AppClient(self.session(settings, "individual"))

    def log_in(self) -> None:
        """Have the browser's code pasted and keep the token; CredentialsError without a person."""
        from copper_cli.cloud.app import build_authorize_url, exchange_code

        settings = self.settings(individual=True)
        address, verifier = build_authorize_url(settings)
        if self._values["sandbox"]:
            from urllib.request import ProxyHandler, build_opener

            # Our own cloud in this process: no proxy stands before it.
            with build_opener(ProxyHandler({})).open(address) as page:
                pasted = page.geturl()
        elif sys.stdin.isatty():
            self.say("Open this address in a browser and log in:")
            self.say(address)
            self.say("Then paste the address that the browser ends at, or its code= value.")
            pasted = click.prompt("Code", err=True)
        else:
            raise CredentialsError("nobody is logged in; run `copper account login` on a terminal.")
        exchange_code(settings, pasted, verifier)

    def download(
        self,
        download: Callable[[Context, Any, Output], Table],
        estimate: Callable[[Context, Any, Output], Table],
        request: Any,
        *,
        overwrite: bool,
        recheck: bool,
        fresh: bool,
        dry_run: bool,
    ) -> None:
        """Do a download, or with --dry-run say what it would cost."""
        output = self.output(overwrite=overwrite, recheck=recheck, fresh=fresh)
        if dry_run:
            self.screen.show_estimate(estimate(self.context(), request, output))
            return
        table = download(self.context(), request, output)
        # To find out what day it is may have taken a call before.
        calls = self.context().session.calls_used
        table = replace(table, facts={**table.facts, "calls": calls})
        try:
            self.screen.show(table)
        except LocalError:  # the files are there all the same
            self.screen.tell(table)
            raise
        self.screen.finish(table)

    def write_hourly(self) -> None:
        """Where nothing moves have a line an hour: the run may take a day."""
        self._watch().line_every_s = 3600.0

    def say(self, text: str) -> None:
        """A line for the person at the terminal or in the log."""
        self._watch().say(text)

    def _count_unread(self) -> int:
        return 0 if self._session is None else self._session.unread_rows

    def _watch(self) -> Any:
        from copper_cli.cli.progress import Watcher

        if not hasattr(self, "_watcher"):
            self._watcher = Watcher(
                self.command, color=self._values["color"], debug=self._values["debug"]
            )
            self._stack.callback(self._watcher.stop)
        return self._watcher

    def _choose_archive(self) -> None:
        """Of --archive and --no-archive the one from the stronger source; UsageError if typed both.

        With --sandbox only what was typed counts: the exported archive is a partner's.
        """
        is_named, is_off = (is_typed(self._ctx, name) for name in ("archive", "no_archive"))
        if is_named and is_off:
            raise UsageError("--archive names what --no-archive does without; leave one out.")
        if outranks(self._ctx, "archive", "no_archive"):
            self._values["no_archive"] = False
        if self._values["sandbox"] and not is_named:
            self._values |= {"archive": None, "no_archive": True}

    def _choose_profile(self, handle: str) -> str | None:
        from copper_cli.config import read_profile

        try:
            read_profile(handle, self._env)
        except UsageError:
            if self._env.get("COPPER_CLIENT_ID"):
                self.say(f"No profile {handle}; using the exported credentials.")
                return None
            raise
        self._handle = handle
        return handle

    def _start_sandbox(self) -> None:
        """A local cloud in this process; its quota and cache are not the user's."""
        if self._env is not os.environ:
            return
        import tempfile

        from copper_cli.sandbox import Sandbox, SandboxConfig

        cloud = self._stack.enter_context(Sandbox(SandboxConfig()))
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="copper-sandbox-"))
        self._env = {**os.environ, **cloud.environment(), "COPPER_CACHE_DIR": folder}


def pass_run(command: F) -> F:
    """Hands a command its Run, which is closed when the command ends."""

    @click.pass_context
    def wrapped(ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        from copper_cli.cli.settings import check_machine_zone

        check_environment(ctx)
        check_machine_zone()
        with Run(ctx) as run:
            run.check_table_file()
            return ctx.invoke(command, run, *args, **kwargs)

    return update_wrapper(wrapped, command)  # type: ignore[return-value]
