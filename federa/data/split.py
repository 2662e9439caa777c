"""Training, validation and test part of a data set: stratified, and alike on every machine and in every run."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federa.errors import BadInput

Group = list[int]
"""The indices of a record and its copies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Indices into the data set, each ascending, together all of it."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_examples(
    strata: Sequence[int], identities: Sequence[str], validation: float, test: float, *, whole: bool = True
) -> Split:
    """Split off the fractions `validation` and `test` of the records: of each stratum as nearly as its size allows, and
    of all strata together, however small each is. Of a stratum with several different records one at least is trained
    on.

    A record's place is decided by the hash of its identity (its text), so it depends on no generator and no order of
    files, and copies stay together: a client that trains on a copy would see the held-out record.

    Of one client's records, which are not the `whole`, a fraction of a record is rounded up or down by a hash of them
    all: with few records a client has a held-out part or has none, and of all clients together the fractions hold.
    Raises BadInput when a part of the whole would be empty; of one client's records the held-out parts may be. A
    fraction of 0 leaves its part empty.
    """
    copies: dict[str, Group] = defaultdict(list)
    for index, identity in enumerate(identities):
        copies[hashlib.sha256(identity.encode()).hexdigest()].append(index)
    by_stratum: dict[int, dict[str, Group]] = defaultdict(dict)
    for key in sorted(copies):
        # Not the first copy's stratum: which copy is first depends on the order of files.
        by_stratum[min(strata[index] for index in copies[key])][key] = copies[key]
    strata_left = [_Stratum(groups) for groups in by_stratum.values()]
    # Whoever has anything trains on something.
    max(strata_left, key=lambda stratum: (stratum.size, stratum.name)).kept = 1
    rounding = 0.5 if whole else _below_one(*sorted(copies))
    parts = {}
    wanted = {"train": 1 - validation - test, "validation": validation, "test": test}
    for name, fraction in (("test", test), ("validation", validation)):
        # The largest come last: they have room for what small ones and copies leave over. Among equal ones the order is
        # another for each part, so that not the same ones have none of both.
        in_order = sorted(strata_left, key=lambda stratum: (stratum.size, _digest(name, stratum.name)))
        parts[name] = _hold_out(in_order, fraction, rounding)
        if not whole:
            # Where the one is rounded up, the other is not: of two records each in turn is held out.
            rounding = (rounding + fraction * len(identities)) % 1
    parts["train"] = [index for stratum in strata_left for group in stratum.groups for index in group]
    for name, indices in parts.items():
        if whole and not indices and wanted[name]:
            raise BadInput(f"data: {len(identities)} documents are too few: the {name} part would be empty")
    return Split(**{name: tuple(sorted(indices)) for name, indices in parts.items()})


class _Stratum:
    """A stratum's records that no part has yet, copies together, in the order of their hashes."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.name = min(groups)
        """Says which it is, in whatever order the classes are."""
        self.size = sum(map(len, groups.values()))
        self.groups = list(groups.values())
        self.kept = min(1, len(groups) - 1)
        """How many of them are trained on at least: an only one may be in any part."""

    def take(self, wanted: int) -> Group:
        """Take the first groups that fit into so many records; where that leaves room for half of another, that too."""
        taken: Group = []
        for room in (1, 2):
            left: list[Group] = []
            for position, group in enumerate(self.groups):
                may_go = len(left) + len(self.groups) - position > self.kept
                if may_go and len(group) <= room * (wanted - len(taken)):
                    taken.extend(group)
                else:
                    left.append(group)
            self.groups = left
        return taken


def _hold_out(strata: Sequence[_Stratum], fraction: float, rounding: float) -> list[int]:
    """A part's records: of every stratum what the part lacks, so far, of the fraction of all strata until then. So no
    rounding adds up."""
    seen, part = 0, list[int]()
    for stratum in strata:
        seen += stratum.size
        part.extend(stratum.take(math.floor(fraction * seen + rounding) - len(part)))
    return part


def _below_one(*texts: str) -> float:
    """A number from 0 to 1, as if drawn, that texts decide."""
    return int(_digest(*texts)[:13], 16) / 16**13


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
