"""Reading a run's entry in result.json, of which any key may be missing, and a name for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.report.numbers import SPACE, in_words, number_in, scored

Record = Mapping[str, Any]
NAMES = {"ft": "FT", "bitfit": "BitFit", "adapter": "Adapter", "lora": "LoRA", "federa": "FeDeRA"}


def config_of(run: Record) -> Record:
    return run.get("config") or {}


def method_of(run: Record) -> str:
    key = in_words(run.get("method"))
    return NAMES.get(key, key or "unnamed method")


def link_of(run: Record) -> str:
    rate = number_in(run.get("bandwidth"))
    return "link as it is" if rate is None else f"{rate:g}{SPACE}Mbit/s"


def metric_of(run: Record) -> str:
    return in_words(run.get("metric")) or "score"


def goal_of(run: Record) -> str:
    target = number_in(run.get("target"))
    return "the target" if target is None else scored(run.get("metric"))(target)


def devices_of(run: Record) -> list[Record]:
    return list(run.get("devices") or [])


def curve_of(run: Record) -> list[Record]:
    return list(run.get("curve") or [])


def examples_behind_best(run: Record) -> object:
    """How many validation examples stand behind the best score."""
    points = curve_of(run)
    return next((point.get("examples") for point in points if point.get("value") == run.get("best")), None)


def steps_of(device: Record) -> list[float | None]:
    return [number_in((device.get("step_ms") or {}).get(key)) for key in ("p50", "p95", "p99")]


def joined(names: Iterable[str], most: int = 6) -> str:
    listed = list(names)
    if len(listed) > most:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def run_labels(runs: Sequence[Record]) -> list[str]:
    """A name for each run that tells it from the others: the method, and whatever else differs."""
    labels = [method_of(run) for run in runs]
    if any(labels.count(label) > 1 for label in labels):
        # Only runs of several folders that are put in one report have this key.
        named = zip(labels, (in_words(run.get("folder")) for run in runs), strict=True)
        labels = [f"{label} · {name}" if name and labels.count(label) > 1 else label for label, name in named]
    if len({link_of(run) for run in runs}) > 1:
        labels = [f"{label} · {link_of(run)}" for label, run in zip(labels, runs, strict=True)]
    if len({in_words(run.get("seed")) for run in runs}) > 1:
        labels = [f"{label} · seed {in_words(run.get('seed'))}" for label, run in zip(labels, runs, strict=True)]
    return [f"{x} · run {i + 1}" if labels.count(x) > 1 else x for i, x in enumerate(labels)]
