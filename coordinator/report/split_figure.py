"""The picture of the split: which client has how much of which class, as plain data that the templates draw.

Colours are shares of what a client has, in a few steps that the style sheet knows; all cells of one step are one path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.report.elements import Cell, Table, TableRow, cell
from coordinator.report.runs import Entry, as_text, joined, number_in
from federa.numbers import show_share
from federa.tasks.skew import ClientCounts, in_words

STEPS = (0.05, 0.15, 0.30, 0.50, 0.75, 1.0)
"""The highest share of each step of colour, as a part of the scale's end. No colour at all is nothing of that class."""
ENDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""Where a scale may end: of fifty classes hardly any has half of a client."""
MAX_CLIENTS, MAX_CLASSES = 200, 60
"""What a picture has room for; beyond it, it shows the first clients and the largest classes."""
MAX_CELLS = 6_000
"""The most numbers of a table."""
_TICKS = 8


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A class: its name and what it has in all."""

    name: str
    total: str


@dataclass(frozen=True, slots=True)
class SplitFigure:
    """One split. `paths` has the cells of each step of colour, in units of a client across and a class down; `bars` the
    clients' sizes, in units of the largest. `ticks` are clients by their place from the left, in percent."""

    title: str
    note: str
    label: str
    rows: Sequence[HeatRow]
    columns: int
    paths: Sequence[str]
    bars: str
    largest: str
    ticks: Sequence[tuple[str, float]]
    legend: Sequence[str]
    tables: Sequence[Table]


def split_figures(runs: Sequence[Entry], labels: Sequence[str]) -> list[SplitFigure]:
    """A picture for runs of one split; none of a run that does not say who has what."""
    found: dict[str, tuple[ClientCounts, Sequence[int], list[str]]] = {}
    for run, label in zip(runs, labels, strict=True):
        counts = counts_of(run)
        if counts is not None:
            key = as_text((run.get("data") or {}).get("clients"))
            found.setdefault(key, (counts, sizes_of(run) or counts.sizes, []))[2].append(label)
    return [_figure(counts, sizes, joined(whose) if len(found) > 1 else "") for counts, sizes, whose in found.values()]


def counts_of(run: Entry) -> ClientCounts | None:
    """What each client of a run has of each class, where the result says so."""
    data = run.get("data")
    return ClientCounts.read(data.get("clients")) if isinstance(data, dict) else None


def sizes_of(run: Entry) -> list[int] | None:
    """How many training records each client has, where the result says so."""
    sizes = run.get("shard_sizes")
    if not isinstance(sizes, list) or not sizes or not all(number_in(size) is not None for size in sizes):
        return None
    return [int(size) for size in sizes]


def split_words(run: Entry) -> str:
    """How skewed a run's split is, in one line; empty where that is not known."""
    return in_words(counts_of(run), sizes_of(run))


def _figure(counts: ClientCounts, sizes: Sequence[int], whose: str) -> SplitFigure:
    clients = min(len(counts.counts), MAX_CLIENTS)
    largest = sorted(range(len(counts.classes)), key=lambda place: -counts.totals[place])[:MAX_CLASSES]
    places = sorted(largest) if len(counts.classes) > 1 else []
    sizes = sizes if len(sizes) == len(counts.counts) else counts.sizes
    shares = _shares(counts, clients, places)
    end = _end(shares)
    what = "class" if counts.by == "classes" else counts.by.removesuffix("s")
    title = f"Clients by {what}" if places else "Documents of each client"
    words = in_words(counts, sizes)
    return SplitFigure(
        title=f"{title} ({whose})" if whose else title,
        note=_note(counts, clients, len(places), what),
        label=f"{title}: {words}. The numbers are in the tables below.",
        rows=[HeatRow(counts.classes[place], f"{counts.totals[place]:,}") for place in places],
        columns=clients,
        paths=_paths(shares, end),
        bars=_bars(sizes[:clients]),
        largest=f"{max(sizes[:clients], default=0):,}",
        ticks=_ticks(clients),
        legend=_legend(end),
        tables=_tables(counts, sizes),
    )


