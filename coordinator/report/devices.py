"""One run's devices: their figures, energy, steps and sensors, and what each device is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.report.device_figures import Scales, run_figures
from coordinator.report.elements import UNMEASURED, Cell, Fold, RunDevices, Table, TableRow, cell, plain
from coordinator.report.energy import energy_of_device, has_energy, mean_w, replay_badge, replay_of
from coordinator.report.runs import Entry, as_text, devices_of, distinct, number_in, steps_of
from coordinator.report.sentences import key_sentences, memory_sentences
from federa.numbers import SPACE, show_ms, show_seconds, show_share, show_watts

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


def run_devices(run: Entry, index: int, label: str, is_open: bool, scales: Scales) -> RunDevices | None:
    """All of a run's devices; None where there are none."""
    devices = devices_of(run)
    if not devices:
        return None
    sources = replay_badge(replay_of(device) for device in devices if has_energy(device))
    folds = [Fold("What the devices are", [_identity_table(devices, label)])]
    if any(device.get("sensors") for device in devices):
        folds.insert(0, Fold("Temperatures, GPU and throttling", [_sensor_table(devices, label)]))
    if any(device.get("rounds") for device in devices):
        folds.insert(0, Fold("Each round: seconds, energy and step times", [_rounds_table(devices, label)]))
    energy = [_energy_table(devices, label)] if any(map(has_energy, devices)) else []
    return RunDevices(
        label=label,
        is_open=is_open,
        badge=sources,
        notes=[*key_sentences(run), *memory_sentences(run)],
        figures=run_figures(run, index, label, scales),
        tables=[*energy, _steps_table(devices, label)],
        folds=folds,
    )


def _energy_table(devices: Sequence[Entry], label: str) -> Table:
    heads = ["Device", "Energy", "Above idle", "Before round 1", "Idle", "Mean", "Peak", "Covered", "Largest gap"]
    rows = []
    for device in devices:
        setup = device.get("setup") or {}
        seconds = number_in(setup.get("seconds"))
        cells = [
            energy_of_device(device, device.get("energy_j")),
            energy_of_device(device, device.get("above_idle_j")),
            energy_of_device(device, setup.get("joules"), "" if seconds is None else f"in {show_seconds(seconds)}"),
            cell(device.get("idle_w"), show_watts, "W"),
            cell(mean_w(device), show_watts, "W"),
            cell(device.get("peak_w"), show_watts, "W"),
            cell(device.get("coverage"), show_share),
            cell(device.get("largest_gap_s"), show_seconds, "s"),
            plain(device.get("power_source"), "none"),
        ]
        rows.append(TableRow(as_text(device.get("name")), cells))
    return Table(f"Energy of the devices, {label}", [*heads, "Power source"], rows)


def _step_cells(timed: Entry) -> list[Cell]:
    return [cell(step, show_ms, "ms") for step in steps_of(timed)]


def _steps_table(devices: Sequence[Entry], label: str) -> Table:
    rows = [
        TableRow(as_text(device.get("name")), [plain(device.get("board"), "not known"), *_step_cells(device)])
        for device in devices
    ]
    heads = ["Device", "Board", "Step p50", "Step p95", "Step p99"]
    return Table(f"Devices and their training steps, {label}", heads, rows, kind="devices")


def _rounds_table(devices: Sequence[Entry], label: str) -> Table:
    rows = [
        TableRow(
            as_text(device.get("name")),
            [
                cell(entry.get("round"), "{:g}".format),
                cell(entry.get("seconds"), show_seconds, "s"),
                energy_of_device(device, entry.get("joules"), ""),
                cell(entry.get("coverage"), show_share),
                *_step_cells(entry),
            ],
        )
        for device in devices
        for entry in device.get("rounds") or []
    ]
    heads = ["Device", "Round", "Time", "Energy", "Covered", "Step p50", "Step p95", "Step p99"]
    return Table(f"Rounds of each device, {label}", heads, rows, box="tall", kind="rounds")


def _sensor_table(devices: Sequence[Entry], label: str) -> Table:
    """A row a sensor, a column a device: '45 °C, most 51'."""
    sensors: list[Entry] = [device.get("sensors") or {} for device in devices]
    rows = [
        TableRow("GPU load", [_mean_cell(found.get("gpu_load"), "%") for found in sensors]),
        TableRow("GPU clock", [_mean_cell(found.get("gpu_mhz"), "MHz") for found in sensors]),
        TableRow("Throttled", [cell((found.get("throttled") or {}).get("mean"), _throttled) for found in sensors]),
    ]
    temps: list[Entry] = [found.get("temps_c") or {} for found in sensors]
    rows += [
        TableRow(f"Temperature {name}", [_mean_cell(found.get(name), "°C") for found in temps])
        for name in distinct(name for found in temps for name in found)
    ]
    heads = ["Mean, and the most", *(as_text(device.get("name")) for device in devices)]
    return Table(f"Sensors, {label}", heads, rows, kind="across")


def _throttled(share: float) -> str:
    return "never" if share == 0 else f"{show_share(share)} of the time"


def _mean_cell(found: object, unit: str) -> Cell:
    entry = found if isinstance(found, Mapping) else {}
    mean, most = number_in(entry.get("mean")), number_in(entry.get("max"))
    if mean is None:
        return Cell(UNMEASURED, "none")
    exact = f"mean {mean!r}" + ("" if most is None else f", most {most!r}")
    small = "" if most is None else f"most {most:.4g}"
    return Cell(f"{mean:.3g}{SPACE}{unit}", title=f"{exact}{SPACE}{unit}", small=small)


def _identity_table(devices: Sequence[Entry], label: str) -> Table:
    facts: list[Entry] = [device.get("facts") or {} for device in devices]
    boards = [device.get("board") or found.get("board") for device, found in zip(devices, facts, strict=True)]
    named: dict[str, list[object]] = {"Board": boards}
    others = [key for key in distinct(key for found in facts for key in found) if key not in FACTS and key != "board"]
    for key, name in {**FACTS, **{key: key for key in others}}.items():
        named[name] = [found.get(key) for found in facts]
    named["Power source"] = [device.get("power_source") or "none" for device in devices]
    named["Scope"] = [device.get("scope") for device in devices]
    # Why nothing is read stands once on the page, under what was not measured.
    named["What is read"] = [
        device.get("power_detail") if device.get("power_source") else "nothing" for device in devices
    ]
    rows = [TableRow(name, [plain(value, "not known") for value in values]) for name, values in named.items()]
    heads = ["", *(as_text(device.get("name")) for device in devices)]
    return Table(f"What the devices are, {label}", heads, rows, kind="pairs across")
