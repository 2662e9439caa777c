"""What a run says of itself, in words, and the sentences made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from coordinator.report.numbers import (
    SPACE,
    escaped,
    in_words,
    number_in,
    scored,
    show_bytes,
    show_joules,
    show_seconds,
)

Record = Mapping[str, Any]
NAMES = {"ft": "FT", "bitfit": "BitFit", "adapter": "Adapter", "lora": "LoRA", "federa": "FeDeRA"}


# Reading a run.


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
    if len({link_of(run) for run in runs}) > 1:
        labels = [f"{label} · {link_of(run)}" for label, run in zip(labels, runs, strict=True)]
    if len({in_words(run.get("seed")) for run in runs}) > 1:
        labels = [f"{label} · seed {in_words(run.get('seed'))}" for label, run in zip(labels, runs, strict=True)]
    return [f"{x} · run {i + 1}" if labels.count(x) > 1 else x for i, x in enumerate(labels)]


# Sentences.


def method_dot(run: Record) -> str:
    """The run's method as a coloured dot, as HTML."""
    return f'<span class="dot" data-method="{escaped(run.get("method"))}" aria-hidden="true"></span>'


def lede(runs: Sequence[Record]) -> str:
    if not runs:
        return "There is no run in this result yet."
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    goals = distinct(f"{metric_of(run)} {goal_of(run)}" for run in runs if number_in(run.get("target")) is not None)
    target = f", to a target of {joined(goals)}" if goals else ""
    methods, links = joined(distinct(map(method_of, runs))), joined(distinct(map(link_of, runs)))
    return f"{count} of {methods}{target}. Links: {links}."


def run_sentence(run: Record, label: str) -> str:
    """How a run went, as HTML."""
    metric, score = escaped(metric_of(run)), scored(run.get("metric"))
    state = run.get("state") or "finished"
    seconds, best = number_in(run.get("time_to_target_s")), number_in(run.get("best"))
    goal = goal_of(run) if run.get("target") is None else f"{metric} {goal_of(run)}"
    rounds = number_in(run.get("rounds_to_target" if run.get("reached") else "rounds"))
    after = "" if rounds is None else f" after {rounds:g} {'round' if rounds == 1 else 'rounds'}"
    if run.get("reached"):
        size, joules = number_in(run.get("bytes_to_target")), number_in(run.get("joules_to_target"))
        words = f"reached {goal}"
        words += f" in <strong>{show_seconds(seconds)}</strong>" if seconds is not None else ""
        words += after
        words += f", with <strong>{show_bytes(size)}</strong> on the wire" if size is not None else ""
        words += f" and <strong>{show_joules(joules)}</strong>" if joules is not None else ""
    else:
        tried = {
            "running": f"is still running{after} and has not reached {goal} yet",
            "stopped": f"was stopped{after}, before it reached {goal}",
            "failed": f"failed{after}, before it reached {goal}",
        }
        words = tried.get(str(state), f"did not reach {goal}{after}")
        words += "; nothing has been evaluated yet" if best is None else f"; its best is <strong>{score(best)}</strong>"
    test = number_in(run.get("test"))
    later = {"failed": " It failed later.", "stopped": " It was stopped later.", "running": " It is still running."}
    words += "." + (f" On the test part: {score(test)}." if test is not None else "")
    words += later.get(str(state), "") if run.get("reached") else ""
    words += _interruption(run)
    failure = f" Reason: {escaped(run['failure'])}" if run.get("failure") else ""
    return f"<li>{method_dot(run)}<span><strong>{escaped(label)}</strong> {words}{failure}</span></li>"


def _interruption(run: Record) -> str:
    """What a run says of the times that its coordinator was started again, as HTML."""
    restarts, away_s = number_in(run.get("restarts")), number_in(run.get("downtime_s"))
    if not restarts:
        return ""
    times = "once" if restarts == 1 else f"{restarts:g} times"
    away = f", after {show_seconds(away_s)} of downtime that no time here includes" if away_s is not None else ""
    return f" It was taken up again {times}{away}."


def gap_sentences(runs: Sequence[Record], labels: Sequence[str]) -> list[str]:
    """What is not known, a sentence each, as plain text."""
    named = list(zip(runs, labels, strict=True))
    devices = [(d, f"{in_words(d.get('name'))} ({label})") for run, label in named for d in devices_of(run)]
    silent = [name for device, name in devices if number_in(device.get("energy_j")) is None]
    found = []
    if silent:
        found.append(f"Energy was not measured{'' if len(silent) == len(devices) else f' on {joined(silent)}'}.")
    lists: tuple[tuple[str, Callable[[Record], bool]], ...] = (
        (
            "Time and bytes to the target do not exist for {}: the target was not reached.",
            lambda r: not r.get("reached"),
        ),
        ("The test score was not measured for {}.", lambda r: number_in(r.get("test")) is None),
        ("No round was evaluated for {}.", lambda r: not curve_of(r)),
        ("No device was recorded for {}.", lambda r: not devices_of(r)),
    )
    for sentence, missing in lists:
        if names := [label for run, label in named if missing(run)]:
            found.append(sentence.format(joined(names)))
    untimed = [name for device, name in devices if not any(steps_of(device))]
    return found + ([f"Step times were not measured on {joined(untimed)}."] if untimed else [])
