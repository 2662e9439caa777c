"""The table at the end, from result.json."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.table import Table

from benchmarks.display import human_bytes, human_seconds


def summary(result: dict[str, Any]) -> Table:
    """One row a run. A dash is what was not reached or not measured."""
    table = Table(header_style="bold", title_justify="left")
    columns = ("method", "reached", "time to target", "rounds", "bytes to target", "joules", "best", "test", "state")
    for column in columns:
        table.add_column(column, justify="left" if column in ("method", "reached") else "right")
    for run in result["runs"]:
        reached = f"[green]yes[/green], {run['target']:g}" if run["reached"] else f"[red]no[/red], {run['target']:g}"
        joules = run["joules_to_target"]
        table.add_row(
            run["method"],
            reached,
            human_seconds(run["time_to_target_s"]),
            str(run["rounds_to_target"] or f"– of {run['rounds']}"),
            human_bytes(run["bytes_to_target"]),
            "–" if joules is None else f"{joules:.0f} J",
            _value(run["best"]),
            _value(run["test"]),
            human_bytes(run["state_bytes"]),
        )
    return table


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def setback_lines(result: dict[str, Any]) -> list[str]:
    """What each run did without, a line each: how many updates were not taken, by what happened to them."""
    lines = []
    for run in result["runs"]:
        counts = Counter(entry["kind"] for entry in run["setbacks"])
        if counts:
            words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            lines.append(f"{run['method']}: updates that were not taken: {words}; the report says whose and why")
    return lines
