"""The bar on a terminal. Takes a tenth of a second to import: only where one is drawn.

It is made of what rich.progress is made of, a Live region and a ProgressBar. rich.progress itself
lays its columns out as a table, which on a narrow terminal cuts every column short; here the
least wanted goes and the rest stays whole. Its thread is not needed either: the watcher's ticker
draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from copper_cli.cli.progress import Shown, count_calls, describe_left

_BAR_CELLS = 30
_LEAST_BAR_CELLS = 8
_LEAST_WAIT_CELLS = 16
_FREE_CELLS = 4
"""Left free at the right, so that the ^C a terminal shows does not begin a new line."""
_GAP = "  "


class Bar:
    """A line that shows what `look` tells, below everything said, until it is ended.

    Not safe for threads: its user sees to that.
    """

    def __init__(self, look: Callable[[], Shown]) -> None:
        # That something may move was decided before, whatever stderr is.
        self._console = _Terminal(file=sys.stderr, force_terminal=True, no_color=False)
        self._live = Live(
            console=self._console,
            get_renderable=lambda: _Line(look()),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def draw(self) -> None:
        """Show how far it is now."""
        self._live.refresh()

    def say(self, text: str) -> None:
        """A line above it that stays; a long one is wrapped by the terminal."""
        self._console.out(text, highlight=False)

    def end(self) -> None:
        """Wipe it."""
        self._live.stop()


class _Terminal(Console):
    """A console whose cursor is never hidden, so that no end of the program can leave it so."""

    def show_cursor(self, show: bool = True) -> bool:
        """Nothing is done."""
        return False

    def on_broken_pipe(self) -> None:
        """Left to whoever writes; rich would end the program."""
        raise  # noqa: PLE0704 - called where the error is handled


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
            yield Segment(" " * (room - Segment.get_line_length(cells)) + _GAP)
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
