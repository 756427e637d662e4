"""The commands people type, and the one place where errors become exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from copper_cli.cli.groups import (
    PROGRAM_SETTINGS,
    InterruptedRunError,
    ProgramGroup,
    ReaderGoneError,
    version_option,
)
from copper_cli.cli.standard import drop_stdout, guard_standard_streams
from copper_cli.errors import CopperError

EXIT_BUG = 1
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141

_COMMANDS = {
    "premise": ("listing", "List premises: addresses, tags, users."),
    "bulk": ("listing", "Newest reading of every meter heard recently, in one call."),
    "gateway": ("listing", "List gateways, or show one whole."),
    "meter": ("meter", "Meters: status, usage, baseline, readings, checks."),
    "grid": ("grid", "Voltage and frequency at the gateways."),
    "report": ("report", "Monthly, health and partner reports."),
    "dump": ("dump", "Download a range as one folder a day, zipped."),
    "sync": ("sync", "Keep the archive up to date within the quota, by one cron line."),
    "account": ("account", "Your own home: summary, raw dump, login, logout."),
    "archive": (
        "archive",
        "What was fetched, kept on this machine: show, check, forget, move.",
    ),
    "status": ("status", "Whether what is held of the fleet is whole, and what is not."),
    "gaps": ("gaps", "What is not known of which meter, why, and when it is asked for again."),
    "query": ("query", "Ask what was fetched in SQL, or in a shell of its own."),
    "quota": ("quota", "Calls used and left, and when the next come free."),
    "cache": ("cache", "Answers kept on this machine: show or clear."),
    "sandbox": ("sandbox", "A local cloud of made-up or replayed data."),
    "help": ("help", "The same as COMMAND --help."),
}


class RootGroup(ProgramGroup):
    """The program. Commands are imported when run, so that --help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order people meet them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module and take it from there."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"copper_cli.cli.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, "help_" if name == "help" else name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=RootGroup, context_settings=PROGRAM_SETTINGS, no_args_is_help=True)
@version_option()
def root() -> None:
    """Pull electric, gas and water data out of Copper Cloud.

    \b
    Examples:
      copper --sandbox premise
      copper premise --csv-output-file premises.csv
      copper meter usage 2020-12-22 2021-01-12 --granularity hour
      copper report monthly 2021-09

    Credentials come from COPPER_CLIENT_ID, COPPER_CLIENT_SECRET and COPPER_ENTERPRISE_ID, or
    from a profile. Every option can be set by an environment variable, --output-dir by
    COPPER_OUTPUT_DIR. Exit codes: 0 done, 1 a bug, 2 usage, 3 credentials, 4 cloud or network,
    5 quota spent, 6 some of it is missing, 7 local files, 130 interrupted.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The program `copper`; ends the process with the exit code."""
    _leave(_run_process(root, argv))


def main_account(argv: Sequence[str] | None = None) -> NoReturn:
    """The program `copper-client`: the account branch alone."""
    from copper_cli.cli.account import copper_client

    _leave(_run_process(copper_client, argv))


def _run_process(command: click.Command, argv: Sequence[str] | None) -> int:
    guard_standard_streams()
    # A fleet's records are many and stay: looking through them for rubbish after every 700 new
    # ones, as Python does, takes a fifth of a run that finds 10,000 finished meters.
    gc.set_threshold(50_000)
    # A process manager's request to end is met as Ctrl-C is: what is in hand is finished.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(command, list(sys.argv[1:] if argv is None else argv))


def run(command: click.Command, arguments: list[str]) -> int:
    """Run a command line and say what went wrong, one line on stderr; the exit code."""
    try:
        command.main(arguments, prog_name=_program_name(), standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except CopperError as error:
        return _complain(str(error), error.exit_code)
    except (InterruptedRunError, KeyboardInterrupt, click.Abort):
        return _complain("interrupted; the same command goes on from here.", EXIT_INTERRUPTED)
    except (ReaderGoneError, BrokenPipeError):
        drop_stdout()  # Python must not complain about it at exit either
        return EXIT_PIPE
    except Exception as error:
        return _complain(_describe_bug(error), EXIT_BUG)
    return 0


def _leave(code: int) -> NoReturn:
    """End the process; after Ctrl-C at once, though threads may still wait for an answer."""
    if code == EXIT_INTERRUPTED and threading.active_count() > 1:
        with suppress(OSError, CopperError):  # its reader may have been interrupted too
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    # Else Python looks for rubbish in all that is left, twice: 10 of 70 ms of `copper quota`.
    gc.freeze()
    sys.exit(code)


def _program_name() -> str:
    return os.path.basename(sys.argv[0]) or "copper"  # noqa: PTH119 - pathlib costs the start


def _complain(message: str, code: int) -> int:
    from copper_cli.text import clean

    click.echo(f"copper: {clean(' '.join(message.split()))}", err=True)
    return code


def _describe_bug(error: Exception) -> str:
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"  # noqa: PTH119
    return f"a bug of this program: {type(error).__name__}{place}: {error}. Please report it."
