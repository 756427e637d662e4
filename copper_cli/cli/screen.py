"""What a run shows: its table on stdout and in its file, and in words how it ended."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from copper_cli.cli.ending import advise, count, describe_end
from copper_cli.errors import IncompleteError
from copper_cli.text import clean

if TYPE_CHECKING:
    from copper_cli.table import Table


class Screen:
    """Shows what a run found, as its options say.

    `watch` brings the watcher that speaks on stderr; `unread` tells how many rows of the cloud's
    lists could not be read so far.
    """

    def __init__(
        self, values: dict[str, Any], watch: Callable[[], Any], unread: Callable[[], int]
    ) -> None:
        self.left_out: dict[str, int] = {}
        """Rows that lay outside the span asked for, by what was asked."""
        self._values = values
        self._watch = watch
        self._unread_rows = unread

    @property
    def output_format(self) -> str:
        """table, csv, json or ndjson."""
        return str(self._values["output_format"])

    @property
    def folder(self) -> Path:
        """Where files go: --output-dir, or `generated`."""
        from copper_cli.work.context import DEFAULT_FOLDER

        return Path(self._values["output_dir"] or DEFAULT_FOLDER)

    @property
    def csv_output_file(self) -> Path | None:
        """The table's file, within --output-dir where that is given."""
        name = self._values["csv_output_file"]
        if not name:
            return None
        folder = self._values["output_dir"]
        return Path(folder) / name if folder else Path(name)

    @property
    def raw_cells(self) -> bool:
        """Whether cells that look like formulas stay as they are."""
        return bool(self._values["raw_cells"])

    def print_json(self, value: Any) -> None:
        """A value as JSON on stdout, as it is."""
        import json

        from copper_cli.render.cells import escape_json

        text = escape_json(json.dumps(value, ensure_ascii=False, indent=2))
        self._print([f"{text}\n"])

    def write_legend(self, legend: Table, name: str) -> None:
        """The notes of a table as a file in the folder."""
        from copper_cli.files.whole import replace_whole
        from copper_cli.render.tables import render_csv

        replace_whole(self.folder / name, render_csv(legend))

    def show_legend(self, legend: Table) -> None:
        """The notes of a table under it, on the console."""
        if self.output_format == "table" and not self._values["quiet"]:
            click.echo("")
            for note, text in legend.rows:
                click.echo(f"  ({note}) {text}")

    def show(self, table: Table, noun: str | None = None) -> None:
        """The table on stdout as --format says, and in --csv-output-file.

        `noun` asks for the line that scripts count by (`premises`, `meters`).
        """
        self._watch().start("", 0, "writing the table")
        if unread := self._unread_rows():
            table = replace(table, facts={**table.facts, "unread_rows": unread})
        self.write_table_file(table)
        self._print(self._render(table, noun))

    def write_table_file(self, table: Table) -> None:
        """The table in --csv-output-file, where that is given."""
        if self.csv_output_file is not None:
            from copper_cli.files.whole import write_whole
            from copper_cli.render.tables import render_csv

            raw_cells = self._values["raw_cells"]
            write_whole(self.csv_output_file, render_csv(table, raw_cells=raw_cells))

    def show_lines(self, lines: Iterable[str]) -> None:
        """Lines for people on stdout; programs find what they say in the facts of a table."""
        if self.output_format == "table" and not self._values["quiet"]:
            self._print(f"{clean(line)}\n" for line in lines)

    def show_rows(self, chunks: Iterable[str]) -> None:
        """What is too much for one table, as it comes; nothing with --quiet."""
        if not self._values["quiet"]:
            self._print(chunks)

    def show_more(self, table: Table, *, empty: bool = False) -> None:
        """A further table for people; programs find it in the facts of the first.

        One without rows only where it may be `empty`.
        """
        if self.output_format == "table" and (table.rows or empty):
            self._print(self._render(table, None))

    def _render(self, table: Table, noun: str | None) -> Iterable[str]:
        """What `show` prints, in chunks."""
        from copper_cli.render import tables

        quiet = self._values["quiet"]
        if self.output_format == "table":
            text = "" if quiet else f"\n{tables.render_console(table)}\n"
            if noun is not None:
                listed = table.facts["listed"]
                today = f"{datetime.now().astimezone():%Y-%m-%d}"
                text = f"Building information for {listed} {noun} on {today}...\n{text}"
            return [text]
        if quiet:
            return []
        if self.output_format == "json":
            return [f"{tables.render_json(table)}\n"]
        if self.output_format == "csv":
            return tables.render_csv(table, raw_cells=self._values["raw_cells"])
        return tables.render_ndjson(table)

    def _print(self, chunks: Iterable[str]) -> None:
        """Write to stdout, with a bar only where that is a file: else it may be the terminal's."""
        watcher = self._watch()
        for chunk in chunks:
            if not _is_file(sys.stdout):
                watcher.give_way()
            click.echo(chunk, nl=False)
        watcher.stop()

    def show_estimate(self, table: Table) -> None:
        """What --dry-run shows, with --quiet too: it is all that was asked for."""
        self._values["quiet"] = False
        self.show(table)

    def finish(self, table: Table) -> None:
        """Say how a job ended; IncompleteError where some of it is missing."""
        self.tell(table)
        if failed := table.facts.get("failed"):
            raise IncompleteError(advise(failed, table.facts.get("noun", "part")))
        self.complete()

    def end(self, failed: Sequence[Mapping[str, Any]], noun: str) -> None:
        """Say what failed of something that is no table; IncompleteError where anything did."""
        for line in describe_end({"failed": failed}, self.left_out):
            self._watch().say(line)
        if failed:
            raise IncompleteError(advise(failed, noun))

    def tell(self, table: Table) -> None:
        """Say what of a job failed, and what is done."""
        for line in describe_end(table.facts, self.left_out):
            self._watch().say(line)

    def complete(self) -> None:
        """The last line of a table: everything asked for is there.

        IncompleteError where a list held rows that could not be read.
        """
        if unread := self._unread_rows():
            raise IncompleteError(
                f"{count(unread, 'row')} of the cloud's lists could not be read; "
                "what stood there is missing."
            )
        if self.output_format == "table":
            click.echo("complete!")

    def fail(self, text: str) -> NoReturn:
        """End with the exit code that says: some of it is missing."""
        raise IncompleteError(text)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # none of the system's, or closed
        return False