def _note(counts: ClientCounts, clients: int, classes: int, what: str) -> str:
    words = ["Each column is a client; the bars are its training records."]
    if classes:
        words.append(f"The colour is the share that a {what} has of all that the client has.")
    if clients < len(counts.counts):
        words.append(f"Shown are the first {clients:,} of {len(counts.counts):,} clients.")
    if 0 < classes < len(counts.classes):
        words.append(f"Shown are the {classes:,} largest of {len(counts.classes):,} {counts.by}.")
    return " ".join(words)


def _shares(counts: ClientCounts, clients: int, places: Sequence[int]) -> list[list[float]]:
    """For each client shown, the shares that the classes shown have of all that it has."""
    rows = zip(counts.counts[:clients], counts.sizes[:clients], strict=True)
    return [[row[place] / size if size else 0.0 for place in places] for row, size in rows]


def _end(shares: Sequence[Sequence[float]]) -> float:
    """The end of the scale: of all shares that there are, hardly any lie beyond it, and those have its last colour."""
    known = sorted(share for row in shares for share in row if share > 0)
    high = known[round(0.98 * (len(known) - 1))] if known else 1.0
    return next((end for end in ENDS if high <= end), 1.0)


def step_of(share: float, end: float) -> int | None:
    """The step of colour of a share on a scale up to `end`; None for nothing."""
    if share <= 0:
        return None
    return next((step for step, high in enumerate(STEPS) if share <= high * end + 1e-9), len(STEPS) - 1)


def _paths(shares: Sequence[Sequence[float]], end: float) -> list[str]:
    """A path for each step, of a square for each cell."""
    paths: list[list[str]] = [[] for _ in STEPS]
    for client, row in enumerate(shares):
        for down, share in enumerate(row):
            if (step := step_of(share, end)) is not None:
                paths[step].append(f"M{client} {down}h1v1h-1z")
    return ["".join(path) for path in paths]


def _bars(sizes: Sequence[int]) -> str:
    most = max(sizes, default=0) or 1
    return "".join(
        f"M{client + 0.1:g} 1v{-size / most:.4g}h.8v{size / most:.4g}z" for client, size in enumerate(sizes) if size
    )


def _ticks(clients: int) -> list[tuple[str, float]]:
    """Clients that have their number below the picture: all of a few, else every 5th, 10th, 20th and so on."""
    step = next((step for step in (1, 2, 5, 10, 20, 50) if clients / step <= _TICKS * 2), 50)
    return [(str(client), round(100 * (client + 0.5) / clients, 3)) for client in range(0, clients, step)]


def _legend(end: float) -> list[str]:
    edges = [f"{100 * end * high:.3g}" for high in (0.0, *STEPS[:-1])]
    ranges = [f"{low}\u2013{high}\u00a0%" for low, high in pairwise(edges)]
    return [*ranges, f"over {edges[-1]}\u00a0%"]


def _tables(counts: ClientCounts, sizes: Sequence[int]) -> list[Table]:
    """Who has how much and how far from the mix of all; and, where there is room for them, all numbers."""
    rows = [
        TableRow(
            str(client), [cell(size, "{:,}".format), cell(distance, "{:.2f}".format, "", "none"), _most(counts, row)]
        )
        for client, (size, distance, row) in enumerate(zip(sizes, counts.distances, counts.counts, strict=True))
    ]
    tables = []
    if len(counts.classes) > 1:
        heads = ["Client", "Training records", "Distance from all", "Most of"]
        caption = (
            "Every client: the distance is 0 for the mix of all, and near 1 for classes that hardly anyone else has"
        )
        tables.append(Table(caption, heads, rows, box="tall"))
    if len(counts.counts) * len(counts.classes) <= MAX_CELLS:
        rows = [
            TableRow(str(client), [Cell(f"{count:,}", "" if count else "none") for count in row])
            for client, row in enumerate(counts.counts)
        ]
        rows.append(TableRow("all", [Cell(f"{total:,}") for total in counts.totals]))
        tables.append(Table(f"Clients and {counts.by}", ["Client", *counts.classes], rows, box="tall"))
    return tables


def _most(counts: ClientCounts, row: Sequence[int]) -> Cell:
    size = sum(row)
    if not size:
        return Cell("nothing", "none")
    place = max(range(len(row)), key=row.__getitem__)
    return Cell(f"{counts.classes[place]} ({show_share(row[place] / size)})")
