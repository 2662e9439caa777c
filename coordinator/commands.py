"""The entry points of the commands: they import nothing before Ctrl-C is taken care of."""

from __future__ import annotations

from functools import partial

from federa.command import run_command
from federa.errors import EXIT_OK

coordinator = partial(run_command, "coordinator.main", terminated=EXIT_OK)
certs = partial(run_command, "coordinator.security.certs")
