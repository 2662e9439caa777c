"""The sentences of the page, as plain text or as parts of which some are strong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from coordinator.report.elements import Sentence, TextPart, method_key
from coordinator.report.energy import NO_SCOPE, coverage_text, has_energy, replay_of, runs_badge, why_unmeasured
from coordinator.report.runs import (
    Entry,
    as_text,
    config_of,
    curve_of,
    devices_of,
    distinct,
    goal_of,
    joined,
    link_of,
    method_of,
    metric_of,
    number_in,
    score_format,
    show_backing,
    steps_of,
)
from federa.numbers import show_bytes, show_joules, show_seconds


def lede(runs: Sequence[Entry]) -> str:
    """What the page is about."""
    if not runs:
        return "There is no run in this result yet."
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    goals = distinct(f"{metric_of(run)} {goal_of(run)}" for run in runs if number_in(run.get("target")) is not None)
    target = f", to a target of {joined(goals)}" if goals else ""
    methods, links = joined(distinct(map(method_of, runs))), joined(distinct(map(link_of, runs)))
    return f"{count} of {methods}{target}. Network: {links}."


def comparability_sentence(runs: Sequence[Entry]) -> str:
    """That values are not comparable, where runs were not evaluated on the same examples in the same way."""
    differing = [
        key
        for key, of in (("data", lambda run: config_of(run).get("data")), ("evaluation", _evaluation))
        if len({as_text(of(run)) for run in runs}) > 1
    ]
    if not differing:
        return ""
    verb = "differs" if len(differing) == 1 else "differ"
    names = joined(f"`{key}`" for key in differing)
    return f"The runs' values are not comparable: {names} {verb}, so they were not scored on the same examples."


def _evaluation(run: Entry) -> object:
    return config_of(run).get("evaluation") or run.get("evaluation")


def run_sentence(run: Entry, label: str) -> Sentence:
    """How a run went."""
    state = str(run.get("state") or "finished")
    parts = [TextPart(label, strong=True), TextPart(" ")]
    parts += _reached(run) if run.get("reached") else _tried(run, state)
    parts.append(TextPart("." + _tested(run)))
    if run.get("reached"):
        later = {"failed": " It failed later.", "stopped": " It was stopped later.", "running": " It is still running."}
        parts.append(TextPart(later.get(state, "")))
    parts.append(TextPart(_interruption(run)))
    if run.get("failure"):
        parts.append(TextPart(f" Reason: {as_text(run['failure'])}"))
    badge = runs_badge([run]) if number_in(run.get("joules_to_target")) is not None else None
    return Sentence(method_key(run), parts, badge)


def _goal(run: Entry) -> str:
    return goal_of(run) if run.get("target") is None else f"{metric_of(run)} {goal_of(run)}"


def _after(rounds: object) -> str:
    count = number_in(rounds)
    return "" if count is None else f" after {count:g} {'round' if count == 1 else 'rounds'}"


def _reached(run: Entry) -> list[TextPart]:
    seconds, size = number_in(run.get("time_to_target_s")), number_in(run.get("bytes_to_target"))
    joules = number_in(run.get("joules_to_target"))
    parts = [TextPart(f"reached {_goal(run)}")]
    if seconds is not None:
        parts += [TextPart(" in "), TextPart(show_seconds(seconds), strong=True)]
    parts.append(TextPart(_after(run.get("rounds_to_target"))))
    if size is not None:
        parts += [TextPart(", with "), TextPart(show_bytes(size), strong=True), TextPart(" on the wire")]
    if joules is not None:
        about = [as_text(run.get("energy_scope")) or NO_SCOPE, coverage_text(devices_of(run))]
        parts += [
            TextPart(" and "),
            TextPart(show_joules(joules), strong=True),
            TextPart(f" ({', '.join(filter(None, about))})"),
        ]
    return parts


def _tried(run: Entry, state: str) -> list[TextPart]:
    goal, after, best = _goal(run), _after(run.get("rounds")), number_in(run.get("best"))
    tried = {
        "running": f"is still running{after} and has not reached {goal} yet",
        "stopped": f"was stopped{after}, before it reached {goal}",
        "failed": f"failed{after}, before it reached {goal}",
    }
    parts = [TextPart(tried.get(state, f"did not reach {goal}{after}"))]
    if best is None:
        return [*parts, TextPart("; nothing has been evaluated yet")]
    return [*parts, TextPart("; its best is "), TextPart(score_format(run)(best), strong=True)]


def _tested(run: Entry) -> str:
    test = number_in(run.get("test"))
    if test is None:
        return ""
    behind = f" {text}" if (text := show_backing(run.get("test_examples"))) else ""
    behind += " that the devices hold out" if behind and run.get("evaluation") == "devices" else ""
    return f" On the test part: {score_format(run)(test)}{behind}."


def _interruption(run: Entry) -> str:
    """What a run says of the times that its coordinator was started again."""
    restarts, away_s = number_in(run.get("restarts")), number_in(run.get("downtime_s"))
    if not restarts:
        return ""
    times = "once" if restarts == 1 else f"{restarts:g} times"
    away = f", after {show_seconds(away_s)} of downtime that no time here includes" if away_s is not None else ""
    return f" It was taken up again {times}{away}."


def memory_sentences(run: Entry) -> list[str]:
    """Which devices trained fewer examples at a time than the experiment says."""
    training = config_of(run).get("training") or {}
    wanted = number_in(training.get("micro_batch_size")) or number_in(training.get("batch_size"))
    instead = "" if wanted is None else f", where the experiment says {wanted:g}"
    return [
        f"Memory was too short on {as_text(device.get('name'))}: it went down to {size:g} "
        f"{'example' if size == 1 else 'examples'} at a time{instead}."
        for device in devices_of(run)
        if (size := number_in(device.get("micro_batch")))
    ]


def key_sentences(run: Entry) -> list[str]:
    """Which devices' names and keys came a second time."""
    names = [as_text(name) for name in run.get("copied_keys") or []]
    return [
        f"A second worker named {name} with the same key was refused: its state folder or card was copied."
        for name in names
    ]


