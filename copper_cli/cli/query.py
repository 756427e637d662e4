"""copper query: SQL over what was fetched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from copper_cli.cli.groups import ProgramCommand
from copper_cli.cli.options import option
from copper_cli.cli.running import Run, pass_run
from copper_cli.cli.types import MemoryType, PathType
from copper_cli.errors import UsageError

if TYPE_CHECKING:
    from copper_cli.archive.query import Statement
    from copper_cli.jobs.query import Asking


@click.command(cls=ProgramCommand)
@click.argument("sql", metavar="[SQL]", required=False)
@option(
    "-o",
    "--output",
    metavar="FILE",
    type=PathType(dir_okay=False, path_type=Path),
    help="Write the answer to FILE, within --output-dir if that is given: .csv, .json, .ndjson or "
    ".parquet.",
)
@option(
    "--memory",
    metavar="SIZE",
    type=MemoryType(),
    default="1GB",
    help="Memory a question may take; more goes to the temporary folder.  [default: 1GB]",
)
@pass_run
def query(run: Run, sql: str | None, output: Path | None, memory: str) -> None:
    """Ask what was fetched in SQL: usage, meters, premises, gaps and more.

    Without SQL a shell on a terminal, else what stands on stdin. No call is made, and nothing is
    changed: questions see the archive alone. The views and their columns are in docs/query.md.

    \b
    Examples:
      copper query "SELECT meter_type, count(*) FROM meters GROUP BY ALL"
      copper query "SELECT meter_id, sum(energy) FROM usage WHERE granularity = 'hour' GROUP BY ALL"
      copper query "FROM gaps" --format csv
      copper query "FROM usage WHERE granularity = 'hour'" -o usage.parquet
      copper query
    """
    from copper_cli.jobs.query import open_asking

    file = run.export_file(output)
    place = run.archive_place()
    with open_asking(*place, memory=memory, raw_cells=run.screen.raw_cells) as asking:
        if sql is None and sys.stdin.isatty():
            from copper_cli.cli.shell import run_shell

            run_shell(run, asking)
            return
        answer(run, asking, sys.stdin.read() if sql is None else sql, file)
    run.screen.complete()


def answer(run: Run, asking: Asking, sql: str, file: Path | None) -> None:
    """Answer all questions of a text; one alone where it is not for people."""
    statements = asking.split(sql)
    if len(statements) > 1 and (file is not None or run.screen.output_format != "table"):
        raise UsageError(
            f"these are {len(statements)} questions; a file takes one, and so does every --format "
            "but table."
        )
    for statement in statements:
        if line := asking.publish():
            run.say(line)
        if line := asking.find_mixed(statement):
            run.say(line)
        _answer_one(run, asking, statement, file)


def _answer_one(run: Run, asking: Asking, statement: Statement, file: Path | None) -> None:
    from copper_cli.jobs.query import SHOWN_ROWS, explain_plan, find_format

    if file is not None:
        count = asking.write(statement, file, find_format(file))
        run.say(f"{count:,} {'row' if count == 1 else 'rows'} in {file}.")
    elif run.screen.output_format != "table":
        run.screen.show_rows(asking.text(statement, run.screen.output_format))
    else:
        with asking.table(statement) as table:
            plan = explain_plan(table)
            if plan is not None:
                run.screen.show_rows([plan])
                return
            run.screen.show_more(table, empty=True)
        if table.facts["more"]:
            run.say(
                f"Only the first {SHOWN_ROWS:,} rows are shown: --format csv or -o FILE has all."
            )
