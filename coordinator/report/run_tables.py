"""Tables about whole runs: the comparison, updates that were not taken, counters, configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.report.comparison import base_among, base_of, savings, show_ratio
from coordinator.report.elements import (
    UNMEASURED,
    UNREACHED,
    Cell,
    Table,
    TableRow,
    cell,
    method_key,
    plain,
    scored,
)
from coordinator.report.energy import energy_of_run, kind_of_run
from coordinator.report.runs import (
    NAMES,
    Entry,
    as_text,
    best_point,
    config_of,
    curve_of,
    devices_of,
    distinct,
    examples_behind_best,
    initial_upper,
    number_in,
    score_format,
)
from federa.numbers import metric_words, show_bytes, show_count, show_seconds

_OWN = ("name", "methods", "lora")
"""Fields of an experiment in which runs of several methods differ anyway, or that decide nothing."""
FAILURES = {
    "failed": "training failed",
    "refused": "update refused",
    "late": "update came too late",
    "missing": "no update in time",
}


def comparison_table(
    runs: Sequence[Entry], labels: Sequence[str], name: str = "", places: Sequence[int] | None = None
) -> Table:
    """Every run with what its way to the target cost, and that as a ratio to the base's. `name` is the group's, where
    there are several, and `places` the runs' own among all."""
    base = base_among(runs)
    heads = ["Method", "Reached", "Time to target", "Rounds", "Bytes to target", "Energy to target"]
    heads += [f"{NAMES[base]} = 1"] if base else []
    heads += ["Best", "Test", "Trainable parameters", "State size"]
    rows = []
    for place, run, label in zip(places or range(len(runs)), runs, labels, strict=True):
        score, missing = score_format(run), UNMEASURED if run.get("reached") else UNREACHED
        cells = [
            _verdict(run),
            cell(run.get("time_to_target_s"), show_seconds, "s", missing),
            _rounds(run, missing),
            cell(run.get("bytes_to_target"), show_bytes, "B", missing),
            energy_of_run(run, run.get("joules_to_target"), _no_joules(run, missing)),
            *([_against(run, runs, base)] if base else []),
            scored(run.get("best"), score, examples_behind_best(run)),
            scored(run.get("test"), score, run.get("test_examples")),
            cell(run.get("trainable_parameters"), show_count),
            cell(run.get("state_bytes"), show_bytes, "B"),
        ]
        rows.append(TableRow(label, cells, method_key(run), place))
    caption = "Every run on the way to its target"
    return Table(f"{caption}: {name}" if name else caption, heads, rows, kind="comparison")


def _rounds(run: Entry, missing: str) -> Cell:
    """The rounds to the target, or how many were run without reaching it."""
    if number_in(run.get("rounds_to_target")) is None and missing == UNREACHED:
        return Cell(f"{len(curve_of(run))}, {missing}", "none")
    return cell(run.get("rounds_to_target"), "{:g}".format, "", missing)


def _verdict(run: Entry) -> Cell:
    if run.get("reached"):
        return Cell("yes", "good")
    state = str(run.get("state") or "finished")
    text = {"running": "not yet", "failed": "failed", "stopped": "stopped"}.get(state, "no")
    return Cell(text, "bad" if text in ("no", "failed") else "none")


def _against(run: Entry, runs: Sequence[Entry], method: str) -> Cell:
    """What the way to the target cost where that of `method` in the same setting is 1."""
    base = base_of(run, runs, method)
    if base is None:
        return Cell("no such run", "none")
    if not (base.get("reached") and run.get("reached")):
        return Cell("not both reached", "none")
    lines = [(f"{name} {show_ratio(ratio)}", f"{ratio:.6g} times") for name, ratio in savings(run, base)]
    small = ""
    both = all(number_in(one.get("joules_to_target")) is not None for one in (run, base))
    mine, other = kind_of_run(run), kind_of_run(base)
    if both and mine != other:
        alike = mine is not None and other is not None and mine[0] == other[0]
        small = f"energy: {'only one is a replay' if alike else 'of unlike scope'}"
    return Cell("", more=lines, small=small) if lines or small else Cell(UNMEASURED, "none")


def _no_joules(run: Entry, missing: str) -> str:
    """Why a run has no joules to its target; `missing` where the target is the reason."""
    if all(number_in(device.get("energy_j")) is None for device in devices_of(run)):
        return UNMEASURED
    return "no sum" if run.get("energy_note") else missing


def failure_table(runs: Sequence[Entry], labels: Sequence[str]) -> Table | None:
    """Updates that are in no state: whose, and why."""
    rows = [
        TableRow(
            label,
            [
                cell(entry.get("round"), "{:g}".format),
                cell(entry.get("client"), "{:g}".format),
                plain(entry.get("device")),
                plain(FAILURES.get(as_text(entry.get("kind")), entry.get("kind"))),
                plain(entry.get("reason")),
            ],
        )
        for run, label in zip(runs, labels, strict=True)
        for entry in run.get("setbacks") or []
    ]
    heads = ["Run", "Round", "Client", "Device", "What happened", "Why"]
    return Table("Updates that were not taken", heads, rows, box="tall", kind="setbacks") if rows else None


