"""What one run saves against another: only between runs alike, and joules only between figures of one kind."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.report.energy import kind_of_run
from coordinator.report.runs import Entry, number_in

SETTING = ("seed", "bandwidth", "metric", "target")
GOALS = (("time", "time_to_target_s"), ("bytes", "bytes_to_target"), ("energy", "joules_to_target"))


def bases_among(runs: Sequence[Entry]) -> list[str]:
    """The methods that others are compared with, of those that are there."""
    methods = {run.get("method") for run in runs}
    return [key for key in ("ft", "lora") if key in methods and len(methods) > 1]


def base_of(run: Entry, runs: Sequence[Entry], method: str) -> Entry | None:
    """The run of `method` in the same setting, of the same folder before others."""
    alike = [
        other
        for other in runs
        if other.get("method") == method and all(other.get(key) == run.get(key) for key in SETTING)
    ]
    at_home = [other for other in alike if other.get("folder") == run.get("folder")]
    return next(iter(at_home + alike), None)


def savings(run: Entry, base: Entry) -> list[tuple[str, float]]:
    """What the way to the target cost, as a ratio to the base's: 'time', 'bytes' and 'energy', those that are known."""
    found = []
    for name, key in GOALS:
        mine, other = number_in(run.get(key)), number_in(base.get(key))
        if mine is None or not other:
            continue
        kind = kind_of_run(run)
        if name != "energy" or (kind is not None and kind == kind_of_run(base)):
            found.append((name, mine / other))
    return found
