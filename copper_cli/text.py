"""Text from elsewhere made fit for a line and for a terminal. Ground: imports nothing of ours."""

from __future__ import annotations

import re
import unicodedata

# What a terminal acts upon or an eye is fooled by: C0, DEL, C1, line separators, direction
# marks and overrides, byte order mark, and halves of surrogate pairs (not writable as UTF-8).
_C0 = r"\x00-\x1f"
BEYOND_C0 = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff"
"""The signs of them beyond C0, for a class of a regular expression."""
_HAZARDS = re.compile(f"[{_C0}{BEYOND_C0}]")


def one_line(text: str, width: int = 200) -> str:
    """The text without control characters and line breaks, cut to the width."""
    text = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text)
    text = re.sub(r" +", " ", text).strip()
    return text if len(text) <= width else text[: width - 1] + "…"


def clean(text: str) -> str:
    r"""The text for a terminal: what could steer it is shown as `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return _HAZARDS.sub(lambda found: _escape(found[0]), text)


def _escape(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