def metric_table(runs: Sequence[Entry], labels: Sequence[str], name: str = "") -> Table | None:
    """All metrics of the task, of each run's best and last round and of the test part; None where only one is known."""
    found = [
        (label, part, metrics)
        for run, label in zip(runs, labels, strict=True)
        for part, metrics in _parts_with_metrics(run)
        if metrics
    ]
    names = distinct(name for _, _, metrics in found for name in metrics)
    heads = ["Run", "Part", *(initial_upper(metric_words(name)) for name in names)]
    rows = [
        TableRow(label, [plain(part), *(cell(metrics.get(name), "{:.4f}".format) for name in names)])
        for label, part, metrics in found
    ]
    caption = "All metrics of the task"
    return Table(f"{caption}: {name}" if name else caption, heads, rows) if len(names) > 1 else None


def _parts_with_metrics(run: Entry) -> list[tuple[str, Entry | None]]:
    best, last = best_point(run), curve_of(run)[-1:]
    points = [(point, "best, ") for point in (best,) if point and point not in last]
    points += [(point, "best and last, " if point is best else "last, ") for point in last]
    found = [
        (f"validation, {which}round {as_text(point.get('round'))}", point.get("metrics")) for point, which in points
    ]
    return [*found, ("test", run.get("test_metrics"))]


def counter_table(runs: Sequence[Entry], labels: Sequence[str]) -> Table | None:
    """What each client counted on the part that it holds out, and the metrics of that; None where the coordinator
    evaluates. The counters are the task's; how many examples they are of stands last."""
    counted = [
        (label, part, entry)
        for run, label in zip(runs, labels, strict=True)
        for part, entries in (run.get("held_out") or {}).items()
        for entry in entries
    ]
    if not counted:
        return None
    known = ("device", "client", "examples", "metrics")
    names = [*distinct(key for _, _, entry in counted for key in entry if key not in known), "examples"]
    metrics = distinct(name for _, _, entry in counted for name in entry.get("metrics") or {})
    rows = [
        TableRow(
            label,
            [
                plain(part),
                plain(entry.get("device")),
                cell(entry.get("client"), "{:g}".format),
                *(cell((entry.get("metrics") or {}).get(name), "{:.4f}".format) for name in metrics),
                *(cell(entry.get(name), _counter) for name in names),
            ],
        )
        for label, part, entry in counted
    ]
    heads = ["Run", "Part", "Device", "Client", *(initial_upper(metric_words(name)) for name in metrics)]
    heads += (name.replace("_", " ").capitalize() for name in names)
    return Table("Counted by the devices", heads, rows, box="tall")


def _counter(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


# ---- how it was made


def environment_table(environment: object) -> Table | None:
    """Versions and machine of the coordinator."""
    flat = _flat(environment)
    return _pairs("Environment", flat) if flat else None


def configuration_tables(runs: Sequence[Entry], labels: Sequence[str]) -> list[Table]:
    """What all runs share in one table, and what differs in another."""
    flats = [_flat(config_of(run)) for run in runs]
    keys = distinct(key for flat in flats for key in flat)
    differing = [key for key in keys if len({flat.get(key) for flat in flats}) > 1]
    shared = {key: flats[0][key] for key in keys if key not in differing}
    tables = [_pairs("The same in every run", shared)] if shared else []
    if differing:
        rows = [
            TableRow(label, [plain(flat.get(key), "not set") for key in differing])
            for flat, label in zip(flats, labels, strict=True)
        ]
        tables.append(Table("What differs from run to run", ["Run", *differing], rows))
    return tables


def difference_table(runs: Sequence[Entry], labels: Sequence[str]) -> Table | None:
    """The fields in which the runs differ beside their methods; None where there are none."""
    flats = [_flat(config_of(run)) for run in runs]
    keys = [key for key in distinct(key for flat in flats for key in flat) if key.partition(".")[0] not in _OWN]
    differing = [key for key in keys if len({flat.get(key) for flat in flats}) > 1]
    rows = [
        TableRow(label, [plain(flat.get(key), "not set") for key in differing], method_key(run), place)
        for place, (run, flat, label) in enumerate(zip(runs, flats, labels, strict=True))
    ]
    return Table("What differs beside the method", ["Run", *differing], rows, kind="comparison") if differing else None


def _flat(tree: object, prefix: str = "") -> dict[str, str]:
    """A tree of plain values as dotted keys and words. Lists of mappings count from 0."""
    if isinstance(tree, list) and any(isinstance(entry, Mapping) for entry in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, Mapping) and tree:
        entries = [_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
        return {key: value for entry in entries for key, value in entry.items()}
    return {prefix: "not set" if tree is None else as_text(tree)} if prefix else {}


def _pairs(caption: str, flat: Mapping[str, str]) -> Table:
    rows = [TableRow(key, [plain(value, "empty")]) for key, value in flat.items()]
    return Table(caption, ["Field", "Value"], rows, kind="pairs")
