"""What a figure of energy must be read with: its scope, how much of the time it covers, and whether it is a replay.

Figures of unlike scope stand in no sum, on no common axis and in no ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.report.elements import UNMEASURED, Badge, Cell, exact
from coordinator.report.runs import Entry, as_text, devices_of, distinct, number_in, sum_known
from federa.energy import INTERVAL_ASSUMED
from federa.numbers import SPACE, show_joules, show_seconds, show_share

REPLAY = "replay of "
"""How the name of a source begins that reads a log."""
NO_SCOPE = "scope not known"
UNWANTED = "--power none"
"""What a worker that was asked to measure nothing gives as the reason."""
NO_SENSOR = "no power sensor found; federa-worker --check says what was tried, --power none silences this"

Kind = tuple[str, bool]
"""Scope, and whether it is a replay: what two figures must have in common to be compared."""


def replay_of(device: Entry) -> str | None:
    """'replay of FILE', with the word that its interval is assumed where nothing told it, or None for what was measured
    there and then."""
    source = as_text(device.get("power_source"))
    if not source.startswith(REPLAY):
        return None
    return f"{source}, {INTERVAL_ASSUMED}" if device.get("interval_assumed") is True else source


def kind_of_device(device: Entry) -> Kind:
    """What the device's joules can be compared with."""
    return as_text(device.get("scope")) or NO_SCOPE, replay_of(device) is not None


def is_replay(run: Entry) -> bool:
    """Whether any of the run's joules come from a log."""
    return bool(run.get("energy_is_replay")) or any(replay_of(device) for device in devices_of(run))


def kind_of_run(run: Entry) -> Kind | None:
    """The kind of its joules to the target; None where there is no common scope: nothing can be compared with it."""
    scope = as_text(run.get("energy_scope"))
    return (scope, is_replay(run)) if scope else None


def has_energy(device: Entry) -> bool:
    """Whether any joule of the device is known."""
    values = (device.get("energy_j"), *(device.get("joules") or {}).values())
    return any(number_in(value) is not None for value in values)


def distinct_kinds(devices: Iterable[Entry]) -> list[Kind]:
    """Every kind of energy among these devices."""
    return list(dict.fromkeys(kind_of_device(device) for device in devices if has_energy(device)))


def name_of_kind(kind: Kind) -> str:
    """'module', or 'module, replay'."""
    return f"{kind[0]}, replay" if kind[1] else kind[0]


def coverage_text(devices: Iterable[Entry]) -> str:
    """'99.2 % covered, largest gap 0.4 s': the least and the largest of these devices. Empty where nothing is known."""
    listed = list(devices)
    shares = [share for device in listed if (share := number_in(device.get("coverage"))) is not None]
    gaps = [gap for device in listed if (gap := number_in(device.get("largest_gap_s"))) is not None]
    text = [f"{show_share(min(shares))} covered"] if shares else []
    return ", ".join(text + ([f"largest gap {show_seconds(max(gaps))}"] if gaps else []))


def mean_w(device: Entry) -> float | None:
    """The device's mean power in watts over the time that is covered."""
    joules, share = number_in(device.get("energy_j")), number_in(device.get("coverage"))
    seconds = sum_known(*(device.get("seconds") or {}).values())
    return joules / (share * seconds) if joules is not None and share and seconds else None


def replay_badge(sources: Iterable[str | None], short: bool = False) -> Badge | None:
    """A mark beside every joule that came from a log."""
    names = distinct(name for name in sources if name)
    if not names:
        return None
    text = f"{'; '.join(names)}, not measured on this device"
    assumed = any(name.endswith(INTERVAL_ASSUMED) for name in names)
    brief = f"replay, {INTERVAL_ASSUMED}" if assumed else "replay"
    return Badge(brief if short else text, text)


def runs_badge(runs: Sequence[Entry], short: bool = False) -> Badge | None:
    """A mark for all that came from a log in these runs."""
    sources = [replay_of(device) for run in runs for device in devices_of(run)]
    if any(map(is_replay, runs)) and not any(sources):
        sources = ["replay of a log"]
    return replay_badge(sources, short)


def energy_of_device(device: Entry, value: object, beside: str | None = None) -> Cell:
    """Joules of a device; below them what they cover, or the words `beside`."""
    text = coverage_text([device]) if beside is None else beside
    return _energy_cell(value, device.get("scope"), replay_badge([replay_of(device)], short=True), text, UNMEASURED)


def energy_of_run(run: Entry, value: object, missing: str = UNMEASURED, beside: bool = True) -> Cell:
    """Joules of a run; below them, when they stand `beside` nothing that says so, what they cover."""
    text = coverage_text(devices_of(run)) if beside else ""
    return _energy_cell(value, run.get("energy_scope"), runs_badge([run], short=True), text, missing)


def _energy_cell(value: object, scope: object, badge: Badge | None, small: str, missing: str) -> Cell:
    joules = number_in(value)
    if joules is None:
        return Cell(missing, "none")
    text = f"{show_joules(joules)}, {as_text(scope) or NO_SCOPE}"
    return Cell(text, title=f"{exact(joules)}{SPACE}J", badge=badge, small=small)


def brief_reason(device: Entry) -> str | None:
    """Why a device has no joules, for the terminal: a list of all that was tried is the report's. None where nothing
    was to be measured, which needs no word."""
    reason = why_unmeasured(device)
    if reason == UNWANTED:
        return None
    return NO_SENSOR if "; " in reason and not device.get("power_source") else reason


def why_unmeasured(device: Entry) -> str:
    """Why a device has no joules, or an empty text where nobody said."""
    return as_text(device.get("power_detail")) if number_in(device.get("energy_j")) is None else ""
