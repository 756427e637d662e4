"""What the program says of a cache folder that is not private, and what it believes in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from copper_cli.sandbox import Sandbox

from .conftest import Copper


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where XDG_CACHE_HOME says that the cache is."""
    return tmp_path / "cache" / "copper"


def test_a_folder_that_others_can_read(cloud: Sandbox, copper: Copper, folder: Path) -> None:
    """One line on stderr, once, and the run goes on."""
    assert copper("premise").err == ""
    folder.chmod(0o755)
    ended = copper("premise")
    told = f"{folder} could be read by others; now it is yours alone.\n"
    assert (ended.code, ended.err) == (0, told)
    assert copper("quota").err == ""


def test_a_token_that_others_could_write(cloud: Sandbox, copper: Copper, folder: Path) -> None:
    """Is not used: a new one is fetched."""
    assert copper("premise").code == 0
    (token,) = folder.glob("token.*.json")
    planted = json.loads(token.read_text()) | {"access_token": "planted"}
    token.write_text(json.dumps(planted))
    token.chmod(0o666)
    ended = copper("premise", "--no-cache")
    assert ended.code == 0
    assert ended.err == f"{token} could be changed by others; it is removed, and fetched anew.\n"
    assert cloud.token_calls == 2
    assert json.loads(token.read_text())["access_token"] != "planted"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user(cloud: Sandbox, copper: Copper, folder: Path) -> None:
    """Exit 7 before anything is asked; another one can be named."""
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    for line in ("premise", "quota", "cache clear"):
        ended = copper(*line.split())
        assert (ended.code, ended.out, cloud.token_calls) == (7, "", 0)
        assert "belongs to another user (uid 12345)" in ended.err
