"""The findings of a check: a table on a terminal, lines where they are piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.check.result import CheckResult, Level

_COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_WIDTH = 10


def show(findings: Iterable[CheckResult], console: Console) -> bool:
    """Print them all, and how many there are of each kind; returns whether none failed."""
    if console.is_terminal:
        with console.status("looking at this device"):
            seen = list(findings)
        console.print(_table(seen))
    else:
        seen = []
        for finding in findings:
            seen.append(finding)
            # As it comes, and a line each, however long.
            print(_line(finding), file=console.file, flush=True)
    counts = Counter(finding.level for finding in seen)
    parts = [f"{counts[level]} {level}" for level in _COLOURS if counts[level]]
    print(", ".join(parts), file=console.file, flush=True)
    return not counts["failed"]


def _table(findings: Iterable[CheckResult]) -> Table:
    table = Table(header_style="bold", show_lines=False)
    for column in ("", "looked at", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        # Text, not markup: a name may hold brackets.
        table.add_row(
            Text(finding.level, style=_COLOURS[finding.level]),
            Text(finding.what),
            Text(finding.found),
            Text(finding.todo),
        )
    return table


def _line(finding: CheckResult) -> str:
    todo = f" -> {finding.todo}" if finding.todo else ""
    return f"{finding.level:<{_WIDTH}}{finding.what}: {finding.found}{todo}"
