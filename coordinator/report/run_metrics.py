"""A task's metrics of what a ledger has counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from coordinator.storage.ledger_reader import LedgerReader
from coordinator.storage.ledger_types import Rows
from federa.tasks import TASKS, task_class
from federa.tasks.metric import Metric, overall

MAX_COUNTERS = 12
"""The most counters of a client that a result holds as they are, and none by class: of those there may be thousands.
There a task's metrics say what they are good for, and the ledger keeps them all."""


def all_metrics(task: str, counters: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """All metrics of the task; None where the counters are not known, or the task is not one of those here."""
    if counters is None or task not in TASKS:
        return None
    return {metric.name: metric_value(metric, counters) for metric in task_class(task).metrics}


def metric_value(metric: Metric, counters: Mapping[str, float]) -> float | None:
    """A metric; None where there is no such number, as of a share of nothing, or counters of another version."""
    try:
        value = metric.value(counters)
    except (ArithmeticError, LookupError, ValueError):
        return None
    return value if value is not None and math.isfinite(value) else None


def held_out(ledger: LedgerReader, round_: int, part: str, task: str) -> Rows:
    """What each client counted of a round's state: the task's metrics, the examples, and the other counters where they
    are few enough to be read."""
    return [_counted(row, task) for row in ledger.counters(round_, part)]


def _counted(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    counters = row["counters"]
    shown: Mapping[str, Any] = overall(counters)
    if len(shown) > MAX_COUNTERS:
        shown = {"examples": counters.get("examples")}
    return {"client": row["client"], "device": row["device"], **shown, "metrics": all_metrics(task, counters)}
