"""What a command loads before it does anything: it decides how long it takes to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "copper_cli.records": "twenty records, none of which is shown",
    "copper_cli.work.context": "a job's surroundings, where there is no job",
    "copper_cli.units": "fractions",
    "requests": "HTTP",
    "urllib3": "HTTP",
    "rich": "a moving bar",
    "secrets": "for files only",
    "subprocess": "for a secret by command only",
    "tomllib": "for a profile only",
    "zoneinfo": "for local days only",
}


def test_quota_loads_what_it_shows(tmp_path: Path) -> None:
    """The ledger, the settings and a table: nothing of meters, HTTP or files to be written."""
    code = (
        "import sys\n"
        "from copper_cli.cli import root, run\n"
        "assert run(root, ['quota']) == 0\n"
        f"print(*[name for name in {list(HEAVY)!r} if name in sys.modules], file=sys.stderr)\n"
    )
    env = {
        "PATH": os.environ["PATH"],
        "COPPER_CACHE_DIR": str(tmp_path),
        "COPPER_CLIENT_ID": "id",
        "COPPER_CLIENT_SECRET": "secret",
        "COPPER_ENTERPRISE_ID": "enterprise",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "\n")
    assert done.stdout.startswith("\nQuota (rows=2):\n")
