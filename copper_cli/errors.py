"""The tree of errors: one class an exit code, one line for a person each.

A message says what failed, for which meter and window, and what to do next. It never
holds a token, a secret or a whole address.
"""

from __future__ import annotations

from datetime import datetime


class CopperError(Exception):
    """What the program can explain. `exit_code` is what the shell sees.

    `lasting`: the same question again would fail for the same reason.
    """

    exit_code = 1
    lasting = False


class UsageError(CopperError):
    """What was typed cannot be meant: says what is wrong and what is accepted."""

    exit_code = 2


class CredentialsError(CopperError):
    """Credentials are missing, refused, or lack the permission."""

    exit_code = 3
    lasting = True


class NotPermittedError(CredentialsError):
    """The client may not ask this (403); it may be allowed to ask others."""


class CloudError(CopperError):
    """The cloud or the network failed, after every retry that made sense.

    `status` is the HTTP status of the last answer, None where none came.
    """

    exit_code = 4

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnreachableError(CloudError):
    """No connection to the cloud: it cannot have seen the request."""


class AnswerError(CloudError):
    """An answer that came with status 200 and cannot be what was asked for.

    `claim` is the program's sentence without its full stop, `said` what the cloud says in words.
    """

    def __init__(self, claim: str, said: str = "") -> None:
        said = said.rstrip(".")
        super().__init__(f"{claim}: {said}." if said else f"{claim}.", status=200)
        self.claim = claim
        self.said = said


class NotFoundError(CloudError):
    """The cloud knows no such thing (404)."""

    lasting = True


class ZoneError(CloudError):
    """Nobody can say in which time zone a meter is."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class BadRequestError(CloudError):
    """The cloud refuses the question as asked (400): also when too much is asked for."""

    lasting = True


class QuotaSpentError(CopperError):
    """No call is free and waiting was ruled out. `resume_at_utc` says when one will be."""

    exit_code = 5

    def __init__(self, message: str, *, resume_at_utc: datetime) -> None:
        super().__init__(message)
        self.resume_at_utc = resume_at_utc


class IncompleteError(CopperError):
    """Some of what was asked for could not be had; what was had is safe on disk."""

    exit_code = 6


class LocalError(CopperError):
    """Local files: disk full, permission, a folder held by another run."""

    exit_code = 7
