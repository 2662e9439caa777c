"""One run's devices: where time and energy went, the power over time, steps, sensors, and what each device is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.report.cells import UNMEASURED, behind, cell, fold, plain, table
from coordinator.report.energy import (
    Kind,
    energy_of_device,
    has_energy,
    kind_of_device,
    name_of_kind,
    replay_badge,
    replay_of,
    show_share,
)
from coordinator.report.numbers import SPACE, escaped, in_words, number_in, show_seconds, sum_known
from coordinator.report.runs import Record, devices_of, distinct, steps_of
from coordinator.report.sentences import memory_sentences
from federa.phases import PHASES

FACTS = {
    "l4t": "L4T",
    "power_mode": "Power mode",
    "cores": "Cores",
    "cpu_max_mhz": "CPU clock, most (MHz)",
    "gpu_max_mhz": "GPU clock, most (MHz)",
    "memory": "Memory",
    "host": "Host",
}
"""Known facts in the order that they are shown in. Others follow under their own names."""


def show_watts(value: float) -> str:
    return f"{value:.3g}{SPACE}W" if value < 999.5 else f"{value:.0f}{SPACE}W"


def show_ms(value: float) -> str:
    return f"{value:.4g}{SPACE}ms"


def run_devices(run: Record, index: int, label: str, is_open: bool, scales: Mapping[object, float | None]) -> str:
    """All of a run's devices in a fold. `scales` holds the end of the axis that the runs' bars share, by 'seconds' or
    by the kind of the energy; None where they cannot share one."""
    devices = devices_of(run)
    if not devices:
        return ""
    kinds = distinct_kinds(devices)
    sources = replay_badge(replay_of(device) for device in devices if has_energy(device))
    parts = [
        f'<p class="note">{sources.strip()}</p>' if sources else "",
        *(f'<p class="note">{escaped(sentence)}</p>' for sentence in memory_sentences(run)),
        _phase_figure(run, index, label, None, scales),
    ]
    parts += [_phase_figure(run, index, label, kind, scales) for kind in kinds]
    parts += [_trace_figure(device, index, order, label) for order, device in enumerate(devices)]
    parts += [_energy_table(devices, label), _steps_table(devices, label)]
    if any(device.get("rounds") for device in devices):
        parts.append(fold("Each round: seconds, energy and step times", _rounds_table(devices, label)))
    if any(device.get("sensors") for device in devices):
        parts.append(fold("Temperatures, GPU and throttling", _sensor_table(devices, label)))
    parts.append(fold("What the devices are", _identity_table(devices, label)))
    mark = " open" if is_open else ""
    return f'<details class="run"{mark}><summary>{escaped(label)}</summary>{"".join(parts)}</details>'


def distinct_kinds(devices: Sequence[Record]) -> list[Kind]:
    return list(dict.fromkeys(kind_of_device(device) for device in devices if has_energy(device)))


def _phase_figure(run: Record, index: int, label: str, kind: Kind | None, scales: Mapping[object, float | None]) -> str:
    """Stacked bars of seconds, or of the joules of one kind."""
    places = [place for place, device in enumerate(devices_of(run)) if kind in (None, kind_of_device(device))]
    places = [place for place in places if kind is None or has_energy(devices_of(run)[place])]
    key = "seconds" if kind is None else "joules"
    tables = [(device, device.get(key) or {}) for device in map(devices_of(run).__getitem__, places)]
    phases = distinct([*PHASES, *(phase for _, found in tables for phase in found)])
    rows = []
    for device, found in tables:
        values = [found.get(phase) for phase in phases]
        if kind is None:
            cells = [
                cell(value, show_seconds, "s") for value in (*values, sum_known(*found.values()) if found else None)
            ]
        else:
            total = device.get("energy_j") if "energy_j" in device else sum_known(*found.values())
            cells = [*(energy_of_device(device, value, "") for value in values), energy_of_device(device, total)]
        rows.append([escaped(device.get("name")), *cells])
    heads = ["Device", *(phase.capitalize() for phase in phases), "Total"]
    title = "Time by phase" if kind is None else f"Energy by phase ({name_of_kind(kind)})"
    largest = scales.get("seconds" if kind is None else kind)
    data = f'data-kind="{key}" data-run="{index}" data-devices="{",".join(map(str, places))}"'
    data += "" if largest is None else f' data-largest="{largest!r}"'
    badge = "" if kind is None else replay_badge(replay_of(device) for device, _ in tables)
    return (
        f"<figure><figcaption><h3>{escaped(title)}{badge}</h3></figcaption>"
        f'<div class="plot" {data} role="img" aria-label="{escaped(title)}, {escaped(label)}"></div>'
        f"{behind(table(f'{title}, {label}', heads, rows))}</figure>"
    )


def _trace_figure(device: Record, index: int, order: int, label: str) -> str:
    trace = device.get("trace") or {}
    watts = list(trace.get("power_w") or [])
    bin_s, from_s = number_in(trace.get("bin_s")), number_in(trace.get("from_s")) or 0.0
    if bin_s is None or not any(number_in(value) is not None for value in watts):
        return ""
    name = in_words(device.get("name"))
    title = f"Power of {name} over time"
    idle = number_in(device.get("idle_w"))
    note = f"Means of {show_seconds(bin_s)}. The coloured areas are the phases' joules; breaks were not measured. "
    note += "Thin lines: a round begins." + (f" Dashed: at rest, {show_watts(idle)}." if idle is not None else "")
    spans = [span for span in trace.get("phases") or [] if len(span) >= 4]
    # A few hundred rows: the bare minimum of HTML each.
    rows = []
    for place, value in enumerate(watts):
        start = from_s + place * bin_s
        round_, phase = _doing(spans, start + bin_s / 2)
        rows.append([f"{start:.4g}", f"<td>{escaped(round_)}</td><td>{escaped(phase)}</td>", _watts_cell(value)])
    heads = ["From (s)", "Round", "Phase", "Mean power (W)"]
    scope = f"{escaped(device.get('scope')) or 'scope not known'}"
    return (
        f"<figure><figcaption><h3>{escaped(title)}, {scope}{replay_badge([replay_of(device)])}</h3>"
        f"<p>{escaped(note)}</p></figcaption>"
        f'<div class="plot trace" data-kind="trace" data-run="{index}" data-device="{order}" role="img" '
        f'aria-label="{escaped(title)}, {escaped(label)}"></div>'
        f"{behind(table(f'{title}, {label}', heads, rows, box='tall', kind='samples'))}</figure>"
    )


def _watts_cell(value: object) -> str:
    number = number_in(value)
    return f'<td class="none">{UNMEASURED}</td>' if number is None else f"<td>{number:.4g}</td>"


def _doing(spans: Sequence[Sequence[Any]], at_s: float) -> tuple[object, object]:
    """Round and phase at a moment, empty where none is known. `spans` are in order."""
    place = bisect_right(spans, at_s, key=lambda span: float(span[0])) - 1
    return (spans[place][2], spans[place][3]) if place >= 0 and at_s < spans[place][1] else ("", "")


def _energy_table(devices: Sequence[Record], label: str) -> str:
    if not any(map(has_energy, devices)):
        return ""
    heads = [
        "Device",
        "Energy",
        "Above idle",
        "Before round 1",
        "Idle",
        "Mean",
        "Peak",
        "Covered",
        "Largest gap",
        "Power source",
    ]
    rows = []
    for device in devices:
        setup = device.get("setup") or {}
        rows.append(
            [
                escaped(device.get("name")),
                energy_of_device(device, device.get("energy_j")),
                energy_of_device(device, device.get("above_idle_j")),
                energy_of_device(device, setup.get("joules"), _in_seconds(setup.get("seconds"))),
                cell(device.get("idle_w"), show_watts, "W"),
                cell(mean_w(device), show_watts, "W"),
                cell(device.get("peak_w"), show_watts, "W"),
                cell(device.get("coverage"), show_share),
                cell(device.get("largest_gap_s"), show_seconds, "s"),
                plain(device.get("power_source"), "none"),
            ]
        )
    return table(f"Energy of the devices, {label}", heads, rows)


def _in_seconds(value: object) -> str:
    seconds = number_in(value)
    return "" if seconds is None else f"in {show_seconds(seconds)}"


def mean_w(device: Record) -> float | None:
    """Watts over the time that is covered."""
    joules, share = number_in(device.get("energy_j")), number_in(device.get("coverage"))
    seconds = sum_known(*(device.get("seconds") or {}).values())
    return joules / (share * seconds) if joules is not None and share and seconds else None


def _steps_table(devices: Sequence[Record], label: str) -> str:
    rows = [
        [
            escaped(d.get("name")),
            plain(d.get("board"), "not known"),
            *(cell(step, show_ms, "ms") for step in steps_of(d)),
        ]
        for d in devices
    ]
    heads = ["Device", "Board", "Step p50", "Step p95", "Step p99"]
    return table(f"Devices and their training steps, {label}", heads, rows, kind="devices")


def _rounds_table(devices: Sequence[Record], label: str) -> str:
    rows = []
    for device in devices:
        for entry in device.get("rounds") or []:
            row = [escaped(device.get("name")), cell(entry.get("round"), "{:g}".format)]
            row += [cell(entry.get("seconds"), show_seconds, "s"), energy_of_device(device, entry.get("joules"), "")]
            row += [cell(entry.get("coverage"), show_share), *(cell(step, show_ms, "ms") for step in steps_of(entry))]
            rows.append(row)
    heads = ["Device", "Round", "Time", "Energy", "Covered", "Step p50", "Step p95", "Step p99"]
    return table(f"Rounds of each device, {label}", heads, rows, box="tall", kind="rounds")


def _sensor_table(devices: Sequence[Record], label: str) -> str:
    """A row a sensor, a column a device: '45 °C, most 51'."""
    sensors: list[Record] = [device.get("sensors") or {} for device in devices]
    rows = [
        ["GPU load", *(_mean_cell(found.get("gpu_load"), "%") for found in sensors)],
        ["GPU clock", *(_mean_cell(found.get("gpu_mhz"), "MHz") for found in sensors)],
        ["Throttled", *(cell((found.get("throttled") or {}).get("mean"), _throttled) for found in sensors)],
    ]
    for name in distinct(name for found in sensors for name in found.get("temps_c") or {}):
        temps = [(found.get("temps_c") or {}).get(name) for found in sensors]
        rows.append([f"Temperature {escaped(name)}", *(_mean_cell(temp, "°C") for temp in temps)])
    heads = ["Mean, and the most", *(in_words(device.get("name")) for device in devices)]
    return table(f"Sensors, {label}", heads, rows, kind="across")


def _throttled(share: float) -> str:
    return "never" if share == 0 else f"{show_share(share)} of the time"


def _mean_cell(found: object, unit: str) -> str:
    entry = found if isinstance(found, Mapping) else {}
    mean, most = number_in(entry.get("mean")), number_in(entry.get("max"))
    if mean is None:
        return f'<td class="none">{UNMEASURED}</td>'
    high = "" if most is None else f"<small>most {most:.4g}</small>"
    exact = f"mean {mean!r}" + ("" if most is None else f", most {most!r}")
    return f'<td title="{exact}{SPACE}{unit}">{mean:.3g}{SPACE}{unit}{high}</td>'


def _identity_table(devices: Sequence[Record], label: str) -> str:
    facts = [device.get("facts") or {} for device in devices]
    named: dict[str, list[object]] = {
        "Board": [d.get("board") or f.get("board") for d, f in zip(devices, facts, strict=True)]
    }
    others = [key for key in distinct(key for found in facts for key in found) if key not in FACTS and key != "board"]
    for key, name in {**FACTS, **{key: key for key in others}}.items():
        named[name] = [found.get(key) for found in facts]
    named["Power source"] = [device.get("power_source") or "none" for device in devices]
    named["Scope"] = [device.get("scope") for device in devices]
    named["What is read"] = [device.get("power_detail") for device in devices]
    rows = [[escaped(name), *(plain(value, "not known") for value in values)] for name, values in named.items()]
    heads = ["", *(in_words(device.get("name")) for device in devices)]
    return table(f"What the devices are, {label}", heads, rows, kind="pairs across")
