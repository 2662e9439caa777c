"""The entry point of the command: it imports nothing before Ctrl-C is taken care of."""

from __future__ import annotations

from functools import partial

from federa.command import run_command
from federa.errors import EXIT_OK

worker = partial(run_command, "edge.main", terminated=EXIT_OK)
