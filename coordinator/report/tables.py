"""Tables about runs, and the curves that have them behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.report.cells import UNMEASURED, UNREACHED, backed, behind, cell, method_dot, plain, table
from coordinator.report.comparison import base_of, bases_among, savings
from coordinator.report.energy import Kind, cover_words, energy_of_run, kind_of_run, name_of_kind, run_badge
from coordinator.report.numbers import (
    escaped,
    in_words,
    number_in,
    scored,
    show_bytes,
    show_change,
    show_count,
    show_seconds,
    sum_known,
)
from coordinator.report.runs import (
    NAMES,
    Record,
    config_of,
    curve_of,
    devices_of,
    distinct,
    examples_behind_best,
    metric_of,
)


def _against(run: Record, runs: Sequence[Record], method: str) -> str:
    """The cell that says by how much the way to the target is shorter than that of `method` in the same setting."""
    base = base_of(run, runs, method)
    if base is None or run.get("method") == method:
        return f'<td class="none">{"no such run" if base is None else "—"}</td>'
    if not (base.get("reached") and run.get("reached")):
        return '<td class="none">not both reached</td>'
    found = [
        f'<span title="{ratio:.6g} times">{name} {show_change(ratio)}</span>' for name, ratio in savings(run, base)
    ]
    both = all(number_in(one.get("joules_to_target")) is not None for one in (run, base))
    mine, other = kind_of_run(run), kind_of_run(base)
    if both and mine != other:
        alike = mine is not None and other is not None and mine[0] == other[0]
        found.append(f"<small>energy: {'only one is a replay' if alike else 'of unlike scope'}</small>")
    return f"<td>{'<br>'.join(found)}</td>" if found else f'<td class="none">{UNMEASURED}</td>'


def comparison_table(runs: Sequence[Record], labels: Sequence[str]) -> str:
    bases = bases_among(runs)
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
                cell(run.get("time_to_target_s"), show_seconds, "s", missing),
                cell(run.get("rounds_to_target"), lambda value: f"{value:g}", "", missing),
                cell(run.get("bytes_to_target"), show_bytes, "B", missing),
                energy_of_run(run, run.get("joules_to_target"), _no_joules(run, missing)),
                *(_against(run, runs, key) for key in bases),
                backed(cell(run.get("best"), score), examples_behind_best(run)),
                backed(cell(run.get("test"), score), run.get("test_examples")),
                cell(run.get("trainable_parameters"), show_count),
                cell(run.get("state_bytes"), show_bytes, "B"),
            ]
        )
    return table("Every run on the way to its target", heads, rows, kind="comparison")


def _no_joules(run: Record, missing: str) -> str:
    """Why a run has no joules to its target; `missing` where the target is the reason."""
    if all(number_in(device.get("energy_j")) is None for device in devices_of(run)):
        return UNMEASURED
    return "no sum" if run.get("energy_note") else missing


def curve_figure(
    runs: Sequence[Record], labels: Sequence[str], x: str, y: str, title: str, note: str, kind: Kind | None = None
) -> str:
    """A curve of every run; over energy, of those alone whose joules are of this kind."""
    metric = next(map(metric_of, runs), "score")
    heads = {"time": ["Time"], "value": [metric.capitalize()], "bytes": ["Bytes down", "Bytes up", "Bytes"]}
    places = [place for place, run in enumerate(runs) if kind is None or kind_of_run(run) == kind]
    rows = []
    for run, label in ((runs[place], labels[place]) for place in places):
        for point in curve_of(run):
            down, up = point.get("bytes_down"), point.get("bytes_up")
            cells = {
                "time": [cell(point.get("elapsed_s"), show_seconds, "s")],
                "value": [backed(cell(point.get("value"), scored(run.get("metric"))), point.get("examples"))],
                "bytes": [cell(value, show_bytes, "B") for value in (down, up, sum_known(down, up))],
                "energy": [],  # always the last column
            }
            joules = [energy_of_run(run, point.get("energy_j"), beside=False)]
            rows.append([escaped(label), cell(point.get("round"), "{:g}".format), *cells[x], *cells[y], *joules])
    columns = ["Run", "Round", *heads.get(x, []), *heads[y], "Energy"]
    numbers = table(f"{title}, after each round", columns, rows, box="tall")
    badge = "" if kind is None or not kind[1] else "".join(dict.fromkeys(run_badge(runs[place]) for place in places))
    data = f'data-x="{x}" data-y="{y}"' + ("" if kind is None else f' data-runs="{",".join(map(str, places))}"')
    return (
        f"<figure><figcaption><h3>{escaped(title)}{badge}</h3>"
        f'<p>{escaped(note)} <span class="scale"></span></p></figcaption>'
        f'<div class="plot curve" {data} role="img" aria-label="{escaped(title)}"></div>'
        f"{behind(numbers)}</figure>"
    )


def energy_curves(runs: Sequence[Record], labels: Sequence[str], title: str, note: str) -> str:
    """The score over joules, a figure for each kind of energy; in words where there is none to show."""
    known = {
        place: kind
        for place, run in enumerate(runs)
        if (kind := kind_of_run(run)) and any(number_in(point.get("energy_j")) is not None for point in curve_of(run))
    }
    kinds = list(dict.fromkeys(known.values()))
    figures = []
    for kind in kinds:
        parts = [(labels[place], cover_words(devices_of(runs[place]))) for place in known if known[place] == kind]
        covered = " ".join(f"{label}: {words}." for label, words in parts if words)
        name = f"{title} over energy ({name_of_kind(kind)})"
        figures.append(curve_figure(runs, labels, "energy", "value", name, f"{note} {covered}", kind))
    silent = [label for place, label in enumerate(labels) if place not in known]
    if not kinds:
        return f'<p class="note">No figure over energy: no run has a sum of joules. {_why(runs)}</p>'
    missing = f'<p class="note">Not in a figure over energy: {escaped(", ".join(silent))}.</p>' if silent else ""
    return "".join(figures) + missing


def _why(runs: Sequence[Record]) -> str:
    notes = distinct(in_words(run.get("energy_note")) for run in runs)
    return escaped(" ".join(f"{note.rstrip('.')}." for note in notes if note))


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
            cell(entry.get("round"), "{:g}".format),
            cell(entry.get("client"), "{:g}".format),
            plain(entry.get("device")),
            plain(SETBACKS.get(in_words(entry.get("kind")), entry.get("kind"))),
            plain(entry.get("reason")),
        ]
        for run, label in zip(runs, labels, strict=True)
        for entry in run.get("setbacks") or []
    ]
    heads = ["Run", "Round", "Client", "Device", "What happened", "Why"]
    return table("Updates that were not taken", heads, rows, box="tall", kind="setbacks") if rows else ""


def held_out_table(runs: Sequence[Record], labels: Sequence[str]) -> str:
    """What each client counted on the part that it holds out. Empty where the coordinator evaluates."""
    rows = [
        [
            escaped(label),
            plain(part),
            plain(entry.get("device")),
            cell(entry.get("client"), "{:g}".format),
            cell(entry.get("correct"), "{:,.0f}".format),
            cell(entry.get("examples"), "{:,.0f}".format),
        ]
        for run, label in zip(runs, labels, strict=True)
        for part, entries in (run.get("held_out") or {}).items()
        for entry in entries
    ]
    heads = ["Run", "Part", "Device", "Client", "Right", "Examples"]
    return table("Counted by the devices", heads, rows, box="tall") if rows else ""


def _flat(tree: object, prefix: str = "") -> dict[str, str]:
    """A tree of plain values as dotted keys and words. Lists of mappings count from 0."""
    if isinstance(tree, list) and any(isinstance(entry, Mapping) for entry in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping) and tree:
        entries = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
        return {key: value for entry in entries for key, value in entry.items()}
    return {prefix: "not set" if tree is None else in_words(tree)} if prefix else {}


def _pairs(caption: str, flat: Mapping[str, str]) -> str:
    rows = [[escaped(key), plain(value, "empty")] for key, value in flat.items()]
    return table(caption, ["Field", "Value"], rows, kind="pairs")


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
            [escaped(label), *(plain(flat.get(key), "not set") for key in differing)]
            for flat, label in zip(flats, labels, strict=True)
        ]
        tables += table("What differs from run to run", ["Run", *differing], rows)
    return tables or '<p class="note">No configuration was recorded.</p>'
