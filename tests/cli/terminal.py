"""A terminal to write to: what a person sees of control codes."""

from __future__ import annotations

import re

_CODE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\s\S])")


class Terminal:
    """So many columns, no end of rows. Knows the codes that a bar needs, and no others."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cursor = (0, 0)
        """Row and column; a full row's cursor stands behind it."""
        self.cursor_hidden = False
        self._rows = [""]
        self._wrapped: set[int] = set()
        """Rows that go on where the row before was full."""

    @property
    def rows(self) -> list[str]:
        """What is seen, without blanks at the ends of rows and empty rows at the end."""
        return "\n".join(row.rstrip() for row in self._rows).rstrip("\n").split("\n")

    def feed(self, text: str) -> None:
        """What a program writes."""
        for number, code, sign in _CODE.findall(text):
            row, column = self.cursor
            if code:
                self._obey(number, code)
            elif sign == "\r":
                self.cursor = (row, 0)
            elif sign == "\n":
                self._move(row + 1, 0)
            else:
                if column == self.columns:
                    row, column = row + 1, 0
                    self._wrapped.add(row)
                self._move(row, column + 1)
                old = self._rows[row].ljust(column)
                self._rows[row] = old[:column] + sign + old[column + 1 :]

    def resize(self, columns: int, *, reflow: bool = True) -> None:
        """So many columns from now on: lines are wrapped anew, or cut; the cursor keeps its letter."""
        if not reflow:
            self._rows = [row[:columns] for row in self._rows]
            self.cursor = (self.cursor[0], min(self.cursor[1], columns))
            self.columns = columns
            return
        rows, wrapped, cursor = [], set(), self.cursor
        lines = [[n] for n in range(len(self._rows)) if n not in self._wrapped]
        for first in lines:
            while (line := first[-1] + 1) in self._wrapped:
                first.append(line)
        for places in lines:
            text = "".join(self._rows[n].ljust(self.columns) for n in places[:-1])
            text += self._rows[places[-1]]
            if self.cursor[0] in places:
                offset = places.index(self.cursor[0]) * self.columns + self.cursor[1]
                cursor = (len(rows) + offset // columns, offset % columns)
            cuts = range(0, max(len(text), 1), columns)
            wrapped |= {len(rows) + n for n in range(1, len(cuts))}
            rows += [text[cut : cut + columns] for cut in cuts]
        self._rows, self._wrapped, self.columns = rows, wrapped, columns
        self._move(*cursor)

    def _move(self, row: int, column: int) -> None:
        self._rows += [""] * (row + 1 - len(self._rows))
        self.cursor = (row, column)

    def _obey(self, number: str, code: str) -> None:
        row, column = self.cursor
        match code, number:
            case "A", _:
                self._move(row - int(number or 1), column)
            case "J", "" | "0":
                assert self.cursor != (0, 0), "tmux would keep what is wiped above the screen"
                self._rows[row:] = [self._rows[row][:column]]
                self._wrapped = {n for n in self._wrapped if n <= row}
            case "K", "2":
                self._rows[row] = ""
            case "K", "" | "0":
                self._rows[row] = self._rows[row][:column]
            case "h" | "l", "?25":
                self.cursor_hidden = code == "l"
            case "m", _:
                pass  # colour
            case _:
                raise AssertionError(f"no such code: {number}{code}")
