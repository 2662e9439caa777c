"""Reading a run's entry in result.json, of which any key may be missing, and a name for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from federa.errors import MAX_SHOWN, shown
from federa.numbers import SPACE, Formatter, human_goal, metric_words

Entry = Mapping[str, Any]
"""A run, a device, a point of a curve."""
NAMES = {"ft": "FT", "bitfit": "BitFit", "adapter": "Adapter", "lora": "LoRA", "federa": "FeDeRA"}
MAX_NAMED = 6
"""The most names that a sentence lists."""


# ---- values


def number_in(value: object) -> float | None:
    """The number, None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def sum_known(*values: object) -> float | None:
    """The sum, or None where a part is unknown: an unknown part is not 0."""
    numbers = [number_in(value) for value in values]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def as_text(value: object) -> str:
    """Any value of JSON as text; empty for null. What does not print is escaped: a result may be somebody else's, and
    is shown on a terminal."""
    if value is None:
        return ""
    if type(value) is int:  # as JSON writes it, but thirty times as fast: a power trace has one in every row
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else shown(text, len(text) * 2 + MAX_SHOWN)


def show_backing(examples: object) -> str:
    """'of 334 examples', or nothing where that is not known."""
    count = number_in(examples)
    return "" if count is None else f"of {count:,}{SPACE}{'example' if count == 1 else 'examples'}"


def joined(names: Iterable[str]) -> str:
    """'a, b and c'; what is beyond the sixth is counted."""
    listed = list(names)
    if len(listed) > MAX_NAMED:
        return f"{', '.join(listed[:MAX_NAMED])} and {len(listed) - MAX_NAMED} more"
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def distinct(names: Iterable[str]) -> list[str]:
    """Each once, in the order in which they come."""
    return list(dict.fromkeys(names))


def initial_upper(text: str) -> str:
    """The first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


# ---- a run


def config_of(run: Entry) -> Entry:
    """The run's configuration."""
    return run.get("config") or {}


def method_of(run: Entry) -> str:
    """The method's name as people write it."""
    key = as_text(run.get("method"))
    return NAMES.get(key, key or "unnamed method")


def link_of(run: Entry) -> str:
    """The bandwidth of the devices' links."""
    rate = number_in(run.get("bandwidth"))
    return "not paced" if rate is None else f"{rate:g}{SPACE}Mbit/s"


def devices_of(run: Entry) -> list[Entry]:
    """The run's devices."""
    return list(run.get("devices") or [])


def curve_of(run: Entry) -> list[Entry]:
    """A point for each evaluated round."""
    return list(run.get("curve") or [])


def steps_of(device: Entry) -> list[float | None]:
    """The 50th, 95th and 99th percentile of its training steps, in milliseconds."""
    return [number_in((device.get("step_ms") or {}).get(key)) for key in ("p50", "p95", "p99")]


def run_labels(runs: Sequence[Entry]) -> list[str]:
    """A name for each run that tells it from the others: the method, and whatever else differs."""
    labels = [method_of(run) for run in runs]
    if any(labels.count(label) > 1 for label in labels):
        # Only runs of several folders that are put in one report have this key.
        named = zip(labels, (as_text(run.get("folder")) for run in runs), strict=True)
        labels = [f"{label} · {name}" if name and labels.count(label) > 1 else label for label, name in named]
    if any(labels.count(label) > 1 for label in labels) and len({_experiment_of(run) for run in runs}) > 1:
        labels = [f"{label} · {_experiment_of(run)}" for label, run in zip(labels, runs, strict=True)]
    if len({link_of(run) for run in runs}) > 1:
        labels = [f"{label} · {link_of(run)}" for label, run in zip(labels, runs, strict=True)]
    if len({as_text(run.get("seed")) for run in runs}) > 1:
        labels = [f"{label} · seed {as_text(run.get('seed'))}" for label, run in zip(labels, runs, strict=True)]
    return [f"{x} · run {i + 1}" if labels.count(x) > 1 else x for i, x in enumerate(labels)]


def _experiment_of(run: Entry) -> str:
    return as_text(config_of(run).get("name")) or "no name"


# ---- its metric


def metric_of(run: Entry) -> str:
    """The metric's name, as people write it."""
    return metric_words(as_text(run.get("metric"))) or "score"


def metric_title(run: Entry) -> str:
    """The metric's name at the beginning of a title."""
    return initial_upper(metric_of(run))


def lower_is_better(run: Entry) -> bool:
    """Whether the run was to bring its metric down. Results of before that could be have no such key."""
    return run.get("better") == "lower"


def is_share(run: Entry) -> bool:
    """Whether the metric is shown as percent: one that is better when higher, of which no value is outside 0 to 1."""
    values = [run.get("target"), run.get("best"), run.get("test"), *(point.get("value") for point in curve_of(run))]
    known = [number for value in values if (number := number_in(value)) is not None]
    return bool(known) and not lower_is_better(run) and all(0 <= number <= 1 for number in known)


def score_format(run: Entry) -> Formatter:
    """How the run's metric is shown: a share as percent, anything else with four digits."""
    if is_share(run):
        return lambda value: f"{100 * value:.2f}".rstrip("0").rstrip(".") + f"{SPACE}%"
    return lambda value: f"{value:.4g}"


def goal_of(run: Entry) -> str:
    """The target: '80 %', or '≤ 0.2' where lower is better."""
    target = number_in(run.get("target"))
    if target is None:
        return "the target"
    return human_goal(score_format(run)(target), lower_is_better(run)).replace(" ", SPACE)


def best_point(run: Entry) -> Entry | None:
    """The first point of the curve with the best score."""
    return next((point for point in curve_of(run) if point.get("value") == run.get("best")), None)


def examples_behind_best(run: Entry) -> object:
    """How many validation examples stand behind the best score."""
    return (best_point(run) or {}).get("examples")
