"""Tables, and the figures that have them behind. A cell is the HTML of a <td>."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from coordinator.report.numbers import (
    SPACE,
    Formatter,
    escaped,
    in_words,
    number_in,
    scored,
    show_bytes,
    show_change,
    show_count,
    show_joules,
    show_seconds,
    sum_known,
)
from coordinator.report.sentences import (
    NAMES,
    Record,
    config_of,
    curve_of,
    devices_of,
    distinct,
    method_dot,
    metric_of,
    steps_of,
)

PHASES = ("idle", "download", "load", "train", "upload", "evaluate")
GOALS = (("time", "time_to_target_s"), ("bytes", "bytes_to_target"), ("energy", "joules_to_target"))
UNMEASURED, UNREACHED = "not measured", "not reached"


def _cell(value: object, show: Formatter, unit: str = "", missing: str = UNMEASURED) -> str:
    number = number_in(value)
    if number is None:
        return f'<td class="none">{missing}</td>'
    exact = f"{number:,}" if isinstance(number, int) else repr(number)
    return f'<td title="{exact}{SPACE if unit else ""}{unit}">{show(number)}</td>'


def _plain(value: object, missing: str = UNMEASURED) -> str:
    words = escaped(value)
    return f"<td>{words}</td>" if words else f'<td class="none">{missing}</td>'


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, box: str = "", table: str = "") -> str:
    """A table in a box that scrolls. Each row is its head's inner HTML, then cells; the heads are plain text."""
    top = "".join(f'<th scope="col">{escaped(head)}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(row[1:])}</tr>' for row in rows)
    label = f'role="region" tabindex="0" aria-label="{escaped(caption)}"'
    return (
        f'<div class="scroll {box}" {label}><table class="{table}"><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _behind(content: str) -> str:
    return f"<details><summary>The numbers behind this figure</summary>{content}</details>"


def _against(run: Record, runs: Sequence[Record], method: str) -> str:
    """The cell that says by how much the way to the target is shorter than that of `method` in the same setting."""
    same = ("seed", "bandwidth", "metric", "target")
    alike = (other for other in runs if other.get("method") == method)
    base = next((other for other in alike if all(other.get(key) == run.get(key) for key in same)), None)
    if base is None or run.get("method") == method:
        return f'<td class="none">{"no such run" if base is None else "—"}</td>'
    if not (base.get("reached") and run.get("reached")):
        return '<td class="none">not both reached</td>'
    found = []
    for name, key in GOALS:
        mine, other = number_in(run.get(key)), number_in(base.get(key))
        if mine is not None and other:
            found.append(f'<span title="{mine / other:.6g} times">{name} {show_change(mine / other)}</span>')
    return f"<td>{'<br>'.join(found)}</td>" if found else f'<td class="none">{UNMEASURED}</td>'


def comparison_table(runs: Sequence[Record], labels: Sequence[str]) -> str:
    methods = {run.get("method") for run in runs}
    bases = [key for key in ("ft", "lora") if key in methods and len(methods) > 1]
    heads = ["Method", "Reached", "Time to target", "Rounds", "Bytes to target", "Energy to target"]
    heads += [*(f"Against {NAMES[key]}" for key in bases), "Best", "Test", "Trainable parameters", "State size"]
    rows = []
    for run, label in zip(runs, labels, strict=True):
        reached, score = bool(run.get("reached")), scored(run.get("metric"))
        missing = UNMEASURED if reached else UNREACHED
        state = str(run.get("state") or "finished")
        verdict = (
            "yes" if reached else {"running": "not yet", "failed": "failed", "stopped": "stopped"}.get(state, "no")
        )
        hue = "good" if reached else ("bad" if verdict in ("no", "failed") else "none")
        rows.append(
            [
                method_dot(run) + escaped(label),
                f'<td class="{hue}">{verdict}</td>',
                _cell(run.get("time_to_target_s"), show_seconds, "s", missing),
                _cell(run.get("rounds_to_target"), lambda value: f"{value:g}", "", missing),
                _cell(run.get("bytes_to_target"), show_bytes, "B", missing),
                _cell(run.get("joules_to_target"), show_joules, "J"),
                *(_against(run, runs, key) for key in bases),
                _cell(run.get("best"), score),
                _cell(run.get("test"), score),
                _cell(run.get("trainable_parameters"), show_count),
                _cell(run.get("state_bytes"), show_bytes, "B"),
            ]
        )
    return _table("Every run on the way to its target", heads, rows, table="comparison")


def curve_figure(runs: Sequence[Record], labels: Sequence[str], x: str, y: str, title: str, note: str) -> str:
    metric = next(map(metric_of, runs), "score")
    heads = {"time": ["Time"], "value": [metric.capitalize()], "bytes": ["Bytes down", "Bytes up", "Bytes"]}
    rows = []
    for run, label in zip(runs, labels, strict=True):
        for point in curve_of(run):
            down, up = point.get("bytes_down"), point.get("bytes_up")
            cells = {
                "time": [_cell(point.get("elapsed_s"), show_seconds, "s")],
                "value": [_cell(point.get("value"), scored(run.get("metric")))],
                "bytes": [_cell(value, show_bytes, "B") for value in (down, up, sum_known(down, up))],
            }
            joules = [_cell(point.get("energy_j"), show_joules, "J")]
            rows.append([escaped(label), _cell(point.get("round"), "{:g}".format), *cells[x], *cells[y], *joules])
    table = _table(f"{title}, after each round", ["Run", "Round", *heads[x], *heads[y], "Energy"], rows, box="tall")
    return (
        f"<figure><figcaption><h3>{escaped(title)}</h3>"
        f'<p>{escaped(note)} <span class="scale"></span></p></figcaption>'
        f'<div class="plot curve" data-x="{x}" data-y="{y}" role="img" aria-label="{escaped(title)}"></div>'
        f"{_behind(table)}</figure>"
    )


def _phase_figure(run: Record, index: int, label: str, kind: str) -> str:
    show, unit, title = (show_seconds, "s", "Time") if kind == "seconds" else (show_joules, "J", "Energy")
    tables = [(device, device.get(kind) or {}) for device in devices_of(run)]
    phases = distinct([*PHASES, *(phase for _, found in tables for phase in found)])
    rows = [
        [escaped(device.get("name")), *(_cell(value, show, unit) for value in (*map(found.get, phases), total))]
        for device, found in tables
        for total in [sum_known(*found.values()) if found else None]
    ]
    heads = ["Device", *(phase.capitalize() for phase in phases), "Total"]
    title = f"{title} by phase"
    drawn = f'data-kind="{kind}" data-run="{index}" role="img" aria-label="{title}, {escaped(label)}"'
    return (
        f"<figure><figcaption><h3>{title}</h3></figcaption>"
        f'<div class="plot" {drawn}></div>'
        f"{_behind(_table(f'{title}, {label}', heads, rows))}</figure>"
    )


def device_figures(run: Record, index: int, label: str, is_open: bool) -> str:
    devices = devices_of(run)
    if not devices:
        return ""
    energy = any(number_in(value) is not None for d in devices for value in (d.get("joules") or {}).values())
    figures = "".join(_phase_figure(run, index, label, kind) for kind in ("seconds", *(["joules"] if energy else [])))
    heads = ["Device", "Board", "Step p50", "Step p95", "Step p99", "Energy"]
    heads += ["Idle", "Peak", "Covered", "Largest gap", "Power source", "Scope"] if energy else []

    def watts(value: float) -> str:
        return f"{value:.3g}{SPACE}W"

    rows = []
    for device in devices:
        row = [escaped(device.get("name")), _plain(device.get("board"), "not known")]
        row += [_cell(step, lambda value: f"{value:.4g}{SPACE}ms", "ms") for step in steps_of(device)]
        row += [_cell(device.get("energy_j"), show_joules, "J")]
        if energy:
            row += [_cell(device.get("idle_w"), watts, "W"), _cell(device.get("peak_w"), watts, "W")]
            row += [_cell(device.get("coverage"), lambda value: f"{100 * value:.1f}{SPACE}%")]
            row += [_cell(device.get("largest_gap_s"), show_seconds, "s")]
            row += [_plain(device.get("power_source"), "none"), _plain(device.get("scope"), "not known")]
        rows.append(row)
    steps = _table(f"Devices and their training steps, {label}", heads, rows, table="devices")
    mark = " open" if is_open else ""
    return f'<details class="run"{mark}><summary>{escaped(label)}</summary>{figures}{steps}</details>'


SETBACKS = {
    "failed": "training failed",
    "refused": "update refused",
    "late": "update came too late",
    "missing": "no update in time",
}


def setback_table(runs: Sequence[Record], labels: Sequence[str]) -> str:
    """Updates that are in no state: whose, and why. Empty where there are none."""
    rows = [
        [
            escaped(label),
            _cell(entry.get("round"), "{:g}".format),
            _cell(entry.get("client"), "{:g}".format),
            _plain(entry.get("device")),
            _plain(SETBACKS.get(in_words(entry.get("kind")), entry.get("kind"))),
            _plain(entry.get("reason")),
        ]
        for run, label in zip(runs, labels, strict=True)
        for entry in run.get("setbacks") or []
    ]
    heads = ["Run", "Round", "Client", "Device", "What happened", "Why"]
    return _table("Updates that were not taken", heads, rows, box="tall", table="setbacks") if rows else ""


def _flat(tree: object, prefix: str = "") -> dict[str, str]:
    """A tree of plain values as dotted keys and words. Lists of mappings count from 0."""
    if isinstance(tree, list) and any(isinstance(entry, Mapping) for entry in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping) and tree:
        entries = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
        return {key: value for entry in entries for key, value in entry.items()}
    return {prefix: "not set" if tree is None else in_words(tree)} if prefix else {}


def _pairs(caption: str, flat: Mapping[str, str]) -> str:
    rows = [[escaped(key), _plain(value, "empty")] for key, value in flat.items()]
    return _table(caption, ["Field", "Value"], rows, table="pairs")


def environment_table(environment: object) -> str:
    flat = _flat(environment)
    return _pairs("Environment", flat) if flat else '<p class="note">No environment was recorded.</p>'


def configuration_tables(runs: Sequence[Record], labels: Sequence[str]) -> str:
    """What all runs share in one table, and what differs in another."""
    flats = [_flat(config_of(run)) for run in runs]
    keys = distinct(key for flat in flats for key in flat)
    differing = [key for key in keys if len({flat.get(key) for flat in flats}) > 1]
    shared = {key: flats[0][key] for key in keys if key not in differing}
    tables = _pairs("The same in every run", shared) if shared else ""
    if differing:
        rows = [
            [escaped(label), *(_plain(flat.get(key), "not set") for key in differing)]
            for flat, label in zip(flats, labels, strict=True)
        ]
        tables += _table("What differs from run to run", ["Run", *differing], rows)
    return tables or '<p class="note">No configuration was recorded.</p>'
