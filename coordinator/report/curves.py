"""The figures of all runs: what each metric, byte and joule was over time, bytes and energy."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.report.elements import Cell, Figure, Table, TableRow, cell, scored
from coordinator.report.energy import (
    Kind,
    coverage_text,
    energy_of_run,
    kind_of_run,
    name_of_kind,
    runs_badge,
    why_unmeasured,
)
from coordinator.report.runs import (
    Entry,
    as_text,
    curve_of,
    devices_of,
    distinct,
    initial_upper,
    metric_title,
    number_in,
    score_format,
    sum_known,
)
from federa.numbers import show_bytes, show_seconds


def curve_figure(
    runs: Sequence[Entry],
    labels: Sequence[str],
    places: Sequence[int],
    x: str,
    y: str,
    title: str,
    note: str,
    kind: Kind | None = None,
) -> Figure:
    """A curve of each of the runs at these places; over energy, of those alone whose joules are of this kind."""
    heads = {
        "time": ["Time"],
        "value": [next((metric_title(runs[place]) for place in places), "Score")],
        "bytes": ["Bytes down", "Bytes up", "Bytes"],
    }
    places = [place for place in places if kind is None or kind_of_run(runs[place]) == kind]
    rows = [
        TableRow(labels[place], _point_cells(runs[place], point, (x, y)))
        for place in places
        for point in curve_of(runs[place])
    ]
    columns = ["Run", "Round", *heads.get(x, []), *heads[y], "Energy"]
    data = {"x": x, "y": y} | ({} if len(places) == len(runs) else {"runs": ",".join(map(str, places))})
    return Figure(
        title=title,
        label=title,
        kind="curve",
        data=data,
        table=Table(f"{title}, after each round", columns, rows, box="tall"),
        note=note,
        badge=runs_badge([runs[place] for place in places]) if kind and kind[1] else None,
        has_scale=True,
    )


def _point_cells(run: Entry, point: Entry, axes: Sequence[str]) -> list[Cell]:
    down, up = point.get("bytes_down"), point.get("bytes_up")
    known = {
        "time": [cell(point.get("elapsed_s"), show_seconds, "s")],
        "value": [scored(point.get("value"), score_format(run), point.get("examples"))],
        "bytes": [cell(value, show_bytes, "B") for value in (down, up, sum_known(down, up))],
        "energy": [],  # always the last column
    }
    along = [found for axis in axes for found in known[axis]]
    joules = energy_of_run(run, point.get("energy_j"), beside=False)
    return [cell(point.get("round"), "{:g}".format), *along, joules]


def energy_curves(
    runs: Sequence[Entry], labels: Sequence[str], places: Sequence[int], title: str, note: str
) -> tuple[list[Figure], str]:
    """The score over joules of the runs at these places, a figure for each kind of energy, and in words which of them
    are in none."""
    known = {
        place: kind
        for place in places
        if (kind := kind_of_run(runs[place]))
        and any(number_in(point.get("energy_j")) is not None for point in curve_of(runs[place]))
    }
    figures = []
    for kind in dict.fromkeys(known.values()):
        parts = [(labels[place], coverage_text(devices_of(runs[place]))) for place in known if known[place] == kind]
        covered = " ".join(f"{label}: {text}." for label, text in parts if text)
        name = f"{title} over energy ({name_of_kind(kind)})"
        figures.append(curve_figure(runs, labels, places, "energy", "value", name, f"{note} {covered}", kind))
    silent = [labels[place] for place in places if place not in known]
    if not figures:
        why = _why([runs[place] for place in places])
        return [], f"No figure over energy: no run has a sum of joules. {why}".rstrip()
    return figures, f"Not in a figure over energy: {', '.join(silent)}." if silent else ""


def _why(runs: Sequence[Entry]) -> str:
    notes = distinct(filter(None, map(_note_without_details, runs)))
    return " ".join(f"{initial_upper(note.rstrip('.'))}." for note in notes)


def _note_without_details(run: Entry) -> str:
    """The run's note on its energy. What each device's sources said stands once, under what was not measured."""
    note = as_text(run.get("energy_note"))
    for detail in filter(None, map(why_unmeasured, devices_of(run))):
        note = note.removesuffix(f": {detail}")
    return note
