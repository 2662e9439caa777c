"""The sentences of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordinator.report.cells import method_dot
from coordinator.report.energy import NO_SCOPE, cover_words, has_energy, replay_of, run_badge, why_unmeasured
from coordinator.report.numbers import (
    escaped,
    in_words,
    number_in,
    scored,
    show_backing,
    show_bytes,
    show_joules,
    show_seconds,
)
from coordinator.report.runs import (
    Record,
    config_of,
    curve_of,
    devices_of,
    distinct,
    goal_of,
    joined,
    link_of,
    method_of,
    metric_of,
    steps_of,
)


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
        if joules is not None:
            about = [in_words(run.get("energy_scope")) or NO_SCOPE, cover_words(devices_of(run))]
            words += f" and <strong>{show_joules(joules)}</strong> ({escaped(', '.join(filter(None, about)))})"
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
    behind = f" {words_of}" if (words_of := show_backing(run.get("test_examples"))) else ""
    behind += " that the devices hold out" if behind and run.get("evaluation") == "devices" else ""
    words += "." + (f" On the test part: {score(test)}{behind}." if test is not None else "")
    words += later.get(str(state), "") if run.get("reached") else ""
    words += _interruption(run)
    failure = f" Reason: {escaped(run['failure'])}" if run.get("failure") else ""
    badge = run_badge(run) if number_in(run.get("joules_to_target")) is not None else ""
    return f"<li>{method_dot(run)}<span><strong>{escaped(label)}</strong> {words}{failure}{badge}</span></li>"


def _interruption(run: Record) -> str:
    """What a run says of the times that its coordinator was started again, as HTML."""
    restarts, away_s = number_in(run.get("restarts")), number_in(run.get("downtime_s"))
    if not restarts:
        return ""
    times = "once" if restarts == 1 else f"{restarts:g} times"
    away = f", after {show_seconds(away_s)} of downtime that no time here includes" if away_s is not None else ""
    return f" It was taken up again {times}{away}."


def memory_sentences(run: Record) -> list[str]:
    """Which devices trained fewer examples at a time than the experiment says, as plain text."""
    training = config_of(run).get("training") or {}
    wanted = number_in(training.get("micro_batch_size")) or number_in(training.get("batch_size"))
    instead = "" if wanted is None else f", where the experiment says {wanted:g}"
    return [
        f"Memory was too short on {in_words(device.get('name'))}: it went down to {size:g} "
        f"{'example' if size == 1 else 'examples'} at a time{instead}."
        for device in devices_of(run)
        if (size := number_in(device.get("micro_batch")))
    ]


def gap_sentences(runs: Sequence[Record], labels: Sequence[str]) -> list[str]:
    """What is not known, a sentence each, as plain text."""
    named = list(zip(runs, labels, strict=True))
    devices = [(d, f"{in_words(d.get('name'))} ({label})") for run, label in named for d in devices_of(run)]
    found = energy_gaps(runs, labels)
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


def energy_gaps(runs: Sequence[Record], labels: Sequence[str]) -> list[str]:
    """Where energy was not measured, and why; why there is no sum of what was."""
    named = list(zip(runs, labels, strict=True))
    devices = [(device, label) for run, label in named for device in devices_of(run)]
    reasons: dict[str, list[str]] = {}
    for device, label in devices:
        if number_in(device.get("energy_j")) is None:
            reasons.setdefault(why_unmeasured(device), []).append(f"{in_words(device.get('name'))} ({label})")
    found = []
    for reason, names in reasons.items():
        where = "" if len(names) == len(devices) else f" on {joined(names)}"
        found.append(f"Energy was not measured{where}{f': {_ended(reason)}' if reason else '.'}")
    notes: dict[str, list[str]] = {}
    for run, label in named:
        measured = any(number_in(device.get("energy_j")) is not None for device in devices_of(run))
        if run.get("energy_note") and measured:
            notes.setdefault(in_words(run["energy_note"]), []).append(label)
    found += [f"There is no sum of joules for {joined(names)}: {_ended(note)}" for note, names in notes.items()]
    replays: dict[str, list[str]] = {}
    for device, label in devices:
        if (source := replay_of(device)) and has_energy(device):
            replays.setdefault(source, []).append(f"{in_words(device.get('name'))} ({label})")
    return found + [f"Joules of {joined(names)} are a {name}, not measured there." for name, names in replays.items()]


def _ended(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
