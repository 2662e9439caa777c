"""The figures of one run's devices: where time and energy went, and the power over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.report.elements import UNMEASURED, Cell, Figure, Table, TableRow, cell
from coordinator.report.energy import (
    NO_SCOPE,
    Kind,
    distinct_kinds,
    energy_of_device,
    has_energy,
    kind_of_device,
    name_of_kind,
    replay_badge,
    replay_of,
)
from coordinator.report.runs import Entry, as_text, devices_of, distinct, number_in, sum_known
from federa.numbers import show_seconds, show_watts
from federa.phases import PHASES

MAX_SCALE_RATIO = 5
"""Runs share a scale as long as the longest bar is so many times the shortest run's longest."""

Scales = Mapping[Kind | None, float | None]
"""The end of the axis that the runs' bars share: of seconds under None, of joules under their kind. None where they
cannot share one, because the short ones would vanish on it."""


def shared_scales(runs: Sequence[Entry]) -> Scales:
    """The scales that all runs' bars can share."""
    kinds = distinct_kinds(device for run in runs for device in devices_of(run))
    return {kind: _shared_end(runs, kind) for kind in (None, *kinds)}


def _shared_end(runs: Sequence[Entry], kind: Kind | None) -> float | None:
    key = "seconds" if kind is None else "joules"
    longest = [
        max(
            (
                sum(max(0, number_in(value) or 0) for value in (device.get(key) or {}).values())
                for device in devices_of(run)
                if kind in (None, kind_of_device(device))
            ),
            default=0,
        )
        for run in runs
    ]
    some = [value for value in longest if value > 0]
    return max(some) if some and max(some) <= MAX_SCALE_RATIO * min(some) else None


def run_figures(run: Entry, index: int, label: str, scales: Scales) -> list[Figure]:
    """All figures of a run's devices: seconds, joules of each kind, and each device's power. The script finds the run
    by its `index`."""
    devices = devices_of(run)
    figures = [_phase_figure(devices, index, label, kind, scales) for kind in (None, *distinct_kinds(devices))]
    traces = [_trace_figure(device, index, order, label) for order, device in enumerate(devices)]
    return [*figures, *filter(None, traces)]


def _phase_figure(devices: Sequence[Entry], index: int, label: str, kind: Kind | None, scales: Scales) -> Figure:
    """Stacked bars of seconds, or of the joules of one kind."""
    key = "seconds" if kind is None else "joules"
    places = [
        place
        for place, device in enumerate(devices)
        if kind is None or (kind == kind_of_device(device) and has_energy(device))
    ]
    members = [devices[place] for place in places]
    phases = distinct([*PHASES, *(phase for device in members for phase in device.get(key) or {})])
    rows = [TableRow(as_text(device.get("name")), _phase_cells(device, key, phases)) for device in members]
    title = "Time by phase" if kind is None else f"Energy by phase ({name_of_kind(kind)})"
    data = {"kind": key, "run": str(index), "devices": ",".join(map(str, places))}
    largest = scales.get(kind)
    return Figure(
        title=title,
        label=f"{title}, {label}",
        kind="",
        data=data if largest is None else {**data, "largest": repr(largest)},
        table=Table(f"{title}, {label}", ["Device", *(phase.capitalize() for phase in phases), "Total"], rows),
        badge=None if kind is None else replay_badge(map(replay_of, members)),
    )


def _phase_cells(device: Entry, key: str, phases: Sequence[str]) -> list[Cell]:
    found = device.get(key) or {}
    values = [found.get(phase) for phase in phases]
    if key == "seconds":
        return [cell(value, show_seconds, "s") for value in (*values, sum_known(*found.values()) if found else None)]
    total = device.get("energy_j") if "energy_j" in device else sum_known(*found.values())
    return [*(energy_of_device(device, value, "") for value in values), energy_of_device(device, total)]


def _trace_figure(device: Entry, index: int, order: int, label: str) -> Figure | None:
    """A device's power over time; None where there is nothing to draw."""
    trace = device.get("trace") or {}
    watts = list(trace.get("power_w") or [])
    bin_s, from_s = number_in(trace.get("bin_s")), number_in(trace.get("from_s")) or 0.0
    if bin_s is None or not any(number_in(value) is not None for value in watts):
        return None
    spans = [span for span in trace.get("phases") or [] if len(span) >= 4]
    rows = []
    for place, value in enumerate(watts):
        start = from_s + place * bin_s
        round_, phase = _doing(spans, start + bin_s / 2)
        rows.append(TableRow(f"{start:.4g}", [Cell(as_text(round_)), Cell(as_text(phase)), _watts_cell(value)]))
    title = f"Power of {as_text(device.get('name'))} over time"
    heads = ["From (s)", "Round", "Phase", "Mean power (W)"]
    idle = number_in(device.get("idle_w"))
    note = f"Means of {show_seconds(bin_s)}. The coloured areas are the phases' joules; breaks were not measured. "
    note += "Thin lines: a round begins." + (f" Dashed: at rest, {show_watts(idle)}." if idle is not None else "")
    return Figure(
        title=f"{title}, {as_text(device.get('scope')) or NO_SCOPE}",
        label=f"{title}, {label}",
        kind="trace",
        data={"kind": "trace", "run": str(index), "device": str(order)},
        table=Table(f"{title}, {label}", heads, rows, box="tall", kind="samples"),
        note=note,
        badge=replay_badge([replay_of(device)]),
    )


def _watts_cell(value: object) -> Cell:
    number = number_in(value)
    return Cell(UNMEASURED, "none") if number is None else Cell(f"{number:.4g}")


def _doing(spans: Sequence[Sequence[Any]], at_s: float) -> tuple[object, object]:
    """Round and phase at a moment, empty where none is known. `spans` are in order."""
    place = bisect_right(spans, at_s, key=lambda span: float(span[0])) - 1
    return (spans[place][2], spans[place][3]) if place >= 0 and at_s < spans[place][1] else ("", "")
