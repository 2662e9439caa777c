"""What the benchmarks of the wire have in common: how many workers, and what is said at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from federa.errors import BadInput


def numbers_of_workers(text: str) -> list[int]:
    """The numbers of '2,4,8'. Raises BadInput."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(f"--workers: must be numbers by a comma, not {text!r}") from None


def conclude(
    console: Console, table: Table, rows: Sequence[Mapping[str, Any]], broken: Sequence[str], *,
    file: Path | None, check: bool,
) -> int:  # fmt: skip
    """Print the table and the machine, write `rows` to `file`, say which figures are not held; the exit code, which is
    1 for those where they are to be checked."""
    console.print(table)
    console.print(machine(), highlight=False)
    if file:
        file.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    for message in broken:
        print(f"not held: {message}", file=sys.stderr)
    return 1 if broken and check else 0
