"""What was read: how many records, in which parts, and of which classes. As it stands in ledger, result.json and
bundle, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from federa.tasks.labels import counted, listed

if TYPE_CHECKING:
    from federa.data.dataset import Record
    from federa.tasks.base import Task


@dataclass(frozen=True, slots=True)
class CutRecords:
    """Of so many records, how many lost tokens, since they have more than `data.max_length`; or since their question
    has more than its part of that."""

    records: int
    cut: int

    def in_words(self, max_length: int) -> str:
        """In one line, such as '37 of 3,394 records lost tokens at data.max_length 64'."""
        of = f"of {self.records:,} record{'s' * (self.records != 1)}"
        return f"{f'{self.cut:,}' if self.cut else 'none'} {of} lost tokens at data.max_length {max_length:,}"

    @classmethod
    def summed(cls, counts: Iterable[CutRecords]) -> CutRecords:
        """Those of all together."""
        known = list(counts)
        return cls(sum(one.records for one in known), sum(one.cut for one in known))


MAX_COUNTS = 100_000
"""So many numbers of clients by classes are kept at most."""
PARTS = TRAINING, VALIDATION, TEST = "training", "validation", "test"


def compose(
    classes: Sequence[str] | None, strata: Sequence[int], parts: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """The composition of records with these strata, of which `parts` are indices. `classes` are the names of the
    strata, where they have any."""
    found: dict[str, Any] = {
        "documents": len(strata),
        "parts": {part: len(indices) for part, indices in parts.items()} if parts else None,
        "classes": None,
    }
    if classes is not None:
        counts = {"documents": Counter(strata)}
        counts |= {part: Counter(strata[index] for index in indices) for part, indices in (parts or {}).items()}
        found["classes"] = [
            {"name": name, **{key: count[stratum] for key, count in counts.items()}}
            for stratum, name in enumerate(classes)
        ]
    return found


def count_clients(
    task: Task, records: Sequence[Record], shards: Sequence[Sequence[int]], clusters: Sequence[int] | None = None
) -> dict[str, Any] | None:
    """Who has how much of what: `counts` has a row for each client and a column for each of `classes`, which are the
    task's (`by` classes), else clusters, else one for all documents. None where that is more than MAX_COUNTS."""
    per_class = [task.class_counts([records[index] for index in shard]) for shard in shards]
    if None not in per_class:
        by, rows = "classes", [dict(counts or {}) for counts in per_class]
    elif clusters is not None:
        names = {number: f"cluster {number + 1}" for number in sorted(set(clusters))}
        by = "clusters"
        rows = [
            dict.fromkeys(names.values(), 0) | Counter(names[clusters[index]] for index in shard) for shard in shards
        ]
    else:
        by, rows = "documents", [{"documents": len(shard)} for shard in shards]
    columns = list(dict.fromkeys(name for counts in rows for name in counts))
    if len(columns) * len(shards) > MAX_COUNTS:
        return None
    return {"classes": columns, "counts": [[counts.get(name, 0) for name in columns] for counts in rows], "by": by}


def unseen(classes: Sequence[str] | None) -> dict[str, Any]:
    """The composition of records that stay on the devices: nobody counts them by class."""
    known = None if classes is None else [{"name": name, "documents": None} for name in classes]
    return {"documents": None, "parts": None, "classes": known}


def in_words(composition: Mapping[str, Any]) -> str:
    """A composition in one line, such as '40 documents, 2 classes: ham (30), spam (10); 28 to train on, 6 for
    validation, 6 for the test'. Of many classes it names the first."""
    documents, classes, parts = (composition.get(key) for key in ("documents", "classes", "parts"))
    words = [f"{documents:,} document{'s' * (documents != 1)}" if documents is not None else "the devices' documents"]
    if classes is not None:
        names = [str(entry["name"]) for entry in classes]
        counts = {name: entry.get("documents") for name, entry in zip(names, classes, strict=True)}
        if None in counts.values():
            words.append(f"{len(names):,} classes, in this order: {listed(names)} (no device says how many of each)")
        else:
            words.append(f"{len(names):,} classes: {counted(counts)}")
    text = ", ".join(words)
    if parts:
        text += f"; {parts[TRAINING]:,} to train on, {parts[VALIDATION]:,} for validation, {parts[TEST]:,} for the test"
    copies = {part: count for part, count in (composition.get("copies") or {}).items() if count}
    if copies:
        said = " and ".join(f"{count:,} of the {part} part" for part, count in copies.items())
        text += f"; {said} {'is also' if sum(copies.values()) == 1 else 'are also'} in the training part"
    return text
