"""What a runtime has to know of a run before it can prepare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federa.models.files import ModelFile


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOrder:
    """The coordinator's order, as far as it is about computing."""

    run_id: str
    experiment_json: str
    base_digest: str
    """The digest of the coordinator's base model."""
    data_digest: str
    """The digest of the data set that the shards are parts of."""
    shards: Mapping[int, Sequence[int]]
    """Which records are each hosted client's own, by their index in the data set."""
    model: Sequence[ModelFile] = ()
    """The base model's files, where the coordinator serves them."""
    trial: bool = False
    """Whether a batch is to be tried: not where this device prepares the run again."""
