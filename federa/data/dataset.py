"""A data set: records in order, as a task made them from rows, and which of them came as a held-out part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from federa.data.section import HeldOut

Record = tuple[Any, ...]
"""Plain values (text, numbers), so that a record has the same digest on every machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """`found` holds fields of the `data` section that reading decided, where the experiment left them open (such as the
    classes): with them in place another device reads its records alike.

    `given` says where the records stand that came as a part of their own, validation or test: behind those of the
    source, which may be split. `groups` has a value for each record, where the partition is by a column;
    it decides who owns a record, not what it is, and stays off the digest."""

    records: tuple[Record, ...]
    found: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[HeldOut, range] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def source(self) -> range:
        """The indices of the source's own records."""
        return range(len(self) - sum(map(len, self.given.values())))

    def with_part(self, part: HeldOut, dataset: Dataset) -> Dataset:
        """The same with a part that came by itself."""
        given = {**self.given, part: range(len(self), len(self) + len(dataset))}
        groups = None if self.groups is None or dataset.groups is None else (*self.groups, *dataset.groups)
        return replace(self, records=(*self.records, *dataset.records), given=given, groups=groups)

    def select(self, indices: Sequence[int]) -> Dataset:
        """The records at these indices, in that order."""
        return Dataset(records=tuple(self.records[index] for index in indices), found=self.found)

    def digest(self) -> str:
        """SHA-256 over what was found and all records, and which of them are parts of their own: devices that deal out
        the same data set compare it."""
        sha = hashlib.sha256()
        parts = [{part: [place.start, place.stop] for part, place in self.given.items()}] if self.given else []
        for value in (dict(self.found), *parts, *self.records):
            sha.update(json.dumps(value, sort_keys=True).encode() + b"\n")
        return sha.hexdigest()