def model_sentences(runs: Sequence[Entry]) -> list[str]:
    """What was not as usual with the base models, and what was done about it."""
    return distinct(
        f"{as_text(config_of(run).get('model')) or 'The base model'} {_ended(as_text(note))}"
        for run in runs
        for note in run.get("model_notes") or []
    )


# ---- what is not known


def gap_sentences(runs: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """What is not known, a sentence each."""
    named = list(zip(runs, labels, strict=True))
    found = energy_gaps(runs, labels)
    lists: tuple[tuple[str, Callable[[Entry], bool]], ...] = (
        (
            "Time and bytes to the target do not exist for {}: the target was not reached.",
            lambda run: not run.get("reached"),
        ),
        ("The test score was not measured for {}.", lambda run: number_in(run.get("test")) is None),
        ("No round was evaluated for {}.", lambda run: not curve_of(run)),
        ("No device was recorded for {}.", lambda run: not devices_of(run)),
    )
    for sentence, missing in lists:
        if names := [label for run, label in named if missing(run)]:
            found.append(sentence.format(joined(names)))
    untimed = [name for device, name in _named_devices(runs, labels) if not any(steps_of(device))]
    return found + ([f"Step times were not measured on {joined(untimed)}."] if untimed else [])


def energy_gaps(
    runs: Sequence[Entry], labels: Sequence[str], reason_of: Callable[[Entry], str | None] = why_unmeasured
) -> list[str]:
    """Where energy was not measured, and why; why there is no sum of what was; and what is a replay. A device of which
    `reason_of` says None is left out."""
    devices = _named_devices(runs, labels)
    found = []
    unmeasured = ((reason_of(d), name) for d, name in devices if number_in(d.get("energy_j")) is None)
    reasons = _grouped((reason, name) for reason, name in unmeasured if reason is not None)
    for reason, names in reasons.items():
        where = "" if len(names) == len(devices) else f" on {joined(names)}"
        found.append(f"Energy was not measured{where}{f': {_ended(reason)}' if reason else '.'}")
    notes = _grouped(
        (as_text(run["energy_note"]), label)
        for run, label in zip(runs, labels, strict=True)
        if run.get("energy_note") and any(number_in(d.get("energy_j")) is not None for d in devices_of(run))
    )
    found += [f"There is no sum of joules for {joined(names)}: {_ended(note)}" for note, names in notes.items()]
    replays = _grouped((source, name) for d, name in devices if (source := replay_of(d)) and has_energy(d))
    return found + [f"Joules of {joined(names)} are a {name}, not measured there." for name, names in replays.items()]


def _named_devices(runs: Sequence[Entry], labels: Sequence[str]) -> list[tuple[Entry, str]]:
    """Every device as 'orin-1 (FeDeRA)'."""
    return [
        (device, f"{as_text(device.get('name'))} ({label})")
        for run, label in zip(runs, labels, strict=True)
        for device in devices_of(run)
    ]


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
