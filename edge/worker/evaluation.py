"""What this worker's clients hold out says of the states that it was asked to score."""

from __future__ import annotations

from collections.abc import Callable

from edge.training.runtime import ClientRuntime
from edge.worker.reports import Reports
from federa.tasks.metric import Counters
from federa.tensors.state import Tensors
from protos import federation_pb2 as pb

Slot = tuple[int, str, int]
"""Round, part and client."""


class LocalEvaluation:
    """Remembers a run's newest round's counters, for a coordinator that was restarted and asks again, and the state
    that was scored, which the next round's training begins with."""

    def __init__(self, runtime: ClientRuntime, reports: Reports) -> None:
        self._runtime = runtime
        self._reports = reports
        self._counted: dict[Slot, Counters] = {}
        self._kept: tuple[bytes, Tensors] | None = None

    def keep(self, sha256: bytes, state: Tensors) -> None:
        """Hold on to a state until it is taken, or until the next one is kept."""
        self._kept = sha256, state

    def take_kept(self, sha256: bytes) -> Tensors | None:
        """The state of that digest if it was kept. Whatever was is let go."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == sha256 else None

    def repeat(self, order: pb.Evaluate) -> list[int]:
        """Report again what is known; returns the clients that are still to be counted."""
        self._counted = {slot: counters for slot, counters in self._counted.items() if slot[0] == order.round}
        unknown = []
        for client in order.clients:
            if (order.round, order.part, client) in self._counted:
                self.report(order, client)
            else:
                unknown.append(client)
        return unknown

    def count(self, order: pb.Evaluate, client: int, state: Tensors, on_batch: Callable[[], None]) -> None:
        """Score a client's part, on the runtime's thread. Whatever `on_batch` raises ends it."""
        self._counted[order.round, order.part, client] = self._runtime.evaluate(client, order.part, state, on_batch)

    def report(self, order: pb.Evaluate, client: int) -> None:
        """Report what was counted."""
        self._reports.counters(order.round, order.part, client, self._counted[order.round, order.part, client])
