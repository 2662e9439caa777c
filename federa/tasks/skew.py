"""How unlike the clients' data are: how much each has, and how far its mix of classes is from that of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

KINDS = ("classes", "clusters", "documents")
"""What the columns of counts may be."""


@dataclass(frozen=True, slots=True)
class ClientCounts:
    """What each client has of each class, as it stands in a composition: a row for each client, a column for each of
    `classes`. `by` says what the columns are, as one of KINDS."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    by: str

    @classmethod
    def read(cls, entry: object) -> ClientCounts | None:
        """Those of a composition's `clients`; None for what is not as it should be."""
        if not isinstance(entry, Mapping):
            return None
        classes, counts = entry.get("classes"), entry.get("counts")
        if not isinstance(classes, Sequence) or not isinstance(counts, Sequence) or not classes or not counts:
            return None
        names = tuple(map(str, classes))
        rows = tuple(tuple(row) for row in counts if isinstance(row, Sequence) and all(map(_is_count, row)))
        if len(rows) != len(counts) or any(len(row) != len(names) for row in rows):
            return None
        by = str(entry.get("by"))
        return cls(names, rows, by if by in KINDS else KINDS[0])

    @property
    def totals(self) -> list[int]:
        """What each class has in all."""
        return [sum(column) for column in zip(*self.counts, strict=True)]

    @property
    def sizes(self) -> list[int]:
        """What each client has in all."""
        return list(map(sum, self.counts))

    @property
    def distances(self) -> list[float | None]:
        """How far each client's mix of classes is from that of all: the total variation distance of the two
        distributions, 1/2 sum_c |p_k(c) - p(c)|, from 0 for the same to nearly 1. None for a client without anything.
        It is half of what Zhao et al., Federated Learning with Non-IID Data (arXiv 1806.00582), call the earth mover's
        distance of a client."""
        whole = sum(self.totals)
        shares = [total / whole for total in self.totals] if whole else []
        return [
            sum(abs(count / size - share) for count, share in zip(row, shares, strict=True)) / 2 if size else None
            for row, size in zip(self.counts, self.sizes, strict=True)
        ]

    @property
    def distance(self) -> float | None:
        """The mean of the clients' distances; None where there are no two classes."""
        known = [distance for distance in self.distances if distance is not None]
        return fmean(known) if known and len(self.classes) > 1 else None


def in_words(counts: ClientCounts | None, sizes: Sequence[int] | None, what: str = "training record") -> str:
    """'10 clients with 3 to 84 training records each (median 31); their mix of classes is 0.43 from that of all (mean
    total variation distance)'. `sizes` says how many of `what` each client has, where that is known. Empty where
    nothing is."""
    words = []
    if sizes:
        most, least = max(sizes), min(sizes)
        each = f"{least:,} to {most:,}" if most != least else f"{most:,}"
        middle = f" (median {median(sizes):,g})" if most != least else ""
        clients, records = "client" + "s" * (len(sizes) != 1), what + "s" * (most != 1)
        words.append(f"{len(sizes):,} {clients} with {each} {records} each{middle}")
    if counts is not None and counts.distance is not None and len(counts.counts) > 1:
        words.append(
            f"their mix of {counts.by} is {counts.distance:.2f} from that of all (mean total variation distance)"
        )
    return "; ".join(words)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
