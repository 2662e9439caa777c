"""The entry points of the commands: they import nothing before Ctrl-C is taken care of."""

from __future__ import annotations

from functools import partial

from federa.command import run_command

bench = partial(run_command, "benchmarks.bench")
report = partial(run_command, "benchmarks.report")
