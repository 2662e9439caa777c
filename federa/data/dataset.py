"""A data set: records in order, as a task made them from rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = tuple[Any, ...]
"""Plain values (text, numbers), so that a record has the same digest on every machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """`found` holds fields of the `data` section that reading decided, where the experiment left them open (such as the
    classes): with them in place another device reads its records alike."""

    records: tuple[Record, ...]
    found: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def select(self, indices: Sequence[int]) -> Dataset:
        """The records at these indices, in that order."""
        return Dataset(records=tuple(self.records[index] for index in indices), found=self.found)

    def digest(self) -> str:
        """SHA-256 over what was found and all records: devices that deal out the same data set compare it."""
        sha = hashlib.sha256()
        for value in (dict(self.found), *self.records):
            sha.update(json.dumps(value, sort_keys=True).encode() + b"\n")
        return sha.hexdigest()
