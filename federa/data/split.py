"""Training, validation and test part of a corpus: stratified by label, and alike on every machine and in every run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from federa.data.dataset import Dataset
from federa.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Indices into the corpus, each ascending, together all of it."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_dataset(corpus: Dataset, validation: float, test: float, *, whole: bool = True) -> Split:
    """Split off the fractions `validation` and `test` of each label's documents.

    A document's place is decided by the hash of its text, so it depends on no generator and no order of files, and
    copies of one text stay together: a client that trains on a copy would see the held-out document. Raises BadInput
    when a part would be empty; of one client's documents, which are not the `whole`, the training part alone.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(corpus.texts):
        copies[hashlib.sha256(text.encode()).hexdigest()].append(index)
    by_label: dict[int, list[list[int]]] = defaultdict(list)
    for key in sorted(copies):
        # Not the first copy's label: which copy is first depends on the order of files.
        by_label[min(corpus.labels[index] for index in copies[key])].append(copies[key])
    parts: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    for label in sorted(by_label):
        groups = by_label[label]
        total = sum(map(len, groups))
        wanted = {"test": round(test * total), "validation": round(validation * total), "train": total}
        taken = dict.fromkeys(wanted, 0)
        for group in groups:
            part = next((name for name in wanted if taken[name] + len(group) <= wanted[name]), "train")
            taken[part] += len(group)
            parts[part].extend(group)
    for name, indices in parts.items():
        if not indices and (whole or name == "train"):
            raise BadInput(f"data: {len(corpus)} documents are too few: the {name} part would be empty")
    return Split(**{name: tuple(sorted(indices)) for name, indices in parts.items()})
