"""Tables and lines on the terminal, from result.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from coordinator.report.comparison import base_among, base_of, method_sentences, savings, show_ratio
from coordinator.report.data import cut_lines, data_lines, split_lines
from coordinator.report.energy import brief_reason, coverage_text, is_replay, mean_w, replay_of
from coordinator.report.grid import Grid
from coordinator.report.runs import (
    NAMES,
    as_text,
    best_point,
    curve_of,
    devices_of,
    distinct,
    examples_behind_best,
    lower_is_better,
    metric_of,
    number_in,
    run_labels,
    show_backing,
    steps_of,
    sum_known,
)
from coordinator.report.sentences import energy_gaps, key_sentences, memory_sentences
from federa.numbers import DASH, human_bytes, human_goal, human_seconds, metric_words, show_joules, show_share
from federa.phases import PHASES

Record = Mapping[str, Any]


def summary(result: Record) -> Grid:
    """One row a run. A dash is what was not reached or not measured."""
    runs = _runs(result)
    base = base_among(runs)
    columns = ["method", "reached", "time to target", "rounds", "bytes to target", "joules"]
    columns += [*([f"{NAMES[base]} = 1"] if base else []), "best", "test", "state"]
    grid = Grid(tuple(columns), left=frozenset({"method", "reached"}))
    labels = [run["method"] for run in runs] if len({run.get("method") for run in runs}) == len(runs) else _labels(runs)
    for run, label in zip(runs, labels, strict=True):
        number = number_in(run.get("target"))
        goal = "" if number is None else human_goal(f"{number:g}", lower_is_better(run))
        target = f", {metric_of(run)} {goal}" if goal else ""
        reached = Text.assemble(("yes", "green") if run.get("reached") else ("no", "red"), target)
        grid.add(
            as_text(label),
            reached,
            human_seconds(number_in(run.get("time_to_target_s"))),
            str(run.get("rounds_to_target") or f"{len(curve_of(run))}, not reached"),
            human_bytes(number_in(run.get("bytes_to_target"))),
            _joules(run, run.get("joules_to_target")),
            *(["\n".join(_savings(run, runs, base)) or DASH] if base else []),
            _value(run.get("best"), examples_behind_best(run)),
            _value(run.get("test"), run.get("test_examples")),
            human_bytes(number_in(run.get("state_bytes"))),
        )
    return grid


def _runs(result: Record) -> list[Record]:
    return list(result.get("runs") or [])


def _labels(runs: Sequence[Record]) -> list[str]:
    return [label.replace("\u00a0", " ") for label in run_labels(runs)]


def _value(value: object, examples: object) -> str:
    """'0.9341', and below it 'of 334 examples'."""
    number = number_in(value)
    backing = show_backing(examples).replace("\u00a0", " ")
    return DASH if number is None else f"{number:.4f}" + (f"\n{backing}" if backing else "")


def _show_joules(joules: float) -> str:
    return show_joules(joules).replace("\u00a0", " ")


def _joules(run: Record, value: object) -> str:
    """'1.2 kJ, module (replay)'."""
    joules = number_in(value)
    if joules is None:
        return DASH
    replay = " (replay)" if is_replay(run) else ""
    return f"{_show_joules(joules)}, {as_text(run.get('energy_scope')) or 'scope not known'}{replay}"


def _savings(run: Record, runs: Sequence[Record], method: str) -> list[str]:
    base = base_of(run, runs, method)
    if base is None or not (base.get("reached") and run.get("reached")):
        return []
    return [f"{name} {show_ratio(ratio)}".replace("\u00a0", " ") for name, ratio in savings(run, base)]


def device_table(result: Record) -> Grid:
    """One row a device of a run: what it is, how it was measured, and its steps."""
    texts = ("method", "device", "board", "power source", "scope")
    numbers = ("energy", "idle W", "mean W", "peak W", "covered", "gap", "step p50", "p95", "p99")
    grid = Grid((*texts, *numbers), left=frozenset(texts))
    for run, label in zip(_runs(result), _labels(_runs(result)), strict=True):
        for device in devices_of(run):
            joules = number_in(device.get("energy_j"))
            watts = (device.get("idle_w"), mean_w(device), device.get("peak_w"))
            share, gap_s = number_in(device.get("coverage")), number_in(device.get("largest_gap_s"))
            text = (label, device.get("name"), device.get("board") or "not known")
            grid.add(
                *map(as_text, text),
                as_text(device.get("power_source")) or "none",
                as_text(device.get("scope")) or DASH,
                "not measured" if joules is None else _show_joules(joules) + (" (replay)" if replay_of(device) else ""),
                *(DASH if (watt := number_in(value)) is None else f"{watt:.3g}" for value in watts),
                DASH if share is None else show_share(share).replace("\u00a0", " "),
                DASH if gap_s is None else human_seconds(gap_s),
                *(DASH if step is None else f"{step:.4g} ms" for step in steps_of(device)),
            )
    return grid


def phase_table(result: Record) -> Grid:
    """Seconds of each phase, and below them its joules where they are known."""
    found = [device.get("seconds") or {} for run in _runs(result) for device in devices_of(run)]
    phases = distinct([*PHASES, *(as_text(phase) for phases in found for phase in phases)])
    words = ("method", "device", "of")
    grid = Grid((*words, *phases, "total"), left=frozenset(words))
    for run, label in zip(_runs(result), _labels(_runs(result)), strict=True):
        for device in devices_of(run):
            seconds, joules = device.get("seconds") or {}, device.get("joules") or {}
            times = [number_in(seconds.get(phase)) for phase in phases]
            total_s = sum_known(*seconds.values()) if seconds else None
            name = as_text(device.get("name"))
            grid.add(label, name, "time", *map(human_seconds, (*times, total_s)))
            total_j = number_in(device.get("energy_j"))
            if total_j is None:
                continue
            energies = (*(number_in(joules.get(phase)) for phase in phases), total_j)
            kind = as_text(device.get("scope")) + (", replay" if replay_of(device) else "")
            # The names again: on a narrow terminal the row before is not beside it.
            grid.add(label, name, f"J, {kind}", *(DASH if j is None else _show_joules(j) for j in energies))
    return grid


def joule_lines(result: Record) -> list[str]:
    """What the target cost in joules, a line a method, with scope and coverage; and what was not measured, and why."""
    runs = _runs(result)
    lines = []
    for run, label in zip(runs, _labels(runs), strict=True):
        if number_in(run.get("joules_to_target")) is not None:
            cover = coverage_text(devices_of(run)).replace("\u00a0", " ")
            text = _joules(run, run["joules_to_target"]) + (f", {cover}" if cover else "")
            lines.append(f"joules: {label}: {text}")
        elif spent := [
            point.get("energy_j") for point in curve_of(run) if number_in(point.get("energy_j")) is not None
        ]:
            rounds = "1 round" if len(curve_of(run)) == 1 else f"{len(curve_of(run))} rounds"
            cover = coverage_text(devices_of(run)).replace("\u00a0", " ")
            lines.append(f"joules: {label}: {_joules(run, spent[-1])} in {rounds}{f', {cover}' if cover else ''}")
    reasons: dict[str, list[str]] = {}
    for run in runs:
        for device in devices_of(run):
            if number_in(device.get("energy_j")) is None and (reason := brief_reason(device)) is not None:
                reasons.setdefault(reason, []).append(as_text(device.get("name")))
    for reason, names in reasons.items():
        lines.append(f"joules: not measured on {', '.join(distinct(names))}" + (f" ({reason})" if reason else ""))
    for run, label in zip(runs, _labels(runs), strict=True):
        measured = any(number_in(device.get("energy_j")) is not None for device in devices_of(run))
        if measured and run.get("energy_note"):
            lines.append(f"joules: no sum for {label}: {as_text(run['energy_note'])}")
        sources = distinct(source for device in devices_of(run) if (source := replay_of(device)))
        if measured and sources:
            lines.append(f"joules: {label}: {', '.join(sources)}, not measured on this device")
    return lines


def unmeasured_lines(result: Record) -> list[str]:
    """The sentences of the report about energy that is missing or is no measurement."""
    runs = _runs(result)
    return energy_gaps(runs, _labels(runs), brief_reason)


def composition_lines(result: Record) -> list[str]:
    """What was read, a line for runs of the same data, and how skewed the clients' parts of it are."""
    runs = _runs(result)
    return [f"data: {line}" for lines in (data_lines, split_lines) for line in lines(runs, _labels(runs))]


