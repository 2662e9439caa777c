"""What runs learned from: documents, parts and classes, in lines and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.report.elements import Table, TableRow, cell
from coordinator.report.runs import Entry, as_text, initial_upper, joined, number_in
from coordinator.report.split_figure import split_words
from federa.tasks.composition import PARTS, CutRecords, in_words

_UNCOUNTED = "not counted"


def data_lines(runs: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """What was read, a line for runs of the same data; nothing of runs of which that is not known."""
    return [
        f"{joined(whose)}: {text}" if len(whose) < len(runs) else text
        for text, whose in _grouped([in_words(data) if data else "" for data in map(_data_of, runs)], labels).items()
    ]


def split_lines(runs: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """How skewed the clients' data are, a line for runs of one split."""
    return [
        f"{joined(whose)}: {text}." if len(whose) < len(runs) else f"{text}."
        for text, whose in _grouped(list(map(split_words, runs)), labels).items()
    ]


def cut_lines(runs: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """How many records were cut, a line for runs of which the same is to be said; nothing where nobody counted."""
    return [
        f"{joined(whose)}: {text}" if len(whose) < len(runs) else text
        for text, whose in _grouped(list(map(_cut_in_words, runs)), labels).items()
    ]


def _cut_in_words(run: Entry) -> str:
    """'37 of 3,394 records lost tokens at data.max_length 64: 33 of 3,000 on the devices, 4 of 394 held out.'"""
    cut = run.get("cut")
    length = number_in(cut.get("max_length")) if isinstance(cut, Mapping) else None
    if not isinstance(cut, Mapping) or length is None:
        return ""
    places = (("devices", "on the devices"), ("coordinator", "held out by the coordinator"))
    known = [(found, where) for key, where in places if (found := _cut_records(cut.get(key))) is not None]
    if not known:
        return ""
    total = CutRecords.summed(found for found, _ in known)
    where = ", ".join(f"{found.cut:,} of {found.records:,} {where}" for found, where in known)
    more = len(known) > 1 or cut.get("devices") is None  # no device has said so yet
    return initial_upper(total.in_words(int(length))) + (f": {where}." if total.cut and more else ".")


def _cut_records(entry: object) -> CutRecords | None:
    if not isinstance(entry, Mapping):
        return None
    records, cut = number_in(entry.get("records")), number_in(entry.get("cut"))
    return None if records is None or cut is None else CutRecords(int(records), int(cut))


def class_tables(runs: Sequence[Entry], labels: Sequence[str]) -> list[Table]:
    """Every class in its order, with its documents in all and in each part: a table for runs of the same data."""
    tables: list[Table] = []
    shown: set[str] = set()
    for run, label in zip(runs, labels, strict=True):
        classes = _data_of(run).get("classes")
        key = as_text(classes)
        if not classes or key in shown:
            continue
        shown.add(key)
        parts = [part for part in PARTS if any(part in entry for entry in classes)]
        rows = [
            TableRow(
                as_text(entry["name"]),
                [cell(entry.get(name), "{:,}".format, "", _UNCOUNTED) for name in ("documents", *parts)],
            )
            for entry in classes
        ]
        caption = "Classes in their order" if not tables else f"Classes in their order, {label}"
        tables.append(Table(caption, ["Class", "Documents", *map(str.capitalize, parts)], rows, box="tall"))
    return tables


def _data_of(run: Entry) -> dict[str, Any]:
    """A run's composition, of which what is missing or is not as it should be is None."""
    data = run.get("data")
    if not isinstance(data, Mapping):
        return {}
    parts, classes = data.get("parts"), data.get("classes")
    known = isinstance(parts, Mapping) and all(number_in(parts.get(part)) is not None for part in PARTS)
    if not isinstance(classes, list) or not all(isinstance(entry, Mapping) and "name" in entry for entry in classes):
        classes = None
    return {
        "documents": number_in(data.get("documents")),
        "parts": parts if known else None,
        "classes": classes and [{**entry, "documents": number_in(entry.get("documents"))} for entry in classes],
    }


def _grouped(texts: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        if text:
            groups.setdefault(text, []).append(label)
    return groups
