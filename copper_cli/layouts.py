"""The layouts that a file of interval rows can have. Ground: imports nothing of ours."""

from __future__ import annotations

from typing import Literal, get_args

Layout = Literal["rows", "columns", "plain"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
