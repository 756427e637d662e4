"""The user's own command that prints the client secret: bounded in time and in what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from copper_cli.errors import CredentialsError

TIMEOUT_S = 30.0
_MOST_BYTES = 64 * 1024
"""No secret is as long; a command that writes without end must not fill the memory."""
_TOLD_LINES, _TOLD_SIGNS = 3, 300


def run_secret_command(command: str, env: Mapping[str, str]) -> str:
    """What the command prints on stdout, without the blanks around it: one line.

    It has no stdin and no terminal, and 30 seconds; then it ends, with all that it started.
    Raises CredentialsError, with the last lines of its stderr, where it fails, takes longer, or
    prints what cannot be a secret.
    """
    code, out, err = _run(command, env)
    secret = out.decode("utf-8", "replace").strip()
    said = _describe(err, secret)
    if code is None:
        raise CredentialsError(
            f"client_secret_command took over {TIMEOUT_S:.0f} seconds and was ended{said}"
        )
    if code or not secret:
        ending = f"signal {-code}" if code < 0 else f"code {code}"
        raise CredentialsError(
            f"client_secret_command ended with {ending} and "
            f"{'no output' if not secret else 'some output'}{said}"
        )
    if not secret.isprintable() or "\ufffd" in secret:
        raise CredentialsError(
            "client_secret_command printed something else than one line of text; it must print "
            "the secret alone."
        )
    return secret


def _run(command: str, env: Mapping[str, str]) -> tuple[int | None, bytes, bytes]:
    """Its exit code, stdout and stderr; no code where it had to be ended."""
    process = subprocess.Popen(  # noqa: S602 - the user's own command from the user's own file
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        start_new_session=True,  # so that it can be ended with all that it started
    )
    until_s = time.monotonic() + TIMEOUT_S
    out, err = _Reader(process.stdout), _Reader(process.stderr)
    try:
        for reader in (out, err):
            reader.join(max(0.0, until_s - time.monotonic()))
        if out.is_alive() or err.is_alive():
            raise subprocess.TimeoutExpired(command, TIMEOUT_S)
        return process.wait(max(0.0, until_s - time.monotonic())), out.data, err.data
    except BaseException as error:
        _end(process)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        err.join(1.0)
        return None, b"", err.data


class _Reader(threading.Thread):
    """Reads a stream to its end, or as much of it as is of use; then the writer is told to stop."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(daemon=True)  # whoever left the session may hold the stream open for ever
        assert stream is not None
        self._stream = stream
        self.data = b""
        self.start()

    def run(self) -> None:
        with self._stream:
            self.data = self._stream.read(_MOST_BYTES)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:  # pragma: no cover
            process.kill()
    process.wait()


def _describe(err: bytes, secret: str) -> str:
    """The last lines of its stderr as the end of a sentence, without the secret."""
    lines = [line.strip() for line in err.decode("utf-8", "replace").splitlines()]
    text = " / ".join([line for line in lines if line][-_TOLD_LINES:])[-_TOLD_SIGNS:]
    for part in secret.split():
        text = text.replace(part, "***")
    return f": {text}" if text else "; it said nothing on stderr."
