"""A local Copper Cloud to try the program on, to write integrations against, and to test with.

It shares no code with the client, so that the two cannot share a mistake.
"""

from copper_cli.sandbox.config import ConfigError, SandboxConfig
from copper_cli.sandbox.faults import Fault
from copper_cli.sandbox.journal import RequestRecord
from copper_cli.sandbox.local import Sandbox

__all__ = ["ConfigError", "Fault", "RequestRecord", "Sandbox", "SandboxConfig"]
