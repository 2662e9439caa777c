"""What a figure of energy must be read with: its scope, how much of the time it covers, and whether it is a replay.

Figures of unlike scope stand in no sum, on no common axis and in no ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.report.numbers import SPACE, escaped, in_words, number_in, show_joules, show_seconds
from coordinator.report.runs import Record, devices_of, distinct

REPLAY = "replay of "
"""How the name of a source begins that reads a log."""
NO_SCOPE = "scope not known"

Kind = tuple[str, bool]
"""Scope, and whether it is a replay: what two figures must have in common to be compared."""


def replay_of(device: Record) -> str | None:
    """'replay of FILE', or None for what was measured there and then."""
    source = in_words(device.get("power_source"))
    return source if source.startswith(REPLAY) else None


def kind_of_device(device: Record) -> Kind:
    return in_words(device.get("scope")) or NO_SCOPE, replay_of(device) is not None


def is_replay(run: Record) -> bool:
    return bool(run.get("energy_is_replay")) or any(replay_of(device) for device in devices_of(run))


def kind_of_run(run: Record) -> Kind | None:
    """Of its joules to the target; None where there is no common scope, so that nothing can be compared with it."""
    scope = in_words(run.get("energy_scope"))
    return (scope, is_replay(run)) if scope else None


def has_energy(device: Record) -> bool:
    values = (device.get("energy_j"), *(device.get("joules") or {}).values())
    return any(number_in(value) is not None for value in values)


def name_of_kind(kind: Kind) -> str:
    """'module', or 'module, replay'."""
    return f"{kind[0]}, replay" if kind[1] else kind[0]


def show_share(value: float) -> str:
    """A share of 1 as percent: 100 only where nothing is missing."""
    percent = min(99.9, 100 * value) if value < 1 else 100.0
    return f"{percent:.1f}".removesuffix(".0") + f"{SPACE}%"


def cover_words(devices: Iterable[Record]) -> str:
    """'99.2 % covered, largest gap 0.4 s': the least and the largest of these devices. Empty where nothing is known."""
    listed = list(devices)
    shares = [share for device in listed if (share := number_in(device.get("coverage"))) is not None]
    gaps = [gap for device in listed if (gap := number_in(device.get("largest_gap_s"))) is not None]
    words = [f"{show_share(min(shares))} covered"] if shares else []
    return ", ".join(words + ([f"largest gap {show_seconds(max(gaps))}"] if gaps else []))


def replay_badge(sources: Iterable[str | None], short: bool = False) -> str:
    """A mark beside every joule that came from a log, as HTML. Empty where there is none."""
    names = distinct(name for name in sources if name)
    if not names:
        return ""
    words = f"{'; '.join(names)}, not measured on this device"
    return f' <span class="badge" title="{escaped(words)}">{"replay" if short else escaped(words)}</span>'


def run_badge(run: Record, short: bool = False) -> str:
    sources = [replay_of(device) for device in devices_of(run)]
    if is_replay(run) and not any(sources):
        sources = ["replay of a log"]
    return replay_badge(sources, short)


def energy_cell(value: object, scope: object, badge: str = "", beside: str = "", missing: str = "not measured") -> str:
    """A <td>: '12.3 kJ, module', a badge, and below it in small what it covers."""
    joules = number_in(value)
    if joules is None:
        return f'<td class="none">{escaped(missing)}</td>'
    exact = f"{joules:,}" if isinstance(joules, int) else repr(joules)
    small = f"<small>{escaped(beside)}</small>" if beside else ""
    words = f"{show_joules(joules)}, {escaped(scope) or NO_SCOPE}"
    return f'<td title="{exact}{SPACE}J">{words}{badge}{small}</td>'


def energy_of_device(device: Record, value: object, beside: str | None = None) -> str:
    words = cover_words([device]) if beside is None else beside
    return energy_cell(value, device.get("scope"), replay_badge([replay_of(device)], short=True), words)


def energy_of_run(run: Record, value: object, missing: str = "not measured", beside: bool = True) -> str:
    words = cover_words(devices_of(run)) if beside else ""
    return energy_cell(value, run.get("energy_scope"), run_badge(run, short=True), words, missing)


def why_unmeasured(device: Record) -> str:
    """Why a device has no joules, or an empty text where nobody said."""
    return in_words(device.get("power_detail")) if number_in(device.get("energy_j")) is None else ""


def kinds_of_devices(runs: Sequence[Record]) -> dict[Kind, list[tuple[int, int]]]:
    """Places (run, device) of everything with joules, by what can be compared."""
    found: dict[Kind, list[tuple[int, int]]] = {}
    for place, run in enumerate(runs):
        for order, device in enumerate(devices_of(run)):
            if has_energy(device):
                found.setdefault(kind_of_device(device), []).append((place, order))
    return found
