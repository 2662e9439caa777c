"""What one run saves against another: only between runs alike, and joules only between figures of one kind."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.report.energy import kind_of_run
from coordinator.report.groups import are_comparable
from coordinator.report.runs import NAMES, Entry, distinct, number_in
from federa.numbers import show_change

FULL = "ft"
"""The method that trains everything: what all others are measured by."""
OURS, NEAREST = "federa", "lora"
"""FeDeRA, and the method that differs from it by the start alone."""
GOALS = (("time", "time_to_target_s"), ("bytes", "bytes_to_target"), ("energy", "joules_to_target"))


def base_among(runs: Sequence[Entry]) -> str | None:
    """The method whose way to the target counts as 1: FT, or LoRA where there is no FT. None where neither is there, or
    no other method."""
    methods = {run.get("method") for run in runs}
    return next((key for key in (FULL, NEAREST) if key in methods and len(methods) > 1), None)


def base_of(run: Entry, runs: Sequence[Entry], method: str) -> Entry | None:
    """The run of `method` on the same data in the same setting, of the same folder before others."""
    alike = [other for other in runs if other.get("method") == method and are_comparable(run, other)]
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


def show_ratio(ratio: float) -> str:
    """A ratio with what it is as a change: 0.2 is '0.2 (−80 %)'."""
    return f"{ratio:.3g} ({show_change(ratio)})" if ratio != 1 else "1"


def fastest_other(run: Entry, runs: Sequence[Entry]) -> Entry | None:
    """Of the other methods that train a part of the parameters, the run on the same data in the same setting that took
    the least time to its target. None where none reached it."""
    methods = distinct(str(other.get("method")) for other in runs)
    others = [base_of(run, runs, method) for method in methods if method not in (FULL, run.get("method"))]
    timed = [
        (seconds, place, other)
        for place, other in enumerate(others)
        if other is not None and (seconds := number_in(other.get("time_to_target_s"))) is not None
    ]
    return min(timed, key=lambda entry: entry[:2])[2] if timed else None


def method_sentences(runs: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """FeDeRA against LoRA, from which it differs by its start alone, and against the fastest other method that trains
    few parameters: a sentence for each run of FeDeRA."""
    found = []
    for run, label in zip(runs, labels, strict=True):
        if run.get("method") != OURS:
            continue
        nearest, fastest = base_of(run, runs, NEAREST), fastest_other(run, runs)
        if nearest is not None:
            title = ", the fastest other PEFT method" if nearest is fastest else ""
            found.append(f"{label} against {_label_of(nearest, runs, labels)}{title}: {_outcome(run, nearest)}.")
        elif any(other.get("method") == NEAREST for other in runs):
            found.append(
                f"{label} is compared with no run of {NAMES[NEAREST]}: none has the same data, model, seed, link, "
                "metric and target."
            )
        if fastest is not None and fastest is not nearest:
            other = _label_of(fastest, runs, labels)
            found.append(f"{label} against {other}, the fastest other PEFT method: {_outcome(run, fastest)}.")
    return found


def _label_of(wanted: Entry, runs: Sequence[Entry], labels: Sequence[str]) -> str:
    return next(label for run, label in zip(runs, labels, strict=True) if run is wanted)


def _outcome(run: Entry, base: Entry) -> str:
    """'time −20 %, bytes 0 %'; or which of them did not reach the target."""
    if not run.get("reached"):
        return "it did not reach the target" if base.get("reached") else "neither reached the target"
    if not base.get("reached"):
        return "it reached the target, the other did not"
    ratios = savings(run, base)
    return ", ".join(f"{name} {show_change(ratio)}" for name, ratio in ratios) if ratios else "nothing was measured"
