"""What an aggregator is: a round's updates and their broadcast in, the next state out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from federa.errors import BadInput
from federa.section import Section
from federa.tensors.codec import Encoded

Tensor = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A client's update on disk, in any of the wire's dtypes, and how many examples stand behind it."""

    path: Path
    examples: int


class RoundUpdates:
    """A round's accepted updates, by client in ascending order: at least one. Tensors are read from the files one at a
    time, so that memory does not grow with the number of clients, and their order is always the same, so that who was
    fastest changes nothing."""

    def __init__(self, updates: Sequence[Update], broadcast: Callable[[str], Tensor]) -> None:
        """`broadcast` gives a tensor of the state that all clients started from. Raises BadInput where the updates
        differ in wire, reference, names or shapes."""
        self.files = [Encoded(update.path) for update in updates]
        first = self.files[0]
        for file in self.files:
            if (file.wire, file.reference_sha256, file.shapes) != (first.wire, first.reference_sha256, first.shapes):
                raise BadInput("the updates of a round differ in wire, reference or shapes")
        self.wire = first.wire
        self.shapes = first.shapes
        self.examples = [update.examples for update in updates]
        self.broadcast = broadcast

    def __len__(self) -> int:
        return len(self.files)

    def tensors(self, name: str) -> list[Tensor]:
        """Each client's tensor of that name, whatever the wire."""
        base = None if self.wire == "fp32" else self.broadcast(name)
        return [file.absolute(name, base) for file in self.files]

    def mean(self, name: str) -> Tensor:
        """The mean of the clients' tensors of that name, weighted by their examples, summed in float64."""
        weighted = sum(
            examples * tensor.astype(np.float64)
            for examples, tensor in zip(self.examples, self.tensors(name), strict=True)
        )
        return np.asarray(weighted / sum(self.examples), np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """What a round made: the digest (hex) of the new state and, where the aggregator keeps one, of its server state."""

    state: str
    server_state: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregateFiles:
    """Where an aggregator writes: the new state, and its server state if it has one. `before` is the server state that
    the last round left: None in the first round, and for an aggregator that keeps none."""

    state: Path
    server_state: Path
    before: Path | None = None


class Aggregator:
    """Called once a round, off the event loop, on the coordinator.

    It must be a function of its arguments alone: after a kill the same round is aggregated again, and must give the
    same bytes. What it has to remember from round to round (a momentum) is its server state: tensors in a file of their
    own, which become durable in the same transaction as the round's state.
    """

    section: ClassVar[str | None] = None
    """The key of its section in the experiment; None where it has nothing to configure."""
    Config: ClassVar[type[Section]] = Section
    """What its section holds. Every field has a default."""

    config: Any
    """An instance of `Config`."""

    def __init__(self, config: Section) -> None:
        self.config = config

    def aggregate(self, updates: RoundUpdates, files: AggregateFiles) -> Aggregate:
        """Write the new state, with the updates' names and shapes, into `files.state` (federa.tensors.state.write_state
        does, and returns the digest), and the server state where there is one. Raises BadInput."""
        raise NotImplementedError
