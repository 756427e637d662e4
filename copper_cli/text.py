"""Text from elsewhere made fit for one line. Ground: imports nothing of ours."""

from __future__ import annotations

import re
import unicodedata


def one_line(text: str, width: int = 200) -> str:
    """The text without control characters and line breaks, cut to the width."""
    text = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text)
    text = re.sub(r" +", " ", text).strip()
    return text if len(text) <= width else text[: width - 1] + "…"