def comparison_lines(result: Record) -> list[str]:
    """FeDeRA against LoRA and against the fastest other method that trains few parameters, a line a run."""
    runs = _runs(result)
    return [line.replace("\u00a0", " ") for line in method_sentences(runs, _labels(runs))]


def metric_lines(result: Record) -> list[str]:
    """The task's metrics beside the target's, a line a run: of the best round and of the test part."""
    runs = _runs(result)
    lines = []
    for run, label in zip(runs, _labels(runs), strict=True):
        point = best_point(run) or {}
        round_, parts = f"round {as_text(point.get('round'))}", []
        for part, metrics in ((round_, point.get("metrics")), ("test", run.get("test_metrics"))):
            others = {name: number_in(value) for name, value in (metrics or {}).items() if name != run.get("metric")}
            if others:
                shown = (f"{metric_words(as_text(name))} {_value(value, None)}" for name, value in others.items())
                parts.append(f"{part}: {', '.join(shown)}")
        if parts:
            lines.append(f"metrics: {label}: {'; '.join(parts)}")
    return lines


def cut_record_lines(result: Record) -> list[str]:
    """How many records were cut, a line for runs of which the same is to be said."""
    runs = _runs(result)
    return [f"data: {line}" for line in cut_lines(runs, _labels(runs))]


def memory_lines(result: Record) -> list[str]:
    """Which devices trained fewer examples at a time than the experiment says, a line each."""
    return _lines_about("memory", result, memory_sentences)


def key_lines(result: Record) -> list[str]:
    """Which devices' names and keys came a second time, a line each."""
    return _lines_about("devices", result, key_sentences)


def _lines_about(topic: str, result: Record, sentences: Callable[[Record], Iterable[str]]) -> list[str]:
    """A line for each sentence about a run, with what it is about and which run."""
    runs = _runs(result)
    return [
        f"{topic}: {label}: {line}" for run, label in zip(runs, _labels(runs), strict=True) for line in sentences(run)
    ]


def outcome_lines(result: Record) -> list[str]:
    """Why runs failed or were stopped, a line each."""
    runs = _runs(result)
    return [
        f"{label}: {as_text(run.get('state')) or 'failed'}: {as_text(run['failure'])}"
        for run, label in zip(runs, _labels(runs), strict=True)
        if run.get("failure")
    ]


def failure_lines(result: Record) -> list[str]:
    """What each run did without, a line each: how many updates were not taken, by what happened to them."""
    lines = []
    for run in _runs(result):
        counts = Counter(entry["kind"] for entry in run.get("setbacks") or [])
        if counts:
            text = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            lines.append(f"{run['method']}: updates that were not taken: {text}; the report says whose and why")
    return lines
