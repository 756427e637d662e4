"""The bar on a terminal. Takes a tenth of a second to import: only where one is drawn.

It is made of rich's ProgressBar. rich.progress itself lays its columns out as a table, which on a
narrow terminal cuts every column short; here the least wanted goes and the rest stays whole. Its
thread is not needed either: the watcher's ticker draws.

Between two drawings the cursor stands where the bar begins, and all below it is wiped before the
next one. A terminal that was made narrower has wrapped the rows, nobody can tell into how many;
but it keeps the cursor at the same letter, so that none of them stays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from copper_cli.cli.progress import Shown, count_calls, describe_left

_BAR_CELLS = 30
_LEAST_BAR_CELLS = 8
_LEAST_WAIT_CELLS = 16
_FREE_CELLS = 4
"""Left free at the right: a terminal made narrower by so few columns has nothing to wrap."""
_GAP = "  "
_WIPE = "\r \x1b[J\r"
"""The blank: tmux keeps what is wiped from the first cell of the screen on, above it."""


class Bar:
    """A line that shows what `look` tells, below everything said, until it is ended.

    Not safe for threads: its user sees to that.
    """

    def __init__(self, look: Callable[[], Shown], *, color: bool = True) -> None:
        # That something may move was decided before, whatever stderr is.
        self._console = Console(
            file=sys.stderr,
            force_terminal=True,
            no_color=not color,
            color_system="auto" if color else None,
        )
        self._look = look

    def draw(self) -> None:
        """Show how far it is now."""
        _write(_WIPE + self._render())

    def say(self, text: str) -> None:
        """A line above it that stays; a long one is wrapped by the terminal."""
        _write(f"{_WIPE}{text}\n{self._render()}")

    def end(self) -> None:
        """Wipe it."""
        _write(_WIPE)

    def _render(self) -> str:
        """Its rows, and the way back to where they begin."""
        with self._console.capture() as captured:
            self._console.print(_Line(self._look()), end="")
        # More rows than the terminal has would scroll away, out of the wiper's reach.
        rows = captured.get().split("\n")[: max(self._console.height - 1, 1)]
        up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        return "\n".join(rows) + "\r" + up


def _write(text: str) -> None:
    click.echo(text, err=True, nl=False, color=True)  # which knows Windows' consoles too


class _Line:
    """One line as wide as there is room; the wait for the quota below it, whole."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - _FREE_CELLS, 1)
        shown = self._shown
        words = choose_words(shown, width)
        room = min(_BAR_CELLS, width - cell_len(_GAP + words))
        if room >= _LEAST_BAR_CELLS:
            # Without a total it pulses: that nobody knows the end must not look like standing.
            bar = ProgressBar(shown.total or None, shown.done, width=room)
            cells = list(console.render(bar, options))
            yield from cells
            # What is left to do is grey; without colours it is thin.
            rest = "─" if console.no_color and not options.ascii_only else " "
            yield Segment(rest * (room - Segment.get_line_length(cells)) + _GAP)
        yield Segment(words)
        if shown.wait and width >= _LEAST_WAIT_CELLS:
            yield Segment.line()
            yield from console.render(Text(shown.wait, end=""), options.update(width=width))


def choose_words(shown: Shown, width: int) -> str:
    """As much of the state as fits into `width` cells, the least wanted left out first."""
    count = f"{shown.done}/{shown.total} {shown.noun}" if shown.total else ""
    kept: set[str] = set()
    parts = [shown.phase, count, count_calls(shown.calls), describe_left(shown.left), shown.time()]
    for place in (1, 0, 4, 2, 3):
        tried = kept | {parts[place]}
        if cell_len(_GAP.join(_in_order(parts, tried))) <= width:
            kept = tried
    return _GAP.join(_in_order(parts, kept))


def _in_order(parts: list[str], kept: set[str]) -> Iterator[str]:
    return (part for part in parts if part and part in kept)
