"""What no test may touch: the user's own data folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Also for what is started without the fixtures below: nothing is ever made there by a test that
# is as it should be.
os.environ["XDG_DATA_HOME"] = str(Path(tempfile.gettempdir(), "copper-tests-data"))


@pytest.fixture(autouse=True)
def archive_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an archive of its own, and a data folder that ends with it."""
    monkeypatch.setenv("COPPER_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
