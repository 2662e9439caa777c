"""Training, validation and test part of a data set: stratified, and alike on every machine and in every run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from federa.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Indices into the data set, each ascending, together all of it."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_examples(
    strata: Sequence[int], identities: Sequence[str], validation: float, test: float, *, whole: bool = True
) -> Split:
    """Split off the fractions `validation` and `test` of each stratum's records.

    A record's place is decided by the hash of its identity (its text), so it depends on no generator and no order of
    files, and copies stay together: a client that trains on a copy would see the held-out record. Raises BadInput when
    a part would be empty; of one client's records, which are not the `whole`, the training part alone.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for index, identity in enumerate(identities):
        copies[hashlib.sha256(identity.encode()).hexdigest()].append(index)
    by_stratum: dict[int, list[list[int]]] = defaultdict(list)
    for key in sorted(copies):
        # Not the first copy's stratum: which copy is first depends on the order of files.
        by_stratum[min(strata[index] for index in copies[key])].append(copies[key])
    parts: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    for stratum in sorted(by_stratum):
        groups = by_stratum[stratum]
        total = sum(map(len, groups))
        wanted = {"test": round(test * total), "validation": round(validation * total), "train": total}
        taken = dict.fromkeys(wanted, 0)
        for group in groups:
            part = next((name for name in wanted if taken[name] + len(group) <= wanted[name]), "train")
            taken[part] += len(group)
            parts[part].extend(group)
    for name, indices in parts.items():
        if not indices and (whole or name == "train"):
            raise BadInput(f"data: {len(identities)} documents are too few: the {name} part would be empty")
    return Split(**{name: tuple(sorted(indices)) for name, indices in parts.items()})
