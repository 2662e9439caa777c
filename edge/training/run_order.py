"""What a runtime has to know of a run before it can prepare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federa.models.files import ModelFile


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOrder:
    """The coordinator's order, as far as it is about computing."""

    experiment_json: str
    base_digest: str
    """Of the base model that the coordinator has."""
    data_digest: str
    """Of the data set of which the shards are parts."""
    shards: Mapping[int, Sequence[int]]
    """Of each client that this device hosts, which records are its own."""
    model: Sequence[ModelFile] = ()
    """The base model's files, where the coordinator serves them."""
