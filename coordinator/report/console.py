"""The console that results are shown on."""

from __future__ import annotations

import os
import sys

from rich.console import Console

_FILE_WIDTH = 1_000
"""Columns. A file or a pipe has no width: there a row of a table is one line."""


def open_console() -> Console:
    """Standard output: as wide as the terminal or as $COLUMNS says, else without a width to keep."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return Console()
    return Console(width=_FILE_WIDTH)
