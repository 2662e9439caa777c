"""An aggregator that remembers something from round to round: server momentum (FedAvgM, arXiv 1909.06335)."""

from __future__ import annotations

import numpy as np

from federa.aggregation.base import Aggregate, AggregateFiles, Aggregator, RoundUpdates
from federa.tensors.state import unpack, write_state

BETA = np.float32(0.5)


class Momentum(Aggregator):
    """v = beta v + (mean - broadcast); the new state is broadcast + v. v is its server state."""

    def aggregate(self, updates: RoundUpdates, files: AggregateFiles) -> Aggregate:
        before = unpack(files.before.read_bytes()) if files.before is not None else None

        def velocity(name: str) -> np.ndarray:
            step = updates.mean(name) - updates.broadcast(name)
            return step if before is None else BETA * before[name] + step

        server_state = write_state(files.server_state, updates.shapes, velocity)
        state = write_state(files.state, updates.shapes, lambda name: updates.broadcast(name) + velocity(name))
        return Aggregate(state=state, server_state=server_state)
